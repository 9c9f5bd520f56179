//! Why a tap could not be had, each with what to do about it.

use std::io;
use std::path::PathBuf;

use super::ioctl::MAX_IFNAME;
use crate::event::EventError;

/// Why a tap could not be opened or set up.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The device node is missing.
    #[error(
        "/dev/net/tun does not exist: run 'sudo modprobe tun' (in a container: give it --device /dev/net/tun)"
    )]
    NoNode,
    /// The node is there, the driver is not.
    #[error("the host's kernel has no tun driver: run 'sudo modprobe tun'")]
    NoDriver,
    /// The node's mode or the container's device rules forbid it.
    #[error(
        "no permission to open /dev/net/tun{mode}: run 'sudo chmod 0666 /dev/net/tun' (safe: making an interface still needs rights)"
    )]
    NodeDenied {
        /// " (mode 0600)" or empty.
        mode: String,
    },
    /// Making an interface needs CAP_NET_ADMIN.
    #[error(
        "not allowed to make the tap {name}: run 'sudo ip tuntap add dev {name} mode tap user $USER && sudo ip link set {name} up' and use ifname={name}, or start minivmm inside 'unshare -rn'"
    )]
    CreateDenied {
        /// The interface's name, or one to suggest.
        name: String,
    },
    /// The interface is there but is another user's.
    #[error(
        "not allowed to use the tap {name}, which belongs to another user: run 'sudo ip tuntap del dev {name} mode tap && sudo ip tuntap add dev {name} mode tap user $USER', or choose another ifname"
    )]
    AttachDenied {
        /// The interface's name.
        name: String,
    },
    /// Somebody has it open.
    #[error("the tap {name} is in use by another process: end that process or choose another ifname")]
    Busy {
        /// The interface's name.
        name: String,
    },
    /// The name belongs to something else.
    #[error("{name} exists but is not a tap interface: choose another ifname")]
    NotATap {
        /// The interface's name.
        name: String,
    },
    /// Linux has no such names.
    #[error("'{name}' is no interface name: 1 to {MAX_IFNAME} bytes without '/', ':', '%' and blanks")]
    BadName {
        /// What was given.
        name: String,
    },
    /// `fd=` is not a tap.
    #[error("fd={fd} {why}: open /dev/net/tun, set it up as a tap and let minivmm inherit it")]
    BadFd {
        /// The number.
        fd: i32,
        /// "is not open", "is not a tap".
        why: &'static str,
    },
    /// `vnet_hdr=on` with a tap that has none.
    #[error(
        "vnet_hdr=on, but {what} has no vnet_hdr: leave the option out, or make the tap with IFF_VNET_HDR"
    )]
    NoVnetHdr {
        /// What was given.
        what: String,
    },
    /// A script could not be run or said no.
    #[error("{option}={path}: {why}", path = .path.display())]
    Script {
        /// `script` or `downscript`.
        option: &'static str,
        /// The program.
        path: PathBuf,
        /// "exit status 1", "No such file or directory".
        why: String,
    },
    /// There is no bridge helper where distributions put it.
    #[error(
        "there is no qemu-bridge-helper: install it (Debian package qemu-system-common), or name one by helper="
    )]
    NoHelper,
    /// The bridge helper did not bring a tap.
    #[error("the bridge helper {program}{why}")]
    Helper {
        /// As it was named.
        program: String,
        /// " failed (exit status: 1): its last words".
        why: String,
    },
    /// The host side's address could not be set.
    #[error("cannot set address {address} on {name}: {error}; address=none leaves it alone")]
    Address {
        /// ADDRESS/PREFIX.
        address: String,
        /// The interface's name.
        name: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// Anything else that the kernel refused.
    #[error("{what} failed: {error}")]
    Os {
        /// The call.
        what: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The event loop could not watch it.
    #[error(transparent)]
    Event(#[from] EventError),
}
