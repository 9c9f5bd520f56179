//! The virtual network's addresses: which are ours, which the guest may use, and what an address means on the
//! host.
//!
//! Asked by every protocol of this backend. Decides nothing about ports but that of DNS; opens nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::resolver::Resolver;
use crate::cli::{GuestForward, UserOptions};

/// DNS, by TCP and UDP.
const DNS_PORT: u16 = 53;

/// The addresses of one network.
#[derive(Debug, Clone)]
pub struct Subnet {
    net: (Ipv4Addr, u8),
    net6: (Ipv6Addr, u8),
    /// The gateway.
    pub host: Ipv4Addr,
    /// The name server.
    pub dns: Ipv4Addr,
    /// The gateway's IPv6 address.
    pub host6: Ipv6Addr,
    /// The name server's IPv6 address.
    pub dns6: Ipv6Addr,
    /// Whether IPv4 is spoken.
    pub ipv4: bool,
    /// Whether IPv6 is spoken.
    pub ipv6: bool,
    /// Whether the outside is closed.
    pub restrict: bool,
    guestfwd: Vec<GuestForward>,
}

/// Where something that the guest sends to an address goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To this address of the host or beyond it.
    Host(SocketAddr),
    /// To the target of this rule.
    Forward(GuestForward),
    /// Nowhere: the network is restricted.
    Prohibited,
    /// Nowhere: nobody has the address, or it is not one that a guest may send to.
    Nobody,
}

impl Subnet {
    /// The network that `options` describe.
    pub fn new(options: &UserOptions) -> Self {
        Self {
            net: options.net,
            net6: options.net6,
            host: options.host,
            dns: options.dns,
            host6: options.host6,
            dns6: options.dns6,
            ipv4: options.ipv4,
            ipv6: options.ipv6,
            restrict: options.restrict,
            guestfwd: options.guestfwd.clone(),
        }
    }

    /// Network mask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.net.1)).unwrap_or(0))
    }

    /// Broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.net.0.to_bits() | !self.mask().to_bits())
    }

    /// The network's address and prefix length, as text.
    pub fn name(&self) -> String {
        let mut names = Vec::new();
        if self.ipv4 {
            names.push(format!("{}/{}", self.net.0, self.net.1));
        }
        if self.ipv6 {
            names.push(format!("{}/{}", self.net6.0, self.net6.1));
        }
        names.join(" ")
    }

    /// IPv6 prefix and its length.
    pub fn prefix6(&self) -> (Ipv6Addr, u8) {
        self.net6
    }

    /// The gateway's link-local address (RFC 4291, section 2.5.6): what router advertisements come from.
    pub fn link_local(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)
    }

    /// Whether the address belongs to this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => {
                a.to_bits() & self.mask().to_bits() == self.net.0.to_bits() & self.mask().to_bits()
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.net6.1)).unwrap_or(0);
                a.is_unicast_link_local() || a.to_bits() & mask == self.net6.0.to_bits() & mask
            }
        }
    }

    /// Whether the guest is answered at this address by us.
    pub fn is_ours(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => {
                a == self.host || a == self.dns || self.guestfwd.iter().any(|rule| *rule.server.ip() == a)
            }
            IpAddr::V6(a) => a == self.host6 || a == self.dns6 || a == self.link_local(),
        }
    }

    /// Whether a guest may have this address.
    pub fn is_guest(&self, address: IpAddr) -> bool {
        let host_part = match address {
            IpAddr::V4(a) => a != self.net.0 && a != self.broadcast(),
            IpAddr::V6(a) => a != self.net6.0,
        };
        host_part && self.contains(address) && !self.is_ours(address)
    }

    /// Where TCP or UDP for `target` goes.
    pub fn route(&self, target: SocketAddr, tcp: bool, resolver: &mut Resolver) -> Route {
        let rule = self.guestfwd.iter().find(|rule| tcp && SocketAddr::V4(rule.server) == target);
        if let Some(rule) = rule {
            return Route::Forward(rule.clone());
        }
        if self.restrict {
            return Route::Prohibited;
        }
        match target.ip() {
            ip if ip == self.host => Route::Host(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), target.port())),
            ip if ip == self.host6 => Route::Host(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), target.port())),
            ip if (ip == self.dns || ip == self.dns6) && target.port() == DNS_PORT => {
                Route::Host(resolver.server())
            }
            ip if self.contains(ip) || !routable(ip) => Route::Nobody,
            _ => Route::Host(target),
        }
    }

    /// Where an echo request for `target` goes outside of this network, if anywhere.
    pub fn route_echo(&self, target: IpAddr) -> Route {
        match target {
            _ if self.restrict => Route::Prohibited,
            ip if self.contains(ip) || !routable(ip) => Route::Nobody,
            ip => Route::Host(SocketAddr::new(ip, 0)),
        }
    }

    /// As whom a client of the host appears to the guest: loopback is the gateway, and so is whoever cannot
    /// be told apart from the guest's neighbours or speaks the other IP version.
    pub fn seen_from_guest(&self, client: IpAddr, guest: IpAddr) -> IpAddr {
        match (client.to_canonical(), guest) {
            (IpAddr::V4(c), IpAddr::V4(_)) if routable(c.into()) && !self.contains(c.into()) => c.into(),
            (IpAddr::V6(c), IpAddr::V6(_)) if routable(c.into()) && !self.contains(c.into()) => c.into(),
            (_, IpAddr::V4(_)) => self.host.into(),
            (_, IpAddr::V6(_)) => self.host6.into(),
        }
    }
}

/// Whether a router passes packets for this address on: unicast, not loopback, not of one link.
fn routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_link_local()
                || a.octets()[0] == 0
                || a.octets()[0] >= 240)
        }
        IpAddr::V6(a) => {
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_unicast_link_local()
                || a.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ForwardTarget;

    fn route(options: &UserOptions, target: &str) -> Route {
        let mut resolver = Resolver::fixed("192.0.2.53:5353".parse().unwrap());
        Subnet::new(options).route(target.parse().unwrap(), true, &mut resolver)
    }

    #[test]
    fn addresses_mean_on_the_host_what_qemu_makes_of_them() {
        let options = UserOptions::default();
        let host = |text: &str| Route::Host(text.parse().unwrap());
        for (target, meaning) in [
            ("10.0.2.2:80", host("127.0.0.1:80")),
            ("10.0.2.3:53", host("192.0.2.53:5353")),
            ("[fec0::2]:80", host("[::1]:80")),
            ("[fec0::3]:53", host("192.0.2.53:5353")),
            ("198.51.100.1:80", host("198.51.100.1:80")),
            ("[2001:db8::1]:80", host("[2001:db8::1]:80")),
        ] {
            assert_eq!(route(&options, target), meaning, "{target}");
        }
    }

    #[test]
    fn what_no_router_passes_on_goes_nowhere() {
        for target in [
            "10.0.2.3:54",
            "10.0.2.4:80",
            "10.0.2.255:80",
            "127.0.0.1:22",
            "127.8.9.10:22",
            "0.0.0.0:22",
            "169.254.169.254:80",
            "224.0.0.251:53",
            "255.255.255.255:67",
            "[::1]:22",
            "[::ffff:127.0.0.1]:22",
            "[fe80::1]:22",
            "[ff02::1]:22",
        ] {
            assert_eq!(route(&UserOptions::default(), target), Route::Nobody, "{target}");
        }
    }

    #[test]
    fn a_restricted_network_has_forwards_and_nothing_else() {
        let rule = GuestForward {
            server: "10.0.2.100:80".parse().unwrap(),
            target: ForwardTarget::Tcp("127.0.0.1:1".parse().unwrap()),
        };
        let options = UserOptions { restrict: true, guestfwd: vec![rule.clone()], ..UserOptions::default() };
        assert_eq!(route(&options, "10.0.2.100:80"), Route::Forward(rule));
        for target in ["10.0.2.100:81", "10.0.2.2:80", "10.0.2.3:53", "198.51.100.1:80", "127.0.0.1:80"] {
            assert_eq!(route(&options, target), Route::Prohibited, "{target}");
        }
    }

    #[test]
    fn guests_are_neither_we_nor_the_network_nor_strangers() {
        let subnet = Subnet::new(&UserOptions::default());
        let guest = |text: &str| subnet.is_guest(text.parse().unwrap());
        assert!(guest("10.0.2.15") && guest("10.0.2.4") && guest("fec0::15") && guest("fe80::1"));
        for address in
            ["10.0.2.0", "10.0.2.2", "10.0.2.3", "10.0.2.255", "10.0.3.1", "fec0::2", "2001:db8::1"]
        {
            assert!(!guest(address), "{address}");
        }
    }
}
