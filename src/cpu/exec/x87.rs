//! x87 floating point: every D8..DF opcode, run by the host's own unit (see `native.rs`).
//!
//! Each instruction carries the whole x87 state to the host and back, which is slow (about 100 ns) and exact.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::Shape;
use super::super::exceptions::Flow;
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::super::state::rflags as rf;
use super::super::xsave::VectorState;
use super::native::{FxImage, X87, x87};

/// What an instruction does with its memory operand.
const READ: u8 = 0;
const WRITE: u8 = 1;

impl Cpu {
    /// Runs the host instruction on the guest's x87 registers.
    fn run_x87(&mut self, which: X87, memory: &mut [u8; 128]) -> u64 {
        let mut image = FxImage([0; 512]);
        self.state.vec.put_x87(&mut image.0, true);
        image.0[24..28].copy_from_slice(&super::super::xsave::MXCSR_INIT.to_le_bytes());
        // The host's pointers are its own business.
        let (fip, fdp, fop) = (self.state.vec.fip, self.state.vec.fdp, self.state.vec.fop);
        image.0[6..24].fill(0);
        let flags = x87(which, &mut image, memory);
        self.state.vec.take_x87(&image.0, true);
        (self.state.vec.fip, self.state.vec.fdp, self.state.vec.fop) = (fip, fdp, fop);
        flags
    }

    /// Notes where the last x87 instruction was (FIP), what it was (FOP) and its operand (FDP).
    fn note_x87<M>(&mut self, op: &Op<M>, which: X87, operand: Option<u64>) {
        self.state.vec.fip = self.start.wrapping_add(op.offset as u64);
        if let Some(at) = operand {
            self.state.vec.fdp = at;
        }
        if self.state.vec.fsw & 0x80 != 0 {
            self.state.vec.fop = ((which.opcode & 7) as u16) << 8 | which.modrm as u16;
        }
    }
}

fn which<M>(op: &Op<M>) -> X87 {
    X87 { opcode: op.r[2], modrm: op.r[3] }
}

fn register<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu_ready()?;
    let flags = c.run_x87(which(op), &mut [0; 128]);
    if op.aux != 0 {
        c.flags.change(rf::STATUS, flags);
    }
    c.note_x87(op, which(op), None);
    Ok(())
}

fn memory<M: Machine, const KIND: u8>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu_ready()?;
    let at = c.ea(op)?;
    let size = (op.msize as usize).min(16);
    let mut data = [0; 128];
    if KIND == READ {
        c.load_bytes(m, at, &mut data[..size])?;
        c.run_x87(which(op), &mut data);
    } else {
        // What an unmasked exception leaves unwritten keeps its value in memory: so read first, if it can be written.
        if c.state.vec.fcw & 0x3f != 0x3f {
            c.probe_write(m, at, size)?;
            c.load_bytes(m, at, &mut data[..size])?;
        }
        let before = c.state.vec.clone();
        c.run_x87(which(op), &mut data);
        // Ten bytes are two stores: the first stays when the second faults.
        let (first, rest) = data[..size].split_at(size.min(8));
        let mut done = c.store_bytes(m, at, first);
        if done.is_ok() && !rest.is_empty() {
            done = c.store_bytes(m, at.wrapping_add(8), rest);
        }
        if let Err(stop) = done {
            c.state.vec = before;
            return Err(stop);
        }
    }
    let operand = c.offset(op);
    c.note_x87(op, which(op), Some(operand));
    Ok(())
}

/// Bytes of the 32-bit protected-mode environment, which 64-bit mode uses too.
const ENVIRONMENT: usize = 28;
/// Environment and eight registers.
const WHOLE: usize = 108;

impl VectorState {
    /// The two tag bits of a physical register: 0 valid, 1 zero, 2 special, 3 empty (SDM vol. 1, 8.1.7).
    fn tag(&self, physical: usize) -> u16 {
        let f = &self.fpr[physical];
        let exponent = u16::from_le_bytes([f[8], f[9]]) & 0x7fff;
        let mantissa = u64::from_le_bytes(std::array::from_fn(|n| f[n]));
        match (self.ftw >> physical & 1, exponent, mantissa) {
            (0, ..) => 3,
            (_, 0, 0) => 1,
            (_, 0 | 0x7fff, _) => 2,
            (_, _, m) if m >> 63 == 0 => 2,
            _ => 0,
        }
    }

    fn put_environment(&self, b: &mut [u8; WHOLE]) {
        let tags = (0..8).fold(0, |t, n| t | self.tag(n) << (2 * n));
        for (at, v) in [(0, self.fcw), (4, self.fsw), (8, tags), (24, 0)] {
            b[at..at + 2].copy_from_slice(&v.to_le_bytes());
            b[at + 2..at + 4].fill(0xff);
        }
        b[12..16].copy_from_slice(&(self.fip as u32).to_le_bytes());
        b[16..20].copy_from_slice(&((self.fop as u32) << 16).to_le_bytes());
        b[20..24].copy_from_slice(&(self.fdp as u32).to_le_bytes());
        for n in 0..8 {
            let at = ENVIRONMENT + 10 * n;
            b[at..at + 10].copy_from_slice(&self.fpr[(self.top() + n) & 7]);
        }
    }

    fn take_environment(&mut self, b: &[u8; WHOLE], registers: bool) {
        let word = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
        let dword = |at: usize| word(at) as u64 | (word(at + 2) as u64) << 16;
        self.fcw = word(0) & 0x1f7f | 0x40;
        self.fsw = word(4);
        self.ftw = (0..8).fold(0, |t, n| t | ((word(8) >> (2 * n) & 3 != 3) as u8) << n);
        (self.fip, self.fdp) = (dword(12), dword(20));
        self.fop = word(18) & 0x7ff;
        for n in (0..8).filter(|_| registers) {
            let (at, physical) = (ENVIRONMENT + 10 * n, (self.top() + n) & 7);
            self.fpr[physical].copy_from_slice(&b[at..at + 10]);
        }
        self.update_summary();
    }
}

/// FNSTENV, and FNSAVE when `WITH_REGISTERS`.
fn save<M: Machine, const WITH_REGISTERS: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu()?;
    let at = c.ea(op)?;
    let mut b = [0; WHOLE];
    c.state.vec.put_environment(&mut b);
    let size = if WITH_REGISTERS { WHOLE } else { ENVIRONMENT };
    c.both_ends_canonical(at, size)?;
    // The processor looks at the first dword, then at the last byte.
    c.probe_write(m, at, 4)?;
    c.probe_write(m, at.wrapping_add(size as u64 - 1), 1)?;
    for (n, part) in b[..size].chunks(4).enumerate() {
        c.store_bytes(m, at.wrapping_add(4 * n as u64), part)?;
    }
    if WITH_REGISTERS {
        let v = &mut c.state.vec;
        (v.fcw, v.fsw, v.ftw, v.fop, v.fip, v.fdp) = (0x37f, 0, 0, 0, 0, 0);
    } else {
        c.state.vec.fcw |= 0x3f;
        c.state.vec.update_summary();
    }
    Ok(())
}

/// FLDENV, and FRSTOR when `WITH_REGISTERS`.
fn restore<M: Machine, const WITH_REGISTERS: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu_ready()?;
    let at = c.ea(op)?;
    let mut b = [0; WHOLE];
    let size = if WITH_REGISTERS { WHOLE } else { ENVIRONMENT };
    c.both_ends_canonical(at, size)?;
    // The processor looks at the first dword, then at the last byte.
    c.load::<u32, M>(m, at)?;
    c.load::<u8, M>(m, at.wrapping_add(size as u64 - 1))?;
    for (n, part) in b[..size].chunks_mut(4).enumerate() {
        c.load_bytes(m, at.wrapping_add(4 * n as u64), part)?;
    }
    c.state.vec.take_environment(&b, WITH_REGISTERS);
    Ok(())
}

/// The 16-bit layouts are not supported.
fn environment<M: Machine>(i: &Instruction) -> Option<Handler<M>> {
    use iced_x86::Code as C;
    match i.code() {
        C::Fnstenv_m28byte => Some(save::<M, false>),
        C::Fnsave_m108byte => Some(save::<M, true>),
        C::Fldenv_m28byte => Some(restore::<M, false>),
        C::Frstor_m108byte => Some(restore::<M, true>),
        _ => None,
    }
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let e = &s.encoding;
    if e.map != 0 || !(0xd8..=0xdf).contains(&e.opcode) {
        return None;
    }
    if matches!(i.mnemonic(), N::Fnstenv | N::Fldenv | N::Fnsave | N::Frstor) {
        return environment(i);
    }
    (op.r[2], op.r[3]) = (e.opcode, e.modrm);
    op.aux = matches!(i.mnemonic(), N::Fcomi | N::Fcomip | N::Fucomi | N::Fucomip) as u16;
    if is_cmov(i.mnemonic()) {
        return Some(conditional);
    }
    if e.modrm >= 0xc0 {
        return Some(register);
    }
    let writes = matches!(i.mnemonic(), N::Fst | N::Fstp | N::Fist | N::Fistp | N::Fisttp | N::Fbstp);
    Some(if writes { memory::<M, WRITE> } else { memory::<M, READ> })
}

fn is_cmov(n: N) -> bool {
    matches!(
        n,
        N::Fcmovb | N::Fcmovbe | N::Fcmove | N::Fcmovnb | N::Fcmovnbe | N::Fcmovne | N::Fcmovnu | N::Fcmovu
    )
}

/// FCMOVcc reads the guest's flags, which the host does not have: either it is FCMOVE with ZF as wanted, or it moves
/// nothing but still checks the stack.
fn conditional<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu_ready()?;
    let (opcode, modrm) = (op.r[2], op.r[3]);
    let f = &c.flags;
    let yes = match modrm >> 3 & 3 {
        0 => f.cf(),
        1 => f.zf(),
        2 => f.cf() || f.zf(),
        _ => f.pf(),
    };
    let moves = yes == (opcode == 0xda);
    let register = modrm & 7;
    let v = &mut c.state.vec;
    let (from, to) = ((v.top() + register as usize) & 7, v.top());
    let full = v.ftw & 1 << from != 0 && v.ftw & 1 << to != 0;
    if full {
        if moves {
            v.fpr[to] = v.fpr[from];
        }
    } else {
        stack_underflow(v, to);
    }
    c.note_x87(op, X87 { opcode, modrm }, None);
    Ok(())
}

/// Invalid operation by an empty register: C1 clear, IE and SF set, and if masked the indefinite NaN.
fn stack_underflow(v: &mut VectorState, to: usize) {
    v.fsw = v.fsw & !0x200 | 0x41;
    if v.fcw & 1 != 0 {
        v.fpr[to] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];
        v.ftw |= 1 << to;
    }
    v.update_summary();
}
