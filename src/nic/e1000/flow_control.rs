//! Flow control: PAUSE frames in and out (manual, section 9.6; IEEE 802.3, annex 31B).
//!
//! Called under the register lock by the receive engine (a PAUSE frame arrived, the FIFO has filled or drained) and by the
//! TCTL handler (SWXOFF); the transmit engine asks when it may go on. Frames that are owed are sent by the device, with
//! no lock held.

use super::link::Path;
use super::regs::Regs;
use super::spec::{FCS_LEN, MIN_FRAME, ctrl, rctl, reg};
use crate::netport::checksum::load;

/// Offset of the EtherType.
const ETHERTYPE: usize = 12;
/// FCRTL.XONE: tell the peer to go on.
const XONE: u32 = 1 << 31;
/// Opcode of PAUSE.
const PAUSE: u16 = 1;
/// Nanoseconds of one pause quantum, 512 bit times, at 1000 Mb/s.
const PAUSE_QUANTUM_NS: u64 = 512;

/// What a MAC control frame for this station asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Hold the transmitter for so many quanta; zero lets it go.
    Pause(u16),
    /// An opcode that nobody here knows.
    Unknown,
}

impl Control {
    /// Whether software does not get to see the frame. Otherwise the ordinary filters decide.
    pub fn ends_here(self, rctl: u32) -> bool {
        match self {
            Self::Pause(_) => rctl & rctl::DPF != 0,
            Self::Unknown => rctl & rctl::PMCF == 0,
        }
    }
}

impl Regs {
    /// What a frame that begins with `head` asks for, if it is a MAC control frame to the group or to this station.
    #[inline(always)]
    pub(super) fn flow_control(&self, head: &[u8]) -> Option<Control> {
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
        match load(head, ETHERTYPE + 2)? {
            PAUSE => Some(Control::Pause(load(head, ETHERTYPE + 4)?)),
            _ => Some(Control::Unknown),
        }
    }

    /// Does what a MAC control frame asked for, and counts it.
    pub(super) fn heed(&mut self, control: Control) {
        match control {
            Control::Pause(quanta) if self.get(reg::CTRL) & ctrl::RFCE != 0 => self.pause(quanta),
            Control::Pause(_) => {}
            Control::Unknown => self.count(reg::FCRUC, 1),
        }
    }

    /// When the PAUSE in force ends, if one is.
    pub(super) fn pause_end(&mut self) -> Option<u64> {
        if self.paused_until != 0 && self.paused_until <= self.now() {
            self.paused_until = 0;
        }
        Some(self.paused_until).filter(|&until| until != 0)
    }

    /// The receive FIFO holds so many bytes now: above FCRTH the peer is asked to pause, again when its time is over;
    /// below FCRTL it may go on (13.4.23, 13.4.24). Says whether a frame is owed.
    pub(super) fn fifo_holds(&mut self, bytes: usize) -> bool {
        let threshold = |register: u32| (register & 0xfff8) as usize;
        let (high, low) = (threshold(self.get(reg::FCRTH)), threshold(self.get(reg::FCRTL)));
        if self.get(reg::CTRL) & ctrl::TFCE == 0 || high == 0 {
            return false;
        }
        let now = self.now();
        if bytes >= high && self.peer_paused_until.is_none_or(|until| until <= now) {
            let quanta = self.get(reg::FCTTV) as u16;
            self.peer_paused_until = Some(now.saturating_add(u64::from(quanta) * PAUSE_QUANTUM_NS));
            self.pause_owed = Some(quanta);
        } else if bytes < low && self.peer_paused_until.take().is_some() && self.get(reg::FCRTL) & XONE != 0 {
            self.pause_owed = Some(0);
        } else {
            return false;
        }
        true
    }

    /// The PAUSE frame that is owed, with its quanta, if there is a wire to send it to.
    pub(super) fn take_pause_owed(&mut self) -> Option<(u16, [u8; MIN_FRAME])> {
        let quanta = self.pause_owed.take()?;
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
        frame[16..18].copy_from_slice(&quanta.to_be_bytes());
        Some((quanta, frame))
    }

    /// The peer has taken a PAUSE frame of ours. It counts as transmitted, but not as a good packet (13.7.30).
    pub(super) fn pause_frame_sent(&mut self, quanta: u16) {
        self.count(if quanta == 0 { reg::XONTXC } else { reg::XOFFTXC }, 1);
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
