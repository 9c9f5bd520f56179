//! The host's own vector and x87 instructions, run on the guest's operands.
//!
//! Floating point with its rounding, flags and special values is exactly what the processor makes of it, so the host
//! does it: `global_asm` below holds one two-byte-operand stub per opcode, always on XMM0, XMM1 and XMM2, and the x87
//! stubs on the stack or on memory at RDI. The handlers in `sse.rs` and `x87.rs` choose a stub by opcode from an
//! allow-list; nothing a guest does can make another one run.
#![expect(unsafe_code, reason = "runs single host instructions on copies of guest registers")]

use std::arch::{asm, global_asm};

/// One vector register of 128 bits, low half first.
pub type Xmm = [u64; 2];

global_asm!(
    ".pushsection .text.minivmm_native,\"ax\",@progbits",
    ".balign 16",
    ".hidden minivmm_native_vector",
    ".globl minivmm_native_vector",
    "minivmm_native_vector:",
    // Rows 0 to 3: 0F opcodes, no prefix, 66, F3, F2: OP xmm0, xmm1.
    ".macro MINIVMM_ROW p:vararg",
    ".set minivmm_n, 0",
    ".rept 256",
    ".byte \\p, minivmm_n, 0xc1, 0xc3",
    ".balign 8, 0xcc",
    ".set minivmm_n, minivmm_n + 1",
    ".endr",
    ".endm",
    // One row per opcode with an immediate: OP xmm0, xmm1, n.
    ".macro MINIVMM_IMM p:vararg",
    ".set minivmm_n, 0",
    ".rept 256",
    ".byte \\p, 0xc1, minivmm_n, 0xc3",
    ".balign 8, 0xcc",
    ".set minivmm_n, minivmm_n + 1",
    ".endr",
    ".endm",
    // Three-operand VEX opcodes of map 0F38: OP xmm0, xmm1, xmm2.
    ".macro MINIVMM_VEX w",
    ".set minivmm_n, 0",
    ".rept 256",
    ".byte 0xc4, 0xe2, \\w, minivmm_n, 0xc2, 0xc3",
    ".balign 8, 0xcc",
    ".set minivmm_n, minivmm_n + 1",
    ".endr",
    ".endm",
    "MINIVMM_ROW 0x0f",
    "MINIVMM_ROW 0x66, 0x0f",
    "MINIVMM_ROW 0xf3, 0x0f",
    "MINIVMM_ROW 0xf2, 0x0f",
    "MINIVMM_ROW 0x0f, 0x38",
    "MINIVMM_ROW 0x66, 0x0f, 0x38",
    "MINIVMM_VEX 0x71",
    "MINIVMM_VEX 0xf1",
    "MINIVMM_IMM 0x0f, 0xc2",
    "MINIVMM_IMM 0x66, 0x0f, 0xc2",
    "MINIVMM_IMM 0xf3, 0x0f, 0xc2",
    "MINIVMM_IMM 0xf2, 0x0f, 0xc2",
    "MINIVMM_IMM 0x0f, 0xc6",
    "MINIVMM_IMM 0x66, 0x0f, 0xc6",
    "MINIVMM_IMM 0x66, 0x0f, 0x70",
    "MINIVMM_IMM 0xf3, 0x0f, 0x70",
    "MINIVMM_IMM 0xf2, 0x0f, 0x70",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x08",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x09",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x0a",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x0b",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x0c",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x0d",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x0e",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x0f",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x40",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x41",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x42",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0x44",
    "MINIVMM_IMM 0x66, 0x0f, 0x3a, 0xdf",
    // VCMPPS and its kin take five bits of predicate where the older forms take three: VOP xmm0, xmm0, xmm1, n.
    "MINIVMM_IMM 0xc5, 0xf8, 0xc2",
    "MINIVMM_IMM 0xc5, 0xf9, 0xc2",
    "MINIVMM_IMM 0xc5, 0xfa, 0xc2",
    "MINIVMM_IMM 0xc5, 0xfb, 0xc2",
    ".hidden minivmm_native_x87",
    ".globl minivmm_native_x87",
    "minivmm_native_x87:",
    // D8..DF with a register: 512 stubs.
    ".set minivmm_o, 0xd8",
    ".rept 8",
    ".set minivmm_n, 0xc0",
    ".rept 64",
    ".byte minivmm_o, minivmm_n, 0xc3",
    ".balign 4, 0xcc",
    ".set minivmm_n, minivmm_n + 1",
    ".endr",
    ".set minivmm_o, minivmm_o + 1",
    ".endr",
    // D8..DF with memory at [rdi]: 64 stubs.
    ".set minivmm_o, 0xd8",
    ".rept 8",
    ".set minivmm_n, 0x07",
    ".rept 8",
    ".byte minivmm_o, minivmm_n, 0xc3",
    ".balign 4, 0xcc",
    ".set minivmm_n, minivmm_n + 8",
    ".endr",
    ".set minivmm_o, minivmm_o + 1",
    ".endr",
    ".popsection",
);

unsafe extern "C" {
    static minivmm_native_vector: u8;
    static minivmm_native_x87: u8;
}

/// Number of a vector stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub(pub u16);

/// Rows of the table, in the order of the assembly above.
mod row {
    pub const MAP_0F: u16 = 0;
    pub const MAP_0F38: u16 = 4;
    pub const VEX_0F38: u16 = 6;
    pub const IMM: u16 = 8;
}

/// Stands for map 0F where the VEX form differs from the legacy one.
pub const VEX_0F: u8 = 0x81;

/// Opcodes with an immediate, in the order of their rows: mandatory prefix, map, opcode.
const IMMEDIATES: [(u8, u8, u8); 26] = [
    (0, 1, 0xc2),
    (1, 1, 0xc2),
    (2, 1, 0xc2),
    (3, 1, 0xc2),
    (0, 1, 0xc6),
    (1, 1, 0xc6),
    (1, 1, 0x70),
    (2, 1, 0x70),
    (3, 1, 0x70),
    (1, 3, 0x08),
    (1, 3, 0x09),
    (1, 3, 0x0a),
    (1, 3, 0x0b),
    (1, 3, 0x0c),
    (1, 3, 0x0d),
    (1, 3, 0x0e),
    (1, 3, 0x0f),
    (1, 3, 0x40),
    (1, 3, 0x41),
    (1, 3, 0x42),
    (1, 3, 0x44),
    (1, 3, 0xdf),
    (0, VEX_0F, 0xc2),
    (1, VEX_0F, 0xc2),
    (2, VEX_0F, 0xc2),
    (3, VEX_0F, 0xc2),
];

impl Stub {
    /// An opcode of map 0F with a mandatory prefix (0 none, 1 66, 2 F3, 3 F2).
    pub fn map_0f(prefix: u8, opcode: u8) -> Stub {
        Stub((row::MAP_0F + (prefix as u16 & 3)) << 8 | opcode as u16)
    }

    /// An opcode of map 0F38; prefix 0 or 1.
    pub fn map_0f38(prefix: u8, opcode: u8) -> Stub {
        Stub((row::MAP_0F38 + (prefix & 1) as u16) << 8 | opcode as u16)
    }

    /// A three-operand VEX opcode of map 0F38 with prefix 66.
    pub fn vex_0f38(w: bool, opcode: u8) -> Stub {
        Stub((row::VEX_0F38 + w as u16) << 8 | opcode as u16)
    }

    /// An opcode with an immediate, if it is in the table.
    pub fn immediate(prefix: u8, map: u8, opcode: u8, imm: u8) -> Option<Stub> {
        let n = IMMEDIATES.iter().position(|&e| e == (prefix, map, opcode))?;
        Some(Stub((row::IMM + n as u16) << 8 | imm as u16))
    }

    /// The stub for the upper half of a 256-bit operation: VSHUFPD and VMPSADBW use other bits of the immediate there.
    pub fn upper_half(self) -> Stub {
        const SHUFPD: u16 = row::IMM + 5;
        const MPSADBW: u16 = row::IMM + 19;
        match self.0 >> 8 {
            SHUFPD => Stub(SHUFPD << 8 | (self.0 & 0xff) >> 2),
            MPSADBW => Stub(MPSADBW << 8 | (self.0 & 0xff) >> 3),
            _ => self,
        }
    }

    fn address(self) -> *const u8 {
        let last = (row::IMM as usize + IMMEDIATES.len()) << 8;
        let n = (self.0 as usize).min(last - 1);
        // SAFETY: `n` is a row and a column of the table, whose stubs lie 8 bytes apart.
        unsafe { (&raw const minivmm_native_vector).add(8 * n) }
    }
}

/// The host's own MXCSR outside these functions: what Rust assumes.
const HOST_MXCSR: u32 = 0x1f80;

/// `a = OP(a, b)`, for opcodes that neither read nor write MXCSR.
#[inline(always)]
pub fn vector(stub: Stub, a: &mut Xmm, b: &Xmm) {
    // SAFETY: the stub is one instruction on XMM0 and XMM1 and a return.
    unsafe {
        asm!("movups xmm0, [{a}]", "movups xmm1, [{b}]", "call {f}", "movups [{a}], xmm0",
            a = in(reg) a, b = in(reg) b, f = in(reg) stub.address(), out("xmm0") _, out("xmm1") _);
    }
}

/// `a = OP(a, b)` under the guest's rounding and denormal modes, with all exceptions masked; gives the exception flags
/// that it raised.
#[inline(always)]
pub fn vector_fp(stub: Stub, mxcsr: u32, a: &mut Xmm, b: &Xmm) -> u32 {
    let mut control = mxcsr & !0x3f | 0x1f80;
    // SAFETY: the stub is one instruction on XMM0 and XMM1 and a return; MXCSR is put back to what Rust assumes.
    unsafe {
        asm!("movups xmm0, [{a}]", "movups xmm1, [{b}]", "ldmxcsr [{c}]", "call {f}", "stmxcsr [{c}]",
            "ldmxcsr [{h}]", "movups [{a}], xmm0",
            a = in(reg) a, b = in(reg) b, c = in(reg) &raw mut control, h = in(reg) &HOST_MXCSR,
            f = in(reg) stub.address(), out("xmm0") _, out("xmm1") _);
    }
    control & 0x3f
}

/// `a = OP(a, b, c)` for three-operand VEX opcodes (FMA also reads `a`); as [`vector_fp`] otherwise. The host must have
/// the instruction.
#[inline(always)]
pub fn vector_vex(stub: Stub, mxcsr: u32, a: &mut Xmm, b: &Xmm, c: &Xmm) -> u32 {
    let mut control = mxcsr & !0x3f | 0x1f80;
    // SAFETY: the stub is one instruction on XMM0, XMM1 and XMM2 and a return; MXCSR is put back.
    unsafe {
        asm!("movups xmm0, [{a}]", "movups xmm1, [{b}]", "movups xmm2, [{d}]", "ldmxcsr [{c}]", "call {f}",
            "stmxcsr [{c}]", "ldmxcsr [{h}]", "movups [{a}], xmm0",
            a = in(reg) a, b = in(reg) b, d = in(reg) c, c = in(reg) &raw mut control, h = in(reg) &HOST_MXCSR,
            f = in(reg) stub.address(), out("xmm0") _, out("xmm1") _, out("xmm2") _);
    }
    control & 0x3f
}

/// Comparisons into RFLAGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Ucomiss,
    Ucomisd,
    Comiss,
    Comisd,
}

/// UCOMISS and its kin: gives RFLAGS (status flags) and the exception flags raised.
pub fn compare(kind: Compare, mxcsr: u32, a: &Xmm, b: &Xmm) -> (u64, u32) {
    let mut control = mxcsr & !0x3f | 0x1f80;
    let flags: u64;
    macro_rules! run {
        ($insn:literal) => {
            // SAFETY: compares two registers; MXCSR is put back to what Rust assumes.
            unsafe {
                asm!("movups xmm0, [{a}]", "movups xmm1, [{b}]", "ldmxcsr [{c}]", $insn, "pushfq", "pop {r}",
                    "stmxcsr [{c}]", "ldmxcsr [{h}]",
                    a = in(reg) a, b = in(reg) b, c = in(reg) &raw mut control, h = in(reg) &HOST_MXCSR,
                    r = out(reg) flags, out("xmm0") _, out("xmm1") _)
            }
        };
    }
    match kind {
        Compare::Ucomiss => run!("ucomiss xmm0, xmm1"),
        Compare::Ucomisd => run!("ucomisd xmm0, xmm1"),
        Compare::Comiss => run!("comiss xmm0, xmm1"),
        Compare::Comisd => run!("comisd xmm0, xmm1"),
    }
    (flags & 0x8d5, control & 0x3f)
}

/// Conversions of a scalar to an integer register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToInt {
    pub double: bool,
    pub truncate: bool,
    pub wide: bool,
}

/// CVTSS2SI and its kin: the integer and the exception flags raised.
pub fn to_int(kind: ToInt, mxcsr: u32, a: &Xmm) -> (u64, u32) {
    let mut control = mxcsr & !0x3f | 0x1f80;
    let r: u64;
    macro_rules! run {
        ($insn:literal) => {
            // SAFETY: converts one register; MXCSR is put back to what Rust assumes.
            unsafe {
                asm!("movups xmm0, [{a}]", "ldmxcsr [{c}]", $insn, "stmxcsr [{c}]", "ldmxcsr [{h}]",
                    a = in(reg) a, c = in(reg) &raw mut control, h = in(reg) &HOST_MXCSR, r = out(reg) r,
                    out("xmm0") _, options(nostack, preserves_flags))
            }
        };
    }
    match (kind.double, kind.truncate, kind.wide) {
        (false, false, false) => run!("cvtss2si {r:e}, xmm0"),
        (false, false, true) => run!("cvtss2si {r}, xmm0"),
        (false, true, false) => run!("cvttss2si {r:e}, xmm0"),
        (false, true, true) => run!("cvttss2si {r}, xmm0"),
        (true, false, false) => run!("cvtsd2si {r:e}, xmm0"),
        (true, false, true) => run!("cvtsd2si {r}, xmm0"),
        (true, true, false) => run!("cvttsd2si {r:e}, xmm0"),
        (true, true, true) => run!("cvttsd2si {r}, xmm0"),
    }
    (r, control & 0x3f)
}

/// CVTSI2SS and CVTSI2SD: replaces the low element of `a`; gives the exception flags raised.
pub fn from_int(double: bool, wide: bool, mxcsr: u32, a: &mut Xmm, v: u64) -> u32 {
    let mut control = mxcsr & !0x3f | 0x1f80;
    macro_rules! run {
        ($insn:literal) => {
            // SAFETY: converts into one register; MXCSR is put back to what Rust assumes.
            unsafe {
                asm!("movups xmm0, [{a}]", "ldmxcsr [{c}]", $insn, "stmxcsr [{c}]", "ldmxcsr [{h}]",
                    "movups [{a}], xmm0", a = in(reg) a, c = in(reg) &raw mut control, h = in(reg) &HOST_MXCSR,
                    v = in(reg) v, out("xmm0") _, options(nostack, preserves_flags))
            }
        };
    }
    match (double, wide) {
        (false, false) => run!("cvtsi2ss xmm0, {v:e}"),
        (false, true) => run!("cvtsi2ss xmm0, {v}"),
        (true, false) => run!("cvtsi2sd xmm0, {v:e}"),
        (true, true) => run!("cvtsi2sd xmm0, {v}"),
    }
    control & 0x3f
}

/// An FXSAVE image.
#[repr(C, align(16))]
pub struct FxImage(pub [u8; 512]);

/// Which x87 instruction: opcode byte D8 to DF, and ModRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct X87 {
    pub opcode: u8,
    pub modrm: u8,
}

/// Runs one x87 instruction on the state in `image`, with its memory operand, if any, in `memory`. Gives the three
/// condition flags of RFLAGS that FCOMI and its kin set (ZF, PF, CF).
///
/// Unmasked exceptions only mark the status word, as they do on the processor until the next waiting instruction: the
/// state is saved and cleared before one comes.
pub fn x87(which: X87, image: &mut FxImage, memory: &mut [u8; 128]) -> u64 {
    let opcode = (which.opcode & 7) as usize;
    let n = if which.modrm >= 0xc0 {
        opcode * 64 + (which.modrm & 63) as usize
    } else {
        512 + opcode * 8 + (which.modrm >> 3 & 7) as usize
    };
    let flags: u64;
    // SAFETY: the stub is one x87 instruction on the stack or on `memory` (at most 108 bytes) and a return. The host's
    // x87 state is not used by Rust code; FNINIT leaves it as the ABI wants it.
    unsafe {
        let stub = (&raw const minivmm_native_x87).add(4 * n);
        asm!("fxrstor64 [{i}]", "call {f}", "pushfq", "pop {r}", "fxsave64 [{i}]", "fninit", "ldmxcsr [{h}]",
            i = in(reg) image, f = in(reg) stub, h = in(reg) &HOST_MXCSR, r = out(reg) flags,
            in("rdi") memory, inout("rax") 0u64 => _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _);
    }
    flags & 0x45
}
