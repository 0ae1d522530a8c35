//! A stand: an API over a store of its own, whose clock stands at noon in Shanghai, with an admin key and two tenants.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use futures::StreamExt;
use leasehold::{
    api::{keys::create_key, routes::router, state::ApiState},
    config::Config,
    meters::Meters,
    webhooks::{address::AddressPolicy, endpoint_url::UrlRules},
};
use leasehold_engine::{
    JobId, JobView, NewJob, Store, StoreOptions,
    testing::{NOON, RedisServer},
};
use leasehold_jobs::{Catalogue, Limits, Services, ServicesOptions, policy::KeyRole};
use leasehold_targets::Secrets;
use serde_json::{Value, json};
use tower::Service;

pub(crate) const MINUTE: i64 = 60_000;

pub(crate) struct Stand {
    pub(crate) store: Store,
    pub(crate) redis: RedisServer,
    pub(crate) state: ApiState,
    pub(crate) router: Router,
    /// For all tenants, may everything.
    pub(crate) admin: String,
    pub(crate) _folder: tempfile::TempDir,
}

/// What came back. Whatever was not 2xx has been checked to be a whole problem.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or("")
    }

    /// The id of the job that the answer shows.
    pub(crate) fn id(&self) -> &str {
        self.json["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
        self
    }
}

/// A request to be sent.
pub(crate) struct Ask<'a> {
    stand: &'a Stand,
    request: axum::http::request::Builder,
    body: Body,
}

impl Ask<'_> {
    pub(crate) fn key(mut self, key: &str) -> Self {
        self.request = self.request.header("authorization", format!("Bearer {key}"));
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        self.raw("application/json", value.to_string())
    }

    pub(crate) fn raw(mut self, content_type: &str, body: impl Into<Body>) -> Self {
        self.request = self.request.header("content-type", content_type);
        self.body = body.into();
        self
    }

    pub(crate) async fn response(self) -> axum::response::Response {
        let request: Request<Body> = self.request.body(self.body).unwrap();
        self.stand.router.clone().call(request).await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.response().await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, text, json };
        check(&answer);
        answer
    }
}

/// Every answer has a request id; every no is a whole problem.
fn check(answer: &Answer) {
    assert!(!answer.header("x-request-id").is_empty());
    if (200..300).contains(&answer.status) {
        return;
    }
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    assert_eq!(answer.json["status"], answer.status);
    assert_eq!(answer.json["instance"], answer.header("x-request-id"));
    assert_eq!(answer.json["type"], format!("/docs#{}", answer.code()));
    for field in ["code", "title", "detail"] {
        assert!(!answer.json[field].as_str().unwrap().is_empty(), "{field} of {answer:?}");
    }
    let must_wait = matches!(answer.status, 429 | 503);
    assert_eq!(must_wait, !answer.header("retry-after").is_empty(), "{answer:?}");
    assert_eq!(answer.status == 401, answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
}

impl Stand {
    /// Where the upstream vouches for the user, so that no code is needed.
    pub(crate) async fn new() -> Self {
        Self::with(&[("LEASEHOLD__VERIFY__MODE", "caller")]).await
    }

    pub(crate) async fn with(variables: &[(&str, &str)]) -> Self {
        Self::on(RedisServer::start(), variables).await
    }

    pub(crate) async fn on(redis: RedisServer, variables: &[(&str, &str)]) -> Self {
        let mut options = StoreOptions::new(redis.url());
        options.resends = 1;
        let store = Store::open(options).await.unwrap();
        store.set_time(NOON);
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::from_sources(None, variables).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let services = ServicesOptions {
            backups: format!("file:{}", at("backups").display()),
            notices: format!("file:{}", at("mailbox").display()),
            secrets: Secrets::new([]),
            scratch: at("scratch"),
            max_live: config.limits.max_waiting_jobs,
        };
        let services = Services::open(store.clone(), Arc::new(config.rules.clone()), services).unwrap();
        let catalogue = Catalogue::new(Arc::new(services), Limits::default());
        let networks: Vec<_> = config.webhooks.allow.iter().map(|text| text.parse().unwrap()).collect();
        let url_rules = UrlRules {
            has_listed_networks: !networks.is_empty(),
            addresses: AddressPolicy::new(&networks),
            ..UrlRules::default()
        };
        let meters = Arc::new(Meters::default());
        let state = ApiState::new(store.clone(), Arc::new(catalogue), Arc::new(config), meters, url_rules);
        let router = router(state.clone());
        let admin = create_key(&store, "admin", vec![KeyRole::Admin], None).await.unwrap().token;
        let stand = Self { store, redis, state, router, admin, _folder: folder };
        for tenant in ["t-001", "t-002"] {
            stand.put(&format!("/v1/tenants/{tenant}"), &tenant_document(tenant)).await.expect(201);
        }
        stand
    }

    /// A key with this role, for one tenant or all.
    pub(crate) async fn key(&self, role: KeyRole, tenant: Option<&str>) -> String {
        create_key(&self.store, "k", vec![role], tenant.map(str::to_owned)).await.unwrap().token
    }

    /// Moves the standing clock.
    pub(crate) fn at(&self, ms_after_noon: i64) {
        self.store.set_time(NOON + ms_after_noon);
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        Ask { stand: self, request: Request::builder().method(method).uri(path), body: Body::empty() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).key(&self.admin).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path).key(&self.admin).json(body).send().await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", path).key(&self.admin).json(body).send().await
    }

    /// Takes a job in behind the API's back.
    pub(crate) async fn held(&self, job: NewJob) -> JobId {
        let id = job.id.clone();
        self.store.enqueue(&[job], 1 << 40).await.unwrap();
        id
    }

    /// A plain job of a kind that nobody runs.
    pub(crate) fn plain(&self, tenant: &str) -> NewJob {
        NewJob::new(self.store.new_id(tenant), "puppet", tenant, &b"{}"[..])
    }

    pub(crate) async fn job(&self, id: &str) -> JobView {
        self.store.job(&id.parse().unwrap()).await.unwrap().unwrap()
    }

    /// What Redis is asked for beside the store.
    pub(crate) fn redis_cli(&self, words: &[&str]) -> String {
        let output =
            std::process::Command::new("redis-cli").arg("-s").arg(self.redis.socket()).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

pub(crate) fn tenant_document(id: &str) -> Value {
    json!({
        "name": format!("Company {id}"), "formal": true, "lease_end": "2027-12-31",
        "environments": [{ "id": "prod", "kind": "production",
            "data_centers": [{ "id": "dc-1", "name": "Main", "database": format!("sqlite:/tmp/none/{id}.db") }] }]
    })
}

pub(crate) fn actor() -> Value {
    json!({ "user_id": "u1", "roles": ["it_ops", "data_ops_specialist"] })
}

/// An SQL update of a tenant, planned in so many minutes.
pub(crate) fn sql(tenant: &str, minutes: i64) -> Value {
    let at = chrono::DateTime::from_timestamp_millis(NOON + minutes * MINUTE).unwrap().to_rfc3339();
    json!({ "kind": "sql_update", "tenant": tenant, "actor": actor(), "confirmed": true, "run_at": at,
        "args": { "data_center": "dc-1", "script": "UPDATE t SET a = 1" } })
}

/// A backup of a tenant, at once.
pub(crate) fn backup(tenant: &str) -> Value {
    json!({ "kind": "data_center_backup", "tenant": tenant, "actor": actor(), "args": { "data_center": "dc-1", "name": "before" } })
}

/// The next events of a stream, as (event, id, data).
pub(crate) struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    pub(crate) fn of(response: axum::response::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event that is not a comment; `None` at the end. Bounded by twenty seconds.
    pub(crate) async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n").map(|(b, r)| (b.to_owned(), r.to_owned())) {
                self.text = rest;
                let field = |name: &str| {
                    let line = block.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
                    line.unwrap_or_default().to_owned()
                };
                if !field("event:").is_empty() {
                    return Some((field("event:"), field("id:"), serde_json::from_str(&field("data:")).unwrap()));
                }
            }
            let bound = std::time::Duration::from_secs(20);
            let chunk = tokio::time::timeout(bound, self.body.next()).await.expect("an event in time");
            self.text.push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
    }
}
