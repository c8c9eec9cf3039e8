//! Connecting: TCP from a chosen source address, INFO, optional TLS, CONNECT, PING and PONG.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

use super::conn::Conn;
use super::op::{self, Op};
use crate::error::{During, HarnessError, Result};

/// How long each step of a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where and as whom to connect. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    /// The server's address.
    pub addr: SocketAddr,
    /// The name for TLS verification.
    pub host: String,
    /// Login members of CONNECT, as JSON text with a leading comma, or empty.
    pub login: String,
    /// Set when the connection is to be encrypted.
    pub tls: Option<Arc<ClientConfig>>,
    /// Ask for a 503 when a request has no responders, as JetStream clients do.
    pub no_responders: bool,
}

impl Target {
    /// The CONNECT line for this target.
    #[must_use]
    pub fn connect_line(&self) -> String {
        let tls = self.tls.is_some();
        format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":{tls},\
             \"name\":\"bench\",\"lang\":\"rust\",\"version\":\"{}\",\"protocol\":1,\
             \"headers\":true,\"no_responders\":{},\"echo\":true{}}}\r\n",
            env!("CARGO_PKG_VERSION"),
            self.no_responders,
            self.login
        )
    }

    /// Connects and returns once the server answered a PING.
    ///
    /// # Errors
    /// The server is not reachable, refuses the login or breaks the protocol.
    pub fn connect(&self) -> Result<Conn> {
        self.connect_from(None)
    }

    /// As [`Target::connect`], from one of the loopback's many addresses, which matters
    /// beyond about 28,000 connections.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub fn connect_from(&self, source: Option<Ipv4Addr>) -> Result<Conn> {
        let stream = dial(self.addr, source)?;
        stream.set_nodelay(true).during("set TCP_NODELAY")?;
        stream.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
        stream.set_write_timeout(Some(PATIENCE)).during("set a write timeout")?;
        read_info(&stream)?;
        let hello = format!("{}PING\r\n", self.connect_line());
        let tls = match &self.tls {
            None => {
                (&stream).write_all(hello.as_bytes()).during("send CONNECT")?;
                await_pong(&mut &stream)?;
                None
            }
            Some(config) => Some(self.secure(&stream, config, &hello)?),
        };
        stream.set_nonblocking(true).during("set nonblocking")?;
        Ok(Conn::new(stream, tls))
    }

    fn secure(
        &self,
        stream: &TcpStream,
        config: &Arc<ClientConfig>,
        hello: &str,
    ) -> Result<Box<ClientConnection>> {
        let bad = |e: rustls::Error| HarnessError::Tls(e.to_string());
        let name = ServerName::try_from(self.host.clone())
            .map_err(|e| HarnessError::Tls(e.to_string()))?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(bad)?;
        tls.set_buffer_limit(Some(1 << 20));
        let mut socket = stream;
        let mut both = rustls::Stream::new(&mut tls, &mut socket);
        both.write_all(hello.as_bytes()).during("TLS handshake and CONNECT")?;
        both.flush().during("TLS handshake and CONNECT")?;
        await_pong(&mut both)?;
        Ok(Box::new(tls))
    }
}

/// A TCP connection, blocking, from `source` if one is given.
///
/// # Errors
/// No route, refused, or no free port at the source address.
pub fn dial(addr: SocketAddr, source: Option<Ipv4Addr>) -> Result<TcpStream> {
    let what = || format!("connect to {addr}");
    let Some(source) = source else {
        return TcpStream::connect(addr).during(what());
    };
    let family = AddressFamily::INET;
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(family, SocketType::STREAM, flags, None).during("socket")?;
    let local = SocketAddr::new(IpAddr::V4(source), 0);
    rustix::net::bind(&socket, &local).during(format!("bind {source}"))?;
    rustix::net::connect(&socket, &addr).during(what())?;
    Ok(TcpStream::from(socket))
}

/// Reads INFO. The server says nothing more before it hears from us, so a large read is safe
/// even when TLS follows.
fn read_info(mut stream: &TcpStream) -> Result<()> {
    let mut line = Vec::with_capacity(1024);
    let mut piece = [0_u8; 1024];
    while !line.ends_with(b"\n") {
        if line.len() > 64 * 1024 {
            return Err(HarnessError::Protocol("an INFO line without an end".into()));
        }
        let n = stream.read(&mut piece).during("read INFO")?;
        if n == 0 {
            return Err(HarnessError::Closed("before INFO".into()));
        }
        line.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
    match op::parse(&line)? {
        Some((Op::Info(_), _)) => Ok(()),
        Some((Op::Err(text), _)) => Err(HarnessError::Refused(text.to_owned())),
        _ => Err(HarnessError::Protocol("the server did not greet with INFO".into())),
    }
}

fn await_pong(stream: &mut impl std::io::Read) -> Result<()> {
    let mut seen = Vec::new();
    let mut piece = [0_u8; 1024];
    loop {
        while let Some((op, used)) = op::parse(&seen)? {
            match op {
                Op::Pong => return Ok(()),
                Op::Err(text) => return Err(HarnessError::Refused(text.to_owned())),
                _ => {}
            }
            seen.drain(..used);
        }
        let n = stream.read(&mut piece).during("wait for PONG")?;
        if n == 0 {
            return Err(HarnessError::Closed("before the first PONG".into()));
        }
        seen.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
}

/// The source address for connection number `index`: 127.0.0.2 and up, `per_address` each.
#[must_use]
pub fn loopback_source(index: usize, per_address: usize) -> Ipv4Addr {
    let step = (index / per_address.max(1)) % 250;
    Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(step).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_spread() {
        assert_eq!(loopback_source(0, 10), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(loopback_source(25, 10), Ipv4Addr::new(127, 0, 0, 4));
        assert_eq!(loopback_source(2500, 10), Ipv4Addr::new(127, 0, 0, 2));
    }
}
