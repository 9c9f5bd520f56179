//! The guest's own breakpoints: each kind by the SDM's rules, and that nothing of it is left when they are off.

use iced_x86::code_asm::*;

use super::breakpoints::{DR6_BD, DR6_BS, DR7_GD};
use super::exceptions::vector;
use super::state::{cr4, gpr, rflags as rf, seg};
use super::testing::*;
use super::tests_run::{HANDLERS, Program, program};
use super::*;

const DB: u64 = HANDLERS + 16 * vector::DB as u64;

/// DR7 for breakpoint `n`, by its global enable bit. `kind`: 0 code, 1 writes, 2 ports, 3 reads and writes.
fn enable(n: u32, kind: u64, len: u64) -> u64 {
    let size = match len {
        1 => 0,
        2 => 1,
        4 => 3,
        _ => 2,
    };
    2 << (2 * n) | (size << 2 | kind) << (16 + 4 * n)
}

impl Program {
    fn set(&mut self, n: usize, address: u64, enabled: u64) {
        self.i.cpu.state.dr[n] = address;
        self.i.cpu.state.dr[7] |= enabled;
    }

    /// Runs until #DB; gives RIP and flags in its frame, and the bits of DR6 that mean something.
    fn debug_exception(&mut self) -> (u64, u64, u64) {
        assert_eq!(self.run_at_most(1_000_000), Exit::Halt);
        assert_eq!(self.i.cpu.state.rip, DB + 1, "it ended elsewhere");
        (self.word(0), self.word(2), self.i.cpu.state.dr[6] & 0xe00f)
    }

    fn word(&mut self, n: u64) -> u64 {
        let top = self.i.cpu.state.gpr[gpr::RSP];
        self.m.peek64(top + 8 * n)
    }

    /// Goes back as the handler's IRET would, with these flags.
    fn iret(&mut self, flags: u64) {
        let top = self.i.cpu.state.gpr[gpr::RSP];
        self.m.poke64(top + 16, flags);
        self.m.poke(DB + 1, &[0x48, 0xcf]);
    }

    /// The program ends with its own HLT.
    fn ends(&mut self) {
        assert_eq!(self.run_at_most(1_000_000), Exit::Halt);
        assert!(self.i.cpu.state.rip < HANDLERS, "an exception at {:#x}", self.i.cpu.state.rip);
    }
}

/// MOV EAX, 1 (5 bytes); INC EAX (2 bytes) twice; HLT.
fn three() -> Program {
    program(long_mode(), |a| {
        a.mov(eax, 1).unwrap();
        a.inc(eax).unwrap();
        a.inc(eax).unwrap();
        a.hlt().unwrap();
    })
}

#[test]
fn a_handler_that_begins_at_a_breakpoint_uses_the_budget_up() {
    let mut p = three();
    p.set(0, CODE + 5, enable(0, 0, 1));
    p.set(1, DB, enable(1, 0, 1));
    assert_eq!(p.run_at_most(20), Exit::Budget);
    assert_eq!(p.i.cpu.state.rip, DB);
}

#[test]
fn a_code_breakpoint_is_a_fault_and_rf_goes_past_it() {
    let mut p = three();
    p.set(1, CODE + 7, enable(1, 0, 1));
    let (rip, flags, why) = p.debug_exception();
    assert_eq!((rip, flags & rf::RF, why), (CODE + 7, 0, 2));
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 2, "the instruction has not run");
    // Without RF it is there again, with RF it is not, and RF is gone behind it.
    p.iret(flags);
    assert_eq!(p.debug_exception().0, CODE + 7);
    p.iret(flags | rf::RF);
    p.ends();
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 3);
    assert_eq!(p.i.cpu.state.rflags & rf::RF, 0);
}

#[test]
fn a_block_that_is_decoded_already_gets_its_breakpoint() {
    let mut p = three();
    p.ends();
    p.i.cpu.state.rip = CODE;
    p.set(0, CODE + 5, enable(0, 0, 1));
    assert_eq!(p.debug_exception().0, CODE + 5);
    // Another place, then none.
    (p.i.cpu.state.rip, p.i.cpu.state.dr[0]) = (CODE, CODE + 7);
    assert_eq!(p.debug_exception().0, CODE + 7);
    (p.i.cpu.state.rip, p.i.cpu.state.dr[7]) = (CODE, 0x400);
    p.ends();
}

#[test]
fn a_breakpoint_inside_an_instruction_or_of_a_wrong_length_never_hits() {
    for (at, enabled) in
        [(CODE + 6, enable(0, 0, 1)), (CODE + 5, enable(0, 0, 2)), (CODE + 5, 0), (CODE + 5, 1 << 9)]
    {
        let mut p = three();
        p.set(0, at, enabled);
        p.ends();
    }
}

#[test]
fn an_exception_of_the_instruction_behind_a_breakpoint_keeps_it_from_hitting_twice() {
    let mut p = program(long_mode(), |a| {
        a.ud2().unwrap();
    });
    p.set(0, CODE, enable(0, 0, 1));
    let (_, flags, _) = p.debug_exception();
    p.iret(flags | rf::RF);
    assert_eq!(p.run_at_most(1000), Exit::Halt);
    assert_eq!(p.i.cpu.state.rip, HANDLERS + 16 * vector::UD as u64 + 1);
    assert_ne!(p.word(2) & rf::RF, 0, "a fault's handler comes back with RF");
}

/// Reads DATA, writes DATA + 4, then DATA, each 4 bytes; HLT.
fn accesses() -> Program {
    program(long_mode(), |a| {
        a.mov(rbx, DATA).unwrap();
        a.mov(eax, dword_ptr(rbx)).unwrap();
        a.mov(dword_ptr(rbx + 4), eax).unwrap();
        a.mov(dword_ptr(rbx), 6).unwrap();
        a.nop().unwrap();
        a.hlt().unwrap();
    })
}

const READ: u64 = CODE + 10;
const BESIDE: u64 = READ + 2;
const WRITE: u64 = BESIDE + 3;
const NOP: u64 = WRITE + 6;

#[test]
fn data_breakpoints_are_traps_and_tell_kinds_and_lengths_apart() {
    // Address, kind, length, RIP behind the access.
    let rows = [
        (DATA, 1, 4, NOP),
        (DATA, 3, 4, BESIDE),
        (DATA + 3, 1, 1, NOP),
        (DATA, 1, 8, WRITE),
        (DATA + 5, 1, 2, WRITE),
        // The low bits of an address do not count.
        (DATA + 7, 1, 8, WRITE),
    ];
    for (address, kind, len, behind) in rows {
        let mut p = accesses();
        p.set(3, address, enable(3, kind, len));
        assert_eq!(p.debug_exception(), (behind, p.word(2), 8), "{address:#x} {kind} {len}");
        assert_eq!(p.word(2) & rf::RF, 0);
    }
    let mut p = accesses();
    p.set(0, DATA + 8, enable(0, 3, 8));
    p.ends();
    // The access has happened, and going on needs no RF.
    let mut p = accesses();
    p.set(0, DATA, enable(0, 1, 4));
    let (_, flags, _) = p.debug_exception();
    assert_eq!(p.m.peek64(DATA) as u32, 6);
    p.iret(flags);
    p.ends();
}

#[test]
fn dr6_says_all_that_was_met_and_nothing_of_the_time_before() {
    let mut p = accesses();
    p.set(0, DATA, enable(0, 3, 4));
    p.set(2, DATA, enable(2, 3, 1));
    p.set(1, DATA + 4, enable(1, 1, 4));
    let (rip, flags, why) = p.debug_exception();
    assert_eq!((rip, why), (BESIDE, 0b101));
    p.iret(flags | rf::TF);
    // The next instruction meets number 1 and is a single step: one exception for both.
    assert_eq!((p.debug_exception().2, p.word(0)), (0b010 | DR6_BS, WRITE));
}

#[test]
fn ports_hit_with_de_only() {
    let code = |a: &mut CodeAssembler| {
        a.mov(edx, 0x3f9).unwrap();
        a.in_(al, dx).unwrap();
        a.out(0x80, al).unwrap();
        a.hlt().unwrap();
    };
    for (address, len, behind) in [(0x3f8, 2, CODE + 6), (0x80, 1, CODE + 8), (0x3f9, 1, CODE + 6)] {
        let mut p = program(long_mode(), code);
        p.set(0, address, enable(0, 2, len));
        p.ends();
        let mut p = program(long_mode(), code);
        p.i.cpu.state.cr4 |= cr4::DE;
        p.set(0, address, enable(0, 2, len));
        assert_eq!((p.debug_exception().0, p.i.cpu.state.dr[6] & 15), (behind, 1));
    }
    let mut p = program(long_mode(), code);
    p.i.cpu.state.cr4 |= cr4::DE;
    p.set(0, 0x3fa, enable(0, 2, 2));
    p.ends();
}

#[test]
fn repeated_instructions_stop_at_the_repetition_that_meets_it() {
    let mut p = program(long_mode(), |a| {
        a.mov(rdi, DATA).unwrap();
        a.mov(ecx, 64).unwrap();
        a.rep().stosq().unwrap();
        a.hlt().unwrap();
    });
    let stos = CODE + 15;
    p.set(0, DATA + 8 * 9, enable(0, 1, 8));
    // A breakpoint at the instruction hits when it begins and not with every repetition.
    p.set(1, stos, enable(1, 0, 1));
    let (rip, flags, why) = p.debug_exception();
    assert_eq!((rip, why), (stos, 2));
    p.iret(flags | rf::RF);
    let (rip, flags, why) = p.debug_exception();
    assert_eq!((rip, why, p.i.cpu.state.gpr[gpr::RCX]), (stos, 1, 64 - 10));
    assert_ne!(flags & rf::RF, 0, "not the last repetition");
    p.iret(flags);
    p.ends();
    assert_eq!(p.i.cpu.state.gpr[gpr::RCX], 0);
}

#[test]
fn loading_ss_holds_debug_exceptions_back_for_an_instruction() {
    let mut p = program(long_mode(), |a| {
        a.mov(rbx, DATA).unwrap();
        a.mov(ss, word_ptr(rbx)).unwrap();
        a.inc(eax).unwrap();
        a.inc(eax).unwrap();
        a.hlt().unwrap();
    });
    p.m.poke64(DATA, 0x18);
    p.set(0, DATA, enable(0, 3, 2));
    // What the load has met is raised behind the next instruction, whose own breakpoint does not count.
    p.set(1, CODE + 12, enable(1, 0, 1));
    let (rip, _, why) = p.debug_exception();
    assert_eq!((rip, why), (CODE + 14, 1));
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 1);
}

#[test]
fn an_access_that_faults_is_none_and_one_of_a_delivery_counts_behind_it() {
    let mut p = program(user_mode(), |a| {
        a.mov(rbx, DATA).unwrap();
        a.mov(dword_ptr(rbx), 6).unwrap();
    });
    p.m.poke64(TestMachine::pte(DATA), DATA | 5);
    p.set(0, DATA, enable(0, 1, 4));
    assert_eq!(p.run_at_most(1000), Exit::Halt);
    assert_eq!(p.i.cpu.state.rip, HANDLERS + 16 * vector::PF as u64 + 1);
    // The frame of #UD is written over the watched word: #DB comes before the first instruction of #UD's handler.
    let mut p = program(long_mode(), |a| a.ud2().unwrap());
    p.set(0, STACK - 8, enable(0, 1, 8));
    assert_eq!(p.debug_exception().0, HANDLERS + 16 * vector::UD as u64);
}

#[test]
fn general_detect_is_a_fault_before_the_access() {
    let mut p = program(long_mode(), |a| {
        a.nop().unwrap();
        a.mov(rax, dr0).unwrap();
        a.hlt().unwrap();
    });
    p.i.cpu.state.dr[7] |= DR7_GD;
    let (rip, flags, why) = p.debug_exception();
    assert_eq!((rip, why), (CODE + 1, DR6_BD));
    assert_ne!(flags & rf::RF, 0, "a fault, and no instruction breakpoint");
    assert_eq!(p.i.cpu.state.dr[7] & DR7_GD, 0, "so that the handler can look");
    p.iret(flags);
    p.ends();
}

#[test]
fn the_guest_sets_them_itself_and_takes_them_away() {
    let mut p = program(long_mode(), |a| {
        a.mov(rbx, DATA).unwrap();
        a.mov(dword_ptr(rbx), 1).unwrap();
        a.mov(dr1, rbx).unwrap();
        a.mov(eax, (enable(1, 1, 4) | 0x400) as u32).unwrap();
        a.mov(dr7, rax).unwrap();
        a.mov(dword_ptr(rbx), 2).unwrap();
        a.mov(eax, 0x400).unwrap();
        a.mov(dr7, rax).unwrap();
        a.mov(dword_ptr(rbx), 3).unwrap();
        a.hlt().unwrap();
    });
    let (_, flags, why) = p.debug_exception();
    assert_eq!((p.m.peek64(DATA) as u32, why), (2, 2));
    p.iret(flags);
    p.ends();
    assert_eq!(p.m.peek64(DATA) as u32, 3);
}

#[test]
fn code_segments_with_a_base_count_by_linear_address() {
    let mut p = three();
    // 32-bit code at an offset; MOV and INC EAX are the same bytes there (INC is FF C0).
    let code = &mut p.i.cpu.state.segs[seg::CS];
    (code.attr, code.base) = (0xc09b, 0x8_0000);
    p.i.cpu.state.rip = CODE - 0x8_0000;
    p.set(0, CODE + 5, enable(0, 0, 1));
    assert_eq!(p.debug_exception(), (CODE + 5 - 0x8_0000, p.word(2), 1));
}

#[test]
fn a_debugger_and_the_guest_have_theirs_at_once() {
    use super::debug::{DebugStop, Watch, WatchKind};
    let mut p = accesses();
    p.set(0, DATA, enable(0, 1, 4));
    let watch = Watch { addr: DATA + 4, len: 4, kind: WatchKind::Write };
    p.i.set_debug(&[NOP], &[watch], false);
    assert_eq!(p.run_at_most(1000), Exit::Debug(DebugStop::Watch(watch)));
    assert_eq!(p.i.cpu.state.rip, WRITE);
    let (rip, flags, _) = p.debug_exception();
    assert_eq!(rip, NOP, "the guest's comes first: its instruction is the one before");
    p.iret(flags);
    assert_eq!(p.run_at_most(1000), Exit::Debug(DebugStop::Breakpoint));
    // A step over a place with a breakpoint of the guest's ends in its handler.
    p.set(1, NOP, enable(1, 0, 1));
    p.i.set_debug(&[], &[], true);
    assert_eq!(p.run_at_most(1000), Exit::Debug(DebugStop::Step));
    assert_eq!(p.i.cpu.state.rip, DB);
}
