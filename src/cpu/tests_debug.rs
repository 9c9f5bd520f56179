//! A debugger's stops on the interpreter: breakpoints, watchpoints, steps, and that the guest sees none of it.

use iced_x86::code_asm::*;

use super::debug::{DebugStop, Watch, WatchKind};
use super::state::{gpr, rflags as rf};
use super::testing::*;
use super::tests_run::{HANDLERS, Program, program};
use super::*;

const BUDGET: u64 = 1_000_000;

fn stop(p: &mut Program) -> (Exit, u64) {
    let exit = p.run_at_most(BUDGET);
    (exit, p.i.cpu.state.rip)
}

const HIT: Exit = Exit::Debug(DebugStop::Breakpoint);
const STEPPED: Exit = Exit::Debug(DebugStop::Step);

/// Counts RAX up to 10 in a loop of four instructions that stores it, loads it, halts.
fn counter() -> Program {
    program(long_mode(), |a| {
        a.xor(eax, eax).unwrap();
        a.mov(rbx, DATA).unwrap();
        let mut again = a.create_label();
        a.set_label(&mut again).unwrap();
        a.inc(eax).unwrap();
        a.mov(dword_ptr(rbx + 8), eax).unwrap();
        a.cmp(eax, 10).unwrap();
        a.jne(again).unwrap();
        a.mov(ecx, dword_ptr(rbx + 8)).unwrap();
        a.hlt().unwrap();
    })
}

/// Where the program's instruction number `n` is, counted from 0.
fn place(p: &mut Program, n: usize) -> u64 {
    let code: [u8; 128] = p.m.peek(CODE);
    let mut decoder = iced_x86::Decoder::with_ip(64, &code, CODE, iced_x86::DecoderOptions::NONE);
    decoder.iter().nth(n).expect("the program is that long").ip()
}

const INC: usize = 2;
const CMP: usize = 4;
const HLT: usize = 7;

#[test]
fn a_breakpoint_stops_before_its_instruction_each_time_and_not_twice() {
    let mut p = counter();
    let at = place(&mut p, INC);
    p.i.set_debug(&[at], &[], false);
    for n in 0..10 {
        assert_eq!(stop(&mut p), (HIT, at));
        assert_eq!(p.i.cpu.state.gpr[gpr::RAX], n);
    }
    assert_eq!(p.run_at_most(BUDGET), Exit::Halt);
    let mut p = counter();
    p.i.set_debug(&[at], &[], false);
    assert_eq!(stop(&mut p), (HIT, at));
    p.i.set_debug(&[], &[], false);
    assert_eq!(p.run_at_most(BUDGET), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RCX], 10);
}

#[test]
fn a_breakpoint_in_the_middle_of_a_decoded_block_is_seen() {
    let mut p = counter();
    let (inc, cmp) = (place(&mut p, INC), place(&mut p, CMP));
    p.i.set_debug(&[inc], &[], false);
    assert_eq!(stop(&mut p), (HIT, inc));
    assert_eq!(stop(&mut p), (HIT, inc), "the block is decoded now");
    p.i.set_debug(&[cmp], &[], false);
    assert_eq!(stop(&mut p), (HIT, cmp));
}

#[test]
fn steps_go_one_by_one_through_faults_and_halt() {
    let mut p = program(long_mode(), |a| {
        a.nop().unwrap();
        a.sti().unwrap();
        a.nop().unwrap();
        a.ud2().unwrap();
    });
    let mut step = || {
        p.i.set_debug(&[], &[], true);
        stop(&mut p)
    };
    assert_eq!(step(), (STEPPED, CODE + 1));
    assert_eq!(step(), (STEPPED, CODE + 2));
    assert_eq!(step(), (STEPPED, CODE + 3));
    // The exception is delivered, its handler not begun.
    assert_eq!(step(), (STEPPED, HANDLERS + 16 * 6));
    assert_eq!(step(), (STEPPED, HANDLERS + 16 * 6 + 1));
    assert!(p.i.cpu.state.halted, "HLT was executed");
    assert!(!p.i.is_stepping(), "one step for each time that it was asked for");
    assert_eq!(p.i.cpu.state.rflags & rf::TF, 0);
}

#[test]
fn watchpoints_stop_after_the_access_and_tell_kinds_apart() {
    let watch = |kind| Watch { addr: DATA + 10, len: 1, kind };
    let mut p = counter();
    let write = watch(WatchKind::Write);
    p.i.set_debug(&[], &[write], false);
    let cmp = place(&mut p, CMP);
    for n in 1..=10 {
        assert_eq!(stop(&mut p), (Exit::Debug(DebugStop::Watch(write)), cmp));
        assert_eq!(p.i.cpu.state.gpr[gpr::RAX], n);
        assert_eq!(p.m.peek64(DATA + 8), n, "the access has happened");
    }
    assert_eq!(p.run_at_most(BUDGET), Exit::Halt);
    let mut p = counter();
    let read = watch(WatchKind::Read);
    p.i.set_debug(&[], &[read], false);
    let hlt = place(&mut p, HLT);
    assert_eq!(stop(&mut p), (Exit::Debug(DebugStop::Watch(read)), hlt));
    let mut p = counter();
    p.i.set_debug(&[], &[Watch { addr: DATA + 12, len: 8, kind: WatchKind::Access }], false);
    assert_eq!(p.run_at_most(BUDGET), Exit::Halt, "a neighbour in the same page is nobody's business");
}

#[test]
fn read_modify_write_and_string_instructions_meet_watchpoints() {
    let met = |kind, code: fn(&mut CodeAssembler)| {
        let mut p = program(long_mode(), |a| {
            a.mov(rbx, DATA).unwrap();
            code(a);
            a.hlt().unwrap();
        });
        p.i.set_debug(&[], &[Watch { addr: DATA, len: 16, kind }], false);
        matches!(p.run_at_most(BUDGET), Exit::Debug(DebugStop::Watch(_)))
    };
    let add = |a: &mut CodeAssembler| a.add(dword_ptr(rbx), 1).unwrap();
    let locked = |a: &mut CodeAssembler| a.lock().add(dword_ptr(rbx), 1).unwrap();
    let stos = |a: &mut CodeAssembler| {
        a.mov(rdi, DATA - 64).unwrap();
        a.mov(ecx, 32).unwrap();
        a.rep().stosq().unwrap();
    };
    let movs = |a: &mut CodeAssembler| {
        a.mov(rsi, DATA - 64).unwrap();
        a.mov(rdi, DATA + 0x1000).unwrap();
        a.mov(ecx, 32).unwrap();
        a.rep().movsq().unwrap();
    };
    let sse = |a: &mut CodeAssembler| a.movups(xmmword_ptr(rbx - 8), xmm0).unwrap();
    for kind in [WatchKind::Read, WatchKind::Write, WatchKind::Access] {
        assert!(met(kind, add) && met(kind, locked), "{kind:?}");
        assert_eq!(met(kind, stos), kind != WatchKind::Read, "{kind:?}");
        assert_eq!(met(kind, movs), kind != WatchKind::Write, "{kind:?}");
        assert_eq!(met(kind, sse), kind != WatchKind::Read, "{kind:?}");
    }
}

#[test]
fn a_debugger_looks_through_the_page_tables_without_a_trace() {
    let mut p = counter();
    let entry = p.m.peek64(TestMachine::pte(DATA));
    let ram: Vec<u8> = (0..0x8000u64).map(|at| p.m.peek::<1>(at)[0]).collect();
    let look = |state: &CpuState, address| {
        paging::look(state, address, |at, data| {
            let found = ram.get(at as usize..at as usize + data.len());
            found.is_some_and(|found| {
                data.copy_from_slice(found);
                true
            })
        })
    };
    let mut state = p.i.cpu.state.clone();
    assert_eq!(look(&state, DATA + 5), Some(DATA + 5));
    // Rights do not matter, also those of user code.
    state.segs[state::seg::CS].selector |= 3;
    assert_eq!(look(&state, DATA + 5), Some(DATA + 5));
    assert_eq!(look(&state, 0x4000_0000), None, "not mapped");
    assert_eq!(look(&state, 1 << 50), None, "not canonical");
    assert_eq!(p.m.peek64(TestMachine::pte(DATA)), entry, "neither accessed nor dirty");
    state.cr0 &= !state::cr0::PG;
    state.efer &= !state::efer::LMA;
    assert_eq!(look(&state, 0x1234_5678), Some(0x1234_5678), "physical when paging is off");
}
