//! What the monitor shows of a user network: its addresses, forwards, and the connections that pass it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// A user network at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// Network address and prefix length, IPv4 and IPv6, as far as they are spoken.
    pub net: String,
    /// Whether the outside is closed.
    pub restrict: bool,
    /// Host forwards in force: where the host listens, and the guest's end.
    pub forwards: Vec<(String, SocketAddr)>,
    /// Connections and flows.
    pub connections: Vec<Connection>,
}

/// One connection or flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// `tcp`, `udp` or `icmp`.
    pub protocol: &'static str,
    /// TCP's state at the guest's end, in the words of RFC 9293; empty for the others.
    pub state: String,
    /// The guest's end; the port is ICMP's identifier.
    pub guest: SocketAddr,
    /// The other end as the guest sees it.
    pub seen: SocketAddr,
    /// The host's end.
    pub target: String,
    /// Bytes that wait for the guest to take them.
    pub to_guest: usize,
    /// Bytes that wait for the host to take them.
    pub to_host: usize,
}

impl Connection {
    /// A flow without state and queues.
    pub fn stateless(protocol: &'static str, guest: SocketAddr, seen: SocketAddr, target: String) -> Self {
        Self { protocol, state: String::new(), guest, seen, target, to_guest: 0, to_host: 0 }
    }

    /// An echo flow.
    pub fn echo(guest: IpAddr, ident: u16, to: IpAddr) -> Self {
        let (guest, seen) = (SocketAddr::new(guest, ident), SocketAddr::new(to, 0));
        Self::stateless("icmp", guest, seen, to.to_string())
    }
}

impl fmt::Display for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{}", self.net, if self.restrict { " restricted" } else { "" })?;
        for (listen, guest) in &self.forwards {
            writeln!(f, "  forward {listen} -> {guest}")?;
        }
        for c in &self.connections {
            writeln!(
                f,
                "  {:4} {:12} {} -> {} ({}) {} {}",
                c.protocol, c.state, c.guest, c.seen, c.target, c.to_guest, c.to_host
            )?;
        }
        Ok(())
    }
}
