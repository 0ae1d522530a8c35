//! Says which network addresses a webhook may be sent to.
//!
//! A receiver's URL comes from a caller, so without this file a caller could make us speak to our own Redis, to a
//! neighbour's host or to the cloud's metadata service. Everything that is not plainly the public internet is denied;
//! the operator's allow list (`webhooks.allow`) opens networks by name, and nothing opens our own listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 networks that are not the public internet.
const DENIED_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(168, 63, 129, 16, 32), "cloud metadata"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 31, 196, 0, 24), "AS112"),
    (v4(192, 52, 193, 0, 24), "AMT"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(192, 175, 48, 0, 24), "AS112"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// IPv6 networks that are denied although they lie in 2000::/3. Outside of it everything is denied anyway: only that
/// block is global unicast, so `::/96`, NAT64, `fc00::/7`, `fe80::/10`, `fec0::/10` and multicast need no line of
/// their own; they have one for the sake of the reason that is shown.
const DENIED_V6: &[(Ipv6Net, &str)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "NAT64"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard only"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "Teredo"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "AS112"),
    (v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16), "6bone"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix)
}

/// What may be done with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The public internet: https, on the usual ports.
    Public,
    /// The operator listed its network: http and any port, too.
    Listed,
    /// Never; the word says why.
    Denied(&'static str),
}

/// A network that the operator opens, such as `10.1.0.0/16`; a lone address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address and not `address/prefix`.
    #[error("`{0}` is not a network such as 10.1.0.0/16")]
    Unreadable(String),
    /// `10.1.2.3/8`: a slip that would open more than was meant.
    #[error("`{given}` has bits after the prefix; did you mean {meant}?")]
    HostBits {
        /// The text as given.
        given: String,
        /// The network around it.
        meant: String,
    },
}

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let text = text.trim();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let net: IpNet = text.parse().map_err(|_| NetworkError::Unreadable(text.to_owned()))?;
        match net.trunc() == net {
            true => Ok(Self(net)),
            false => Err(NetworkError::HostBits { given: text.to_owned(), meant: net.trunc().to_string() }),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The deny list, the operator's allow list, and what is ours.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    allow: Vec<IpNet>,
    own_addresses: Vec<IpAddr>,
    own_listeners: Vec<SocketAddr>,
}

impl AddressPolicy {
    /// Denies everything but the public internet and `allow`.
    pub fn new(allow: &[Network]) -> Self {
        Self { allow: allow.iter().map(|network| network.0).collect(), ..Self::default() }
    }

    /// Denies this machine's own addresses as well, public ones included, unless they are allowed by name.
    #[must_use]
    pub fn with_own_addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.own_addresses.extend(addresses.into_iter().map(|address| address.to_canonical()));
        self
    }

    /// Denies our own sockets (the API, Redis), even where the allow list covers their network.
    #[must_use]
    pub fn with_own_listeners(mut self, listeners: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.own_listeners.extend(listeners);
        self
    }

    /// What may be done with this socket address.
    pub fn standing(&self, address: IpAddr, port: u16) -> Standing {
        let address = address.to_canonical();
        if self.is_own_listener(address, port) {
            return Standing::Denied("our own listener");
        }
        if self.allow.iter().any(|network| network.contains(&address)) {
            return Standing::Listed;
        }
        if let Some(reason) = denied(address) {
            return Standing::Denied(reason);
        }
        match self.own_addresses.contains(&address) {
            true => Standing::Denied("our own address"),
            false => Standing::Public,
        }
    }

    /// A listener on the unspecified address is reached by loopback and by each of our own addresses.
    fn is_own_listener(&self, address: IpAddr, port: u16) -> bool {
        self.own_listeners.iter().filter(|own| own.port() == port).any(|own| {
            let ip = own.ip().to_canonical();
            ip == address
                || address.is_unspecified()
                || (ip.is_unspecified() && (address.is_loopback() || self.own_addresses.contains(&address)))
        })
    }
}

/// Why the address is not the public internet, if it is not.
fn denied(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => DENIED_V4.iter().find(|(network, _)| network.contains(&v4)).map(|(_, reason)| *reason),
        IpAddr::V6(v6) => match DENIED_V6.iter().find(|(network, _)| network.contains(&v6)) {
            Some((_, reason)) => Some(reason),
            None if !GLOBAL_UNICAST.contains(&v6) => Some("not global unicast"),
            None => None,
        },
    }
}

/// The addresses of this machine's network interfaces.
pub fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
