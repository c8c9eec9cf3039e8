//! A raw connection: bytes out, lines in, each read with a deadline.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use async_nats::rustls::ClientConfig;
use serde_json::Value;

use super::DEADLINE;
use super::tls::TlsStream;

/// Bytes in both directions: a TCP socket, or TLS over one.
pub(crate) trait Stream: Read + Write + Send {
    /// The socket under it, to set time limits on.
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

/// What came instead of what was wanted.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The server closed the connection.
    Closed,
    /// Nothing complete came before the deadline.
    TimedOut,
}

/// One connection to a server.
pub(crate) struct Conn {
    stream: Box<dyn Stream>,
    /// Bytes received and not yet taken.
    buffer: Vec<u8>,
    /// How many bytes of the buffer have been taken.
    taken: usize,
    /// The last INFO that was read.
    pub(crate) info: Value,
    /// Whether a PING of the server is answered and skipped instead of given as a line.
    pub(crate) answers_pings: bool,
}

impl Conn {
    /// Opens a connection and reads nothing.
    pub(crate) fn open(port: u16) -> Self {
        Self::try_open(port).unwrap()
    }

    /// As [`Conn::open`], for a server that may refuse.
    pub(crate) fn try_open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream)))
    }

    /// A connection over a stream that is already set up.
    pub(crate) fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, buffer: Vec::new(), taken: 0, info: Value::Null, answers_pings: true }
    }

    /// Opens a connection and reads the greeting.
    pub(crate) fn greeted(port: u16) -> Self {
        let mut conn = Self::open(port);
        conn.read_info();
        conn
    }

    /// Opens a connection, logs in with these CONNECT fields and waits for the PONG.
    pub(crate) fn login(port: u16, connect: &str) -> Self {
        let mut conn = Self::greeted(port);
        conn.send(format!("CONNECT {connect}\r\nPING\r\n"));
        conn.expect("PONG");
        conn
    }

    /// A connection without verbose mode and without credentials.
    pub(crate) fn quiet(port: u16) -> Self {
        Self::login(port, r#"{"verbose":false,"pedantic":false}"#)
    }

    /// Sends these bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes to a server that may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.socket().set_write_timeout(Some(DEADLINE))?;
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Reads one INFO line and keeps its fields.
    pub(crate) fn read_info(&mut self) -> Value {
        let line = self.line().unwrap();
        let text = std::str::from_utf8(&line).unwrap();
        let json = text.strip_prefix("INFO ").unwrap_or_else(|| panic!("not an INFO: {text}"));
        self.info = serde_json::from_str(json).unwrap();
        self.info.clone()
    }

    /// The next line without its CR LF. Lines that do not end in CR LF are kept whole.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, Missing> {
        self.line_within(DEADLINE)
    }

    /// As [`Conn::line`], with a time limit of its own.
    pub(crate) fn line_within(&mut self, limit: Duration) -> Result<Vec<u8>, Missing> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(mut line) = self.take_line() {
                if line.ends_with(b"\r\n") {
                    line.truncate(line.len() - 2);
                }
                if self.answers_pings && line == b"PING" {
                    // The server may be closing; then the next read says so.
                    drop(self.try_send("PONG\r\n"));
                    continue;
                }
                return Ok(line);
            }
            self.fill(deadline)?;
        }
    }

    /// Exactly this line must come next.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: &str) {
        match self.line() {
            Ok(line) => assert_eq!(String::from_utf8_lossy(&line), wanted),
            Err(missing) => panic!("wanted {wanted:?}, got {missing:?}"),
        }
    }

    /// The next lines up to and without `end`, as text.
    pub(crate) fn lines_until(&mut self, end: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.line().unwrap()).into_owned();
            if line == end {
                return lines;
            }
            lines.push(line);
        }
    }

    /// Sends PING and takes PONG: all that was sent before has been handled, nothing else came.
    #[track_caller]
    pub(crate) fn sync(&mut self) {
        self.send("PING\r\n");
        self.expect("PONG");
    }

    /// Reads and drops whatever comes until the server closes; gives it as text.
    pub(crate) fn read_to_close(&mut self) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.fill(deadline) {
                Ok(()) => {}
                Err(Missing::Closed) => return self.pending_text(),
                Err(Missing::TimedOut) => panic!("still open after {:?}", self.pending_text()),
            }
        }
    }

    /// Sets the kernel's receive buffer to its least, so that a reader that stops is soon felt.
    pub(crate) fn shrink_receive_buffer(&self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(self.stream.socket(), 4096).unwrap();
    }

    /// Goes on in TLS from here, as a client does after it has read the greeting.
    pub(crate) fn start_tls(self, config: ClientConfig) -> Self {
        let socket = self.stream.socket().try_clone().unwrap();
        let mut secured = Self::over(Box::new(TlsStream::new(config, socket)));
        secured.info = self.info;
        secured
    }

    /// Whether received bytes wait to be taken.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending().is_empty()
    }

    /// Waits at most `limit` for bytes; tells whether some wait to be taken, other than a PING
    /// of the server, which is answered.
    pub(crate) fn wait_pending(&mut self, limit: Duration) -> bool {
        if !self.has_pending() {
            // Nothing within the limit is an answer too, and a close is found by the next read.
            drop(self.fill(Instant::now() + limit));
        }
        if self.answers_pings && self.pending().starts_with(b"PING\r\n") {
            self.taken += 6;
            drop(self.try_send("PONG\r\n"));
        }
        self.has_pending()
    }

    /// Bytes that have come and were not taken, as text.
    pub(crate) fn pending_text(&self) -> String {
        String::from_utf8_lossy(self.pending()).into_owned()
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The next whole line with its end, if it is there.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        // Reading from a slice cannot fail.
        self.pending().read_until(b'\n', &mut line).ok()?;
        line.ends_with(b"\n").then(|| {
            self.taken += line.len();
            line
        })
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), Missing> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Missing::TimedOut);
        }
        self.stream.socket().set_read_timeout(Some(left)).unwrap();
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Missing::Closed),
            Ok(count) => {
                self.buffer.drain(..std::mem::take(&mut self.taken));
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Missing::TimedOut),
                ErrorKind::Interrupted => Ok(()),
                _ => Err(Missing::Closed),
            },
        }
    }
}
