//! The description of the API for machines and people, and the front page. Pages load nothing from elsewhere.

use std::sync::LazyLock;

use axum::{
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use leasehold_jobs::policy::ErrorCode;
use sha2::{Digest as _, Sha256};

use super::{openapi::document, problem::Problem, state::ApiState};

/// A page and the policy that lets a browser run its own script and style, and nothing else.
struct Page {
    html: &'static str,
    policy: String,
}

static DOCS: LazyLock<Page> = LazyLock::new(|| Page::of(include_str!("pages/docs.html")));
static FRONT: LazyLock<Page> = LazyLock::new(|| Page::of(include_str!("pages/front.html")));

impl Page {
    fn of(html: &'static str) -> Self {
        let hash = |tag: &str| {
            let inside =
                html.split(&format!("<{tag}>")).nth(1).and_then(|rest| rest.split(&format!("</{tag}>")).next());
            STANDARD.encode(Sha256::digest(inside.unwrap_or_default()))
        };
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash("script"),
            hash("style")
        );
        Self { html, policy }
    }

    fn response(&self) -> Response {
        let kind = "text/html; charset=utf-8";
        ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, &self.policy)], self.html).into_response()
    }
}

/// The OpenAPI document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, content_type = "application/json", body = Object)), security(()))]
pub(super) async fn openapi(State(state): State<ApiState>) -> Response {
    let text = document(&state.config().server).to_string();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The API for people to read.
#[utoipa::path(get, path = "/docs", tag = "operations", responses((status = 200, content_type = "text/html", body = String)), security(()))]
pub(super) async fn page() -> Response {
    DOCS.response()
}

/// The front page.
#[utoipa::path(get, path = "/", tag = "operations", responses((status = 200, content_type = "text/html", body = String)), security(()))]
pub(super) async fn front() -> Response {
    FRONT.response()
}

/// Any other path.
pub(super) async fn no_such_route(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    Problem::new(ErrorCode::NotFound, format!("there is no route `{path}`")).remedy("see /docs")
}
