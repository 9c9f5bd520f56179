//! Flow control: PAUSE frames in and out (manual, section 9.6; IEEE 802.3, annex 31B).
//!
//! Called under the register lock by the receive filters (a PAUSE frame arrived) and by the TCTL handler
//! (SWXOFF); the transmit engine asks when it may go on.

use super::link::Path;
use super::regs::Regs;
use super::rx_filter::Verdict;
use super::spec::{FCS_LEN, MIN_FRAME, ctrl, rctl, reg};
use crate::netport::checksum::load;

/// Offset of the EtherType.
const ETHERTYPE: usize = 12;
/// Opcode of PAUSE.
const PAUSE: u16 = 1;
/// Nanoseconds of one pause quantum, 512 bit times, at 1000 Mb/s.
const PAUSE_QUANTUM_NS: u64 = 512;

impl Regs {
    /// MAC control frames: PAUSE holds the transmitter, and DPF and PMCF decide who sees them. `None`: the
    /// ordinary filters decide.
    pub(super) fn flow_control(&mut self, control: u32, head: &[u8]) -> Option<Verdict> {
        let ethertype = u32::from(load(head, ETHERTYPE)?);
        if ethertype != self.get(reg::FCT) || ethertype == 0 {
            return None;
        }
        let address = head.first_chunk::<6>()?;
        let low = u32::from_le_bytes([address[0], address[1], address[2], address[3]]);
        let high = u32::from(u16::from_le_bytes([address[4], address[5]]));
        let group = low == self.get(reg::FCAL) && high == self.get(reg::FCAH);
        let station = low == self.get(reg::RAL) && high == self.get(reg::RAH) & 0xffff;
        if !group && !station {
            return None;
        }
        if load(head, ETHERTYPE + 2)? != PAUSE {
            self.count(reg::FCRUC, 1);
            return (control & rctl::PMCF == 0).then_some(Verdict::FlowControl);
        }
        if self.get(reg::CTRL) & ctrl::RFCE != 0 {
            self.pause(load(head, ETHERTYPE + 4)?);
        }
        (control & rctl::DPF != 0).then_some(Verdict::FlowControl)
    }

    /// When the PAUSE in force ends, if one is.
    pub(super) fn pause_end(&mut self) -> Option<u64> {
        if self.paused_until != 0 && self.paused_until <= self.now() {
            self.paused_until = 0;
        }
        Some(self.paused_until).filter(|&until| until != 0)
    }

    /// The PAUSE frame that software asks for with SWXOFF, if there is a wire to send it to.
    pub(super) fn pause_frame(&self) -> Option<[u8; MIN_FRAME]> {
        if self.path() != Path::Wire {
            return None;
        }
        let mut frame = [0; MIN_FRAME];
        frame[..4].copy_from_slice(&self.get(reg::FCAL).to_le_bytes());
        frame[4..6].copy_from_slice(&self.get(reg::FCAH).to_le_bytes()[..2]);
        frame[6..10].copy_from_slice(&self.get(reg::RAL).to_le_bytes());
        frame[10..12].copy_from_slice(&self.get(reg::RAH).to_le_bytes()[..2]);
        frame[12..14].copy_from_slice(&self.get(reg::FCT).to_be_bytes()[2..]);
        frame[14..16].copy_from_slice(&PAUSE.to_be_bytes());
        frame[16..18].copy_from_slice(&self.get(reg::FCTTV).to_be_bytes()[2..]);
        Some(frame)
    }

    /// The peer has taken a PAUSE frame of ours. It counts as transmitted, but not as a good packet (13.7.30).
    pub(super) fn pause_frame_sent(&mut self) {
        self.count(reg::XOFFTXC, 1);
        self.count(reg::TPT, 1);
        self.count_octets(reg::TOTL, (MIN_FRAME + FCS_LEN) as u64);
        self.counters.tx_frames += 1;
        self.counters.tx_octets += MIN_FRAME as u64;
    }

    fn pause(&mut self, quanta: u16) {
        let counter = if quanta == 0 { reg::XONRXC } else { reg::XOFFRXC };
        self.count(counter, 1);
        self.paused_until = self.now().saturating_add(u64::from(quanta) * PAUSE_QUANTUM_NS);
    }
}
