//! Connections to a server, and what its errors mean.
//!
//! Invariant: an error text never carries the address, so that no password can be in it.

use std::ops::Deref;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use super::super::StatementError;
use crate::TargetError;

/// The database of the server in which databases are renamed and dropped.
const MAINTENANCE: &str = "postgres";

/// The tables and the fence of a database. Everything is named in full: no search path can lead us elsewhere.
pub(super) const TABLES: &str = "
    CREATE SCHEMA IF NOT EXISTS leasehold;
    CREATE TABLE IF NOT EXISTS leasehold.statements (
        job text NOT NULL, idx integer NOT NULL, fence bigint NOT NULL, state text NOT NULL, digest text NOT NULL,
        outcome text NOT NULL, at timestamptz NOT NULL DEFAULT pg_catalog.now(), PRIMARY KEY (job, idx));
    CREATE TABLE IF NOT EXISTS leasehold.fence (
        one integer PRIMARY KEY CHECK (one = 1), fence bigint NOT NULL, pid integer, started timestamptz);
    INSERT INTO leasehold.fence (one, fence) VALUES (1, 0) ON CONFLICT (one) DO NOTHING;";

/// A server and the name of one database on it.
pub(super) struct Server {
    config: Config,
    shown: String,
}

/// A connection; its background work ends with it.
pub(super) struct Link(Client);

impl Deref for Link {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Server {
    pub(super) fn new(config: Config, shown: String) -> Self {
        Self { config, shown }
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The name of our database.
    pub(super) fn name(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// Connects to a database of the server, under a name that its operators see.
    pub(super) async fn connect(&self, database: &str, application: &str) -> Result<Link, TargetError> {
        let mut config = self.config.clone();
        config.dbname(database).application_name(application.chars().take(63).collect::<String>());
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        let (client, connection) = config.connect(NoTls).await.map_err(|error| match code(&error) {
            Some("3D000") => TargetError::NotFound { what: self.shown.clone() },
            _ => self.ours("connect", error),
        })?;
        tokio::spawn(async move {
            // The client sees the same end as an error of its next call.
            let _ = connection.await;
        });
        Ok(Link(client))
    }

    pub(super) async fn maintenance(&self) -> Result<Link, TargetError> {
        self.connect(MAINTENANCE, "leasehold").await
    }

    pub(super) async fn exists(&self, link: &Link, database: &str) -> Result<bool, TargetError> {
        let sql = "SELECT count(*) > 0 FROM pg_catalog.pg_database WHERE datname = $1";
        let row = link.query_one(sql, &[&database]).await.map_err(|e| self.ours("look for it", e))?;
        row.try_get(0).map_err(|e| self.ours("look for it", e))
    }

    /// An error of a step of ours.
    pub(super) fn ours(&self, doing: &str, error: tokio_postgres::Error) -> TargetError {
        let target = self.shown.clone();
        match error.as_db_error() {
            Some(said) if said.code().code() == "53100" => {
                TargetError::NoSpace { what: target, needed: None, free: None }
            }
            Some(said) if said.code().code().starts_with("57P") || said.code().code() == "53300" => {
                TargetError::Unreachable { target, doing: doing.to_owned(), source: said.to_string().into() }
            }
            Some(said) => TargetError::Sql {
                target,
                doing: doing.to_owned(),
                sqlstate: said.code().code().to_owned(),
                text: said.message().to_owned(),
            },
            None => TargetError::Unreachable { target, doing: doing.to_owned(), source: error.into() },
        }
    }
}

/// The SQLSTATE of an error, when the server sent one.
pub(super) fn code(error: &tokio_postgres::Error) -> Option<&str> {
    error.as_db_error().map(|said| said.code().code())
}

/// The server's words against a statement; `None` when the connection broke.
pub(super) fn said(text: &str, error: &tokio_postgres::Error) -> Option<StatementError> {
    let said = error.as_db_error()?;
    let line = match said.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            let before = text.chars().take((*at as usize).saturating_sub(1));
            u32::try_from(before.filter(|&c| c == '\n').count() + 1).ok()
        }
        _ => None,
    };
    let mut words = said.message().to_owned();
    for (name, more) in [("detail", said.detail()), ("hint", said.hint())] {
        if let Some(more) = more {
            words.push_str(&format!("; {name}: {more}"));
        }
    }
    Some(StatementError { code: said.code().code().to_owned(), text: words, line })
}

/// A name as SQL.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name as people write it: quoted only where a dot, a capital or the like makes another name of it.
pub(super) fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(plain) { name.to_owned() } else { quote(name) }
}

/// The names in `schema."table"`, without quotes.
pub(super) fn parts(written: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => part.extend(letters.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    parts.push(part);
    parts
}

/// A text as SQL that no setting of the session can change the meaning of.
pub(super) fn literal(text: &str) -> String {
    format!("pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'UTF8')", hex::encode(text))
}
