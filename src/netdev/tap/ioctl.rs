//! The system calls on a tap that no safe wrapper offers: the ioctls of linux/if_tun.h, the gathering write
//! from guest memory, and the offload query of linux/ethtool.h.
//!
//! Called by the rest of `tap` only. Every function is safe to call with any argument.

use std::ffi::{c_int, c_short, c_uint, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use crate::memory::GuestSlice;
use crate::netport::Offloads;

/// Longest interface name in bytes (IFNAMSIZ less the terminating zero).
pub const MAX_IFNAME: usize = libc::IFNAMSIZ - 1;

/// An `ifreq` for this name; names are at most [`MAX_IFNAME`] bytes.
fn ifreq(name: &str) -> libc::ifreq {
    debug_assert!(name.len() <= MAX_IFNAME);
    // SAFETY: `ifreq` is a C struct of integers, arrays and pointers, for which all-zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..MAX_IFNAME].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn name_of(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> = request.ifr_name.iter().map(|&c| c as u8).take_while(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn flags_of(request: &libc::ifreq) -> c_int {
    // SAFETY: the kernel or `ifreq` filled the union; every bit pattern is a c_short.
    let flags: c_short = unsafe { request.ifr_ifru.ifru_flags };
    // Through u16, lest IFF_TUN_EXCL (0x8000) become a sign.
    c_int::from(flags as u16)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// TUNSETIFF: makes `fd` (an open /dev/net/tun) the tap `name`, empty for one that the kernel names; `flags`
/// are added to IFF_TAP | IFF_NO_PI. Returns the interface's name.
pub fn set_iff(fd: BorrowedFd<'_>, name: &str, flags: c_int) -> io::Result<String> {
    let mut request = ifreq(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | flags) as c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &mut request) })?;
    Ok(name_of(&request))
}

/// TUNGETIFF: the name and flags of the tap that `fd` is.
pub fn get_iff(fd: BorrowedFd<'_>) -> io::Result<(String, c_int)> {
    let mut request = ifreq("");
    // SAFETY: TUNGETIFF writes one ifreq, which `request` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &mut request) })?;
    Ok((name_of(&request), flags_of(&request)))
}

/// The descriptor of a plain tap that the tun-tap crate has set up.
pub fn from_tun_tap(iface: tun_tap::Iface) -> OwnedFd {
    // SAFETY: into_raw_fd gives up the open descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) }
}

/// TUNGETVNETHDRSZ: length in bytes of the header before each frame.
pub fn vnet_hdr_size(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut size: c_int = 0;
    // SAFETY: TUNGETVNETHDRSZ writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETVNETHDRSZ, &mut size) })?;
    usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// TUNSETSNDBUF: how many bytes of frames from us the interface's queues may hold before writes are refused; 0 is
/// no limit.
pub fn set_sndbuf(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let limit = if bytes == 0 { c_int::MAX } else { c_int::try_from(bytes).unwrap_or(c_int::MAX) };
    // SAFETY: TUNSETSNDBUF reads one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETSNDBUF, &limit) })
}

/// TUNSETOFFLOAD: what unfinished frames the host may give us; also what it advertises to its own stack.
pub fn set_offload(fd: BorrowedFd<'_>, offloads: Offloads) -> io::Result<()> {
    let mut bits: c_uint = 0;
    if offloads.csum {
        // The kernel refuses segmentation without checksums (drivers/net/tun.c, set_offload).
        bits |= libc::TUN_F_CSUM;
        bits |= if offloads.tso4 { libc::TUN_F_TSO4 } else { 0 };
        bits |= if offloads.tso6 { libc::TUN_F_TSO6 } else { 0 };
    }
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, bits as libc::c_ulong) })
}

/// What the interface is set to leave unfinished towards us, as ethtool tells it (ETHTOOL_GTXCSUM and
/// ETHTOOL_GTSO; the latter does not tell IPv4 and IPv6 apart).
pub fn get_offload(name: &str) -> io::Result<Offloads> {
    const ETHTOOL_GTXCSUM: u32 = 0x16;
    const ETHTOOL_GTSO: u32 = 0x1e;
    let csum = ethtool_value(name, ETHTOOL_GTXCSUM)?;
    let tso = csum && ethtool_value(name, ETHTOOL_GTSO)?;
    Ok(Offloads { csum, tso4: tso, tso6: tso })
}

/// One "get" command of SIOCETHTOOL with a u32 result (struct ethtool_value).
fn ethtool_value(name: &str, command: u32) -> io::Result<bool> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let mut value: [u32; 2] = [command, 0];
    let mut request = ifreq(name);
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: SIOCETHTOOL reads the command from and writes the result to the 8 bytes that ifru_data points
    // to, which live until the end of the function.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) })?;
    Ok(value[1] != 0)
}

/// Pieces that one write may have without a private copy of the guest's: far more than any driver uses.
const MAX_PIECES: usize = 64;

/// Writes `header`, `head` and `body` as one frame, straight from guest memory.
pub fn write_frame(fd: impl AsFd, header: &[u8], head: &[u8], body: &[GuestSlice<'_>]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    if body.len() > MAX_PIECES - 2 {
        return write_frame_copied(fd, header, head, body);
    }
    let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_PIECES];
    pieces[0] = iovec(header);
    pieces[1] = iovec(head);
    for (to, from) in pieces[2..].iter_mut().zip(body) {
        *to = libc::iovec { iov_base: from.ptr_guard().as_ptr().cast_mut().cast(), iov_len: from.len() };
    }
    writev(fd, &pieces[..2 + body.len()])
}

fn write_frame_copied(fd: c_int, header: &[u8], head: &[u8], body: &[GuestSlice<'_>]) -> io::Result<usize> {
    let mut copy = Vec::new();
    crate::netport::Frame { head: &[], body, meta: Default::default() }.copy_to(&mut copy);
    writev(fd, &[iovec(header), iovec(head), iovec(&copy)])
}

fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(), iov_len: bytes.len() }
}

/// Private: the pieces must come from live borrows.
fn writev(fd: c_int, pieces: &[libc::iovec]) -> io::Result<usize> {
    // SAFETY: every iovec is made above from a slice or guest slice borrowed for the whole call; the kernel
    // only reads them, once, and a guest that writes meanwhile changes its own frame.
    let written = unsafe { libc::writev(fd, pieces.as_ptr(), pieces.len() as c_int) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}
