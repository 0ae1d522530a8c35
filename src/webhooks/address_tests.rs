//! The edges of every denied network, every disguise of an IPv4 address, and the operator's allow list.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

fn standing(address: &str) -> Standing {
    AddressPolicy::default().standing(address.parse().unwrap(), 443)
}

fn with_allow(networks: &[&str]) -> AddressPolicy {
    let networks: Vec<Network> = networks.iter().map(|text| text.parse().unwrap()).collect();
    AddressPolicy::new(&networks)
}

#[test]
fn the_first_and_the_last_address_of_every_denied_network_are_denied() {
    let policy = AddressPolicy::default();
    for (network, reason) in DENIED_V4 {
        for address in [network.network(), network.broadcast()] {
            assert!(matches!(policy.standing(address.into(), 443), Standing::Denied(_)), "{address} is {reason}");
            let mapped = address.to_ipv6_mapped();
            assert!(matches!(policy.standing(mapped.into(), 443), Standing::Denied(_)), "{mapped} is {reason}");
        }
    }
    for (network, reason) in DENIED_V6 {
        for address in [network.network(), network.broadcast()] {
            assert!(matches!(policy.standing(address.into(), 443), Standing::Denied(_)), "{address} is {reason}");
        }
    }
}

#[test]
fn the_neighbours_of_the_denied_networks_are_public() {
    for address in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "93.184.216.34",
        "8.8.8.8",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450:4001::1",
        "2001:200::1",
        "2003::1",
        "::ffff:8.8.8.8",
    ] {
        assert_eq!(standing(address), Standing::Public, "{address}");
    }
}

#[test]
fn every_well_known_trap_is_denied() {
    for address in [
        // loopback, private, link-local, this network
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.1.1",
        // metadata services: AWS, GCP, Azure; Alibaba; Azure WireServer; AWS over IPv6
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        // multicast, broadcast, reserved
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "240.0.0.1",
        // IPv6
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "5f00::1",
        "2001:db8::1",
        "3fff::1",
        "3fff:fff::1",
        "3ffe::1",
        "4000::1",
        "8000::1",
        "e000::1",
        // IPv4 inside IPv6: mapped, compatible, NAT64, 6to4, Teredo, ISATAP on a link-local net
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "::10.0.0.1",
        "::8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:53aa:64c:0:fff:f5ff:fffe",
        "fe80::5efe:a00:1",
    ] {
        assert!(matches!(standing(address), Standing::Denied(_)), "{address}");
    }
}

#[test]
fn a_listed_network_is_open_and_its_neighbour_is_not() {
    let policy = with_allow(&["127.0.0.0/8", "10.1.0.0/16", "10.9.9.9", "fd00:1::/32"]);
    for listed in ["127.0.0.1", "127.9.9.9", "10.1.255.255", "10.9.9.9", "fd00:1::5", "::ffff:10.1.0.1"] {
        assert_eq!(policy.standing(listed.parse().unwrap(), 7777), Standing::Listed, "{listed}");
    }
    for denied in ["10.2.0.0", "10.0.255.255", "10.9.9.10", "fd00:2::5", "::1", "64:ff9b::a01:1", "::10.1.0.1"] {
        assert!(matches!(policy.standing(denied.parse().unwrap(), 443), Standing::Denied(_)), "{denied}");
    }
    assert_eq!(policy.standing("8.8.8.8".parse().unwrap(), 443), Standing::Public);
}

#[test]
fn our_own_listener_is_denied_even_inside_a_listed_network() {
    let policy = with_allow(&["127.0.0.0/8", "10.0.0.0/8"])
        .with_own_addresses(["10.3.3.3".parse().unwrap()])
        .with_own_listeners(["127.0.0.1:7420".parse().unwrap(), "0.0.0.0:6379".parse().unwrap()]);
    let at = |address: &str, port| policy.standing(address.parse().unwrap(), port);
    assert_eq!(at("127.0.0.1", 7420), Standing::Denied("our own listener"));
    assert_eq!(at("::ffff:127.0.0.1", 7420), Standing::Denied("our own listener"));
    assert_eq!(at("127.0.0.1", 7421), Standing::Listed);
    assert_eq!(at("127.0.0.2", 7420), Standing::Listed);
    assert_eq!(at("127.0.0.1", 6379), Standing::Denied("our own listener"));
    assert_eq!(at("127.5.5.5", 6379), Standing::Denied("our own listener"));
    assert_eq!(at("10.3.3.3", 6379), Standing::Denied("our own listener"));
    assert_eq!(at("10.3.3.4", 6379), Standing::Listed);
}

#[test]
fn a_public_address_of_this_machine_is_denied_unless_it_is_listed() {
    let own: IpAddr = "93.184.216.34".parse().unwrap();
    let strict = AddressPolicy::default().with_own_addresses([own]);
    assert_eq!(strict.standing(own, 443), Standing::Denied("our own address"));
    let listed = with_allow(&["93.184.216.34"]).with_own_addresses([own]);
    assert_eq!(listed.standing(own, 443), Standing::Listed);
}

#[test]
fn the_loopback_is_among_our_own_addresses() {
    assert!(own_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
}

#[test]
fn a_network_with_bits_after_its_prefix_is_refused_with_what_was_meant() {
    let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
    assert_eq!(error.to_string(), "`10.1.2.3/8` has bits after the prefix; did you mean 10.0.0.0/8?");
    for nonsense in ["", "10.0.0.0/33", "10.0.0/8", "localhost", "::/129", "10.0.0.0/-1", "10.0.0.0/ 8"] {
        assert!(matches!(nonsense.parse::<Network>(), Err(NetworkError::Unreadable(_))), "{nonsense}");
    }
    assert_eq!(serde_json::from_str::<Network>("\" ::1 \"").unwrap(), "::1/128".parse().unwrap());
}

proptest! {
    /// An IPv4 address never gains anything by being written as IPv6.
    #[test]
    fn a_mapped_address_stands_as_its_ipv4_self(bits: u32) {
        let plain = Ipv4Addr::from(bits);
        let policy = AddressPolicy::default();
        prop_assert_eq!(policy.standing(plain.into(), 443), policy.standing(plain.to_ipv6_mapped().into(), 443));
    }

    /// The standard library's own idea of a special address is never public here.
    #[test]
    fn what_the_standard_library_calls_special_is_denied(bits: u32, six: u128) {
        let four = Ipv4Addr::from(bits);
        if four.is_private() || four.is_loopback() || four.is_link_local() || four.is_multicast()
            || four.is_broadcast() || four.is_documentation() || four.is_unspecified() {
            prop_assert!(denied(four.into()).is_some(), "{}", four);
        }
        let six = Ipv6Addr::from(six);
        if six.is_loopback() || six.is_multicast() || six.is_unspecified() || six.is_unique_local()
            || six.is_unicast_link_local() {
            prop_assert!(denied(six.into()).is_some(), "{}", six);
        }
    }

    /// No embedding of any IPv4 address is public: what lies behind the translator cannot be judged from here.
    #[test]
    fn no_ipv6_disguise_of_an_ipv4_address_is_public(bits: u32) {
        let [a, b, c, d] = bits.to_be_bytes();
        let high = u16::from_be_bytes([a, b]);
        let low = u16::from_be_bytes([c, d]);
        for disguise in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
        ] {
            prop_assert!(denied(disguise.into()).is_some(), "{}", disguise);
        }
    }
}
