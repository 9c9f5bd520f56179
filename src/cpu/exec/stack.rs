//! PUSH, POP, PUSHF, POPF, ENTER, LEAVE, PUSHA, POPA, and the stack pointer itself.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::{Flow, Stop};
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::state::{gpr, rflags as rf, seg};
use super::sized;

const SP: u8 = gpr::RSP as u8;

impl Cpu {
    /// Bits of the stack pointer that count: all in 64-bit mode, else by SS.B.
    #[inline(always)]
    fn sp_mask(&self) -> u64 {
        if self.bits == 64 {
            u64::MAX
        } else if self.state.segs[seg::SS].big() {
            0xffff_ffff
        } else {
            0xffff
        }
    }

    /// Linear address of `delta` bytes from the top of the stack.
    #[inline(always)]
    fn stack_at(&mut self, delta: u64, size: u64) -> Result<u64, Stop> {
        let sp = self.state.gpr[gpr::RSP].wrapping_add(delta);
        if self.bits == 64 {
            return Ok(sp);
        }
        let mask = self.sp_mask();
        self.linear(seg::SS as u8, sp & mask, size)
    }

    /// A fault on the stack is #SS where one on data would be #GP.
    #[cold]
    fn stack_fault<T>(&mut self, stop: Stop) -> Result<T, Stop> {
        use super::super::exceptions::{Exception, vector};
        if stop == Stop::Fault && self.fault.vector == vector::GP {
            self.fault = Exception::with_code(vector::SS, 0);
        }
        Err(stop)
    }

    #[inline(always)]
    pub(crate) fn push<T: Int, M: Machine>(&mut self, m: &mut M, v: T) -> Flow {
        let at = self.stack_at(T::SIZE.wrapping_neg(), T::SIZE)?;
        if let Err(stop) = self.store(m, at, v) {
            return self.stack_fault(stop);
        }
        self.add_sp(T::SIZE.wrapping_neg());
        Ok(())
    }

    /// The value `delta` bytes above the top of the stack.
    #[inline(always)]
    pub(crate) fn peek<T: Int, M: Machine>(&mut self, m: &mut M, delta: u64) -> Result<T, Stop> {
        let at = self.stack_at(delta, T::SIZE)?;
        match self.load(m, at) {
            Ok(v) => Ok(v),
            Err(stop) => self.stack_fault(stop),
        }
    }

    /// Moves the stack pointer.
    #[inline(always)]
    pub(crate) fn add_sp(&mut self, delta: u64) {
        let mask = self.sp_mask();
        let sp = &mut self.state.gpr[gpr::RSP];
        let moved = sp.wrapping_add(delta);
        *sp = if mask == 0xffff { *sp & !mask | moved & mask } else { moved & mask };
    }
}

fn push_r<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.get::<T>(op.r[0]);
    c.push(m, v)
}

fn push_i<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.push(m, T::from64(op.imm))
}

fn push_m<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.load_op::<T, M>(m, op)?;
    c.push(m, v)
}

fn pop_r<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.peek::<T, M>(m, 0)?;
    c.add_sp(T::SIZE);
    c.set(op.r[0], v);
    Ok(())
}

/// POP to memory: an address that uses RSP sees it already moved.
fn pop_m<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.peek::<T, M>(m, 0)?;
    let before = c.state.gpr[gpr::RSP];
    c.add_sp(T::SIZE);
    let done = c.store_op(m, op, v);
    if done.is_err() {
        c.state.gpr[gpr::RSP] = before;
    }
    done
}

fn pushf<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    if c.v8086_without_iopl() {
        return c.gp0();
    }
    let v = c.rflags() & !(rf::RF | rf::VM);
    c.push(m, T::from64(v))
}

fn popf<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    if c.v8086_without_iopl() {
        return c.gp0();
    }
    let v = c.peek::<T, M>(m, 0)?.to64();
    c.add_sp(T::SIZE);
    c.set_rflags_from::<T>(v);
    Ok(())
}

impl Cpu {
    fn v8086_without_iopl(&self) -> bool {
        self.state.rflags & rf::VM != 0 && self.iopl() < 3
    }

    /// I/O privilege level, 0 to 3.
    pub(crate) fn iopl(&self) -> u8 {
        (self.state.rflags >> 12 & 3) as u8
    }

    /// What POPF and IRET may change at this privilege level, at the operand size.
    pub(crate) fn set_rflags_from<T: Int>(&mut self, v: u64) {
        let mut mask = rf::STATUS | rf::TF | rf::DF | rf::NT | rf::AC | rf::ID | rf::RF;
        if self.cpl == 0 {
            mask |= rf::IOPL;
        }
        if self.cpl <= self.iopl() {
            mask |= rf::IF;
        }
        if T::BITS == 16 {
            mask &= 0xffff;
        }
        // POPF clears RF whatever the image says; IRET sets it again itself.
        let all = self.rflags() & !mask | v & mask & !rf::RF;
        self.state.rflags = all;
        self.flags.set_bits(all);
        self.rights_changed();
    }
}

fn leave<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    let before = c.state.gpr[gpr::RSP];
    let mask = c.sp_mask();
    c.state.gpr[gpr::RSP] = before & !mask | c.state.gpr[gpr::RBP] & mask;
    match c.peek::<T, M>(m, 0) {
        Ok(v) => {
            c.add_sp(T::SIZE);
            c.set(gpr::RBP as u8, v);
            Ok(())
        }
        Err(stop) => {
            c.state.gpr[gpr::RSP] = before;
            Err(stop)
        }
    }
}

/// ENTER: `op.imm` bytes of locals, `op.disp` nesting level.
fn enter<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let before = c.state.gpr[gpr::RSP];
    let done = enter_frame::<M, T>(c, m, op);
    if done.is_err() {
        c.state.gpr[gpr::RSP] = before;
    }
    done
}

fn enter_frame<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let level = op.disp & 31;
    let old = c.get::<T>(gpr::RBP as u8);
    c.push(m, old)?;
    let frame = c.state.gpr[gpr::RSP];
    let mask = c.sp_mask();
    for n in 1..level {
        let at = c.state.gpr[gpr::RBP].wrapping_sub(n * T::SIZE) & mask;
        let at = c.linear(seg::SS as u8, at, T::SIZE)?;
        let v = c.load::<T, M>(m, at)?;
        c.push(m, v)?;
    }
    if level > 0 {
        c.push(m, T::from64(frame))?;
    }
    c.add_sp(op.imm.wrapping_neg());
    // The processor checks that the new top of the stack can be written.
    let top = c.stack_at(0, T::SIZE)?;
    if let Err(stop) = c.probe_write(m, top, 1) {
        return c.stack_fault(stop);
    }
    c.set(gpr::RBP as u8, T::from64(frame));
    Ok(())
}

fn pusha<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    let before = c.state.gpr[gpr::RSP];
    for r in 0..8 {
        let v = if r == SP { T::from64(before) } else { c.get::<T>(r) };
        if let Err(stop) = c.push(m, v) {
            c.state.gpr[gpr::RSP] = before;
            return Err(stop);
        }
    }
    Ok(())
}

fn popa<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    let mut values = [T::from64(0); 8];
    for (n, v) in values.iter_mut().enumerate() {
        *v = c.peek(m, n as u64 * T::SIZE)?;
    }
    for (n, v) in values.iter().enumerate().filter(|(n, _)| *n != 3) {
        c.set(7 - n as u8, *v);
    }
    c.add_sp(8 * T::SIZE);
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    if i.op0_register().is_segment_register() {
        return None;
    }
    match i.mnemonic() {
        N::Push => match s.form {
            form::R => sized!(wide s.size, push_r::<M>),
            form::M => sized!(wide s.size, push_m::<M>),
            _ => sized!(wide s.operand_size, push_i::<M>),
        },
        N::Pop if s.form == form::R => sized!(wide s.size, pop_r::<M>),
        N::Pop => sized!(wide s.size, pop_m::<M>),
        N::Pushf | N::Pushfd | N::Pushfq => sized!(wide s.operand_size, pushf::<M>),
        N::Popf | N::Popfd | N::Popfq => sized!(wide s.operand_size, popf::<M>),
        N::Leave => sized!(wide s.operand_size, leave::<M>),
        N::Enter => {
            op.imm &= 0xffff;
            sized!(wide s.operand_size, enter::<M>)
        }
        N::Pusha | N::Pushad => sized!(wide s.operand_size, pusha::<M>),
        N::Popa | N::Popad => sized!(wide s.operand_size, popa::<M>),
        _ => None,
    }
}
