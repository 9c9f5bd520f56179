//! ARP: answering for our own addresses, asking for the guest's, learning from both.
//!
//! Formats by smoltcp. An address that is not ours is never answered for, so the guest finds out by itself that
//! nobody is there.

use std::net::Ipv4Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

use super::link::{ETHERNET_HEADER, Link};
use super::subnet::Subnet;
use crate::netport::FrameMeta;

/// What the guest says in ARP.
pub fn receive(bytes: &[u8], subnet: &Subnet, link: &mut Link, now: u64) {
    let Ok(ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = ArpPacket::new_checked(bytes).and_then(|packet| ArpRepr::parse(&packet))
    else {
        return;
    };
    if subnet.is_guest(source_protocol_addr.into()) {
        link.learn(source_protocol_addr.into(), source_hardware_addr, now);
    }
    if operation == ArpOperation::Request && subnet.is_ours(target_protocol_addr.into()) {
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: link.mac(),
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let frame = frame(link.mac(), source_hardware_addr, &reply);
        link.push(frame, FrameMeta::default());
    }
}

/// A frame that asks everybody for the hardware address of `target`.
pub fn request(mac: EthernetAddress, host: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: host,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    frame(mac, EthernetAddress::BROADCAST, &request)
}

fn frame(src_addr: EthernetAddress, dst_addr: EthernetAddress, arp: &ArpRepr) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET_HEADER + arp.buffer_len()];
    let ethernet = EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Arp };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    arp.emit(&mut ArpPacket::new_unchecked(&mut bytes[ETHERNET_HEADER..]));
    bytes
}
