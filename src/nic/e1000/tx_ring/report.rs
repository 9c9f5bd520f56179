//! Descriptors back to the driver: DD, TDH, interrupt, in this order (manual, sections 3.3.3 and 3.4).
//!
//! Called by [`TxEngine::run`] with the transmit token held. TXDCTL.WTHRESH and faults may keep status bytes back for
//! a while. Never looks at a packet's bytes.

use super::TxEngine;
use super::view::View;
use crate::fault::CardFault;
use crate::nic::e1000::hooks::Hooked;
use crate::nic::e1000::interrupt::{Delay, Watch};
use crate::nic::e1000::observe::{Event, Ring, Slot};
use crate::nic::e1000::spec::{DELAY_TICK_NS, DESC_LEN, cause, reg};
use std::sync::atomic::{Ordering, fence};

/// Status bytes that a fault keeps at most: as many as the longest ring has descriptors. A driver that goes on without
/// waiting for them gets the others at once.
const MOST_LATE: usize = 1 << 16;

impl TxEngine {
    /// Writes DD, then moves TDH, then interrupts.
    pub(super) fn report<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) {
        if view.burst > 1 || !self.burst.is_empty() {
            self.gather(nic, view);
        }
        let late = !self.late.is_empty() || nic.planned(CardFault::LateDone);
        if late && !self.write_backs.is_empty() {
            self.make_late(nic);
        }
        nic.write_tx_status(view.base, &self.write_backs);
        let reported = if self.write_backs.is_empty() { 0 } else { cause::TXDW };
        let causes = {
            let mut regs = nic.regs();
            let causes = regs.tx_done(view, self.next, &self.sent);
            // While nobody can read the new TDH: what that reader does next would be heard of first.
            let head = regs.get(reg::TDH);
            nic.tell(|| Event::HeadMoved { ring: Ring::Tx, head, causes: causes | reported });
            causes
        };
        if self.write_backs.is_empty() {
            nic.interrupts().raise(causes);
        } else {
            let delay = if self.may_wait { view.delay } else { Delay::NONE };
            nic.interrupts().transmitted(delay, causes);
        }
        self.write_backs.clear();
        self.sent.clear();
        self.may_wait = true;
    }

    /// Status bytes wait for others: `write_backs` is empty afterwards or has all that waited. Counting begins with the
    /// first descriptor that has RS (13.4.43).
    fn gather<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) {
        let first = match self.write_backs.first() {
            Some(&(at, _)) if self.burst.is_empty() => (at.wrapping_sub(view.base) / DESC_LEN) as u32,
            None if self.burst.is_empty() => return,
            _ => view.head,
        };
        let ahead = if self.next >= first { self.next } else { self.next + view.len };
        let done = ahead.saturating_sub(first);
        self.burst.gather(&mut self.write_backs, &mut self.may_wait, done, view.burst);
        let waits = !self.burst.is_empty();
        if waits && !self.burst.timed && view.delay.timer != 0 {
            self.burst.timed = true;
            let ends = nic.regs().now() + u64::from(view.delay.timer) * DELAY_TICK_NS;
            nic.interrupts().watch(Watch::TxBurst, Some(ends));
        } else if !waits {
            nic.interrupts().watch(Watch::TxBurst, None);
        }
    }

    /// A fault takes the status bytes that are to be written, and all that come while it has any, up to [`MOST_LATE`].
    #[cold]
    fn make_late<const H: bool>(&mut self, nic: Hooked<'_, H>) {
        if self.late.len() >= MOST_LATE {
            return;
        }
        if !self.late.is_empty() {
            self.late.append(&mut self.write_backs);
        } else if let Some(hit) = nic.strikes(CardFault::LateDone) {
            self.late.append(&mut self.write_backs);
            self.late_until = nic.clock.now_ns().saturating_add(hit.time_ns);
            nic.interrupts().watch(Watch::TxLate, Some(self.late_until));
        }
    }

    /// Writes what a fault has made late, when it is time.
    pub(super) fn write_late<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) {
        if nic.clock.now_ns() < self.late_until && nic.planned(CardFault::LateDone) {
            return;
        }
        nic.write_tx_status(view.base, &std::mem::take(&mut self.late));
        nic.interrupts().transmitted(Delay::NONE, 0);
    }

    /// Writes what has gathered, for TIDV.
    pub(super) fn flush_burst<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) {
        if self.burst.is_empty() {
            return;
        }
        nic.write_tx_status(view.base, &self.burst.take());
        nic.interrupts().transmitted(Delay::NONE, 0);
    }
}

impl<const H: bool> Hooked<'_, H> {
    /// Writes status bytes, after everything that went before.
    #[inline]
    fn write_tx_status(self, base: u64, list: &[(u64, u8)]) {
        fence(Ordering::Release);
        for &(at, status) in list {
            self.tell_tx_write_back(base, at, status);
            // The ring may have lost its memory meanwhile; then there is nobody to tell.
            let _ = self.dma().write(at, &[status]);
        }
    }

    /// On a strict board with an observer, what lies in memory goes along, to be compared with what was fetched.
    fn tell_tx_write_back(self, base: u64, at: u64, status: u8) {
        self.tell(|| {
            let address = at - 12;
            let slot = Slot { index: (address.wrapping_sub(base) / DESC_LEN) as u32, address };
            let mut raw = [0; DESC_LEN as usize];
            let found = (self.strict() && self.dma().read(address, &mut raw).is_ok()).then_some(raw);
            let raw = [0, 0, 0, 0, status, 0, 0, 0];
            Event::WrittenBack { ring: Ring::Tx, slot, raw, found }
        });
    }
}
