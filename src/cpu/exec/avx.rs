//! AVX and AVX2 forms that move data between lanes: broadcasts, inserts, extracts, permutations, blends, masked moves.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::Shape;
use super::super::exceptions::Flow;
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::native::Xmm;
use super::sse::{base_flags, host_has, how};

fn long<M>(op: &Op<M>) -> bool {
    op.r[3] & how::LONG != 0
}

fn put<M>(c: &mut Cpu, op: &Op<M>, low: Xmm, high: Xmm) {
    if long(op) { c.set_ymm(op.r[0], low, high) } else { c.set_xmm(op.r[0], low, true) }
}

/// The last vector operand: memory, or register `r`.
fn source<M: Machine>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
    r: usize,
) -> Result<[Xmm; 2], super::super::exceptions::Stop> {
    if op.msize != 0 {
        return c.load_vector(m, op, false);
    }
    Ok([c.xmm(op.r[r]), c.ymm_high(op.r[r])])
}

/// VBROADCASTSS, VPBROADCASTB, …: `op.aux` bytes.
fn broadcast<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [v, _] = source(c, m, op, 1)?;
    let all = match op.aux {
        1 => [(v[0] & 0xff) * 0x0101_0101_0101_0101; 2],
        2 => [(v[0] & 0xffff) * 0x0001_0001_0001_0001; 2],
        4 => [(v[0] & 0xffff_ffff) * 0x1_0000_0001; 2],
        8 => [v[0]; 2],
        _ => v,
    };
    put(c, op, all, all);
    Ok(())
}

/// VINSERTF128, VINSERTI128.
fn insert<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [v, _] = source(c, m, op, 2)?;
    let (low, high) = (c.xmm(op.r[1]), c.ymm_high(op.r[1]));
    if op.imm & 1 == 0 {
        c.set_ymm(op.r[0], v, high)
    } else {
        c.set_ymm(op.r[0], low, v)
    }
    Ok(())
}

/// VEXTRACTF128, VEXTRACTI128.
fn extract<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let v = if op.imm & 1 == 0 { c.xmm(op.r[1]) } else { c.ymm_high(op.r[1]) };
    if op.msize == 0 {
        c.set_xmm(op.r[0], v, true);
        return Ok(());
    }
    let at = c.ea(op)?;
    let all = v[0] as u128 | (v[1] as u128) << 64;
    c.store_bytes(m, at, &all.to_le_bytes())
}

/// VPERM2F128, VPERM2I128.
fn permute_halves<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [c0, c1] = source(c, m, op, 2)?;
    let halves = [c.xmm(op.r[1]), c.ymm_high(op.r[1]), c0, c1];
    let pick = |n: u64| if n & 8 != 0 { [0, 0] } else { halves[n as usize & 3] };
    c.set_ymm(op.r[0], pick(op.imm), pick(op.imm >> 4));
    Ok(())
}

/// VPERMQ, VPERMPD by immediate.
fn permute_quads<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [l, h] = source(c, m, op, 1)?;
    let q = [l[0], l[1], h[0], h[1]];
    let pick = |n: u64| q[(op.imm >> (2 * n) & 3) as usize];
    c.set_ymm(op.r[0], [pick(0), pick(1)], [pick(2), pick(3)]);
    Ok(())
}

fn dwords(l: Xmm, h: Xmm) -> [u32; 8] {
    let q = [l[0], l[1], h[0], h[1]];
    std::array::from_fn(|n| (q[n / 2] >> (32 * (n % 2))) as u32)
}

fn halves(d: [u32; 8]) -> (Xmm, Xmm) {
    let q = |n: usize| d[2 * n] as u64 | (d[2 * n + 1] as u64) << 32;
    ([q(0), q(1)], [q(2), q(3)])
}

/// VPERMD, VPERMPS: indices in the first source.
fn permute_dwords<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [l, h] = source(c, m, op, 2)?;
    let data = dwords(l, h);
    let index = dwords(c.xmm(op.r[1]), c.ymm_high(op.r[1]));
    let (low, high) = halves(std::array::from_fn(|n| data[index[n] as usize & 7]));
    c.set_ymm(op.r[0], low, high);
    Ok(())
}

/// VPERMILPS, VPERMILPD by immediate (`op.aux` is the element size).
fn permute_in_lane<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [l, h] = source(c, m, op, 1)?;
    let (low, high) = if op.aux == 8 {
        let pick = |v: Xmm, n: u64| v[(op.imm >> n & 1) as usize];
        ([pick(l, 0), pick(l, 1)], [pick(h, 2), pick(h, 3)])
    } else {
        let d = dwords(l, h);
        halves(std::array::from_fn(|n| d[n & 4 | (op.imm >> (2 * (n & 3)) & 3) as usize]))
    };
    put(c, op, low, high);
    Ok(())
}

/// VPBLENDD, and the other blends by immediate where 256 bits take all eight of its bits.
fn blend<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let [l, h] = source(c, m, op, 2)?;
    let a = dwords(c.xmm(op.r[1]), c.ymm_high(op.r[1]));
    let b = dwords(l, h);
    let bit = |n: usize| op.imm >> (n * 4 / op.aux as usize) & 1 != 0;
    let (low, high) = halves(std::array::from_fn(|n| if bit(n) { b[n] } else { a[n] }));
    put(c, op, low, high);
    Ok(())
}

/// BLENDVPS and its kin: elements of `op.aux` bytes, chosen by the top bits of a mask register (`op.imm`).
fn blend_by_mask<M: Machine, const VEX: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_vector(VEX)?;
    let (first, second) = if VEX { (op.r[1], 2) } else { (op.r[0], 1) };
    let b = if op.msize != 0 {
        c.load_vector(m, op, op.r[3] & how::ALIGNED != 0)?
    } else {
        [c.xmm(op.r[second]), c.ymm_high(op.r[second])]
    };
    let mask = op.imm as u8;
    let choose = |a: Xmm, b: Xmm, mask: Xmm| -> Xmm {
        std::array::from_fn(|n| {
            let m = spread_signs(mask[n], op.aux);
            a[n] & !m | b[n] & m
        })
    };
    let low = choose(c.xmm(first), b[0], c.xmm(mask));
    let high = choose(c.ymm_high(first), b[1], c.ymm_high(mask));
    if VEX {
        put(c, op, low, high)
    } else {
        c.set_xmm(op.r[0], low, false)
    }
    Ok(())
}

/// All ones in the elements whose top bit is set.
fn spread_signs(v: u64, size: u16) -> u64 {
    let bits = 8 * size as u32;
    let unit = u64::MAX >> (64 - bits);
    let mut r = 0;
    for at in (0..64).step_by(bits as usize) {
        if v >> (at + bits - 1) & 1 != 0 {
            r |= unit << at;
        }
    }
    r
}

/// VMASKMOVPS, VPMASKMOVD, … (`op.aux` bytes per element): elements not selected are neither read nor written.
fn masked<M: Machine, const STORE: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_avx()?;
    let at = c.ea(op)?;
    let (mask, data) = if STORE { (op.r[1], op.r[2]) } else { (op.r[1], op.r[0]) };
    let size = op.aux as u64;
    let count = if long(op) { 32 } else { 16 } / size;
    let word = |z: &[u64; 8], n: u64| z[(n * size / 8) as usize] >> (8 * (n * size % 8));
    let select = c.state.vec.zmm[mask as usize & 31];
    let from = c.state.vec.zmm[data as usize & 31];
    let chosen = (0..count).filter(|&n| word(&select, n) >> (8 * size - 1) & 1 != 0);
    let mut r = [0u64; 4];
    for n in chosen.clone() {
        let a = at.wrapping_add(n * size);
        if STORE {
            c.probe_write(m, a, size as usize)?;
        } else {
            let v = if size == 4 { c.load::<u32, M>(m, a)? as u64 } else { c.load(m, a)? };
            r[(n * size / 8) as usize] |= v << (8 * (n * size % 8));
        }
    }
    if !STORE {
        put(c, op, [r[0], r[1]], [r[2], r[3]]);
        return Ok(());
    }
    for n in chosen {
        let (a, v) = (at.wrapping_add(n * size), word(&from, n));
        if size == 4 { c.store(m, a, v as u32)? } else { c.store(m, a, v)? }
    }
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let e = &s.encoding;
    if e.map < 2 || e.map > 3 || e.evex || !host_has(i) {
        return None;
    }
    op.r[3] = base_flags(i, e, op);
    let mut sized = |size: u16, f: Handler<M>| {
        op.aux = size;
        Some(f)
    };
    match i.mnemonic() {
        N::Vpbroadcastb => sized(1, broadcast),
        N::Vpbroadcastw => sized(2, broadcast),
        N::Vpbroadcastd | N::Vbroadcastss => sized(4, broadcast),
        N::Vpbroadcastq | N::Vbroadcastsd => sized(8, broadcast),
        N::Vbroadcastf128 | N::Vbroadcasti128 => sized(16, broadcast),
        N::Vinsertf128 | N::Vinserti128 => Some(insert),
        N::Vextractf128 | N::Vextracti128 => Some(extract),
        N::Vperm2f128 | N::Vperm2i128 => Some(permute_halves),
        N::Vpermq | N::Vpermpd => Some(permute_quads),
        N::Vpermd | N::Vpermps => Some(permute_dwords),
        N::Vpermilps if e.map == 3 => sized(4, permute_in_lane),
        N::Vpermilpd if e.map == 3 => sized(8, permute_in_lane),
        N::Vpblendd | N::Vblendps => sized(4, blend),
        N::Vblendpd => sized(8, blend),
        N::Pblendvb => legacy_blend(op, 1),
        N::Blendvps => legacy_blend(op, 4),
        N::Blendvpd => legacy_blend(op, 8),
        N::Vpblendvb | N::Vblendvps | N::Vblendvpd => {
            op.imm = i.op_register(3).number() as u64;
            op.aux = match i.mnemonic() {
                N::Vpblendvb => 1,
                N::Vblendvps => 4,
                _ => 8,
            };
            Some(blend_by_mask::<M, true>)
        }
        N::Vmaskmovps | N::Vpmaskmovd => sized(4, mask_handler(s)),
        N::Vmaskmovpd | N::Vpmaskmovq => sized(8, mask_handler(s)),
        _ => None,
    }
}

/// The legacy forms take their mask from XMM0.
fn legacy_blend<M: Machine>(op: &mut Op<M>, size: u16) -> Option<Handler<M>> {
    op.imm = 0;
    op.aux = size;
    Some(blend_by_mask::<M, false>)
}

fn mask_handler<M: Machine>(s: &Shape) -> Handler<M> {
    if s.form == super::super::decode::form::MRR { masked::<M, true> } else { masked::<M, false> }
}
