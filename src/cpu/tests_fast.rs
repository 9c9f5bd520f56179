//! Blocks of threaded code against the same instructions run one by one by their handlers (which `tests/cpu_diff`
//! compares with a processor): registers, flags, memory and exceptions must be the same.

use super::state::gpr;
use super::testing::*;
use super::tests_run::{HANDLERS, Program, program};
use super::*;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Pages of data that random addresses point into.
const PAGES: u64 = 4;
/// What the code is followed by: room for branches to land in, all HLT.
const SLED: usize = 160;

/// What a register holds: an address in the data, often near a page's end, a small number, or anything.
fn value(r: &mut Random) -> u64 {
    match r.below(8) {
        0..=2 => DATA + r.below(PAGES * 4096),
        3 => (DATA + 4096 * (1 + r.below(PAGES))).wrapping_sub(r.below(12)),
        4 => r.below(256),
        5 => r.next() & 0xffff_ffff,
        6 => r.of(&[0, 1, u64::MAX, i64::MAX as u64, i64::MIN as u64, 0x7fff_ffff, 0x8000_0000, 0x80, 0x7f]),
        _ => r.next(),
    }
}

/// One instruction of those that have code of their own, with random operands; most have a handler only in some forms.
fn instruction(r: &mut Random, out: &mut Vec<u8>) {
    if r.one_in(10) {
        out.push(r.of(&[0x64, 0x65]));
    }
    if r.one_in(12) {
        out.push(0x66);
    }
    if r.one_in(40) {
        out.push(0x67);
    }
    if !r.one_in(3) {
        out.push(0x40 | r.below(16) as u8);
    }
    let alu = (r.below(8) << 3) as u8;
    match r.below(20) {
        0..=3 => {
            out.push(alu | r.below(4) as u8);
            modrm(r, out, None);
        }
        4 | 5 => {
            let opcode = r.of(&[0x80, 0x81, 0x83]);
            out.push(opcode);
            modrm(r, out, None);
            immediate(r, out, if opcode == 0x81 { 4 } else { 1 });
        }
        6..=9 => {
            out.push(r.of(&[0x88, 0x89, 0x8a, 0x8b, 0x8a, 0x8b, 0x8d, 0x63, 0x84, 0x85]));
            modrm(r, out, None);
        }
        10 => {
            let opcode = r.of(&[0xc6, 0xc7]);
            out.push(opcode);
            modrm(r, out, Some(0));
            immediate(r, out, if opcode == 0xc7 { 4 } else { 1 });
        }
        11 => {
            out.extend([0x0f, r.of(&[0xb6, 0xb7, 0xbe, 0xbf])]);
            modrm(r, out, None);
        }
        12 => {
            out.extend([0x0f, r.of(&[0x40, 0x90]) | r.below(16) as u8]);
            modrm(r, out, None);
        }
        13 => out.push(0x50 | r.below(16) as u8),
        14 => {
            let opcode = r.of(&[0xfe, 0xff]);
            out.push(opcode);
            let which = r.below(2) as u8;
            modrm(r, out, Some(which));
        }
        15 => {
            out.push(r.of(&[0xf6, 0xf7]));
            let which = r.of(&[2, 3]);
            modrm(r, out, Some(which));
        }
        16 => {
            out.push(r.of(&[0xc0, 0xc1]));
            let which = r.of(&[4, 5, 7]);
            modrm(r, out, Some(which));
            immediate(r, out, 1);
        }
        17 => {
            out.push(0xb8 | r.below(8) as u8);
            immediate(r, out, 8);
        }
        18 => out.push(0x90),
        _ => branch(r, out),
    }
}

/// A branch that lands in the sled, or anywhere, as its operand says.
fn branch(r: &mut Random, out: &mut Vec<u8>) {
    match r.below(6) {
        0..=2 => out.extend([0x70 | r.below(16) as u8, r.below(16) as u8]),
        3 => out.extend([r.of(&[0xe8, 0xe9]), r.below(16) as u8, 0, 0, 0]),
        4 => out.push(0xc3),
        _ => {
            out.push(0xff);
            let which = r.of(&[2, 4]);
            modrm(r, out, Some(which));
        }
    }
}

fn immediate(r: &mut Random, out: &mut Vec<u8>, bytes: usize) {
    out.extend(&value(r).to_le_bytes()[..bytes]);
}

/// A ModRM byte, with `which` as its middle part, and what belongs to it. Displacements are small.
fn modrm(r: &mut Random, out: &mut Vec<u8>, which: Option<u8>) {
    let reg = which.unwrap_or(r.below(8) as u8);
    let (mode, rm) = (r.of(&[0, 0, 1, 1, 2, 3, 3]), r.below(8) as u8);
    out.push(mode << 6 | reg << 3 | rm);
    let mut base = rm;
    if mode != 3 && rm == 4 {
        let sib = r.next() as u8;
        base = sib & 7;
        out.push(sib);
    }
    match mode {
        0 if base == 5 => {
            // Absolute with a SIB byte, else relative to RIP.
            let address = if rm == 4 { DATA as u32 + r.below(4096) as u32 } else { r.below(64) as u32 };
            out.extend(address.to_le_bytes());
        }
        1 => out.push(r.next() as u8),
        2 => out.extend((r.below(256) as i32 - 128).to_le_bytes()),
        _ => {}
    }
}

/// Everything that may differ.
fn result(m: &mut TestMachine, s: &CpuState) -> ([u64; 16], u64, u64, Vec<u8>) {
    let mut memory: Vec<u8> = (0..PAGES).flat_map(|n| m.peek::<4096>(DATA + 4096 * n)).collect();
    memory.extend(m.peek::<256>(STACK - 128));
    (s.gpr, s.rip, s.rflags & !rflags::RF, memory)
}

/// A processor whose blocks become host code when they have run `hot` times.
fn processor(hot: u16) -> Program {
    let mut p = program(long_mode(), |_| ());
    p.i.translate_after(hot);
    p
}

#[test]
fn blocks_do_what_their_instructions_do_one_by_one() {
    compare(u16::MAX);
}

#[test]
fn host_code_does_what_its_instructions_do_one_by_one() {
    compare(1);
}

fn compare(hot: u16) {
    let mut r = Random(0x5eed_0000_0000_0001);
    let mut p = processor(hot);
    let start = p.i.cpu.state.clone();
    let mut alone = program(long_mode(), |_| ());
    let (mut finished, mut faulted) = (0, 0);
    for case in 0..20_000 {
        let mut code = Vec::new();
        for _ in 0..1 + r.below(6) {
            instruction(&mut r, &mut code);
        }
        let length = code.len();
        code.resize(length + SLED, 0xf4);
        let data: Vec<u8> = (0..PAGES * 512).flat_map(|_| r.next().to_le_bytes()).collect();
        let mut state = start.clone();
        state.gpr = std::array::from_fn(|_| value(&mut r));
        state.gpr[gpr::RSP] = STACK - r.below(3) * 8;
        state.segs[state::seg::FS].base = DATA;
        state.segs[state::seg::GS].base = DATA.wrapping_sub(r.below(64));
        state.rflags = rflags::FIXED | r.next() & rflags::STATUS;
        let case = Case { number: case, code: &code, length, data: &data, state: &state };
        // As host code, blocks find each other directly from the third time on.
        for round in 0..if hot == 1 { 3 } else { 1 } {
            match case.compare(&mut p, &mut alone, round) {
                Ended::Finished => finished += 1,
                Ended::Faulted => faulted += 1,
                Ended::Elsewhere => {
                    (p, alone) = (processor(hot), program(long_mode(), |_| ()));
                    break;
                }
            }
        }
    }
    assert!(finished > 6_000 && faulted > 1_500, "{finished} finished, {faulted} faulted");
}

/// Some instructions, and what they start from.
struct Case<'a> {
    number: u32,
    code: &'a [u8],
    /// Bytes of the instructions themselves.
    length: usize,
    data: &'a [u8],
    state: &'a CpuState,
}

enum Ended {
    Finished,
    Faulted,
    /// In a way that is not compared, and leaves the machines different.
    Elsewhere,
}

impl Case<'_> {
    /// Everything as it is to be at the start; the code only where it has changed.
    fn prepare(&self, p: &mut Program, round: u32) {
        if round == 0 || (CODE..).zip(self.code).any(|(at, b)| p.m.peek::<1>(at) != [*b]) {
            p.m.poke(CODE, self.code);
            p.i.cpu.code.written(CODE);
        }
        p.m.poke(DATA, self.data);
        p.m.poke(STACK - 64, &self.data[..128]);
        p.i.cpu.state = self.state.clone();
    }

    /// Runs it as blocks on `p`, and one by one.
    fn compare(&self, p: &mut Program, alone: &mut Program, round: u32) -> Ended {
        self.prepare(p, round);
        self.prepare(alone, round);
        let mut ended = Outcome::Retired;
        let mut steps = 0;
        let c = &mut alone.i.cpu;
        while ended == Outcome::Retired && steps < 60 {
            ended = c.run_one(&mut alone.m, None);
            steps += 1;
        }
        // More than enough: a repeated string instruction may count more than once.
        let exit = p.run_at_most(400);
        let Case { number, code, length, state, .. } = self;
        let what = || format!("case {number}.{round}: {:02x?} from {state:x?}", &code[..*length]);
        match ended {
            Outcome::Halt => {
                assert_eq!(exit, Exit::Halt, "{}", what());
                let (want, got) = (result(&mut alone.m, &c.state), result(&mut p.m, &p.i.cpu.state));
                assert!(want == got, "{}\none by one {:x?}\nas a block {:x?}", what(), &want.0, &got.0);
                assert_eq!((want.1, want.2), (got.1, got.2), "{}", what());
                Ended::Finished
            }
            // With a stack that works, the handler was entered with the same exception at the same instruction.
            Outcome::Exception(e) if (STACK - 4096..STACK + 64).contains(&c.state.gpr[gpr::RSP]) => {
                assert_eq!(exit, Exit::Halt, "{}", what());
                let handler = p.i.cpu.state.rip - 1;
                assert_eq!(handler, HANDLERS + 16 * u64::from(e.vector), "{}", what());
                let frame = p.i.cpu.state.gpr[gpr::RSP] + if e.code.is_some() { 8 } else { 0 };
                assert_eq!(p.m.peek64(frame), c.state.rip, "{}", what());
                assert_eq!(p.m.peek64(frame + 24), c.state.gpr[gpr::RSP], "{}", what());
                let (want, got) = (c.state.gpr, p.i.cpu.state.gpr);
                let others = |n: &usize| *n != gpr::RSP;
                assert!((0..16).filter(others).all(|n| want[n] == got[n]), "{}", what());
                // The frame is on one of the two stacks only.
                let below = STACK - 8192;
                p.m.poke(below, &alone.m.peek::<{ 8192 + 64 }>(below));
                Ended::Faulted
            }
            _ => Ended::Elsewhere,
        }
    }
}
