//! Reads requests: bodies, queries. Guards that a bad request is told its place (line and column, path, nearest field)
//! and that no body takes more memory than the limit or holds a connection for long.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{header, request::Parts},
};
use bytes::BytesMut;
use futures::StreamExt;
use leasehold_jobs::policy::{ErrorCode, json};
use serde::de::DeserializeOwned;

use super::{edge::Awaited, problem::Problem, state::ApiState};

/// What is read and thrown away of a body that is too large, so that a caller who is still sending hears the answer.
const DISCARD_BYTES: usize = 256 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// A JSON body.
pub(super) struct Document<T>(pub T);

/// A JSON body that may be left out.
pub(super) struct MaybeDocument<T>(pub T);

/// A body as bytes that are said to be JSON.
pub(super) struct RawDocument(pub Bytes);

/// A query string; unknown names are refused.
pub(super) struct Query<T>(pub T);

impl FromRequest<ApiState> for RawDocument {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        check_content_type(&request)?;
        Ok(Self(read(request, state.config().server.body_limit_bytes).await?))
    }
}

impl<T: DeserializeOwned> FromRequest<ApiState> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let RawDocument(bytes) = RawDocument::from_request(request, state).await?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for MaybeDocument<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        let content = check_content_type(&request);
        let bytes = read(request, state.config().server.body_limit_bytes).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if typed {
            content?
        } else {
            content.map_err(|p| p.remedy("send `content-type: application/json`"))?
        }
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequestParts<ApiState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text =
                    std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
                let (path, text) = text.split_once(": ").filter(|(p, _)| !p.contains(' ')).unwrap_or(("", &text));
                Err(misfit(path, text))
            }
        }
    }
}

fn check_content_type(request: &Request) -> Result<(), Problem> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(essence.as_str(), "application/json" | "application/merge-patch+json") {
        return Ok(());
    }
    let shown: String = given.chars().take(60).collect();
    Err(Problem::new(ErrorCode::UnsupportedMediaType, format!("the content type is `{shown}`"))
        .limit("application/json")
        .remedy("send `content-type: application/json`"))
}

/// Nothing is unpacked here: a small body could become one that is far larger than the limit.
fn check_encoding(request: &Request) -> Result<(), Problem> {
    let given = request.headers().get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?").trim());
    match given {
        None => Ok(()),
        Some(plain) if plain.is_empty() || plain.eq_ignore_ascii_case("identity") => Ok(()),
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            Err(Problem::new(ErrorCode::UnsupportedMediaType, format!("the content encoding is `{shown}`"))
                .field("content-encoding")
                .limit("identity")
                .remedy("send the JSON as it is, without a content-encoding")
                .accepts_encoding("identity"))
        }
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Problem> {
    check_encoding(&request)?;
    let awaited = request.extensions().get::<Awaited>().cloned().unwrap_or_default();
    awaited.set(true);
    let bytes = receive(request, limit).await;
    awaited.set(false);
    bytes
}

async fn receive(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let too_large = || {
        Problem::new(ErrorCode::PayloadTooLarge, format!("the body is larger than {limit} bytes"))
            .limit(format!("{limit} bytes"))
    };
    let announced: usize =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0);
    let mut chunks = body.into_data_stream();
    if announced > limit {
        // One that asks first (Expect: 100-continue) has sent nothing yet and never will.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(chunks).await;
        }
        return Err(too_large());
    }
    let mut kept = BytesMut::with_capacity(announced);
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|_| Problem::new(ErrorCode::MalformedJson, "the body ended before its announced end"))?;
        if kept.len() + chunk.len() > limit {
            drop(kept);
            discard(chunks).await;
            return Err(too_large());
        }
        kept.extend_from_slice(&chunk);
    }
    Ok(kept.freeze())
}

async fn discard(mut chunks: axum::body::BodyDataStream) {
    let all = async {
        let mut seen = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            seen += chunk.len();
            if seen > DISCARD_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME, all).await;
}

/// Reads JSON bytes into a `T`; the problem says where it does not fit.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    json::read(bytes).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                // Nobody counts columns of a body that a program wrote: the field is named beside it.
                let (told, place) = (inner.to_string(), format!(" at line {} column {}", inner.line(), inner.column()));
                misfit(if path == "." { "" } else { &path }, told.strip_suffix(&place).unwrap_or(&told))
            }
            _ => malformed(&inner),
        }
    })
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(ErrorCode::MalformedJson, error.to_string()).limit(format!(
        "line {}, column {}",
        error.line(),
        error.column()
    ))
}

/// A value that is JSON but not what is expected there.
fn misfit(path: &str, text: &str) -> Problem {
    let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let inside = |name: &str| match path {
        "" => name.to_owned(),
        p if p == name || p.ends_with(&format!(".{name}")) => p.to_owned(),
        p => format!("{p}.{name}"),
    };
    match quoted.split_first() {
        Some((name, known)) if text.starts_with("unknown field") => {
            let problem = Problem::new(ErrorCode::UnknownField, text).field(inside(name));
            match nearest(name, known.iter().copied()) {
                Some(near) => problem.remedy(format!("did you mean `{near}`?")),
                None => problem,
            }
        }
        Some((name, _)) if text.starts_with("duplicate field") => {
            Problem::invalid(inside(name), "it comes twice").remedy("write it once")
        }
        Some((name, _)) if text.starts_with("missing field") => Problem::invalid(inside(name), text),
        _ if path.is_empty() => Problem::new(ErrorCode::InvalidArgument, text),
        _ => Problem::invalid(path, text),
    }
}

/// The known word that looks most like `word`, if one does.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|k| (strsim::jaro_winkler(word, k), k));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Outer {
        tenant: String,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Inner {
        roles: Vec<String>,
    }

    fn complaint(text: &str) -> (String, Option<String>, Option<String>) {
        let problem = parse::<Outer>(text.as_bytes()).unwrap_err();
        let json: serde_json::Value = serde_json::to_value(&*problem.0).unwrap();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        (text("code").unwrap(), text("field"), text("remedy").or_else(|| text("limit")))
    }

    #[test]
    fn a_misfit_names_its_path() {
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(
            complaint(r#"{"tennant":"x"}"#),
            ("unknown_field".into(), some("tennant"), some("did you mean `tenant`?"))
        );
        assert_eq!(complaint(r#"{"tenant":5}"#).1, some("tenant"));
        assert_eq!(complaint(r#"{"tenant":"t","inner":{"roles":[1]}}"#).1, some("inner.roles[0]"));
        assert_eq!(complaint(r#"{"tenant":"t","inner":{"rolls":[]}}"#).1, some("inner.rolls"));
        assert_eq!(complaint(r#"{"tenant":"t","inner":{}}"#).1, some("inner.roles"));
        assert_eq!(complaint("{}").1, some("tenant"));
    }

    #[test]
    fn a_misfit_has_no_columns() {
        let detail = |text: &str| parse::<Outer>(text.as_bytes()).unwrap_err().0.detail.clone();
        assert_eq!(detail("{}"), "missing field `tenant`");
        assert_eq!(detail(r#"{"tenant":5}"#), "invalid type: integer `5`, expected a string");
    }

    #[test]
    fn malformed_json_is_told_by_line_and_column() {
        assert_eq!(complaint("{\n  \"tenant\": x}"), ("malformed_json".into(), None, Some("line 2, column 13".into())));
        for text in ["", "{", "{}}", "\u{0}", &"[".repeat(500)] {
            assert_eq!(complaint(text).0, "malformed_json", "{text}");
        }
    }
}
