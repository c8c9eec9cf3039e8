//! A NATS server of a few dozen lines: enough for the harness's scenarios, slow, and able to
//! misbehave on purpose.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// How the server treats messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Honest,
    /// Forgets the delivery with this number.
    Loses(u64),
    /// Makes the delivery with this number twice.
    Doubles(u64),
    /// Closes the subscriber instead of making the delivery with this number.
    Closes(u64),
    /// Refuses every login.
    Refuses,
}

struct Sub {
    subject: String,
    sid: String,
    queue: Option<String>,
    out: Arc<Mutex<TcpStream>>,
    conn: u64,
}

#[derive(Default)]
struct State {
    subs: Vec<Sub>,
    deliveries: u64,
    turn: usize,
}

/// Starts the server on a free port; it lives as long as the test process.
pub(crate) fn start(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let state = Arc::new(Mutex::new(State::default()));
    thread::spawn(move || {
        for (conn, stream) in (0..).zip(listener.incoming().flatten()) {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                // A client that goes away ends its thread; nothing else is lost.
                let _ = serve(&stream, conn, &state, manner);
                state.lock().unwrap().subs.retain(|s| s.conn != conn);
            });
        }
    });
    addr
}

fn serve(
    stream: &TcpStream,
    conn: u64,
    state: &Mutex<State>,
    manner: Manner,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let out = Arc::new(Mutex::new(stream.try_clone()?));
    let say = |text: &[u8]| out.lock().unwrap().write_all(text);
    say(b"INFO {\"server_id\":\"fake\",\"max_payload\":1048576}\r\n")?;
    let mut input = BufReader::with_capacity(64 * 1024, stream);
    let (mut line, mut payload) = (String::new(), Vec::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["CONNECT", ..] if manner == Manner::Refuses => {
                say(b"-ERR 'Authorization Violation'\r\n")?;
                return Ok(());
            }
            ["PING"] => say(b"PONG\r\n")?,
            ["SUB", subject, ref rest @ .., sid] => {
                let (subject, sid) = (subject.to_owned(), sid.to_owned());
                let queue = rest.first().map(|q| (*q).to_owned());
                let out = Arc::clone(&out);
                state.lock().unwrap().subs.push(Sub { subject, sid, queue, out, conn });
            }
            ["PUB", subject, ref reply @ .., size] => {
                payload.resize(size.parse::<usize>().unwrap() + 2, 0);
                input.read_exact(&mut payload)?;
                state.lock().unwrap().publish(subject, reply.first(), &payload, manner);
            }
            _ => {}
        }
    }
}

impl State {
    fn publish(&mut self, subject: &str, reply: Option<&&str>, payload: &[u8], manner: Manner) {
        let matching: Vec<usize> =
            (0..self.subs.len()).filter(|i| matches(&self.subs[*i].subject, subject)).collect();
        let (queued, mut chosen): (Vec<usize>, Vec<usize>) =
            matching.into_iter().partition(|i| self.subs[*i].queue.is_some());
        if !queued.is_empty() {
            self.turn += 1;
            chosen.push(queued[self.turn % queued.len()]);
        }
        for index in chosen {
            let sub = &self.subs[index];
            let reply = reply.map_or(String::new(), |r| format!(" {r}"));
            let size = payload.len() - 2;
            let mut frame = format!("MSG {subject} {}{reply} {size}\r\n", sub.sid).into_bytes();
            frame.extend_from_slice(payload);
            self.deliveries += 1;
            let mut out = sub.out.lock().unwrap();
            let copies = match manner {
                Manner::Loses(n) if n == self.deliveries => 0,
                Manner::Doubles(n) if n == self.deliveries => 2,
                Manner::Closes(n) if n == self.deliveries => {
                    let _ = out.shutdown(std::net::Shutdown::Both);
                    0
                }
                _ => 1,
            };
            for _ in 0..copies {
                // A subscriber that is gone is seen by its own thread.
                let _ = out.write_all(&frame);
            }
        }
    }
}

/// Whether a subscription with at most a last token `*` takes a subject.
fn matches(pattern: &str, subject: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(start) => subject
            .strip_prefix(start)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|last| !last.is_empty() && !last.contains('.')),
        None => pattern == subject,
    }
}
