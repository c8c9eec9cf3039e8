//! JetStream: the shapes of what the server says, and what transcripts cannot tell line by line.

mod at_rest;
mod backup;
mod consuming;
mod dead_letters;
mod flow;
mod monitor;
pub(crate) mod shapes;
mod storages;
mod watchdog;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::Conn;
use crate::support::server::Server;

/// The configuration of a server with JetStream.
const JETSTREAM: &str = "jetstream { store_dir: \"{dir}/js\" }";

/// A connection with an inbox of its own for answers.
struct Asker {
    conn: Conn,
    inbox: String,
}

impl Asker {
    fn new(server: &Server) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut conn = Conn::login(server.port, r#"{"verbose":false,"headers":true}"#);
        let inbox = format!("inbox.{}", COUNT.fetch_add(1, Ordering::Relaxed));
        conn.send(format!("SUB {inbox} 0\r\n"));
        Self { conn, inbox }
    }

    /// Sends a request and gives the answer's body, which must be no error.
    fn ask(&mut self, subject: &str, body: impl AsRef<[u8]>) -> String {
        let answer = self.ask_anyhow(subject, body);
        assert!(!answer.contains("\"error\""), "{answer}");
        answer
    }

    /// Sends a request and gives the answer's body.
    fn ask_anyhow(&mut self, subject: &str, body: impl AsRef<[u8]>) -> String {
        self.request(subject, body.as_ref());
        self.answer()
    }

    /// Publishes with these header lines, none if empty, and gives the answer's body.
    fn ask_with_headers(&mut self, subject: &str, headers: &str, body: &str) -> String {
        if headers.is_empty() {
            return self.ask_anyhow(subject, body);
        }
        let block = format!("NATS/1.0\r\n{headers}\r\n");
        let (head, all) = (block.len(), block.len() + body.len());
        self.conn.send(format!("HPUB {subject} {} {head} {all}\r\n{block}{body}\r\n", self.inbox));
        self.answer()
    }

    fn answer(&mut self) -> String {
        let head = text(&mut self.conn);
        assert!(head.starts_with(&format!("MSG {} 0 ", self.inbox)), "{head}");
        text(&mut self.conn)
    }

    /// Sends a request.
    fn request(&mut self, subject: &str, body: &[u8]) {
        self.conn.send(format!("PUB {subject} {} {}\r\n", self.inbox, body.len()));
        self.conn.send([body, b"\r\n"].concat());
    }
}

/// The next line as text.
fn text(conn: &mut Conn) -> String {
    String::from_utf8(conn.line().unwrap()).unwrap()
}
