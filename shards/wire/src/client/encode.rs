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
    out.extend_from_slice(if header_len.is_some() { b"HMSG " } else { b"MSG " });
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
    out.extend(text.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
    out.extend_from_slice(b"'\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::errors::ClientError;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages() {
        let plain = written(|out| push_msg(out, b"foo", b"9", None, None, b"hi"));
        assert_eq!(plain, "MSG foo 9 2\r\nhi\r\n");
        let reply = written(|out| push_msg(out, b"foo", b"9", Some(b"r"), None, b""));
        assert_eq!(reply, "MSG foo 9 r 0\r\n\r\n");
        let block = b"NATS/1.0\r\nA: b\r\n\r\nhi";
        let headers = written(|out| push_msg(out, b"f", b"9", Some(b"r"), Some(18), block));
        assert_eq!(headers, "HMSG f 9 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n");
        // Replies made by the server itself may have an empty reply field, hence two blanks.
        let empty = written(|out| push_msg(out, b"f", b"9", Some(b""), None, b""));
        assert_eq!(empty, "MSG f 9  0\r\n\r\n");
    }

    #[test]
    fn no_responders() {
        let text = written(|out| push_no_responders(out, b"_INBOX.x", b"2", b"foo.x"));
        assert_eq!(
            text,
            "HMSG _INBOX.x 2 37 37\r\nNATS/1.0 503\r\nNats-Subject: foo.x\r\n\r\n\r\n"
        );
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 9, 10, 99, 1_048_576, u64::MAX] {
            assert_eq!(written(|out| push_u64(out, number)), number.to_string());
        }
    }

    #[test]
    fn errors() {
        let text = ClientError::UnknownOperation.text();
        let line = written(|out| push_err(out, &text));
        assert_eq!(line, "-ERR 'Unknown Protocol Operation'\r\n");
        assert_eq!(written(|out| push_err(out, "a\r\nb")), "-ERR 'a  b'\r\n");
    }

    /// Byte for byte what nats-server 2.15.1 sent for the same values.
    #[test]
    fn info_of_a_running_server() {
        let info = Info {
            server_id: "NCS6BANQEILY2BXAALLEXBMY7MNHL3Q6UBRTFRHOV4F336P3A6BDZUFB".to_owned(),
            server_name: "a<b>&c'é".to_owned(),
            version: "2.15.1".to_owned(),
            git_commit: "b2fd3ef".to_owned(),
            go: "go1.27.2".to_owned(),
            host: "x.y".to_owned(),
            port: 99,
            client_id: 5,
            client_ip: "127.0.0.1".to_owned(),
            api_level: 5,
            ..Info::default()
        };
        assert_eq!(
            written(|out| push_info(out, &info)),
            concat!(
                r#"INFO {"server_id":"NCS6BANQEILY2BXAALLEXBMY7MNHL3Q6UBRTFRHOV4F336P3A6BDZUFB","#,
                r#""server_name":"a\u003cb\u003e\u0026c'é","version":"2.15.1","proto":1,"#,
                r#""git_commit":"b2fd3ef","go":"go1.27.2","host":"x.y","port":99,"headers":true,"#,
                r#""max_payload":1048576,"client_id":5,"client_ip":"127.0.0.1","api_lvl":5} "#,
                "\r\n"
            )
        );
        let after_ping = Info {
            auth_required: true,
            connect_info: true,
            remote_account: "$G".to_owned(),
            xkey: "X".to_owned(),
            ..info
        };
        let text = written(|out| push_info(out, &after_ping));
        let tail = r#""client_ip":"127.0.0.1","connect_info":true,"remote_account":"$G","#;
        assert!(text.contains(tail), "{text}");
        assert!(text.contains(r#""headers":true,"auth_required":true,"max_payload":"#));
        assert!(text.ends_with("\"api_lvl\":5,\"xkey\":\"X\"} \r\n"));
    }
}
