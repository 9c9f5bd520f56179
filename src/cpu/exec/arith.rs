//! ADD to DIV: integer arithmetic (SDM vol. 2).

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::{Exception, Flow, vector};
use super::super::flags::Flags;
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::state::gpr;
use super::sized;

/// A two-operand operation whose first operand is also its destination.
pub(super) trait Binary {
    /// Whether the result is written back (not for CMP and TEST).
    const STORES: bool = true;
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T;
}

pub(super) struct Add;
pub(super) struct Adc;
pub(super) struct Sub;
pub(super) struct Sbb;
pub(super) struct Cmp;

impl Binary for Add {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        f.add(a, b, false)
    }
}
impl Binary for Adc {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        let c = f.cf();
        f.add(a, b, c)
    }
}
impl Binary for Sub {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        f.sub(a, b, false)
    }
}
impl Binary for Sbb {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        let c = f.cf();
        f.sub(a, b, c)
    }
}
impl Binary for Cmp {
    const STORES: bool = false;
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T, b: T) -> T {
        f.sub(a, b, false)
    }
}

fn rr<M: Machine, T: Int, A: Binary>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let (a, b) = (c.get::<T>(op.r[0]), c.get::<T>(op.r[1]));
    let r = A::run(&mut c.flags, a, b);
    if A::STORES {
        c.set(op.r[0], r);
    }
    Ok(())
}

fn ri<M: Machine, T: Int, A: Binary>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let a = c.get::<T>(op.r[0]);
    let r = A::run(&mut c.flags, a, T::from64(op.imm));
    if A::STORES {
        c.set(op.r[0], r);
    }
    Ok(())
}

fn rm<M: Machine, T: Int, A: Binary>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = c.load_op::<T, M>(m, op)?;
    let a = c.get::<T>(op.r[0]);
    let r = A::run(&mut c.flags, a, b);
    if A::STORES {
        c.set(op.r[0], r);
    }
    Ok(())
}

#[inline(always)]
fn on_memory<M: Machine, T: Int, A: Binary, const LOCK: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
    b: T,
) -> Flow {
    let at = c.ea(op)?;
    if A::STORES {
        c.modify::<T, M, LOCK>(m, at, |f, a| A::run(f, a, b))?;
    } else {
        let a = c.load::<T, M>(m, at)?;
        A::run(&mut c.flags, a, b);
    }
    Ok(())
}

fn mr<M: Machine, T: Int, A: Binary>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = c.get::<T>(op.r[1]);
    on_memory::<M, T, A, false>(c, m, op, b)
}

fn mr_lock<M: Machine, T: Int, A: Binary>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = c.get::<T>(op.r[1]);
    on_memory::<M, T, A, true>(c, m, op, b)
}

fn mi<M: Machine, T: Int, A: Binary>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    on_memory::<M, T, A, false>(c, m, op, T::from64(op.imm))
}

fn mi_lock<M: Machine, T: Int, A: Binary>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    on_memory::<M, T, A, true>(c, m, op, T::from64(op.imm))
}

/// The handler of a two-operand operation by the form of its operands.
pub(super) fn binary<M: Machine, A: Binary>(s: &Shape) -> Option<Handler<M>> {
    match s.form {
        form::RR => sized!(s.size, rr::<M, A>),
        form::RI => sized!(s.size, ri::<M, A>),
        form::RM => sized!(s.size, rm::<M, A>),
        form::MR if s.lock => sized!(s.size, mr_lock::<M, A>),
        form::MR => sized!(s.size, mr::<M, A>),
        form::MI if s.lock => sized!(s.size, mi_lock::<M, A>),
        form::MI => sized!(s.size, mi::<M, A>),
        _ => None,
    }
}

/// An operation on one operand in place.
pub(super) trait Unary {
    fn run<T: Int>(f: &mut Flags, a: T) -> T;
}

pub(super) struct Inc;
pub(super) struct Dec;
pub(super) struct Neg;
pub(super) struct Not;

impl Unary for Inc {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T) -> T {
        let cf = f.cf();
        let r = f.add(a, T::from64(1), false);
        f.keep_cf(cf);
        r
    }
}
impl Unary for Dec {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T) -> T {
        let cf = f.cf();
        let r = f.sub(a, T::from64(1), false);
        f.keep_cf(cf);
        r
    }
}
impl Unary for Neg {
    #[inline(always)]
    fn run<T: Int>(f: &mut Flags, a: T) -> T {
        f.sub(T::from64(0), a, false)
    }
}
impl Unary for Not {
    #[inline(always)]
    fn run<T: Int>(_: &mut Flags, a: T) -> T {
        T::from64(!a.to64())
    }
}

fn unary_r<M: Machine, T: Int, A: Unary>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let a = c.get::<T>(op.r[0]);
    let r = A::run(&mut c.flags, a);
    c.set(op.r[0], r);
    Ok(())
}

fn unary_m<M: Machine, T: Int, A: Unary>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    c.modify::<T, M, false>(m, at, A::run).map(|_| ())
}

fn unary_m_lock<M: Machine, T: Int, A: Unary>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    c.modify::<T, M, true>(m, at, A::run).map(|_| ())
}

/// The handler of a one-operand operation.
pub(super) fn unary<M: Machine, A: Unary>(s: &Shape) -> Option<Handler<M>> {
    match s.form {
        form::R => sized!(s.size, unary_r::<M, A>),
        form::M if s.lock => sized!(s.size, unary_m_lock::<M, A>),
        form::M => sized!(s.size, unary_m::<M, A>),
        _ => None,
    }
}

/// The one explicit operand, register or memory.
#[inline(always)]
pub(super) fn operand<M: Machine, T: Int, const MEM: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
    reg: u8,
) -> Result<T, super::super::exceptions::Stop> {
    if MEM { c.load_op(m, op) } else { Ok(c.get(reg)) }
}

/// MUL and one-operand IMUL.
fn mul<M: Machine, T: Int, const MEM: bool, const SIGNED: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = operand::<M, T, MEM>(c, m, op, op.r[0])?;
    let a = c.get::<T>(0);
    let wide = if SIGNED {
        (a.sext() as i64 as i128 * b.sext() as i64 as i128) as u128
    } else {
        a.to64() as u128 * b.to64() as u128
    };
    let (low, high) = (T::from64(wide as u64), T::from64((wide >> T::BITS) as u64));
    if T::BITS == 8 {
        c.set::<u16>(0, wide as u16);
    } else {
        c.set(gpr::RAX as u8, low);
        c.set(gpr::RDX as u8, high);
    }
    let over = if SIGNED { high.sext() != (low.sext() as i64 >> 63) as u64 } else { high.to64() != 0 };
    c.flags.result(low, over, over);
    Ok(())
}

/// IMUL with two or three operands.
#[inline(always)]
fn imul_to<T: Int>(c: &mut Cpu, to: u8, a: T, b: T) {
    let wide = a.sext() as i64 as i128 * b.sext() as i64 as i128;
    let r = T::from64(wide as u64);
    let over = r.sext() as i64 as i128 != wide;
    c.set(to, r);
    c.flags.result(r, over, over);
}

fn imul2<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = operand::<M, T, MEM>(c, m, op, op.r[1])?;
    let a = c.get::<T>(op.r[0]);
    imul_to(c, op.r[0], a, b);
    Ok(())
}

fn imul3<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let a = operand::<M, T, MEM>(c, m, op, op.r[1])?;
    imul_to(c, op.r[0], a, T::from64(op.imm));
    Ok(())
}

fn divide_error(c: &mut Cpu) -> Flow {
    c.raise(Exception::plain(vector::DE))
}

fn dividend<T: Int>(c: &Cpu) -> u128 {
    if T::BITS == 8 {
        return c.get::<u16>(0) as u128;
    }
    c.get::<T>(gpr::RAX as u8).to64() as u128 | (c.get::<T>(gpr::RDX as u8).to64() as u128) << T::BITS
}

fn put_quotient<T: Int>(c: &mut Cpu, quotient: T, remainder: T) {
    if T::BITS == 8 {
        c.set::<u16>(0, (quotient.to64() | remainder.to64() << 8) as u16);
    } else {
        c.set(gpr::RAX as u8, quotient);
        c.set(gpr::RDX as u8, remainder);
    }
}

fn div<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = operand::<M, T, MEM>(c, m, op, op.r[0])?.to64() as u128;
    let a = dividend::<T>(c);
    if b == 0 {
        return divide_error(c);
    }
    // Most divisions fit in 64 bits, where the host is much faster.
    let (q, r) = if a >> 64 == 0 {
        ((a as u64 / b as u64) as u128, (a as u64 % b as u64) as u128)
    } else {
        (a / b, a % b)
    };
    if q >> T::BITS != 0 {
        return divide_error(c);
    }
    put_quotient(c, T::from64(q as u64), T::from64(r as u64));
    Ok(())
}

fn idiv<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = operand::<M, T, MEM>(c, m, op, op.r[0])?.sext() as i64 as i128;
    let unused = 128 - 2 * T::BITS;
    let a = (dividend::<T>(c) << unused) as i128 >> unused;
    if b == 0 {
        return divide_error(c);
    }
    let (q, r) = (a.wrapping_div(b), a.wrapping_rem(b));
    let fits = T::from64(q as u64).sext() as i64 as i128 == q;
    // The one quotient that overflows 128 bits wraps to a value that would look right.
    if !fits || (a == i128::MIN && b == -1) {
        return divide_error(c);
    }
    put_quotient(c, T::from64(q as u64), T::from64(r as u64));
    Ok(())
}

/// ADCX (`OVERFLOW` false) and ADOX: add with one flag as carry in and out, the others untouched.
fn adx<M: Machine, T: Int, const MEM: bool, const OVERFLOW: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    let b = operand::<M, T, MEM>(c, m, op, op.r[1])?.to64() as u128;
    let a = c.get::<T>(op.r[0]).to64() as u128;
    let carry = if OVERFLOW { c.flags.of() } else { c.flags.cf() };
    let sum = a + b + carry as u128;
    c.set(op.r[0], T::from64(sum as u64));
    let out = sum >> T::BITS != 0;
    if OVERFLOW {
        c.flags.set_of(out)
    } else {
        c.flags.set_cf(out)
    }
    Ok(())
}

fn xadd_r<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let (a, b) = (c.get::<T>(op.r[0]), c.get::<T>(op.r[1]));
    let sum = c.flags.add(a, b, false);
    c.set(op.r[1], a);
    c.set(op.r[0], sum);
    Ok(())
}

fn xadd_m<M: Machine, T: Int, const LOCK: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    let b = c.get::<T>(op.r[1]);
    let old = c.modify::<T, M, LOCK>(m, at, |f, a| f.add(a, b, false))?;
    c.set(op.r[1], old);
    Ok(())
}

fn cmpxchg_r<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let (have, want, new) = (c.get::<T>(op.r[0]), c.get::<T>(0), c.get::<T>(op.r[1]));
    c.flags.sub(want, have, false);
    if have == want {
        c.set(op.r[0], new);
    } else {
        c.set(0, have);
    }
    Ok(())
}

fn cmpxchg_m<M: Machine, T: Int, const LOCK: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    let (want, new) = (c.get::<T>(0), c.get::<T>(op.r[1]));
    let old = c.modify::<T, M, LOCK>(m, at, |f, have| {
        f.sub(want, have, false);
        if have == want { new } else { have }
    })?;
    if old != want {
        c.set(0, old);
    }
    Ok(())
}

/// CMPXCHG8B.
fn cmpxchg8b<M: Machine, const LOCK: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    let pair = |c: &Cpu, high: usize, low: usize| {
        c.get::<u32>(low as u8) as u64 | (c.get::<u32>(high as u8) as u64) << 32
    };
    let (want, new) = (pair(c, gpr::RDX, gpr::RAX), pair(c, gpr::RCX, gpr::RBX));
    let old = c.modify::<u64, M, LOCK>(m, at, |_, have| if have == want { new } else { have })?;
    if old != want {
        c.set(gpr::RAX as u8, old as u32);
        c.set(gpr::RDX as u8, (old >> 32) as u32);
    }
    zero_flag(c, old == want);
    Ok(())
}

/// CMPXCHG16B, always atomic.
fn cmpxchg16b<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    if at & 15 != 0 {
        return c.gp0();
    }
    let pair =
        |c: &Cpu, high: usize, low: usize| c.state.gpr[low] as u128 | (c.state.gpr[high] as u128) << 64;
    let (want, new) = (pair(c, gpr::RDX, gpr::RAX), pair(c, gpr::RCX, gpr::RBX));
    let old = c.exchange_16(m, at, want, new)?;
    if old != want {
        c.state.gpr[gpr::RAX] = old as u64;
        c.state.gpr[gpr::RDX] = (old >> 64) as u64;
    }
    zero_flag(c, old == want);
    Ok(())
}

fn zero_flag(c: &mut Cpu, on: bool) {
    use super::super::state::rflags::ZF;
    c.flags.change(ZF, if on { ZF } else { 0 });
}

/// MULX: flags untouched, high half last so that it wins when both destinations are one register.
fn mulx<M: Machine, T: Int, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let b = operand::<M, T, MEM>(c, m, op, op.r[2])?.to64() as u128;
    let wide = c.get::<T>(gpr::RDX as u8).to64() as u128 * b;
    c.set(op.r[1], T::from64(wide as u64));
    c.set(op.r[0], T::from64((wide >> T::BITS) as u64));
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape) -> Option<Handler<M>> {
    match i.mnemonic() {
        N::Add => binary::<M, Add>(s),
        N::Adc => binary::<M, Adc>(s),
        N::Sub => binary::<M, Sub>(s),
        N::Sbb => binary::<M, Sbb>(s),
        N::Cmp => binary::<M, Cmp>(s),
        N::Inc => unary::<M, Inc>(s),
        N::Dec => unary::<M, Dec>(s),
        N::Neg => unary::<M, Neg>(s),
        N::Mul if s.form == form::R => sized!(s.size, mul::<M, false, false>),
        N::Mul => sized!(s.size, mul::<M, true, false>),
        N::Imul => match s.form {
            form::R => sized!(s.size, mul::<M, false, true>),
            form::M => sized!(s.size, mul::<M, true, true>),
            form::RR => sized!(wide s.size, imul2::<M, false>),
            form::RM => sized!(wide s.size, imul2::<M, true>),
            form::RRI => sized!(wide s.size, imul3::<M, false>),
            form::RMI => sized!(wide s.size, imul3::<M, true>),
            _ => None,
        },
        N::Div if s.form == form::R => sized!(s.size, div::<M, false>),
        N::Div => sized!(s.size, div::<M, true>),
        N::Idiv if s.form == form::R => sized!(s.size, idiv::<M, false>),
        N::Idiv => sized!(s.size, idiv::<M, true>),
        N::Adcx if s.form == form::RR => sized!(big s.size, adx::<M, false, false>),
        N::Adcx => sized!(big s.size, adx::<M, true, false>),
        N::Adox if s.form == form::RR => sized!(big s.size, adx::<M, false, true>),
        N::Adox => sized!(big s.size, adx::<M, true, true>),
        N::Xadd if s.form == form::RR => sized!(s.size, xadd_r::<M>),
        N::Xadd if s.lock => sized!(s.size, xadd_m::<M, true>),
        N::Xadd => sized!(s.size, xadd_m::<M, false>),
        N::Cmpxchg if s.form == form::RR => sized!(s.size, cmpxchg_r::<M>),
        N::Cmpxchg if s.lock => sized!(s.size, cmpxchg_m::<M, true>),
        N::Cmpxchg => sized!(s.size, cmpxchg_m::<M, false>),
        N::Cmpxchg8b if s.lock => Some(cmpxchg8b::<M, true>),
        N::Cmpxchg8b => Some(cmpxchg8b::<M, false>),
        N::Cmpxchg16b => Some(cmpxchg16b::<M>),
        N::Mulx if s.form == form::RRR => sized!(big s.size, mulx::<M, false>),
        N::Mulx => sized!(big s.size, mulx::<M, true>),
        _ => None,
    }
}
