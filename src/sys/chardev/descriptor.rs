//! Reading and writing without blocking, and without changing descriptors that others share.
//!
//! O_NONBLOCK belongs to the open file, which standard input and output share with the shell and every other
//! process on the terminal. So terminals and pipes are opened a second time, sockets are asked per call, and
//! regular files do not block.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// An open file and how to use it without blocking.
#[derive(Debug)]
pub struct Descriptor {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Does not block: regular, or with O_NONBLOCK of its own.
    Own,
    /// Asked per call.
    Socket,
    /// May block: used only after poll said that it will not, and in small pieces.
    Shared,
}

/// What a terminal or pipe that is ready to be written to takes without blocking (Linux: WAKEUP_CHARS).
const SMALL: usize = 256;

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Descriptor {
    /// A file of our own.
    pub fn file(fd: OwnedFd) -> Self {
        Self { fd, kind: Kind::Own }
    }

    /// A stream socket.
    pub fn socket(fd: OwnedFd) -> Self {
        Self { fd, kind: Kind::Socket }
    }

    /// Whether it was made by [`Self::socket`] or is one.
    pub fn is_socket(&self) -> bool {
        self.kind == Kind::Socket
    }

    /// Standard input (`write` false) or output, which others share.
    pub fn shared(fd: BorrowedFd<'_>, write: bool) -> Result<Self> {
        let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
        let access = if write { OFlags::WRONLY } else { OFlags::RDONLY };
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let again = match kind {
            // The same pipe or terminal, opened anew. Where that is not allowed (a terminal of another user),
            // the shared one serves: it is only used when it is ready.
            FileType::Fifo | FileType::CharacterDevice => {
                open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty()).ok()
            }
            _ => None,
        };
        let kind = match (&again, kind) {
            (Some(_), _) | (_, FileType::RegularFile) => Kind::Own,
            (None, FileType::Socket) => Kind::Socket,
            (None, _) => Kind::Shared,
        };
        let fd = again.map_or_else(|| rustix::io::fcntl_dupfd_cloexec(fd, 0), Ok)?;
        Ok(Self { fd, kind })
    }

    /// Reads what is there; 0 is the end.
    pub fn read(&self, buf: &mut [u8]) -> Result<usize> {
        match self.kind {
            Kind::Socket => recv(&self.fd, buf, RecvFlags::DONTWAIT).map(|(n, _)| n),
            Kind::Shared if !self.wait(PollFlags::IN, 0) => Err(Errno::AGAIN),
            Kind::Own | Kind::Shared => rustix::io::read(&self.fd, buf),
        }
    }

    /// Writes what fits.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        match self.kind {
            Kind::Socket => send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Kind::Shared if !self.wait(PollFlags::OUT, 0) => Err(Errno::AGAIN),
            Kind::Shared => rustix::io::write(&self.fd, &bytes[..bytes.len().min(SMALL)]),
            Kind::Own => rustix::io::write(&self.fd, bytes),
        }
    }

    /// Waits until a write would not block, at most so many milliseconds.
    pub fn wait_writable(&self, ms: u32) -> bool {
        self.wait(PollFlags::OUT, ms)
    }

    fn wait(&self, flags: PollFlags, ms: u32) -> bool {
        let limit = Timespec { tv_sec: i64::from(ms / 1000), tv_nsec: i64::from(ms % 1000) * 1_000_000 };
        let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), flags)];
        poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    }
}

/// Whether an error of a read or write means "not now".
pub fn not_now(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::INTR)
}
