//! Write-back in bursts: descriptors that are done wait until TXDCTL.WTHRESH or RXDCTL.WTHRESH of them are, or until a
//! timer or software flushes them (manual, sections 3.2.5.1, 3.4.2, 13.4.43 and 13.4.46).
//!
//! Two lists, of which each engine owns one and keeps its time. Drivers of this family leave the thresholds at 1 or less,
//! where each descriptor is written at once and none of this is used.

use std::sync::atomic::{Ordering, fence};

use super::hooks::Hooked;
use super::moderation::DelayTimer;
use super::observe::{Event, Ring, Slot};

/// TXDCTL.GRAN and RXDCTL.GRAN: thresholds count descriptors, not cache lines.
const GRAN: u32 = 1 << 24;

/// WTHRESH of TXDCTL or RXDCTL in descriptors; one or less: each is written back at once. In units of cache lines, whose
/// size a conventional PCI board need not have been told, nothing waits.
pub fn threshold(control: u32) -> u32 {
    if control & GRAN == 0 { 0 } else { control >> 16 & 0x3f }
}

/// Transmit descriptors with RS that wait for company.
#[derive(Debug)]
pub struct TxBurst {
    /// Where each status byte goes, and its value.
    status: Vec<(u64, u8)>,
    /// Descriptors processed since the first of them, it included.
    count: u32,
    /// All of them let the interrupt wait (IDE).
    may_wait: bool,
    /// TIDV runs since the first of them.
    pub timed: bool,
}

impl Default for TxBurst {
    fn default() -> Self {
        Self { status: Vec::new(), count: 0, may_wait: true, timed: false }
    }
}

impl TxBurst {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.status.is_empty()
    }

    /// Takes over what has been done, `done` descriptors, and gives all of it back once `threshold` are together.
    pub fn gather(&mut self, status: &mut Vec<(u64, u8)>, may_wait: &mut bool, done: u32, threshold: u32) {
        self.status.append(status);
        self.may_wait &= *may_wait;
        self.count = self.count.saturating_add(done);
        if self.count >= threshold {
            let all = std::mem::take(self);
            (*status, *may_wait) = (all.status, all.may_wait);
        }
    }

    /// Everything that waits.
    pub fn take(&mut self) -> Vec<(u64, u8)> {
        std::mem::take(self).status
    }
}

/// What the write-back of one receive descriptor holds behind the buffer's address.
#[derive(Debug, Clone, Copy)]
pub struct RxWriteBack {
    /// The descriptor.
    pub slot: Slot,
    /// Its second half, with the status byte still zero.
    pub body: [u8; 8],
    /// The status byte.
    pub status: u8,
}

impl RxWriteBack {
    /// Writes it, DD last.
    pub fn write<const H: bool>(&self, nic: Hooked<'_, H>) {
        let Self { slot, body, status } = *self;
        nic.tell(|| {
            let [a, b, c, d, _, f, g, h] = body;
            let mut there = [0; 16];
            let found = (nic.strict() && nic.dma().read(slot.address, &mut there).is_ok()).then_some(there);
            Event::WrittenBack { ring: Ring::Rx, slot, raw: [a, b, c, d, status, f, g, h], found }
        });
        // Errors here mean that the ring is gone under our hands: nobody is left to tell.
        let _ = nic.dma().write(slot.address + 8, &body);
        fence(Ordering::Release);
        let _ = nic.dma().write(slot.address + 12, &[status]);
    }
}

/// Receive descriptors that are filled and wait for company.
#[derive(Debug, Default)]
pub struct RxBurst {
    list: Vec<RxWriteBack>,
    /// The ring's epoch: a new ring makes the list void.
    epoch: u64,
    /// RDTR and RADV, whose end writes and then interrupts.
    pub timer: DelayTimer,
}

impl RxBurst {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a filled descriptor.
    pub fn push(&mut self, filled: RxWriteBack) {
        self.list.push(filled);
    }

    /// How many wait.
    pub fn len(&self) -> u32 {
        self.list.len() as u32
    }

    /// Forgets what belongs to another ring than that of `epoch`.
    pub fn follow(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.clear();
        }
    }

    /// Writes everything that waits, oldest first.
    pub fn write<const H: bool>(&mut self, nic: Hooked<'_, H>) {
        for filled in self.list.drain(..) {
            filled.write(nic);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.list.clear();
        self.timer.stop();
    }
}
