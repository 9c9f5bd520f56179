//! The host's side of a tap, by rtnetlink: link up, an address, and what is there already.
//!
//! Called while a tap is opened. One request at a time on a socket of its own; sees the network namespace of
//! the calling thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Rtnl};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Administratively up.
    pub up: bool,
    /// Made by the tun driver (tun or tap).
    pub tun: bool,
}

/// A question-and-answer connection to the kernel.
pub struct HostLinks {
    socket: Socket,
    sequence: u32,
}

impl HostLinks {
    /// Connects.
    ///
    /// # Errors
    /// The host's, out of descriptors or without netlink.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The interface of this name, if there is one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.ask(Rtnl::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(link_of)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the interface up.
    ///
    /// # Errors
    /// The kernel's; EPERM without CAP_NET_ADMIN.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.ask(Rtnl::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Gives the interface an address; one that it has already is fine.
    ///
    /// # Errors
    /// The kernel's; EPERM without CAP_NET_ADMIN.
    pub fn add_address(&mut self, index: u32, addr: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Address(IpAddr::V4(addr)));
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(addr)));
        if prefix < 31 {
            message
                .attributes
                .push(AddressAttribute::Broadcast(Ipv4Addr::from(u32::from(addr) | !mask(prefix))));
        }
        match self.ask(Rtnl::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The address (as ADDRESS/PREFIX) and interface number of another interface than `except` whose subnet
    /// shares addresses with this one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn overlapping(
        &mut self,
        addr: Ipv4Addr,
        prefix: u8,
        except: u32,
    ) -> io::Result<Option<(String, u32)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.ask(Rtnl::GetAddress(message), NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(address_of).find_map(|(index, other, other_prefix)| {
            let common = mask(prefix.min(other_prefix));
            let same = u32::from(addr) & common == u32::from(other) & common;
            (same && index != except).then(|| (format!("{other}/{other_prefix}"), index))
        }))
    }

    /// The name of the interface with this number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn name(&mut self, index: u32) -> io::Result<String> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let answers = self.ask(Rtnl::GetLink(message), 0)?;
        let name = answers.into_iter().find_map(|answer| match answer {
            Rtnl::NewLink(link) => link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            }),
            _ => None,
        });
        name.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Sends one request and collects the answers up to the acknowledgement, the end of the dump, or the one
    /// answer of a plain request.
    fn ask(&mut self, request: Rtnl, flags: u16) -> io::Result<Vec<Rtnl>> {
        self.sequence += 1;
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if self.collect(&datagram, flags, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Takes the messages out of one datagram; true at the end of the answer.
    fn collect(&self, mut datagram: &[u8], flags: u16, answers: &mut Vec<Rtnl>) -> io::Result<bool> {
        while !datagram.is_empty() {
            let message = NetlinkMessage::<Rtnl>::deserialize(datagram)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Netlink pads messages to 4 bytes (linux/netlink.h, NLMSG_ALIGN).
            let advance = (message.header.length as usize).next_multiple_of(4).max(4);
            datagram = datagram.get(advance..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) => return Ok(true),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
        Ok(flags & (NLM_F_ACK | NLM_F_DUMP) == 0)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

fn link_of(answer: Rtnl) -> Option<Link> {
    let Rtnl::NewLink(link) = answer else { return None };
    let tun = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Tun)),
        _ => false,
    });
    Some(Link { index: link.header.index, up: link.header.flags.contains(LinkFlags::Up), tun })
}

fn address_of(answer: Rtnl) -> Option<(u32, Ipv4Addr, u8)> {
    let Rtnl::NewAddress(message) = answer else { return None };
    let addr = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(addr)) => Some(*addr),
        _ => None,
    })?;
    Some((message.header.index, addr, message.header.prefix_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_is_no_tap() {
        let mut links = HostLinks::open().unwrap();
        let lo = links.find("lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.tun), (1, false));
        assert_eq!(links.name(1).unwrap(), "lo");
        assert_eq!(links.find("no-such-link").unwrap(), None);
    }

    #[test]
    fn masks() {
        assert_eq!((mask(0), mask(1), mask(24), mask(32)), (0, 1 << 31, 0xffff_ff00, u32::MAX));
    }
}
