//! Every spelling that has been used to smuggle an address past a check.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::webhooks::address::Network;

fn rules(allow: &[&str]) -> UrlRules {
    let networks: Vec<Network> = allow.iter().map(|text| text.parse().unwrap()).collect();
    UrlRules {
        addresses: AddressPolicy::new(&networks),
        has_listed_networks: !networks.is_empty(),
        ..UrlRules::default()
    }
}

fn refusal(text: &str) -> UrlRefused {
    match EndpointUrl::parse(text, &rules(&[])) {
        Err(refused) => refused,
        Ok(url) => panic!("{text} was taken as {url}"),
    }
}

#[test]
fn an_ordinary_https_url_is_taken_in_its_canonical_form() {
    for (given, canonical) in [
        ("https://example.com/hooks?a=b", "https://example.com/hooks?a=b"),
        ("HTTPS://Example.COM:443", "https://example.com/"),
        ("https://example.com:8443/x/../y", "https://example.com:8443/y"),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"),
    ] {
        assert_eq!(EndpointUrl::parse(given, &rules(&[])).unwrap().to_string(), canonical);
    }
}

#[test]
fn every_spelling_of_a_denied_address_is_refused() {
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "0177.1",
        "2130706433",
        "017700000001",
        "127.0.0.1.",
        "127.000.000.001",
        "1\u{ff12}7.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "127%2e0%2e0%2e1",
        "\u{2460}\u{2461}\u{2466}.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "loc\u{ad}alhost",
        "10.0.0.1",
        "0xa.0.0.1",
        "167772161",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0",
        "0x0",
        "255.255.255.255",
        "224.0.0.1",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[0000::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
    ] {
        for text in [format!("https://{host}/"), format!("https://{host}:8443/hook")] {
            assert_eq!(refusal(&text).code(), "address_refused", "{text}");
        }
    }
}

#[test]
fn what_the_parser_cannot_read_is_refused() {
    for text in [
        "",
        "example.com",
        "//example.com",
        "https://",
        "https:///",
        "https://[fe80::1%25eth0]/",
        "https://[::1%eth0]/",
        "https://256.1.1.1/",
        "https://1.2.3.4.5/",
        "https://0x7f.0.0.0x100/",
        "https://exa mple.com/",
        "https://exam\tple.com/",
        "https://exam\nple.com/",
        "https://example.com/\r\nSET x y",
        " https://example.com/",
        "https://example.com/\u{0}",
        "https://a..\u{202e}b/\u{2028}",
        "https://ex%00ample.com/",
        "https://a<b>/",
    ] {
        assert_eq!(refusal(text), UrlRefused::Unreadable, "{text:?}");
    }
}

#[test]
fn other_schemes_are_refused() {
    for text in [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_SET",
        "ws://a/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "redis://127.0.0.1/",
        "unix:/tmp/redis.sock",
    ] {
        assert!(matches!(refusal(text), UrlRefused::Scheme), "{text}");
    }
}

#[test]
fn a_user_name_or_a_fragment_is_refused() {
    for text in [
        "https://user@example.com/",
        "https://user:pw@example.com/",
        "https://:pw@example.com/",
        "https://user@127.0.0.1@example.com/",
        "https://127.0.0.1:80@example.com/",
        "https://example.com@127.0.0.1/",
    ] {
        assert_eq!(refusal(text), UrlRefused::UserInfo, "{text}");
    }
    for text in ["https://example.com/#", "https://example.com/#@127.0.0.1", "https://example.com#x"] {
        assert_eq!(refusal(text), UrlRefused::Fragment, "{text}");
    }
}

#[test]
fn a_backslash_does_not_hide_the_host() {
    assert_eq!(refusal("https://127.0.0.1\\@example.com/").code(), "address_refused");
    assert_eq!(refusal("https:\\\\127.0.0.1/").code(), "address_refused");
    assert_eq!(refusal("https:127.0.0.1/").code(), "address_refused");
}

#[test]
fn a_url_or_host_that_is_too_long_is_refused() {
    assert_eq!(refusal(&format!("https://example.com/{}", "a".repeat(2048))), UrlRefused::TooLong);
    let label = "a".repeat(60);
    assert_eq!(refusal(&format!("https://{label}.{label}.{label}.{label}.{label}/")), UrlRefused::TooLong);
}

#[test]
fn other_ports_need_the_configuration() {
    for port in [0, 22, 80, 6379, 7420, 9200, 65535] {
        assert_eq!(refusal(&format!("https://example.com:{port}/")), UrlRefused::Port(port));
    }
    let open = UrlRules { ports: vec![9443], ..rules(&[]) };
    assert!(EndpointUrl::parse("https://example.com:9443/", &open).is_ok());
    assert_eq!(EndpointUrl::parse("https://example.com:9444/", &open), Err(UrlRefused::Port(9444)));
}

#[test]
fn http_needs_the_configuration_or_a_listed_address() {
    let http = UrlRules { allow_http: true, ..rules(&[]) };
    assert!(EndpointUrl::parse("http://example.com/", &http).is_ok());
    assert_eq!(EndpointUrl::parse("http://example.com:8080/", &http), Err(UrlRefused::Port(8080)));
    assert_eq!(EndpointUrl::parse("https://example.com:80/", &http), Err(UrlRefused::Port(80)));

    let local = rules(&["127.0.0.0/8"]);
    for text in
        ["http://127.0.0.1:39999/hook", "http://localhost:39999/", "https://127.4.4.4:1/", "http://2130706433:9/"]
    {
        assert!(EndpointUrl::parse(text, &local).is_ok(), "{text}");
    }
    assert_eq!(EndpointUrl::parse("http://8.8.8.8/", &local), Err(UrlRefused::Scheme));
    assert!(EndpointUrl::parse("http://10.0.0.1/", &local).is_err());
    assert!(EndpointUrl::parse("http://[::1]/", &local).is_err());
}

#[test]
fn localhost_is_never_asked_of_dns_and_keeps_what_is_listed() {
    let local = rules(&["127.0.0.0/8"]);
    let url = EndpointUrl::parse("http://localhost:8000/", &local).unwrap();
    assert_eq!(url.destination(&local).unwrap(), Destination::Known(vec![Ipv4Addr::LOCALHOST.into()]));
}

#[test]
fn one_denied_address_among_public_ones_refuses_the_name() {
    let rules = rules(&["10.7.0.0/16"]);
    let url = EndpointUrl::parse("https://example.com/", &rules).unwrap();
    let public: IpAddr = "8.8.8.8".parse().unwrap();
    let private: IpAddr = "10.0.0.1".parse().unwrap();
    let listed: IpAddr = "10.7.0.1".parse().unwrap();
    assert_eq!(url.approve(&[public, listed], &rules).unwrap().len(), 2);
    assert_eq!(url.approve(&[public, private], &rules).unwrap_err().code(), "address_refused");
    assert_eq!(url.approve(&[private, public], &rules).unwrap_err().code(), "address_refused");
}

#[test]
fn a_name_that_could_be_listed_is_judged_by_what_it_resolves_to() {
    let rules = rules(&["10.7.0.0/16"]);
    let url = EndpointUrl::parse("http://portal.corp:9000/", &rules).unwrap();
    assert!(url.approve(&["10.7.0.1".parse().unwrap()], &rules).is_ok());
    assert_eq!(url.approve(&["8.8.8.8".parse().unwrap()], &rules), Err(UrlRefused::Scheme));
}
