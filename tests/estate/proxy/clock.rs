//! A clock that jumped: what the process says and hears of the store's time is ahead of it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::resp;

/// The call of a script that leaves the time to the store, with the time that is `ahead_ms` from now instead.
pub fn in_call(words: &[&[u8]], ahead_ms: i64) -> Option<Vec<u8>> {
    const TIME: usize = 4;
    let calls = words.first()?.eq_ignore_ascii_case(b"EVALSHA") && words.get(TIME)? == b"0";
    if ahead_ms == 0 || !calls {
        return None;
    }
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let then = (now + ahead_ms).to_string();
    let words = words.iter().enumerate().map(|(n, word)| if n == TIME { then.as_bytes() } else { *word });
    Some(frame(words.collect()))
}

/// The answer to TIME, moved ahead.
pub fn in_reply(reply: &[u8], ahead_ms: i64) -> Option<Vec<u8>> {
    if ahead_ms == 0 || !reply.starts_with(b"*2\r\n$10\r\n") {
        return None;
    }
    let words = resp::words(reply);
    if words.iter().any(|word| word.is_empty() || !word.iter().all(u8::is_ascii_digit)) {
        return None;
    }
    let seconds: i64 = std::str::from_utf8(words[0]).unwrap().parse().unwrap();
    Some(frame(vec![(seconds + ahead_ms / 1000).to_string().as_bytes(), words[1]]))
}

fn frame(words: Vec<&[u8]>) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[test]
fn the_time_is_moved_in_calls_and_in_answers_and_nothing_else_is() {
    let call: [&[u8]; 6] = [b"EVALSHA", b"sha", b"1", b"{lh:0}", b"0", b"\r\n"];
    let moved = in_call(&call, 5000).unwrap();
    let words = resp::words(&moved);
    assert_eq!((words.len(), words[4].len(), words[5]), (6, 13, &b"\r\n"[..]));
    assert_eq!(resp::frame_len(&moved), Some(moved.len()));
    assert!(in_call(&call, 0).is_none() && in_call(&[b"GET", b"k"], 5000).is_none());
    let told = b"*2\r\n$10\r\n1795320000\r\n$3\r\n777\r\n";
    assert_eq!(in_reply(told, 5000).unwrap(), b"*2\r\n$10\r\n1795320005\r\n$3\r\n777\r\n");
    assert!(in_reply(b"*2\r\n$10\r\nabcdefghij\r\n$1\r\n7\r\n", 5000).is_none());
}
