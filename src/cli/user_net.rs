//! What `-netdev user` asks for: the typed form of its keys, and of forwarding rules given at run time.
//!
//! Read by `netdev/user`; made by the option parser and, for single rules, by the monitor. Plain data; nothing
//! here opens a socket or a file.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

/// `-netdev user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserOptions {
    /// `restrict=`: the guest reaches nothing but this network's own DHCP, TFTP and echo, and what `hostfwd` and
    /// `guestfwd` name.
    pub restrict: bool,
    /// `ipv4=`: whether IPv4 is there at all.
    pub ipv4: bool,
    /// `ipv6=`: whether IPv6 is there at all.
    pub ipv6: bool,
    /// `net=`: the network's address and prefix length, 8..=29.
    pub net: (Ipv4Addr, u8),
    /// `host=`: the gateway, which stands for the host's loopback. Inside `net`.
    pub host: Ipv4Addr,
    /// `dns=`: the name server as the guest sees it. Inside `net`, not `host`.
    pub dns: Ipv4Addr,
    /// `dhcpstart=`: the first of up to 16 addresses that DHCP gives away. Inside `net`.
    pub dhcp_start: Ipv4Addr,
    /// `ipv6-prefix=` and `ipv6-prefixlen=`.
    pub net6: (Ipv6Addr, u8),
    /// `ipv6-host=`: the gateway.
    pub host6: Ipv6Addr,
    /// `ipv6-dns=`: the name server as the guest sees it.
    pub dns6: Ipv6Addr,
    /// `dns-host=`: the resolver that DNS requests go to. None: the host's, from /etc/resolv.conf.
    pub dns_host: Option<SocketAddr>,
    /// `hostname=`: the guest's name, told by DHCP.
    pub hostname: Option<String>,
    /// `domainname=`, told by DHCP.
    pub domainname: Option<String>,
    /// `dnssearch=`: domains to search, told by DHCP.
    pub dnssearch: Vec<String>,
    /// `tftp=`: a directory whose files are served, read only.
    pub tftp: Option<PathBuf>,
    /// `tftp-server-name=`, told by DHCP (RFC 2132, option 66).
    pub tftp_server_name: Option<String>,
    /// `bootfile=`, told by DHCP.
    pub bootfile: Option<String>,
    /// `hostfwd=`.
    pub hostfwd: Vec<HostForward>,
    /// `guestfwd=`.
    pub guestfwd: Vec<GuestForward>,
}

impl Default for UserOptions {
    /// QEMU's: 10.0.2.0/24 and fec0::/64.
    fn default() -> Self {
        let site = |low| Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, low);
        Self {
            restrict: false,
            ipv4: true,
            ipv6: true,
            net: (Ipv4Addr::new(10, 0, 2, 0), 24),
            host: Ipv4Addr::new(10, 0, 2, 2),
            dns: Ipv4Addr::new(10, 0, 2, 3),
            dhcp_start: Ipv4Addr::new(10, 0, 2, 15),
            net6: (site(0), 64),
            host6: site(2),
            dns6: site(3),
            dns_host: None,
            hostname: None,
            domainname: None,
            dnssearch: Vec::new(),
            tftp: None,
            tftp_server_name: None,
            bootfile: None,
            hostfwd: Vec::new(),
            guestfwd: Vec::new(),
        }
    }
}

/// `hostfwd=`: what arrives at the host's `listen` goes to the guest's `guest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostForward {
    /// Where the host listens.
    pub listen: ListenAt,
    /// Where the guest is expected to listen.
    pub guest: SocketAddrV4,
}

/// A listening end on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAt {
    /// TCP connections to this address (0.0.0.0 is every address of the host).
    Tcp(SocketAddr),
    /// UDP datagrams to this address.
    Udp(SocketAddr),
    /// Connections to a Unix stream socket at this path.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(at) => write!(f, "tcp:{at}"),
            Self::Udp(at) => write!(f, "udp:{at}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `guestfwd=`: the guest's TCP connections to `server` go to `target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestForward {
    /// An address inside the network that is none of its other addresses, and a port.
    pub server: SocketAddrV4,
    /// What is at the other end.
    pub target: ForwardTarget,
}

/// The other end of a `guestfwd=`; each of the guest's connections gets one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardTarget {
    /// A TCP connection.
    Tcp(SocketAddr),
    /// A connection to a Unix stream socket.
    Unix(PathBuf),
    /// `cmd:`: a program, run by `/bin/sh -c`, with the connection as its standard input and output.
    Command(String),
}
