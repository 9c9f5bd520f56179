//! Connections of the host's, made without waiting: to an address, to a Unix socket.
//!
//! Called for the guest's TCP connections and by `guestfwd`. A connection that cannot be made at once is
//! finished when its socket becomes writable.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::{Errno, Result};
use rustix::net::{self as host, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::udp::FamilyOf;

/// A socket whose connection stands, or is on its way.
#[derive(Debug)]
pub enum Connected {
    /// It stands.
    Now(OwnedFd),
    /// It is being made.
    Soon(OwnedFd),
}

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Connects to `to`.
///
/// # Errors
/// What connect(2) says at once.
pub fn tcp(to: SocketAddr) -> Result<Connected> {
    let socket = host::socket_with(AddressFamily::of(to), SocketType::STREAM, FLAGS, None)?;
    match host::connect(&socket, &to) {
        Ok(()) => {
            prepare(&socket);
            Ok(Connected::Now(socket))
        }
        Err(Errno::INPROGRESS) => Ok(Connected::Soon(socket)),
        Err(errno) => Err(errno),
    }
}

/// Connects to the Unix stream socket at `path`.
///
/// # Errors
/// What connect(2) says; a listener whose queue is full counts as refusing.
pub fn unix(path: &Path) -> Result<Connected> {
    let socket = host::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    match host::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(Connected::Now(socket)),
        Err(Errno::AGAIN | Errno::NOENT) => Err(Errno::CONNREFUSED),
        Err(errno) => Err(errno),
    }
}

/// What every TCP connection of the host's gets: the guest decides about small segments, not the host.
pub fn prepare(socket: impl AsFd) {
    // Only speed is lost where it is refused.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}
