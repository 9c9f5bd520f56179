//! The registers that the transmit engine works by, as one copy, and what it changes there.
//!
//! Called by [`super::TxEngine`] only; holds the register lock for each call and nothing else.

use crate::nic::e1000::interrupt::Delay;
use crate::nic::e1000::link::Path;
use crate::nic::e1000::regs::Regs;
use crate::nic::e1000::spec::{DESC_LEN, cause, ctrl, reg, tctl};
use crate::nic::e1000::stats::WireFrames;
use crate::nic::e1000::write_back::threshold;

/// Everything that the engine needs from the registers, read in one go.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) epoch: u64,
    pub(super) resets: u64,
    pub(super) running: bool,
    /// A PAUSE frame holds the ring until then.
    pub(super) paused_until: Option<u64>,
    pub(super) path: Path,
    pub(super) base: u64,
    /// Descriptors of the ring.
    pub(super) len: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The ring without length: one descriptor for each doorbell, TDH stays.
    pub(super) zero_ring: bool,
    /// VET, if CTRL.VME lets tags be inserted.
    pub(super) tag_type: Option<u16>,
    pub(super) pad: bool,
    pub(super) delay: Delay,
    /// TXDCTL.WTHRESH; one or less: each status byte is written at once.
    pub(super) burst: u32,
    /// What has gathered is to be written now.
    pub(super) flush: bool,
}

impl Regs {
    #[inline(always)]
    pub(super) fn tx_view(&mut self) -> View {
        let control = self.get(reg::TCTL);
        let path = self.path();
        let len = self.get(reg::TDLEN) / DESC_LEN as u32;
        let (head, tail) = (self.get(reg::TDH), self.get(reg::TDT));
        let paused_until = if path == Path::Wire { self.pause_end() } else { None };
        let enabled = control & tctl::EN != 0 && path != Path::Down && paused_until.is_none();
        let ring = head < len && tail < len;
        let zero_ring = enabled && len == 0 && !self.strict && std::mem::take(&mut self.zero_ring_doorbell);
        let vme = self.get(reg::CTRL) & ctrl::VME != 0;
        View {
            epoch: self.tx_epoch,
            resets: self.resets,
            running: enabled && (ring || zero_ring),
            paused_until,
            path,
            base: u64::from(self.get(reg::TDBAH)) << 32 | u64::from(self.get(reg::TDBAL)),
            len: if zero_ring { 1 } else { len },
            head: if zero_ring { 0 } else { head },
            tail: if zero_ring { 1 } else { tail },
            zero_ring,
            tag_type: vme.then(|| self.get(reg::VET) as u16),
            pad: control & tctl::PSP != 0,
            delay: Delay { timer: self.get(reg::TIDV) as u16, absolute: self.get(reg::TADV) as u16 },
            burst: if zero_ring { 0 } else { threshold(self.get(reg::TXDCTL)) },
            flush: std::mem::take(&mut self.tx_flush),
        }
    }

    /// The descriptors up to `next` are done and `sent` has left: moves TDH, counts, says what to interrupt with.
    #[inline(always)]
    pub(super) fn tx_done(&mut self, view: &View, next: u32, sent: &[WireFrames]) -> u32 {
        for &frames in sent {
            self.count_transmitted(frames);
            if view.path == Path::Wire {
                self.counters.tx_frames += frames.count;
                self.counters.tx_octets += frames.len as u64 * frames.count;
            }
        }
        if view.zero_ring {
            return cause::TXQE;
        }
        if self.tx_epoch != view.epoch {
            return 0;
        }
        let tail = self.get(reg::TDT);
        let pending = |head: u32| if tail >= head { tail - head } else { tail + view.len - head };
        let (before, after) = (pending(self.get(reg::TDH)), pending(next));
        self.set(reg::TDH, next);
        let low = 8 * (self.get(reg::TXDCTL) >> 25);
        let empty = if before > 0 && after == 0 { cause::TXQE } else { 0 };
        let scarce = if low > 0 && before > low && after <= low { cause::TXD_LOW } else { 0 };
        empty | scarce
    }
}
