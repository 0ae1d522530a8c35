//! The upstream system: it asks over HTTP, like any caller.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A caller with a key.
#[derive(Clone)]
pub struct Portal {
    pub url: String,
    pub key: String,
    client: reqwest::Client,
}

impl Portal {
    pub fn new(url: &str, key: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build().unwrap();
        Self { url: url.to_owned(), key: key.to_owned(), client }
    }

    /// One request; an error when no whole answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None, &[]).await.unwrap();
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    pub async fn put(&self, path: &str, body: &Value) -> Value {
        let (status, body) = self.send(Method::PUT, path, Some(body), &[]).await.unwrap();
        assert!(status.is_success(), "PUT {path}: {status} {body}");
        body
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, Some(body), &[]).await.unwrap()
    }

    /// Asks for a job, which must be accepted; its id.
    pub async fn ask(&self, body: &Value) -> String {
        let (status, answer) = self.post("/v1/jobs", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Asks for something that must be refused; status, code and the whole answer.
    pub async fn refused(&self, body: &Value) -> (u16, String, Value) {
        let (status, answer) = self.post("/v1/jobs", body).await;
        assert!(!status.is_success(), "it was accepted: {answer}");
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned(), answer)
    }
}

/// An SQL update as a portal asks for it.
pub fn sql_update(tenant: &str, center: &str, script: &str) -> Value {
    json!({
        "kind": "sql_update", "tenant": tenant, "confirmed": true,
        "actor": {"user_id": "u1", "roles": ["it_ops", "data_ops_specialist"]},
        "args": {"data_center": center, "script": script, "backup": true},
    })
}
