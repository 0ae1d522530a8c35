//! A script: its text cut into statements by the real lexical rules of its dialect, without a database.
//!
//! Invariant: nothing between the separators is lost or changed, and no separator inside a quote or comment counts.

use serde::{Deserialize, Serialize};

mod class;
mod lexer;
mod split;

pub use class::Class;

/// Whose lexical rules a script follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// SQL Server: batches between `GO` lines are the statements.
    Tsql,
}

/// One statement of a script (for T-SQL: one batch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its exact text, without the separator and without comments around it.
    pub text: String,
    /// The line of the script on which it starts, from 1.
    pub line: u32,
    /// How it has to be run.
    pub class: Class,
    /// It changes settings of the session only; a new session has to be told again.
    pub session: bool,
    /// It makes objects that end with the session.
    pub temporary: bool,
    /// A row count has a meaning for it.
    pub counts: bool,
}

impl Statement {
    /// Its first 80 characters, on one line.
    pub fn head(&self) -> String {
        let mut head = String::new();
        for word in self.text.split_whitespace() {
            if head.chars().count() > 80 {
                break;
            }
            if !head.is_empty() {
                head.push(' ');
            }
            head.push_str(word);
        }
        head.chars().take(80).collect()
    }
}

/// Why a text is not a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("line {line}, column {column}: {what}; {remedy}")]
pub struct ScriptError {
    /// The line, from 1. For an open quote or comment: where it was opened.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// A text, cut into statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    dialect: Dialect,
    statements: Vec<Statement>,
}

impl Script {
    /// Cuts a text. It is pure: the same text always gives the same statements.
    pub fn parse(dialect: Dialect, text: &str) -> Result<Self, ScriptError> {
        Ok(Self { dialect, statements: split::split(dialect, text)? })
    }

    /// Its dialect.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Its statements in order; the index in reports is the position here plus one.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// How many statements it has.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }
}
