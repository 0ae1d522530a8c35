//! Says of a statement how it has to be run, from its words alone.
//!
//! Invariant: what a database refuses inside a transaction is `Alone`; what would take the transaction out of our
//! hands, or touch our own tables, is `Refused`.

use super::Dialect;
use super::lexer::{Kind, Token};

/// How a statement has to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// In a transaction of its own, together with its marker.
    Plain,
    /// Opens a transaction; `read_only` when it says so itself.
    Begin {
        /// It can write nothing.
        read_only: bool,
    },
    /// Ends a transaction well.
    Commit,
    /// Ends a transaction, undone.
    Rollback,
    /// Sets a savepoint.
    Savepoint,
    /// Goes back to a savepoint.
    RollbackTo,
    /// Forgets a savepoint.
    Release,
    /// Cannot run inside a transaction: its marker is written before and after.
    Alone,
    /// Not run at all, with the reason.
    Refused(&'static str),
}

/// What the words of a statement say.
pub(super) struct Facts {
    pub(super) class: Class,
    pub(super) session: bool,
    pub(super) temporary: bool,
    pub(super) counts: bool,
    pub(super) copies_from_client: bool,
}

/// Reads the words of a statement.
pub(super) fn classify(dialect: Dialect, tokens: &[Token<'_>]) -> Facts {
    let words = Words { tokens };
    let class = match dialect {
        Dialect::Tsql => Class::Plain,
        Dialect::Sqlite => sqlite(&words),
        Dialect::Postgres => postgres(&words),
    };
    let postgres = dialect == Dialect::Postgres;
    Facts {
        class,
        session: session(dialect, &words),
        temporary: words.has("temp") || words.has("temporary") || (postgres && words.first_is(&["prepare", "listen"])),
        counts: words.first_is(&[
            "select", "values", "table", "insert", "update", "delete", "merge", "replace", "with", "explain", "show",
            "copy", "fetch",
        ]),
        copies_from_client: postgres && words.first_is(&["copy"]) && words.follows("from", "stdin"),
    }
}

struct Words<'s, 't> {
    tokens: &'s [Token<'t>],
}

impl Words<'_, '_> {
    fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(word))
    }

    fn first_is(&self, any: &[&str]) -> bool {
        any.iter().any(|word| self.is(0, word))
    }

    fn starts(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(at, word)| self.is(at, word))
    }

    fn has(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token.is(word))
    }

    fn follows(&self, first: &str, then: &str) -> bool {
        self.tokens.windows(2).any(|pair| pair[0].is(first) && pair[1].is(then))
    }

    /// Whether a string speaks of our schema where it would become a name.
    fn quotes_ours(&self) -> bool {
        let becomes_name = ["search_path", "set_config", "execute", "do", "function", "procedure"];
        becomes_name.iter().any(|word| self.has(word))
            && self
                .tokens
                .iter()
                .any(|token| token.kind == Kind::Literal && token.text.to_ascii_lowercase().contains("leasehold"))
    }

    /// Whether a name, bare or quoted, satisfies the test.
    fn names(&self, test: impl Fn(&str) -> bool) -> bool {
        self.tokens.iter().any(|token| match token.kind {
            Kind::Word => test(&token.text.to_ascii_lowercase()),
            Kind::Name => test(&token.text[1..token.text.len() - 1].to_ascii_lowercase()),
            _ => false,
        })
    }
}

const OURS: &str = "it names the tables in which this program keeps its proof of what has run";

fn control(words: &Words<'_, '_>) -> Option<Class> {
    let class = match () {
        () if words.first_is(&["commit", "end"]) => match words.has("chain") && !words.has("no") {
            true => Class::Refused("AND CHAIN would open a transaction that nothing closes; write COMMIT, then BEGIN"),
            false => Class::Commit,
        },
        () if words.first_is(&["rollback", "abort"]) && words.has("to") => Class::RollbackTo,
        () if words.first_is(&["rollback", "abort"]) => match words.has("chain") && !words.has("no") {
            true => {
                Class::Refused("AND CHAIN would open a transaction that nothing closes; write ROLLBACK, then BEGIN")
            }
            false => Class::Rollback,
        },
        () if words.first_is(&["savepoint"]) => Class::Savepoint,
        () if words.first_is(&["release"]) => Class::Release,
        () => return None,
    };
    Some(class)
}

fn sqlite(words: &Words<'_, '_>) -> Class {
    if words.names(|name| name.starts_with("leasehold_")) {
        return Class::Refused(OURS);
    }
    if words.first_is(&["begin"]) {
        return Class::Begin { read_only: false };
    }
    if let Some(class) = control(words) {
        return class;
    }
    let into = words.first_is(&["vacuum"]) && words.has("into");
    match () {
        () if words.first_is(&["attach", "detach"]) || into => {
            Class::Refused("a script stays inside its own database file")
        }
        () if words.first_is(&["vacuum"]) => Class::Alone,
        () if words.first_is(&["pragma"]) => {
            match words.names(|name| matches!(name, "foreign_keys" | "wal_checkpoint" | "optimize" | "temp_store")) {
                true => Class::Alone,
                false => Class::Plain,
            }
        }
        () => Class::Plain,
    }
}

fn postgres(words: &Words<'_, '_>) -> Class {
    if words.names(|name| name == "leasehold") || words.quotes_ours() {
        return Class::Refused(OURS);
    }
    if words.first_is(&["begin"]) || words.starts(&["start", "transaction"]) {
        return Class::Begin { read_only: words.follows("read", "only") };
    }
    if words.starts(&["commit", "prepared"]) || words.starts(&["rollback", "prepared"]) {
        return Class::Alone;
    }
    if let Some(class) = control(words) {
        return class;
    }
    match () {
        () if words.starts(&["prepare", "transaction"]) => {
            Class::Refused("a prepared transaction would outlive the script and its markers")
        }
        () if words.first_is(&["copy"]) && words.has("program") => {
            Class::Refused("COPY … PROGRAM runs a program on the server")
        }
        () if needs_no_transaction(words) => Class::Alone,
        () => Class::Plain,
    }
}

/// Statements that PostgreSQL refuses in a transaction block, as far as words tell. The others tell by SQLSTATE 25001.
fn needs_no_transaction(words: &Words<'_, '_>) -> bool {
    let makes_or_drops = words.first_is(&["create", "drop"])
        && ["database", "tablespace", "subscription"].iter().any(|thing| words.is(1, thing));
    let concurrently = words.has("concurrently")
        && (words.first_is(&["reindex"]) || words.has("index") || words.has("detach"))
        && words.first_is(&["create", "drop", "reindex", "alter"]);
    let whole = words.first_is(&["reindex"]) && (words.has("database") || words.has("system") || words.has("schema"));
    let moves = words.starts(&["alter", "database"]) && words.follows("set", "tablespace");
    words.first_is(&["vacuum"])
        || makes_or_drops
        || concurrently
        || whole
        || moves
        || words.starts(&["alter", "system"])
        || words.starts(&["discard", "all"])
        || (words.first_is(&["cluster"]) && words.tokens.len() == 1)
}

fn session(dialect: Dialect, words: &Words<'_, '_>) -> bool {
    match dialect {
        Dialect::Tsql => false,
        Dialect::Sqlite => {
            words.first_is(&["pragma"])
                && words.names(|name| {
                    matches!(
                        name,
                        "foreign_keys" | "recursive_triggers" | "case_sensitive_like" | "temp_store" | "cache_size"
                    )
                })
        }
        Dialect::Postgres => {
            let scope = ["local", "transaction", "constraints"];
            words.first_is(&["reset"]) || (words.first_is(&["set"]) && !scope.iter().any(|word| words.is(1, word)))
        }
    }
}
