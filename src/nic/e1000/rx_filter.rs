//! Which frames the receiver wants: length, addresses, VLAN (manual, sections 3.2.1, 10 and 13.5).
//!
//! Called under the register lock with the first bytes of a wire frame in private memory.

use super::flow_control::Control;
use super::observe::{Filter, Refusal};
use super::regs::Regs;
use super::rx_offload::WireFrame;
use super::spec::{FCS_LEN, MAX_LONG, MAX_STANDARD, MIN_FRAME, rah, rctl, reg, rxd};
use super::stats::Cast;
use crate::netport::checksum::load;

/// What the filters made of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Wanted.
    Wanted(Accepted),
    /// Not for us.
    Filtered,
    /// For us, but damaged or of a length that is not received.
    Flawed(Flaw),
    /// A flow-control frame that ends here.
    FlowControl,
}

/// How a frame was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Only the multicast hash let it through, so that software has to look (PIF).
    pub inexact: bool,
    /// What is wrong with it; RCTL.SBP let it through.
    pub flaw: Option<Flaw>,
    /// A MAC control frame that software wants to see: not a good packet to the statistics.
    pub control: bool,
}

impl Accepted {
    /// Whether it counts among the good packets.
    pub fn is_good(&self) -> bool {
        self.flaw.is_none() && !self.control
    }
}

/// What can be wrong with a frame on the wire (13.7.1, 13.7.34 to 13.7.37).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The FCS is not that of the frame.
    Crc,
    /// Shorter than the wire's shortest frame.
    Undersize,
    /// So, with a bad FCS.
    Fragment,
    /// Longer than RCTL.LPE allows.
    Oversize,
    /// So, with a bad FCS.
    Jabber,
}

impl Flaw {
    /// The flaw of a frame of `len` bytes without FCS.
    fn of(len: usize, long_packets: bool, crc_is_bad: bool) -> Option<Self> {
        let most = if long_packets { MAX_LONG } else { MAX_STANDARD };
        match (len < MIN_FRAME, len + FCS_LEN > most, crc_is_bad) {
            (true, _, false) => Some(Self::Undersize),
            (true, _, true) => Some(Self::Fragment),
            (_, true, false) => Some(Self::Oversize),
            (_, true, true) => Some(Self::Jabber),
            (false, false, true) => Some(Self::Crc),
            (false, false, false) => None,
        }
    }

    /// Its statistics register.
    pub fn counter(self) -> u32 {
        match self {
            Self::Crc => reg::CRCERRS,
            Self::Undersize => reg::RUC,
            Self::Fragment => reg::RFC,
            Self::Oversize => reg::ROC,
            Self::Jabber => reg::RJC,
        }
    }

    /// Its bits in the descriptor's errors.
    pub fn errors(self) -> u8 {
        match self {
            Self::Crc | Self::Fragment | Self::Jabber => rxd::CE,
            Self::Undersize | Self::Oversize => 0,
        }
    }
}

/// Offset of the EtherType, or of the VLAN tag.
const ETHERTYPE: usize = 12;

impl Regs {
    /// Judges a frame, and says what it asks of flow control.
    pub(super) fn judge(&self, frame: &WireFrame<'_>) -> (Verdict, Option<Control>) {
        let control = self.get(reg::RCTL);
        let long_packets = control & rctl::LPE != 0;
        let flaw = Flaw::of(frame.len(), long_packets, frame.crc_is_bad());
        let flow = if flaw.is_none() { self.flow_control(frame.head) } else { None };
        if flow.is_some_and(|flow| flow.ends_here(control)) {
            return (Verdict::FlowControl, flow);
        }
        let verdict = match self.judge_address(control, frame.head) {
            Some(_) if !self.vlan_wanted(control, frame.head) => Verdict::Filtered,
            Some(inexact) => self.judge_flaw(control, Accepted { inexact, flaw, control: flow.is_some() }),
            None => Verdict::Filtered,
        };
        (verdict, flow)
    }

    /// Only frames that pass the address filters are counted as flawed.
    fn judge_flaw(&self, control: u32, accepted: Accepted) -> Verdict {
        match accepted.flaw {
            Some(flaw) if control & rctl::SBP == 0 => Verdict::Flawed(flaw),
            _ => Verdict::Wanted(accepted),
        }
    }

    /// Whether the frame carries a VLAN tag as VET says; its tag control information then.
    pub(super) fn vlan_tag(&self, head: &[u8]) -> Option<u16> {
        let tagged = u32::from(load(head, ETHERTYPE)?) == self.get(reg::VET);
        if tagged { load(head, ETHERTYPE + 2) } else { None }
    }

    /// `None`: for somebody else; else whether only the hash let it through.
    pub(super) fn judge_address(&self, control: u32, head: &[u8]) -> Option<bool> {
        let address = head.first_chunk::<6>()?;
        let exact = match Cast::of(head) {
            Cast::Broadcast => control & rctl::BAM != 0 || control & rctl::MPE != 0,
            Cast::Multicast => control & rctl::MPE != 0,
            Cast::Unicast => control & rctl::UPE != 0,
        };
        if exact || self.is_station_address(address) {
            Some(false)
        } else {
            self.hash_hit(control, address).then_some(true)
        }
    }

    /// Whether it is one of RA0 to RA15.
    pub(super) fn is_station_address(&self, address: &[u8; 6]) -> bool {
        self.station_entry(address).is_some()
    }

    fn station_entry(&self, address: &[u8; 6]) -> Option<u32> {
        let low = u32::from_le_bytes([address[0], address[1], address[2], address[3]]);
        let high = u32::from(u16::from_le_bytes([address[4], address[5]]));
        (0..16).find(|&n| {
            let entry = self.get(reg::RAH + 8 * n);
            let selected = entry & rah::AV != 0 && entry & rah::AS_MASK == 0;
            selected && entry & 0xffff == high && self.get(reg::RAL + 8 * n) == low
        })
    }

    fn hash_hit(&self, control: u32, address: &[u8; 6]) -> bool {
        let shift = [4, 3, 2, 0][(control >> rctl::MO_SHIFT & 3) as usize];
        let hash = u32::from(u16::from_le_bytes([address[4], address[5]])) >> shift & 0xfff;
        self.get(reg::MTA + 4 * (hash >> 5)) >> (hash & 31) & 1 != 0
    }

    /// For observers: which filter lets a frame with these first bytes in, the exact ones first.
    pub(super) fn filter_of(&self, head: &[u8]) -> Filter {
        let control = self.get(reg::RCTL);
        let station = head.first_chunk::<6>().and_then(|address| self.station_entry(address));
        match (station, Cast::of(head)) {
            (Some(n), _) => Filter::Station(n as u8),
            (_, Cast::Broadcast) if control & rctl::BAM != 0 => Filter::Broadcast,
            (_, Cast::Broadcast | Cast::Multicast) if control & rctl::MPE != 0 => {
                Filter::MulticastPromiscuous
            }
            (_, Cast::Unicast) if control & rctl::UPE != 0 => Filter::UnicastPromiscuous,
            _ => Filter::Hash,
        }
    }

    /// For observers: which filter keeps a frame out.
    pub(super) fn filtered_by(&self, frame: &WireFrame<'_>) -> Refusal {
        let control = self.get(reg::RCTL);
        if self.flow_control(frame.head).is_some_and(|flow| flow.ends_here(control)) {
            Refusal::FlowControl
        } else if self.judge_address(control, frame.head).is_none() {
            Refusal::Address
        } else {
            let table_empty = (0..128).all(|n| self.get(reg::VFTA + 4 * n) == 0);
            Refusal::Vlan { table_empty }
        }
    }

    fn vlan_wanted(&self, control: u32, head: &[u8]) -> bool {
        if control & rctl::VFE == 0 {
            return true;
        }
        let Some(tci) = self.vlan_tag(head) else { return true };
        let id = u32::from(tci & 0xfff);
        let listed = self.get(reg::VFTA + 4 * (id >> 5)) >> (id & 31) & 1 != 0;
        let canonical = tci >> 12 & 1 != 0;
        listed && (control & rctl::CFIEN == 0 || canonical == (control & rctl::CFI != 0))
    }
}
