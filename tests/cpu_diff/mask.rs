//! What the SDM leaves undefined, and nothing else.

use iced_x86::{Mnemonic as N, OpKind, RflagsBits};

use minivmm::cpu::state::rflags as rf;

use crate::generate::Case;

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

fn to_rflags(bits: u32) -> u64 {
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

fn shift_mask(case: &Case) -> u64 {
    let i = &case.instruction;
    let size = match i.op0_kind() {
        OpKind::Register => i.op0_register().size() as u32 * 8,
        _ => i.memory_size().size() as u32 * 8,
    };
    let last = i.op_count() - 1;
    let raw = match i.op_kind(last) {
        OpKind::Register => case.state.gpr[1] as u8,
        _ => i.immediate8(),
    };
    let count = raw as u32 & if size == 64 { 63 } else { 31 };
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
        // SDM vol. 2, SHLD: "If the count is greater than the operand size, the result is undefined."
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

/// With a mask of zeros, whether memory that is not there faults is the implementation's choice (SDM vol. 2,
/// MASKMOVQ: "page faults may still be signaled (implementation dependent)").
pub fn fault_is_open(case: &Case) -> bool {
    let i = &case.instruction;
    let mask = || &case.state.vec.fpr[i.op_register(2).number()][..8];
    i.mnemonic() == N::Maskmovq && mask().iter().all(|byte| byte & 0x80 == 0)
}

/// Which byte of a faulting page CR2 names is open when only some bytes of an operand are accessed (SDM vol. 2,
/// VMASKMOV: "Faults occur only due to mask-bit required memory accesses", without saying for which byte).
pub fn fault_address_is_open(case: &Case) -> bool {
    matches!(
        case.instruction.mnemonic(),
        N::Vmaskmovps | N::Vmaskmovpd | N::Vpmaskmovd | N::Vpmaskmovq | N::Maskmovdqu | N::Vmaskmovdqu
    )
}
