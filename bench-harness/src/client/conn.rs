//! One connection to the server: plain or TLS, never blocking after its handshake.

use std::io::{self, BufRead as _, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustls::ClientConnection;

use crate::error::{During, HarnessError, Result};

/// The outcome of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// So many bytes, and perhaps more behind them.
    Data(usize),
    /// So many bytes, and the socket is known to be empty.
    Last(usize),
    /// Nothing there now.
    Empty,
    /// The server closed or reset the connection.
    Closed,
}

/// The outcome of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes that were taken.
    pub taken: usize,
    /// The socket is full: wait until it can be written again.
    pub full: bool,
}

/// A connection whose handshake is done.
pub struct Conn {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Conn {
    /// Takes over a connected, nonblocking stream.
    #[must_use]
    pub fn new(stream: TcpStream, tls: Option<Box<ClientConnection>>) -> Self {
        Self { stream, tls }
    }

    /// The socket below, for options.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads what is there into `buffer`, without waiting.
    ///
    /// # Errors
    /// Errors of the socket or of TLS other than an end of the connection.
    pub fn try_recv(&mut self, buffer: &mut [u8]) -> Result<Recv> {
        match &mut self.tls {
            None => recv_plain(&self.stream, buffer),
            Some(tls) => recv_tls(&self.stream, tls, buffer),
        }
    }

    /// True when the connection is encrypted; it must then be read until it is empty, since
    /// the socket does not tell of bytes that are decrypted already.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Gives bytes to the socket, without waiting.
    ///
    /// # Errors
    /// The connection failed or was closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<Sent> {
        let Some(tls) = &mut self.tls else {
            let taken = send_plain(&self.stream, bytes)?;
            return Ok(Sent { taken, full: taken < bytes.len() });
        };
        if !flush_tls(&self.stream, tls)? {
            return Ok(Sent { taken: 0, full: true });
        }
        // A bounded piece, so that the TLS buffers stay small and warm.
        let piece = bytes.get(..bytes.len().min(64 * 1024)).unwrap_or_default();
        let taken = tls.writer().write(piece).during("tls write")?;
        let full = !flush_tls(&self.stream, tls)?;
        Ok(Sent { taken, full })
    }

    /// Pushes encrypted bytes that the socket did not take yet; true when none are left.
    ///
    /// # Errors
    /// The connection failed or was closed.
    pub fn flush(&mut self) -> Result<bool> {
        match &mut self.tls {
            None => Ok(true),
            Some(tls) => flush_tls(&self.stream, tls),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted)
}

fn closed_or(error: io::Error, what: &str) -> HarnessError {
    if is_end(&error) {
        HarnessError::Closed(format!("{what}: {error}"))
    } else {
        HarnessError::Io { what: what.into(), source: error }
    }
}

fn recv_plain(mut stream: &TcpStream, buffer: &mut [u8]) -> Result<Recv> {
    match stream.read(buffer) {
        Ok(0) => Ok(Recv::Closed),
        Ok(n) if n < buffer.len() => Ok(Recv::Last(n)),
        Ok(n) => Ok(Recv::Data(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Recv::Empty),
        Err(error) if is_end(&error) => Ok(Recv::Closed),
        Err(error) => Err(error).during("read"),
    }
}

fn send_plain(mut stream: &TcpStream, bytes: &[u8]) -> Result<usize> {
    match stream.write(bytes) {
        Ok(n) => Ok(n),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(closed_or(error, "write")),
    }
}

fn flush_tls(mut stream: &TcpStream, tls: &mut ClientConnection) -> Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(closed_or(error, "tls write")),
        }
    }
    Ok(true)
}

fn recv_tls(mut stream: &TcpStream, tls: &mut ClientConnection, buffer: &mut [u8]) -> Result<Recv> {
    let mut filled = 0;
    loop {
        while let Some(room) = buffer.get_mut(filled..).filter(|r| !r.is_empty()) {
            let mut reader = tls.reader();
            match reader.fill_buf() {
                Ok([]) => {
                    return Ok(if filled > 0 { Recv::Data(filled) } else { Recv::Closed });
                }
                Ok(plain) => {
                    let n = plain.len().min(room.len());
                    if let (Some(to), Some(from)) = (room.get_mut(..n), plain.get(..n)) {
                        to.copy_from_slice(from);
                    }
                    reader.consume(n);
                    filled += n;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(if filled > 0 { Recv::Data(filled) } else { Recv::Closed });
                }
                Err(error) => return Err(error).during("tls read"),
            }
        }
        if filled == buffer.len() {
            return Ok(Recv::Data(filled));
        }
        match tls.read_tls(&mut stream) {
            Ok(0) if filled == 0 => return Ok(Recv::Closed),
            Ok(0) => return Ok(Recv::Data(filled)),
            Ok(_) => {
                tls.process_new_packets().map_err(|e| HarnessError::Tls(e.to_string()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(if filled > 0 { Recv::Last(filled) } else { Recv::Empty });
            }
            Err(error) if is_end(&error) => return Ok(Recv::Closed),
            Err(error) => return Err(error).during("tls read"),
        }
    }
}
