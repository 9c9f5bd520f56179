//! Shifts and rotates, with and without flags.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::Flow;
use super::super::flags::Flags;
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::state::gpr;
use super::arith::operand;
use super::sized;

const ROL: u8 = 0;
const ROR: u8 = 1;
const RCL: u8 = 2;
const RCR: u8 = 3;
pub(super) const SHL: u8 = 4;
pub(super) const SHR: u8 = 5;
pub(super) const SAR: u8 = 6;

/// One shift or rotate by a raw count, flags included. A masked count of zero changes nothing.
///
/// OF is defined for a count of one only; beyond that it follows the same formula, as Intel processors do.
#[inline(always)]
pub(super) fn shift<T: Int, const KIND: u8>(f: &mut Flags, a: T, count: u64) -> T {
    let count = count as u32 & if T::BITS == 64 { 63 } else { 31 };
    if count == 0 {
        return a;
    }
    match KIND {
        ROL | ROR => rotate::<T, KIND>(f, a, count),
        RCL | RCR => rotate_carry::<T, KIND>(f, a, count),
        SHL => {
            let wide = (a.to64() as u128) << count;
            let r = T::from64(wide as u64);
            let cf = wide >> T::BITS & 1 != 0;
            f.result(r, cf, r.sign() != cf);
            r
        }
        SHR => {
            let r = T::from64(a.to64() >> count);
            let cf = (a.to64() as u128) << 1 >> count & 1 != 0;
            f.result(r, cf, a.sign());
            r
        }
        _ => {
            let wide = a.sext() as i64 as i128;
            let r = T::from64((wide >> count) as u64);
            let cf = wide << 1 >> count & 1 != 0;
            f.result(r, cf, false);
            r
        }
    }
}

#[inline(always)]
fn rotate<T: Int, const KIND: u8>(f: &mut Flags, a: T, count: u32) -> T {
    let n = count % T::BITS;
    let left = if KIND == ROL { n } else { (T::BITS - n) % T::BITS };
    let v = a.to64() as u128;
    let r = T::from64(((v << left) | (v >> (T::BITS - left))) as u64);
    let top = r.sign();
    if KIND == ROL {
        let cf = r.to64() & 1 != 0;
        f.set_cf_of(cf, top != cf);
    } else {
        let next = r.to64() >> (T::BITS - 2) & 1 != 0;
        f.set_cf_of(top, top != next);
    }
    r
}

#[inline(always)]
fn rotate_carry<T: Int, const KIND: u8>(f: &mut Flags, a: T, count: u32) -> T {
    let width = T::BITS + 1;
    let n = count % width;
    let v = a.to64() as u128 | (f.cf() as u128) << T::BITS;
    let left = if KIND == RCL { n } else { (width - n) % width };
    let turned = if left == 0 { v } else { (v << left) | (v >> (width - left)) };
    let r = T::from64(turned as u64);
    let cf = turned >> T::BITS & 1 != 0;
    let of = if KIND == RCL { r.sign() != cf } else { r.sign() != (r.to64() >> (T::BITS - 2) & 1 != 0) };
    f.set_cf_of(cf, of);
    r
}

#[inline(always)]
fn count<M, const BY_CL: bool>(c: &Cpu, op: &Op<M>) -> u64 {
    if BY_CL { c.state.gpr[gpr::RCX] } else { op.imm }
}

fn shift_r<M: Machine, T: Int, const KIND: u8, const BY_CL: bool>(
    c: &mut Cpu,
    _: &mut M,
    op: &Op<M>,
) -> Flow {
    let (a, n) = (c.get::<T>(op.r[0]), count::<M, BY_CL>(c, op));
    let r = shift::<T, KIND>(&mut c.flags, a, n);
    c.set(op.r[0], r);
    Ok(())
}

fn shift_m<M: Machine, T: Int, const KIND: u8, const BY_CL: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    let at = c.ea(op)?;
    let n = count::<M, BY_CL>(c, op);
    c.modify::<T, M, false>(m, at, |f, a| shift::<T, KIND>(f, a, n)).map(|_| ())
}

fn shifts<M: Machine, const KIND: u8>(s: &Shape) -> Option<Handler<M>> {
    match s.form {
        form::RI => sized!(s.size, shift_r::<M, KIND, false>),
        form::RR => sized!(s.size, shift_r::<M, KIND, true>),
        form::MI => sized!(s.size, shift_m::<M, KIND, false>),
        form::MR => sized!(s.size, shift_m::<M, KIND, true>),
        _ => None,
    }
}

/// SHLD (`LEFT`) and SHRD.
#[inline(always)]
fn double<T: Int, const LEFT: bool>(f: &mut Flags, a: T, b: T, count: u64) -> T {
    let n = count as u32 & if T::BITS == 64 { 63 } else { 31 };
    if n == 0 {
        return a;
    }
    let (a64, b64) = (a.to64() as u128, b.to64() as u128);
    // 16-bit operands may be shifted by more than their size: then what Intel processors do is to take the bits from
    // the other operand and then from the first again.
    let (r, cf) = if LEFT {
        let v = (a64 << T::BITS | b64) << T::BITS | a64;
        if T::BITS == 64 {
            ((a64 << n | b64 >> (64 - n)) as u64, a64 >> (64 - n) & 1 != 0)
        } else {
            let r = (v << n >> (2 * T::BITS)) as u64;
            (r, v << n >> (3 * T::BITS) & 1 != 0)
        }
    } else if T::BITS == 64 {
        ((a64 >> n | b64 << (64 - n)) as u64, a64 >> (n - 1) & 1 != 0)
    } else {
        let v = (a64 << T::BITS | b64) << T::BITS | a64;
        ((v >> n) as u64, v >> (n - 1) & 1 != 0)
    };
    let r = T::from64(r);
    f.result(r, cf, r.sign() != a.sign());
    r
}

fn double_r<M: Machine, T: Int, const LEFT: bool, const BY_CL: bool>(
    c: &mut Cpu,
    _: &mut M,
    op: &Op<M>,
) -> Flow {
    let (a, b, n) = (c.get::<T>(op.r[0]), c.get::<T>(op.r[1]), count::<M, BY_CL>(c, op));
    let r = double::<T, LEFT>(&mut c.flags, a, b, n);
    c.set(op.r[0], r);
    Ok(())
}

fn double_m<M: Machine, T: Int, const LEFT: bool, const BY_CL: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    let at = c.ea(op)?;
    let (b, n) = (c.get::<T>(op.r[1]), count::<M, BY_CL>(c, op));
    c.modify::<T, M, false>(m, at, |f, a| double::<T, LEFT>(f, a, b, n)).map(|_| ())
}

fn doubles<M: Machine, const LEFT: bool>(s: &Shape) -> Option<Handler<M>> {
    match s.form {
        form::RRI => sized!(wide s.size, double_r::<M, LEFT, false>),
        form::RRR => sized!(wide s.size, double_r::<M, LEFT, true>),
        form::MRI => sized!(wide s.size, double_m::<M, LEFT, false>),
        form::MRR => sized!(wide s.size, double_m::<M, LEFT, true>),
        _ => None,
    }
}

const LEFT: u8 = 0;
const RIGHT: u8 = 1;
const ARITHMETIC: u8 = 2;

/// SHLX, SHRX, SARX: no flags.
fn shift_x<M: Machine, T: Int, const MEM: bool, const KIND: u8>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?;
    let n = c.get::<T>(op.r[2]).to64() as u32 & (T::BITS - 1);
    let r = match KIND {
        LEFT => a.to64() << n,
        RIGHT => a.to64() >> n,
        _ => (a.sext() as i64 >> n) as u64,
    };
    c.set(op.r[0], T::from64(r));
    Ok(())
}

fn rorx<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?.to64() as u128;
    let n = op.imm as u32 & (T::BITS - 1);
    c.set(op.r[0], T::from64((a >> n | a << (T::BITS - n)) as u64));
    Ok(())
}

fn shifts_x<M: Machine, const KIND: u8>(s: &Shape) -> Option<Handler<M>> {
    match s.form {
        form::RRR => sized!(big s.size, shift_x::<M, false, KIND>),
        form::RMR => sized!(big s.size, shift_x::<M, true, KIND>),
        _ => None,
    }
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    match i.mnemonic() {
        N::Rol => shifts::<M, ROL>(s),
        N::Ror => shifts::<M, ROR>(s),
        N::Rcl => shifts::<M, RCL>(s),
        N::Rcr => shifts::<M, RCR>(s),
        N::Shl | N::Sal => shifts::<M, SHL>(s),
        N::Shr => shifts::<M, SHR>(s),
        N::Sar => shifts::<M, SAR>(s),
        N::Shld => doubles::<M, true>(s),
        N::Shrd => doubles::<M, false>(s),
        N::Shlx => shifts_x::<M, LEFT>(s),
        N::Shrx => shifts_x::<M, RIGHT>(s),
        N::Sarx => shifts_x::<M, ARITHMETIC>(s),
        N::Rorx if s.form == form::RRI => sized!(big s.size, rorx::<M, false>),
        N::Rorx => sized!(big s.size, rorx::<M, true>),
        _ => None,
    }
}
