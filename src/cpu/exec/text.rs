//! SSE4.2 string comparison: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM; and INSERTPS.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::Shape;
use super::super::exceptions::Flow;
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::super::state::{gpr, rflags as rf};
use super::native::Xmm;
use super::sse::{base_flags, host_has, how};

/// One operand as a string of bytes or words, sign- or zero-extended.
struct Text {
    elements: [i32; 16],
    /// How many of them count.
    len: usize,
}

/// Imm8: bit 0 words, bit 1 signed, bits 3:2 aggregation, bits 5:4 polarity, bit 6 output (SDM vol. 2, 4.1 "Imm8 Control Byte
/// Operation for PCMPESTRI / PCMPESTRM / PCMPISTRI / PCMPISTRM").
fn read(v: Xmm, imm: u64, explicit: Option<i64>) -> Text {
    let words = imm & 1 != 0;
    let count = if words { 8 } else { 16 };
    let all = v[0] as u128 | (v[1] as u128) << 64;
    let mut elements = [0; 16];
    for (n, e) in elements.iter_mut().enumerate().take(count) {
        let raw = if words { (all >> (16 * n)) as u16 as i32 } else { (all >> (8 * n)) as u8 as i32 };
        *e = match (imm & 2 != 0, words) {
            (false, _) => raw,
            (true, true) => raw as i16 as i32,
            (true, false) => raw as i8 as i32,
        };
    }
    let len = match explicit {
        Some(n) => n.unsigned_abs().min(count as u64) as usize,
        None => elements[..count].iter().position(|&e| e == 0).unwrap_or(count),
    };
    Text { elements, len }
}

/// Intermediate result 1: one bit per element of `b`.
fn aggregate(a: &Text, b: &Text, imm: u64, count: usize) -> u32 {
    let (x, y) = (&a.elements, &b.elements);
    let bit = |j: usize| match imm >> 2 & 3 {
        0 => j < b.len && x[..a.len].contains(&y[j]),
        1 => j < b.len && x[..a.len & !1].chunks(2).any(|r| r[0] <= y[j] && y[j] <= r[1]),
        2 => match (j < a.len, j < b.len) {
            (true, true) => x[j] == y[j],
            (false, false) => true,
            _ => false,
        },
        _ => (0..a.len).take_while(|i| i + j < count).all(|i| i + j < b.len && x[i] == y[i + j]),
    };
    (0..count).fold(0, |r, j| r | (bit(j) as u32) << j)
}

/// `op.aux`: bit 0 explicit lengths, bit 1 mask result, bit 2 64-bit lengths.
fn compare<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let vex = op.r[3] & how::VEX != 0;
    c.need_vector(vex)?;
    let second = if op.msize != 0 { c.load_vector(m, op, false)?[0] } else { c.xmm(op.r[1]) };
    let explicit = |r: usize| {
        let v = c.state.gpr[r];
        let v = if op.aux & 4 != 0 { v as i64 } else { v as i32 as i64 };
        (op.aux & 1 != 0).then_some(v)
    };
    let a = read(c.xmm(op.r[0]), op.imm, explicit(gpr::RAX));
    let b = read(second, op.imm, explicit(gpr::RDX));
    let count = if op.imm & 1 != 0 { 8 } else { 16 };
    let full = (1u32 << count) - 1;
    let one = aggregate(&a, &b, op.imm, count);
    let result = match op.imm >> 4 & 3 {
        1 => one ^ full,
        3 => one ^ ((1u32 << b.len) - 1),
        _ => one,
    } & full;
    if op.aux & 2 != 0 {
        let mask = if op.imm & 0x40 == 0 { result as u128 } else { widen(result, count) };
        c.set_xmm(0, [mask as u64, (mask >> 64) as u64], vex);
    } else {
        let last = op.imm & 0x40 != 0;
        let index = match result {
            0 => count as u32,
            _ if last => 31 - result.leading_zeros(),
            _ => result.trailing_zeros(),
        };
        c.state.gpr[gpr::RCX] = index as u64;
    }
    let mut flags = 0;
    let mut put = |on: bool, bit: u64| flags |= if on { bit } else { 0 };
    put(result != 0, rf::CF);
    put(b.len < count, rf::ZF);
    put(a.len < count, rf::SF);
    put(result & 1 != 0, rf::OF);
    c.flags.change(rf::STATUS, flags);
    Ok(())
}

fn widen(bits: u32, count: usize) -> u128 {
    let size = 128 / count;
    let unit = (1u128 << size) - 1;
    (0..count).filter(|n| bits >> n & 1 != 0).fold(0, |r, n| r | unit << (size * n))
}

/// INSERTPS: source element in bits 7:6 (register form only), target in 5:4, elements to clear in 3:0.
fn insertps<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let vex = op.r[3] & how::VEX != 0;
    c.need_vector(vex)?;
    let (first, second) = if vex { (op.r[1], op.r[2]) } else { (op.r[0], op.r[1]) };
    let v = if op.msize != 0 {
        c.load_op::<u32, M>(m, op)? as u128
    } else {
        let b = c.xmm(second);
        (b[0] as u128 | (b[1] as u128) << 64) >> (32 * (op.imm >> 6 & 3)) & 0xffff_ffff
    };
    let a = c.xmm(first);
    let at = 32 * (op.imm >> 4 & 3);
    let lane = 0xffff_ffffu128;
    let mut r = (a[0] as u128 | (a[1] as u128) << 64) & !(lane << at) | v << at;
    for n in (0..4).filter(|n| op.imm >> n & 1 != 0) {
        r &= !(lane << (32 * n));
    }
    c.set_xmm(op.r[0], [r as u64, (r >> 64) as u64], vex);
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    if s.encoding.evex || !host_has(i) {
        return None;
    }
    op.aux = match i.mnemonic() {
        N::Pcmpistri | N::Vpcmpistri => 0,
        N::Pcmpestri | N::Vpcmpestri => 1,
        N::Pcmpistrm | N::Vpcmpistrm => 2,
        N::Pcmpestrm | N::Vpcmpestrm => 3,
        N::Pcmpestri64 | N::Vpcmpestri64 => 5,
        N::Pcmpestrm64 | N::Vpcmpestrm64 => 7,
        N::Insertps | N::Vinsertps => {
            op.r[3] = base_flags(i, &s.encoding, op);
            return Some(insertps);
        }
        _ => return None,
    };
    op.r[3] = base_flags(i, &s.encoding, op);
    Some(compare)
}
