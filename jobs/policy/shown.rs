//! Text that comes from outside and is shown or sent again: names, labels, addresses. One rule for all, at the border.
//!
//! Guards that no name moves the cursor of a terminal, ends a line, or is read in another order than it was written; and
//! that an address which no notice can go to is refused while somebody is there to hear it.

use super::refusal::Refusal;

/// Bytes of an address, RFC 5321.
const EMAIL_BYTES: std::ops::RangeInclusive<usize> = 3..=254;
/// Characters of a telephone number with its blanks.
const MOBILE_CHARS: std::ops::RangeInclusive<usize> = 3..=32;

/// Whether a terminal would obey the character rather than show it: control characters, line ends, and what turns the
/// direction of reading round.
#[must_use]
pub fn is_unshown(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Refuses a name or a label that cannot be shown as it is.
pub fn check_name(rule: &'static str, field: &str, text: &str) -> Result<(), Refusal> {
    match text.chars().find(|c| is_unshown(*c)) {
        None => Ok(()),
        Some(c) => {
            let detail = format!("it has the character U+{:04X}, which cannot be shown", u32::from(c));
            Err(Refusal::invalid(rule, field, detail)
                .with_remedy("leave out control characters and those that turn the direction of text"))
        }
    }
}

/// Refuses what is no e-mail address; an empty one is none at all.
pub fn check_email(rule: &'static str, field: &str, text: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_graphic() && !",;:<>()[]\"\\".contains(c);
    let sides = text.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && !host.is_empty() && !host.contains('@') && !host.starts_with('.') && !host.ends_with('.')
    });
    if text.trim().is_empty() || (sides && EMAIL_BYTES.contains(&text.len()) && text.chars().all(plain)) {
        return Ok(());
    }
    Err(Refusal::invalid(rule, field, "it is not one e-mail address").with_limit("name@host, ASCII, at most 254 bytes"))
}

/// Refuses what is no telephone number; an empty one is none at all.
pub fn check_mobile(rule: &'static str, field: &str, text: &str) -> Result<(), Refusal> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || "+-() ".contains(c));
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let sound = plain && digits >= 3 && MOBILE_CHARS.contains(&text.len());
    if text.trim().is_empty() && plain || sound {
        return Ok(());
    }
    Err(Refusal::invalid(rule, field, "it is not a telephone number")
        .with_limit("digits, with `+`, `-`, brackets and blanks between them, at most 32 characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_terminal_shows() {
        for name in ["备份 – before 2.0", "a\u{301}", "👍🏽", "שלום", "tab-less"] {
            assert!(check_name("ENG-01", "name", name).is_ok(), "{name:?}");
        }
        for name in ["a\u{1b}[2J", "a\0", "a\nb", "a\tb", "\u{9b}31m", "cod\u{202e}gpj.exe", "\u{2066}x", "a\u{2028}b"]
        {
            let refused = check_name("ENG-01", "name", name).err();
            assert!(refused.is_some_and(|no| !no.to_string().chars().any(is_unshown)), "{name:?}");
        }
    }

    #[test]
    fn an_address_is_one_that_mail_can_go_to() {
        for good in ["a@b", "first.last+tag@mail.example.com", "", " "] {
            assert!(check_email("ENG-01", "email", good).is_ok(), "{good:?}");
        }
        let long = format!("{}@example.com", "a".repeat(250));
        let bad =
            ["a", "@b", "a@", "a@@b", "a@b\r\nBcc: c@d", "a@b, c@d", "a <a@b>", "ä@b", "a b@c", "a@.b", "a@b.", &long];
        for bad in bad {
            assert!(check_email("ENG-01", "email", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mobile_is_a_number_that_can_be_dialled() {
        for good in ["138", "13800000000", "+86 (139) 1234-5678", "", " "] {
            assert!(check_mobile("ENG-01", "mobile", good).is_ok(), "{good:?}");
        }
        for bad in ["12", "call me", "138\r\n139", "138;139", "+-()", "１３８", &"1".repeat(33)] {
            assert!(check_mobile("ENG-01", "mobile", bad).is_err(), "{bad:?}");
        }
    }
}
