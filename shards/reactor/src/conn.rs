//! One socket of a shard: where its bytes go, and whether it can be read and written.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use broker::monitor::HttpConn;

use crate::tls::{FirstBytes, TlsSession};

/// What a socket is for.
pub(crate) enum Role {
    /// A client: its connection's slot in the broker.
    Client(u32),
    /// Not decided yet: the first bytes say whether TLS comes before INFO.
    Opening(SocketAddr),
    /// The monitoring port.
    Http(Box<HttpSock>),
}

/// A monitoring connection.
pub(crate) struct HttpSock {
    pub(crate) http: HttpConn,
    /// Response bytes not yet sent.
    pub(crate) out: Vec<u8>,
    /// Close when `out` is sent.
    pub(crate) close_after: bool,
}

/// TLS on a socket.
pub(crate) struct TlsLayer {
    pub(crate) session: TlsSession,
    /// Encrypted bytes not yet sent.
    pub(crate) out: Vec<u8>,
    pub(crate) out_sent: usize,
    /// INFO waits for the end of the handshake.
    pub(crate) info_owed: bool,
    /// The client's address, until the broker knows the connection.
    pub(crate) address: SocketAddr,
}

/// One socket.
pub(crate) struct Sock {
    pub(crate) fd: OwnedFd,
    pub(crate) generation: u32,
    pub(crate) role: Role,
    pub(crate) first: FirstBytes,
    /// Bytes that came before the transport was decided.
    pub(crate) early: Vec<u8>,
    pub(crate) tls: Option<Box<TlsLayer>>,
    /// The kernel has said that there is something to read.
    pub(crate) readable: bool,
    /// The peer has hung up: read until the end.
    pub(crate) hung_up: bool,
    /// The last write was taken whole.
    pub(crate) writable: bool,
    /// On the list of sockets to read.
    pub(crate) queued: bool,
    /// Until when TLS must be done, 0 when there is nothing to wait for.
    pub(crate) deadline_ns: u64,
}
