//! MMX: the vector instructions of `sse.rs` on the low halves of the x87 registers.
//!
//! An operation on 64 bits is the one on 128 bits with nothing in the upper half, except where both operands go into
//! the result: there they are put side by side first.

use iced_x86::{Instruction, Mnemonic as N, OpKind};

use super::super::Cpu;
use super::super::decode::{Encoding, Shape};
use super::super::exceptions::{Flow, Stop};
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::super::state::{cr0, gpr};
use super::native::{self, Stub, Xmm};
use super::sse::host_has;

impl Cpu {
    fn need_mmx(&mut self) -> Flow {
        if self.state.cr0 & cr0::EM != 0 {
            return self.ud();
        }
        self.need_fpu_ready()
    }

    fn mm(&self, r: u8) -> u64 {
        let f = &self.state.vec.fpr[(r & 7) as usize];
        u64::from_le_bytes(std::array::from_fn(|n| f[n]))
    }

    /// A store clears the top of the stack even when it faults.
    fn before_mmx_store(&mut self) {
        self.state.vec.fsw &= !0x3800;
    }

    /// Every MMX instruction but EMMS takes the x87 registers over: top of stack 0, all valid.
    fn take_over(&mut self) {
        self.state.vec.fsw &= !0x3800;
        self.state.vec.ftw = 0xff;
    }

    fn set_mm(&mut self, r: u8, v: u64) {
        self.take_over();
        let f = &mut self.state.vec.fpr[(r & 7) as usize];
        f[..8].copy_from_slice(&v.to_le_bytes());
        f[8..].fill(0xff);
    }
}

/// How operands meet; `op.r[3]`.
const PLAIN: u8 = 0;
/// Side by side in the first operand: packs and horizontal additions.
const JOINED: u8 = 1;
/// The upper halves of both: PUNPCKH.
const UPPER: u8 = 2;
/// PSHUFB: eight bytes to choose from.
const INDEX: u8 = 3;
/// The second operand is the immediate: shifts.
const COUNT: u8 = 4;

fn source<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Result<u64, Stop> {
    match op.msize {
        0 => Ok(c.mm(op.r[1])),
        4 => Ok(c.load_op::<u32, M>(m, op)? as u64),
        _ => c.load_op(m, op),
    }
}

fn binary<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let b = if op.r[3] == COUNT { op.imm } else { source(c, m, op)? };
    let a = c.mm(op.r[0]);
    let (mut x, y): (Xmm, Xmm) = match op.r[3] {
        JOINED => ([a, b], [0, 0]),
        UPPER => ([a >> 32, 0], [b >> 32, 0]),
        INDEX => ([a, 0], [b & 0x8787_8787_8787_8787, 0]),
        _ => ([a, 0], [b, 0]),
    };
    native::vector(Stub(op.aux), &mut x, &y);
    c.set_mm(op.r[0], x[0]);
    Ok(())
}

/// PSHUFW: PSHUFLW with the same immediate (`op.aux` is its stub).
fn pshufw<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let b = source(c, m, op)?;
    let mut x = [0; 2];
    native::vector(Stub(op.aux), &mut x, &[b, 0]);
    c.set_mm(op.r[0], x[0]);
    Ok(())
}

fn palignr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let b = source(c, m, op)?;
    let all = b as u128 | (c.mm(op.r[0]) as u128) << 64;
    let r = all.checked_shr(8 * (op.imm as u32 & 0xff)).unwrap_or(0);
    c.set_mm(op.r[0], r as u64);
    Ok(())
}

fn load<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let v = source(c, m, op)?;
    c.set_mm(op.r[0], v);
    Ok(())
}

fn store<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let v = c.mm(op.r[1]);
    c.before_mmx_store();
    if op.msize == 4 {
        c.store_op(m, op, v as u32)?
    } else {
        c.store_op(m, op, v)?
    }
    c.take_over();
    Ok(())
}

fn from_gpr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let v = c.state.gpr[op.r[1] as usize & 15];
    c.set_mm(op.r[0], if op.aux == 4 { v & 0xffff_ffff } else { v });
    Ok(())
}

fn to_gpr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let v = c.mm(op.r[1]);
    c.take_over();
    c.state.gpr[op.r[0] as usize & 15] = if op.aux == 4 { v & 0xffff_ffff } else { v };
    Ok(())
}

fn pinsrw<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let v = if op.msize != 0 {
        c.load_op::<u16, M>(m, op)? as u64
    } else {
        c.state.gpr[op.r[1] as usize & 15] & 0xffff
    };
    let at = 16 * (op.imm & 3);
    let a = c.mm(op.r[0]);
    c.set_mm(op.r[0], a & !(0xffff << at) | v << at);
    Ok(())
}

fn pextrw<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let v = c.mm(op.r[1]) >> (16 * (op.imm & 3)) & 0xffff;
    c.take_over();
    c.state.gpr[op.r[0] as usize & 15] = v;
    Ok(())
}

fn pmovmskb<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let v = c.mm(op.r[1]).to_le_bytes();
    c.take_over();
    let mask = v.iter().enumerate().fold(0, |mask, (n, b)| mask | (*b as u64 >> 7) << n);
    c.state.gpr[op.r[0] as usize & 15] = mask;
    Ok(())
}

/// MASKMOVQ.
fn maskmovq<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_mmx()?;
    let at = c.linear(op.seg, c.state.gpr[gpr::RDI] & c.address_mask(op), 8)?;
    let (data, mask) = (c.mm(op.r[1]).to_le_bytes(), c.mm(op.r[2]).to_le_bytes());
    // Here, and in the conversions, even an instruction that faults has taken the registers over.
    c.take_over();
    if mask.iter().any(|b| b & 0x80 != 0) {
        c.probe_write(m, at, 8)?;
    }
    for n in (0..8).filter(|&n| mask[n] & 0x80 != 0) {
        c.store(m, at.wrapping_add(n as u64), data[n])?;
    }
    Ok(())
}

fn emms<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_mmx()?;
    c.take_over();
    c.state.vec.ftw = 0;
    Ok(())
}

/// MOVQ2DQ and MOVDQ2Q.
fn movq2dq<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_sse()?;
    c.need_mmx()?;
    let v = c.mm(op.r[1]);
    c.take_over();
    c.set_xmm(op.r[0], [v, 0], false);
    Ok(())
}

fn movdq2q<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_sse()?;
    c.need_mmx()?;
    let v = c.xmm(op.r[1])[0];
    c.set_mm(op.r[0], v);
    Ok(())
}

/// CVTPI2PS, CVTPI2PD (`op.r[3]` 1: the whole register is written).
fn to_float<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_sse()?;
    // From memory they do not touch the x87 registers.
    let registers = op.msize == 0;
    if registers {
        c.need_mmx()?;
        c.take_over();
    }
    let b = source(c, m, op)?;
    let mut x = [0; 2];
    let raised = native::vector_fp(Stub(op.aux), c.state.vec.mxcsr, &mut x, &[b, 0]);
    c.float_flags(raised)?;
    let high = if op.r[3] == 1 { x[1] } else { c.xmm(op.r[0])[1] };
    c.set_xmm(op.r[0], [x[0], high], false);
    Ok(())
}

/// CVTPS2PI, CVTTPS2PI, CVTPD2PI, CVTTPD2PI.
fn from_float<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_sse()?;
    c.need_mmx()?;
    let b = if op.msize != 0 { c.load_vector(m, op, op.msize == 16)?[0] } else { c.xmm(op.r[1]) };
    c.take_over();
    let b = if op.r[3] == 1 { b } else { [b[0], 0] };
    let mut x = [0; 2];
    let raised = native::vector_fp(Stub(op.aux), c.state.vec.mxcsr, &mut x, &b);
    c.float_flags(raised)?;
    c.set_mm(op.r[0], x[0]);
    Ok(())
}

/// The 128-bit opcode (prefix 66) that does the same per lane, and how operands meet.
fn listed(e: &Encoding) -> Option<u8> {
    match (e.map, e.opcode) {
        (1, 0x63 | 0x67 | 0x6b) => Some(JOINED),
        (1, 0x68..=0x6a) => Some(UPPER),
        (1, 0x60..=0x62 | 0x64..=0x66 | 0x74..=0x76 | 0xd1..=0xd5 | 0xd8..=0xe5) => Some(PLAIN),
        (1, 0xe8..=0xef | 0xf1..=0xf6 | 0xf8..=0xfe) => Some(PLAIN),
        (2, 0x00) => Some(INDEX),
        (2, 0x01..=0x03 | 0x05..=0x07) => Some(JOINED),
        (2, 0x04 | 0x08..=0x0b | 0x1c..=0x1e) => Some(PLAIN),
        _ => None,
    }
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let e = &s.encoding;
    let mm = |n: u32| i.op_kind(n) == OpKind::Register && i.op_register(n).is_mm();
    if matches!(i.mnemonic(), N::Emms) {
        return Some(emms);
    }
    if e.vex || e.evex || !host_has(i) {
        return None;
    }
    if matches!(i.mnemonic(), N::Cvtpi2ps | N::Cvtpi2pd) {
        op.r[3] = (i.mnemonic() == N::Cvtpi2pd) as u8;
        op.aux = if op.r[3] == 1 { Stub::map_0f(2, 0xe6) } else { Stub::map_0f(0, 0x5b) }.0;
        return Some(to_float);
    }
    if !(0..i.op_count()).any(mm) {
        return None;
    }
    match i.mnemonic() {
        N::Movq2dq => return Some(movq2dq),
        N::Movdq2q => return Some(movdq2q),
        N::Cvtps2pi | N::Cvttps2pi | N::Cvtpd2pi | N::Cvttpd2pi => {
            let (prefix, opcode, wide) = match i.mnemonic() {
                N::Cvtps2pi => (1, 0x5b, 0),
                N::Cvttps2pi => (2, 0x5b, 0),
                N::Cvtpd2pi => (3, 0xe6, 1),
                _ => (1, 0xe6, 1),
            };
            op.aux = Stub::map_0f(prefix, opcode).0;
            op.r[3] = wide;
            return Some(from_float);
        }
        N::Movd | N::Movq | N::Movntq => return Some(moving(i, op, mm(0))),
        N::Pshufw => {
            op.aux = Stub::immediate(3, 1, 0x70, op.imm as u8)?.0;
            return Some(pshufw);
        }
        N::Palignr => return Some(palignr),
        N::Pinsrw => return Some(pinsrw),
        N::Pextrw => return Some(pextrw),
        N::Pmovmskb => return Some(pmovmskb),
        N::Maskmovq => return Some(maskmovq),
        _ => {}
    }
    if e.map == 1 && matches!(e.opcode, 0x71..=0x73) {
        let base = [0xd1, 0xd2, 0xd3][e.opcode as usize - 0x71];
        let opcode = base + [0, 0, 0, 0, 0x10, 0, 0x20, 0][(e.modrm >> 3 & 7) as usize];
        (op.r[3], op.aux) = (COUNT, Stub::map_0f(1, opcode).0);
        op.imm &= 0xff;
        return Some(binary);
    }
    op.r[3] = listed(e)?;
    let lower_half = if op.r[3] == UPPER { e.opcode - 8 } else { e.opcode };
    op.aux = if e.map == 1 { Stub::map_0f(1, lower_half) } else { Stub::map_0f38(1, lower_half) }.0;
    Some(binary)
}

fn moving<M: Machine>(i: &Instruction, op: &mut Op<M>, loads: bool) -> Handler<M> {
    let general = |n: u32| i.op_kind(n) == OpKind::Register && i.op_register(n).is_gpr();
    if general(0) {
        op.aux = i.op0_register().size() as u16;
        return to_gpr;
    }
    if general(1) {
        op.aux = i.op1_register().size() as u16;
        return from_gpr;
    }
    if loads { load } else { store }
}
