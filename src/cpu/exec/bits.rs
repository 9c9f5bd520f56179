//! Bit counting, scanning, testing, extraction and deposit: POPCNT to PEXT, BT to BTC, BSWAP, MOVBE, CRC32.

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::Flow;
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::state::rflags as rf;
use super::arith::operand;
use super::sized;

fn popcnt<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let r = T::from64(operand::<M, T, MEM>(c, m, op, op.r[1])?.to64().count_ones() as u64);
    c.set(op.r[0], r);
    let zero = r.to64() == 0;
    c.flags.change(rf::STATUS, if zero { rf::ZF } else { 0 });
    Ok(())
}

/// TZCNT and LZCNT: CF when the operand is zero, ZF when the result is; the other flags are undefined and kept.
fn count_zeros<M: Machine, T: Int, const MEM: bool, const LEADING: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?.to64();
    let n = if LEADING { a.leading_zeros() - (64 - T::BITS) } else { a.trailing_zeros().min(T::BITS) };
    c.set(op.r[0], T::from64(n as u64));
    let bits = if n == T::BITS { rf::CF } else { 0 } | if n == 0 { rf::ZF } else { 0 };
    c.flags.change(rf::CF | rf::ZF, bits);
    Ok(())
}

/// BSF and BSR: a zero operand leaves the destination alone, as every Intel and AMD processor does.
fn scan<M: Machine, T: Int, const MEM: bool, const REVERSE: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?.to64();
    if a == 0 {
        c.flags.change(rf::ZF, rf::ZF);
        return Ok(());
    }
    let n = if REVERSE { 63 - a.leading_zeros() } else { a.trailing_zeros() };
    c.set(op.r[0], T::from64(n as u64));
    c.flags.change(rf::ZF, 0);
    Ok(())
}

/// What BT, BTS, BTR and BTC do to the bit.
const TEST: u8 = 0;
const SET: u8 = 1;
const RESET: u8 = 2;

#[inline(always)]
fn change_bit<T: Int, const KIND: u8>(a: T, bit: u32) -> T {
    let mask = 1u64 << bit;
    T::from64(match KIND {
        TEST => a.to64(),
        SET => a.to64() | mask,
        RESET => a.to64() & !mask,
        _ => a.to64() ^ mask,
    })
}

#[inline(always)]
fn bit_number<M, T: Int, const IMM: bool>(c: &Cpu, op: &Op<M>) -> u64 {
    if IMM { op.imm & (T::BITS as u64 - 1) } else { c.get::<T>(op.r[1]).sext() }
}

fn bt_r<M: Machine, T: Int, const KIND: u8, const IMM: bool>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let bit = bit_number::<M, T, IMM>(c, op) as u32 % T::BITS;
    let a = c.get::<T>(op.r[0]);
    c.flags.set_cf(a.to64() >> bit & 1 != 0);
    if KIND != TEST {
        c.set(op.r[0], change_bit::<T, KIND>(a, bit));
    }
    Ok(())
}

fn bt_m<M: Machine, T: Int, const KIND: u8, const IMM: bool, const LOCK: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    let number = bit_number::<M, T, IMM>(c, op);
    let bit = number as u32 % T::BITS;
    // A register bit number reaches memory on both sides of the operand.
    let words = (number as i64) >> T::BITS.trailing_zeros();
    let at = c.ea_plus(op, (words as u64).wrapping_mul(T::SIZE))?;
    if KIND == TEST {
        let a = c.load::<T, M>(m, at)?;
        c.flags.set_cf(a.to64() >> bit & 1 != 0);
        return Ok(());
    }
    c.modify::<T, M, LOCK>(m, at, |f, a| {
        f.set_cf(a.to64() >> bit & 1 != 0);
        change_bit::<T, KIND>(a, bit)
    })
    .map(|_| ())
}

fn bit_test<M: Machine, const KIND: u8>(s: &Shape) -> Option<Handler<M>> {
    match s.form {
        form::RR => sized!(wide s.size, bt_r::<M, KIND, false>),
        form::RI => sized!(wide s.size, bt_r::<M, KIND, true>),
        form::MR if s.lock => sized!(wide s.size, bt_m::<M, KIND, false, true>),
        form::MR => sized!(wide s.size, bt_m::<M, KIND, false, false>),
        form::MI if s.lock => sized!(wide s.size, bt_m::<M, KIND, true, true>),
        form::MI => sized!(wide s.size, bt_m::<M, KIND, true, false>),
        _ => None,
    }
}

/// BEXTR: start in bits 7:0 of the control operand, length in 15:8.
fn bextr<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?.to64();
    let control = c.get::<T>(op.r[2]).to64();
    let (start, len) = (control as u8 as u32, (control >> 8) as u8 as u32);
    let shifted = a.checked_shr(start).unwrap_or(0);
    let r = T::from64(if len < 64 { shifted & ((1 << len) - 1) } else { shifted });
    c.flags.logic(r);
    c.set(op.r[0], r);
    Ok(())
}

fn bzhi<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?;
    let n = c.get::<T>(op.r[2]).to64() as u8 as u32;
    let over = n >= T::BITS;
    let r = if over { a } else { T::from64(a.to64() & ((1 << n) - 1)) };
    c.flags.result(r, over, false);
    c.set(op.r[0], r);
    Ok(())
}

const BLSR: u8 = 0;
const BLSMSK: u8 = 1;

/// BLSR, BLSMSK, BLSI.
fn lowest<M: Machine, T: Int, const MEM: bool, const KIND: u8>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?.to64();
    let r = T::from64(match KIND {
        BLSR => a.wrapping_sub(1) & a,
        BLSMSK => a.wrapping_sub(1) ^ a,
        _ => a.wrapping_neg() & a,
    });
    let carry = if KIND > BLSMSK { a != 0 } else { a == 0 };
    c.flags.result(r, carry, false);
    c.set(op.r[0], r);
    Ok(())
}

/// PDEP and PEXT.
fn deposit<M: Machine, T: Int, const MEM: bool, const EXTRACT: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    let mut mask = operand::<M, T, MEM>(c, m, op, op.r[2])?.to64();
    let a = c.get::<T>(op.r[1]).to64();
    let (mut r, mut k) = (0, 0);
    while mask != 0 {
        let bit = mask.trailing_zeros();
        r |= if EXTRACT { (a >> bit & 1) << k } else { (a >> k & 1) << bit };
        mask &= mask - 1;
        k += 1;
    }
    c.set(op.r[0], T::from64(r));
    Ok(())
}

fn bswap<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let a = c.get::<T>(op.r[0]).to64();
    // Undefined for 16 bits; processors give zero.
    let r = if T::BITS == 16 { 0 } else { a.swap_bytes() >> (64 - T::BITS) };
    c.set(op.r[0], T::from64(r));
    Ok(())
}

fn swapped<T: Int>(a: T) -> T {
    T::from64(a.to64().swap_bytes() >> (64 - T::BITS))
}

fn movbe_rm<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = c.load_op::<T, M>(m, op)?;
    c.set(op.r[0], swapped(a));
    Ok(())
}

fn movbe_mr<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = c.get::<T>(op.r[1]);
    c.store_op(m, op, swapped(a))
}

/// CRC32 (the Castagnoli polynomial, bit-reflected); `T` is the size of the source.
fn crc32<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let data = operand::<M, T, MEM>(c, m, op, op.r[1])?.to64();
    let mut crc = c.get::<u32>(op.r[0]);
    for byte in &data.to_le_bytes()[..T::SIZE as usize] {
        crc ^= *byte as u32;
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    c.set(op.r[0], crc);
    Ok(())
}

macro_rules! reg_or_mem {
    ($s:expr, $reg:expr, $mode:tt, $f:ident $(, $g:tt)*) => {
        if $s.form == $reg {
            sized!($mode $s.size, $f::<M, false $(, $g)*>)
        } else {
            sized!($mode $s.size, $f::<M, true $(, $g)*>)
        }
    };
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    match i.mnemonic() {
        N::Popcnt => reg_or_mem!(s, form::RR, wide, popcnt),
        N::Tzcnt => reg_or_mem!(s, form::RR, wide, count_zeros, false),
        N::Lzcnt => reg_or_mem!(s, form::RR, wide, count_zeros, true),
        N::Bsf => reg_or_mem!(s, form::RR, wide, scan, false),
        N::Bsr => reg_or_mem!(s, form::RR, wide, scan, true),
        N::Bt => bit_test::<M, TEST>(s),
        N::Bts => bit_test::<M, SET>(s),
        N::Btr => bit_test::<M, RESET>(s),
        N::Btc => bit_test::<M, 3>(s),
        N::Bextr => reg_or_mem!(s, form::RRR, big, bextr),
        N::Bzhi => reg_or_mem!(s, form::RRR, big, bzhi),
        N::Blsr => reg_or_mem!(s, form::RR, big, lowest, BLSR),
        N::Blsmsk => reg_or_mem!(s, form::RR, big, lowest, BLSMSK),
        N::Blsi => reg_or_mem!(s, form::RR, big, lowest, 2),
        N::Pdep => reg_or_mem!(s, form::RRR, big, deposit, false),
        N::Pext => reg_or_mem!(s, form::RRR, big, deposit, true),
        N::Bswap => sized!(wide s.size, bswap::<M>),
        N::Movbe if s.form == form::RM => sized!(wide s.size, movbe_rm::<M>),
        N::Movbe => sized!(wide s.size, movbe_mr::<M>),
        N::Crc32 => crc32_handler(i, s),
        _ => None,
    }
}

fn crc32_handler<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    if s.form == form::RR {
        return sized!(i.op1_register().size(), crc32::<M, false>);
    }
    sized!(i.memory_size().size(), crc32::<M, true>)
}
