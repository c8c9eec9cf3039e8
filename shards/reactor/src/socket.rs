//! Non-blocking calls on sockets: read into the shard's buffer, write what waits, accept.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, acceptfrom_with, recv, send,
    sendmsg, shutdown, sockopt,
};

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// The peer has closed or reset.
    Closed,
}

/// Reads what is there.
#[inline]
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    loop {
        match recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Read::Closed,
            Ok((bytes, _)) => return Read::Bytes(bytes),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Read::Empty,
            Err(_) => return Read::Closed,
        }
    }
}

/// Writes what the socket takes; `None` when it is broken.
#[inline]
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Option<usize> {
    settle(|| send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}

/// Writes several slices in one call.
pub(crate) fn write_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> Option<usize> {
    settle(|| {
        let mut none = SendAncillaryBuffer::default();
        sendmsg(fd, slices, &mut none, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    })
}

fn settle(mut call: impl FnMut() -> rustix::io::Result<usize>) -> Option<usize> {
    loop {
        match call() {
            Ok(bytes) => return Some(bytes),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Some(0),
            Err(_) => return None,
        }
    }
}

/// What an accept gave.
#[derive(Debug)]
pub(crate) enum Accept {
    /// A connection.
    Socket(OwnedFd, SocketAddr),
    /// Nobody waits.
    Empty,
    /// This one failed, others may wait.
    Retry,
    /// The process has no descriptors left, or the like: try again later.
    Later,
}

/// Accepts one connection, non-blocking and without delay for small writes.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Accept {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match acceptfrom_with(listener, flags) {
        Ok((fd, address)) => {
            let Some(address) = address.and_then(|any| SocketAddr::try_from(any).ok()) else {
                return Accept::Later;
            };
            // Not every stream socket has this option; a failure costs latency only.
            let _ = sockopt::set_tcp_nodelay(&fd, true);
            Accept::Socket(fd, address)
        }
        Err(Errno::AGAIN) => Accept::Empty,
        // This one connection failed before it was taken; others may wait behind it.
        Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => Accept::Retry,
        Err(_) => Accept::Later,
    }
}

/// Tells the peer that nothing more comes.
pub(crate) fn hang_up(fd: &OwnedFd) {
    // The peer may be gone already.
    let _ = shutdown(fd.as_fd(), Shutdown::Both);
}

/// Tells the peer that nothing more comes, and still takes what it sends.
pub(crate) fn finish_writing(fd: &OwnedFd) {
    // The peer may be gone already.
    let _ = shutdown(fd.as_fd(), Shutdown::Write);
}

/// Binds and listens, in non-blocking mode. An IPv6 address takes IPv4 clients too when it is the
/// unspecified one.
///
/// # Errors
/// When the address is taken or not to be had.
pub fn bind_listener(address: SocketAddr, backlog: i32) -> std::io::Result<std::net::TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket_with};
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, !address.ip().is_unspecified())?;
    }
    bind(&fd, &address)?;
    listen(&fd, backlog)?;
    Ok(fd.into())
}
