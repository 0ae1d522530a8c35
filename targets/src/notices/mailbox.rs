//! Notices as files: `email/ID.eml`, `sms/ID.json`, `im/ID.json`.
//!
//! Invariant: the file's name comes from the notice's id alone, so that sending again writes the same file.

use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{Channel, Notice, Notices};
use crate::TargetError;
use crate::folder::{blocking, write_whole};

/// A mailbox folder.
pub(super) struct Mailbox {
    root: PathBuf,
}

impl Mailbox {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Notices for Mailbox {
    async fn send(&self, notice: &Notice) -> Result<(), TargetError> {
        check(notice)?;
        let name = file_name(&notice.id);
        let (path, content) = match notice.channel {
            Channel::Email => (self.root.join("email").join(format!("{name}.eml")), mail(notice)),
            Channel::Sms => (self.root.join("sms").join(format!("{name}.json")), json(notice)?),
            Channel::Im => (self.root.join("im").join(format!("{name}.json")), json(notice)?),
        };
        blocking(move || write_whole(&path, content.as_bytes(), Some(content.len() as u64)).map(|_| ())).await
    }
}

/// Line ends in a header would let a text add headers of its own.
fn check(notice: &Notice) -> Result<(), TargetError> {
    let refused = |why: &str| TargetError::BadName { name: notice.to.clone(), why: why.to_owned() };
    if notice.id.is_empty() {
        return Err(refused("the notice has no id"));
    }
    if notice.to.is_empty() || notice.to.chars().any(char::is_control) {
        return Err(refused("the receiver is empty or has control characters"));
    }
    let mail = notice.channel == Channel::Email;
    if mail && (!notice.to.is_ascii() || notice.to.contains([',', ';', ' ', '<', '>']) || !notice.to.contains('@')) {
        return Err(refused("it is not one e-mail address"));
    }
    Ok(())
}

/// The id where it is fit for a file's name, else its hash.
fn file_name(id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if id.len() <= 100 && id.chars().all(plain) && !id.starts_with('.') {
        id.to_owned()
    } else {
        format!("id-{}", hex::encode(&Sha256::digest(id.as_bytes())[..16]))
    }
}

/// An RFC 5322 message.
fn mail(notice: &Notice) -> String {
    let mut text = format!(
        "Date: {}\r\nFrom: Leasehold <leasehold@localhost>\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: <{}@leasehold>\r\n",
        chrono::Utc::now().to_rfc2822(),
        notice.to,
        header_words(&notice.subject),
        file_name(&notice.id),
    );
    text.push_str(
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    );
    let encoded = STANDARD.encode(notice.body.as_bytes());
    for line in encoded.as_bytes().chunks(76) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push_str("\r\n");
    }
    text
}

/// A header's text: as it is when it is plain and short, else RFC 2047 words that never cut a character.
fn header_words(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_ascii() && text.len() <= 60 && !text.contains("=?") {
        return text;
    }
    let mut words: Vec<String> = vec![String::new()];
    for c in text.chars() {
        // 45 bytes are 60 of base64, and 72 with the frame: a word may have 75.
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > 45) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let framed: Vec<String> =
        words.iter().map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word.as_bytes()))).collect();
    framed.join("\r\n ")
}

fn json(notice: &Notice) -> Result<String, TargetError> {
    let text = serde_json::to_string_pretty(notice);
    text.map_err(|error| TargetError::Corrupt { what: "a notice".to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chinese_subject_becomes_encoded_words_of_at_most_75_characters() {
        let header = header_words(&"您的环境租约将于30天后到期，请及时续约".repeat(4));
        assert!(header.is_ascii());
        for word in header.split("\r\n ") {
            assert!(word.len() <= 75 && word.starts_with("=?UTF-8?B?") && word.ends_with("?="), "{word}");
        }
        assert_eq!(header_words("plain"), "plain");
    }

    #[test]
    fn a_subject_cannot_add_a_header() {
        assert!(!header_words("x\r\nBcc: all@example.com").contains('\n'));
    }
}
