//! Speaks HTTP to the API: address, key, JSON, and problems turned into failures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

use super::{Failure, Global, problem::Problem};
use crate::config::Config;
use crate::roles::ADMIN_KEY_FILE;

/// Where the API is when nobody says.
const DEFAULT_URL: &str = "http://127.0.0.1:7420";

/// An answer that takes longer does not come any more.
const ANSWER: Duration = Duration::from_secs(60);

/// A client of one API.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Client {
    /// A client for the address and the key that the command line, the variables or the data folder name.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let base = global.url.clone().unwrap_or_else(|| DEFAULT_URL.to_owned());
        let key = match std::env::var("LEASEHOLD_KEY") {
            Ok(key) if !key.trim().is_empty() => Some(key.trim().to_owned()),
            _ => key_in(&data_folder(global)),
        };
        Self::at(&base, key)
    }

    /// A client for this address and key.
    pub(crate) fn at(base: &str, key: Option<String>) -> Result<Self, Failure> {
        let url = url::Url::parse(base).map_err(|error| Failure::Usage(format!("--url {base}: {error}")))?;
        let mut builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(5));
        if url.scheme() == "http" {
            // Without TLS no certificates are needed, and a machine without any must do.
            builder = builder.tls_certs_only([]);
        }
        let http =
            builder.build().map_err(|error| Failure::failed("client", format!("no HTTP client: {}", cause(&error))))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    /// The address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None, &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body), &[]).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, Some(body), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, None, &[]).await
    }

    /// Sends a request and reads the JSON of a good answer; `Null` when it has no body.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let request = self.request(method, path, headers).timeout(ANSWER);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let bytes = self.send(request).await?.bytes().await.map_err(|error| self.broken(&error))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(
                "not_json",
                format!("{}{path} did not answer with JSON ({error}); is it a Leasehold API?", self.base),
            )
        })
    }

    /// The ETag of what is at `path`.
    pub(crate) async fn etag(&self, path: &str) -> Result<String, Failure> {
        let response = self.send(self.request(Method::GET, path, &[])).await?;
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
        etag.ok_or_else(|| Failure::failed("no_etag", format!("{}{path} has no ETag", self.base)))
    }

    /// Opens an event stream; it has no end of its own.
    pub(crate) async fn events(&self, path: &str, after: Option<&str>) -> Result<Response, Failure> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(after.map(|id| ("last-event-id", id)));
        let opened = tokio::time::timeout(ANSWER, self.send(self.request(Method::GET, path, &headers))).await;
        opened.unwrap_or_else(|_| Err(self.broken_off("it does not answer")))
    }

    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let problem = Problem::of(status.as_u16(), &body);
        if problem.code() == "unauthorized" && self.key.is_none() {
            let text = "no API key: set LEASEHOLD_KEY, or --data to the folder with admin.key";
            return Err(Failure::failed("unauthorized", text));
        }
        Err(Failure::Problem(Box::new(problem)))
    }

    fn broken(&self, error: &reqwest::Error) -> Failure {
        match error.is_connect() {
            true => Failure::failed(
                "api_unreachable",
                format!(
                    "nothing answers at {} ({}); is `leasehold up` running? --url or LEASEHOLD_URL name another",
                    self.base,
                    cause(error)
                ),
            ),
            false => self.broken_off(&cause(error)),
        }
    }

    fn broken_off(&self, why: &str) -> Failure {
        Failure::failed("api_broken", format!("{} broke off: {why}", self.base))
    }
}

/// A path with its variable parts encoded: `path!("/v1/jobs/{}", id)` without a macro.
pub(crate) fn path(parts: &[&str]) -> String {
    let encode =
        |part: &&str| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20");
    parts.iter().map(encode).fold(String::new(), |path, part| format!("{path}/{part}"))
}

/// `?a=b&c=d` of the pairs that have a value.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            text.append_pair(name, &value);
        }
    }
    let text = text.finish();
    if text.is_empty() { text } else { format!("?{text}") }
}

/// The data folder, as a server with the same command line and variables would have it.
fn data_folder(global: &Global) -> PathBuf {
    let configured = || Config::load(global.config.as_deref()).ok().map(|config| config.store.data_dir);
    global.data_dir.clone().or_else(configured).unwrap_or_else(|| PathBuf::from("data"))
}

fn key_in(folder: &Path) -> Option<String> {
    let key = std::fs::read_to_string(folder.join(ADMIN_KEY_FILE)).ok()?;
    Some(key.trim().to_owned()).filter(|key| !key.is_empty())
}

/// The innermost cause of an error: the outer ones only repeat the address.
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_cannot_leave_it() {
        assert_eq!(path(&["v1", "tenants", "../keys?x y"]), "/v1/tenants/..%2Fkeys%3Fx%20y");
    }

    #[test]
    fn a_query_has_only_what_was_given() {
        assert_eq!(query([("a", Some("1&2".to_owned())), ("b", None)]), "?a=1%262");
        assert_eq!(query([("a", None)]), "");
    }
}
