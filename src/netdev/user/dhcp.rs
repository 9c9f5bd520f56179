//! The DHCP server (RFC 2131): 16 addresses from `dhcpstart=` on, one for each hardware address.
//!
//! Called by `stack` for datagrams to port 67. Leases are for a day and kept as long as the machine runs, so a
//! guest finds its address again after a reset. Nothing of the host's is consulted. Formats by smoltcp.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::ip;
use super::link::Link;
use super::subnet::Subnet;
use crate::cli::UserOptions;
use crate::netport::FrameMeta;

/// Where servers and clients listen.
pub const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Addresses that are given away, as in QEMU.
const POOL: u32 = 16;
/// Seconds.
const LEASE: u32 = 24 * 3600;
/// The `file` field of a BOOTP message (RFC 951): where boot ROMs look for the boot file's name.
const FILE_FIELD: std::ops::Range<usize> = 108..236;
/// Options (RFC 2132; domain search is RFC 3397).
const HOST_NAME: u8 = 12;
const DOMAIN_NAME: u8 = 15;
const TFTP_SERVER: u8 = 66;
const BOOT_FILE: u8 = 67;
const DOMAIN_SEARCH: u8 = 119;
const MESSAGE: u8 = 56;
/// What one option carries (RFC 2132, section 2).
const OPTION_MAX: usize = 255;

/// The server.
#[derive(Debug)]
pub struct Dhcp {
    first: Ipv4Addr,
    size: u32,
    leases: Vec<(EthernetAddress, u32)>,
    options: Vec<(u8, Vec<u8>)>,
    bootfile: Option<String>,
}

impl Dhcp {
    /// A server with all its addresses free.
    pub fn new(options: &UserOptions, subnet: &Subnet) -> Self {
        let mut told: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut tell = |kind, text: &Option<String>| {
            if let Some(text) = text {
                told.push((kind, text.as_bytes().to_vec()));
            }
        };
        tell(HOST_NAME, &options.hostname);
        tell(DOMAIN_NAME, &options.domainname);
        tell(TFTP_SERVER, &options.tftp_server_name);
        tell(BOOT_FILE, &options.bootfile);
        let search: Vec<u8> = options.dnssearch.iter().flat_map(|name| labels(name)).collect();
        // RFC 3396: a longer value goes into several options of the same kind.
        told.extend(search.chunks(OPTION_MAX).map(|part| (DOMAIN_SEARCH, part.to_vec())));
        let last = subnet.broadcast().to_bits();
        Self {
            first: options.dhcp_start,
            size: POOL.min(last.saturating_sub(options.dhcp_start.to_bits())),
            leases: Vec::new(),
            options: told,
            bootfile: options.bootfile.clone(),
        }
    }

    /// Answers one message of the guest's, if it is one.
    pub fn receive(&mut self, data: &[u8], subnet: &Subnet, link: &mut Link, now: u64) {
        let Ok(packet) = DhcpPacket::new_checked(data) else { return };
        let Ok(request) = DhcpRepr::parse(&packet) else { return };
        let mac = request.client_hardware_address;
        if !mac.is_unicast() {
            return;
        }
        let other_server = request.server_identifier.is_some_and(|server| server != subnet.host);
        match request.message_type {
            DhcpMessageType::Discover => {
                if let Some(address) = self.lease(mac, request.requested_ip, subnet) {
                    self.answer(&request, DhcpMessageType::Offer, Some(address), subnet, link);
                }
            }
            DhcpMessageType::Request if other_server => self.free(mac),
            DhcpMessageType::Request => {
                let asked = request.requested_ip.unwrap_or(request.client_ip);
                if self.lease(mac, Some(asked), subnet) == Some(asked) {
                    link.learn(asked.into(), mac, now);
                    self.answer(&request, DhcpMessageType::Ack, Some(asked), subnet, link);
                } else {
                    self.answer(&request, DhcpMessageType::Nak, None, subnet, link);
                }
            }
            DhcpMessageType::Inform => {
                self.answer(&request, DhcpMessageType::Ack, None, subnet, link);
            }
            DhcpMessageType::Release | DhcpMessageType::Decline => self.free(mac),
            _ => {}
        }
    }

    /// The address of `mac`: the one it has, the one it asks for if that is free, or the first free one.
    fn lease(&mut self, mac: EthernetAddress, asked: Option<Ipv4Addr>, subnet: &Subnet) -> Option<Ipv4Addr> {
        let first = self.first.to_bits();
        if let Some(&(_, index)) = self.leases.iter().find(|(owner, _)| *owner == mac) {
            return Some(Ipv4Addr::from_bits(first + index));
        }
        let usable = |index: &u32| {
            let address = IpAddr::V4(Ipv4Addr::from_bits(first + index));
            subnet.is_guest(address) && self.leases.iter().all(|(_, taken)| taken != index)
        };
        let wanted =
            asked.and_then(|address| address.to_bits().checked_sub(first)).filter(|i| *i < self.size);
        let index = wanted.filter(usable).or_else(|| (0..self.size).find(usable))?;
        self.leases.push((mac, index));
        Some(Ipv4Addr::from_bits(first + index))
    }

    fn free(&mut self, mac: EthernetAddress) {
        self.leases.retain(|(owner, _)| *owner != mac);
    }

    fn answer(
        &self,
        request: &DhcpRepr<'_>,
        message_type: DhcpMessageType,
        address: Option<Ipv4Addr>,
        subnet: &Subnet,
        link: &mut Link,
    ) {
        let refusal = [DhcpOption { kind: MESSAGE, data: b"requested address not available" }];
        let told: Vec<DhcpOption<'_>> =
            self.options.iter().map(|(kind, data)| DhcpOption { kind: *kind, data }).collect();
        let refused = message_type == DhcpMessageType::Nak;
        // A restricted network has no way out to tell of, as in QEMU.
        let open = !refused && !subnet.restrict;
        let reply = DhcpRepr {
            message_type,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: request.client_hardware_address,
            client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
            your_ip: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            server_ip: subnet.host,
            router: open.then_some(subnet.host),
            subnet_mask: (!refused).then(|| subnet.mask()),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(subnet.host),
            parameter_request_list: None,
            dns_servers: open.then(|| [subnet.dns].into_iter().collect()),
            max_size: None,
            lease_duration: address.map(|_| LEASE),
            renew_duration: None,
            rebind_duration: None,
            additional_options: if refused { &refusal } else { &told },
        };
        let mut data = vec![0; reply.buffer_len()];
        if reply.emit(&mut DhcpPacket::new_unchecked(data.as_mut_slice())).is_err() {
            return;
        }
        if let Some(name) = self.bootfile.as_ref().filter(|name| !refused && name.len() < FILE_FIELD.len()) {
            data[FILE_FIELD.start..FILE_FIELD.start + name.len()].copy_from_slice(name.as_bytes());
        }
        // RFC 2131, section 4.1: to the address it has; else to everybody if it asks for that or is refused;
        // else to the address it gets, which ARP does not find yet.
        let (to, mac) = match address {
            _ if refused => (Ipv4Addr::BROADCAST, EthernetAddress::BROADCAST),
            _ if !request.client_ip.is_unspecified() => (request.client_ip, request.client_hardware_address),
            Some(address) if !request.broadcast => (address, request.client_hardware_address),
            _ => (Ipv4Addr::BROADCAST, EthernetAddress::BROADCAST),
        };
        let from = SocketAddr::new(subnet.host.into(), SERVER_PORT);
        if let Some(frame) = ip::udp(from, SocketAddr::new(to.into(), CLIENT_PORT), &data) {
            link.send_to(mac, to.into(), frame, FrameMeta::default());
        }
    }
}

/// A domain name as DNS writes it (RFC 1035, section 3.1), uncompressed.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}
