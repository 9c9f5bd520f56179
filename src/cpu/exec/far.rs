//! Segment registers, far transfers, system calls, descriptor tables.

use iced_x86::{Instruction, Mnemonic as N, OpKind};

use super::super::Cpu;
use super::super::decode::{Shape, form};
use super::super::exceptions::{Flow, Stop};
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::segments::Transfer;
use super::super::state::{Segment, TableRegister, cr0, cr4, efer, gpr, rflags as rf, seg};
use super::arith::operand;
use super::sized;

fn mov_from_seg_r<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let v = c.state.segs[op.r[1] as usize % 6].selector;
    match op.aux {
        2 => c.set(op.r[0], v),
        _ => c.set(op.r[0], v as u64),
    }
    Ok(())
}

fn mov_from_seg_m<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.state.segs[op.r[1] as usize % 6].selector;
    c.store_op(m, op, v)
}

fn mov_to_seg<M: Machine, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let n = op.r[0] as usize;
    if n == seg::CS {
        return c.ud();
    }
    let v = operand::<M, u16, MEM>(c, m, op, op.r[1])?;
    c.load_segment(m, n, v)?;
    c.state.interrupt_shadow |= n == seg::SS;
    c.stack_switch |= n == seg::SS;
    Ok(())
}

fn push_seg<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.state.segs[op.r[0] as usize % 6].selector;
    c.push(m, T::from64(v as u64))
}

fn pop_seg<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = c.peek::<T, M>(m, 0)?;
    let n = op.r[0] as usize;
    let sp_bits = c.state.gpr[gpr::RSP];
    c.load_segment(m, n, v.to64() as u16)?;
    c.state.gpr[gpr::RSP] = sp_bits;
    c.add_sp(T::SIZE);
    c.state.interrupt_shadow |= n == seg::SS;
    c.stack_switch |= n == seg::SS;
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS: segment in `op.aux`.
fn load_far_pointer<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let at = c.ea(op)?;
    let offset = c.load::<T, M>(m, at)?;
    let selector = c.load::<u16, M>(m, at.wrapping_add(T::SIZE))?;
    c.load_segment(m, op.aux as usize, selector)?;
    c.set(op.r[0], offset);
    Ok(())
}

fn jump_far(c: &mut Cpu, m: &mut impl Machine, selector: u16, target: u64) -> Flow {
    let cs = if c.protected() {
        c.code_segment(m, selector, Transfer::Jump)?
    } else {
        c.real_code_segment(selector)
    };
    c.enter_code(cs, target)
}

fn call_far<T: Int, M: Machine>(c: &mut Cpu, m: &mut M, selector: u16, target: u64) -> Flow {
    let cs = if c.protected() {
        c.code_segment(m, selector, Transfer::Jump)?
    } else {
        c.real_code_segment(selector)
    };
    let (back, old_cs, sp) = (c.state.rip, c.state.segs[seg::CS].selector, c.state.gpr[gpr::RSP]);
    let pushed = c.push(m, T::from64(old_cs as u64)).and_then(|()| c.push(m, T::from64(back)));
    let done = pushed.and_then(|()| c.enter_code(cs, target));
    if done.is_err() {
        c.state.gpr[gpr::RSP] = sp;
    }
    done
}

/// JMP and CALL to an immediate far pointer: selector in `op.aux`.
fn jmp_far_i<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    jump_far(c, m, op.aux, op.imm)
}

fn call_far_i<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    call_far::<T, M>(c, m, op.aux, op.imm)
}

/// The pointer in memory: an offset of `T` and a selector.
fn far_pointer<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Result<(u16, u64), Stop> {
    let at = c.ea(op)?;
    let offset = c.load::<T, M>(m, at)?.to64();
    Ok((c.load::<u16, M>(m, at.wrapping_add(T::SIZE))?, offset))
}

fn jmp_far_m<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let (selector, target) = far_pointer::<M, T>(c, m, op)?;
    jump_far(c, m, selector, target)
}

fn call_far_m<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let (selector, target) = far_pointer::<M, T>(c, m, op)?;
    call_far::<T, M>(c, m, selector, target)
}

/// RETF, with `op.imm` bytes of arguments to drop.
fn ret_far<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let target = c.peek::<T, M>(m, 0)?.to64();
    let selector = c.peek::<T, M>(m, T::SIZE)?.to64() as u16;
    if !c.protected() {
        let cs = c.real_code_segment(selector);
        c.enter_code(cs, target)?;
        c.add_sp(2 * T::SIZE + op.imm);
        return Ok(());
    }
    let old_cpl = c.cpl;
    let cs = c.code_segment(m, selector, Transfer::Return)?;
    let level = (cs.selector & 3) as u8;
    if level == old_cpl {
        c.enter_code(cs, target)?;
        c.add_sp(2 * T::SIZE + op.imm);
        return Ok(());
    }
    let sp = c.peek::<T, M>(m, 2 * T::SIZE + op.imm)?.to64();
    let ss = c.peek::<T, M>(m, 3 * T::SIZE + op.imm)?.to64() as u16;
    let ss = c.return_stack(m, ss, &cs, level)?;
    c.enter_code(cs, target)?;
    c.state.segs[seg::SS] = ss;
    c.set_return_sp(sp.wrapping_add(op.imm), T::SIZE);
    c.drop_inner_segments();
    Ok(())
}

fn iret<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    if c.state.cr0 & cr0::PE != 0 {
        return c.interrupt_return(m, T::SIZE);
    }
    let [ip, cs, flags] = [c.peek::<T, M>(m, 0)?, c.peek(m, T::SIZE)?, c.peek(m, 2 * T::SIZE)?];
    let cs = c.real_code_segment(cs.to64() as u16);
    c.enter_code(cs, ip.to64())?;
    c.add_sp(3 * T::SIZE);
    c.set_rflags_from::<T>(flags.to64());
    c.state.nmi_blocked = false;
    Ok(())
}

fn flat_code(selector: u16, level: u16, long: bool) -> Segment {
    let attr = 0x809b | level << 5 | if long { Segment::LONG } else { Segment::BIG };
    Segment { selector: selector & !3 | level, attr, limit: u32::MAX, base: 0 }
}

fn flat_data(selector: u16, level: u16) -> Segment {
    Segment { selector: selector & !3 | level, attr: 0xc093 | level << 5, limit: u32::MAX, base: 0 }
}

fn syscall<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if c.bits != 64 || c.state.efer & efer::SCE == 0 {
        return c.ud();
    }
    c.state.gpr[gpr::RCX] = c.state.rip;
    c.state.gpr[gpr::R11] = c.rflags() & !rf::RF;
    let keep = !(c.state.msrs.sfmask | rf::RF);
    let all = c.rflags() & keep | rf::FIXED;
    c.state.rflags = all;
    c.flags.set_bits(all);
    let selector = (c.state.msrs.star >> 32) as u16;
    c.state.segs[seg::CS] = flat_code(selector, 0, true);
    c.state.segs[seg::SS] = flat_data((selector & !3).wrapping_add(8), 0);
    c.state.rip = c.state.msrs.lstar;
    c.mode_changed();
    Ok(())
}

/// SYSRET: to 64-bit mode when `op.aux` is 8.
fn sysret<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    if c.bits != 64 || c.state.efer & efer::SCE == 0 {
        return c.ud();
    }
    c.need_cpl0()?;
    let wide = op.aux == 8;
    let target = c.state.gpr[gpr::RCX];
    if wide && !c.canonical(target) {
        return c.gp0();
    }
    let selector = (c.state.msrs.star >> 48) as u16;
    let all = c.state.gpr[gpr::R11] & 0x3c_7fd7 | rf::FIXED;
    c.state.rflags = all;
    c.flags.set_bits(all);
    c.state.segs[seg::CS] = flat_code(selector.wrapping_add(if wide { 16 } else { 0 }), 3, wide);
    c.state.segs[seg::SS] = flat_data(selector.wrapping_add(8), 3);
    c.state.rip = if wide { target } else { target & 0xffff_ffff };
    c.mode_changed();
    Ok(())
}

fn sysenter<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    let selector = c.state.msrs.sysenter_cs as u16;
    if !c.protected() || selector & !3 == 0 {
        return c.gp0();
    }
    c.state.rflags &= !(rf::VM | rf::IF);
    let long = c.state.long_mode();
    c.state.segs[seg::CS] = flat_code(selector, 0, long);
    c.state.segs[seg::SS] = flat_data((selector & !3).wrapping_add(8), 0);
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    c.state.gpr[gpr::RSP] = c.state.msrs.sysenter_esp & mask;
    c.state.rip = c.state.msrs.sysenter_eip & mask;
    c.mode_changed();
    Ok(())
}

fn sysexit<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let selector = c.state.msrs.sysenter_cs as u16;
    if !c.protected() || c.cpl != 0 || selector & !3 == 0 {
        return c.gp0();
    }
    let wide = op.aux == 8;
    let (target, sp) = (c.state.gpr[gpr::RDX], c.state.gpr[gpr::RCX]);
    if wide && !(c.canonical(target) && c.canonical(sp)) {
        return c.gp0();
    }
    let mask = if wide { u64::MAX } else { 0xffff_ffff };
    let step = if wide { 32 } else { 16 };
    c.state.segs[seg::CS] = flat_code(selector.wrapping_add(step), 3, wide);
    c.state.segs[seg::SS] = flat_data(selector.wrapping_add(step + 8), 3);
    c.state.gpr[gpr::RSP] = sp & mask;
    c.state.rip = target & mask;
    c.mode_changed();
    Ok(())
}

impl Cpu {
    fn umip(&mut self) -> Flow {
        if self.cpl != 0 && self.state.cr4 & cr4::UMIP != 0 { self.gp0() } else { Ok(()) }
    }
}

/// LGDT and LIDT (`op.aux` bit 0); bit 1: 16-bit operands take 24 bits of base.
fn load_table<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let at = c.ea(op)?;
    let limit = c.load::<u16, M>(m, at)?;
    let base = if c.bits == 64 {
        c.load::<u64, M>(m, at.wrapping_add(2))?
    } else {
        let mask = if op.aux & 2 != 0 { 0xff_ffff } else { 0xffff_ffff };
        (c.load::<u32, M>(m, at.wrapping_add(2))? & mask) as u64
    };
    if !c.canonical(base) {
        return c.gp0();
    }
    let table = TableRegister { base, limit };
    if op.aux & 1 == 0 {
        c.state.gdtr = table
    } else {
        c.state.idtr = table
    }
    Ok(())
}

fn store_table<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.umip()?;
    let t = if op.aux & 1 == 0 { c.state.gdtr } else { c.state.idtr };
    let at = c.ea(op)?;
    let mut b = [0; 10];
    b[..2].copy_from_slice(&t.limit.to_le_bytes());
    b[2..].copy_from_slice(&t.base.to_le_bytes());
    c.store_bytes(m, at, &b[..if c.bits == 64 { 10 } else { 6 }])
}

/// LLDT and LTR (`op.aux` 1).
fn load_system<M: Machine, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    if !c.protected() {
        return c.ud();
    }
    c.need_cpl0()?;
    let selector = operand::<M, u16, MEM>(c, m, op, op.r[0])?;
    c.load_system_segment(m, selector, op.aux == 1)
}

const SLDT: u16 = 0;
const STR: u16 = 1;

/// SLDT, STR, SMSW by `op.aux`; `T` is the size of a register destination.
fn store_system_r<M: Machine, T: Int>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    let v = store_value(c, op)?;
    c.set(op.r[0], T::from64(v));
    Ok(())
}

fn store_system_m<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = store_value(c, op)?;
    c.store_op(m, op, v as u16)
}

fn store_value<M>(c: &mut Cpu, op: &Op<M>) -> Result<u64, Stop> {
    c.umip()?;
    match op.aux {
        SLDT | STR if !c.protected() => c.ud(),
        SLDT => Ok(c.state.ldtr.selector as u64),
        STR => Ok(c.state.tr.selector as u64),
        _ => Ok(c.state.cr0),
    }
}

fn lmsw<M: Machine, const MEM: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let v = operand::<M, u16, MEM>(c, m, op, op.r[0])? as u64;
    // LMSW can set PE but not clear it.
    let low = cr0::MP | cr0::EM | cr0::TS;
    let new = c.state.cr0 & !low | v & (low | cr0::PE);
    c.set_cr0(new)
}

/// LAR and LSL (`LIMIT`): ZF tells whether the selector is visible.
fn describe<M: Machine, T: Int, const MEM: bool, const LIMIT: bool>(
    c: &mut Cpu,
    m: &mut M,
    op: &Op<M>,
) -> Flow {
    if !c.protected() {
        return c.ud();
    }
    let selector = operand::<M, u16, MEM>(c, m, op, op.r[1])?;
    let long = c.state.long_mode();
    let found = c.visible_descriptor(m, selector)?.filter(|s| {
        let system = s.attr & Segment::CODE_OR_DATA == 0;
        let gates = if long { &[2, 9, 11, 12][..] } else { &[1, 2, 3, 4, 5, 9, 11, 12][..] };
        let tables = if long { &[2, 9, 11][..] } else { &[1, 2, 3, 9, 11][..] };
        !system || if LIMIT { tables } else { gates }.contains(&s.kind())
    });
    if let Some(s) = found {
        let v = if LIMIT { s.limit as u64 } else { (s.attr as u64) << 8 };
        c.set(op.r[0], T::from64(v));
    }
    let zf = if found.is_some() { rf::ZF } else { 0 };
    c.flags.change(rf::ZF, zf);
    Ok(())
}

/// VERR and VERW (`WRITE`).
fn verify<M: Machine, const MEM: bool, const WRITE: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    if !c.protected() {
        return c.ud();
    }
    let selector = operand::<M, u16, MEM>(c, m, op, op.r[0])?;
    let good = c.visible_descriptor(m, selector)?.is_some_and(|s| {
        let memory = s.attr & Segment::CODE_OR_DATA != 0;
        let code = s.kind() & 8 != 0;
        let bit = s.kind() & 2 != 0;
        memory && if WRITE { !code && bit } else { !code || bit }
    });
    c.flags.change(rf::ZF, if good { rf::ZF } else { 0 });
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    let segment = |n: u32| i.op_kind(n) == OpKind::Register && i.op_register(n).is_segment_register();
    let memory = s.form == form::M || s.form == form::RM;
    // The size of a far pointer's offset, or of the return frame's words.
    let far_size = if memory { op.msize.saturating_sub(2) } else { 0 };
    match i.mnemonic() {
        N::Mov if segment(0) && memory => Some(mov_to_seg::<M, true>),
        N::Mov if segment(0) => Some(mov_to_seg::<M, false>),
        N::Mov if segment(1) && s.form == form::MR => Some(mov_from_seg_m),
        N::Mov if segment(1) => with(op, i.op0_register().size() as u16, mov_from_seg_r),
        N::Push if segment(0) => sized!(wide s.operand_size, push_seg::<M>),
        N::Pop if segment(0) => sized!(wide s.operand_size, pop_seg::<M>),
        N::Lds | N::Les | N::Lfs | N::Lgs | N::Lss => {
            op.aux = match i.mnemonic() {
                N::Lds => seg::DS,
                N::Les => seg::ES,
                N::Lfs => seg::FS,
                N::Lgs => seg::GS,
                _ => seg::SS,
            } as u16;
            sized!(wide s.size, load_far_pointer::<M>)
        }
        N::Jmp if i.is_jmp_far() => Some(jmp_far_i),
        N::Jmp if i.is_jmp_far_indirect() => sized!(wide far_size, jmp_far_m::<M>),
        N::Call if i.is_call_far() => sized!(wide far_call_size(i), call_far_i::<M>),
        N::Call if i.is_call_far_indirect() => sized!(wide far_size, call_far_m::<M>),
        N::Retf => sized!(wide return_size(i), ret_far::<M>),
        N::Iret => Some(iret::<M, u16>),
        N::Iretd => Some(iret::<M, u32>),
        N::Iretq => Some(iret::<M, u64>),
        N::Syscall => Some(syscall),
        N::Sysret => with(op, 4, sysret),
        N::Sysretq => with(op, 8, sysret),
        N::Sysenter => Some(sysenter),
        N::Sysexit => with(op, 4, sysexit),
        N::Sysexitq => with(op, 8, sysexit),
        N::Lgdt => with(op, table_bits(i), load_table),
        N::Lidt => with(op, 1 | table_bits(i), load_table),
        N::Sgdt => with(op, 0, store_table),
        N::Sidt => with(op, 1, store_table),
        N::Lldt if memory => with(op, 0, load_system::<M, true>),
        N::Lldt => with(op, 0, load_system::<M, false>),
        N::Ltr if memory => with(op, 1, load_system::<M, true>),
        N::Ltr => with(op, 1, load_system::<M, false>),
        N::Sldt | N::Str | N::Smsw => {
            op.aux = match i.mnemonic() {
                N::Sldt => SLDT,
                N::Str => STR,
                _ => 2,
            };
            if memory { Some(store_system_m) } else { sized!(wide s.size, store_system_r::<M>) }
        }
        N::Lmsw if memory => Some(lmsw::<M, true>),
        N::Lmsw => Some(lmsw::<M, false>),
        N::Lar if memory => sized!(wide s.size, describe::<M, true, false>),
        N::Lar => sized!(wide s.size, describe::<M, false, false>),
        N::Lsl if memory => sized!(wide s.size, describe::<M, true, true>),
        N::Lsl => sized!(wide s.size, describe::<M, false, true>),
        N::Verr if memory => Some(verify::<M, true, false>),
        N::Verr => Some(verify::<M, false, false>),
        N::Verw if memory => Some(verify::<M, true, true>),
        N::Verw => Some(verify::<M, false, true>),
        _ => None,
    }
}

fn with<M: Machine>(op: &mut Op<M>, aux: u16, f: Handler<M>) -> Option<Handler<M>> {
    op.aux = aux;
    Some(f)
}

fn table_bits(i: &Instruction) -> u16 {
    use iced_x86::Code as C;
    if matches!(i.code(), C::Lgdt_m1632_16 | C::Lidt_m1632_16) { 2 } else { 0 }
}

fn far_call_size(i: &Instruction) -> u8 {
    if i.op_kind(0) == OpKind::FarBranch16 { 2 } else { 4 }
}

fn return_size(i: &Instruction) -> u8 {
    use iced_x86::Code as C;
    match i.code() {
        C::Retfw | C::Retfw_imm16 => 2,
        C::Retfd | C::Retfd_imm16 => 4,
        _ => 8,
    }
}
