//! The instructions that random programs are made of, and which flags the SDM leaves open behind them.

use iced_x86::{Code, ConditionCode, Instruction, Mnemonic as N, OpKind, Register};

use minivmm::cpu::state::rflags as rf;

use crate::generate::Rng;
use crate::mask::to_rflags;

/// Bytes that are likely to be an instruction that the translator has something to do with, or that may stand beside
/// one.
pub fn encoding(rng: &mut Rng) -> [u8; 15] {
    let mut b: [u8; 15] = std::array::from_fn(|_| rng.next() as u8);
    let mut at = 0;
    let mut push = |v: u8| {
        b[at] = v;
        at += 1;
    };
    for (prefix, one_in) in [(0x66, 8), (0xf0, 20), (0x65, 32), (0x67, 40)] {
        if rng.below(one_in) == 0 {
            push(prefix);
        }
    }
    if rng.below(3) != 0 {
        push(0x40 | rng.below(16) as u8);
    }
    const ONE: [u8; 64] = [
        0x80, 0x81, 0x83, 0x80, 0x81, 0x83, 0x84, 0x85, 0x88, 0x89, 0x8a, 0x8b, 0x88, 0x89, 0x8a, 0x8b, 0x8d,
        0x8d, 0x63, 0x63, 0xc6, 0xc7, 0xc0, 0xc1, 0xc1, 0xd0, 0xd1, 0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xf7, 0xfe,
        0xff, 0xff, 0xff, 0xa8, 0xa9, 0x86, 0x87, 0x69, 0x6b, 0x8f, 0x68, 0x6a, 0x90, 0x98, 0x99, 0x9c, 0x9e,
        0x9f, 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xae, 0xf5, 0xf8, 0xf9, 0xfc, 0xfd, 0xc9,
    ];
    const TWO: [u8; 16] =
        [0xb6, 0xb7, 0xbe, 0xbf, 0x1f, 0xaf, 0xb0, 0xb1, 0xc0, 0xc1, 0xa3, 0xab, 0xba, 0xba, 0xa4, 0xac];
    match rng.below(12) {
        0..=3 => push(rng.below(8) as u8 * 8 + rng.below(6) as u8),
        4 => push(0x50 | rng.below(16) as u8),
        5 => push([0xb0, 0xb8, 0x90][rng.below(3) as usize] | rng.below(8) as u8),
        6 | 7 => {
            push(0x0f);
            push(match rng.below(4) {
                0 => 0x40 | rng.below(16) as u8,
                1 => 0x90 | rng.below(16) as u8,
                2 => 0xc8 | rng.below(8) as u8,
                _ => TWO[rng.below(16) as usize],
            });
        }
        _ => push(ONE[rng.below(64) as usize]),
    }
    b
}

/// Whether it may stand in a program, as far as the SDM says all that it does.
pub fn is_wanted(i: &Instruction) -> bool {
    use N::*;
    let in_memory = i.op_count() > 0 && i.op0_kind() == OpKind::Memory;
    match i.mnemonic() {
        Add | Or | Adc | Sbb | And | Sub | Xor | Cmp | Test | Mov | Movzx | Movsx | Lea | Push | Pop
        | Inc | Dec | Neg | Not | Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Xchg | Xadd | Cmpxchg
        | Imul | Mul | Cbw | Cwde | Cdqe | Cwd | Cdq | Cqo | Lahf | Sahf | Clc | Stc | Cmc | Cld | Std
        | Nop | Leave | Pushfq => true,
        Movsb | Movsw | Movsd | Movsq | Stosb | Stosw | Stosd | Stosq | Lodsb | Lodsw | Lodsd | Lodsq
        | Scasb | Scasw | Scasd | Scasq => {
            i.code() != Code::Movsd_xmm_xmmm64 && !i.has_rep_prefix() && !i.has_repne_prefix()
        }
        // A bit number in a register moves the operand.
        Bt | Bts | Btr | Btc => !(in_memory && i.op1_kind() == OpKind::Register),
        // AMD's processors read four bytes for the two.
        Movsxd => bits(i) != 16,
        // Of 16 bits their results are open.
        Bswap | Shld | Shrd => bits(i) != 16,
        // CMOVcc and SETcc.
        _ => i.condition_code() != ConditionCode::None,
    }
}

/// What a shift or rotation counts.
pub enum Count {
    /// It is none.
    None,
    By(u32),
    /// CL.
    Unknown,
}

/// What an instruction counts.
pub fn count(i: &Instruction) -> Count {
    match i.mnemonic() {
        N::Shl | N::Sal | N::Shr | N::Sar | N::Shld | N::Shrd | N::Rol | N::Ror | N::Rcl | N::Rcr => {}
        _ => return Count::None,
    }
    match i.op_kind(i.op_count() - 1) {
        OpKind::Register => Count::Unknown,
        _ => Count::By(u32::from(i.immediate8()) & if bits(i) == 64 { 63 } else { 31 }),
    }
}

fn bits(i: &Instruction) -> u32 {
    8 * match i.op0_kind() {
        OpKind::Register => i.op0_register().size() as u32,
        _ => i.memory_size().size() as u32,
    }
}

/// Which status flags the SDM leaves open behind an instruction (see `mask::undefined_flags`).
pub fn open_behind(i: &Instruction, open: u64) -> u64 {
    let rotates = matches!(i.mnemonic(), N::Rol | N::Ror | N::Rcl | N::Rcr);
    let results = rf::SF | rf::ZF | rf::PF;
    match count(i) {
        Count::None => {
            let known = to_rflags(i.rflags_written() | i.rflags_cleared() | i.rflags_set());
            open & !known | to_rflags(i.rflags_undefined())
        }
        Count::Unknown if rotates => open | rf::OF,
        Count::Unknown => open | rf::OF | rf::AF | rf::CF,
        Count::By(0) => open,
        Count::By(1) if rotates => open & !rf::OF & !if bits(i) > 8 { rf::CF } else { 0 },
        Count::By(_) if rotates => open | rf::OF,
        Count::By(n) => {
            let overflow = if n == 1 { 0 } else { rf::OF };
            let carry = if n >= bits(i) { rf::CF } else { 0 };
            open & !results & !rf::OF & !rf::CF | rf::AF | overflow | carry
        }
    }
}

/// The number of a register, whole; of none, no number.
pub fn number(r: Register) -> usize {
    if r == Register::None { usize::MAX } else { r.full_register().number() }
}
