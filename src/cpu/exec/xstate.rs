//! Saving and restoring vector state: FXSAVE, FXRSTOR, the XSAVE family, LDMXCSR, STMXCSR, and the x87 control
//! instructions (SDM vol. 1, 10.5 and chapter 13).

use iced_x86::{Instruction, Mnemonic as N};

use super::super::Cpu;
use super::super::decode::Shape;
use super::super::exceptions::{Exception, Flow, vector};
use super::super::machine::Machine;
use super::super::op::{Handler, Op};
use super::super::state::{cr0, cr4, gpr};
use super::super::xsave::{COMPACTED, MAX_IMAGE, MXCSR_MASK, component as x};

impl Cpu {
    /// Device-not-available and missing OS support, for SSE instructions.
    pub(crate) fn need_sse(&mut self) -> Flow {
        if self.state.cr0 & cr0::EM != 0 || self.state.cr4 & cr4::OSFXSR == 0 {
            return self.ud();
        }
        self.need_not_ts()
    }

    pub(crate) fn need_not_ts(&mut self) -> Flow {
        if self.state.cr0 & cr0::TS != 0 {
            return self.raise(Exception::plain(vector::NM));
        }
        Ok(())
    }

    fn need_xsave(&mut self) -> Flow {
        if self.state.cr4 & cr4::OSXSAVE == 0 {
            return self.ud();
        }
        self.need_not_ts()
    }

    fn aligned<M>(&mut self, op: &Op<M>, to: u64) -> Result<u64, super::super::exceptions::Stop> {
        let at = self.ea(op)?;
        if at & (to - 1) != 0 { self.gp0() } else { Ok(at) }
    }

    fn xmm_count(&self) -> usize {
        if self.bits == 64 { 16 } else { 8 }
    }

    /// Stores pieces of an image, all or nothing: every page is checked first.
    fn store_image<M: Machine>(
        &mut self,
        m: &mut M,
        at: u64,
        image: &[u8],
        pieces: &[(usize, usize)],
    ) -> Flow {
        for &(from, to) in pieces {
            self.probe_write(m, at.wrapping_add(from as u64), to - from)?;
        }
        for &(from, to) in pieces {
            for (n, part) in image[from..to].chunks(64).enumerate() {
                self.store_bytes(m, at.wrapping_add((from + 64 * n) as u64), part)?;
            }
        }
        Ok(())
    }

    fn load_image<M: Machine>(&mut self, m: &mut M, at: u64, image: &mut [u8]) -> Flow {
        for (n, part) in image.chunks_mut(64).enumerate() {
            self.load_bytes(m, at.wrapping_add(64 * n as u64), part)?;
        }
        Ok(())
    }
}

/// FXSAVE; FXSAVE64 when `op.aux` is set.
fn fxsave<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu()?;
    let at = c.aligned(op, 16)?;
    let mut image = [0; 512];
    c.state.vec.put_x87(&mut image, op.aux != 0);
    c.state.vec.put_mxcsr(&mut image);
    c.state.vec.put_xmm(&mut image, c.xmm_count());
    let end = 160 + 16 * c.xmm_count();
    c.store_image(m, at, &image, &[(0, end)])
}

fn fxrstor<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu()?;
    let at = c.aligned(op, 16)?;
    let mut image = [0; 512];
    c.load_image(m, at, &mut image)?;
    let mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    if mxcsr & !MXCSR_MASK != 0 {
        return c.gp0();
    }
    let count = c.xmm_count();
    c.state.vec.take_x87(&image, op.aux != 0);
    c.state.vec.mxcsr = mxcsr;
    c.state.vec.take_xmm(&image, count);
    Ok(())
}

/// The variants of XSAVE.
mod save {
    pub const PLAIN: u8 = 0;
    pub const OPTIMIZED: u8 = 1;
    pub const COMPACT: u8 = 2;
    pub const SUPERVISOR: u8 = 3;
}

/// XSAVE, XSAVEOPT, XSAVEC, XSAVES.
fn xsave<M: Machine, const KIND: u8>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_xsave()?;
    if KIND == save::SUPERVISOR {
        c.need_cpl0()?;
    }
    let at = c.aligned(op, 64)?;
    let compact = KIND >= save::COMPACT;
    let asked = (c.state.gpr[gpr::RAX] & 0xffff_ffff | c.state.gpr[gpr::RDX] << 32) & c.state.xcr0;
    let in_use = c.in_use();
    // The plain form writes every component asked for, the others only those in use.
    let written = if KIND == save::PLAIN { asked } else { asked & in_use };
    let xcomp = if compact { COMPACTED | asked } else { 0 };
    let mut image = [0; MAX_IMAGE];
    let pieces = c.build_image(&mut image, asked, written, xcomp, op.aux != 0);
    let old_bv = if compact {
        0
    } else {
        let bv = at.wrapping_add(512);
        c.load::<u64, M>(m, bv)?
    };
    let bv = old_bv & !asked | asked & in_use;
    image[512..520].copy_from_slice(&bv.to_le_bytes());
    image[520..528].copy_from_slice(&xcomp.to_le_bytes());
    // XSTATE_BV, and XCOMP_BV in the compacted form; the rest of the header is left alone (SDM vol. 1, 13.10, 13.11).
    let header = (512, if compact { 528 } else { 520 });
    let mut all = [(0, 0); 12];
    let mut n = 0;
    for piece in pieces.into_iter().chain([header]).filter(|p| p.1 > p.0) {
        all[n] = piece;
        n += 1;
    }
    c.store_image(m, at, &image, &all[..n])
}

impl Cpu {
    /// XINUSE, as the processor tracks it. SSE counts as in use when MXCSR is not initial, for XSAVEC and XSAVES too.
    fn in_use(&self) -> u64 {
        let mxcsr = self.state.vec.mxcsr != super::super::xsave::MXCSR_INIT;
        self.state.vec.in_use() | if mxcsr { x::SSE } else { 0 }
    }

    /// Fills in the components to write; gives the ranges that they take.
    fn build_image(
        &self,
        image: &mut [u8; MAX_IMAGE],
        asked: u64,
        written: u64,
        xcomp: u64,
        wide: bool,
    ) -> [(usize, usize); 10] {
        let mut pieces = [(0, 0); 10];
        if let Some(legacy) = image.first_chunk_mut::<512>() {
            if written & x::X87 != 0 {
                self.state.vec.put_x87(legacy, wide);
                (pieces[0], pieces[1]) = ((0, 24), (32, 160));
            }
            let mxcsr = if xcomp != 0 { written & x::SSE } else { asked & (x::SSE | x::AVX) };
            if mxcsr != 0 {
                self.state.vec.put_mxcsr(legacy);
                pieces[2] = (24, 32);
            }
            if written & x::SSE != 0 {
                self.state.vec.put_xmm(legacy, self.xmm_count());
                pieces[3] = (160, 160 + 16 * self.xmm_count());
            }
        }
        for (n, (bit, range)) in self.xsave_layout.ranges(xcomp).into_iter().enumerate() {
            if written & bit != 0 {
                self.state.vec.put_component(bit, &mut image[range.clone()]);
                pieces[4 + n] = (range.start, range.end);
            }
        }
        pieces
    }
}

/// XRSTOR, and XRSTORS when `SUPERVISOR`.
fn xrstor<M: Machine, const SUPERVISOR: bool>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_xsave()?;
    if SUPERVISOR {
        c.need_cpl0()?;
    }
    let at = c.aligned(op, 64)?;
    let asked = (c.state.gpr[gpr::RAX] & 0xffff_ffff | c.state.gpr[gpr::RDX] << 32) & c.state.xcr0;
    let mut image = [0; MAX_IMAGE];
    c.load_image(m, at.wrapping_add(512), &mut image[512..576])?;
    let quad =
        |image: &[u8; MAX_IMAGE], at: usize| u64::from_le_bytes(std::array::from_fn(|n| image[at + n]));
    let (bv, xcomp) = (quad(&image, 512), quad(&image, 520));
    let compact = xcomp & COMPACTED != 0;
    let bad = if compact {
        xcomp & !COMPACTED & !c.state.xcr0 != 0
            || bv & !(xcomp & !COMPACTED) != 0
            || image[528..576].iter().any(|&b| b != 0)
    } else {
        SUPERVISOR || bv & !c.state.xcr0 != 0 || image[520..536].iter().any(|&b| b != 0)
    };
    if bad {
        return c.gp0();
    }
    let present = asked & bv;
    let takes_mxcsr = if compact { present & x::SSE != 0 } else { asked & (x::SSE | x::AVX) != 0 };
    if present & (x::X87 | x::SSE) != 0 || takes_mxcsr {
        c.load_image(m, at, &mut image[..512])?;
    }
    let ranges = c.xsave_layout.ranges(xcomp);
    for (bit, range) in ranges.clone() {
        if present & bit != 0 {
            c.load_image(m, at.wrapping_add(range.start as u64), &mut image[range])?;
        }
    }
    let mxcsr = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    if takes_mxcsr && mxcsr & !MXCSR_MASK != 0 {
        return c.gp0();
    }
    let count = c.xmm_count();
    let v = &mut c.state.vec;
    v.init(asked & !bv);
    if takes_mxcsr {
        v.mxcsr = mxcsr;
    } else if compact && asked & x::SSE != 0 {
        v.mxcsr = super::super::xsave::MXCSR_INIT;
    }
    if let Some(legacy) = image.first_chunk::<512>() {
        if present & x::X87 != 0 {
            v.take_x87(legacy, op.aux != 0);
        }
        if present & x::SSE != 0 {
            v.take_xmm(legacy, count);
        }
    }
    for (bit, range) in ranges {
        if present & bit != 0 {
            v.take_component(bit, &image[range]);
        }
    }
    Ok(())
}

fn ldmxcsr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_sse()?;
    let v = c.load_op::<u32, M>(m, op)?;
    if v & !MXCSR_MASK != 0 {
        return c.gp0();
    }
    c.state.vec.mxcsr = v;
    Ok(())
}

fn stmxcsr<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_sse()?;
    let v = c.state.vec.mxcsr;
    c.store_op(m, op, v)
}

impl Cpu {
    /// #NM for x87 instructions while CR0 says that there is no FPU, or not this task's.
    pub(crate) fn need_fpu(&mut self) -> Flow {
        if self.state.cr0 & (cr0::EM | cr0::TS) != 0 {
            return self.raise(Exception::plain(vector::NM));
        }
        Ok(())
    }

    /// #MF for a pending unmasked exception, before a waiting x87 instruction.
    pub(crate) fn need_fpu_ready(&mut self) -> Flow {
        self.need_fpu()?;
        if self.state.vec.fsw & 0x80 != 0 {
            return self.raise(Exception::plain(vector::MF));
        }
        Ok(())
    }
}

fn fwait<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    if c.state.cr0 & (cr0::MP | cr0::TS) == cr0::MP | cr0::TS {
        return c.raise(Exception::plain(vector::NM));
    }
    if c.state.vec.fsw & 0x80 != 0 {
        return c.raise(Exception::plain(vector::MF));
    }
    Ok(())
}

fn fninit<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_fpu()?;
    let v = &mut c.state.vec;
    (v.fcw, v.fsw, v.ftw) = (0x37f, 0, 0);
    (v.fop, v.fip, v.fdp) = (0, 0, 0);
    Ok(())
}

fn fnclex<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_fpu()?;
    c.state.vec.fsw &= 0x7f00;
    Ok(())
}

fn fnstsw_ax<M: Machine>(c: &mut Cpu, _: &mut M, _: &Op<M>) -> Flow {
    c.need_fpu()?;
    let v = c.state.vec.fsw;
    c.set(0, v);
    Ok(())
}

fn fnstsw_m<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu()?;
    let v = c.state.vec.fsw;
    c.store_op(m, op, v)
}

fn fnstcw<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu()?;
    let v = c.state.vec.fcw;
    c.store_op(m, op, v)
}

fn fldcw<M: Machine>(c: &mut Cpu, m: &mut M, op: &Op<M>) -> Flow {
    c.need_fpu_ready()?;
    let v = c.load_op::<u16, M>(m, op)?;
    c.state.vec.fcw = v & 0x1f7f | 0x40;
    c.state.vec.update_summary();
    Ok(())
}

pub(super) fn lower<M: Machine>(i: &Instruction, _: &Shape, op: &mut Op<M>) -> Option<Handler<M>> {
    op.aux = matches!(
        i.mnemonic(),
        N::Fxsave64
            | N::Fxrstor64
            | N::Xsave64
            | N::Xsaveopt64
            | N::Xsavec64
            | N::Xsaves64
            | N::Xrstor64
            | N::Xrstors64
    ) as u16;
    match i.mnemonic() {
        N::Fxsave | N::Fxsave64 => Some(fxsave),
        N::Fxrstor | N::Fxrstor64 => Some(fxrstor),
        N::Xsave | N::Xsave64 => Some(xsave::<M, { save::PLAIN }>),
        N::Xsaveopt | N::Xsaveopt64 => Some(xsave::<M, { save::OPTIMIZED }>),
        N::Xsavec | N::Xsavec64 => Some(xsave::<M, { save::COMPACT }>),
        N::Xsaves | N::Xsaves64 => Some(xsave::<M, { save::SUPERVISOR }>),
        N::Xrstor | N::Xrstor64 => Some(xrstor::<M, false>),
        N::Xrstors | N::Xrstors64 => Some(xrstor::<M, true>),
        N::Ldmxcsr | N::Vldmxcsr => Some(ldmxcsr),
        N::Stmxcsr | N::Vstmxcsr => Some(stmxcsr),
        N::Wait => Some(fwait),
        N::Fninit => Some(fninit),
        N::Fnclex => Some(fnclex),
        N::Fnstsw if i.op0_register() == iced_x86::Register::AX => Some(fnstsw_ax),
        N::Fnstsw => Some(fnstsw_m),
        N::Fnstcw => Some(fnstcw),
        N::Fldcw => Some(fldcw),
        _ => None,
    }
}
