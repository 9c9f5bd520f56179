//! Random instructions with operands that mean something.

use std::sync::OnceLock;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic as N, OpKind, Register};

use minivmm::cpu::CpuState;
use minivmm::cpu::state::{gpr, rflags as rf};

use crate::machine::{CODE, DATA, DATA_SIZE, READ_ONLY, user_state};

/// SplitMix64: small, seedable, good enough.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A value of the kind that finds mistakes.
    pub fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(70),
            1 => self.below(70).wrapping_neg(),
            2 => 1 << self.below(64),
            3 => (1u64 << self.below(64)).wrapping_sub(1),
            4 => self.next() & 0xffff_ffff,
            5 => [0x7f, 0x80, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, i64::MAX as u64, 1 << 63]
                [self.below(8) as usize],
            _ => self.next(),
        }
    }

    /// 64 bits of vector data: two singles or one double, often special.
    fn vector_word(&mut self) -> u64 {
        const DOUBLES: [u64; 10] = [
            0,
            1 << 63,
            0x3ff0_0000_0000_0000,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            1,
            0x000f_ffff_ffff_ffff,
            0x7fef_ffff_ffff_ffff,
        ];
        const SINGLES: [u32; 10] = [
            0,
            1 << 31,
            0x3f80_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            1,
            0x007f_ffff,
            0x7f7f_ffff,
        ];
        match self.below(6) {
            0 => DOUBLES[self.below(10) as usize],
            1 => SINGLES[self.below(10) as usize] as u64 | (SINGLES[self.below(10) as usize] as u64) << 32,
            2 => f64::to_bits((self.next() as i32) as f64 / 1024.0),
            3 => {
                let a = f32::to_bits((self.next() as i16) as f32 / 16.0) as u64;
                a | (f32::to_bits((self.next() as i16) as f32) as u64) << 32
            }
            _ => self.next(),
        }
    }
}

/// One instruction and the whole state that it starts from.
pub struct Case {
    pub bytes: Vec<u8>,
    pub instruction: Instruction,
    pub state: CpuState,
    pub memory: Vec<u8>,
}

impl Case {
    /// Where a breakpoint lies behind the instruction: when it runs without the trap flag and does not end the page.
    pub fn breakpoint(&self) -> Option<u64> {
        let behind = self.state.rip + self.bytes.len() as u64;
        (self.state.rflags & rf::TF == 0 && behind < CODE + 4096).then_some(behind)
    }

    /// Linear address of the memory operand.
    pub fn operand(&self) -> u64 {
        let register =
            |r: Register, _, _| Some(if r.is_segment_register() { 0 } else { self.state.gpr[number(r)] });
        self.instruction.virtual_address(0, 0, register).unwrap_or(0)
    }
}

/// Bytes that are likely to be an instruction.
fn bytes(rng: &mut Rng) -> [u8; 15] {
    let mut b: [u8; 15] = std::array::from_fn(|_| rng.next() as u8);
    let mut at = 0;
    let mut push = |v: u8| {
        b[at] = v;
        at += 1;
    };
    let vex = rng.one_in(4);
    if rng.one_in(8) && !vex {
        push(0xf0);
    }
    if rng.one_in(16) {
        push(0x67);
    }
    if rng.one_in(32) {
        push([0x65, 0x3e, 0x2e][rng.below(3) as usize]);
    }
    if !vex && rng.one_in(3) {
        push([0x66, 0xf3, 0xf2][rng.below(3) as usize]);
    }
    if vex {
        if rng.one_in(3) {
            push(0xc5);
        } else {
            push(0xc4);
            push((rng.next() as u8 & 0xe0) + 1 + rng.below(3) as u8);
        }
        return b;
    }
    if rng.one_in(2) {
        push(0x40 | rng.below(16) as u8);
    }
    match rng.below(8) {
        0..=2 => {}
        3..=5 => push(0x0f),
        6 => {
            push(0x0f);
            push(0x38);
        }
        _ => {
            push(0x0f);
            push(0x3a);
        }
    }
    b
}

/// Instructions that are not for this test: they depend on the host's system or leave user mode. The tests of
/// `src/cpu` and `tests/machine` have those.
pub fn excluded(i: &Instruction) -> bool {
    use iced_x86::FlowControl as F;
    let n = i.mnemonic();
    let sets_segment = (0..i.op_count())
        .any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k).is_segment_register())
        && !(n == N::Push || n == N::Mov && !i.op0_register().is_segment_register());
    // Thread-local storage of the test process lies at FS.
    sets_segment
        || i.segment_prefix() == Register::FS
        || matches!(i.flow_control(), F::Interrupt | F::XbeginXabortXend) && n != N::Int3
        || i.is_jmp_far()
        || i.is_call_far()
        || i.is_jmp_far_indirect()
        || i.is_call_far_indirect()
        || matches!(
            n,
            N::Syscall
                | N::Sysenter
                | N::Sysexit
                | N::Sysexitq
                | N::Sysret
                | N::Sysretq
                | N::Cpuid
                | N::Rdtsc
                | N::Rdtscp
                | N::Rdpid
                | N::Rdpmc
                | N::Rdrand
                | N::Rdseed
                | N::Xgetbv
                | N::Rdfsbase
                | N::Wrfsbase
                | N::Sgdt
                | N::Sidt
                | N::Sldt
                | N::Str
                | N::Smsw
                | N::Lsl
                | N::Lar
                | N::Verr
                | N::Verw
                | N::Iret
                | N::Iretd
                | N::Iretq
                | N::Retf
                | N::Lfs
                | N::Lgs
                | N::Lss
                | N::Wrgsbase
                | N::Rdgsbase
                | N::Pause
        )
}

/// Whether only the single-step trap can stop the processor after this instruction: it goes elsewhere, or repeats.
/// Otherwise a breakpoint behind it does, which is faster.
fn needs_trap(i: &Instruction) -> bool {
    i.flow_control() != iced_x86::FlowControl::Next
        || i.is_string_instruction()
        || matches!(i.mnemonic(), N::Popf | N::Popfq)
}

/// FXSAVE, XSAVE and their kin: the operand is an image of the vector state.
pub fn has_image(i: &Instruction) -> bool {
    matches!(
        i.mnemonic(),
        N::Fxsave
            | N::Fxsave64
            | N::Fxrstor
            | N::Fxrstor64
            | N::Xsave
            | N::Xsave64
            | N::Xsaveopt
            | N::Xsaveopt64
            | N::Xsavec
            | N::Xsavec64
            | N::Xrstor
            | N::Xrstor64
    )
}

/// One random case, or none if the bytes were no use.
pub fn case(rng: &mut Rng) -> Option<Case> {
    let mut b = bytes(rng);
    let mut decoder = Decoder::new(64, &b, DecoderOptions::NONE);
    let first = decoder.decode();
    if first.is_invalid() || excluded(&first) {
        return None;
    }
    let len = first.len();
    // At the start of the page, anywhere, or up against its end.
    let rip = CODE
        + match rng.below(3) {
            0 => 0,
            1 => rng.below(4096 - 15),
            _ => 4096 - len as u64,
        };
    let image = has_image(&first);
    let target = if image && !rng.one_in(16) { DATA + 64 * rng.below(80) } else { operand_address(rng) };
    let offsets = decoder.get_constant_offsets(&first);
    let free = first.memory_base() == Register::None || first.is_ip_rel_memory_operand();
    if offsets.has_displacement() && free {
        let d = if first.is_ip_rel_memory_operand() { target.wrapping_sub(rip + len as u64) } else { target };
        let (at, size) = (offsets.displacement_offset(), offsets.displacement_size());
        b[at..at + size].copy_from_slice(&d.to_le_bytes()[..size]);
    }
    let instruction = Decoder::with_ip(64, &b[..len], rip, DecoderOptions::NONE).decode();
    let mut state = state(rng, &instruction);
    state.rip = rip;
    if needs_trap(&instruction) || rng.one_in(32) {
        state.rflags |= rf::TF;
    }
    place_operand(rng, &instruction, &mut state, target);
    let mut memory = memory(rng, target);
    if image {
        place_image(rng, &mut state, &mut memory, target);
    }
    let mut case = Case { bytes: b[..len].to_vec(), instruction, state, memory };
    if (CODE - 4096..CODE + 4096).contains(&case.operand()) {
        // It may write over a breakpoint.
        case.state.rflags |= rf::TF;
    }
    Some(case)
}

/// Makes the operand an image that mostly can be restored, and asks for some of its components.
fn place_image(rng: &mut Rng, s: &mut CpuState, memory: &mut [u8], target: u64) {
    let some = |rng: &mut Rng| rng.next() & 0xe7;
    s.gpr[gpr::RAX] = some(rng);
    s.gpr[gpr::RDX] = 0;
    let Some(image) = target.checked_sub(DATA).and_then(|at| memory.get_mut(at as usize..)) else { return };
    if image.len() < 576 {
        return;
    }
    let xcomp = if rng.one_in(2) { 0 } else { 1 << 63 | some(rng) };
    let mut present = some(rng);
    if xcomp != 0 && !rng.one_in(8) {
        present &= xcomp;
    }
    image[512..576].fill(0);
    image[512..520].copy_from_slice(&present.to_le_bytes());
    image[520..528].copy_from_slice(&xcomp.to_le_bytes());
    let mxcsr = if rng.one_in(8) { 1 << (16 + rng.below(16)) } else { rng.next() as u32 & 0xffff };
    image[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    if rng.one_in(16) {
        image[512 + rng.below(64) as usize] |= 1 << rng.below(8);
    }
}

/// Mostly in the data pages, sometimes across their ends or in the page that cannot be written.
pub fn operand_address(rng: &mut Rng) -> u64 {
    let end = DATA + DATA_SIZE as u64;
    match rng.below(16) {
        0 => end - rng.below(40),
        1 => DATA.wrapping_sub(rng.below(20)),
        2 => DATA + 0x1000 - rng.below(34),
        3 => READ_ONLY + rng.below(4000),
        4 => 0x8000_0000_0000 - rng.below(3),
        5..=9 => DATA + 64 + 64 * rng.below(100),
        _ => DATA + 64 + rng.below(DATA_SIZE as u64 - 256),
    }
}

fn state(rng: &mut Rng, i: &Instruction) -> CpuState {
    let mut s = user_state();
    for r in &mut s.gpr {
        *r = rng.value();
    }
    s.gpr[gpr::RSP] = if rng.one_in(16) { operand_address(rng) } else { DATA + 512 + 8 * rng.below(900) };
    s.rflags = rf::FIXED | rf::IF | rng.next() & rf::STATUS;
    if rng.one_in(4) {
        s.rflags |= rf::DF;
    }
    // Fresh values where the instruction looks; elsewhere some.
    let some = &contents()[rng.below(64) as usize];
    for (z, bytes) in s.vec.zmm.iter_mut().zip(some.chunks_exact(64)) {
        for (q, bytes) in z.iter_mut().zip(bytes.as_chunks().0) {
            *q = u64::from_le_bytes(*bytes);
        }
    }
    let named = (0..i.op_count()).filter(|&k| i.op_kind(k) == OpKind::Register).map(|k| i.op_register(k));
    for r in named.filter(|r| r.is_vector_register()).chain([Register::XMM0]) {
        s.vec.zmm[r.number()].fill_with(|| rng.vector_word());
    }
    s.vec.opmask.fill_with(|| rng.next());
    s.vec.mxcsr = match rng.below(4) {
        // Not with unmasked overflow or underflow, whose flags then follow another rule than in `cpu/` (docs/cpu.md).
        0 => rng.next() as u32 & 0xffc0 | 0x0c00,
        1 => rng.next() as u32 & 0xffff | 0x1f80,
        _ => 0x1f80,
    };
    x87(rng, &mut s);
    s
}

fn x87(rng: &mut Rng, s: &mut CpuState) {
    let v = &mut s.vec;
    v.fcw = match rng.below(3) {
        0 => 0x37f,
        1 => 0x07f | (rng.next() as u16 & 0xf00),
        _ => 0x27f,
    };
    v.ftw = if rng.one_in(3) { rng.next() as u8 } else { 0xff };
    v.fsw = (rng.next() as u16 & 7) << 11 | rng.next() as u16 & 0x4700;
    for r in &mut v.fpr {
        let bits = rng.vector_word();
        let exponent: u16 = match rng.below(4) {
            0 => 0x3fff,
            1 => 0x3fff - 30 + rng.below(60) as u16,
            2 => [0, 0x7fff, 0x8000, 0xffff][rng.below(4) as usize],
            _ => rng.next() as u16,
        };
        let mantissa = if exponent & 0x7fff == 0 { bits & (i64::MAX as u64) } else { bits | 1 << 63 };
        r[..8].copy_from_slice(&mantissa.to_le_bytes());
        r[8..].copy_from_slice(&exponent.to_le_bytes());
    }
}

fn number(r: Register) -> usize {
    r.full_register().number()
}

/// Sets registers so that the memory operand lies at `target`.
fn place_operand(rng: &mut Rng, i: &Instruction, s: &mut CpuState, target: u64) {
    for k in 0..i.op_count() {
        match i.op_kind(k) {
            OpKind::MemorySegRSI | OpKind::MemorySegESI => s.gpr[gpr::RSI] = operand_address(rng),
            OpKind::MemoryESRDI | OpKind::MemoryESEDI | OpKind::MemorySegRDI => {
                s.gpr[gpr::RDI] = operand_address(rng)
            }
            _ => {}
        }
    }
    if i.is_string_instruction() {
        s.gpr[gpr::RCX] = rng.below(6);
        if rng.one_in(4) {
            // Meant for 32-bit addresses; otherwise it stops at a fault.
            s.gpr[gpr::RCX] |= rng.next() << 32;
        }
    }
    if matches!(i.mnemonic(), N::Maskmovdqu | N::Vmaskmovdqu) {
        s.gpr[gpr::RDI] = target;
    }
    let (base, index) = (i.memory_base(), i.memory_index());
    if index != Register::None && number(index) != number(base) {
        s.gpr[number(index)] = rng.below(32);
    }
    if i.mnemonic() == N::Lea || base == Register::None || i.is_ip_rel_memory_operand() {
        return;
    }
    let scaled = if index == Register::None {
        0
    } else {
        s.gpr[number(index)].wrapping_mul(i.memory_index_scale() as u64)
    };
    if index == Register::None || number(index) != number(base) {
        s.gpr[number(base)] = target.wrapping_sub(scaled).wrapping_sub(i.memory_displacement64());
    }
    // A bit number in a register moves the operand.
    if matches!(i.mnemonic(), N::Bt | N::Bts | N::Btr | N::Btc) && i.op_kind(1) == OpKind::Register {
        let r = number(i.op1_register());
        if r != number(base) && (index == Register::None || r != number(index)) {
            s.gpr[r] = rng.below(600).wrapping_sub(300);
        }
    }
}

/// Contents of the data pages: one of a few, with fresh values about the operand.
pub fn memory(rng: &mut Rng, target: u64) -> Vec<u8> {
    let mut m = contents()[rng.below(64) as usize].clone();
    let at = target.wrapping_sub(DATA).wrapping_sub(8);
    if let Some(here) = usize::try_from(at).ok().and_then(|at| m.get_mut(at..)) {
        let fresh = if rng.one_in(2) { Rng::vector_word } else { Rng::value };
        for word in here.chunks_exact_mut(8).take(10) {
            word.copy_from_slice(&fresh(rng).to_le_bytes());
        }
    }
    m
}

/// 64 different contents of the data pages.
fn contents() -> &'static [Vec<u8>] {
    static CONTENTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CONTENTS.get_or_init(|| {
        (0..64)
            .map(|seed| {
                let rng = &mut Rng(seed);
                let word = |n: usize| {
                    let w = if rng.one_in(2) { rng.vector_word() } else { rng.value() };
                    w.rotate_left((n & 3) as u32 * 8).to_le_bytes()
                };
                (0..DATA_SIZE / 8).flat_map(word).collect()
            })
            .collect()
    })
}
