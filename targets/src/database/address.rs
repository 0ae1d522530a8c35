//! The address of a database: `sqlite:PATH` or `postgres://…`, with secrets by reference.
//!
//! Invariant: neither `Debug` nor `Display` shows a password, whether it came by reference or in clear.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Database;
use crate::{Secrets, TargetError};

/// Where a database is.
#[derive(Clone)]
pub struct DatabaseUrl {
    place: Place,
    shown: String,
}

#[derive(Clone)]
pub(super) enum Place {
    Sqlite(PathBuf),
    Postgres(Box<tokio_postgres::Config>),
}

impl DatabaseUrl {
    /// Reads an address and resolves its secrets.
    ///
    /// `mssql://` and unknown schemes are refused with [`TargetError::NoDriver`].
    pub fn parse(text: &str, secrets: &Secrets) -> Result<Self, TargetError> {
        let text = text.trim();
        let shown = mask(text);
        let bad = |why: &str| TargetError::BadUrl { url: shown.clone(), why: why.to_owned() };
        let (scheme, rest) = text.split_once(':').ok_or_else(|| bad("a scheme such as sqlite: is missing"))?;
        let place = match scheme {
            "sqlite" => {
                let path = secrets.resolve(rest.strip_prefix("//").unwrap_or(rest), str::to_owned)?;
                if path.is_empty() || path.starts_with(':') || path.contains('\0') {
                    return Err(bad("sqlite: needs the path of a file"));
                }
                Place::Sqlite(PathBuf::from(path))
            }
            "postgres" | "postgresql" => Place::Postgres(Box::new(postgres(text, secrets, &shown)?)),
            "mssql" | "sqlserver" => {
                return Err(TargetError::NoDriver {
                    scheme: scheme.to_owned(),
                    why: "SQL Server is not built in; use sqlite:PATH or postgres://…".to_owned(),
                });
            }
            _ => {
                return Err(TargetError::NoDriver {
                    scheme: scheme.to_owned(),
                    why: "known are sqlite:PATH and postgres://user@host/name".to_owned(),
                });
            }
        };
        Ok(Self { place, shown })
    }

    /// The address of a SQLite file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { shown: format!("sqlite:{}", path.display()), place: Place::Sqlite(path) }
    }
}

fn postgres(text: &str, secrets: &Secrets, shown: &str) -> Result<tokio_postgres::Config, TargetError> {
    let bad = |why: String| TargetError::BadUrl { url: shown.to_owned(), why };
    let resolved = secrets.resolve(text, percent_encode)?;
    // The driver's own words may quote the address: they are not passed on.
    let config: tokio_postgres::Config =
        resolved.parse().map_err(|_| bad("it is not a postgres:// address".to_owned()))?;
    if config.get_dbname().is_none_or(str::is_empty) {
        return Err(bad("the name of the database is missing".to_owned()));
    }
    if config.get_user().is_none_or(str::is_empty) {
        return Err(bad("the name of the user is missing".to_owned()));
    }
    if config.get_hosts().len() != 1 {
        return Err(bad("exactly one host is needed".to_owned()));
    }
    if config.get_ssl_mode() == tokio_postgres::config::SslMode::Require {
        return Err(
            bad("sslmode=require: this build speaks no TLS to PostgreSQL; use a socket or a tunnel".to_owned()),
        );
    }
    Ok(config)
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.shown)
    }
}

pub(super) fn open(url: &DatabaseUrl) -> Result<Arc<dyn Database>, TargetError> {
    Ok(match &url.place {
        Place::Sqlite(path) => Arc::new(super::sqlite::Sqlite::new(path.clone())),
        Place::Postgres(config) => Arc::new(super::postgres::Postgres::new((**config).clone(), url.shown.clone())),
    })
}

/// The address with any clear password replaced; references stay readable.
fn mask(text: &str) -> String {
    let mut shown = text.to_owned();
    if let Some(start) = shown.find("://").map(|at| at + 3) {
        let end = shown[start..].find('/').map_or(shown.len(), |at| start + at);
        if let Some(at) = shown[start..end].rfind('@').map(|at| start + at)
            && let Some(colon) = shown[start..at].find(':').map(|colon| start + colon)
            && !is_reference(&shown[colon + 1..at])
        {
            shown.replace_range(colon + 1..at, "***");
        }
    }
    mask_parameter(shown)
}

/// `?password=…` in the query part.
fn mask_parameter(mut shown: String) -> String {
    if let Some(start) = shown.to_ascii_lowercase().find("password=").map(|at| at + "password=".len()) {
        let end = shown[start..].find('&').map_or(shown.len(), |at| start + at);
        if !is_reference(&shown[start..end]) {
            shown.replace_range(start..end, "***");
        }
    }
    shown
}

fn is_reference(text: &str) -> bool {
    text.strip_prefix("${secret:").and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| !name.contains('}'))
}

fn percent_encode(value: &str) -> String {
    value.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let secrets = Secrets::new([("DB".to_owned(), "p@ss/w:rd".to_owned())]);
        for text in [
            "postgres://u:hush@h/d",
            "postgres://u:a@hush@h/d",
            "postgres://u:${secret:DB}@h:5433/d",
            "postgres://u@h/d?password=hush&connect_timeout=3",
        ] {
            let Ok(url) = DatabaseUrl::parse(text, &secrets) else {
                continue;
            };
            for shown in [format!("{url}"), format!("{url:?}")] {
                assert!(!shown.contains("hush") && !shown.contains("p@ss"), "{shown}");
            }
        }
        assert!(!format!("{secrets:?}").contains("p@ss"));
    }

    #[test]
    fn a_secret_with_odd_characters_reaches_the_driver_unchanged() {
        let secrets = Secrets::new([("DB".to_owned(), "p@ss/w:rd%".to_owned())]);
        let url = DatabaseUrl::parse("postgres://u:${secret:DB}@h:5433/d", &secrets).unwrap();
        let Place::Postgres(config) = &url.place else { panic!("not postgres") };
        assert_eq!(config.get_password(), Some(&b"p@ss/w:rd%"[..]));
        assert_eq!(url.to_string(), "postgres://u:${secret:DB}@h:5433/d");
    }

    #[test]
    fn addresses_that_cannot_work_are_refused_with_their_code() {
        let refused = |text: &str| DatabaseUrl::parse(text, &Secrets::default()).unwrap_err().code();
        assert_eq!(refused("mssql://sa@host/x"), "target_no_driver");
        assert_eq!(refused("oracle://host/x"), "target_no_driver");
        assert_eq!(refused("sqlite:"), "target_bad_url");
        assert_eq!(refused("sqlite::memory:"), "target_bad_url");
        assert_eq!(refused("postgres://u@h"), "target_bad_url");
        assert_eq!(refused("postgres://u@h/d?sslmode=require"), "target_bad_url");
        assert_eq!(refused("postgres://u:${secret:NOPE}@h/d"), "target_missing_secret");
    }
}
