//! One TCP flow's smoltcp device: a packet in, packets out to the link.
//!
//! Every flow has an interface of its own at the IP level, whose address is whatever the guest connected to; so
//! a packet goes to its flow by one look-up, and nothing that one flow does costs another.

use std::net::IpAddr;

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::netdev::user::ip::MTU;
use crate::netdev::user::link::{ETHERNET_HEADER, Link};
use crate::netdev::user::offload;

/// How much slower smoltcp's clock runs. Its retransmission timeout goes down to 10 ms, which a guest on a busy
/// host exceeds without having lost anything; the cable loses nothing, so a timeout is nearly always false.
pub const SLOWER: u64 = 10;

/// smoltcp's time.
pub fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1000 / SLOWER).unwrap_or(i64::MAX))
}

/// Our time of smoltcp's `instant`, never before it.
pub fn nanoseconds(instant: Instant) -> u64 {
    u64::try_from(instant.total_micros()).unwrap_or(0).saturating_add(1).saturating_mul(1000 * SLOWER)
}

/// The device, for one call of smoltcp's.
pub struct Wire<'a> {
    /// A packet of the guest's, if there is one.
    pub inbound: Option<&'a [u8]>,
    /// Where packets go.
    pub link: &'a mut Link,
    /// The guest's address.
    pub guest: IpAddr,
    /// What the guest takes in one segment.
    pub mss: u16,
    /// Our time.
    pub now: u64,
}

/// Longest IP packet that smoltcp makes.
const LONGEST: usize = u16::MAX as usize;

impl Device for Wire<'_> {
    type RxToken<'t>
        = Inbound<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outbound<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_>)> {
        let packet = self.inbound.take()?;
        let outbound = Outbound { link: self.link, guest: self.guest, mss: self.mss, now: self.now };
        Some((Inbound(packet), outbound))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_>> {
        let outbound = Outbound { link: self.link, guest: self.guest, mss: self.mss, now: self.now };
        outbound.link.has_room().then_some(outbound)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

fn capabilities() -> DeviceCapabilities {
    // The caller has seen to the guest's checksums, and `offload` to ours.
    let mut checksum = ChecksumCapabilities::ignored();
    checksum.ipv4 = Checksum::Tx;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = LONGEST;
    capabilities.checksum = checksum;
    capabilities
}

/// The guest's packet.
pub struct Inbound<'a>(&'a [u8]);

impl RxToken for Inbound<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for one packet.
pub struct Outbound<'a> {
    link: &'a mut Link,
    guest: IpAddr,
    mss: u16,
    now: u64,
}

impl TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut bytes = vec![0; ETHERNET_HEADER + len];
        let result = fill(&mut bytes[ETHERNET_HEADER..]);
        let header = if self.guest.is_ipv4() { 40 } else { 60 };
        let meta = offload::describe(&mut bytes, self.mss, (MTU - header) as u16);
        self.link.send(self.guest, bytes, meta, self.now);
        result
    }
}

/// Nothing in, nothing out: what an interface is made with.
pub struct Unplugged;

impl Device for Unplugged {
    type RxToken<'t> = Inbound<'t>;
    type TxToken<'t> = Outbound<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}
