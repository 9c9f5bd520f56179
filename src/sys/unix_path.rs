//! Names of Unix sockets in the file system: taken over from the dead, removed by whoever bound them.
//!
//! Used by serial lines, monitors, socket backends and host forwards. Nobody can remove a name after SIGKILL, so the next
//! who wants it does; what a living process listens at, and a file that is no socket, stays.

use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, connect, socket_with,
};

/// The path of a socket that we bound, removed when this is dropped.
#[derive(Debug)]
pub struct BoundPath(pub Option<PathBuf>);

impl Drop for BoundPath {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Somebody may have removed it before us.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds `socket`, of the type `kind`, to `path`.
///
/// # Errors
/// The host's; [`Errno::ADDRINUSE`] when somebody is there, or a file that is no socket.
pub fn bind(socket: impl AsFd, path: &Path, kind: SocketType) -> Result<()> {
    let address = SocketAddrUnix::new(path)?;
    match bind_to(&socket, &address) {
        Err(Errno::ADDRINUSE) if is_stale(&address, path, kind) && std::fs::remove_file(path).is_ok() => {
            bind_to(&socket, &address)
        }
        result => result,
    }
}

/// Whether the path is a socket that nobody holds any more.
fn is_stale(address: &SocketAddrUnix, path: &Path, kind: SocketType) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    // A live server whose queue is full is busy (EAGAIN), not gone; it is not waited for.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let answer =
        socket_with(AddressFamily::UNIX, kind, flags, None).and_then(|probe| connect(&probe, address));
    is_socket && answer == Err(Errno::CONNREFUSED)
}
