//! Makes a receiver's answer fit for our log.
//!
//! An answer may echo our headers or carry the receiver's own secrets, and it is shown to the endpoint's owner. What
//! looks like a credential is blotted out, control characters are dropped, and the length is bounded.

/// The most that is kept of an answer.
pub const KEPT: usize = 2048;
const BLOT: &str = "[redacted]";
const LONG_TOKEN: usize = 24;
const NAMES: [&str; 9] =
    ["password", "passwd", "secret", "token", "authorization", "cookie", "apikey", "api_key", "api-key"];

/// The start of an answer as text, at most 2 KiB, without what looks like a credential.
pub fn answer(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT)]);
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    let mut blot_next = false;
    for c in text.chars() {
        if is_word(c) {
            word.push(c);
            continue;
        }
        flush(&mut word, &mut out, &mut blot_next);
        // A name and its value may stand on one line only.
        blot_next &= c != '\n';
        out.push(if c.is_control() && c != '\n' { ' ' } else { c });
    }
    flush(&mut word, &mut out, &mut blot_next);
    truncate(&mut out, KEPT);
    out
}

/// Scheme, host and path of a `Location`; the query may hold a session.
pub fn location(value: &str) -> String {
    let mut text: String =
        value.split(['?', '#']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    if let (Some(scheme), Some(at)) = (text.find("//"), text.rfind('@'))
        && scheme < at
    {
        text.replace_range(scheme + 2..at, "…");
    }
    truncate(&mut text, 256);
    text
}

/// Cuts at a character's border.
pub fn truncate(text: &mut String, most: usize) {
    let mut at = most.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '.' | '~' | '%')
}

fn flush(word: &mut String, out: &mut String, blot_next: &mut bool) {
    if word.is_empty() {
        return;
    }
    let lower = word.to_ascii_lowercase();
    let scheme = matches!(lower.as_str(), "bearer" | "basic" | "v1");
    let named = NAMES.iter().any(|name| lower.ends_with(name));
    match *blot_next && !scheme || looks_secret(word) {
        true => out.push_str(BLOT),
        false => out.push_str(word),
    }
    *blot_next = scheme || named;
    word.clear();
}

/// `whsec_…`, keys of ours, and long words that mix letters and digits: tokens, hashes, signatures.
fn looks_secret(word: &str) -> bool {
    let mixed = word.chars().any(|c| c.is_ascii_digit()) && word.chars().any(|c| c.is_ascii_alphabetic());
    word.starts_with("whsec_") || (word.len() >= LONG_TOKEN && mixed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ordinary_answer_is_kept() {
        let text = "{\"ok\":false,\"message\":\"Unknown tenant t-001, see /docs/errors\"}\n";
        assert_eq!(answer(text.as_bytes()), text);
    }

    #[test]
    fn what_looks_like_a_credential_is_blotted_out() {
        for (given, hidden) in [
            ("got whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD back", "C2FV"),
            ("Authorization: Bearer abc.def", "abc"),
            ("{\"password\":\"hunter2\"}", "hunter2"),
            ("client_secret=pie", "pie"),
            ("webhook-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=", "tZ1I"),
            ("Set-Cookie: sid=5", "sid"),
            ("id 4c1f6f0bd2a94f5d9be0f5c3a1d2e3f4", "4c1f"),
        ] {
            assert!(!answer(given.as_bytes()).contains(hidden), "{}", answer(given.as_bytes()));
        }
    }

    #[test]
    fn a_location_loses_its_query_and_user() {
        assert_eq!(location("https://u:p@host/path?session=1#x"), "https://…@host/path");
        assert_eq!(location("/login?next=%2F"), "/login");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_bounded_text_without_controls(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let text = answer(&bytes);
            prop_assert!(text.len() <= KEPT);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            let _ = location(&String::from_utf8_lossy(&bytes));
        }
    }
}
