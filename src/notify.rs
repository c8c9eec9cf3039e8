//! Tells the service manager how far the process is (`Type=notify` of systemd).
//!
//! A datagram to the socket named by `NOTIFY_SOCKET`. Without that variable there is no
//! manager and nothing is sent.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// What to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The server accepts clients, at first or after a reload.
    Ready,
    /// The configuration is being read again. `Ready` follows.
    Reloading,
    /// The server is about to end.
    Stopping,
}

/// Tells the service manager, when there is one. Returns whether there is.
///
/// # Errors
///
/// The socket cannot be reached. A server logs that and goes on.
pub fn tell(progress: Progress) -> io::Result<bool> {
    match std::env::var("NOTIFY_SOCKET") {
        Ok(socket) if !socket.is_empty() => tell_at(&socket, progress).map(|()| true),
        _ => Ok(false),
    }
}

fn tell_at(socket: &str, progress: Progress) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let text = match progress {
        Progress::Ready => "READY=1".to_owned(),
        Progress::Stopping => "STOPPING=1".to_owned(),
        Progress::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
            format!("RELOADING=1\nMONOTONIC_USEC={micros}")
        }
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(server: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let count = server.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn states_reach_a_socket_with_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let server = UnixDatagram::bind(&path).unwrap();
        let path = path.to_str().unwrap();
        tell_at(path, Progress::Ready).unwrap();
        assert_eq!(received(&server), "READY=1");
        tell_at(path, Progress::Reloading).unwrap();
        let text = received(&server);
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        drop(server);
        assert!(tell_at(path, Progress::Stopping).is_err());
    }

    #[test]
    fn states_reach_an_abstract_socket() {
        let name = format!("shearwater-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let server = UnixDatagram::bind_addr(&address).unwrap();
        tell_at(&format!("@{name}"), Progress::Stopping).unwrap();
        assert_eq!(received(&server), "STOPPING=1");
    }
}
