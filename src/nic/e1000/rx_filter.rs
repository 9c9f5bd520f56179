//! Which frames the receiver wants: length, addresses, VLAN (manual, sections 3.2.1, 10 and 13.5).
//!
//! Called under the register lock with the first bytes of a wire frame in private memory.

use super::regs::Regs;
use super::spec::{FCS_LEN, MAX_LONG, MAX_STANDARD, rah, rctl, reg};
use super::stats::Cast;
use crate::netport::checksum::load;

/// What the filters made of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Wanted. `inexact`: only the multicast hash let it through, so that software has to look (PIF).
    Wanted {
        /// RX status PIF.
        inexact: bool,
    },
    /// Not for us.
    Filtered,
    /// Too long.
    TooLong,
    /// A flow-control frame that ends here.
    FlowControl,
}

/// Offset of the EtherType, or of the VLAN tag.
const ETHERTYPE: usize = 12;

impl Regs {
    /// Judges a wire frame of `len` bytes (without FCS, padded) that begins with `head`.
    pub(super) fn judge(&mut self, head: &[u8], len: usize) -> Verdict {
        let control = self.get(reg::RCTL);
        if control & rctl::SBP == 0 {
            let long = control & rctl::LPE != 0;
            let limit = if long { MAX_LONG } else { MAX_STANDARD };
            if len + FCS_LEN > limit {
                self.count(reg::ROC, 1);
                return Verdict::TooLong;
            }
        }
        if let Some(verdict) = self.flow_control(control, head) {
            return verdict;
        }
        let verdict = self.judge_address(control, head);
        if verdict != Verdict::Filtered && !self.vlan_wanted(control, head) {
            return Verdict::Filtered;
        }
        verdict
    }

    /// Whether the frame carries a VLAN tag as VET says; its tag control information then.
    pub(super) fn vlan_tag(&self, head: &[u8]) -> Option<u16> {
        let tagged = u32::from(load(head, ETHERTYPE)?) == self.get(reg::VET);
        if tagged { load(head, ETHERTYPE + 2) } else { None }
    }

    fn judge_address(&self, control: u32, head: &[u8]) -> Verdict {
        let Some(address) = head.first_chunk::<6>() else { return Verdict::Filtered };
        let exact = match Cast::of(head) {
            Cast::Broadcast => control & rctl::BAM != 0 || control & rctl::MPE != 0,
            Cast::Multicast => control & rctl::MPE != 0,
            Cast::Unicast => control & rctl::UPE != 0,
        };
        if exact || self.is_station_address(address) {
            Verdict::Wanted { inexact: false }
        } else if self.hash_hit(control, address) {
            Verdict::Wanted { inexact: true }
        } else {
            Verdict::Filtered
        }
    }

    fn is_station_address(&self, address: &[u8; 6]) -> bool {
        let low = u32::from_le_bytes([address[0], address[1], address[2], address[3]]);
        let high = u32::from(u16::from_le_bytes([address[4], address[5]]));
        (0..16).any(|n| {
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
