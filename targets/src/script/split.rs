//! Puts tokens together to statements.
//!
//! Invariant: a `;` ends a statement only at the outermost level: not in parentheses (PostgreSQL), not in the body
//! of a trigger (SQLite) or of a function (`BEGIN ATOMIC`).

use super::lexer::{Kind, Token, lex};
use super::{Dialect, ScriptError, Statement, class};

/// More statements than this are refused, so that a `GO 1000` over a long batch cannot fill the memory.
const MOST: usize = 20_000;

/// Cuts `text` into statements.
pub(super) fn split(dialect: Dialect, text: &str) -> Result<Vec<Statement>, ScriptError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find('\0') {
        let line = u32::try_from(text[..at].matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
        return Err(refuse(line, "a NUL character", "save the script as UTF-8 text"));
    }
    let tokens = lex(dialect, text)?;
    let mut statements = Vec::new();
    for (batch, count) in batches(&tokens) {
        let once = batch_statements(dialect, text, batch)?;
        for _ in 0..count {
            statements.extend(once.iter().cloned());
            if statements.len() > MOST {
                let line = batch.first().map_or(1, |token| token.line);
                return Err(refuse(line, "more than 20000 statements", "cut the script into several"));
            }
        }
    }
    Ok(statements)
}

/// The runs of tokens between `GO` lines, each with its count.
fn batches<'s, 't>(tokens: &'s [Token<'t>]) -> Vec<(&'s [Token<'t>], u32)> {
    let mut batches = Vec::new();
    let mut start = 0;
    for (at, token) in tokens.iter().enumerate() {
        if let Kind::Go(count) = token.kind {
            batches.push((&tokens[start..at], count));
            start = at + 1;
        }
    }
    batches.push((&tokens[start..], 1));
    batches
}

fn batch_statements(dialect: Dialect, text: &str, batch: &[Token<'_>]) -> Result<Vec<Statement>, ScriptError> {
    let mut statements = Vec::new();
    let mut current: Vec<Token<'_>> = Vec::new();
    let mut nesting = Nesting::default();
    for token in batch.iter().filter(|token| token.kind != Kind::Blank) {
        let ends = dialect != Dialect::Tsql && token.text == ";" && !nesting.holds(dialect, &current);
        if ends {
            statements.extend(statement(dialect, text, &current)?);
            current.clear();
            nesting = Nesting::default();
        } else {
            current.push(*token);
            nesting.see(dialect, &current);
        }
    }
    statements.extend(statement(dialect, text, &current)?);
    Ok(statements)
}

fn statement(dialect: Dialect, text: &str, tokens: &[Token<'_>]) -> Result<Option<Statement>, ScriptError> {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return Ok(None);
    };
    if dialect == Dialect::Tsql && tokens.iter().all(|token| token.text == ";") {
        return Ok(None);
    }
    let facts = class::classify(dialect, tokens);
    if facts.copies_from_client {
        return Err(refuse(
            first.line,
            "COPY … FROM STDIN, whose rows are not SQL",
            "use INSERT, or a file that the server reads",
        ));
    }
    Ok(Some(Statement {
        text: text[first.start..last.start + last.text.len()].to_owned(),
        line: first.line,
        class: facts.class,
        session: facts.session,
        temporary: facts.temporary,
        counts: facts.counts,
    }))
}

fn refuse(line: u32, what: &str, remedy: &str) -> ScriptError {
    ScriptError { line, column: 1, what: what.to_owned(), remedy: remedy.to_owned() }
}

/// How deep the statement so far is in constructs that may hold a `;`.
#[derive(Default)]
struct Nesting {
    parentheses: u32,
    body: u32,
}

impl Nesting {
    fn see(&mut self, dialect: Dialect, tokens: &[Token<'_>]) {
        let Some(token) = tokens.last() else { return };
        match (dialect, token.text) {
            (Dialect::Postgres, "(") => self.parentheses += 1,
            (Dialect::Postgres, ")") => self.parentheses = self.parentheses.saturating_sub(1),
            (Dialect::Postgres, _) if self.body > 0 => match () {
                () if token.is("begin") || token.is("case") => self.body += 1,
                () if token.is("end") => self.body -= 1,
                () => {}
            },
            (Dialect::Postgres, _) if token.is("atomic") => {
                let begins = tokens.iter().rev().nth(1).is_some_and(|before| before.is("begin"));
                if begins && makes_routine(tokens) {
                    self.body = 1;
                }
            }
            _ => {}
        }
    }

    /// Whether a `;` after these tokens belongs to the statement.
    fn holds(&self, dialect: Dialect, tokens: &[Token<'_>]) -> bool {
        match dialect {
            Dialect::Postgres => self.parentheses > 0 || self.body > 0,
            // The rule of sqlite3_complete(): a trigger ends at `; END ;`.
            Dialect::Sqlite if makes_trigger(tokens) => {
                let mut back = tokens.iter().rev();
                let ended = back.next().is_some_and(|last| last.is("end"))
                    && back.next().is_some_and(|before| before.text == ";");
                !ended
            }
            _ => false,
        }
    }
}

fn makes_trigger(tokens: &[Token<'_>]) -> bool {
    let mut words = tokens.iter().peekable();
    if words.next_if(|token| token.is("explain")).is_some() && words.next_if(|token| token.is("query")).is_some() {
        words.next_if(|token| token.is("plan"));
    }
    let creates = words.next().is_some_and(|token| token.is("create"));
    words.next_if(|token| token.is("temp") || token.is("temporary"));
    creates && words.next().is_some_and(|token| token.is("trigger"))
}

fn makes_routine(tokens: &[Token<'_>]) -> bool {
    let mut words = tokens.iter().peekable();
    let creates = words.next().is_some_and(|token| token.is("create"));
    if words.next_if(|token| token.is("or")).is_some() {
        words.next();
    }
    creates && words.next().is_some_and(|token| token.is("function") || token.is("procedure"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
