//! Why user networking could not be opened, or a forward not be made.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::event::EventError;

/// One line for the user, which says what to do.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The host's event loop or epoll failed.
    #[error("{0}")]
    Event(#[from] EventError),
    /// The host gave no epoll set.
    #[error("cannot make an epoll set: {0}")]
    Poller(Errno),
    /// The host does not let us listen there.
    #[error("cannot listen at {listen} for hostfwd: {errno}{}", advice(*errno))]
    Forward {
        /// Where.
        listen: String,
        /// What the host said.
        errno: Errno,
    },
    /// The directory of `tftp=` cannot be opened.
    #[error("cannot open the directory {} for tftp: {errno}", path.display())]
    Tftp {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        errno: Errno,
    },
}

fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ADDRINUSE => "; choose another port, or end the program that has it",
        Errno::ACCESS | Errno::PERM => "; ports below 1024 are root's, choose a higher one",
        Errno::ADDRNOTAVAIL => "; the host has no such address (leave it out to listen at all)",
        _ => "",
    }
}
