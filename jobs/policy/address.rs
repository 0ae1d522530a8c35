//! Whether two addresses are one database. Guards that one database is not two data centers: a data center is what only one
//! operation may touch at a time (ENG-09), and its neighbour would touch the same tables.
//!
//! By the text alone: `localhost` and `127.0.0.1`, or a link to a file, are not seen through.

use std::collections::BTreeMap;

use super::{ErrorCode, Refusal, Tenant};

const RULE: &str = "ENG-09";

/// What an address says of the place, without who logs in and how.
#[must_use]
pub fn place_of(address: &str) -> String {
    let address = address.trim();
    match address.split_once(':') {
        Some(("sqlite", path)) => format!("sqlite:{}", clean(path.strip_prefix("//").unwrap_or(path))),
        Some(("postgres" | "postgresql", rest)) => format!("postgres:{}", server(rest, "5432")),
        Some((scheme, rest)) => format!("{scheme}:{}", server(rest, "")),
        None => address.to_owned(),
    }
}

/// A path without `.`, `..` and empty parts.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{}{}", if path.starts_with('/') { "/" } else { "" }, parts.join("/"))
}

/// `//user:password@HOST:PORT/NAME?host=…&port=…` as host, port and name.
fn server(rest: &str, usual_port: &str) -> String {
    let (place, options) = rest.trim_start_matches('/').split_once('?').unwrap_or((rest.trim_start_matches('/'), ""));
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let (authority, name) = place.split_once('/').unwrap_or((place, ""));
    let option = |wanted: &str| {
        options
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let host = option("host").unwrap_or(host).replace("%2F", "/").replace("%2f", "/").to_ascii_lowercase();
    let port = option("port").unwrap_or(port);
    let port = if port.is_empty() { usual_port } else { port };
    format!("{host}:{port}/{}", option("dbname").unwrap_or(name))
}

/// The data centers of a tenant by the places of their databases, each with its field in the document.
fn places(tenant: &Tenant) -> impl Iterator<Item = (String, String, &str)> {
    tenant.environments.iter().enumerate().flat_map(|(e, environment)| {
        environment.data_centers.iter().enumerate().map(move |(d, data_center)| {
            let field = format!("environments[{e}].data_centers[{d}].database");
            (place_of(&data_center.database), field, data_center.id.as_str())
        })
    })
}

/// Refuses a tenant of which two data centers, or one of its own and one of another tenant, lie in one database.
///
/// # Errors
/// The field, and who has the database.
pub fn check_places<'a>(tenant: &Tenant, others: impl IntoIterator<Item = &'a Tenant>) -> Result<(), Refusal> {
    let mut taken = BTreeMap::new();
    for other in others.into_iter().filter(|other| other.id != tenant.id) {
        taken.extend(places(other).map(|(place, _, id)| (place, format!("`{id}` of tenant `{}`", other.id))));
    }
    for (place, field, id) in places(tenant) {
        if let Some(owner) = taken.insert(place, format!("`{id}`")) {
            let text = format!("the database of `{id}` is that of {owner}: they would be changed at the same time");
            return Err(Refusal::new(ErrorCode::InvalidArgument, RULE, text)
                .with_field(field)
                .with_remedy("give each data center a database of its own"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_database_is_recognised_however_it_is_written() {
        for (one, other) in [
            ("sqlite:/data/a.db", "sqlite:///data//x/.././a.db"),
            ("sqlite:a.db", "sqlite:./a.db"),
            ("postgres://u:${secret:PW}@DB.example/shop", "postgresql://other@db.example:5432/shop?sslmode=disable"),
            ("postgres://u@/shop?host=/run/pg", "postgres://u@%2Frun%2Fpg/shop"),
            ("postgres://u@[::1]:5432/shop", "postgres://u@[::1]/shop"),
        ] {
            assert_eq!(place_of(one), place_of(other), "{one} {other}");
        }
        for (one, other) in [
            ("sqlite:/data/a.db", "sqlite:data/a.db"),
            ("sqlite:/data/a.db", "sqlite:/data/A.db"),
            ("postgres://u@h/a", "postgres://u@h/b"),
            ("postgres://u@h:5432/a", "postgres://u@h:5433/a"),
            ("postgres://u@h/a", "mssql://u@h/a"),
        ] {
            assert_ne!(place_of(one), place_of(other), "{one} {other}");
        }
    }
}
