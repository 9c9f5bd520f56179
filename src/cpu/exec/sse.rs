//! SSE to AVX2 arithmetic: one generic handler over the host's own instructions, chosen by opcode.
//!
//! 256-bit forms run as two halves, which is what they are for every opcode on the list. Moves are in `vmove.rs`,
//! forms that mix lanes in `avx.rs`.

use iced_x86::{Instruction, Mnemonic as N, OpKind};

use super::super::Cpu;
use super::super::decode::{Encoding, Shape};
use super::super::exceptions::{Exception, Flow, Stop, vector};
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::super::state::{cr4, rflags as rf};
use super::native::{self, Compare, Stub, ToInt, Xmm};

/// `op.r[3]` of generic vector ops.
pub(super) mod how {
    /// 256 bits.
    pub const LONG: u8 = 1;
    /// VEX: the rest of the register is cleared, memory need not be aligned.
    pub const VEX: u8 = 2;
    /// Memory operand of 16 bytes must be aligned.
    pub const ALIGNED: u8 = 4;
    /// Three operands: the first source is `r[1]`, the second `r[2]` or memory.
    pub const THREE: u8 = 8;
    /// Both halves use the same second source: shifts by a register.
    pub const SHARED: u8 = 16;
    /// 256-bit result of 128-bit (or narrower) source.
    pub const WIDENS: u8 = 32;
    /// 128-bit result of 256-bit source.
    pub const NARROWS: u8 = 64;
    /// The second source is `op.imm`, not an operand: shifts by an immediate.
    pub const COUNT: u8 = 128;
}

impl Cpu {
    /// #UD or #NM as AVX instructions give it.
    pub(super) fn need_avx(&mut self) -> Flow {
        let on = self.state.cr4 & cr4::OSXSAVE != 0 && self.state.xcr0 & 6 == 6;
        if !on || !self.protected() {
            return self.ud();
        }
        self.need_not_ts()
    }

    #[inline(always)]
    pub(super) fn need_vector(&mut self, vex: bool) -> Flow {
        if vex { self.need_avx() } else { self.need_sse() }
    }

    #[inline(always)]
    pub(super) fn xmm(&self, r: u8) -> Xmm {
        let z = &self.state.vec.zmm[(r & 31) as usize];
        [z[0], z[1]]
    }

    #[inline(always)]
    pub(super) fn ymm_high(&self, r: u8) -> Xmm {
        let z = &self.state.vec.zmm[(r & 31) as usize];
        [z[2], z[3]]
    }

    /// Writes the low 128 bits; VEX forms clear the rest.
    #[inline(always)]
    pub(super) fn set_xmm(&mut self, r: u8, v: Xmm, vex: bool) {
        let z = &mut self.state.vec.zmm[(r & 31) as usize];
        (z[0], z[1]) = (v[0], v[1]);
        if vex {
            z[2..].fill(0);
        }
    }

    #[inline(always)]
    pub(super) fn set_ymm(&mut self, r: u8, low: Xmm, high: Xmm) {
        self.state.vec.zmm[(r & 31) as usize] = [low[0], low[1], high[0], high[1], 0, 0, 0, 0];
    }

    /// Loads up to 32 bytes of vector operand, zero-extended.
    pub(super) fn load_vector<M: Machine>(
        &mut self,
        m: &mut M,
        op: &Op<M>,
        aligned: bool,
    ) -> Result<[Xmm; 2], Stop> {
        let at = self.ea(op)?;
        if aligned && at & 15 != 0 {
            return self.gp0();
        }
        let mut b = [0; 32];
        self.load_bytes(m, at, &mut b[..(op.msize as usize).min(32)])?;
        let q = |n: usize| u64::from_le_bytes(std::array::from_fn(|k| b[8 * n + k]));
        Ok([[q(0), q(1)], [q(2), q(3)]])
    }

    /// Takes the exception flags of a floating-point instruction; unmasked ones become #XM and the result is lost.
    #[inline(always)]
    pub(super) fn float_flags(&mut self, raised: u32) -> Flow {
        let unmasked = raised & !(self.state.vec.mxcsr >> 7) & 0x3f;
        if unmasked != 0 {
            return self.float_fault(raised, unmasked);
        }
        self.state.vec.mxcsr |= raised;
        Ok(())
    }

    #[cold]
    fn float_fault(&mut self, raised: u32, unmasked: u32) -> Flow {
        // Invalid, denormal and zero-divide are found before the operation and hide what would come after it.
        let seen = if unmasked & 7 != 0 { raised & 7 } else { raised };
        self.state.vec.mxcsr |= seen;
        if self.state.cr4 & cr4::OSXMMEXCPT == 0 {
            return self.ud();
        }
        self.raise(Exception::plain(vector::XM))
    }
}

/// The generic op. `FP` says whether MXCSR matters.
fn generic<M: Machine, const FP: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let h = op.r[3];
    let vex = h & how::VEX != 0;
    c.need_vector(vex)?;
    let (first, second) = if h & how::THREE != 0 { (op.r[1], op.r[2]) } else { (op.r[0], op.r[1]) };
    let [mut low2, mut high2] = if h & how::COUNT != 0 {
        [[op.imm, 0]; 2]
    } else if op.msize != 0 {
        c.load_vector(m, op, h & how::ALIGNED != 0)?
    } else {
        [c.xmm(second), c.ymm_high(second)]
    };
    if h & how::SHARED != 0 {
        high2 = low2;
    }
    if h & how::WIDENS != 0 && h & how::LONG != 0 {
        (low2, high2) = widen_source(low2, op.imm as u32);
    }
    let (mut low, mut high) = (c.xmm(first), c.ymm_high(first));
    let stub = Stub(op.aux);
    let mxcsr = c.state.vec.mxcsr;
    let mut raised = 0;
    if FP {
        raised = native::vector_fp(stub, mxcsr, &mut low, &low2);
    } else {
        native::vector(stub, &mut low, &low2);
    }
    if h & how::LONG != 0 {
        let stub = stub.upper_half();
        if FP {
            raised |= native::vector_fp(stub, mxcsr, &mut high, &high2);
        } else {
            native::vector(stub, &mut high, &high2);
        }
    }
    if FP {
        c.float_flags(raised)?;
    }
    match h & (how::LONG | how::NARROWS) {
        0 | how::NARROWS => c.set_xmm(op.r[0], low, vex),
        how::LONG => c.set_ymm(op.r[0], low, high),
        _ => c.set_xmm(op.r[0], [low[0], high[0]], true),
    }
    Ok(())
}

/// The two sources of a widening operation: the low and the next `bytes` of one register.
fn widen_source(v: Xmm, bytes: u32) -> (Xmm, Xmm) {
    let all = v[0] as u128 | (v[1] as u128) << 64;
    let next = all >> (8 * bytes);
    (v, [next as u64, (next >> 64) as u64])
}

/// FMA and the variable shifts: three VEX operands, the destination also a source.
fn three<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [low3, high3] =
        if op.msize != 0 { c.load_vector(m, op, false)? } else { [c.xmm(op.r[2]), c.ymm_high(op.r[2])] };
    let (mut low, mut high) = (c.xmm(op.r[0]), c.ymm_high(op.r[0]));
    let (stub, mxcsr) = (Stub(op.aux), c.state.vec.mxcsr);
    let long = op.r[3] & how::LONG != 0;
    let mut raised = native::vector_vex(stub, mxcsr, &mut low, &c.xmm(op.r[1]), &low3);
    if long {
        raised |= native::vector_vex(stub, mxcsr, &mut high, &c.ymm_high(op.r[1]), &high3);
    }
    c.float_flags(raised)?;
    if long {
        c.set_ymm(op.r[0], low, high)
    } else {
        c.set_xmm(op.r[0], low, true)
    }
    Ok(())
}

/// Which comparison, by opcode.
fn comis<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(op.r[3] & how::VEX != 0)?;
    let b = if op.msize != 0 { c.load_vector(m, op, false)?[0] } else { c.xmm(op.r[1]) };
    let kind = [Compare::Ucomiss, Compare::Ucomisd, Compare::Comiss, Compare::Comisd][op.aux as usize & 3];
    let (flags, raised) = native::compare(kind, c.state.vec.mxcsr, &c.xmm(op.r[0]), &b);
    c.float_flags(raised)?;
    c.flags.change(rf::STATUS, flags);
    Ok(())
}

fn to_int<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(op.r[3] & how::VEX != 0)?;
    let a = if op.msize != 0 { c.load_vector(m, op, false)?[0] } else { c.xmm(op.r[1]) };
    let kind = ToInt { double: op.aux & 1 != 0, truncate: op.aux & 2 != 0, wide: op.aux & 4 != 0 };
    let (v, raised) = native::to_int(kind, c.state.vec.mxcsr, &a);
    c.float_flags(raised)?;
    c.state.gpr[op.r[0] as usize & 15] = if kind.wide { v } else { v & 0xffff_ffff };
    Ok(())
}

fn from_int<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let vex = op.r[3] & how::VEX != 0;
    c.need_vector(vex)?;
    let three = op.r[3] & how::THREE != 0;
    let (first, source) = if three { (op.r[1], op.r[2]) } else { (op.r[0], op.r[1]) };
    let v =
        if op.msize != 0 { c.load_vector(m, op, false)?[0][0] } else { c.state.gpr[source as usize & 15] };
    let mut a = c.xmm(first);
    let raised = native::from_int(op.aux & 1 != 0, op.aux & 4 != 0, c.state.vec.mxcsr, &mut a, v);
    c.float_flags(raised)?;
    c.set_xmm(op.r[0], a, vex);
    Ok(())
}

/// PTEST and VPTEST.
fn ptest<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let h = op.r[3];
    c.need_vector(h & how::VEX != 0)?;
    let [low, high] = if op.msize != 0 {
        c.load_vector(m, op, h & how::ALIGNED != 0)?
    } else {
        [c.xmm(op.r[1]), c.ymm_high(op.r[1])]
    };
    let (a, b) = (c.xmm(op.r[0]), c.ymm_high(op.r[0]));
    let pairs = [(a[0], low[0]), (a[1], low[1]), (b[0], high[0]), (b[1], high[1])];
    let used = if h & how::LONG != 0 { 4 } else { 2 };
    let zf = pairs[..used].iter().all(|(d, s)| d & s == 0);
    let cf = pairs[..used].iter().all(|(d, s)| !d & s == 0);
    c.flags.change(rf::STATUS, if zf { rf::ZF } else { 0 } | if cf { rf::CF } else { 0 });
    Ok(())
}

/// PSRLDQ and PSLLDQ (`op.aux` is 7).
fn byte_shift<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let h = op.r[3];
    let vex = h & how::VEX != 0;
    c.need_vector(vex)?;
    let source = op.r[if vex { 1 } else { 0 }];
    let left = op.aux == 7;
    let n = 8 * (op.imm as u32 & 0xff).min(16);
    let shift = |v: Xmm| {
        let all = v[0] as u128 | (v[1] as u128) << 64;
        let r = if left { all.checked_shl(n) } else { all.checked_shr(n) }.unwrap_or(0);
        [r as u64, (r >> 64) as u64]
    };
    let (low, high) = (shift(c.xmm(source)), shift(c.ymm_high(source)));
    if h & how::LONG != 0 {
        c.set_ymm(op.r[0], low, high)
    } else {
        c.set_xmm(op.r[0], low, vex)
    }
    Ok(())
}

/// What the allow-list says of an opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Float,
}

/// Opcodes that are `xmm1 = OP(xmm1, xmm2/mem)` and nothing else. Prefix: 0 none, 1 66, 2 F3, 3 F2.
fn listed(prefix: u8, map: u8, opcode: u8) -> Option<Kind> {
    use Kind::*;
    match (map, prefix, opcode) {
        (1, 0, 0x14 | 0x15 | 0x52..=0x57) | (1, 1, 0x14 | 0x15 | 0x54..=0x57) => Some(Integer),
        (1, 0 | 1, 0x51 | 0x58..=0x5f) => Some(Float),
        (1, 2, 0x12 | 0x16 | 0x52 | 0x53) | (1, 3, 0x12) => Some(Integer),
        (1, 2, 0x51 | 0x58..=0x5f) | (1, 3, 0x51 | 0x58..=0x5a | 0x5c..=0x5f) => Some(Float),
        (1, 1, 0x60..=0x6d | 0x74..=0x76) => Some(Integer),
        (1, 1 | 3, 0x7c | 0x7d | 0xd0) => Some(Float),
        (1, 1, 0xd1..=0xd5 | 0xd8..=0xe5 | 0xe8..=0xef | 0xf1..=0xf6 | 0xf8..=0xfe) => Some(Integer),
        (1, 1..=3, 0xe6) => Some(Float),
        (2, 1, 0x00..=0x0b | 0x1c..=0x1e | 0x20..=0x25 | 0x28 | 0x29 | 0x2b | 0x30..=0x35) => Some(Integer),
        (2, 1, 0x37..=0x41 | 0xdb..=0xdf) => Some(Integer),
        (2, 0, 0xc8..=0xca | 0xcc | 0xcd) => Some(Integer),
        _ => None,
    }
}

/// The same for opcodes with an immediate.
fn listed_immediate(prefix: u8, map: u8, opcode: u8) -> Option<Kind> {
    match (map, prefix, opcode) {
        (1, _, 0xc2) | (3, 1, 0x08..=0x0b | 0x40 | 0x41) => Some(Kind::Float),
        (1, 0 | 1, 0xc6) | (1, 1..=3, 0x70) => Some(Kind::Integer),
        (3, 1, 0x0c..=0x0f | 0x42 | 0x44 | 0xdf) => Some(Kind::Integer),
        _ => None,
    }
}

/// Bytes of source that make one 128-bit half of the result, for opcodes that widen.
fn widening(e: &Encoding) -> Option<u64> {
    match (e.map, e.prefix, e.opcode) {
        (1, 0, 0x5a) | (1, 2, 0xe6) => Some(8),
        (2, 1, 0x20 | 0x23 | 0x25 | 0x30 | 0x33 | 0x35) => Some(8),
        (2, 1, 0x21 | 0x24 | 0x31 | 0x34) => Some(4),
        (2, 1, 0x22 | 0x32) => Some(2),
        _ => None,
    }
}

fn narrowing(e: &Encoding) -> bool {
    matches!((e.map, e.prefix, e.opcode), (1, 1, 0x5a) | (1, 1 | 3, 0xe6))
}

fn shift_by_register(e: &Encoding) -> bool {
    e.map == 1 && matches!(e.opcode, 0xd1..=0xd3 | 0xe1 | 0xe2 | 0xf1..=0xf3)
}

/// Whether the host has what the instruction needs beyond SSE2.
pub(super) fn host_has(i: &Instruction) -> bool {
    use iced_x86::CpuidFeature as F;
    use std::arch::is_x86_feature_detected as has;
    i.cpuid_features().iter().all(|f| match f {
        F::MMX | F::SSE | F::SSE2 | F::FPU | F::FPU287 | F::FPU387 => true,
        F::SSE3 => has!("sse3"),
        F::SSSE3 => has!("ssse3"),
        F::SSE4_1 => has!("sse4.1"),
        F::SSE4_2 => has!("sse4.2"),
        F::AES => has!("aes"),
        F::PCLMULQDQ => has!("pclmulqdq"),
        F::SHA => has!("sha"),
        F::AVX => has!("avx"),
        F::AVX2 => has!("avx2"),
        F::FMA => has!("fma"),
        F::F16C => has!("f16c"),
        F::VAES | F::VPCLMULQDQ => has!("aes") && has!("pclmulqdq"),
        _ => false,
    })
}

/// Flags for `op.r[3]` that follow from the encoding alone.
pub(super) fn base_flags<M>(i: &Instruction, e: &Encoding, op: &Op<M>) -> u8 {
    let mut h = 0;
    if e.vex {
        h |= how::VEX;
    } else if op.msize == 16 {
        h |= how::ALIGNED;
    }
    // Scalar instructions ignore VEX.L.
    let ymm = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_ymm());
    if ymm || op.msize == 32 {
        h |= how::LONG;
    }
    h
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let e = &s.encoding;
    if e.map == 0 || e.map > 3 || e.evex || !host_has(i) || uses_mmx(i) {
        return None;
    }
    op.r[3] = base_flags(i, e, op);
    if let Some(f) = special(i, s, op) {
        return Some(f);
    }
    if let Some(f) = shift_immediate(e, op) {
        return Some(f);
    }
    let registers = (0..i.op_count()).filter(|&n| i.op_kind(n) != OpKind::Immediate8).count();
    if registers == 3 {
        op.r[3] |= how::THREE;
    }
    if shift_by_register(e) {
        op.r[3] |= how::SHARED;
    }
    if let Some(kind) = listed_immediate(e.prefix, e.map, e.opcode) {
        let map = if e.vex && (e.map, e.opcode) == (1, 0xc2) { native::VEX_0F } else { e.map };
        op.aux = Stub::immediate(e.prefix, map, e.opcode, op.imm as u8)?.0;
        return Some(pick(kind));
    }
    let kind = listed(e.prefix, e.map, e.opcode)?;
    if let Some(bytes) = widening(e) {
        op.r[3] |= how::WIDENS;
        op.imm = bytes;
    }
    if narrowing(e) {
        op.r[3] |= how::NARROWS;
    }
    op.aux = match e.map {
        1 => Stub::map_0f(e.prefix, e.opcode).0,
        _ => Stub::map_0f38(e.prefix, e.opcode).0,
    };
    Some(pick(kind))
}

fn pick<M: Machine>(kind: Kind) -> Handler<M> {
    if kind == Kind::Float { generic::<M, true> } else { generic::<M, false> }
}

fn uses_mmx(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_mm())
}

fn special<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let e = &s.encoding;
    match i.mnemonic() {
        N::Ucomiss
        | N::Vucomiss
        | N::Ucomisd
        | N::Vucomisd
        | N::Comiss
        | N::Vcomiss
        | N::Comisd
        | N::Vcomisd => {
            op.aux = (e.prefix == 1) as u16 | ((e.opcode == 0x2f) as u16) << 1;
            Some(comis)
        }
        N::Cvtss2si
        | N::Vcvtss2si
        | N::Cvtsd2si
        | N::Vcvtsd2si
        | N::Cvttss2si
        | N::Vcvttss2si
        | N::Cvttsd2si
        | N::Vcvttsd2si => {
            op.aux = (e.prefix == 3) as u16 | ((e.opcode == 0x2c) as u16) << 1 | ((s.size == 8) as u16) << 2;
            Some(to_int)
        }
        N::Cvtsi2ss | N::Vcvtsi2ss | N::Cvtsi2sd | N::Vcvtsi2sd => {
            let last = i.op_count() - 1;
            let wide = i.op_register(last).size() == 8 || op.msize == 8;
            op.aux = (e.prefix == 3) as u16 | (wide as u16) << 2;
            if last == 2 {
                op.r[3] |= how::THREE;
            }
            Some(from_int)
        }
        N::Ptest | N::Vptest => Some(ptest),
        _ if e.vex && e.map == 2 && e.prefix == 1 && vex_only(e.opcode) => {
            op.aux = Stub::vex_0f38(e.w, e.opcode).0;
            Some(three)
        }
        _ => None,
    }
}

/// FMA, VPSxxVD/Q, VPERMILPS/PD by register: lane by lane, three operands.
fn vex_only(opcode: u8) -> bool {
    matches!(opcode, 0x0c | 0x0d | 0x45..=0x47 | 0x96..=0x9f | 0xa6..=0xaf | 0xb6..=0xbf)
}

/// Groups 12 to 14: the shift by an immediate becomes the shift by a register that holds it.
fn shift_immediate<M: Machine>(e: &Encoding, op: &mut Op<M>) -> Option<Handler<M>> {
    if e.map != 1 || e.prefix != 1 || !matches!(e.opcode, 0x71..=0x73) {
        return None;
    }
    let kind = e.modrm >> 3 & 7;
    let opcode = match (e.opcode, kind) {
        (0x73, 3 | 7) => {
            op.aux = kind as u16;
            return Some(byte_shift);
        }
        (0x71, 2) => 0xd1,
        (0x71, 4) => 0xe1,
        (0x71, 6) => 0xf1,
        (0x72, 2) => 0xd2,
        (0x72, 4) => 0xe2,
        (0x72, 6) => 0xf2,
        (0x73, 2) => 0xd3,
        (0x73, 6) => 0xf3,
        _ => return None,
    };
    op.imm &= 0xff;
    op.aux = Stub::map_0f(1, opcode).0;
    op.r[3] |= how::COUNT | if e.vex { how::THREE } else { 0 };
    Some(generic::<M, false>)
}
