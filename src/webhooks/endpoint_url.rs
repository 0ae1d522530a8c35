//! Checks the URL that a caller wants webhooks sent to.
//!
//! A URL is only ever used in the canonical form of the WHATWG parser (`0x7f.1`, `2130706433` and `127。0。0。1` are
//! all `127.0.0.1` there), so what was checked is what is dialled. The check is done when the URL is registered and
//! again, with the resolved addresses, before each attempt.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

use super::address::{AddressPolicy, Standing};

const MAX_URL: usize = 2048;
const MAX_HOST: usize = 253;
const HTTPS_PORTS: [u16; 2] = [443, 8443];

/// What the operator allows.
#[derive(Debug, Clone, Default)]
pub struct UrlRules {
    /// `http` to the public internet. Off by default; networks of the allow list may always use it.
    pub allow_http: bool,
    /// Ports beside 443 and 8443 (and 80 with `allow_http`). Networks of the allow list may use any.
    pub ports: Vec<u16>,
    /// Which addresses may be dialled.
    pub addresses: AddressPolicy,
    /// The allow list is not empty, so that a name may turn out to be a listed address.
    pub has_listed_networks: bool,
}

/// Why a URL, or what its name resolves to, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// Not a URL, or with spaces or control characters in it.
    #[error("not a URL")]
    Unreadable,
    /// Longer than 2048 characters, or its host than 253.
    #[error("the URL or its host is too long")]
    TooLong,
    /// Neither https nor an allowed http.
    #[error("only https is allowed; http needs webhooks.http or an address that webhooks.allow lists")]
    Scheme,
    /// `user:password@`: would end in logs.
    #[error("a user name or password in the URL is not allowed")]
    UserInfo,
    /// `#…` never reaches a server.
    #[error("a fragment is not allowed")]
    Fragment,
    /// A port that no rule allows.
    #[error("port {0} is not allowed; 443 and 8443 are, more by webhooks.ports or webhooks.allow")]
    Port(u16),
    /// An address that must not be dialled.
    #[error("address {address} is not allowed: {reason}")]
    Address {
        /// The address.
        address: IpAddr,
        /// What it is.
        reason: &'static str,
    },
}

impl UrlRefused {
    /// The stable code for logs, metrics and problem documents.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address_refused",
            _ => "url_refused",
        }
    }
}

/// A URL that has passed every check that needs no look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

/// Where a URL points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Addresses that are known without DNS: a literal, or `localhost` (RFC 6761: never asked of DNS).
    Known(Vec<IpAddr>),
    /// A name to resolve.
    Name(String),
}

impl EndpointUrl {
    /// Checks everything that can be checked without a look-up.
    pub fn parse(text: &str, rules: &UrlRules) -> Result<Self, UrlRefused> {
        if text.len() > MAX_URL {
            return Err(UrlRefused::TooLong);
        }
        // The WHATWG parser silently drops tabs and line ends; a URL with such bytes is an attack, not a slip.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlRefused::Unreadable);
        }
        let url = Self(Url::parse(text).map_err(|_| UrlRefused::Unreadable)?);
        url.check_form()?;
        match url.destination(rules)? {
            Destination::Known(addresses) => url.approve(&addresses, rules).map(|_| ())?,
            Destination::Name(_) if rules.has_listed_networks => {}
            Destination::Name(_) => url.check_public(rules)?,
        }
        Ok(url)
    }

    /// Approves every address of a look-up, or refuses the whole name: a mixed answer is the mark of an attack.
    pub fn approve(&self, addresses: &[IpAddr], rules: &UrlRules) -> Result<Vec<SocketAddr>, UrlRefused> {
        let port = self.port();
        for address in addresses {
            match rules.addresses.standing(*address, port) {
                Standing::Listed => {}
                Standing::Public => self.check_public(rules)?,
                Standing::Denied(reason) => return Err(UrlRefused::Address { address: *address, reason }),
            }
        }
        Ok(addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }

    /// Where to, before any look-up. Of `localhost`'s two addresses those that the operator listed are kept.
    pub fn destination(&self, rules: &UrlRules) -> Result<Destination, UrlRefused> {
        let name = match self.0.host() {
            Some(Host::Ipv4(address)) => return Ok(Destination::Known(vec![address.into()])),
            Some(Host::Ipv6(address)) => return Ok(Destination::Known(vec![address.into()])),
            Some(Host::Domain(name)) => name,
            None => return Err(UrlRefused::Unreadable),
        };
        if !is_localhost(name) {
            return Ok(Destination::Name(name.to_owned()));
        }
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let listed = both.iter().filter(|a| rules.addresses.standing(**a, self.port()) == Standing::Listed);
        let listed: Vec<IpAddr> = listed.copied().collect();
        match listed.is_empty() {
            true => Err(UrlRefused::Address { address: both[0], reason: "loopback" }),
            false => Ok(Destination::Known(listed)),
        }
    }

    /// The canonical URL.
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// The port, given or of the scheme.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(0)
    }

    fn check_form(&self) -> Result<(), UrlRefused> {
        let url = &self.0;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(UrlRefused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefused::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlRefused::Fragment);
        }
        match url.host_str() {
            None | Some("") => Err(UrlRefused::Unreadable),
            Some(host) if host.len() > MAX_HOST => Err(UrlRefused::TooLong),
            Some(_) => Ok(()),
        }
    }

    /// The rules for what lies in the public internet.
    fn check_public(&self, rules: &UrlRules) -> Result<(), UrlRefused> {
        let http = self.0.scheme() == "http";
        if http && !rules.allow_http {
            return Err(UrlRefused::Scheme);
        }
        let port = self.port();
        match HTTPS_PORTS.contains(&port) || rules.ports.contains(&port) || (http && port == 80) {
            true => Ok(()),
            false => Err(UrlRefused::Port(port)),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
#[path = "endpoint_url_tests.rs"]
mod tests;
