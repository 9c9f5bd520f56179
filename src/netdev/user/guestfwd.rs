//! The far ends of `guestfwd=`: a TCP or Unix connection, or a program of the host's.
//!
//! Every connection of the guest's gets a far end of its own. A program has the connection as its standard input
//! and output; it ends when it wants to, sees the end of its input when the guest closes, and is waited for so
//! that no dead process is left. When the network ends, programs that still run are killed.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use rustix::io::{Errno, Result};

use super::connect::{self, Connected};
use crate::cli::ForwardTarget;

/// Programs that run at a time.
const MAX_CHILDREN: usize = 64;

/// Programs that were started for the guest.
#[derive(Debug, Default)]
pub struct Children(Vec<Child>);

impl Children {
    /// Opens the far end of one connection; also its name, for lists.
    ///
    /// # Errors
    /// What connecting said; [`Errno::CONNREFUSED`] for a program that cannot be run.
    pub fn open(&mut self, target: &ForwardTarget) -> Result<(Connected, String)> {
        match target {
            ForwardTarget::Tcp(to) => Ok((connect::tcp(*to)?, to.to_string())),
            ForwardTarget::Unix(path) => Ok((connect::unix(path)?, format!("unix:{}", path.display()))),
            ForwardTarget::Command(line) => Ok((Connected::Now(self.run(line)?), format!("cmd:{line}"))),
        }
    }

    fn run(&mut self, line: &str) -> Result<OwnedFd> {
        self.reap();
        if self.0.len() >= MAX_CHILDREN {
            return Err(Errno::CONNREFUSED);
        }
        let start = || {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(line);
            command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
            Ok((ours, command.spawn()?))
        };
        let (ours, child) = start().map_err(|_: std::io::Error| Errno::CONNREFUSED)?;
        self.0.push(child);
        Ok(ours.into())
    }

    /// Waits for those that have ended.
    pub fn reap(&mut self) {
        self.0.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself meanwhile; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
