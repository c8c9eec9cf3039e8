//! A GET of a monitoring page, by hand, so that the test sees what the server really answers.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{DEADLINE, Server};

/// What a page answered.
pub(crate) struct Page {
    /// The status code.
    pub(crate) status: u16,
    /// The head, lower-cased.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
}

impl Page {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.body);
        parsed.unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

/// Gets `path` from the server's monitoring port.
pub(crate) fn get(server: &Server, path: &str) -> Page {
    let port = server.monitor_port.expect("monitoring is on");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let head = head.to_lowercase();
    let chunked = head.contains("transfer-encoding: chunked");
    let body = if chunked { join_chunks(body) } else { String::from(body) };
    Page { status: status.expect("a status code"), head, body }
}

/// Gets `path`, which must answer 200 with JSON.
pub(crate) fn json(server: &Server, path: &str) -> Value {
    let page = get(server, path);
    assert_eq!(page.status, 200, "{path}: {}", page.body);
    page.json()
}

fn join_chunks(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}
