//! Names of Unix sockets in the file system: taken over from the dead, removed by whoever bound them.
//!
//! Used by serial lines, monitors, socket backends and host forwards. Nobody can remove a name after SIGKILL, so the next
//! who wants it does; what a living process listens at, and a file that is no socket, stays.

use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, connect, socket_with,
};

/// What is bound now, for ways out that run no destructors.
static BOUND: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn bound() -> MutexGuard<'static, Vec<PathBuf>> {
    BOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every name that is bound. For the end of the process, on any thread.
pub fn remove_all() {
    for path in std::mem::take(&mut *bound()) {
        // As when a `BoundPath` is dropped.
        let _ = std::fs::remove_file(path);
    }
}

/// The path that [`bind`] bound a socket to, removed when this is dropped.
#[derive(Debug)]
pub struct BoundPath(pub Option<PathBuf>);

impl Drop for BoundPath {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            bound().retain(|other| other != path);
            // Somebody may have removed it before us.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds `socket`, of the type `kind`, to `path`, which [`BoundPath`] is to remove again.
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
    }?;
    bound().push(path.to_owned());
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Only its own name: other tests of this process have names too.
    #[test]
    fn a_name_is_known_while_it_is_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let known = || bound().contains(&path);
        bind(&socket, &path, SocketType::STREAM).unwrap();
        assert!(known() && path.exists());
        drop(BoundPath(Some(path.clone())));
        assert!(!known() && !path.exists());
    }
}
