//! Why a socket backend could not be had, each with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::event::EventError;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The name service knows no such host.
    #[error("cannot resolve the host '{host}': {why}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        why: String,
    },
    /// Nobody answered at the address.
    #[error("cannot connect to {to}: {error}; start the other side first, or add reconnect-ms=1000")]
    Connect {
        /// The address.
        to: String,
        /// The host's answer.
        error: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot bind {at}: {error}{advice}")]
    Bind {
        /// The address.
        at: String,
        /// The host's answer.
        error: io::Error,
        /// What to do, or empty.
        advice: &'static str,
    },
    /// `fd=` is not such a socket.
    #[error("fd={fd} {why}")]
    BadFd {
        /// The number.
        fd: i32,
        /// "is not open", "is not a socket".
        why: &'static str,
    },
    /// A group that no interface leads to.
    #[error("cannot join the group {group}: {error}; name an interface by its address ({option}=ADDRESS)")]
    Join {
        /// The group.
        group: String,
        /// The host's answer.
        error: io::Error,
        /// The option that names an interface.
        option: &'static str,
    },
    /// Raw IP without the right to it.
    #[error(
        "L2TPv3 directly over IP needs CAP_NET_RAW: use udp=on,srcport=PORT,dstport=PORT, or start minivmm inside 'unshare -rn'"
    )]
    RawDenied,
    /// The program is not installed.
    #[error("cannot run {path}: {error}; install it (Debian package {package}) or give its place by {option}=", path = .path.display())]
    NoProgram {
        /// What was tried.
        path: PathBuf,
        /// The host's answer.
        error: io::Error,
        /// Where it comes from.
        package: &'static str,
        /// The option that names it.
        option: &'static str,
    },
    /// The program ended at once.
    #[error("{path} ended ({status}){said}", path = .path.display())]
    ProgramEnded {
        /// Which.
        path: PathBuf,
        /// How.
        status: String,
        /// ": " and its last words, or empty.
        said: String,
    },
    /// Anything else that the host refused.
    #[error("{what} failed: {error}")]
    Os {
        /// The call.
        what: &'static str,
        /// The host's answer.
        error: io::Error,
    },
    /// The event loop could not watch it.
    #[error(transparent)]
    Event(#[from] EventError),
}

impl SocketError {
    /// An empty list of addresses, which no resolver returns.
    pub(super) fn no_address() -> Self {
        Self::Os { what: "resolving", error: io::ErrorKind::AddrNotAvailable.into() }
    }

    /// For `map_err` on a call that has no better name.
    pub(super) fn os(what: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |error| Self::Os { what, error: error.into() }
    }
}
