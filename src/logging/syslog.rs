//! Lines for a syslog: the machine's own or one elsewhere.
//!
//! The shapes are nats-server's. Local: `<29>Nov 24 08:20:22 tag[pid]: text` with facility
//! daemon. Remote: `<5>2026-11-24T08:20:21Z host tag[pid]: text` with facility 0. The tag is
//! the program's own name, traces have the priority of notices.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{Timestamp, Zoned};

use super::LogError;
use super::format::{Label, Line, Stamp};
use super::writer::Sink;
use crate::error::os_text;

/// Where a machine's own syslog listens.
const LOCAL_PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Facility daemon, as part of the priority.
const DAEMON: u8 = 3 << 3;

/// Longest wait for a connection or a write. The log's thread waits, nobody else.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// After a failure lines are given up for this long before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Longest text in one datagram.
const DATAGRAM_TEXT_BYTES_MAX: usize = 32 * 1024;

/// A syslog and the connection to it.
pub(super) struct Syslog {
    peer: Peer,
    link: Option<Link>,
    retry_at: Option<Instant>,
    host: String,
    tag: String,
    pid: u32,
}

#[derive(Debug)]
enum Peer {
    Local(Vec<PathBuf>),
    Udp(String),
    Tcp(String),
    Unix(PathBuf),
}

enum Link {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Syslog {
    /// Connects to the machine's own syslog.
    pub(super) fn local() -> Result<Self, LogError> {
        Self::connect(Peer::Local(LOCAL_PATHS.iter().map(PathBuf::from).collect()))
    }

    /// Connects to `udp://host:port`, `tcp://host:port` or `unix:///path`.
    pub(super) fn remote(url: &str) -> Result<Self, LogError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(LogError::Network(String::new()));
        };
        let address = rest.trim_end_matches('/').to_owned();
        Self::connect(match scheme {
            "udp" => Peer::Udp(address),
            "tcp" => Peer::Tcp(address),
            "unix" => Peer::Unix(PathBuf::from(rest)),
            _ => return Err(LogError::Network(scheme.to_owned())),
        })
    }

    fn connect(peer: Peer) -> Result<Self, LogError> {
        let link = peer.link().map_err(|error| {
            LogError::Syslog(match &peer {
                Peer::Local(_) => "Unix syslog delivery error".to_owned(),
                Peer::Udp(address) => format!("dial udp {address}: {}", os_text(&error)),
                Peer::Tcp(address) => format!("dial tcp {address}: {}", os_text(&error)),
                Peer::Unix(path) => format!("dial unix {}: {}", path.display(), os_text(&error)),
            })
        })?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let tag = crate::portsfile::program_name();
        Ok(Self { peer, link: Some(link), retry_at: None, host, tag, pid: std::process::id() })
    }

    fn text_of(&self, line: &Line) -> String {
        let severity = match line.label {
            Label::Fatal => 2,
            Label::Error => 3,
            Label::Warn => 4,
            Label::Info | Label::Trace => 5,
            Label::Debug => 7,
        };
        // A clock before 1970 is wrong anyway; its lines say 1970.
        let at = Timestamp::try_from(line.at).unwrap_or_default();
        let at = at.to_zoned(jiff::tz::TimeZone::system());
        let (tag, pid, mut text) = (&self.tag, self.pid, line.text.as_str());
        if !matches!(self.link, Some(Link::Tcp(_) | Link::Stream(_))) {
            text = cut(text, DATAGRAM_TEXT_BYTES_MAX);
        }
        match self.peer {
            Peer::Local(_) => {
                let time = at.strftime("%b %e %H:%M:%S");
                format!("<{}>{time} {tag}[{pid}]: {text}\n", DAEMON | severity)
            }
            _ => format!("<{severity}>{} {} {tag}[{pid}]: {text}\n", rfc3339(&at), self.host),
        }
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        if self.link.is_none() {
            self.link = Some(self.peer.link()?);
        }
        match &mut self.link {
            Some(link) => link.send(text.as_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Sink for Syslog {
    fn append(&mut self, line: &Line, _: &mut Stamp) -> io::Result<()> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let text = self.text_of(line);
        // One new connection at once: the syslog may have been restarted, and a datagram may
        // only now report the failure of the one before.
        let sent = self.send(&text).or_else(|_| {
            self.link = None;
            self.send(&text)
        });
        match sent {
            Ok(()) => self.retry_at = None,
            Err(_) => {
                self.link = None;
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
            }
        }
        sent
    }

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn has_pending(&self) -> bool {
        false
    }

    fn name(&self) -> Option<String> {
        Some(match &self.peer {
            Peer::Local(_) => "the syslog".to_owned(),
            Peer::Udp(address) | Peer::Tcp(address) => format!("the syslog at {address}"),
            Peer::Unix(path) => format!("the syslog at {}", path.display()),
        })
    }
}

impl Peer {
    fn link(&self) -> io::Result<Link> {
        match self {
            Self::Local(paths) => first_of(paths, unix_link),
            Self::Unix(path) => unix_link(path),
            Self::Udp(address) => first_of(addresses(address)?, |address| {
                let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Ok(Link::Udp(socket))
            }),
            Self::Tcp(address) => first_of(addresses(address)?, |address| {
                let stream = TcpStream::connect_timeout(&address, WAIT_MAX)?;
                stream.set_write_timeout(Some(WAIT_MAX))?;
                Ok(Link::Tcp(stream))
            }),
        }
    }
}

impl Link {
    fn send(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram(socket) => socket.send(text).map(drop),
            Self::Udp(socket) => socket.send(text).map(drop),
            Self::Stream(stream) => stream.write_all(text),
            Self::Tcp(stream) => stream.write_all(text),
        }
    }
}

/// The longest beginning of `text` within `bytes_max` that ends between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn unix_link(path: impl AsRef<std::path::Path>) -> io::Result<Link> {
    let path = path.as_ref();
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(WAIT_MAX))?;
    match socket.connect(path) {
        Ok(()) => Ok(Link::Datagram(socket)),
        // The listener may be a stream instead.
        Err(_) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(WAIT_MAX))?;
            Ok(Link::Stream(stream))
        }
    }
}

fn addresses(address: &str) -> io::Result<std::vec::IntoIter<std::net::SocketAddr>> {
    if !address.contains(':') {
        return Err(io::Error::other("missing port in address"));
    }
    address.to_socket_addrs()
}

fn first_of<T>(
    all: impl IntoIterator<Item = T>,
    link: impl Fn(T) -> io::Result<Link>,
) -> io::Result<Link> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for one in all {
        match link(one) {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn rfc3339(at: &Zoned) -> String {
    if at.offset() == jiff::tz::Offset::UTC {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogTime;
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::SystemTime;

    fn line(label: Label, text: &str) -> Line {
        Line { label, at: SystemTime::now(), text: text.into() }
    }

    fn append(syslog: &mut Syslog, label: Label, text: &str) -> io::Result<()> {
        syslog.append(&line(label, text), &mut Stamp::new(1, LogTime::Off, false))
    }

    #[test]
    fn udp_lines_have_the_remote_shape() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let url = format!("udp://{}", server.local_addr().unwrap());
        let mut syslog = Syslog::remote(&url).unwrap();
        for (label, priority) in [
            (Label::Info, "<5>"),
            (Label::Trace, "<5>"),
            (Label::Warn, "<4>"),
            (Label::Error, "<3>"),
            (Label::Fatal, "<2>"),
            (Label::Debug, "<7>"),
        ] {
            append(&mut syslog, label, "hello  there").unwrap();
            let mut buffer = [0; 512];
            let count = server.recv(&mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer[..count]).unwrap();
            assert!(text.starts_with(priority), "{text}");
            assert!(text.ends_with(&format!("[{}]: hello  there\n", std::process::id())), "{text}");
            assert_eq!(text[priority.len()..].find('T'), Some(10), "{text}");
        }
    }

    #[test]
    fn tcp_lines_survive_a_restart_of_the_syslog() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut syslog =
            Syslog::remote(&format!("tcp://{}", server.local_addr().unwrap())).unwrap();
        let (mut first, _) = server.accept().unwrap();
        append(&mut syslog, Label::Info, "one").unwrap();
        let mut text = [0; 256];
        let count = first.read(&mut text).unwrap();
        assert!(std::str::from_utf8(&text[..count]).unwrap().ends_with(": one\n"));
        // Closing with unread bytes resets the connection, so that a later write fails.
        append(&mut syslog, Label::Info, "unread").unwrap();
        drop(first);
        let mut second = None;
        server.set_nonblocking(true).unwrap();
        for _ in 0..100_000 {
            append(&mut syslog, Label::Info, "two").unwrap();
            if let Ok((stream, _)) = server.accept() {
                second = Some(stream);
                break;
            }
        }
        let mut second = second.expect("a new connection");
        second.set_nonblocking(false).unwrap();
        let count = second.read(&mut text).unwrap();
        assert!(std::str::from_utf8(&text[..count]).unwrap().contains(": two\n"));
    }

    #[test]
    fn a_local_line_has_the_daemon_facility() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        server.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let missing = dir.path().join("none");
        let mut syslog = Syslog::connect(Peer::Local(vec![missing, path])).unwrap();
        append(&mut syslog, Label::Info, "hi").unwrap();
        let mut buffer = [0; 512];
        let count = server.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..count]).unwrap();
        assert!(text.starts_with("<29>"), "{text}");
        assert_eq!(text.as_bytes()[4 + 15], b' ', "{text}");
        assert!(text.ends_with(": hi\n"), "{text}");
    }

    #[test]
    fn a_dead_syslog_fails_fast_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::connect(Peer::Unix(path.clone())).unwrap();
        drop(server);
        std::fs::remove_file(&path).unwrap();
        assert!(append(&mut syslog, Label::Info, "lost").is_err());
        assert!(append(&mut syslog, Label::Info, "lost").is_err(), "within the pause");
        let server = UnixDatagram::bind(&path).unwrap();
        server.set_read_timeout(Some(WAIT_MAX)).unwrap();
        syslog.retry_at = Some(Instant::now());
        append(&mut syslog, Label::Info, "back").unwrap();
        assert!(server.recv(&mut [0; 256]).unwrap() > 0);
    }

    #[test]
    fn bad_addresses_are_refused_with_nats_servers_texts() {
        let refusal = |url: &str| match Syslog::remote(url) {
            Ok(_) => panic!("{url} connects"),
            Err(error) => error.to_string(),
        };
        assert_eq!(refusal("bogus://x:1"), "error invalid network type: \"bogus\"");
        assert_eq!(refusal("unix"), "error invalid network type: \"\"");
        assert_eq!(
            refusal("udp://127.0.0.1"),
            "error connecting to syslog: \"dial udp 127.0.0.1: missing port in address\""
        );
        assert!(refusal("unix:///nonexistent/s").ends_with("no such file or directory\""));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("abc", 5), "abc");
        assert_eq!(cut("aéé", 2), "a");
        assert_eq!(cut("aéé", 3), "aé");
    }

    #[test]
    fn remote_time_names_its_zone() {
        let time = |text: &str| rfc3339(&text.parse::<Zoned>().unwrap());
        assert_eq!(time("2026-11-24T08:20:21+00:00[UTC]"), "2026-11-24T08:20:21Z");
        assert_eq!(time("2026-11-24T08:20:21+05:30[+05:30]"), "2026-11-24T08:20:21+05:30");
    }
}
