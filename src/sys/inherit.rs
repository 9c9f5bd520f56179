//! Descriptors that the parent process left open for us.
//!
//! Called for `fd=` options while a machine is set up; the number is the user's, so it may be anything.
#![expect(unsafe_code, reason = "a number that the user gave becomes a descriptor")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A private duplicate of an inherited descriptor, which itself is kept from children of ours.
///
/// # Errors
/// The kernel's (EBADF) if no such descriptor is open.
pub fn adopt(fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes any number and fails on one that is not open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `copy` is a new descriptor that nobody else knows.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    // SAFETY: F_SETFD takes any number; this one was open a moment ago, and if not, nothing happens.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(copy)
}
