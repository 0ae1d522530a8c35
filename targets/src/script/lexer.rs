//! Cuts a text into tokens by the lexical rules of a dialect.
//!
//! Invariant: tokens tile the text, so that nothing is lost; a quote or comment is one token or an error.

use super::{Dialect, ScriptError};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// White space or a comment.
    Blank,
    /// A keyword or a bare name.
    Word,
    /// A quoted name.
    Name,
    /// A string, a dollar quote or a number.
    Literal,
    /// One other character.
    Symbol,
    /// A `GO` line, with its count.
    Go(u32),
}

/// A piece of the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    pub(super) start: usize,
    pub(super) line: u32,
}

impl Token<'_> {
    pub(super) fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }
}

/// Cuts `text` into tokens.
pub(super) fn lex(dialect: Dialect, text: &str) -> Result<Vec<Token<'_>>, ScriptError> {
    let mut lexer = Lexer { dialect, text, at: 0, line: 1 };
    let mut tokens = Vec::new();
    while lexer.at < text.len() {
        let (start, line) = (lexer.at, lexer.line);
        let kind = lexer.next()?;
        let piece = &text[start..lexer.at];
        lexer.line += line_breaks(piece, text[lexer.at..].starts_with('\n'));
        tokens.push(Token { kind, text: piece, start, line });
    }
    Ok(tokens)
}

/// Line ends in `piece`: LF, CRLF or CR. A CR whose LF comes right after the piece is counted there.
fn line_breaks(piece: &str, lf_follows: bool) -> u32 {
    let bytes = piece.as_bytes();
    let ends = bytes.iter().enumerate().filter(|&(at, &byte)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(at + 1).map_or(!lf_follows, |&next| next != b'\n'),
        _ => false,
    });
    u32::try_from(ends.count()).unwrap_or(u32::MAX)
}

struct Lexer<'t> {
    dialect: Dialect,
    text: &'t str,
    at: usize,
    line: u32,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Result<Kind, ScriptError> {
        if self.at_line_start() {
            if let Some(count) = self.go_line()? {
                return Ok(Kind::Go(count));
            }
            self.refuse_directive()?;
        }
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or('\0');
        match first {
            '\r' | '\n' => {
                // One line end a token, so that each line start is seen.
                self.at += if rest.starts_with("\r\n") { 2 } else { 1 };
                Ok(Kind::Blank)
            }
            c if c.is_whitespace() => {
                self.take_while(|c| c.is_whitespace() && c != '\r' && c != '\n');
                Ok(Kind::Blank)
            }
            '-' if rest.starts_with("--") => {
                let sqlite = self.dialect == Dialect::Sqlite;
                self.take_while(|c| c != '\n' && (sqlite || c != '\r'));
                Ok(Kind::Blank)
            }
            '/' if rest.starts_with("/*") => self.comment(),
            '\'' => self.quoted('\'', false, "string").map(|()| Kind::Literal),
            '"' => self.quoted('"', false, "quoted name").map(|()| Kind::Name),
            '`' if self.dialect == Dialect::Sqlite => self.quoted('`', false, "quoted name").map(|()| Kind::Name),
            '[' if self.dialect != Dialect::Postgres => self.bracket(),
            '$' if self.dialect == Dialect::Postgres => self.dollar(),
            '$' if rest.starts_with("$(") => {
                Err(self.error("a sqlcmd variable $(…)", "write the value: variables of sqlcmd are not replaced here"))
            }
            '\\' => Err(self.error("a backslash command", "leave out commands of psql: they are not SQL")),
            c if is_word_start(c) => self.word(),
            c if c.is_ascii_digit() => {
                self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '.');
                Ok(Kind::Literal)
            }
            c => {
                self.at += c.len_utf8();
                Ok(Kind::Symbol)
            }
        }
    }

    fn at_line_start(&self) -> bool {
        self.at == 0 || matches!(self.text.as_bytes()[self.at - 1], b'\n' | b'\r')
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !keep(c)).unwrap_or(rest.len());
    }

    fn error(&self, what: &str, remedy: &str) -> ScriptError {
        let line_start = self.text[..self.at].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let column = self.text[line_start..self.at].chars().count() + 1;
        ScriptError {
            line: self.line,
            column: u32::try_from(column).unwrap_or(u32::MAX),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    /// A quote that is closed by its own character; doubled, it is part of the text.
    fn quoted(&mut self, quote: char, backslash: bool, what: &str) -> Result<(), ScriptError> {
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if backslash && c == '\\' {
                chars.next();
            } else if c == quote {
                if chars.peek().is_some_and(|&(_, next)| next == quote) {
                    chars.next();
                } else {
                    self.at += at + quote.len_utf8();
                    return Ok(());
                }
            }
        }
        Err(self.error(&format!("the {what} that opens here is never closed"), &format!("close it with {quote}")))
    }

    fn bracket(&mut self) -> Result<Kind, ScriptError> {
        if self.dialect == Dialect::Tsql {
            let open = self.at;
            let mut rest = &self.text[open + 1..];
            while let Some(end) = rest.find(']') {
                rest = &rest[end + 1..];
                match rest.strip_prefix(']') {
                    Some(after) => rest = after,
                    None => {
                        self.at = self.text.len() - rest.len();
                        return Ok(Kind::Name);
                    }
                }
            }
        } else if let Some(end) = self.rest().find(']') {
            self.at += end + 1;
            return Ok(Kind::Name);
        }
        Err(self.error("the quoted name that opens here is never closed", "close it with ]"))
    }

    /// A block comment; it nests in PostgreSQL and T-SQL, and does not in SQLite.
    fn comment(&mut self) -> Result<Kind, ScriptError> {
        let nests = self.dialect != Dialect::Sqlite;
        let bytes = self.text.as_bytes();
        let (mut at, mut depth) = (self.at + 2, 1_u32);
        while at + 1 < bytes.len() {
            match &bytes[at..at + 2] {
                b"*/" => {
                    at += 2;
                    depth -= 1;
                    if depth == 0 {
                        self.at = at;
                        return Ok(Kind::Blank);
                    }
                }
                b"/*" if nests => {
                    at += 2;
                    depth += 1;
                }
                _ => at += 1,
            }
        }
        Err(self.error("the comment that opens here is never closed", "close it with */ once for each /*"))
    }

    /// `$$…$$` or `$tag$…$tag$`; any other `$` is one character.
    fn dollar(&mut self) -> Result<Kind, ScriptError> {
        let rest = self.rest();
        let tag_end = rest[1..].find('$').map(|at| at + 2).filter(|&end| {
            let tag = &rest[1..end - 1];
            tag.chars().next().is_none_or(is_word_start) && tag.chars().all(|c| is_word_start(c) || c.is_ascii_digit())
        });
        let Some(tag_end) = tag_end else {
            if rest.starts_with("$(") {
                return Err(self.error("a sqlcmd variable $(…)", "write the value: variables are not replaced here"));
            }
            self.at += 1;
            return Ok(Kind::Symbol);
        };
        let tag = &rest[..tag_end];
        match rest[tag_end..].find(tag) {
            Some(end) => {
                self.at += tag_end + end + tag.len();
                Ok(Kind::Literal)
            }
            None => {
                Err(self.error("the dollar quote that opens here is never closed", &format!("close it with {tag}")))
            }
        }
    }

    fn word(&mut self) -> Result<Kind, ScriptError> {
        let start = self.at;
        let tsql = self.dialect == Dialect::Tsql;
        self.take_while(|c| is_word_start(c) || c.is_ascii_digit() || c == '$' || (tsql && matches!(c, '@' | '#')));
        let escapes = self.dialect == Dialect::Postgres && self.text[start..self.at].eq_ignore_ascii_case("e");
        if escapes && self.rest().starts_with('\'') {
            return self.quoted('\'', true, "string").map(|()| Kind::Literal);
        }
        Ok(Kind::Word)
    }

    /// `GO`, `GO 3`, either with a comment, alone on its line: the count. The line end is not taken.
    fn go_line(&mut self) -> Result<Option<u32>, ScriptError> {
        let line = self.rest().split(['\n', '\r']).next().unwrap_or_default();
        let code = line.trim_start_matches([' ', '\t']);
        let Some(after) = code.get(..2).filter(|word| word.eq_ignore_ascii_case("go")).map(|_| &code[2..]) else {
            return Ok(None);
        };
        if after.starts_with(';') {
            return Err(self.error("GO with a semicolon", "write GO alone on its line, without ;"));
        }
        if !(after.is_empty() || after.starts_with([' ', '\t']) || after.starts_with("--") || after.starts_with("/*")) {
            return Ok(None);
        }
        let after = strip_comment(after.trim());
        let count = if after.is_empty() { Some(1) } else { after.parse().ok().filter(|n| (1..=1000).contains(n)) };
        match count {
            Some(count) => {
                self.at += line.len();
                Ok(Some(count))
            }
            None => Err(self.error(
                &format!("GO followed by {after:?}"),
                "write GO alone on its line, or GO with a count from 1 to 1000",
            )),
        }
    }

    /// Commands of sqlcmd, some of which would run programs.
    fn refuse_directive(&self) -> Result<(), ScriptError> {
        const COMMANDS: [&str; 16] = [
            "r",
            "setvar",
            "connect",
            "on",
            "out",
            "error",
            "exit",
            "quit",
            "list",
            "listvar",
            "reset",
            "serverlist",
            "xml",
            "ed",
            "help",
            "perftrace",
        ];
        let code = self.rest().trim_start_matches([' ', '\t']);
        let word: &str = code
            .strip_prefix(':')
            .map_or("", |rest| &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())]);
        if code.starts_with("!!") || COMMANDS.iter().any(|command| word.eq_ignore_ascii_case(command)) {
            return Err(self.error("a command of sqlcmd", "leave it out: commands of sqlcmd are not SQL"));
        }
        Ok(())
    }
}

/// The text without a comment that ends its line.
fn strip_comment(text: &str) -> &str {
    let text = text.split("--").next().unwrap_or_default().trim_end();
    match text.find("/*") {
        Some(at) if text.ends_with("*/") && text.len() >= at + 4 => text[..at].trim_end(),
        _ => text,
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}
