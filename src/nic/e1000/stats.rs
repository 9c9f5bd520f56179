//! Statistics (manual, section 13.7): the guest's counters, which saturate and clear on read, and the
//! machine's own, which nobody clears.
//!
//! All of them count wire frames: cut, with FCS, after padding.

use super::regs::Regs;
use super::spec::{FCS_LEN, reg};

/// The machine's counters of one NIC since it was made. Octets are without FCS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Wire frames sent to the peer (not those looped back).
    pub tx_frames: u64,
    /// Their octets.
    pub tx_octets: u64,
    /// Frames handed to the peer uncut.
    pub tx_gso_frames: u64,
    /// Frames that left with a bad FCS of the driver's own: nobody receives them.
    pub tx_bad_fcs: u64,
    /// Packets given up: descriptors that made no frame, or memory that is not there.
    pub tx_errors: u64,
    /// Wire frames that arrived while the receiver was on.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_octets: u64,
    /// Of them, not wanted by any filter, or damaged.
    pub rx_filtered: u64,
    /// Frames that arrived uncut.
    pub rx_gso_frames: u64,
    /// Frames that arrived while receiver or link were off.
    pub rx_off: u64,
    /// Frames lost because the receive FIFO was full.
    pub rx_overrun: u64,
    /// Times that the peer was told to wait for receive descriptors.
    pub rx_full: u64,
}

/// One or more equal wire frames.
#[derive(Debug, Clone, Copy)]
pub struct WireFrames {
    /// Length without FCS.
    pub len: usize,
    /// How many.
    pub count: u64,
    /// First octet of the destination address has the group bit, and is it all-ones?
    pub cast: Cast,
}

/// Kinds of destination address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// One station.
    Unicast,
    /// A group.
    Multicast,
    /// Everybody.
    Broadcast,
}

impl Cast {
    /// The kind of the destination of `frame`.
    pub fn of(frame: &[u8]) -> Self {
        match frame.get(..6) {
            Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => Self::Broadcast,
            Some([first, ..]) if first & 1 != 0 => Self::Multicast,
            _ => Self::Unicast,
        }
    }
}

impl Regs {
    /// Adds to a 32-bit counter, which sticks at its maximum.
    pub(super) fn count(&mut self, counter: u32, n: u64) {
        let value = u64::from(self.get(counter)).saturating_add(n);
        self.set(counter, u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// Adds to a 64-bit counter, given by its low half.
    pub(super) fn count_octets(&mut self, low: u32, n: u64) {
        let value = u64::from(self.get(low + 4)) << 32 | u64::from(self.get(low));
        let value = value.saturating_add(n);
        self.set(low, value as u32);
        self.set(low + 4, (value >> 32) as u32);
    }

    /// Counts transmitted frames.
    pub(super) fn count_transmitted(&mut self, frames: WireFrames) {
        let octets = (frames.len + FCS_LEN) as u64 * frames.count;
        self.count(reg::TPT, frames.count);
        self.count(reg::GPTC, frames.count);
        self.count(size_bin(reg::PTC64, frames.len), frames.count);
        self.count_octets(reg::TOTL, octets);
        self.count_octets(reg::GOTCL, octets);
        match frames.cast {
            Cast::Broadcast => self.count(reg::BPTC, frames.count),
            Cast::Multicast => self.count(reg::MPTC, frames.count),
            Cast::Unicast => {}
        }
    }

    /// Counts frames that arrived, wanted or not.
    pub(super) fn count_arrived(&mut self, frames: WireFrames) {
        self.count(reg::TPR, frames.count);
        self.count_octets(reg::TORL, (frames.len + FCS_LEN) as u64 * frames.count);
        self.counters.rx_frames += frames.count;
        self.counters.rx_octets += frames.len as u64 * frames.count;
    }

    /// Counts good frames that were accepted and stored.
    pub(super) fn count_good(&mut self, frames: WireFrames) {
        self.count(reg::GPRC, frames.count);
        self.count(size_bin(reg::PRC64, frames.len), frames.count);
        self.count_octets(reg::GORCL, (frames.len + FCS_LEN) as u64 * frames.count);
        match frames.cast {
            Cast::Broadcast => self.count(reg::BPRC, frames.count),
            Cast::Multicast => self.count(reg::MPRC, frames.count),
            Cast::Unicast => {}
        }
    }
}

/// The counter for frames of this length (without FCS): 64, 65 to 127, up to 255, 511, 1023, and longer.
fn size_bin(first: u32, len: usize) -> u32 {
    let bin = [64, 127, 255, 511, 1023].iter().filter(|&&limit| len + FCS_LEN > limit).count();
    first + 4 * bin as u32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::nic::e1000::Model;
    use crate::nic::e1000::eeprom::{Eeprom, Image};
    use crate::nic::e1000::fault::Faults;
    use crate::time::ManualClock;

    #[test]
    fn counters_stick_at_their_maximum() {
        let clock = Arc::new(ManualClock::default());
        let faults = Faults::new(clock.clone(), None);
        let eeprom = Eeprom::new(Image::fresh(Model::I82540Em, [2; 6]), true, faults.clone());
        let mut regs = Regs::new(Model::I82540Em, eeprom, 0, false, clock, faults);
        regs.count(reg::TPT, u64::from(u32::MAX));
        regs.count(reg::TPT, 1);
        assert_eq!(regs.get(reg::TPT), u32::MAX);
        regs.count_octets(reg::TOTL, u64::MAX - 1);
        regs.count_octets(reg::TOTL, 64);
        assert_eq!((regs.get(reg::TOTL), regs.get(reg::TOTL + 4)), (u32::MAX, u32::MAX));
    }
}
