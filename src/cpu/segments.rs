//! Segment registers and descriptors: loading, checking, far transfers (SDM vol. 3, chapters 3 and 5).
//!
//! Called by the handlers in `exec/far.rs` and by `interrupts.rs`. Task switches and call gates are not supported: a
//! selector that names one is a general-protection fault.

use super::Cpu;
use super::exceptions::{Exception, Flow, Stop, vector};
use super::machine::Machine;
use super::state::{Segment, seg};

/// A descriptor taken apart, and where it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub segment: Segment,
    /// Linear address in its table.
    pub at: u64,
}

/// What a far transfer of control is, for its privilege checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    /// JMP or CALL: the privilege level stays.
    Jump,
    /// RET or IRET: to the selector's RPL, never inwards.
    Return,
}

/// Type bit: accessed.
const ACCESSED: u16 = 1;
/// Type bit of data: writable; of code: readable.
const WRITABLE: u16 = 2;
/// Type bit of code: conforming.
const CONFORMING: u16 = 4;
const CODE: u16 = 8;

/// Unpacks an 8-byte descriptor.
fn unpack(selector: u16, d: u64) -> Segment {
    let attr = (d >> 40 & 0xf0ff) as u16;
    let raw = (d & 0xffff | d >> 32 & 0xf_0000) as u32;
    let limit = if attr & Segment::GRANULARITY != 0 { raw << 12 | 0xfff } else { raw };
    Segment { selector, attr, limit, base: d >> 16 & 0xff_ffff | d >> 32 & 0xff00_0000 }
}

impl Cpu {
    fn selector_fault<T>(&mut self, vector: u8, selector: u16) -> Result<T, Stop> {
        self.raise(Exception::with_code(vector, (selector & !3) as u32))
    }

    pub(super) fn gp<T>(&mut self, selector: u16) -> Result<T, Stop> {
        self.selector_fault(vector::GP, selector)
    }

    /// Linear address of a descriptor of `size` bytes; `None` when it lies outside its table.
    fn descriptor_address(&self, selector: u16, size: u64) -> Option<u64> {
        let offset = (selector & !7) as u64;
        let (base, limit) = if selector & 4 == 0 {
            (self.state.gdtr.base, self.state.gdtr.limit as u64)
        } else if self.state.ldtr.present() {
            (self.state.ldtr.base, self.state.ldtr.limit as u64)
        } else {
            return None;
        };
        (offset + size - 1 <= limit).then(|| base.wrapping_add(offset))
    }

    /// Reads a descriptor; #GP(selector) when it is outside its table. System descriptors have 16 bytes in IA-32e mode.
    pub(super) fn descriptor<M: Machine>(&mut self, m: &mut M, selector: u16) -> Result<Descriptor, Stop> {
        let Some(at) = self.descriptor_address(selector, 8) else { return self.gp(selector) };
        let d = self.load_system::<u64, M>(m, at)?;
        let mut segment = unpack(selector, d);
        if segment.attr & Segment::CODE_OR_DATA == 0 && self.state.long_mode() {
            if self.descriptor_address(selector, 16).is_none() {
                return self.gp(selector);
            }
            segment.base |= self.load_system::<u64, M>(m, at.wrapping_add(8))? << 32;
        }
        Ok(Descriptor { segment, at })
    }

    /// A descriptor for LAR, LSL, VERR, VERW, which report instead of faulting: `None` when there is none.
    pub(super) fn visible_descriptor<M: Machine>(
        &mut self,
        m: &mut M,
        selector: u16,
    ) -> Result<Option<Segment>, Stop> {
        if selector & !3 == 0 || self.descriptor_address(selector, 8).is_none() {
            return Ok(None);
        }
        let s = self.descriptor(m, selector)?.segment;
        let conforming = s.is_code() && s.kind() & CONFORMING != 0;
        let inner = s.dpl() < self.cpl.max((selector & 3) as u8);
        Ok((conforming || !inner).then_some(s))
    }

    fn mark_accessed<M: Machine>(&mut self, m: &mut M, d: &mut Descriptor) -> Flow {
        if d.segment.attr & ACCESSED == 0 {
            d.segment.attr |= ACCESSED;
            let kind = self.load_system::<u8, M>(m, d.at.wrapping_add(5))?;
            self.store_system(m, d.at.wrapping_add(5), kind | ACCESSED as u8)?;
        }
        Ok(())
    }

    /// MOV, POP and the Lxx loads of ES, SS, DS, FS, GS.
    pub(super) fn load_segment<M: Machine>(&mut self, m: &mut M, n: usize, selector: u16) -> Flow {
        if !self.protected() {
            let s = &mut self.state.segs[n % 6];
            (s.selector, s.base) = (selector, (selector as u64) << 4);
            if self.cpl == 3 {
                (s.attr, s.limit) = (0xf3, 0xffff);
            }
            return Ok(());
        }
        let s = if n == seg::SS {
            self.stack_segment(m, selector, self.cpl)?
        } else {
            self.data_segment(m, selector)?
        };
        self.state.segs[n % 6] = s;
        Ok(())
    }

    fn data_segment<M: Machine>(&mut self, m: &mut M, selector: u16) -> Result<Segment, Stop> {
        if selector & !3 == 0 {
            return Ok(Segment { selector, ..Segment::default() });
        }
        let mut d = self.descriptor(m, selector)?;
        let s = d.segment;
        let readable = s.kind() & CODE == 0 || s.kind() & WRITABLE != 0;
        let conforming = s.is_code() && s.kind() & CONFORMING != 0;
        let privileged = self.cpl.max((selector & 3) as u8) > s.dpl();
        if s.attr & Segment::CODE_OR_DATA == 0 || !readable || (!conforming && privileged) {
            return self.gp(selector);
        }
        if !s.present() {
            return self.selector_fault(vector::NP, selector);
        }
        self.mark_accessed(m, &mut d)?;
        Ok(d.segment)
    }

    /// The stack segment for a privilege level.
    pub(super) fn stack_segment<M: Machine>(
        &mut self,
        m: &mut M,
        selector: u16,
        cpl: u8,
    ) -> Result<Segment, Stop> {
        let rpl = (selector & 3) as u8;
        if selector & !3 == 0 {
            if self.bits != 64 || cpl == 3 || rpl != cpl {
                return self.gp0();
            }
            return Ok(Segment { selector, attr: (cpl as u16) << 5, ..Segment::default() });
        }
        let mut d = self.descriptor(m, selector)?;
        let s = d.segment;
        let writable_data =
            s.attr & (Segment::CODE_OR_DATA | CODE | WRITABLE) == Segment::CODE_OR_DATA | WRITABLE;
        if !writable_data || rpl != cpl || s.dpl() != cpl {
            return self.gp(selector);
        }
        if !s.present() {
            return self.selector_fault(vector::SS, selector);
        }
        self.mark_accessed(m, &mut d)?;
        Ok(d.segment)
    }

    /// The code segment for a far transfer, checked. Its selector's RPL is the new privilege level.
    pub(super) fn code_segment<M: Machine>(
        &mut self,
        m: &mut M,
        selector: u16,
        how: Transfer,
    ) -> Result<Segment, Stop> {
        if selector & !3 == 0 {
            return self.gp0();
        }
        let mut d = self.descriptor(m, selector)?;
        let s = d.segment;
        let rpl = (selector & 3) as u8;
        let conforming = s.kind() & CONFORMING != 0;
        let level = if how == Transfer::Jump { self.cpl } else { rpl };
        let allowed = match (how, conforming) {
            (_, true) => s.dpl() <= level,
            (Transfer::Jump, false) => rpl <= self.cpl && s.dpl() == self.cpl,
            (Transfer::Return, false) => s.dpl() == rpl,
        };
        let both = self.state.long_mode() && s.long() && s.big();
        let inwards = how == Transfer::Return && rpl < self.cpl;
        if !s.is_code() || !allowed || both || inwards {
            return self.gp(selector);
        }
        if !s.present() {
            return self.selector_fault(vector::NP, selector);
        }
        self.mark_accessed(m, &mut d)?;
        d.segment.selector = selector & !3 | level as u16;
        Ok(d.segment)
    }

    /// A code segment without a descriptor: real and virtual-8086 mode.
    pub(super) fn real_code_segment(&self, selector: u16) -> Segment {
        let old = self.state.segs[seg::CS];
        Segment { selector, base: (selector as u64) << 4, ..old }
    }

    /// Goes to `target` in a checked code segment; nothing has changed when it fails.
    pub(super) fn enter_code(&mut self, cs: Segment, target: u64) -> Flow {
        let long = self.state.long_mode() && cs.long();
        let good = if long { self.canonical(target) } else { target <= cs.limit as u64 };
        if !good {
            return self.gp0();
        }
        self.state.segs[seg::CS] = cs;
        self.state.rip = target;
        self.mode_changed();
        Ok(())
    }

    /// Returning outwards, data segments that the new level may not use become null.
    pub(super) fn drop_inner_segments(&mut self) {
        for n in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let s = self.state.segs[n];
            let conforming = s.is_code() && s.kind() & CONFORMING != 0;
            if s.present() && !conforming && s.dpl() < self.cpl {
                self.state.segs[n] = Segment { selector: 0, attr: 0, ..s };
            }
        }
    }

    /// LLDT and LTR.
    pub(super) fn load_system_segment<M: Machine>(&mut self, m: &mut M, selector: u16, task: bool) -> Flow {
        if selector & !3 == 0 {
            if task {
                return self.gp0();
            }
            self.state.ldtr = Segment { selector, ..Segment::default() };
            return Ok(());
        }
        let d = self.descriptor(m, selector)?;
        let s = d.segment;
        let kind_ok = match (task, self.state.long_mode()) {
            (true, true) => s.kind() == 9,
            (true, false) => matches!(s.kind(), 1 | 9),
            (false, _) => s.kind() == 2,
        };
        if selector & 4 != 0 || s.attr & Segment::CODE_OR_DATA != 0 || !kind_ok {
            return self.gp(selector);
        }
        if !s.present() {
            return self.selector_fault(vector::NP, selector);
        }
        if !task {
            self.state.ldtr = s;
            return Ok(());
        }
        let kind = self.load_system::<u8, M>(m, d.at.wrapping_add(5))?;
        self.store_system(m, d.at.wrapping_add(5), kind | 2)?;
        self.state.tr = Segment { attr: s.attr | 2, ..s };
        Ok(())
    }
}
