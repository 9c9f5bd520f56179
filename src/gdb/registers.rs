//! The registers that gdb sees, in gdb's order: one table of groups, and how each goes from and to a [`CpuState`].
//!
//! General, segment and x87 registers and SSE are gdb's standard features for x86-64 (numbers 0 to 57); behind them come
//! the segment bases and what a kernel debugger wants. Used by `target.rs`; pure.

use gdbstub::arch::{Arch, RegId, Registers};
use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};
use std::num::NonZeroUsize;

use crate::cpu::CpuState;
use crate::cpu::state::{gpr, seg};

/// x86-64 with system registers, as gdbstub wants it named.
#[derive(Debug)]
pub(super) enum X86 {}

impl Arch for X86 {
    type Usize = u64;
    type Registers = GuestRegisters;
    type RegId = Number;
    type BreakpointKind = usize;
}

/// Registers of one kind, next to each other.
pub(super) struct Group {
    pub names: &'static [&'static str],
    pub bits: usize,
    /// gdb's type.
    pub kind: &'static str,
    /// The feature of the target description that they belong to.
    pub feature: &'static str,
}

pub(super) const CORE: &str = "org.gnu.gdb.i386.core";
pub(super) const SSE: &str = "org.gnu.gdb.i386.sse";
pub(super) const SEGMENTS: &str = "org.gnu.gdb.i386.segments";
pub(super) const SYSTEM: &str = "org.minivmm.x86.system";

const fn group(
    names: &'static [&'static str],
    bits: usize,
    kind: &'static str,
    feature: &'static str,
) -> Group {
    Group { names, bits, kind, feature }
}

/// All of them, in the order in which gdb numbers them and `g` carries them.
pub(super) static GROUPS: &[Group] = &[
    group(&["rax", "rbx", "rcx", "rdx", "rsi", "rdi"], 64, "int64", CORE),
    group(&["rbp", "rsp"], 64, "data_ptr", CORE),
    group(&["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"], 64, "int64", CORE),
    group(&["rip"], 64, "code_ptr", CORE),
    group(&["eflags"], 32, "i386_eflags", CORE),
    group(&["cs", "ss", "ds", "es", "fs", "gs"], 32, "int32", CORE),
    group(&["st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7"], 80, "i387_ext", CORE),
    group(&["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"], 32, "int", CORE),
    group(
        &[
            "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
            "xmm12", "xmm13", "xmm14", "xmm15",
        ],
        128,
        "vec128",
        SSE,
    ),
    group(&["mxcsr"], 32, "i386_mxcsr", SSE),
    group(&["fs_base", "gs_base"], 64, "int64", SEGMENTS),
    group(&SYSTEM_NAMES, 64, "int64", SYSTEM),
];

/// Read as they are; written back where a value differs.
const SYSTEM_NAMES: [&str; 16] = [
    "k_gs_base",
    "cr0",
    "cr2",
    "cr3",
    "cr4",
    "cr8",
    "efer",
    "gdtr",
    "idtr",
    "tr_base",
    "dr0",
    "dr1",
    "dr2",
    "dr3",
    "dr6",
    "dr7",
];

/// A register's number, which is its place in [`GROUPS`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(usize);

impl Number {
    /// Where its bytes are in what `g` carries.
    pub fn range(self) -> Option<std::ops::Range<usize>> {
        let (mut left, mut at) = (self.0, 0);
        for group in GROUPS {
            let size = group.bits / 8;
            if left < group.names.len() {
                return Some(at + left * size..at + (left + 1) * size);
            }
            left -= group.names.len();
            at += size * group.names.len();
        }
        None
    }
}

impl RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        let range = Self(id).range()?;
        Some((Self(id), NonZeroUsize::new(range.len())))
    }
}

/// The values, in `g`'s order.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct GuestRegisters {
    core: X86_64CoreRegs,
    bases: [u64; 2],
    system: [u64; SYSTEM_NAMES.len()],
}

/// gdb's order of the general registers.
const ORDER: [usize; 16] = [
    gpr::RAX,
    gpr::RBX,
    gpr::RCX,
    gpr::RDX,
    gpr::RSI,
    gpr::RDI,
    gpr::RBP,
    gpr::RSP,
    gpr::R8,
    gpr::R9,
    gpr::R10,
    gpr::R11,
    gpr::R12,
    gpr::R13,
    gpr::R14,
    gpr::R15,
];

impl GuestRegisters {
    /// The bytes as `g` carries them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024);
        self.gdb_serialize(|byte| bytes.push(byte.unwrap_or(0)));
        bytes
    }

    /// What gdb is to see of `s`.
    pub fn of(s: &CpuState) -> Self {
        let v = &s.vec;
        let selector = |n: usize| s.segs[n].selector.into();
        let core = X86_64CoreRegs {
            regs: ORDER.map(|n| s.gpr[n]),
            eflags: s.rflags as u32,
            rip: s.rip,
            segments: X86SegmentRegs {
                cs: selector(seg::CS),
                ss: selector(seg::SS),
                ds: selector(seg::DS),
                es: selector(seg::ES),
                fs: selector(seg::FS),
                gs: selector(seg::GS),
            },
            st: std::array::from_fn(|n| v.fpr[(v.top() + n) & 7]),
            fpu: X87FpuInternalRegs {
                fctrl: v.fcw.into(),
                fstat: v.fsw.into(),
                ftag: full_tags(v.ftw).into(),
                // 64-bit FXSAVE's form: the upper halves stand where selectors were.
                fiseg: (v.fip >> 32) as u32,
                fioff: v.fip as u32,
                foseg: (v.fdp >> 32) as u32,
                fooff: v.fdp as u32,
                fop: v.fop.into(),
            },
            xmm: std::array::from_fn(|n| u128::from(v.zmm[n][0]) | u128::from(v.zmm[n][1]) << 64),
            mxcsr: v.mxcsr,
        };
        let bases = [s.segs[seg::FS].base, s.segs[seg::GS].base];
        let system = [
            s.msrs.kernel_gs_base,
            s.cr0,
            s.cr2,
            s.cr3,
            s.cr4,
            s.cr8,
            s.efer,
            s.gdtr.base,
            s.idtr.base,
            s.tr.base,
            s.dr[0],
            s.dr[1],
            s.dr[2],
            s.dr[3],
            s.dr[6],
            s.dr[7],
        ];
        Self { core, bases, system }
    }

    /// Puts into `s` what differs from what gdb was shown of it. Selectors are shown only: a new one would need its
    /// descriptor.
    pub fn put(&self, s: &mut CpuState) {
        let shown = Self::of(s);
        for (n, value) in ORDER.into_iter().zip(self.core.regs) {
            s.gpr[n] = value;
        }
        s.rip = self.core.rip;
        s.rflags = s.rflags & !0xffff_ffff | u64::from(self.core.eflags) | 2;
        let v = &mut s.vec;
        for (n, st) in self.core.st.iter().enumerate() {
            // By the top of the stack that gdb was shown.
            let physical = (v.top() + n) & 7;
            v.fpr[physical] = *st;
        }
        if self.core.fpu != shown.core.fpu {
            let fpu = &self.core.fpu;
            (v.fcw, v.fsw, v.fop) = (fpu.fctrl as u16, fpu.fstat as u16, fpu.fop as u16);
            v.ftw = short_tags(fpu.ftag as u16);
            v.fip = u64::from(fpu.fiseg) << 32 | u64::from(fpu.fioff);
            v.fdp = u64::from(fpu.foseg) << 32 | u64::from(fpu.fooff);
        }
        for (z, xmm) in v.zmm.iter_mut().zip(self.core.xmm) {
            (z[0], z[1]) = (xmm as u64, (xmm >> 64) as u64);
        }
        v.mxcsr = self.core.mxcsr & crate::cpu::xsave::MXCSR_MASK;
        (s.segs[seg::FS].base, s.segs[seg::GS].base) = (self.bases[0], self.bases[1]);
        let [kernel_gs, cr0, cr2, cr3, cr4, cr8, efer, gdtr, idtr, tr, dr0, dr1, dr2, dr3, dr6, dr7] =
            self.system;
        (s.msrs.kernel_gs_base, s.cr0, s.cr2, s.cr3, s.cr4) = (kernel_gs, cr0, cr2, cr3, cr4);
        (s.cr8, s.efer, s.gdtr.base, s.idtr.base, s.tr.base) = (cr8 & 15, efer, gdtr, idtr, tr);
        (s.dr[0], s.dr[1], s.dr[2], s.dr[3], s.dr[6], s.dr[7]) = (dr0, dr1, dr2, dr3, dr6, dr7);
    }
}

/// The x87 tag word with two bits for each register, of which we know empty (3) or not (0).
fn full_tags(short: u8) -> u16 {
    (0..8).filter(|n| short >> n & 1 == 0).fold(0, |tags, n| tags | 3 << (2 * n))
}

fn short_tags(full: u16) -> u8 {
    (0..8).filter(|n| full >> (2 * n) & 3 != 3).fold(0, |tags, n| tags | 1 << n)
}

impl Registers for GuestRegisters {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.core.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.core.gdb_serialize(&mut write_byte);
        let rest = self.bases.iter().chain(&self.system);
        rest.flat_map(|value| value.to_le_bytes()).for_each(|byte| write_byte(Some(byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.core.gdb_deserialize(bytes)?;
        let rest = bytes.get(CORE_BYTES..).unwrap_or_default().chunks_exact(8);
        for (value, bytes) in self.bases.iter_mut().chain(&mut self.system).zip(rest) {
            *value = u64::from_le_bytes(bytes.try_into().map_err(|_| ())?);
        }
        Ok(())
    }
}

/// How much of `g` the standard registers are.
const CORE_BYTES: usize = 0x218;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_is_carried() {
        let size: usize = GROUPS.iter().map(|g| g.names.len() * g.bits / 8).sum();
        let gpr = std::array::from_fn(|n| 0x1000 + n as u64);
        let mut state = CpuState { gpr, ..CpuState::default() };
        (state.rip, state.cr3, state.segs[seg::GS].base) = (0xffff_8000_0000_1234, 0x5000, 0xffff_8880);
        let bytes = GuestRegisters::of(&state).bytes();
        assert_eq!(bytes.len(), size);
        let names: Vec<&str> = GROUPS.iter().flat_map(|g| g.names).copied().collect();
        let value = |name: &str| {
            let number = Number(names.iter().position(|n| *n == name).unwrap());
            let range = number.range().unwrap();
            u64::from_le_bytes(bytes[range].try_into().unwrap())
        };
        assert_eq!(
            (value("rax"), value("rbx"), value("rsp"), value("r15")),
            (0x1000, 0x1003, 0x1004, 0x100f)
        );
        assert_eq!(
            (value("rip"), value("cr3"), value("gs_base")),
            (0xffff_8000_0000_1234, 0x5000, 0xffff_8880)
        );
        assert_eq!(Number(names.len()).range(), None);
    }

    #[test]
    fn what_gdb_writes_reaches_the_cpu_and_the_rest_stays() {
        let mut state = CpuState::default();
        state.vec.fsw = 3 << 11;
        state.vec.fpr[3] = [7; 10];
        state.vec.ftw = 0b0000_1000;
        state.vec.zmm[2] = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut registers = GuestRegisters::of(&state);
        assert_eq!((registers.core.st[0], registers.core.fpu.ftag), ([7; 10], 0xff3f));
        let same = {
            let mut same = state.clone();
            registers.put(&mut same);
            same
        };
        assert_eq!(same, state);
        registers.core.xmm[2] = 9;
        registers.core.regs[7] = 0x8000;
        registers.core.fpu.ftag = 0xffff;
        registers.system[1] |= 1;
        let mut bytes = registers.bytes();
        bytes[0x80] = 0x42;
        let mut read = GuestRegisters::default();
        read.gdb_deserialize(&bytes).unwrap();
        read.put(&mut state);
        assert_eq!(state.vec.zmm[2], [9, 0, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            (state.gpr[gpr::RSP], state.rip & 0xff, state.cr0 & 1, state.vec.ftw),
            (0x8000, 0x42, 1, 0)
        );
        assert!(GuestRegisters::default().gdb_deserialize(&bytes[..100]).is_err());
    }
}
