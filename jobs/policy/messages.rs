//! The texts of notices, in Chinese and English: versioned templates with named variables.
//!
//! An unknown variable is an error when a template is loaded, never when a notice is sent (NOTIFY-21).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A notice that this program sends, by its row in the notification matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// NOTIFY-11: an SQL update is completed.
    SqlUpdateCompleted,
    /// NOTIFY-07: a restore succeeded.
    RestoreSucceeded,
    /// NOTIFY-13: the verification code.
    VerificationCode,
    /// NOTIFY-18: a backup is finished; off by default, the page and the webhook tell it.
    BackupFinished,
    /// NOTIFY-19: a job failed for good, as its submitter hears it: the words of an error may name our hosts and folders.
    JobFailed,
    /// NOTIFY-19: the same for the ops monitor, with the error's words.
    JobFailedOps,
    /// SQL-16: an SQL update waits for the end of the maintenance window.
    SqlUpdateDeferred,
}

/// A language that the templates exist in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Chinese.
    #[default]
    Zh,
    /// English.
    En,
}

/// How a notice reaches a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The instant-messaging service of the customers.
    Yunzhijia,
    /// E-mail.
    Email,
    /// Short message to a mobile.
    Sms,
}

/// Who hears what, and how: the `notify.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyRules {
    /// The language of all notices.
    pub language: Language,
    /// Told of jobs that failed for good, besides the submitter; empty for nobody (NOTIFY-19).
    pub ops_monitor_email: String,
    /// Channels of NOTIFY-11.
    pub sql_update_completed: Vec<Channel>,
    /// Channels of SQL-16's notice.
    pub sql_update_deferred: Vec<Channel>,
    /// Channels of NOTIFY-07.
    pub restore_succeeded: Vec<Channel>,
    /// Channels of NOTIFY-18; none by default.
    pub backup_finished: Vec<Channel>,
    /// Channels of NOTIFY-19.
    pub job_failed: Vec<Channel>,
}

impl NotifyRules {
    /// The channels that a notice goes out on (3.28); none when the notice is off.
    #[must_use]
    pub fn channels(&self, notice: Notice) -> &[Channel] {
        match notice {
            Notice::SqlUpdateCompleted => &self.sql_update_completed,
            Notice::SqlUpdateDeferred => &self.sql_update_deferred,
            Notice::RestoreSucceeded => &self.restore_succeeded,
            Notice::BackupFinished => &self.backup_finished,
            Notice::JobFailed | Notice::JobFailedOps => &self.job_failed,
            Notice::VerificationCode => &[Channel::Sms],
        }
    }
}

impl Notice {
    /// Every notice.
    pub const ALL: [Self; 7] = [
        Self::SqlUpdateCompleted,
        Self::RestoreSucceeded,
        Self::VerificationCode,
        Self::BackupFinished,
        Self::JobFailed,
        Self::JobFailedOps,
        Self::SqlUpdateDeferred,
    ];

    /// The word in file names, logs and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SqlUpdateCompleted => "sql_update_completed",
            Self::RestoreSucceeded => "restore_succeeded",
            Self::VerificationCode => "verification_code",
            Self::BackupFinished => "backup_finished",
            Self::JobFailed => "job_failed",
            Self::JobFailedOps => "job_failed_ops",
            Self::SqlUpdateDeferred => "sql_update_deferred",
        }
    }

    /// The row of the notification matrix, or the rule, that asks for it.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::SqlUpdateCompleted => "NOTIFY-11",
            Self::RestoreSucceeded => "NOTIFY-07",
            Self::VerificationCode => "NOTIFY-13",
            Self::BackupFinished => "NOTIFY-18",
            Self::JobFailed | Self::JobFailedOps => "NOTIFY-19",
            Self::SqlUpdateDeferred => "SQL-16",
        }
    }

    /// The variables that the sender gives; a template may use these and no others.
    #[must_use]
    pub const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::SqlUpdateCompleted => {
                &["tenant", "data_center", "job", "finished_at", "colour", "statements", "failed", "backup"]
            }
            Self::RestoreSucceeded => &["tenant", "data_center", "job", "finished_at", "source"],
            Self::VerificationCode => &["code", "operation", "data_center", "minutes"],
            Self::BackupFinished => &["tenant", "data_center", "job", "finished_at", "name", "bytes"],
            Self::JobFailed => &["tenant", "kind", "job", "finished_at", "error_code"],
            Self::JobFailedOps => &["tenant", "kind", "job", "finished_at", "error_code", "error"],
            Self::SqlUpdateDeferred => &["tenant", "data_center", "job", "starts_at", "window"],
        }
    }

    const fn source(self, language: Language) -> &'static str {
        macro_rules! template {
            ($file:literal) => {
                match language {
                    Language::Zh => include_str!(concat!("../../config/messages/zh/", $file)),
                    Language::En => include_str!(concat!("../../config/messages/en/", $file)),
                }
            };
        }
        match self {
            Self::SqlUpdateCompleted => template!("sql_update_completed.txt"),
            Self::RestoreSucceeded => template!("restore_succeeded.txt"),
            Self::VerificationCode => template!("verification_code.txt"),
            Self::BackupFinished => template!("backup_finished.txt"),
            Self::JobFailed => template!("job_failed.txt"),
            Self::JobFailedOps => template!("job_failed_ops.txt"),
            Self::SqlUpdateDeferred => template!("sql_update_deferred.txt"),
        }
    }
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It uses a variable that the sender does not give.
    #[error("template {notice}: line {line}: unknown variable `{variable}`; known are {known}")]
    UnknownVariable {
        /// The notice.
        notice: &'static str,
        /// The line of the file, from 1.
        line: usize,
        /// What it says between the braces.
        variable: String,
        /// What it may say.
        known: String,
    },
    /// A brace that is not closed, or not opened.
    #[error("template {notice}: line {line}: a brace stands alone (`{{{{` and `}}}}` write one)")]
    Brace {
        /// The notice.
        notice: &'static str,
        /// The line of the file, from 1.
        line: usize,
    },
    /// The first lines are not `version: N` and `subject: …`, or the body is missing.
    #[error("template {notice}: {what}")]
    Head {
        /// The notice.
        notice: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

/// A notice ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rendered {
    /// The version of the template that it was made from.
    pub version: u32,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    version: u32,
    subject: Vec<Piece>,
    body: Vec<Piece>,
}

/// All templates, loaded and checked.
#[derive(Debug, Clone)]
pub struct Messages {
    templates: BTreeMap<(Notice, Language), Template>,
}

impl Messages {
    /// Loads the templates that are compiled in.
    ///
    /// # Errors
    /// The first template that is not well formed or names an unknown variable.
    pub fn load() -> Result<Self, TemplateError> {
        let mut templates = BTreeMap::new();
        for notice in Notice::ALL {
            for language in [Language::Zh, Language::En] {
                templates.insert((notice, language), Template::parse(notice, notice.source(language))?);
            }
        }
        Ok(Self { templates })
    }

    /// Replaces one template by another text.
    ///
    /// # Errors
    /// When the text is not well formed or names an unknown variable; the old template stays.
    pub fn replace(&mut self, notice: Notice, language: Language, text: &str) -> Result<(), TemplateError> {
        self.templates.insert((notice, language), Template::parse(notice, text)?);
        Ok(())
    }

    /// The notice as text. A variable of the notice that is not given is empty; one that is given and not used is fine.
    #[must_use]
    pub fn render(&self, notice: Notice, language: Language, values: &[(&str, String)]) -> Rendered {
        let template = &self.templates[&(notice, language)];
        let fill = |pieces: &[Piece]| {
            pieces.iter().fold(String::new(), |mut text, piece| {
                match piece {
                    Piece::Text(literal) => text.push_str(literal),
                    Piece::Variable(name) => {
                        text.push_str(values.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value));
                    }
                }
                text
            })
        };
        // A value with a line break may not add a header to a mail.
        let subject = fill(&template.subject).replace(['\r', '\n'], " ");
        Rendered { version: template.version, subject, body: fill(&template.body) }
    }
}

impl Template {
    /// `version: N`, `subject: …`, an empty line, the body.
    fn parse(notice: Notice, text: &str) -> Result<Self, TemplateError> {
        let head = |what| TemplateError::Head { notice: notice.as_str(), what };
        let mut lines = text.lines();
        let version = lines.next().and_then(|line| line.strip_prefix("version: ")).and_then(|n| n.trim().parse().ok());
        let version = version.ok_or(head("line 1 must be `version: N`"))?;
        let subject = lines.next().and_then(|line| line.strip_prefix("subject: "));
        let subject = subject.ok_or(head("line 2 must be `subject: …`"))?;
        if lines.next() != Some("") {
            return Err(head("line 3 must be empty"));
        }
        let body: Vec<_> = lines.collect();
        if body.join("").trim().is_empty() {
            return Err(head("there is no text"));
        }
        Ok(Self { version, subject: pieces(notice, subject, 2)?, body: pieces(notice, &(body.join("\n") + "\n"), 4)? })
    }
}

fn pieces(notice: Notice, text: &str, first_line: usize) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let line = first_line + text[..text.len() - rest.len() + at].matches('\n').count();
        literal.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            literal.push_str(&tail[..1]);
            rest = &tail[2..];
            continue;
        }
        let closed = tail.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = closed.ok_or(TemplateError::Brace { notice: notice.as_str(), line })?;
        if !notice.variables().contains(&name) {
            let known = notice.variables().join(", ");
            return Err(TemplateError::UnknownVariable { notice: notice.as_str(), line, variable: name.into(), known });
        }
        pieces.push(Piece::Text(std::mem::take(&mut literal)));
        pieces.push(Piece::Variable(name.to_owned()));
        rest = after;
    }
    literal.push_str(rest);
    pieces.push(Piece::Text(literal));
    Ok(pieces)
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
