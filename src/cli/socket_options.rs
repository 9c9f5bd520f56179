//! What `-netdev stream`, `dgram`, `socket`, `l2tpv3` and `passt`, and `-chardev socket` mean: the typed part of the configuration.
//!
//! Made by `cli/netdev`, read by `netdev/socket`. Plain data, as `config`: host names are text that whoever opens
//! the socket resolves.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a socket is bound or connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketAddress {
    /// `type=inet`.
    Inet(InetAddress),
    /// `type=unix`.
    Unix(UnixAddress),
    /// `type=fd`: an inherited socket, 3 or more.
    Fd(i32),
}

/// `type=inet`: a host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InetAddress {
    /// `host=`: a name or an address; empty means every address of this host.
    pub host: String,
    /// `port=`.
    pub port: u16,
    /// `ipv4=`. None: whatever the name has.
    pub ipv4: Option<bool>,
    /// `ipv6=`. None: whatever the name has.
    pub ipv6: Option<bool>,
    /// `keep-alive=`: TCP asks an idle peer whether it is still there.
    pub keep_alive: bool,
}

impl InetAddress {
    /// A host and a port without further wishes.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, ipv4: None, ipv6: None, keep_alive: false }
    }
}

/// `type=unix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnixAddress {
    /// `path=`: at most 107 bytes.
    Path(PathBuf),
    /// `abstract=on`: a name that lives in no file system, at most 107 bytes.
    Abstract(String),
}

/// `-netdev stream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// `addr.*`.
    pub addr: SocketAddress,
    /// `server=`: listen at `addr`; off: connect to it. Without meaning for a descriptor that is connected.
    pub server: bool,
    /// `reconnect=` (seconds) or `reconnect-ms=`: a client tries again after this time. Never zero.
    pub reconnect: Option<Duration>,
}

/// `-chardev socket`: a connection in QEMU's format of frames, for the filters that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketChardev {
    /// `id=`.
    pub id: String,
    /// Where.
    pub stream: StreamOptions,
    /// `wait=`: a server is ready when the first client has come.
    pub wait: bool,
}

/// `-netdev dgram`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DgramOptions {
    /// UDP between two addresses.
    Inet {
        /// `local.*`.
        local: InetAddress,
        /// `remote.*`.
        remote: InetAddress,
    },
    /// Unix datagrams between two paths.
    Unix {
        /// `local.*`.
        local: UnixAddress,
        /// `remote.*`.
        remote: UnixAddress,
    },
    /// UDP to a group that everybody joins.
    Multicast {
        /// `remote.host=`, in 224.0.0.0/4.
        group: Ipv4Addr,
        /// `remote.port=`.
        port: u16,
        /// `local.host=`: the address of the interface to use; none: the host's routes choose.
        interface: Option<Ipv4Addr>,
    },
    /// `local.type=fd`: an inherited, connected socket.
    Fd(i32),
}

/// `-netdev socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketOptions {
    /// `listen=`, `connect=`.
    Stream(StreamOptions),
    /// `mcast=`, `udp=`.
    Dgram(DgramOptions),
    /// `fd=`: an inherited socket; its type says whether frames have a length before them.
    Fd(i32),
}

/// `-netdev l2tpv3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L2tpv3Options {
    /// `src=`: our address.
    pub src: String,
    /// `dst=`: the other end's address.
    pub dst: String,
    /// `srcport=`, `dstport=` with `udp=on`. None: L2TPv3 directly over IP.
    pub ports: Option<(u16, u16)>,
    /// `ipv6=`: the addresses are IPv6.
    pub ipv6: bool,
    /// `txsession=`.
    pub tx_session: u32,
    /// `rxsession=`, or `txsession`.
    pub rx_session: u32,
    /// `txcookie=` and `rxcookie=`.
    pub cookies: Option<Cookies>,
    /// `counter=` and `pincounter=`.
    pub counter: CounterChoice,
    /// `offset=`: bytes between the header and the frame.
    pub offset: u16,
}

/// The cookies of an L2TPv3 session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookies {
    /// Sent with each frame.
    pub tx: u64,
    /// Expected with each frame.
    pub rx: u64,
    /// `cookie64=`: eight bytes long instead of four.
    pub wide: bool,
}

/// The sequence number of L2TPv3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CounterChoice {
    /// There is none.
    #[default]
    Absent,
    /// `counter=on`: counts up.
    Counting,
    /// `counter=on,pincounter=on`: the field is there and stays zero.
    Pinned,
}

/// `-netdev passt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PasstOptions {
    /// `path=`: the program, or the socket of one that runs. None: `passt` in PATH.
    pub path: Option<PathBuf>,
    /// What the other keys are to the program, in the order given.
    pub arguments: Vec<String>,
}
