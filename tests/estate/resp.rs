//! Redis' wire format, as far as a proxy needs it: where a frame ends, and the words of a command.

/// Bytes of the first complete frame; `None` while some are missing.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let count = std::str::from_utf8(&bytes[1..head - 2]).ok()?.parse::<i64>().unwrap_or(0);
    let many = usize::try_from(count).unwrap_or(0);
    match bytes[0] {
        b'$' | b'=' | b'!' if count >= 0 => Some(head + many + 2).filter(|end| *end <= bytes.len()),
        b'*' | b'~' | b'>' => frames_len(bytes, head, many),
        b'%' => frames_len(bytes, head, many * 2),
        b'|' => frames_len(bytes, head, many * 2 + 1),
        _ => Some(head),
    }
}

fn frames_len(bytes: &[u8], mut at: usize, many: usize) -> Option<usize> {
    for _ in 0..many {
        at += frame_len(bytes.get(at..)?)?;
    }
    Some(at)
}

/// The words of a command: an array of bulk strings.
pub fn words(frame: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let Some(mut at) = frame.windows(2).position(|two| two == b"\r\n").map(|end| end + 2) else { return words };
    while let Some(len) = frame.get(at..).filter(|rest| !rest.is_empty()).and_then(frame_len) {
        words.push(bulk(&frame[at..at + len]));
        at += len;
    }
    words
}

/// The bytes of a bulk string.
pub fn bulk(frame: &[u8]) -> &[u8] {
    match frame.windows(2).position(|two| two == b"\r\n") {
        Some(end) if frame.len() >= end + 4 => &frame[end + 2..frame.len() - 2],
        _ => &[],
    }
}

#[test]
fn frames_end_where_they_end_however_they_are_cut() {
    let whole = b"*3\r\n$7\r\nEVALSHA\r\n$0\r\n\r\n$2\r\n\r\n\r\n+OK\r\n";
    let first = whole.len() - 5;
    for cut in 0..first {
        assert_eq!(frame_len(&whole[..cut]), None, "{cut}");
    }
    assert_eq!(frame_len(whole), Some(first));
    assert_eq!(words(&whole[..first]), [&b"EVALSHA"[..], b"", b"\r\n"]);
    assert_eq!(frame_len(b"%1\r\n+a\r\n*-1\r\n"), Some(13));
    assert_eq!(frame_len(b"$-1\r\n+a"), Some(5));
}
