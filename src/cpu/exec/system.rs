//! System instructions: flags and interrupts, MSRs, control and debug registers, CPUID, time, ports, cache and TLB
//! control.

use iced_x86::{Instruction, Mnemonic as N, Register};

use super::super::Cpu;
use super::super::breakpoints::{DR6_BD, DR7_GD};
use super::super::decode::Shape;
use super::super::exceptions::{Flow, Stop};
use super::super::machine::Machine;
use super::super::op::{Handler, Int, Op};
use super::super::state::{cr0, cr4, efer, gpr, rflags as rf, seg};
use super::super::xsave::{self, COMPACTED};
use super::data::nop;
use super::sized;

/// STAC and CLAC: `op.imm` is the new AC.
fn set_ac<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    if c.cpl != 0 {
        return c.ud();
    }
    c.state.rflags = c.state.rflags & !rf::AC | op.imm;
    c.rights_changed();
    Ok(())
}

fn cli<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if c.protected_cpl() > c.iopl() {
        return c.gp0();
    }
    c.state.rflags &= !rf::IF;
    Ok(())
}

fn sti<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if c.protected_cpl() > c.iopl() {
        return c.gp0();
    }
    if c.state.rflags & rf::IF == 0 {
        c.state.interrupt_shadow = true;
    }
    c.state.rflags |= rf::IF;
    Ok(())
}

fn hlt<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_cpl0()?;
    c.state.halted = true;
    Err(Stop::Halt)
}

fn pause<M: Machine>(_: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    Err(Stop::Pause)
}

/// MONITOR arms nothing here; MWAIT returns at once, as it may.
fn monitor<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if c.cpl != 0 {
        return c.ud();
    }
    if c.state.gpr[gpr::RCX] as u32 != 0 { c.gp0() } else { Ok(()) }
}

fn mwait<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if c.cpl != 0 {
        return c.ud();
    }
    if c.state.gpr[gpr::RCX] as u32 > 1 { c.gp0() } else { Err(Stop::Pause) }
}

impl Cpu {
    fn protected_cpl(&self) -> u8 {
        if self.state.cr0 & cr0::PE == 0 { 0 } else { self.cpl }
    }

    /// EDX:EAX, and clears the upper halves as every instruction that writes this pair does.
    fn set_edx_eax(&mut self, v: u64) {
        self.set(gpr::RAX as u8, v as u32);
        self.set(gpr::RDX as u8, (v >> 32) as u32);
    }

    fn edx_eax(&self) -> u64 {
        self.state.gpr[gpr::RAX] & 0xffff_ffff | self.state.gpr[gpr::RDX] << 32
    }

    fn time<M: Machine>(&mut self, m: &mut M) -> Result<u64, Stop> {
        if self.cpl != 0 && self.state.cr4 & cr4::TSD != 0 {
            return self.gp0();
        }
        Ok(m.tsc().wrapping_add(self.state.msrs.tsc_adjust))
    }

    /// May the program use this port? (SDM vol. 1, 19.5.2)
    pub(crate) fn check_port<M: Machine>(&mut self, m: &mut M, port: u16, size: u8) -> Flow {
        let v8086 = self.state.rflags & rf::VM != 0;
        if self.state.cr0 & cr0::PE == 0 || (self.cpl <= self.iopl() && !v8086) {
            return Ok(());
        }
        let tr = self.state.tr;
        if !tr.present() || tr.kind() & 0xd != 9 || tr.limit < 0x67 {
            return self.gp0();
        }
        let map = self.load_system::<u16, M>(m, tr.base.wrapping_add(0x66))? as u64;
        let at = map + port as u64 / 8;
        if at + 1 > tr.limit as u64 {
            return self.gp0();
        }
        let bits = self.load_system::<u16, M>(m, tr.base.wrapping_add(at))? >> (port & 7);
        if bits & ((1 << size) - 1) != 0 { self.gp0() } else { Ok(()) }
    }
}

fn rdtsc<M: Machine>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    let t = c.time(m)?;
    c.set_edx_eax(t);
    Ok(())
}

fn rdtscp<M: Machine>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    let t = c.time(m)?;
    c.set_edx_eax(t);
    c.state.gpr[gpr::RCX] = c.state.msrs.tsc_aux & 0xffff_ffff;
    Ok(())
}

/// RDRAND and RDSEED: CF says whether there was a number, the other flags are cleared.
fn rdrand<M: Machine, T: Int>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let v = m.random();
    c.set(op.r[0], T::from64(v.unwrap_or(0)));
    c.flags.set_bits(if v.is_some() { rf::CF } else { 0 });
    Ok(())
}

fn rdpid<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.state.gpr[op.r[0] as usize & 15] = c.state.msrs.tsc_aux & 0xffff_ffff;
    Ok(())
}

fn cpuid<M: Machine>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    let (leaf, subleaf) = (c.get::<u32>(gpr::RAX as u8), c.get::<u32>(gpr::RCX as u8));
    let mut r = m.cpuid(leaf, subleaf);
    c.complete_cpuid(leaf, subleaf, &mut r);
    for (to, v) in [gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX].into_iter().zip(r) {
        c.state.gpr[to] = v as u64;
    }
    Ok(())
}

impl Cpu {
    /// The CPUID bits that follow the processor's state.
    fn complete_cpuid(&self, leaf: u32, subleaf: u32, r: &mut [u32; 4]) {
        const OSXSAVE: u32 = 1 << 27;
        const OSPKE: u32 = 1 << 4;
        match (leaf, subleaf) {
            (1, _) => {
                let on = self.state.cr4 & cr4::OSXSAVE != 0;
                r[2] = r[2] & !OSXSAVE | if on { OSXSAVE } else { 0 };
            }
            (7, 0) => {
                let on = self.state.cr4 & cr4::PKE != 0;
                r[2] = r[2] & !OSPKE | if on { OSPKE } else { 0 };
            }
            (0xd, 0) => r[1] = self.xsave_layout.size(self.state.xcr0, 0) as u32,
            (0xd, 1) => {
                r[1] = self.xsave_layout.size(self.state.xcr0 | self.state.msrs.xss, COMPACTED) as u32;
            }
            _ => {}
        }
    }
}

/// Architectural MSR numbers (SDM vol. 4, table 2-2).
mod msr {
    pub const TSC: u32 = 0x10;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const PAT: u32 = 0x277;
    pub const XSS: u32 = 0xda0;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
}

fn rdmsr<M: Machine>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let number = c.get::<u32>(gpr::RCX as u8);
    let v = match c.own_msr(number) {
        Some(at) => *at,
        None => match number {
            msr::TSC => m.tsc().wrapping_add(c.state.msrs.tsc_adjust),
            _ => match m.rdmsr(number) {
                Ok(v) => v,
                Err(_) => return c.gp0(),
            },
        },
    };
    c.set_edx_eax(v);
    Ok(())
}

fn wrmsr<M: Machine>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let number = c.get::<u32>(gpr::RCX as u8);
    let v = c.edx_eax();
    if !c.msr_accepts(number, v) {
        return c.gp0();
    }
    match number {
        msr::EFER => c.set_efer(v),
        msr::TSC => c.state.msrs.tsc_adjust = v.wrapping_sub(m.tsc()),
        _ => match c.own_msr(number) {
            Some(at) => *at = v,
            None if m.wrmsr(number, v).is_err() => return c.gp0(),
            None => {}
        },
    }
    Ok(())
}

impl Cpu {
    /// Where an MSR that belongs to the processor is kept.
    fn own_msr(&mut self, number: u32) -> Option<&mut u64> {
        let r = &mut self.state.msrs;
        Some(match number {
            msr::TSC_ADJUST => &mut r.tsc_adjust,
            msr::SYSENTER_CS => &mut r.sysenter_cs,
            msr::SYSENTER_ESP => &mut r.sysenter_esp,
            msr::SYSENTER_EIP => &mut r.sysenter_eip,
            msr::MISC_ENABLE => &mut r.misc_enable,
            msr::DEBUGCTL => &mut r.debugctl,
            msr::PAT => &mut r.pat,
            msr::XSS => &mut r.xss,
            msr::EFER => &mut self.state.efer,
            msr::STAR => &mut r.star,
            msr::LSTAR => &mut r.lstar,
            msr::CSTAR => &mut r.cstar,
            msr::SFMASK => &mut r.sfmask,
            msr::FS_BASE => &mut self.state.segs[seg::FS].base,
            msr::GS_BASE => &mut self.state.segs[seg::GS].base,
            msr::KERNEL_GS_BASE => &mut r.kernel_gs_base,
            msr::TSC_AUX => &mut r.tsc_aux,
            _ => return None,
        })
    }

    fn msr_accepts(&self, number: u32, v: u64) -> bool {
        match number {
            msr::LSTAR
            | msr::CSTAR
            | msr::FS_BASE
            | msr::GS_BASE
            | msr::KERNEL_GS_BASE
            | msr::SYSENTER_ESP
            | msr::SYSENTER_EIP => self.canonical(v),
            msr::TSC_AUX | msr::SFMASK => v >> 32 == 0,
            msr::XSS => v == 0,
            msr::PAT => v.to_le_bytes().iter().all(|t| matches!(t, 0 | 1 | 4 | 5 | 6 | 7)),
            msr::EFER => {
                let known = efer::SCE | efer::LME | efer::LMA | efer::NXE;
                let lme_changes = (v ^ self.state.efer) & efer::LME != 0;
                v & !known == 0 && !(lme_changes && self.state.cr0 & cr0::PG != 0)
            }
            _ => true,
        }
    }

    fn set_efer(&mut self, v: u64) {
        // LMA is the processor's: it follows LME and paging.
        self.state.efer = v & !efer::LMA | self.state.efer & efer::LMA;
        self.flush_tlb();
        self.mode_changed();
    }
}

fn xgetbv<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if c.state.cr4 & cr4::OSXSAVE == 0 {
        return c.ud();
    }
    match c.get::<u32>(gpr::RCX as u8) {
        0 => c.set_edx_eax(c.state.xcr0),
        1 => c.set_edx_eax(c.state.xcr0 & c.state.vec.in_use()),
        _ => return c.gp0(),
    }
    Ok(())
}

fn xsetbv<M: Machine>(c: &mut Cpu, m: &mut M, _: &Op<M>) -> Flow {
    use xsave::component as x;
    if c.state.cr4 & cr4::OSXSAVE == 0 {
        return c.ud();
    }
    c.need_cpl0()?;
    let v = c.edx_eax();
    let possible = m.cpuid(0xd, 0);
    let possible = possible[0] as u64 | (possible[3] as u64) << 32;
    let avx512 = x::OPMASK | x::ZMM_HI256 | x::HI16_ZMM;
    let bad = v & x::X87 == 0
        || v & !possible != 0
        || (v & x::AVX != 0 && v & x::SSE == 0)
        || (v & avx512 != 0 && v & (avx512 | x::AVX) != avx512 | x::AVX);
    if bad || c.get::<u32>(gpr::RCX as u8) != 0 {
        return c.gp0();
    }
    c.state.xcr0 = v;
    Ok(())
}

fn swapgs<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_cpl0()?;
    std::mem::swap(&mut c.state.segs[seg::GS].base, &mut c.state.msrs.kernel_gs_base);
    Ok(())
}

/// RDFSBASE, RDGSBASE: segment in `op.aux`.
fn read_base<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    if c.state.cr4 & cr4::FSGSBASE == 0 {
        return c.ud();
    }
    let v = c.state.segs[op.aux as usize % 6].base;
    c.state.gpr[op.r[0] as usize & 15] = if op.imm == 4 { v & 0xffff_ffff } else { v };
    Ok(())
}

fn write_base<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    if c.state.cr4 & cr4::FSGSBASE == 0 {
        return c.ud();
    }
    let v = c.state.gpr[op.r[0] as usize & 15];
    let v = if op.imm == 4 { v & 0xffff_ffff } else { v };
    if !c.canonical(v) {
        return c.gp0();
    }
    c.state.segs[op.aux as usize % 6].base = v;
    Ok(())
}

fn invlpg<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let a = c.ea(op)?;
    c.flush_page(a);
    Ok(())
}

fn invpcid<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let kind = c.get::<u64>(op.r[0]);
    let mut d = [0; 16];
    let at = c.ea(op)?;
    c.load_bytes(m, at, &mut d)?;
    let d = u128::from_le_bytes(d);
    let (pcid, address) = (d as u64, (d >> 64) as u64);
    if kind > 3 || pcid >> 12 != 0 || (kind == 0 && !c.canonical(address)) {
        return c.gp0();
    }
    if kind < 2 && c.state.cr4 & cr4::PCIDE == 0 && pcid != 0 {
        return c.gp0();
    }
    c.flush_tlb();
    Ok(())
}

/// Instructions that only CPL 0 may use and that do nothing here: WBINVD, INVD.
fn privileged_nop<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_cpl0()
}

/// CLFLUSH, CLWB, CLFLUSHOPT: nothing to flush, but the address must be readable.
fn touch<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.load_op::<u8, M>(m, op).map(|_| ())
}

fn clts<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_cpl0()?;
    c.state.cr0 &= !cr0::TS;
    Ok(())
}

fn mov_from_cr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let v = match op.r[1] {
        0 => c.state.cr0,
        2 => c.state.cr2,
        3 => c.state.cr3,
        4 => c.state.cr4,
        8 => m.cr8(),
        _ => return c.ud(),
    };
    c.state.gpr[op.r[0] as usize & 15] = v;
    Ok(())
}

fn mov_to_cr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_cpl0()?;
    let mut v = c.state.gpr[op.r[1] as usize & 15];
    if c.bits != 64 {
        v &= 0xffff_ffff;
    }
    match op.r[0] {
        0 => c.set_cr0(v),
        2 => {
            c.state.cr2 = v;
            Ok(())
        }
        3 => c.set_cr3(v),
        4 => c.set_cr4(v),
        8 if v >> 4 != 0 => c.gp0(),
        8 => {
            c.state.cr8 = v;
            m.set_cr8(v);
            Ok(())
        }
        _ => c.ud(),
    }
}

impl Cpu {
    /// MOV to CR0, with its checks (SDM vol. 2, "MOV—Move to/from Control Registers").
    pub(crate) fn set_cr0(&mut self, v: u64) -> Flow {
        let known = cr0::PE
            | cr0::MP
            | cr0::EM
            | cr0::TS
            | cr0::ET
            | cr0::NE
            | cr0::WP
            | cr0::AM
            | cr0::NW
            | cr0::CD
            | cr0::PG;
        let bad = v >> 32 != 0
            || (v & cr0::PG != 0 && v & cr0::PE == 0)
            || (v & cr0::NW != 0 && v & cr0::CD == 0)
            || (v & cr0::PG == 0 && self.state.cr4 & cr4::PCIDE != 0);
        if bad {
            return self.gp0();
        }
        let old = self.state.cr0;
        let v = v & known | cr0::ET;
        let paging = (old ^ v) & cr0::PG != 0;
        if paging && v & cr0::PG != 0 && self.state.efer & efer::LME != 0 {
            let cs = self.state.segs[seg::CS];
            if self.state.cr4 & cr4::PAE == 0 || cs.long() {
                return self.gp0();
            }
            self.state.efer |= efer::LMA;
        } else if paging && v & cr0::PG == 0 {
            if self.bits == 64 {
                return self.gp0();
            }
            self.state.efer &= !efer::LMA;
        }
        self.state.cr0 = v;
        if (old ^ v) & (cr0::PG | cr0::WP | cr0::PE) != 0 {
            self.flush_tlb();
        }
        self.mode_changed();
        Ok(())
    }

    fn set_cr3(&mut self, v: u64) -> Flow {
        let keep = v >> 63 != 0 && self.state.cr4 & cr4::PCIDE != 0;
        let v = if keep { v & !(1 << 63) } else { v };
        if self.state.long_mode() && v >> self.phys_bits.min(52) != 0 {
            return self.gp0();
        }
        self.state.cr3 = v;
        // Without PCID tags in the TLB, "keep" can only be honoured by flushing all the same.
        self.flush_tlb_local();
        Ok(())
    }

    fn set_cr4(&mut self, v: u64) -> Flow {
        let known = cr4::VME
            | cr4::PVI
            | cr4::TSD
            | cr4::DE
            | cr4::PSE
            | cr4::PAE
            | cr4::MCE
            | cr4::PGE
            | cr4::PCE
            | cr4::OSFXSR
            | cr4::OSXMMEXCPT
            | cr4::UMIP
            | cr4::LA57
            | cr4::FSGSBASE
            | cr4::PCIDE
            | cr4::OSXSAVE
            | cr4::SMEP
            | cr4::SMAP
            | cr4::PKE;
        let old = self.state.cr4;
        let long = self.state.long_mode();
        let bad = v & !known != 0
            || (long && v & cr4::PAE == 0)
            || (long && (v ^ old) & cr4::LA57 != 0)
            || (v & !old & cr4::PCIDE != 0 && (!long || self.state.cr3 & 0xfff != 0));
        if bad {
            return self.gp0();
        }
        self.state.cr4 = v;
        if Cpu::cr4_needs_flush(old, v) {
            self.flush_tlb();
        }
        Ok(())
    }

    fn debug_register_ok(&mut self, n: u8) -> Flow {
        self.need_cpl0()?;
        if self.state.cr4 & cr4::DE != 0 && matches!(n, 4 | 5) {
            return self.ud();
        }
        if self.state.dr[7] & DR7_GD != 0 {
            // General detect: the access itself is trapped before it happens.
            let e = self.debug_exception(DR6_BD);
            return self.raise(e);
        }
        Ok(())
    }
}

/// DR4 and DR5 are DR6 and DR7 unless CR4.DE says otherwise.
fn debug_alias(n: u8) -> usize {
    match n {
        4 => 6,
        5 => 7,
        n => n as usize & 7,
    }
}

fn mov_from_dr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.debug_register_ok(op.r[1])?;
    c.state.gpr[op.r[0] as usize & 15] = c.state.dr[debug_alias(op.r[1])];
    Ok(())
}

fn mov_to_dr<M: Machine>(c: &mut Cpu, _: &mut M, op: &Op<M>) -> Flow {
    c.debug_register_ok(op.r[0])?;
    let v = c.state.gpr[op.r[1] as usize & 15];
    let n = debug_alias(op.r[0]);
    if n >= 6 && v >> 32 != 0 {
        return c.gp0();
    }
    c.state.dr[n] = match n {
        6 => v & 0x1_e00f | 0xfffe_0ff0 & !0x1_0000 | 0x1_0000,
        7 => v & !0xd000 | 0x400,
        _ => v,
    };
    Ok(())
}

/// IN: port number in `op.imm`, or in DX when `op.aux` is 1.
fn port_in<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let port = if op.aux == 1 { c.get(gpr::RDX as u8) } else { op.imm as u16 };
    c.check_port(m, port, op.msize)?;
    m.at(c.here(op));
    c.own.note_port(port, op.msize);
    let v = m.port_in(port, op.msize);
    match op.msize {
        1 => c.set(0, v as u8),
        2 => c.set(0, v as u16),
        _ => c.set(0, v),
    }
    Ok(())
}

fn port_out<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    let port = if op.aux == 1 { c.get(gpr::RDX as u8) } else { op.imm as u16 };
    c.check_port(m, port, op.msize)?;
    let v = c.get::<u32>(0);
    let mask = u32::MAX >> (32 - 8 * op.msize as u32);
    m.at(c.here(op));
    c.own.note_port(port, op.msize);
    m.port_out(port, op.msize, v & mask);
    Ok(())
}

fn port_shape<M>(i: &Instruction, op: &mut Op<M>) {
    let (data, port) = if i.mnemonic() == N::In { (i.op0_register(), 1) } else { (i.op1_register(), 0) };
    op.msize = data.size() as u8;
    op.aux = (i.op_register(port) == Register::DX) as u16;
    op.imm &= 0xff;
}

fn special_mov<M: Machine>(i: &Instruction) -> Option<Handler<M>> {
    let (to, from) = (i.op0_register(), i.op1_register());
    if to.is_cr() {
        Some(mov_to_cr)
    } else if from.is_cr() {
        Some(mov_from_cr)
    } else if to.is_dr() {
        Some(mov_to_dr)
    } else if from.is_dr() {
        Some(mov_from_dr)
    } else {
        None
    }
}

pub(super) fn lower<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    match i.mnemonic() {
        N::Mov => special_mov(i),
        // RDSSP is a NOP while CET is off, which it always is.
        N::Nop | N::Endbr32 | N::Endbr64 | N::Reservednop | N::Rdsspd | N::Rdsspq => Some(nop),
        N::Lfence | N::Mfence | N::Sfence | N::Serialize => Some(nop),
        N::Prefetchnta
        | N::Prefetcht0
        | N::Prefetcht1
        | N::Prefetcht2
        | N::Prefetchw
        | N::Prefetchwt1
        | N::Prefetchit0
        | N::Prefetchit1
        | N::Prefetch
        | N::Cldemote => Some(nop),
        N::Clac | N::Stac => {
            op.imm = if i.mnemonic() == N::Stac { rf::AC } else { 0 };
            Some(set_ac)
        }
        N::Cli => Some(cli),
        N::Sti => Some(sti),
        N::Hlt => Some(hlt),
        N::Pause => Some(pause),
        N::Monitor => Some(monitor),
        N::Mwait => Some(mwait),
        N::Rdtsc => Some(rdtsc),
        N::Rdtscp => Some(rdtscp),
        N::Rdrand | N::Rdseed => sized!(wide s.size, rdrand::<M>),
        N::Rdpid => Some(rdpid),
        N::Cpuid => Some(cpuid),
        N::Rdmsr => Some(rdmsr),
        N::Wrmsr => Some(wrmsr),
        N::Xgetbv => Some(xgetbv),
        N::Xsetbv => Some(xsetbv),
        N::Swapgs => Some(swapgs),
        N::Rdfsbase | N::Wrfsbase | N::Rdgsbase | N::Wrgsbase => Some(base_access(i, s, op)),
        N::Invlpg => Some(invlpg),
        N::Invpcid => Some(invpcid),
        N::Wbinvd | N::Invd | N::Wbnoinvd => Some(privileged_nop),
        N::Clflush | N::Clflushopt | N::Clwb => Some(touch),
        N::Clts => Some(clts),
        N::In | N::Out => {
            port_shape(i, op);
            Some(if i.mnemonic() == N::In { port_in } else { port_out })
        }
        _ => None,
    }
}

fn base_access<M: Machine>(i: &Instruction, s: &Shape, op: &mut Op<M>) -> Handler<M> {
    op.imm = s.size as u64;
    let gs = matches!(i.mnemonic(), N::Rdgsbase | N::Wrgsbase);
    op.aux = if gs { seg::GS } else { seg::FS } as u16;
    let read = matches!(i.mnemonic(), N::Rdfsbase | N::Rdgsbase);
    if read { read_base } else { write_base }
}
