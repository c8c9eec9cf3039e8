//! Server frames written into a caller's buffer. Nothing here allocates on its own: bytes are
//! only appended to the `Vec` that was given.

use super::info::Info;
use crate::json;

/// The server's ping.
pub const PING: &[u8] = b"PING\r\n";
/// The answer to a ping.
pub const PONG: &[u8] = b"PONG\r\n";
/// The answer to each accepted operation under `verbose`.
pub const OK: &[u8] = b"+OK\r\n";
/// The end of every line and payload.
pub const CR_LF: &[u8] = b"\r\n";

/// Appends a number in decimal.
#[inline]
pub fn push_u64(out: &mut Vec<u8>, number: u64) {
    // One digit is the most common size and sid by far in small-message traffic.
    if let Ok(small @ 0..=9) = u8::try_from(number) {
        out.push(b'0' | small);
        return;
    }
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends the control line of `MSG` (`header_len` is `None`) or `HMSG`, line end included.
/// `total_len` counts headers and payload.
#[inline]
pub fn push_msg_line(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_len: Option<usize>,
    total_len: usize,
) {
    out.extend_from_slice(if header_len.is_some() {
        b"HMSG "
    } else {
        b"MSG "
    });
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    if let Some(len) = header_len {
        push_u64(out, len as u64);
        out.push(b' ');
    }
    push_u64(out, total_len as u64);
    out.extend_from_slice(CR_LF);
}

/// Appends a whole message. `body` is the header block, if any, followed by the payload;
/// `header_len` is `None` for a plain `MSG`.
#[inline]
pub fn push_msg(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_len: Option<usize>,
    body: &[u8],
) {
    push_msg_line(out, subject, sid, reply, header_len, body.len());
    out.extend_from_slice(body);
    out.extend_from_slice(CR_LF);
}

/// Appends the status message that tells a requester that nobody listens on `subject`.
pub fn push_no_responders(out: &mut Vec<u8>, reply: &[u8], sid: &[u8], subject: &[u8]) {
    const BEFORE: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    const AFTER: &[u8] = b"\r\n\r\n";
    let len = BEFORE.len() + subject.len() + AFTER.len();
    push_msg_line(out, reply, sid, None, Some(len), len);
    out.extend_from_slice(BEFORE);
    out.extend_from_slice(subject);
    out.extend_from_slice(AFTER);
    out.extend_from_slice(CR_LF);
}

/// Appends `INFO {json} ` and the line end; the blank before it is part of the protocol.
pub fn push_info(out: &mut Vec<u8>, info: &Info) {
    out.extend_from_slice(b"INFO ");
    json::push(out, info);
    out.extend_from_slice(b" \r\n");
}

/// Appends `-ERR '<text>'` and the line end. Line breaks inside the text become blanks, so that
/// no error can carry a frame of its own.
pub fn push_err(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"-ERR '");
    out.extend(
        text.bytes()
            .map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }),
    );
    out.extend_from_slice(b"'\r\n");
}
