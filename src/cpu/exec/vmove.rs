//! Moves between vector registers, memory and general registers, SSE to AVX2.

use iced_x86::{Instruction, Mnemonic as N, OpKind};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::Flow;
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::super::state::gpr;
use super::native::Xmm;
use super::sse::{base_flags, host_has, how};

fn vex<M>(op: &Op<M>) -> bool {
    op.r[3] & how::VEX != 0
}

fn long<M>(op: &Op<M>) -> bool {
    op.r[3] & how::LONG != 0
}

fn alignment<M>(op: &Op<M>) -> u64 {
    if op.r[3] & how::ALIGNED == 0 {
        1
    } else if long(op) {
        32
    } else {
        16
    }
}

/// Whole registers: MOVUPS, MOVDQA, ….
fn full_rr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let (low, high) = (c.xmm(op.r[1]), c.ymm_high(op.r[1]));
    if long(op) {
        c.set_ymm(op.r[0], low, high)
    } else {
        c.set_xmm(op.r[0], low, vex(op))
    }
    Ok(())
}

fn full_rm<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let at = c.ea(op)?;
    if at & (alignment(op) - 1) != 0 {
        return c.gp0();
    }
    let low = load_xmm(c, m, at)?;
    if long(op) {
        let high = load_xmm(c, m, at.wrapping_add(16))?;
        c.set_ymm(op.r[0], low, high);
    } else {
        c.set_xmm(op.r[0], low, vex(op));
    }
    Ok(())
}

#[inline(always)]
fn load_xmm<M: Machine>(c: &mut Cpu, m: &mut M, at: u64) -> Result<Xmm, super::super::exceptions::Stop> {
    Ok([c.load::<u64, M>(m, at)?, c.load::<u64, M>(m, at.wrapping_add(8))?])
}

fn full_mr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let at = c.ea(op)?;
    if at & (alignment(op) - 1) != 0 {
        return c.gp0();
    }
    let z = c.state.vec.zmm[op.r[1] as usize & 31];
    store_words(c, m, at, &z[..if long(op) { 4 } else { 2 }])
}

/// Stores 8, 16 or 32 bytes, all or nothing.
fn store_words<M: Machine>(c: &mut Cpu, m: &mut M, at: u64, words: &[u64]) -> Flow {
    let mut b = [0; 32];
    for (to, w) in b.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&w.to_le_bytes());
    }
    c.store_bytes(m, at, &b[..8 * words.len()])
}

/// MOVD, MOVQ, MOVSS, MOVSD from memory (`op.msize` bytes, the rest of 128 bits cleared).
fn scalar_rm<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = c.load_vector(m, op, false)?[0];
    c.set_xmm(op.r[0], v, vex(op));
    Ok(())
}

fn scalar_mr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = c.xmm(op.r[1])[0];
    if op.msize == 4 { c.store_op(m, op, v as u32) } else { c.store_op(m, op, v) }
}

/// MOVSS and MOVSD between registers: the low element (`op.aux` bytes) of the last operand, the rest of the first
/// source.
fn scalar_rr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let (first, second) = if op.r[3] & how::THREE != 0 { (op.r[1], op.r[2]) } else { (op.r[0], op.r[1]) };
    let (mut a, b) = (c.xmm(first), c.xmm(second));
    a[0] = if op.aux == 4 { a[0] & !0xffff_ffff | b[0] & 0xffff_ffff } else { b[0] };
    c.set_xmm(op.r[0], a, vex(op));
    Ok(())
}

/// MOVQ between registers: clears the upper half.
fn movq_rr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = c.xmm(op.r[1])[0];
    c.set_xmm(op.r[0], [v, 0], vex(op));
    Ok(())
}

/// MOVD, MOVQ from a general register.
fn from_gpr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = c.state.gpr[op.r[1] as usize & 15];
    let v = if op.aux == 4 { v & 0xffff_ffff } else { v };
    c.set_xmm(op.r[0], [v, 0], vex(op));
    Ok(())
}

fn to_gpr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = c.xmm(op.r[1])[0];
    c.state.gpr[op.r[0] as usize & 15] = if op.aux == 4 { v & 0xffff_ffff } else { v };
    Ok(())
}

/// MOVLPS, MOVLPD, MOVHPS, MOVHPD loads: half `op.aux` from memory, the other of the first source.
fn half_rm<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = c.load_op::<u64, M>(m, op)?;
    let first = if op.r[3] & how::THREE != 0 { op.r[1] } else { op.r[0] };
    let mut a = c.xmm(first);
    a[op.aux as usize & 1] = v;
    c.set_xmm(op.r[0], a, vex(op));
    Ok(())
}

fn half_mr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = c.xmm(op.r[1])[op.aux as usize & 1];
    c.store_op(m, op, v)
}

/// MOVHLPS (`op.aux` 0) and MOVLHPS (1).
fn half_rr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let (first, second) = if op.r[3] & how::THREE != 0 { (op.r[1], op.r[2]) } else { (op.r[0], op.r[1]) };
    let (a, b) = (c.xmm(first), c.xmm(second));
    let v = if op.aux == 0 { [b[1], a[1]] } else { [a[0], b[0]] };
    c.set_xmm(op.r[0], v, vex(op));
    Ok(())
}

/// MOVMSKPS, MOVMSKPD, PMOVMSKB: the top bit of every element of `op.aux` bytes.
fn sign_mask<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let z = c.state.vec.zmm[op.r[1] as usize & 31];
    let size = op.aux as usize;
    let mut mask = 0u64;
    let mut n = 0;
    for q in &z[..if long(op) { 4 } else { 2 }] {
        for element in 0..8 / size {
            mask |= (q >> (8 * size * (element + 1) - 1) & 1) << n;
            n += 1;
        }
    }
    c.state.gpr[op.r[0] as usize & 15] = mask;
    Ok(())
}

/// PEXTRB/W/D/Q, EXTRACTPS: element of `op.aux` bytes, number `op.imm`, to a register or memory.
fn extract<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let v = element(c.xmm(op.r[1]), op.aux, op.imm);
    if op.msize == 0 {
        c.state.gpr[op.r[0] as usize & 15] = v;
        return Ok(());
    }
    match op.aux {
        1 => c.store_op(m, op, v as u8),
        2 => c.store_op(m, op, v as u16),
        4 => c.store_op(m, op, v as u32),
        _ => c.store_op(m, op, v),
    }
}

fn element(v: Xmm, size: u16, n: u64) -> u64 {
    let n = n & (16 / size as u64 - 1);
    let all = v[0] as u128 | (v[1] as u128) << 64;
    let part = (all >> (8 * size as u64 * n)) as u64;
    part & u64::MAX >> (64 - 8 * size)
}

/// PINSRB/W/D/Q: `op.aux` bytes.
fn insert<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let (first, second) = if op.r[3] & how::THREE != 0 { (op.r[1], op.r[2]) } else { (op.r[0], op.r[1]) };
    let v =
        if op.msize != 0 { c.load_vector(m, op, false)?[0][0] } else { c.state.gpr[second as usize & 15] };
    let size = op.aux as u32;
    let at = 8 * size * (op.imm as u32 & (16 / size - 1));
    let mask = (u64::MAX >> (64 - 8 * size)) as u128;
    let a = c.xmm(first);
    let all = a[0] as u128 | (a[1] as u128) << 64;
    let r = all & !(mask << at) | (v as u128 & mask) << at;
    c.set_xmm(op.r[0], [r as u64, (r >> 64) as u64], vex(op));
    Ok(())
}

/// MASKMOVDQU: bytes whose mask byte is negative go to DS:RDI.
fn maskmovdqu<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(vex(op))?;
    let at = c.linear(op.seg, c.state.gpr[gpr::RDI] & c.address_mask(op), 16)?;
    let (data, mask) = (c.xmm(op.r[1]), c.xmm(op.r[2]));
    let part = |v: Xmm, n: u64| (v[n as usize / 8] >> (8 * (n % 8))) as u8;
    let chosen = (0..16u64).filter(|&n| part(mask, n) & 0x80 != 0);
    // Two stores of eight bytes, the upper one first, each only if it has something to write.
    for half in [8u64, 0] {
        if chosen.clone().any(|n| n & 8 == half) {
            c.probe_write(m, at.wrapping_add(half), 8)?;
        }
    }
    for n in chosen {
        c.store::<u8, M>(m, at.wrapping_add(n), part(data, n))?;
    }
    Ok(())
}

/// VZEROUPPER, and VZEROALL when `op.aux` is 1.
fn vzero<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let keep = if op.aux == 1 { 0 } else { 2 };
    for z in &mut c.state.vec.zmm[..16] {
        z[keep..].fill(0);
    }
    Ok(())
}

fn whole<M: Machine>(s: &Shape, op: &mut Op<M>, aligned: bool) -> Option<Handler<M>> {
    op.r[3] &= !how::ALIGNED;
    if aligned {
        op.r[3] |= how::ALIGNED;
    }
    match s.form {
        form::RR => Some(full_rr),
        form::RM => Some(full_rm),
        form::MR => Some(full_mr),
        _ => None,
    }
}

fn scalar<M: Machine>(s: &Shape, op: &mut Op<M>, size: u16) -> Option<Handler<M>> {
    op.aux = size;
    match s.form {
        form::RM => Some(scalar_rm),
        form::MR => Some(scalar_mr),
        form::RR => Some(scalar_rr),
        form::RRR => {
            op.r[3] |= how::THREE;
            Some(scalar_rr)
        }
        _ => None,
    }
}

/// MOVD and MOVQ with XMM registers.
fn integer<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let general = |n: u32| i.op_kind(n) == OpKind::Register && i.op_register(n).is_gpr();
    match s.form {
        form::RM => Some(scalar_rm),
        form::MR => Some(scalar_mr),
        _ if general(0) => {
            op.aux = i.op0_register().size() as u16;
            Some(to_gpr)
        }
        _ if general(1) => {
            op.aux = i.op1_register().size() as u16;
            Some(from_gpr)
        }
        _ => Some(movq_rr),
    }
}

fn half<M: Machine>(s: &Shape, op: &mut Op<M>, which: u16) -> Option<Handler<M>> {
    op.aux = which;
    match s.form {
        form::MR => Some(half_mr),
        form::RM => Some(half_rm),
        form::RRM => {
            op.r[3] |= how::THREE;
            Some(half_rm)
        }
        form::RRR => {
            op.r[3] |= how::THREE;
            Some(half_rr)
        }
        form::RR => Some(half_rr),
        _ => None,
    }
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let e = &s.encoding;
    let mmx = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_mm());
    if e.map == 0 || e.map > 3 || e.evex || mmx || !host_has(i) {
        return None;
    }
    op.r[3] = base_flags(i, e, op);
    match i.mnemonic() {
        N::Movups | N::Movupd | N::Movdqu | N::Lddqu | N::Vmovups | N::Vmovupd | N::Vmovdqu | N::Vlddqu => {
            whole(s, op, false)
        }
        N::Movaps
        | N::Movapd
        | N::Movdqa
        | N::Movntps
        | N::Movntpd
        | N::Movntdq
        | N::Movntdqa
        | N::Vmovaps
        | N::Vmovapd
        | N::Vmovdqa
        | N::Vmovntps
        | N::Vmovntpd
        | N::Vmovntdq
        | N::Vmovntdqa => whole(s, op, true),
        N::Movss | N::Vmovss => scalar(s, op, 4),
        N::Movsd | N::Vmovsd => scalar(s, op, 8),
        N::Movd | N::Movq | N::Vmovd | N::Vmovq => integer(i, s, op),
        N::Movlps | N::Movlpd | N::Vmovlps | N::Vmovlpd | N::Movhlps | N::Vmovhlps => half(s, op, 0),
        N::Movhps | N::Movhpd | N::Vmovhps | N::Vmovhpd | N::Movlhps | N::Vmovlhps => half(s, op, 1),
        N::Movmskps | N::Vmovmskps => with_size(op, 4, sign_mask),
        N::Movmskpd | N::Vmovmskpd => with_size(op, 8, sign_mask),
        N::Pmovmskb | N::Vpmovmskb => with_size(op, 1, sign_mask),
        N::Pextrb | N::Vpextrb => with_size(op, 1, extract),
        N::Pextrw | N::Vpextrw => with_size(op, 2, extract),
        N::Pextrd | N::Vpextrd | N::Extractps | N::Vextractps => with_size(op, 4, extract),
        N::Pextrq | N::Vpextrq => with_size(op, 8, extract),
        N::Pinsrb | N::Vpinsrb => inserting(i, op, 1),
        N::Pinsrw | N::Vpinsrw => inserting(i, op, 2),
        N::Pinsrd | N::Vpinsrd => inserting(i, op, 4),
        N::Pinsrq | N::Vpinsrq => inserting(i, op, 8),
        N::Maskmovdqu | N::Vmaskmovdqu => Some(maskmovdqu),
        N::Vzeroupper => with_size(op, 0, vzero),
        N::Vzeroall => with_size(op, 1, vzero),
        _ => None,
    }
}

fn with_size<M: Machine>(op: &mut Op<M>, size: u16, f: Handler<M>) -> Option<Handler<M>> {
    op.aux = size;
    Some(f)
}

fn inserting<M: Machine>(i: &Instruction, op: &mut Op<M>, size: u16) -> Option<Handler<M>> {
    if i.op_count() == 4 {
        op.r[3] |= how::THREE;
    }
    with_size(op, size, insert)
}
