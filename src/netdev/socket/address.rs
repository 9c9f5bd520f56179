//! From the addresses of the command line to those of the host: names resolved, sockets made and bound.
//!
//! Called while a backend is opened, on the caller's thread; a name service may take its time there.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with,
    sockopt,
};

use super::error::SocketError;
use crate::cli::{InetAddress, UnixAddress};
use crate::sys::{inherit, unix_path};

/// One address of the host's, with its text for the user.
#[derive(Debug, Clone)]
pub struct HostAddress {
    /// For the kernel.
    pub addr: SocketAddrAny,
    /// A Unix path, to be removed by who bound it.
    pub path: Option<std::path::PathBuf>,
    text: String,
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<SocketAddr> for HostAddress {
    fn from(addr: SocketAddr) -> Self {
        Self { addr: addr.into(), path: None, text: addr.to_string() }
    }
}

/// All addresses of a host, in the order in which to try them; never none.
///
/// # Errors
/// [`SocketError::Resolve`].
pub fn resolve(address: &InetAddress) -> Result<Vec<HostAddress>, SocketError> {
    let failed = |why: String| SocketError::Resolve { host: address.host.clone(), why };
    let all: Vec<SocketAddr> = if address.host.is_empty() {
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        vec![SocketAddr::new(v4, address.port), SocketAddr::new(v6, address.port)]
    } else {
        let found = (address.host.as_str(), address.port).to_socket_addrs();
        found.map_err(|error| failed(error.to_string()))?.collect()
    };
    // As in QEMU: one of the two said on, the other not mentioned, means only that one.
    let v4 = address.ipv4.unwrap_or(address.ipv6 != Some(true));
    let v6 = address.ipv6.unwrap_or(address.ipv4 != Some(true));
    let wanted = |addr: &SocketAddr| if addr.is_ipv4() { v4 } else { v6 };
    let wanted: Vec<_> = all.into_iter().filter(wanted).map(HostAddress::from).collect();
    if wanted.is_empty() {
        return Err(failed("it has no address of the kind that ipv4= and ipv6= leave".into()));
    }
    Ok(wanted)
}

/// A Unix socket's address.
///
/// # Errors
/// [`SocketError::Os`] for a name that is too long or has a zero byte.
pub fn unix(address: &UnixAddress) -> Result<HostAddress, SocketError> {
    let failed = SocketError::os("making a Unix address");
    Ok(match address {
        UnixAddress::Path(path) => HostAddress {
            addr: SocketAddrUnix::new(path.as_path()).map_err(failed)?.into(),
            path: Some(path.clone()),
            text: format!("unix:{}", path.display()),
        },
        UnixAddress::Abstract(name) => HostAddress {
            addr: SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(failed)?.into(),
            path: None,
            text: format!("unix:@{name}"),
        },
    })
}

/// A nonblocking socket that children of ours do not get.
///
/// # Errors
/// The host's.
pub fn open(
    family: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
) -> rustix::io::Result<OwnedFd> {
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)
}

/// A new socket, bound to `at`. A Unix path that a dead process left behind is replaced.
///
/// # Errors
/// [`SocketError::Bind`], [`SocketError::Os`].
pub fn bound(at: &HostAddress, kind: SocketType) -> Result<OwnedFd, SocketError> {
    let family = at.addr.address_family();
    let fd = open(family, kind, None).map_err(SocketError::os("socket"))?;
    if family != AddressFamily::UNIX {
        // A listener's old connections in TIME_WAIT do not keep its address.
        sockopt::set_socket_reuseaddr(&fd, true).map_err(SocketError::os("SO_REUSEADDR"))?;
    }
    let result = match at.path.as_deref() {
        Some(path) => unix_path::bind(&fd, path, kind),
        None => bind(&fd, &at.addr),
    };
    let Err(refused) = result else { return Ok(fd) };
    let advice = match refused {
        rustix::io::Errno::ADDRINUSE => "; end the program that has it, or choose another",
        rustix::io::Errno::ADDRNOTAVAIL => "; name an address of this host",
        _ => "",
    };
    Err(SocketError::Bind { at: at.to_string(), error: refused.into(), advice })
}

/// Whether an inherited descriptor is a stream socket.
pub fn is_stream(number: i32) -> bool {
    let kind = inherit::adopt(number).map(|fd| sockopt::socket_type(&fd));
    matches!(kind, Ok(Ok(SocketType::STREAM)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix_path::BoundPath;

    fn texts(address: &InetAddress) -> Vec<String> {
        resolve(address).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_host_is_every_address_and_families_can_be_chosen() {
        let any = InetAddress::new("", 5);
        assert_eq!(texts(&any), ["0.0.0.0:5", "[::]:5"]);
        assert_eq!(texts(&InetAddress { ipv6: Some(true), ..any.clone() }), ["[::]:5"]);
        assert_eq!(texts(&InetAddress { ipv6: Some(false), ..any.clone() }), ["0.0.0.0:5"]);
        assert_eq!(texts(&InetAddress { ipv4: Some(true), ipv6: Some(true), ..any }).len(), 2);
        let error =
            resolve(&InetAddress { ipv4: Some(false), ..InetAddress::new("127.0.0.1", 1) }).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve the host '127.0.0.1': it has no address of"));
    }

    #[test]
    fn a_dead_server_s_path_is_replaced_and_a_live_one_s_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = unix(&UnixAddress::Path(dir.path().join("s"))).unwrap();
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            let live = bound(&at, kind).unwrap();
            if kind == SocketType::STREAM {
                rustix::net::listen(&live, 1).unwrap();
            }
            let error = bound(&at, kind).unwrap_err().to_string();
            assert!(error.contains("/s: Address already in use"), "{error}");
            drop(live);
            drop(bound(&at, kind).unwrap());
            drop(BoundPath(at.path.clone()));
        }
        std::fs::write(dir.path().join("s"), "a file").unwrap();
        assert!(bound(&at, SocketType::STREAM).is_err(), "a file that is no socket stays");
        assert_eq!(std::fs::read(dir.path().join("s")).unwrap(), b"a file");
    }
}
