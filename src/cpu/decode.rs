//! Instruction bytes to [`Op`], by way of iced-x86; and what state an instruction touches.
//!
//! Called by `assist.rs` for one instruction and by the block cache for many. Knows operands and address forms;
//! which handler runs is the families' business (`exec/`).

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::exec;
use super::machine::Machine;
use super::op::{HIGH_BYTE, Op, mf};
use super::state::seg;
use super::threaded;
use super::translate::Plan;

/// Operand kinds in order, two bits each: see [`Shape::form`].
pub(super) mod form {
    const REG: u8 = 1;
    const MEM: u8 = 2;
    const IMM: u8 = 3;
    pub const R: u8 = REG;
    pub const M: u8 = MEM;
    pub const I: u8 = IMM;
    pub const RR: u8 = REG | REG << 2;
    pub const RM: u8 = REG | MEM << 2;
    pub const MR: u8 = MEM | REG << 2;
    pub const RI: u8 = REG | IMM << 2;
    pub const MI: u8 = MEM | IMM << 2;
    pub const RRR: u8 = RR | REG << 4;
    pub const RRM: u8 = RR | MEM << 4;
    pub const RMR: u8 = RM | REG << 4;
    pub const RRI: u8 = RR | IMM << 4;
    pub const RMI: u8 = RM | IMM << 4;
    pub const MRR: u8 = MR | REG << 4;
    pub const MRI: u8 = MR | IMM << 4;
}

/// What the families choose a handler by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Size of the first operand in bytes (register, or else memory, or else the code size).
    pub size: u8,
    /// Operand kinds, one of [`form`].
    pub form: u8,
    pub lock: bool,
    pub encoding: Encoding,
    /// Bits of the code segment or effective operand size where it is not an operand's: 2, 4 or 8.
    pub operand_size: u8,
}

/// Where an instruction sits in the opcode maps; the vector families choose host instructions by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Encoding {
    /// 0 one-byte opcodes, 1 0F, 2 0F38, 3 0F3A.
    pub map: u8,
    /// Mandatory prefix: 0 none, 1 66, 2 F3, 3 F2.
    pub prefix: u8,
    pub opcode: u8,
    pub modrm: u8,
    pub vex: bool,
    pub evex: bool,
    pub w: bool,
}

impl Encoding {
    /// Takes the bytes of a valid instruction apart.
    fn of(bytes: &[u8], bits: u32) -> Encoding {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let mut e = Encoding::default();
        let mut at = 0;
        loop {
            match byte(at) {
                0x66 if e.prefix == 0 => e.prefix = 1,
                0xf3 => e.prefix = 2,
                0xf2 => e.prefix = 3,
                0x66 | 0x67 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 => {}
                // A REX prefix that is not the last one is ignored.
                0x40..=0x4f if bits == 64 && is_legacy_prefix(byte(at + 1)) => {}
                _ => break,
            }
            at += 1;
        }
        if bits == 64 && byte(at) & 0xf0 == 0x40 {
            e.w = byte(at) & 8 != 0;
            at += 1;
        }
        let vex_space = bits == 64 || byte(at + 1) >= 0xc0;
        match byte(at) {
            0xc5 if vex_space => {
                e.take_vex(byte(at + 1) & 0x7f);
                e.map = 1;
                at += 2;
            }
            0xc4 if vex_space => {
                e.take_vex(byte(at + 2));
                e.map = byte(at + 1) & 31;
                at += 3;
            }
            0x62 if vex_space => {
                e.take_vex(byte(at + 2) & !4);
                e.evex = true;
                e.map = byte(at + 1) & 7;
                at += 4;
            }
            0x0f => {
                (e.map, at) = match byte(at + 1) {
                    0x38 => (2, at + 2),
                    0x3a => (3, at + 2),
                    _ => (1, at + 1),
                };
            }
            _ => {}
        }
        (e.opcode, e.modrm) = (byte(at), byte(at + 1));
        e
    }

    /// The last byte of a VEX prefix: W and pp.
    fn take_vex(&mut self, b: u8) {
        self.vex = true;
        self.w = b & 0x80 != 0;
        // pp counts 66, F3, F2 as here.
        self.prefix = b & 3;
    }
}

fn is_legacy_prefix(b: u8) -> bool {
    matches!(b, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0x40..=0x4f)
}

/// State that an instruction reads or writes beyond general registers, RIP, RFLAGS and memory through the current
/// segments and page tables. `accel/kvm` fetches and returns only that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// x87, SSE, AVX, AVX-512 registers, XCR0.
    pub vector: bool,
    /// [`super::state::Msrs`].
    pub msrs: bool,
    /// Debug registers.
    pub debug: bool,
    /// Writes segment, table or control registers, EFER or XCR0.
    pub writes_system: bool,
}

impl Needs {
    /// Everything.
    pub const ALL: Self = Self { vector: true, msrs: true, debug: true, writes_system: true };
}

/// Decodes one instruction at `ip` in code of `bits` bits. `None` when `bytes` ends before the instruction does.
/// Bytes that are no instruction at all give one whose `is_invalid()` is true.
pub fn decode(bytes: &[u8], bits: u32, ip: u64) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(bits, bytes, ip, DecoderOptions::NONE);
    let i = decoder.decode();
    let short = i.is_invalid() && decoder.last_error() == iced_x86::DecoderError::NoMoreBytes;
    (!short).then_some(i)
}

/// Which state `i` touches.
pub fn needs(i: &Instruction) -> Needs {
    use Mnemonic as N;
    let general = |f: &CpuidFeature| {
        use CpuidFeature as F;
        matches!(
            f,
            F::INTEL8086
                | F::INTEL186
                | F::INTEL286
                | F::INTEL386
                | F::INTEL486
                | F::X64
                | F::CMOV
                | F::POPCNT
                | F::BMI1
                | F::BMI2
                | F::LZCNT
                | F::ADX
                | F::MOVBE
                | F::SMAP
                | F::CPUID
                | F::TSC
                | F::MSR
                | F::CX8
                | F::CMPXCHG16B
                | F::RDTSCP
                | F::RDPID
                | F::RDRAND
                | F::RDSEED
                | F::INVPCID
                | F::FSGSBASE
                | F::CLFSH
                | F::CLFLUSHOPT
                | F::CLWB
                | F::CET_SS
                | F::CET_IBT
                | F::MONITOR
                | F::MULTIBYTENOP
                | F::PAUSE
                | F::SYSCALL
                | F::SEP
                | F::SERIALIZE
                | F::PREFETCHW
        )
    };
    let m = i.mnemonic();
    let crc = m == N::Crc32;
    let fences = matches!(
        m,
        N::Lfence
            | N::Sfence
            | N::Mfence
            | N::Movnti
            | N::Prefetchnta
            | N::Prefetcht0
            | N::Prefetcht1
            | N::Prefetcht2
    );
    let debug_register =
        (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_dr());
    Needs {
        vector: !(crc || fences || i.cpuid_features().iter().all(general)),
        msrs: matches!(
            m,
            N::Rdmsr
                | N::Wrmsr
                | N::Rdtscp
                | N::Rdtsc
                | N::Rdpid
                | N::Swapgs
                | N::Syscall
                | N::Sysret
                | N::Sysretq
                | N::Sysenter
                | N::Sysexit
                | N::Sysexitq
                | N::Xsaves
                | N::Xsaves64
                | N::Xrstors
                | N::Xrstors64
        ),
        debug: debug_register,
        writes_system: writes_system(i),
    }
}

fn writes_system(i: &Instruction) -> bool {
    use Mnemonic as N;
    let destination = i.op_count() > 0
        && i.op_kind(0) == OpKind::Register
        && (i.op0_register().is_segment_register() || i.op0_register().is_cr());
    destination
        || matches!(
            i.mnemonic(),
            N::Wrfsbase
                | N::Wrgsbase
                | N::Swapgs
                | N::Xsetbv
                | N::Wrmsr
                | N::Lgdt
                | N::Lidt
                | N::Lldt
                | N::Ltr
                | N::Lmsw
                | N::Clts
                | N::Syscall
                | N::Sysret
                | N::Sysretq
                | N::Sysenter
                | N::Sysexit
                | N::Sysexitq
                | N::Iret
                | N::Iretd
                | N::Iretq
                | N::Retf
                | N::Lds
                | N::Les
                | N::Lfs
                | N::Lgs
                | N::Lss
        )
        || i.is_jmp_far()
        || i.is_call_far()
        || i.is_jmp_far_indirect()
        || i.is_call_far_indirect()
}

/// Turns a decoded instruction and its bytes into an op. `None` when no handler knows it.
pub(super) fn lower<M: Machine>(i: &Instruction, bytes: &[u8], bits: u32) -> Option<Op<M>> {
    lower_planned(i, bytes, bits).map(|(op, _)| op)
}

/// The same, and how it may be translated.
pub(super) fn lower_planned<M: Machine>(i: &Instruction, bytes: &[u8], bits: u32) -> Option<(Op<M>, Plan)> {
    let mut op = Op { len: i.len() as u8, ..Op::with_code(threaded::plain) };
    let mut s = Shape {
        size: 0,
        form: 0,
        encoding: Encoding::of(&bytes[..i.len().min(bytes.len())], bits),
        lock: i.has_lock_prefix(),
        operand_size: operand_size(i, bits),
    };
    for n in 0..i.op_count().min(4) {
        let kind = operand(i, n, bits, &mut op)?;
        s.form |= kind << (2 * n);
        if kind == 2 {
            op.msize = i.memory_size().size().min(255) as u8;
        }
    }
    s.size = match i.op_kind(0) {
        OpKind::Register => i.op0_register().size() as u8,
        _ if op.msize != 0 => op.msize,
        _ => s.operand_size,
    };
    op.f = exec::handler(i, &s, &mut op)?;
    if let Some(code) = exec::fast::code(i, &s, &op, bits) {
        op.code = code;
    }
    let plan = Plan::of(i, &s, &op, bits);
    Some((op, plan))
}

/// 2, 4 or 8: the operand size of stack instructions without an explicit operand, else that of the code.
fn operand_size(i: &Instruction, bits: u32) -> u8 {
    use iced_x86::Code as C;
    match i.code() {
        C::Retnw | C::Retnw_imm16 | C::Leavew | C::Enterw_imm16_imm8 | C::Pushaw | C::Popaw => 2,
        C::Retnd | C::Retnd_imm16 | C::Leaved | C::Enterd_imm16_imm8 | C::Pushad | C::Popad => 4,
        C::Retnq | C::Retnq_imm16 | C::Leaveq | C::Enterq_imm16_imm8 => 8,
        _ => match i.stack_pointer_increment().unsigned_abs() {
            n @ (2 | 4 | 8) => n as u8,
            _ => (bits / 8) as u8,
        },
    }
}

/// Fills in operand `n`; gives its kind for [`Shape::form`].
fn operand<M>(i: &Instruction, n: u32, bits: u32, op: &mut Op<M>) -> Option<u8> {
    match i.op_kind(n) {
        OpKind::Register => {
            op.r[n as usize] = reg_code(i.op_register(n));
            Some(1)
        }
        OpKind::Memory => {
            memory(i, bits, op);
            Some(2)
        }
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            op.imm = i.near_branch_target();
            Some(3)
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => {
            op.imm = if i.op_kind(n) == OpKind::FarBranch16 {
                i.far_branch16() as u64
            } else {
                i.far_branch32() as u64
            };
            op.aux = i.far_branch_selector();
            Some(3)
        }
        OpKind::Immediate8_2nd => {
            op.disp = i.immediate8_2nd() as u64;
            Some(3)
        }
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => {
            op.imm = i.immediate(n);
            Some(3)
        }
        // The implied operands of string instructions.
        _ => {
            op.seg = match segment(i.memory_segment()) {
                s if bits == 64 && s < seg::FS as u8 => seg::DS as u8,
                s => s,
            };
            address_size(i, n, op);
            Some(2)
        }
    }
}

fn address_size<M>(i: &Instruction, n: u32, op: &mut Op<M>) {
    op.mf |= match i.op_kind(n) {
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => mf::ADDR32,
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => mf::ADDR16,
        _ => 0,
    };
}

fn memory<M>(i: &Instruction, bits: u32, op: &mut Op<M>) {
    op.seg = segment(i.memory_segment());
    op.disp = i.memory_displacement64();
    let base = i.memory_base();
    let mut width = 64;
    match base {
        Register::None => {}
        // iced has already added RIP into the displacement.
        Register::RIP | Register::EIP => width = if base == Register::EIP { 32 } else { 64 },
        _ => {
            (op.base, op.base_mask) = (reg_code(base), -1);
            width = base.size() * 8;
        }
    }
    let index = i.memory_index();
    if index != Register::None {
        op.index = reg_code(index);
        op.scale = i.memory_index_scale() as u8;
        if !index.is_vector_register() {
            width = index.size() * 8;
        }
    }
    if base == Register::None && index == Register::None {
        width = match i.memory_displ_size() {
            2 => 16,
            4 => 32,
            _ => 64,
        };
    }
    op.mf = match width {
        16 => mf::ADDR16,
        32 => mf::ADDR32,
        _ => 0,
    };
    if bits != 64 {
        op.mf |= mf::LEGACY;
    } else if op.seg >= seg::FS as u8 {
        op.mf |= mf::SEG_BASE;
    } else {
        // Other overrides are ignored; the base register alone says what is a stack access.
        let stack = matches!(base, Register::RSP | Register::RBP | Register::ESP | Register::EBP);
        op.seg = if stack { seg::SS } else { seg::DS } as u8;
    }
}

pub(super) fn segment(r: Register) -> u8 {
    match r {
        Register::ES => seg::ES as u8,
        Register::CS => seg::CS as u8,
        Register::SS => seg::SS as u8,
        Register::FS => seg::FS as u8,
        Register::GS => seg::GS as u8,
        _ => seg::DS as u8,
    }
}

/// Number of a register of any class; for AH, CH, DH, BH the number of the register they lie in, with
/// [`HIGH_BYTE`].
fn reg_code(r: Register) -> u8 {
    match r {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            (r as u8 - Register::AH as u8) | HIGH_BYTE
        }
        _ if r.is_segment_register() => segment(r),
        _ if r.is_gpr8() => r.full_register().number() as u8,
        _ => r.number() as u8,
    }
}
