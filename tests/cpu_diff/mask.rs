//! What is not compared: what the SDM leaves undefined, and where AMD's processors differ from it. Nothing else.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::LazyLock;

use iced_x86::{Instruction, Mnemonic as N, OpKind, RflagsBits};

use minivmm::cpu::state::{gpr, rflags as rf};
use minivmm::cpu::xsave::VectorState;

use crate::generate::Case;
use crate::{RETIRED, Result};

/// RFLAGS bits whose value after the instruction the SDM leaves open.
///
/// The base is the per-instruction table "Flags Affected" of SDM vol. 2, which iced-x86 carries; what depends on the
/// operands is added here.
pub fn undefined_flags(case: &Case) -> u64 {
    let i = &case.instruction;
    let mut mask = to_rflags(i.rflags_undefined());
    match i.mnemonic() {
        // SDM vol. 2, SAL/SAR/SHL/SHR and SHLD/SHRD, RCL/RCR/ROL/ROR: a masked count of 0 changes no flag; OF is defined
        // for 1 only; AF is undefined for shifts; CF is undefined for counts at or above the operand size.
        N::Shl | N::Sal | N::Shr | N::Sar | N::Shld | N::Shrd | N::Rol | N::Ror | N::Rcl | N::Rcr => {
            mask = shift_mask(case);
        }
        _ => {}
    }
    mask
}

/// iced-x86's bits of status flags as those of RFLAGS.
pub fn to_rflags(bits: u32) -> u64 {
    let table = [
        (RflagsBits::CF, rf::CF),
        (RflagsBits::PF, rf::PF),
        (RflagsBits::AF, rf::AF),
        (RflagsBits::ZF, rf::ZF),
        (RflagsBits::SF, rf::SF),
        (RflagsBits::OF, rf::OF),
    ];
    table.iter().filter(|(b, _)| bits & b != 0).map(|(_, f)| f).sum()
}

fn operand_bits(i: &Instruction) -> u32 {
    8 * match i.op0_kind() {
        OpKind::Register => i.op0_register().size() as u32,
        _ => i.memory_size().size() as u32,
    }
}

/// A shift's or rotation's count, masked as the processor does.
fn shift_count(case: &Case) -> u32 {
    let i = &case.instruction;
    let raw = match i.op_kind(i.op_count() - 1) {
        OpKind::Register => case.state.gpr[gpr::RCX] as u8,
        _ => i.immediate8(),
    };
    raw as u32 & if operand_bits(i) == 64 { 63 } else { 31 }
}

fn shift_mask(case: &Case) -> u64 {
    let i = &case.instruction;
    let (size, count) = (operand_bits(i), shift_count(case));
    let rotate = matches!(i.mnemonic(), N::Rol | N::Ror | N::Rcl | N::Rcr);
    let double = matches!(i.mnemonic(), N::Shld | N::Shrd);
    if count == 0 {
        return 0;
    }
    let mut mask = if rotate { 0 } else { rf::AF };
    if count != 1 {
        mask |= rf::OF;
    }
    if double && count > size {
        mask |= rf::STATUS;
    } else if matches!(i.mnemonic(), N::Shl | N::Sal | N::Shr) && count >= size {
        mask |= rf::CF;
    }
    mask
}

/// x87 status bits that are undefined: C0, C2, C3 (and C1 where no rounding takes place) after most instructions (SDM
/// vol. 1, table 8-1), and so left out unless the instruction sets them.
pub fn undefined_fsw(case: &Case) -> u16 {
    let n = case.instruction.mnemonic();
    let defines = matches!(
        n,
        N::Fcom
            | N::Fcomp
            | N::Fcompp
            | N::Fucom
            | N::Fucomp
            | N::Fucompp
            | N::Ftst
            | N::Fxam
            | N::Ficom
            | N::Ficomp
            | N::Fprem
            | N::Fprem1
    );
    if defines { 0 } else { 0x4500 }
}

/// Bytes of the memory operand, as offsets from its start, that may hold anything afterwards.
pub fn undefined_memory(case: &Case) -> &'static [std::ops::Range<usize>] {
    if crate::generate::has_image(&case.instruction) {
        // SDM vol. 1, 10.5.1: the last instruction's opcode and pointers, which `cpu/` does not keep (docs/cpu.md) and
        // some processors save only after an exception; MXCSR_MASK tells which MXCSR bits the processor has.
        &[5..24, 28..32]
    } else {
        &[]
    }
}

/// What is not compared: rows with a reason, each for as few cases as can be told apart.
pub struct Row {
    pub what: &'static str,
    pub source: &'static str,
    applies: fn(&Case, &Result, &Result) -> bool,
}

/// Left open by the SDM: any processor may differ from any other.
const OPEN: [Row; 10] = [
    Row {
        what: "MASKMOVQ, MASKMOVDQU with a mask of zeros: whether memory that is not there faults",
        source: "SDM vol. 2, MASKMOVQ, MASKMOVDQU: \"page faults may still be signaled (implementation dependent)\"",
        applies: |case, soft, host| {
            let (i, v) = (&case.instruction, &case.state.vec);
            let none = |mask: &[u8]| mask.iter().all(|byte| byte & 0x80 == 0);
            let register = i.op_register(i.op_count().saturating_sub(1)).number();
            soft.trap != host.trap
                && match i.mnemonic() {
                    N::Maskmovq => none(&v.fpr[register][..8]),
                    N::Maskmovdqu | N::Vmaskmovdqu => {
                        v.zmm[register][..2].iter().all(|q| none(&q.to_le_bytes()))
                    }
                    _ => false,
                }
        },
    },
    Row {
        what: "SHLD, SHRD by more than the operand's size: the result",
        source: "SDM vol. 2, SHLD: \"If the count is greater than the operand size, the result is undefined\"",
        applies: |case, _, _| {
            let i = &case.instruction;
            matches!(i.mnemonic(), N::Shld | N::Shrd) && shift_count(case) > operand_bits(i)
        },
    },
    Row {
        what: "CMPS and MOVS with both operands in memory that faults: which one is told",
        source: "SDM vol. 3, table of priorities among concurrent events: no order within its last class, faults of one instruction",
        applies: |case, soft, host| {
            let i = &case.instruction;
            two_memory_operands(i) && soft.trap != host.trap && soft.trap.0 != 1 && host.trap.0 != 1
        },
    },
    Row {
        what: "LOOPE with F2, LOOPNE with F3",
        source: "SDM vol. 2, 2.1.1: repeat prefixes with other instructions are reserved, behaviour unpredictable",
        applies: |case, _, _| {
            let i = &case.instruction;
            i.mnemonic() == N::Loope && i.has_repne_prefix()
                || i.mnemonic() == N::Loopne && i.has_rep_prefix()
        },
    },
    Row {
        what: "CALL, FSTP, FBSTP that faults: whether what comes before the fault is in memory already",
        source: "SDM vol. 3, Program or Task Restart: a restart needs the registers back; nothing is said about memory",
        applies: |case, soft, host| {
            let n = case.instruction.mnemonic();
            matches!(n, N::Call | N::Fstp | N::Fbstp)
                && soft.trap == host.trap
                && soft.trap.0 != 1
                && same_registers(soft, host)
        },
    },
    Row {
        what: "FXSAVE, XSAVE and their kin with an operand that faults, perhaps in several ways: whether, and which is told",
        source: "SDM vol. 1, 13.13: may access any byte of a component operated on even when that is omitted; no order",
        applies: |case, soft, host| {
            let fault = |r: &Result| matches!(r.trap.0, 12..=14);
            crate::generate::has_image(&case.instruction)
                && (fault(soft) && fault(host) || soft.trap == RETIRED && host.trap.0 == 14)
        },
    },
    Row {
        what: "MMX instruction that stores and faults: whether the x87 tag and TOP are those of MMX already",
        source: "SDM vol. 1, 9.5.1 tells the state after the instruction, not after a fault",
        applies: |case, soft, host| {
            let i = &case.instruction;
            soft.trap == host.trap && soft.trap.0 != 1 && (0..i.op_count()).any(|n| i.op_register(n).is_mm())
        },
    },
    Row {
        what: "DPPS, DPPD with an unmasked exception: flags of the additions that were not done",
        source: "SDM vol. 2, DPPS: \"Exceptions are determined separately for each add and multiply operation\"",
        applies: |case, soft, host| {
            let n = case.instruction.mnemonic();
            matches!(n, N::Dpps | N::Dppd | N::Vdpps | N::Vdppd)
                && (soft.trap.0, host.trap.0) == (19, 19)
                && soft.state.vec == VectorState { mxcsr: soft.state.vec.mxcsr, ..host.state.vec.clone() }
        },
    },
    Row {
        what: "ENTER: how many bytes at the new stack pointer must be writable",
        source: "SDM vol. 2, ENTER: a page fault whenever a write using the final stack pointer would; no size is told",
        applies: |case, soft, host| {
            let crosses = (1..8).contains(&(host.trap.2.wrapping_sub(soft.state.gpr[gpr::RSP])));
            case.instruction.mnemonic() == N::Enter && soft.trap == RETIRED && host.trap.0 == 14 && crosses
        },
    },
    Row {
        what: "SERIALIZE where the host has none",
        source: "CPUID.7.0:EDX[14]",
        applies: |case, _, _| {
            case.instruction.mnemonic() == N::Serialize && __cpuid_count(7, 0).edx & 1 << 14 == 0
        },
    },
];

/// Where AMD's processors do something else than the SDM or Intel's processors; `cpu/` follows Intel.
const AMD: [Row; 8] = [
    Row {
        what: "near branches with 66: AMD cuts RIP to 16 bits, Intel ignores the prefix in 64-bit mode",
        source: "APM vol. 3, JMP (Near), CALL (Near), RET (Near), Jcc, LOOPcc; SDM vol. 2, JMP",
        applies: |case, _, _| {
            let i = &case.instruction;
            let near = i.is_jcc_short_or_near()
                || i.is_jmp_short_or_near()
                || i.is_call_near()
                || i.is_jmp_near_indirect()
                || i.is_call_near_indirect()
                || i.is_jcx_short()
                || i.is_loop()
                || i.is_loopcc()
                || i.mnemonic() == N::Ret;
            near && prefixes(&case.bytes).contains(&0x66)
        },
    },
    Row {
        what: "REP with 67 and ECX = 0, or a fault: RCX, RSI, RDI keep their upper halves on AMD",
        source: "APM vol. 3, 1.2.6 and SDM vol. 2, REP do not say; observed",
        applies: |case, soft, _| {
            let i = &case.instruction;
            i.is_string_instruction()
                && (i.has_rep_prefix() || i.has_repne_prefix())
                && prefixes(&case.bytes).contains(&0x67)
                && (case.state.gpr[gpr::RCX] as u32 == 0 || soft.trap.0 != 1)
        },
    },
    Row {
        what: "REP CMPS, REP SCAS that stops half-way: flags are those of the last comparison, not those before",
        source: "SDM vol. 2, REP: \"the EFLAGS value is restored\"; APM vol. 3 does not say; observed",
        applies: |case, soft, host| {
            let n = case.instruction.mnemonic();
            let compares = matches!(
                n,
                N::Cmpsb | N::Cmpsw | N::Cmpsd | N::Cmpsq | N::Scasb | N::Scasw | N::Scasd | N::Scasq
            );
            compares
                && soft.state.rip == case.state.rip
                && soft.trap == host.trap
                && same_registers(soft, host)
        },
    },
    Row {
        what: "0F 0D with a register: #UD on AMD, reserved NOP on Intel",
        source: "APM vol. 3, PREFETCH; SDM vol. 2, appendix A, table A-3",
        applies: |case, _, _| {
            use iced_x86::Code as C;
            matches!(
                case.instruction.code(),
                C::Reservednop_rm16_r16_0F0D | C::Reservednop_rm32_r32_0F0D | C::Reservednop_rm64_r64_0F0D
            )
        },
    },
    Row {
        what: "MOVSXD with 66: AMD reads 32 bits",
        source: "SDM vol. 2, MOVSXD (r16, r/m16); APM vol. 3, MOVSXD has no 16-bit form; observed",
        applies: |case, soft, host| {
            case.instruction.code() == iced_x86::Code::Movsxd_r16_rm16 && soft.trap != host.trap
        },
    },
    Row {
        what: "SHA instructions with an operand that is not aligned: no #GP on AMD",
        source: "SDM vol. 2, exception type 4; observed",
        applies: |case, soft, host| {
            let sha = matches!(
                case.instruction.mnemonic(),
                N::Sha1nexte | N::Sha1msg1 | N::Sha1msg2 | N::Sha256msg1 | N::Sha256msg2
            );
            sha && soft.trap.0 == 13 && host.trap.0 != 13
        },
    },
    Row {
        what: "MASKMOVQ, MASKMOVDQU into two pages: AMD faults for the page whose bytes are all masked",
        source: "SDM vol. 2, MASKMOVDQU, tells of a mask of zeros only; observed",
        applies: |case, soft, host| {
            let masked = matches!(case.instruction.mnemonic(), N::Maskmovq | N::Maskmovdqu | N::Vmaskmovdqu);
            let elsewhere =
                soft.trap == RETIRED || soft.trap.0 == 14 && soft.trap.2 >> 12 != host.trap.2 >> 12;
            masked && host.trap.0 == 14 && elsewhere
        },
    },
    Row {
        what: "MXCSR bit 17 (misaligned exception mask): AMD's alone",
        source: "APM vol. 1, 4.2.2; SDM vol. 1, 10.2.3",
        applies: |_, soft, host| soft.trap.0 == 13 && host.trap.0 == 1 && host.state.vec.mxcsr & 1 << 17 != 0,
    },
];

/// The row that says why this case's difference is none.
pub fn open_row(case: &Case, soft: &Result, host: &Result) -> Option<&'static Row> {
    static IS_AMD: LazyLock<bool> = LazyLock::new(|| __cpuid(0).ebx == u32::from_le_bytes(*b"Auth"));
    let amd: &[Row] = if *IS_AMD { &AMD } else { &[] };
    OPEN.iter().chain(amd).find(|row| (row.applies)(case, soft, host))
}

/// Legacy prefixes and REX, as they stand.
fn prefixes(bytes: &[u8]) -> &[u8] {
    let prefix = |b: &u8| {
        matches!(b, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0x40..=0x4f)
    };
    &bytes[..bytes.iter().position(|b| !prefix(b)).unwrap_or(bytes.len())]
}

/// All but flags.
fn same_registers(soft: &Result, host: &Result) -> bool {
    (soft.state.gpr, soft.state.rip, &soft.state.vec) == (host.state.gpr, host.state.rip, &host.state.vec)
}

fn two_memory_operands(i: &Instruction) -> bool {
    let memory = |n: u32| i.op_kind(n) != OpKind::Register;
    i.is_string_instruction() && i.op_count() == 2 && memory(0) && memory(1)
}

/// Which byte of a faulting page CR2 names is open when only some bytes of an operand are accessed (SDM vol. 2,
/// VMASKMOV: "Faults occur only due to mask-bit required memory accesses", without saying for which byte).
pub fn fault_address_is_open(case: &Case) -> bool {
    matches!(
        case.instruction.mnemonic(),
        N::Vmaskmovps | N::Vmaskmovpd | N::Vpmaskmovd | N::Vpmaskmovq | N::Maskmovdqu | N::Vmaskmovdqu
    )
}
