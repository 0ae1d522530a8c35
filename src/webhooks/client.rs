//! Sends one signed delivery to one receiver, and trusts neither the URL, nor DNS, nor the receiver.
//!
//! Resolve, approve *all* addresses, dial only those: there is no second look-up, so a name that changes its mind
//! (DNS rebinding) has no window. Redirects are not followed, proxies of the environment are ignored, connections are
//! not kept. The whole exchange, answer included, is under one deadline, and at most 16 KiB of an answer is read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout_at};

use super::endpoint_url::{Destination, EndpointUrl, UrlRefused, UrlRules};
use super::redact;

/// The product name and version that receivers see.
pub const USER_AGENT: &str = concat!("leasehold/", env!("CARGO_PKG_VERSION"));

/// How long each part of an exchange may take, and how much of an answer is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The look-up of the name.
    pub dns: Duration,
    /// Connecting, TLS included.
    pub connect: Duration,
    /// From the connection's start to the answer's head.
    pub first_byte: Duration,
    /// Everything, from the look-up to the last byte read.
    pub total: Duration,
    /// The most that is read of an answer, in bytes.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dns: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(15),
            total: Duration::from_secs(20),
            answer_bytes: 16 * 1024,
        }
    }
}

/// Turns a name into addresses. A trait, so that tests can lie the way an attacker's DNS does.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a name.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A delivery, signed for this attempt.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// `webhook-id`, the same for each attempt.
    pub id: String,
    /// `webhook-timestamp`, seconds, of this attempt.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// The JSON, byte for byte as signed.
    pub body: Bytes,
}

/// How an exchange went.
#[derive(Debug)]
pub struct Exchange {
    /// The address that was dialled, or the first of those that would have been.
    pub ip: Option<IpAddr>,
    /// From the look-up to the end.
    pub took: Duration,
    /// What came back.
    pub result: Result<Reply, SendError>,
}

/// The receiver's answer, cut and redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// `Location` of a redirect that was not followed, without its query.
    pub location: Option<String>,
    /// The first 2 KiB of the body, redacted.
    pub head: String,
    /// The body was longer than we read, or not there before the deadline.
    pub cut: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL or an address of its name is not allowed.
    #[error(transparent)]
    Refused(#[from] UrlRefused),
    /// The name could not be resolved.
    #[error("the name could not be resolved")]
    Dns(#[source] io::Error),
    /// A part of the exchange, named here, was not done in time.
    #[error("{0} took too long")]
    TimedOut(&'static str),
    /// No connection.
    #[error("no connection")]
    Connect(#[source] reqwest::Error),
    /// The certificate or the handshake is bad.
    #[error("the TLS handshake failed")]
    Tls(#[source] reqwest::Error),
    /// The connection broke before the answer's head was there.
    #[error("the connection broke off")]
    Broken(#[source] reqwest::Error),
    /// The peer is not one of the addresses that were approved.
    #[error("the connected peer is not an approved address")]
    Peer,
    /// The parcel cannot be written as HTTP. Cannot happen with ids and signatures of ours.
    #[error("the delivery cannot be written as a request")]
    Unwritable,
}

impl SendError {
    /// The stable code for the delivery log and the metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::Dns(_) => "dns_failed",
            Self::TimedOut(_) => "timed_out",
            Self::Connect(_) => "connect_failed",
            Self::Tls(_) => "tls_failed",
            Self::Broken(_) => "connection_broken",
            Self::Peer => "peer_refused",
            Self::Unwritable => "unwritable",
        }
    }
}

/// Sends parcels under fixed rules and limits.
pub struct Sender {
    rules: UrlRules,
    limits: Limits,
    resolver: Arc<dyn Resolver>,
    tls: rustls::ClientConfig,
}

impl Sender {
    /// A sender that trusts the machine's certificate authorities and `extra_roots`.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults. A machine without any certificate authority is no error: plain
    /// http to listed networks still works there, and https fails attempt by attempt with `tls_failed`.
    pub fn new(
        rules: UrlRules,
        limits: Limits,
        resolver: Arc<dyn Resolver>,
        extra_roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let tls = match rustls_platform_verifier::Verifier::new_with_extra_roots(extra_roots, provider) {
            Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
            Err(error) => {
                tracing::warn!(%error, "no trusted certificates on this machine: https webhooks will fail");
                builder.with_root_certificates(rustls::RootCertStore::empty())
            }
        };
        Ok(Self { rules, limits, resolver, tls: tls.with_no_client_auth() })
    }

    /// The rules, for those who check a URL before it is stored.
    pub const fn rules(&self) -> &UrlRules {
        &self.rules
    }

    /// The longest that [`Sender::send`] takes.
    pub const fn deadline(&self) -> Duration {
        self.limits.total
    }

    /// Sends a parcel once. Never takes longer than the deadline.
    pub async fn send(&self, url: &str, parcel: Parcel) -> Exchange {
        let began = Instant::now();
        let deadline = began + self.limits.total;
        let mut ip = None;
        let result = match timeout_at(deadline, self.exchange(url, parcel, deadline, &mut ip)).await {
            Ok(result) => result,
            Err(_) => Err(SendError::TimedOut("the exchange")),
        };
        Exchange { ip, took: began.elapsed(), result }
    }

    async fn exchange(
        &self,
        url: &str,
        parcel: Parcel,
        deadline: Instant,
        ip: &mut Option<IpAddr>,
    ) -> Result<Reply, SendError> {
        let url = EndpointUrl::parse(url, &self.rules)?;
        let approved = self.resolve(&url).await?;
        *ip = approved.first().map(SocketAddr::ip);
        let request = self.client(&approved)?.post(url.as_url().clone()).headers(headers(&parcel)?).body(parcel.body);
        let response = match tokio::time::timeout(self.limits.first_byte, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(classify(error)),
            Err(_) => return Err(SendError::TimedOut("the answer")),
        };
        let peer = response.remote_addr().ok_or(SendError::Peer)?;
        *ip = Some(peer.ip());
        if !approved.contains(&peer) {
            return Err(SendError::Peer);
        }
        Ok(self.read(response, deadline).await)
    }

    /// The addresses that may be dialled: all of the name's, or none.
    async fn resolve(&self, url: &EndpointUrl) -> Result<Vec<SocketAddr>, SendError> {
        let addresses = match url.destination(&self.rules)? {
            Destination::Known(addresses) => addresses,
            Destination::Name(name) => match tokio::time::timeout(self.limits.dns, self.resolver.lookup(&name)).await {
                Ok(found) => found.map_err(SendError::Dns)?,
                Err(_) => return Err(SendError::TimedOut("the look-up of the name")),
            },
        };
        if addresses.is_empty() {
            return Err(SendError::Dns(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
        }
        Ok(url.approve(&addresses, &self.rules)?)
    }

    /// A client for one exchange. It has no resolver but the approved addresses, so it can dial nothing else.
    fn client(&self, approved: &[SocketAddr]) -> Result<reqwest::Client, SendError> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Pinned(approved.to_vec()))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(0)
            .http1_only()
            .connect_timeout(self.limits.connect)
            .user_agent(USER_AGENT)
            .build()
            .map_err(SendError::Connect)
    }

    /// Reads the start of the answer. The status has been given by then: a body that never ends changes nothing.
    async fn read(&self, mut response: reqwest::Response, deadline: Instant) -> Reply {
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let mut reply = Reply {
            status: response.status().as_u16(),
            retry_after: text(RETRY_AFTER).map(|value| value.chars().take(64).collect()),
            location: text(LOCATION).map(redact::location),
            head: String::new(),
            cut: false,
        };
        // Ends before the outer deadline, so that the status is not lost with the body.
        let deadline = deadline - (self.limits.total / 50).min(Duration::from_millis(100));
        let mut kept = Vec::new();
        let mut seen = 0;
        loop {
            match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    seen += chunk.len();
                    kept.extend(chunk.iter().take(redact::KEPT - kept.len()));
                }
                Ok(Ok(None)) => break,
                Ok(Err(_)) | Err(_) => reply.cut = true,
            }
            reply.cut |= seen > self.limits.answer_bytes;
            if reply.cut {
                break;
            }
        }
        reply.head = redact::answer(&kept);
        reply
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("rules", &self.rules).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Answers every look-up with the approved addresses. Given instead of `resolve_to_addrs`, which would fall back to
/// the system's resolver for a name that is spelt otherwise.
struct Pinned(Vec<SocketAddr>);

impl reqwest::dns::Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

fn headers(parcel: &Parcel) -> Result<HeaderMap, SendError> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| SendError::Unwritable);
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", value(&parcel.id)?);
    headers.insert("webhook-timestamp", value(&parcel.timestamp.to_string())?);
    headers.insert("webhook-signature", value(&parcel.signature)?);
    Ok(headers)
}

fn classify(error: reqwest::Error) -> SendError {
    // The URL may hold a token in its query, and errors are logged.
    let error = error.without_url();
    if error.is_timeout() {
        return SendError::TimedOut("connecting");
    }
    if has_tls_cause(&error) {
        return SendError::Tls(error);
    }
    match error.is_connect() {
        true => SendError::Connect(error),
        false => SendError::Broken(error),
    }
}

/// rustls hides its error inside `io::Error`s, which do not give away what they hold as their source.
fn has_tls_cause(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<rustls::Error>() {
            return true;
        }
        cause = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => inner.source(),
        };
    }
    false
}
