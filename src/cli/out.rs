//! What commands print: text or JSON on standard output. A reader that went away (`| head`) is no failure; any other
//! loss is one: a key that is shown once must not be lost in silence.

use std::fmt::{self, Display};
use std::io::{ErrorKind, Write as _};
use std::sync::OnceLock;

use leasehold_jobs::policy::shown::is_unshown;
use serde_json::Value;

use super::Failure;

/// Standard output, as text or as JSON.
#[derive(Debug)]
pub(crate) struct Out {
    json: bool,
    lost: OnceLock<std::io::Error>,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, lost: OnceLock::new() }
    }

    /// Whether JSON is asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the value as JSON, or what `text` makes of it.
    pub(crate) fn show<D: Display>(&self, value: &Value, text: impl FnOnce(&Value) -> D) {
        if self.json { self.line(format_args!("{value:#}")) } else { self.line(text(value)) }
    }

    /// Prints a line as it is.
    pub(crate) fn line(&self, text: impl Display) {
        let text = tamed(&text.to_string(), "\n\t");
        let mut stdout = std::io::stdout().lock();
        let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
        if let Some(error) = written.err().filter(|error| error.kind() != ErrorKind::BrokenPipe) {
            let _ = self.lost.set(error);
        }
    }

    /// Whether something that was to be printed is lost; the first time counts.
    pub(crate) fn loss(&self) -> Option<Failure> {
        let text = |error| format!("what was asked may be done, but the answer could not be written: {error}");
        self.lost.get().map(|error| Failure::failed("output_lost", text(error)))
    }

    /// Prints a line for people beside the result.
    pub(crate) fn aside(&self, text: impl Display) {
        let _ = writeln!(std::io::stderr().lock(), "{}", tamed(&text.to_string(), "\n\t"));
    }
}

/// Columns of text.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// A table with these headings; `empty` is shown when it has no rows.
    pub(crate) fn new(headings: &[&str], empty: &'static str) -> Self {
        Self { rows: vec![headings.iter().map(|h| h.to_uppercase()).collect()], empty }
    }

    /// Adds a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| tamed(&cell.into(), "")).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.len() == 1 {
            return f.write_str(self.empty);
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of =
            |column: usize| self.rows.iter().filter_map(|r| r.get(column)).map(|cell| width(cell)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        for (n, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (cell, wanted) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(wanted.saturating_sub(width(cell)) + 2));
            }
            write!(f, "{}{}", if n == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

/// What a terminal would obey is shown as its number: names and messages come from elsewhere. In JSON the form is the same.
fn tamed(text: &str, but: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unshown(c) && !but.contains(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Columns of a terminal that a text takes: Chinese characters take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe4f | 0xff00..=0xff60) { 2 } else { 1 }).sum()
}

/// The text at a path of a document (`error.code`); empty when there is none.
pub(crate) fn text(value: &Value, path: &str) -> String {
    path.split('.').try_fold(value, |v, name| v.get(name)).map(plain).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_chinese_text_too() {
        let mut table = Table::new(&["id", "status", "n"], "none");
        table.row(["1", "待执行", "7"]);
        table.row(["22", "x", "8"]);
        let text = table.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, ["ID  STATUS  N", "1   待执行  7", "22  x       8"]);
    }

    #[test]
    fn a_terminal_obeys_nothing_that_is_printed() {
        assert_eq!(tamed("备份\u{1b}[2J\u{9b}1m\u{202e}x\ny", "\n"), "备份\\u001b[2J\\u009b1m\\u202ex\ny");
        let mut table = Table::new(&["name", "n"], "none");
        table.row(["a\nb", "7"]);
        assert_eq!(table.to_string(), "NAME      N\na\\u000ab  7", "no name makes a row of its own");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["id"], "no jobs").to_string(), "no jobs");
    }
}
