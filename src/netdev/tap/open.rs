//! From the options to an open tap with its host side set up.
//!
//! Called once for each tap, before the machine runs, on the main thread (scripts are waited for). A tap made
//! here is not persistent: it goes when its descriptor is closed, however the process ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::bridge;
use super::error::TapError;
use super::host_link::{HostLinks, Link};
use super::ioctl::{self, MAX_IFNAME};
use crate::cli::{AddressChoice, ScriptChoice, TapOptions};
use crate::netdev::Notices;
use crate::netport::Offloads;
use crate::sys::inherit;

const NODE: &str = "/dev/net/tun";
/// The host side of a tap that minivmm makes (design: network defaults).
const DEFAULT_ADDRESS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 2), 24);

/// An open tap.
#[derive(Debug)]
pub struct Opened {
    /// Non-blocking.
    pub fd: OwnedFd,
    /// The interface's name.
    pub name: String,
    /// Bytes of virtio-net header before each frame; 0 for a plain tap.
    pub header: usize,
    /// Whether unfinished frames may be exchanged.
    pub offload: bool,
    /// What a tap that was there before us had switched on, to be left so.
    pub found: Option<Offloads>,
}

/// Opens the tap and sets up its host side.
///
/// # Errors
/// [`TapError`]; a tap made here is gone again then.
pub fn open(options: &TapOptions, notices: &Notices) -> Result<Opened, TapError> {
    if let Some(number) = options.fd {
        let bad = |why| TapError::BadFd { fd: number, why };
        let fd = inherit::adopt(number).map_err(|_| bad("is not open"))?;
        return adopt(fd, number, options, notices);
    }
    if let Some(helper) = &options.helper {
        let fd = bridge::request(helper, options.vnet_hdr != Some(false))?;
        let number = fd.as_raw_fd();
        return adopt(fd, number, options, notices);
    }
    let name = options.ifname.as_deref().unwrap_or_default();
    let existing = match name {
        "" => None,
        _ if !valid_name(name) => return Err(TapError::BadName { name: name.into() }),
        _ => find(name)?,
    };
    if existing.as_ref().is_some_and(|link| !link.tun) {
        return Err(TapError::NotATap { name: name.into() });
    }
    let attached = existing.is_some();
    let found = if attached { offload_found(name) } else { None };
    let (fd, name, vnet) = attach(name, options.vnet_hdr, attached)?;
    let opened = finish(fd, name, vnet, found)?;
    set_up(options, &opened, !attached, notices)?;
    Ok(opened)
}

fn valid_name(name: &str) -> bool {
    let bad = |b: u8| matches!(b, b'/' | b':' | b'%') || b.is_ascii_whitespace() || b == 0;
    (1..=MAX_IFNAME).contains(&name.len()) && !name.bytes().any(bad) && name != "." && name != ".."
}

fn find(name: &str) -> Result<Option<Link>, TapError> {
    let os = |what| move |error| TapError::Os { what, error };
    HostLinks::open().map_err(os("opening netlink"))?.find(name).map_err(os("looking for the interface"))
}

/// What a foreign tap has switched on. Unknown (an interface of another namespace): nothing is put back.
fn offload_found(name: &str) -> Option<Offloads> {
    ioctl::get_offload(name).ok()
}

/// A tap that somebody else has made and handed over as `number`.
fn adopt(fd: OwnedFd, number: i32, options: &TapOptions, notices: &Notices) -> Result<Opened, TapError> {
    let bad = |why| TapError::BadFd { fd: number, why };
    let (name, flags) = ioctl::get_iff(fd.as_fd()).map_err(|_| bad("is not a tap"))?;
    if flags & libc::IFF_TAP == 0 {
        return Err(bad("is not a tap (it is a tun)"));
    }
    // Whether IFF_NO_PI was asked for cannot be seen: TUNGETIFF uses its bit for IFF_NOFILTER.
    let vnet = flags & libc::IFF_VNET_HDR != 0;
    if options.vnet_hdr == Some(true) && !vnet {
        return Err(TapError::NoVnetHdr { what: format!("fd={number}") });
    }
    let found = offload_found(&name);
    let mut opened = finish(fd, name, vnet, found)?;
    // The header comes with every frame of this descriptor; off means that it stays empty.
    opened.offload &= options.vnet_hdr != Some(false);
    set_up(options, &opened, false, notices)?;
    Ok(opened)
}

/// Makes or takes the interface: the descriptor, its name, and whether frames have a header.
fn attach(name: &str, vnet: Option<bool>, exists: bool) -> Result<(OwnedFd, String, bool), TapError> {
    let kinds: &[bool] = match vnet {
        Some(true) => &[true],
        Some(false) => &[false],
        None => &[true, false],
    };
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for &vnet in kinds {
        // An interface that was made with multi_queue wants the flag from everybody (drivers/net/tun.c,
        // tun_set_iff); EINVAL is its word for flags that do not fit.
        let queues: &[i32] = if exists { &[0, libc::IFF_MULTI_QUEUE] } else { &[0] };
        for &queue in queues {
            match set_iff(name, vnet, queue)? {
                Ok((fd, name)) => return Ok((fd, name, vnet)),
                Err(error) => refused = error,
            }
            if refused.raw_os_error() != Some(libc::EINVAL) {
                return Err(explain(refused, name, exists));
            }
        }
    }
    Err(explain(refused, name, exists))
}

/// One attempt; the outer error is the node's, the inner one the interface's.
fn set_iff(name: &str, vnet: bool, queue: i32) -> Result<io::Result<(OwnedFd, String)>, TapError> {
    let node = open_node()?;
    if !vnet && queue == 0 {
        drop(node);
        return Ok(tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tap).map(|iface| {
            let name = iface.name().to_owned();
            (ioctl::from_tun_tap(iface), name)
        }));
    }
    let flags = queue | if vnet { libc::IFF_VNET_HDR } else { 0 };
    Ok(ioctl::set_iff(node.as_fd(), name, flags).map(|name| (node.into(), name)))
}

fn open_node() -> Result<File, TapError> {
    OpenOptions::new().read(true).write(true).open(NODE).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => TapError::NoNode,
        Some(libc::ENODEV | libc::ENXIO) => TapError::NoDriver,
        Some(libc::EACCES | libc::EPERM) => {
            let mode =
                std::fs::metadata(NODE).map(|m| format!(" (mode {:04o})", m.permissions().mode() & 0o7777));
            TapError::NodeDenied { mode: mode.unwrap_or_default() }
        }
        _ => TapError::Os { what: "opening /dev/net/tun", error },
    })
}

fn explain(error: io::Error, name: &str, exists: bool) -> TapError {
    let given = || name.to_owned();
    match error.raw_os_error() {
        Some(libc::EPERM) if exists => TapError::AttachDenied { name: given() },
        Some(libc::EPERM) => {
            TapError::CreateDenied { name: if name.is_empty() { "tap0".into() } else { given() } }
        }
        Some(libc::EBUSY) => TapError::Busy { name: given() },
        Some(libc::EINVAL) if exists => TapError::NotATap { name: given() },
        _ => TapError::Os { what: "TUNSETIFF", error },
    }
}

fn finish(fd: OwnedFd, name: String, vnet: bool, found: Option<Offloads>) -> Result<Opened, TapError> {
    rustix::io::ioctl_fionbio(&fd, true)
        .map_err(|error| TapError::Os { what: "FIONBIO", error: error.into() })?;
    // The length is the interface's and stays as it is found.
    let header = if vnet {
        ioctl::vnet_hdr_size(fd.as_fd()).map_err(|error| TapError::Os { what: "TUNGETVNETHDRSZ", error })?
    } else {
        0
    };
    if header > super::VNET_HDR_ROOM || vnet && header < super::VNET_HDR_LEN {
        let error = io::Error::new(io::ErrorKind::InvalidData, format!("{header} bytes of vnet_hdr"));
        return Err(TapError::Os { what: "TUNGETVNETHDRSZ", error });
    }
    // A plain tap that somebody left with offloads on would send us frames that nobody can read.
    ioctl::set_offload(fd.as_fd(), Offloads::default())
        .map_err(|error| TapError::Os { what: "TUNSETOFFLOAD", error })?;
    Ok(Opened { fd, name, header, offload: vnet, found })
}

/// Link up, address, script, in this order.
fn set_up(options: &TapOptions, tap: &Opened, made: bool, notices: &Notices) -> Result<(), TapError> {
    if let Some(bytes) = options.sndbuf {
        ioctl::set_sndbuf(tap.fd.as_fd(), bytes)
            .map_err(|error| TapError::Os { what: "TUNSETSNDBUF", error })?;
    }
    let address = match options.address {
        AddressChoice::Ip4 { addr, prefix } => Some((addr, prefix)),
        AddressChoice::Default
            if made && options.ifname.is_none() && options.script == ScriptChoice::Default =>
        {
            Some(DEFAULT_ADDRESS)
        }
        AddressChoice::Default | AddressChoice::None => None,
    };
    // The interface of an inherited descriptor may be in another namespace; it is its maker's business.
    if options.fd.is_none() && options.helper.is_none() || address.is_some() {
        set_up_link(options, tap, made, address, notices)?;
    }
    match &options.script {
        ScriptChoice::Path(path) => run_script("script", path, &tap.name),
        ScriptChoice::Default | ScriptChoice::No => Ok(()),
    }
}

fn set_up_link(
    options: &TapOptions,
    tap: &Opened,
    made: bool,
    address: Option<(Ipv4Addr, u8)>,
    notices: &Notices,
) -> Result<(), TapError> {
    let os = |what| move |error| TapError::Os { what, error };
    let mut links = HostLinks::open().map_err(os("opening netlink"))?;
    let found = links.find(&tap.name).map_err(os("looking for the interface"))?;
    let link = found.ok_or_else(|| os("looking for the interface")(io::ErrorKind::NotFound.into()))?;
    if !link.up
        && let Err(error) = links.set_up(link.index)
    {
        if made || error.raw_os_error() != Some(libc::EPERM) {
            return Err(TapError::Os { what: "setting the link up", error });
        }
        let name = &tap.name;
        notices
            .say(&format!("{name} is down and minivmm may not set it up: run 'sudo ip link set {name} up'"));
    }
    match address {
        Some(address) => set_address(options, tap, &mut links, link.index, address, notices),
        None => Ok(()),
    }
}

fn set_address(
    options: &TapOptions,
    tap: &Opened,
    links: &mut HostLinks,
    index: u32,
    (addr, prefix): (Ipv4Addr, u8),
    notices: &Notices,
) -> Result<(), TapError> {
    let text = format!("{addr}/{prefix}");
    let failed = |error| TapError::Address { address: text.clone(), name: tap.name.clone(), error };
    if let Some((other, owner)) = links.overlapping(addr, prefix, index).map_err(failed)? {
        let owner = links.name(owner).unwrap_or_else(|_| format!("interface {owner}"));
        let name = &tap.name;
        if options.address == AddressChoice::Default {
            notices.say(&format!(
                "{owner} has {other} already, so {name} gets no address: choose one with address=ADDRESS/PREFIX"
            ));
            return Ok(());
        }
        notices.say(&format!("{text} on {name} overlaps {other} on {owner}"));
    }
    links.add_address(index, addr, prefix).map_err(failed)
}

/// Runs a script with the interface's name and waits for it.
///
/// # Errors
/// [`TapError::Script`] if it cannot be run or its status is not 0.
pub fn run_script(option: &'static str, path: &Path, ifname: &str) -> Result<(), TapError> {
    let why = match Command::new(path).arg(ifname).status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(TapError::Script { option, path: path.into(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_those_that_linux_takes_whole() {
        for good in ["tap0", "a", "fifteen-bytes-x", "t.0"] {
            assert!(valid_name(good), "{good}");
        }
        for bad in ["", "sixteen-bytes-xx", "a/b", "a b", "a:b", "tap%d", ".", "..", "a\0"] {
            assert!(!valid_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_script_that_fails_says_which_and_how() {
        let error = run_script("script", Path::new("/bin/false"), "tap0").unwrap_err();
        assert_eq!(error.to_string(), "script=/bin/false: exit status: 1");
        let error = run_script("script", Path::new("/no/such"), "tap0").unwrap_err();
        assert!(error.to_string().starts_with("script=/no/such: No such file or directory"));
    }
}
