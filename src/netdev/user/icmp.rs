//! ICMP: echo of our own addresses, and the errors that tell the guest why something did not arrive.
//!
//! IPv4 and IPv6 alike; neighbour discovery is `ndp`'s, echo beyond this network `ping`'s. Formats by smoltcp.

use std::net::IpAddr;

use rustix::io::Errno;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4TimeExceeded, Icmpv6DstUnreachable,
    Icmpv6Message, Icmpv6Packet, Icmpv6TimeExceeded, IpProtocol,
};

use super::ip::{HOP_LIMIT, Packet, build};

/// Bytes of ICMP's header.
pub const ICMP_HEADER: usize = 8;

/// An echo request.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    /// Tells one program's requests from another's.
    pub ident: u16,
}

/// Why a packet did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No route.
    Network,
    /// Nobody there.
    Host,
    /// Nobody listens.
    Port,
    /// Not allowed.
    Prohibited,
    /// The hop limit ran out here.
    TimeExceeded,
}

impl Unreachable {
    /// What the host said when it could not send or connect.
    pub fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::CONNREFUSED => Self::Port,
            Errno::NETUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => Self::Network,
            Errno::ACCESS | Errno::PERM => Self::Prohibited,
            _ => Self::Host,
        }
    }
}

/// The echo request that `packet` is, if it is one and intact. `summed`: somebody vouches for the checksum.
pub fn echo_request(packet: &Packet<'_>, summed: bool) -> Option<Echo> {
    match packet.protocol {
        IpProtocol::Icmp => {
            let icmp = Icmpv4Packet::new_checked(packet.payload).ok()?;
            let intact = packet.payload.len() >= ICMP_HEADER && (summed || icmp.verify_checksum());
            (intact && icmp.msg_type() == Icmpv4Message::EchoRequest && icmp.msg_code() == 0)
                .then(|| Echo { ident: icmp.echo_ident() })
        }
        IpProtocol::Icmpv6 => {
            let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src, packet.dst) else { return None };
            let icmp = Icmpv6Packet::new_checked(packet.payload).ok()?;
            let intact = packet.payload.len() >= ICMP_HEADER && (summed || icmp.verify_checksum(&src, &dst));
            (intact && icmp.msg_type() == Icmpv6Message::EchoRequest && icmp.msg_code() == 0)
                .then(|| Echo { ident: icmp.echo_ident() })
        }
        _ => None,
    }
}

/// An echo reply from `src` to `dst` behind room for an Ethernet header: `message` (a request or a reply, at
/// least a header long) with this identifier.
pub fn echo_reply(src: IpAddr, dst: IpAddr, ident: u16, message: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            build(src, dst, IpProtocol::Icmpv6, HOP_LIMIT, message.len(), |bytes| {
                bytes.copy_from_slice(message);
                let mut reply = Icmpv6Packet::new_unchecked(bytes);
                reply.set_msg_type(Icmpv6Message::EchoReply);
                reply.set_echo_ident(ident);
                reply.fill_checksum(&s, &d);
            })
        }
        _ => build(src, dst, IpProtocol::Icmp, HOP_LIMIT, message.len(), |bytes| {
            bytes.copy_from_slice(message);
            let mut reply = Icmpv4Packet::new_unchecked(bytes);
            reply.set_msg_type(Icmpv4Message::EchoReply);
            reply.set_echo_ident(ident);
            reply.fill_checksum();
        }),
    }
}

/// An error message from `src` to `dst`, behind room for an Ethernet header, about the packet that begins with
/// `quote`.
pub fn error(src: IpAddr, dst: IpAddr, why: Unreachable, quote: &[u8]) -> Vec<u8> {
    let len = ICMP_HEADER + quote.len();
    match (src, dst) {
        (IpAddr::V6(s), IpAddr::V6(d)) => build(src, dst, IpProtocol::Icmpv6, HOP_LIMIT, len, |bytes| {
            let (kind, code) = code6(why);
            bytes[ICMP_HEADER..].copy_from_slice(quote);
            let mut error = Icmpv6Packet::new_unchecked(bytes);
            error.set_msg_type(kind);
            error.set_msg_code(code);
            error.fill_checksum(&s, &d);
        }),
        _ => build(src, dst, IpProtocol::Icmp, HOP_LIMIT, len, |bytes| {
            let (kind, code) = code4(why);
            bytes[ICMP_HEADER..].copy_from_slice(quote);
            let mut error = Icmpv4Packet::new_unchecked(bytes);
            error.set_msg_type(kind);
            error.set_msg_code(code);
            error.fill_checksum();
        }),
    }
}

fn code4(why: Unreachable) -> (Icmpv4Message, u8) {
    let unreachable = |code: Icmpv4DstUnreachable| (Icmpv4Message::DstUnreachable, code.into());
    match why {
        Unreachable::Network => unreachable(Icmpv4DstUnreachable::NetUnreachable),
        Unreachable::Host => unreachable(Icmpv4DstUnreachable::HostUnreachable),
        Unreachable::Port => unreachable(Icmpv4DstUnreachable::PortUnreachable),
        Unreachable::Prohibited => unreachable(Icmpv4DstUnreachable::CommProhibited),
        Unreachable::TimeExceeded => (Icmpv4Message::TimeExceeded, Icmpv4TimeExceeded::TtlExpired.into()),
    }
}

fn code6(why: Unreachable) -> (Icmpv6Message, u8) {
    let unreachable = |code: Icmpv6DstUnreachable| (Icmpv6Message::DstUnreachable, code.into());
    match why {
        Unreachable::Network => unreachable(Icmpv6DstUnreachable::NoRoute),
        Unreachable::Host => unreachable(Icmpv6DstUnreachable::AddrUnreachable),
        Unreachable::Port => unreachable(Icmpv6DstUnreachable::PortUnreachable),
        Unreachable::Prohibited => unreachable(Icmpv6DstUnreachable::AdminProhibit),
        Unreachable::TimeExceeded => {
            (Icmpv6Message::TimeExceeded, Icmpv6TimeExceeded::HopLimitExceeded.into())
        }
    }
}
