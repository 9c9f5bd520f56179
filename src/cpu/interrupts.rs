//! Delivery of interrupts and exceptions through the IDT or the real-mode vector table (SDM vol. 3, chapter 6).

use super::Cpu;
use super::exceptions::{Exception, Flow, Stop, vector};
use super::machine::Machine;
use super::segments::Transfer;
use super::state::{Segment, cr0, gpr, rflags as rf, seg};

/// What is being delivered; decides about privilege checks, error-code bits and RF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// External interrupt, NMI, or a trap after an instruction.
    Event,
    /// A fault: RIP points at the instruction, which will be restarted, past a breakpoint at it: RF is set in the image.
    Fault,
    /// INT n, INT3, INTO.
    Software,
}

/// The processor has shut down: an exception while delivering a double fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TripleFault;

fn contributory(v: u8) -> bool {
    matches!(v, vector::DE | vector::TS | vector::NP | vector::SS | vector::GP)
}

/// One gate of the IDT.
struct Gate {
    selector: u16,
    offset: u64,
    /// Type and attributes, as in bytes 5.
    attr: u8,
    ist: u8,
}

impl Cpu {
    /// Whether an external interrupt may be delivered now.
    pub fn interruptible(&self) -> bool {
        self.state.rflags & rf::IF != 0 && !self.state.interrupt_shadow
    }

    /// Delivers an external interrupt; the caller has seen [`Self::interruptible`] (or it is an NMI, vector 2).
    ///
    /// # Errors
    /// [`TripleFault`] when delivery fails beyond rescue.
    pub fn interrupt<M: Machine>(&mut self, m: &mut M, vector: u8) -> Result<(), TripleFault> {
        self.enter();
        if vector == super::exceptions::vector::NMI {
            self.state.nmi_blocked = true;
        }
        let done = self.deliver_all(m, Exception::plain(vector), Source::Event, self.state.rip);
        self.leave();
        done
    }

    /// Delivers an exception at the current RIP, with what may follow from it: a double fault, a shutdown. `restart` is
    /// the RIP of the instruction, for faults on the way of a software interrupt.
    pub(super) fn deliver_all<M: Machine>(
        &mut self,
        m: &mut M,
        first: Exception,
        source: Source,
        restart: u64,
    ) -> Result<(), TripleFault> {
        let careful = std::mem::replace(&mut self.careful, true);
        let (mut e, mut source) = (first, source);
        // Only exceptions count for the rules of double faults; each turn either ends or comes nearer to a shutdown.
        let mut previous = (source == Source::Fault).then_some(first.vector);
        let done = loop {
            if let Some(cr2) = e.cr2.filter(|_| e.vector == vector::PF) {
                self.state.cr2 = cr2;
            }
            let Err(_) = self.deliver(m, e, source) else { break Ok(()) };
            let next =
                Exception { cr2: self.fault.cr2.filter(|_| self.fault.vector == vector::PF), ..self.fault };
            let double = match previous {
                Some(vector::DF) => break Err(TripleFault),
                Some(vector::PF) => contributory(next.vector) || next.vector == vector::PF,
                Some(v) => contributory(v) && contributory(next.vector),
                None => false,
            };
            if source == Source::Software {
                // The fault is that of INT n itself, which is run again afterwards.
                self.state.rip = restart;
            }
            e = if double { Exception::with_code(vector::DF, 0) } else { next };
            source = Source::Fault;
            previous = Some(e.vector);
        };
        self.careful = careful;
        if done.is_ok() {
            self.state.halted = false;
            self.state.interrupt_shadow = false;
        }
        done
    }

    fn deliver<M: Machine>(&mut self, m: &mut M, e: Exception, source: Source) -> Flow {
        if self.state.cr0 & cr0::PE == 0 {
            return self.deliver_real(m, e.vector);
        }
        let gate = self.gate(m, e.vector, source)?;
        let external = (source != Source::Software) as u32;
        let cs = self.gate_target(m, &gate, external)?;
        let mut image = self.rflags();
        if source == Source::Fault {
            image |= rf::RF;
        }
        if self.state.long_mode() {
            self.deliver_long(m, &gate, cs, image, e.code)?;
        } else {
            self.deliver_protected(m, &gate, cs, image, e.code)?;
        }
        let mut clear = rf::TF | rf::NT | rf::RF | rf::VM;
        if gate.attr & 1 == 0 {
            clear |= rf::IF;
        }
        self.state.rflags &= !clear;
        self.mode_changed();
        Ok(())
    }

    /// Reads and checks the gate of a vector.
    fn gate<M: Machine>(&mut self, m: &mut M, v: u8, source: Source) -> Result<Gate, Stop> {
        let long = self.state.long_mode();
        let size = if long { 16 } else { 8 };
        let code = v as u32 * 8 + 2 + (source != Source::Software) as u32;
        let offset = v as u64 * size;
        if offset + size - 1 > self.state.idtr.limit as u64 {
            return self.raise(Exception::with_code(vector::GP, code));
        }
        let at = self.state.idtr.base.wrapping_add(offset);
        let low = self.load_system::<u64, M>(m, at)?;
        let high = if long { self.load_system::<u64, M>(m, at.wrapping_add(8))? } else { 0 };
        let gate = Gate {
            selector: (low >> 16) as u16,
            offset: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
            attr: (low >> 40) as u8,
            ist: if long { (low >> 32) as u8 & 7 } else { 0 },
        };
        let kind = gate.attr & 0x1f;
        let kind_ok = matches!(kind, 0xe | 0xf) || (!long && matches!(kind, 6 | 7));
        let too_low = source == Source::Software && gate.attr >> 5 & 3 < self.cpl;
        if !kind_ok || too_low {
            return self.raise(Exception::with_code(vector::GP, code));
        }
        if gate.attr & 0x80 == 0 {
            return self.raise(Exception::with_code(vector::NP, code));
        }
        Ok(gate)
    }

    /// The handler's code segment; its selector's RPL is the level it runs at.
    fn gate_target<M: Machine>(&mut self, m: &mut M, gate: &Gate, external: u32) -> Result<Segment, Stop> {
        let code = (gate.selector & !3) as u32 | external;
        if gate.selector & !3 == 0 {
            return self.raise(Exception::with_code(vector::GP, external));
        }
        let mut s = match self.descriptor(m, gate.selector) {
            Ok(d) => d.segment,
            Err(stop) => {
                if let Some(c) = self.fault.code.as_mut().filter(|_| self.fault.vector == vector::GP) {
                    *c |= external;
                }
                return Err(stop);
            }
        };
        let long_ok = !self.state.long_mode() || (s.long() && !s.big());
        if !s.is_code() || s.dpl() > self.cpl || !long_ok {
            return self.raise(Exception::with_code(vector::GP, code));
        }
        if !s.present() {
            return self.raise(Exception::with_code(vector::NP, code));
        }
        let level = if s.kind() & 4 != 0 { self.cpl } else { s.dpl() };
        s.selector = s.selector & !3 | level as u16;
        Ok(s)
    }

    fn deliver_long<M: Machine>(
        &mut self,
        m: &mut M,
        gate: &Gate,
        cs: Segment,
        image: u64,
        code: Option<u32>,
    ) -> Flow {
        let level = (cs.selector & 3) as u8;
        let inwards = level < self.cpl;
        let old_sp = self.state.gpr[gpr::RSP];
        let top = if gate.ist != 0 {
            self.task_stack(m, 0x24 + 8 * (gate.ist as u64 - 1))?
        } else if inwards {
            self.task_stack(m, 4 + 8 * level as u64)?
        } else {
            old_sp
        };
        let old_ss = self.state.segs[seg::SS];
        let words = [
            code.unwrap_or(0) as u64,
            self.state.rip,
            self.state.segs[seg::CS].selector as u64,
            image,
            old_sp,
            old_ss.selector as u64,
        ];
        let words = if code.is_some() { &words[..] } else { &words[1..] };
        let sp = (top & !15).wrapping_sub(8 * words.len() as u64);
        if !self.canonical(gate.offset) {
            return self.gp0();
        }
        self.at_level(level, |c| {
            let mut bytes = [0; 48];
            for (to, w) in bytes.chunks_exact_mut(8).zip(words) {
                to.copy_from_slice(&w.to_le_bytes());
            }
            let done = c.store_bytes(m, sp, &bytes[..8 * words.len()]);
            if done.is_err() && c.fault.vector == vector::GP {
                c.fault = Exception::with_code(vector::SS, 0);
            }
            done
        })?;
        if inwards {
            let selector = level as u16;
            self.state.segs[seg::SS] = Segment { selector, attr: selector << 5, ..Segment::default() };
        }
        self.state.gpr[gpr::RSP] = sp;
        self.state.segs[seg::CS] = cs;
        self.state.rip = gate.offset;
        Ok(())
    }

    /// Reads a stack pointer out of the 64-bit TSS.
    fn task_stack<M: Machine>(&mut self, m: &mut M, offset: u64) -> Result<u64, Stop> {
        let tr = self.state.tr;
        if offset + 7 > tr.limit as u64 {
            return self.raise(Exception::with_code(vector::TS, (tr.selector & !3) as u32));
        }
        let sp = self.load_system::<u64, M>(m, tr.base.wrapping_add(offset))?;
        if !self.canonical(sp) {
            return self.raise(Exception::with_code(vector::SS, 0));
        }
        Ok(sp)
    }

    /// Does something with the rights of another privilege level.
    fn at_level(&mut self, level: u8, f: impl FnOnce(&mut Cpu) -> Flow) -> Flow {
        let old = std::mem::replace(&mut self.cpl, level);
        self.rights_changed();
        let done = f(self);
        self.cpl = old;
        self.rights_changed();
        done
    }

    fn deliver_protected<M: Machine>(
        &mut self,
        m: &mut M,
        gate: &Gate,
        cs: Segment,
        image: u64,
        code: Option<u32>,
    ) -> Flow {
        let wide = gate.attr & 8 != 0;
        let level = (cs.selector & 3) as u8;
        let before = self.state.clone();
        let (old_ss, old_sp) = (before.segs[seg::SS], before.gpr[gpr::RSP]);
        let inwards = level < self.cpl;
        if inwards {
            let (ss, sp) = self.task_stack_32(m, level)?;
            self.state.segs[seg::SS] = self.stack_segment(m, ss, level)?;
            self.state.gpr[gpr::RSP] = sp as u64;
        }
        let mut words = [0; 6];
        let mut n = 0;
        let outer = [old_ss.selector as u64, old_sp];
        let inner = [image, before.segs[seg::CS].selector as u64, before.rip];
        for w in outer.into_iter().filter(|_| inwards).chain(inner).chain(code.map(u64::from)) {
            words[n] = w;
            n += 1;
        }
        let offset = if wide { gate.offset } else { gate.offset & 0xffff };
        let pushed = self.at_level(level, |c| {
            for &w in &words[..n] {
                if wide { c.push(m, w as u32)? } else { c.push(m, w as u16)? }
            }
            Ok(())
        });
        let done = pushed.and_then(|()| if offset > cs.limit as u64 { self.gp0() } else { Ok(()) });
        if done.is_err() {
            let cr2 = self.state.cr2;
            self.state = before;
            self.state.cr2 = cr2;
            return done;
        }
        self.state.segs[seg::CS] = cs;
        self.state.rip = offset;
        Ok(())
    }

    fn task_stack_32<M: Machine>(&mut self, m: &mut M, level: u8) -> Result<(u16, u32), Stop> {
        let tr = self.state.tr;
        let at = tr.base.wrapping_add(4 + 8 * level as u64);
        if 4 + 8 * level as u64 + 5 > tr.limit as u64 {
            return self.raise(Exception::with_code(vector::TS, (tr.selector & !3) as u32));
        }
        let sp = self.load_system::<u32, M>(m, at)?;
        Ok((self.load_system::<u16, M>(m, at.wrapping_add(4))?, sp))
    }

    fn deliver_real<M: Machine>(&mut self, m: &mut M, v: u8) -> Flow {
        let at = v as u64 * 4;
        if at + 3 > self.state.idtr.limit as u64 {
            return self.gp0();
        }
        let entry = self.load_system::<u32, M>(m, self.state.idtr.base.wrapping_add(at))?;
        let sp = self.state.gpr[gpr::RSP];
        let words = [self.rflags() as u16, self.state.segs[seg::CS].selector, self.state.rip as u16];
        for w in words {
            if let Err(stop) = self.push(m, w) {
                self.state.gpr[gpr::RSP] = sp;
                return Err(stop);
            }
        }
        self.state.rflags &= !(rf::IF | rf::TF | rf::AC | rf::RF);
        self.state.segs[seg::CS] = self.real_code_segment((entry >> 16) as u16);
        self.state.rip = (entry & 0xffff) as u64;
        self.mode_changed();
        Ok(())
    }

    /// IRET in protected and IA-32e mode; `size` is the operand size in bytes.
    pub(super) fn interrupt_return<M: Machine>(&mut self, m: &mut M, size: u64) -> Flow {
        if self.state.rflags & rf::NT != 0 {
            return self.gp0();
        }
        let [rip, cs, flags] = [self.frame(m, 0, size)?, self.frame(m, 1, size)?, self.frame(m, 2, size)?];
        let old_cpl = self.cpl;
        if self.state.rflags & rf::VM != 0 || flags & rf::VM != 0 && old_cpl == 0 && !self.state.long_mode() {
            return Err(Stop::Unsupported);
        }
        let cs = self.code_segment(m, cs as u16, Transfer::Return)?;
        let level = (cs.selector & 3) as u8;
        let stack = if self.bits == 64 || level > old_cpl {
            let (sp, ss) = (self.frame(m, 3, size)?, self.frame(m, 4, size)? as u16);
            Some((sp, self.return_stack(m, ss, &cs, level)?))
        } else {
            None
        };
        self.enter_code(cs, rip)?;
        match stack {
            Some((sp, ss)) => {
                self.state.segs[seg::SS] = ss;
                self.set_return_sp(sp, size);
            }
            None => self.add_sp(3 * size),
        }
        self.take_flags(flags, size, old_cpl);
        if level > old_cpl {
            self.drop_inner_segments();
        }
        self.state.nmi_blocked = false;
        self.mode_changed();
        Ok(())
    }

    /// Stack pointer after a return to another stack.
    pub(super) fn set_return_sp(&mut self, sp: u64, size: u64) {
        let ss_big = self.state.segs[seg::SS].big();
        let q = &mut self.state.gpr[gpr::RSP];
        *q = match size {
            8 => sp,
            _ if self.bits == 64 || ss_big => sp & 0xffff_ffff,
            _ => *q & !0xffff | sp & 0xffff,
        };
    }

    /// The stack segment that a return goes to: null is good for 64-bit code outside CPL 3.
    pub(super) fn return_stack<M: Machine>(
        &mut self,
        m: &mut M,
        ss: u16,
        cs: &Segment,
        level: u8,
    ) -> Result<Segment, Stop> {
        if ss & !3 == 0 && cs.long() && level != 3 && (ss & 3) as u8 == level {
            return Ok(Segment { selector: ss, attr: (level as u16) << 5, ..Segment::default() });
        }
        if ss & !3 == 0 {
            return self.gp0();
        }
        self.stack_segment(m, ss, level)
    }

    /// Word `n` of a return frame.
    pub(super) fn frame<M: Machine>(&mut self, m: &mut M, n: u64, size: u64) -> Result<u64, Stop> {
        match size {
            2 => Ok(self.peek::<u16, M>(m, 2 * n)? as u64),
            4 => Ok(self.peek::<u32, M>(m, 4 * n)? as u64),
            _ => self.peek::<u64, M>(m, 8 * n),
        }
    }

    fn take_flags(&mut self, flags: u64, size: u64, old_cpl: u8) {
        let mut mask = rf::STATUS | rf::TF | rf::DF | rf::NT | rf::AC | rf::ID;
        if old_cpl == 0 {
            mask |= rf::IOPL | rf::VIF | rf::VIP;
        }
        if old_cpl <= self.iopl() {
            mask |= rf::IF;
        }
        if self.has_breakpoints() {
            // Else nothing would come of it, and the next instruction would have to clear it.
            mask |= rf::RF;
        }
        if size == 2 {
            mask &= 0xffff;
        }
        let all = self.rflags() & !mask | flags & mask;
        self.state.rflags = all;
        self.flags.set_bits(all);
    }
}
