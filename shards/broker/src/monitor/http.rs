//! HTTP/1.1 for the monitoring port as a machine: bytes in, requests and bytes out. One request
//! is answered at a time; what a client sends meanwhile waits within a limit.
//!
//! Differences from nats-server's HTTP library: heads are limited to 8 KiB, a connection is
//! closed after a request with a chunked body, and there is no `Date`.

use super::query::percent_decoded;
use super::response::{PLAIN, Response};
use super::settings::{
    BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, PIPELINE_BYTES_MAX, REQUESTS_PER_CONNECTION_MAX,
};

/// What the driver has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Find the answer and give it to [`HttpConn::handle_response`].
    Request(HttpRequest),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Close the connection once everything has been sent.
    Close,
}

/// A request for a page. Both parts are as the client wrote them, for
/// [`parse_request`](super::parse_request).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// The path, beginning with a slash.
    pub path: Vec<u8>,
    /// What stood behind the question mark; empty for nothing.
    pub query: Vec<u8>,
}

/// One monitoring connection. Any method is served like GET, as nats-server does; HEAD without
/// the body.
#[derive(Debug, Default)]
pub struct HttpConn {
    input: Vec<u8>,
    phase: Phase,
    /// Body bytes of the current request that are still to be thrown away.
    body_left: u64,
    answered: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Collecting a head.
    #[default]
    Reading,
    /// A request waits for its answer.
    Answering(Manner),
    /// Nothing more is read or sent.
    Closed,
}

/// How the answer to a request has to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Manner {
    is_head: bool,
    is_http_1_0: bool,
    keeps_open: bool,
}

/// A head that was read.
struct Head {
    bytes: usize,
    target: Target,
    manner: Manner,
    body: u64,
}

enum Target {
    Page(HttpRequest),
    /// `OPTIONS *`, answered without a page.
    Server,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Malformed,
    MissingHost,
    TooLarge,
    Version,
}

impl Fault {
    /// The status line's text, which is the body too.
    const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::MissingHost => "400 Bad Request: missing required Host header",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::Version => "505 HTTP Version Not Supported: unsupported protocol version",
        }
    }
}

impl HttpConn {
    /// A connection from which nothing has been read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the driver should read from the socket. While a request is being answered it
    /// should not, so that the client's window closes instead of our limit being reached.
    pub fn wants_input(&self) -> bool {
        self.phase == Phase::Reading
    }

    /// Whether the client has not begun a request. The driver allows
    /// [`IDLE_TIMEOUT_NS`](super::settings::IDLE_TIMEOUT_NS) for this and
    /// [`HEAD_TIMEOUT_NS`](super::settings::HEAD_TIMEOUT_NS) otherwise.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Reading && self.input.is_empty() && self.body_left == 0
    }

    /// Takes what was read from the socket.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.phase == Phase::Closed {
            return steps;
        }
        let is_ahead = self.phase != Phase::Reading;
        self.input.extend_from_slice(input);
        self.advance(&mut steps);
        // What came together with the request is bounded by the driver's read.
        if is_ahead && self.input.len() > PIPELINE_BYTES_MAX {
            self.close(&mut steps);
        }
        steps
    }

    /// Takes the answer to the last [`Step::Request`]. Without one, nothing happens.
    pub fn handle_response(&mut self, response: &Response) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Phase::Answering(manner) = self.phase {
            self.answer(response, manner, &mut steps);
            self.advance(&mut steps);
        }
        steps
    }

    fn advance(&mut self, steps: &mut Vec<Step>) {
        loop {
            self.drop_body();
            match self.phase {
                Phase::Closed | Phase::Answering(_) => return,
                Phase::Reading if self.input.is_empty() => return,
                Phase::Reading => {}
            }
            match read_head(&self.input) {
                Ok(None) => return,
                Ok(Some(head)) => self.begin(head, steps),
                Err(fault) => {
                    steps.push(Step::Send(refusal(fault)));
                    self.close(steps);
                    return;
                }
            }
        }
    }

    fn drop_body(&mut self) {
        let held = u64::try_from(self.input.len()).unwrap_or(u64::MAX);
        let dropped = self.body_left.min(held);
        self.body_left -= dropped;
        self.drop_input(usize::try_from(dropped).unwrap_or(usize::MAX));
    }

    fn drop_input(&mut self, bytes: usize) {
        if bytes >= self.input.len() {
            // An idle connection keeps no buffer.
            self.input = Vec::new();
        } else {
            self.input.drain(..bytes);
        }
    }

    fn begin(&mut self, head: Head, steps: &mut Vec<Step>) {
        self.drop_input(head.bytes);
        self.answered = self.answered.saturating_add(1);
        let mut manner = head.manner;
        manner.keeps_open &= self.answered < REQUESTS_PER_CONNECTION_MAX;
        self.body_left = if manner.keeps_open { head.body } else { 0 };
        match head.target {
            Target::Page(request) => {
                self.phase = Phase::Answering(manner);
                steps.push(Step::Request(request));
            }
            Target::Server => {
                let nothing = Response::plain(200, Vec::new());
                self.answer(&nothing, manner, steps);
            }
        }
    }

    fn answer(&mut self, response: &Response, manner: Manner, steps: &mut Vec<Step>) {
        steps.push(Step::Send(reply(response, manner)));
        self.phase = Phase::Reading;
        if !manner.keeps_open {
            self.close(steps);
        }
    }

    fn close(&mut self, steps: &mut Vec<Step>) {
        self.phase = Phase::Closed;
        self.input = Vec::new();
        self.body_left = 0;
        steps.push(Step::Close);
    }
}

/// Reads a head if all of it has arrived. The outcome depends only on the first
/// [`HEAD_BYTES_MAX`] bytes, however they were split.
fn read_head(input: &[u8]) -> Result<Option<Head>, Fault> {
    let window = input.get(..HEAD_BYTES_MAX).unwrap_or(input);
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let bytes = match request.parse(window) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if window.len() == HEAD_BYTES_MAX => {
            return Err(Fault::TooLarge);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooLarge),
        Err(httparse::Error::Version) => return Err(version_fault(window)),
        Err(_) => return Err(Fault::Malformed),
    };
    let fields = Fields::read(request.headers)?;
    let is_http_1_0 = request.version == Some(0);
    match fields.hosts {
        0 if !is_http_1_0 => return Err(Fault::MissingHost),
        0 | 1 => {}
        _ => return Err(Fault::Malformed),
    }
    let target = read_target(
        request.method.unwrap_or_default(),
        request.path.unwrap_or_default().as_bytes(),
    )?;
    let wants_open = if is_http_1_0 { fields.keep_alive } else { !fields.close };
    // A body that is too long, of unknown length or held back for our consent is never read.
    let skips_body =
        fields.body <= BODY_BYTES_MAX && !fields.is_chunked && !(fields.expects && fields.body > 0);
    let manner = Manner {
        is_head: request.method == Some("HEAD"),
        is_http_1_0,
        keeps_open: wants_open && skips_body,
    };
    Ok(Some(Head { bytes, target, manner, body: fields.body }))
}

/// A request line with another version of HTTP is told so, anything else is not HTTP.
fn version_fault(window: &[u8]) -> Fault {
    let line = window.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let version = words.nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    match version {
        Some([major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() && words.next().is_none() =>
        {
            Fault::Version
        }
        _ => Fault::Malformed,
    }
}

/// The header fields that matter.
#[derive(Default)]
struct Fields {
    hosts: u32,
    close: bool,
    keep_alive: bool,
    is_chunked: bool,
    expects: bool,
    body: u64,
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, Fault> {
        let mut fields = Self::default();
        let mut length: Option<u64> = None;
        for header in headers {
            let value = header.value;
            if header.name.eq_ignore_ascii_case("host") {
                fields.hosts += 1;
            } else if header.name.eq_ignore_ascii_case("connection") {
                for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    fields.close |= word.eq_ignore_ascii_case(b"close");
                    fields.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if header.name.eq_ignore_ascii_case("content-length") {
                let found = read_length(value.trim_ascii()).ok_or(Fault::Malformed)?;
                if length.is_some_and(|length| length != found) {
                    return Err(Fault::Malformed);
                }
                length = Some(found);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                fields.is_chunked = true;
            } else if header.name.eq_ignore_ascii_case("expect") {
                fields.expects = true;
            }
        }
        fields.body = length.unwrap_or(0);
        Ok(fields)
    }
}

fn read_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn read_target(method: &str, target: &[u8]) -> Result<Target, Fault> {
    if target == b"*" {
        return if method == "OPTIONS" { Ok(Target::Server) } else { Err(Fault::Malformed) };
    }
    let local = without_authority(target).ok_or(Fault::Malformed)?;
    let (path, query) = match local.iter().position(|byte| *byte == b'?') {
        Some(at) => (local.get(..at), local.get(at + 1..)),
        None => (Some(local), Some(&b""[..])),
    };
    let (path, query) = (path.unwrap_or_default(), query.unwrap_or_default());
    let path = if path.is_empty() { b"/" } else { path };
    percent_decoded(path, false).ok_or(Fault::Malformed)?;
    Ok(Target::Page(HttpRequest { path: path.to_vec(), query: query.to_vec() }))
}

/// Takes scheme and authority off a target in absolute form; `None` when the target has neither
/// that form nor begins with a slash.
fn without_authority(target: &[u8]) -> Option<&[u8]> {
    if target.starts_with(b"/") {
        return Some(target);
    }
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let rest = schemes.iter().find_map(|scheme| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme).then_some(rest)
    })?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    rest.get(end..)
}

fn refusal(fault: Fault) -> Vec<u8> {
    let text = fault.text();
    format!(
        "HTTP/1.1 {text}\r\nContent-Type: {PLAIN}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}

const fn status_text(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        _ => "Internal Server Error",
    }
}

fn reply(response: &Response, manner: Manner) -> Vec<u8> {
    let version = if manner.is_http_1_0 { "1.0" } else { "1.1" };
    let mut bytes = Vec::with_capacity(256 + response.body.len());
    let status = format!("HTTP/{version} {} {}\r\n", response.status, status_text(response.status));
    bytes.extend_from_slice(status.as_bytes());
    if response.cors {
        bytes.extend_from_slice(b"Access-Control-Allow-Origin: *\r\n");
    }
    bytes.extend_from_slice(format!("Content-Type: {}\r\n", response.content_type).as_bytes());
    if let Some(location) = &response.location {
        bytes.extend_from_slice(b"Location: ");
        bytes.extend_from_slice(location);
        bytes.extend_from_slice(b"\r\n");
    }
    // Nothing a client sent may be taken by a browser for another kind of content.
    if response.content_type == PLAIN {
        bytes.extend_from_slice(b"X-Content-Type-Options: nosniff\r\n");
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n", response.body.len()).as_bytes());
    match (manner.keeps_open, manner.is_http_1_0) {
        (false, false) => bytes.extend_from_slice(b"Connection: close\r\n"),
        (true, true) => bytes.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, true) | (true, false) => {}
    }
    bytes.extend_from_slice(b"\r\n");
    if !manner.is_head {
        bytes.extend_from_slice(&response.body);
    }
    bytes
}

#[cfg(test)]
mod tests;
