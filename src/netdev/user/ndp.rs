//! IPv6's neighbour and router discovery (RFC 4861): who we are, what prefix and name server there is.
//!
//! Takes the place of ARP and DHCP: the guest makes its address from the advertised prefix (RFC 4862) and learns
//! the name server from option RDNSS (RFC 8106). Formats by smoltcp, but for that option.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    NdiscNeighborFlags, NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
    RawHardwareAddress,
};

use super::ip::{MTU, Packet, build};
use super::link::Link;
use super::subnet::Subnet;
use crate::netport::FrameMeta;

/// All of neighbour discovery has it, so that nobody can send it from afar (RFC 4861, section 7.1).
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How long what we advertise holds, in seconds.
const LIFETIME: u32 = 3600;
/// Option RDNSS with one address: kind, length in units of 8 bytes, reserved.
const RDNSS: [u8; 4] = [25, 3, 0, 0];

/// What the guest says in neighbour discovery. False if it is none.
pub fn receive(
    packet: &Packet<'_>,
    mac: EthernetAddress,
    subnet: &Subnet,
    link: &mut Link,
    now: u64,
) -> bool {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src, packet.dst) else { return false };
    let Ok(icmp) = Icmpv6Packet::new_checked(packet.payload) else { return false };
    if packet.hop_limit != HOP_LIMIT || !icmp.msg_type().is_ndisc() {
        return false;
    }
    let Ok(Icmpv6Repr::Ndisc(message)) =
        Icmpv6Repr::parse(&src, &dst, &icmp, &ChecksumCapabilities::default())
    else {
        return true;
    };
    let told = |lladdr: Option<RawHardwareAddress>| {
        lladdr.filter(|raw| raw.len() == 6).map_or(mac, |raw| EthernetAddress::from_bytes(raw.as_bytes()))
    };
    match message {
        NdiscRepr::NeighborSolicit { target_addr, lladdr } if subnet.is_ours(target_addr.into()) => {
            // An unspecified source asks whether somebody has the address that it wants for itself.
            let (to, solicited) = match src.is_unspecified() {
                true => (ALL_NODES, NdiscNeighborFlags::empty()),
                false => (src, NdiscNeighborFlags::SOLICITED),
            };
            if subnet.is_guest(src.into()) {
                link.learn(src.into(), told(lladdr), now);
            }
            let advert = NdiscRepr::NeighborAdvert {
                flags: solicited | NdiscNeighborFlags::OVERRIDE | NdiscNeighborFlags::ROUTER,
                target_addr,
                lladdr: Some(link.mac().into()),
            };
            let bytes = message_from(target_addr, to, advert, &[]);
            link.send_to(
                if solicited.is_empty() { multicast(to) } else { mac },
                to.into(),
                bytes,
                FrameMeta::default(),
            );
        }
        NdiscRepr::NeighborAdvert { target_addr, lladdr, .. } if subnet.is_guest(target_addr.into()) => {
            link.learn(target_addr.into(), told(lladdr), now);
        }
        NdiscRepr::RouterSolicit { .. } => advertise(subnet, link),
        _ => {}
    }
    true
}

/// Tells everybody of the prefix, of us as the router, and of the name server.
fn advertise(subnet: &Subnet, link: &mut Link) {
    let (prefix, prefix_len) = subnet.prefix6();
    let lifetime = Duration::from_secs(LIFETIME.into());
    let advert = NdiscRepr::RouterAdvert {
        hop_limit: super::ip::HOP_LIMIT,
        flags: NdiscRouterFlags::empty(),
        // A restricted network has no way out to tell of.
        router_lifetime: if subnet.restrict { Duration::ZERO } else { lifetime },
        reachable_time: Duration::ZERO,
        retrans_time: Duration::ZERO,
        lladdr: Some(link.mac().into()),
        mtu: Some(MTU as u32),
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len,
            flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
            valid_lifetime: lifetime,
            preferred_lifetime: lifetime,
            prefix,
        }),
    };
    let mut dns = Vec::new();
    if !subnet.restrict {
        dns.extend_from_slice(&RDNSS);
        dns.extend_from_slice(&LIFETIME.to_be_bytes());
        dns.extend_from_slice(&subnet.dns6.octets());
    }
    let bytes = message_from(subnet.link_local(), ALL_NODES, advert, &dns);
    link.send_to(multicast(ALL_NODES), ALL_NODES.into(), bytes, FrameMeta::default());
}

/// A frame that asks everybody for the hardware address of `target`.
pub fn solicit(mac: EthernetAddress, target: Ipv6Addr) -> Vec<u8> {
    let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: Some(mac.into()) };
    let [.., a, b, c] = target.octets();
    // The solicited-node multicast address (RFC 4291, section 2.7.1).
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let mut bytes = message_from(link_local, group, message, &[]);
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(mac);
    frame.set_dst_addr(multicast(group));
    frame.set_ethertype(EthernetProtocol::Ipv6);
    bytes
}

/// A message, with options that smoltcp does not know, behind room for an Ethernet header.
fn message_from(src: Ipv6Addr, dst: Ipv6Addr, message: NdiscRepr<'_>, options: &[u8]) -> Vec<u8> {
    let len = message.buffer_len();
    build(src.into(), dst.into(), IpProtocol::Icmpv6, HOP_LIMIT, len + options.len(), |bytes| {
        let (head, tail) = bytes.split_at_mut(len);
        message.emit(&mut Icmpv6Packet::new_unchecked(head));
        tail.copy_from_slice(options);
        Icmpv6Packet::new_unchecked(bytes).fill_checksum(&src, &dst);
    })
}

/// Where IPv6 multicast goes on Ethernet (RFC 2464, section 7).
fn multicast(group: Ipv6Addr) -> EthernetAddress {
    let [.., a, b, c, d] = group.octets();
    EthernetAddress([0x33, 0x33, a, b, c, d])
}
