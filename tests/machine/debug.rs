//! What a debugger does with a CPU: registers, breakpoints, INT3 of its own and of the guest's, watchpoints, steps.

use iced_x86::code_asm::*;
use minivmm::accel::debug::{DebugPlan, DebugStop, Watch, WatchKind};
use minivmm::accel::{Exit, Vcpu};
use minivmm::cpu::state::{gpr, seg};

use crate::bench::*;

on_each_accelerator! {
    registers_are_read_and_written_whole,
    a_breakpoint_stops_before_its_instruction,
    steps_are_one_instruction_long,
    the_debuggers_int3_is_a_stop_and_the_guests_is_its_own,
    watchpoints_stop_behind_the_access,
    watchpoints_have_four_sizes_and_three_kinds,
    as_many_places_as_there_are_slots,
    the_guests_own_breakpoints_reach_it,
    the_guests_debug_registers_are_its_own,
    a_plan_outlives_a_reset,
}

/// Reports 7, then 8.
fn two_reports(bench: &Bench) {
    bench.load(CODE, 64, |a| {
        a.mov(eax, 7).unwrap();
        a.mov(edx, REPORT).unwrap();
        a.out(dx, eax).unwrap();
        a.inc(eax).unwrap();
        a.out(dx, eax).unwrap();
        done(a);
    });
}

/// MOV EAX and MOV EDX of constants are 5 bytes each, OUT DX is 1, INC EAX 2.
const OUT: u64 = CODE + 10;
const INC: u64 = CODE + 11;

fn at(breakpoints: &[u64]) -> DebugPlan {
    DebugPlan { breakpoints: breakpoints.to_vec(), ..DebugPlan::default() }
}

const STEP: DebugPlan =
    DebugPlan { breakpoints: Vec::new(), patched: Vec::new(), watches: Vec::new(), step: true };
const BREAKPOINT: Exit = Exit::Debug(DebugStop::Breakpoint);
const STEPPED: Exit = Exit::Debug(DebugStop::Step);

fn rip(cpu: &mut dyn Vcpu) -> u64 {
    cpu.registers().unwrap().rip
}

fn registers_are_read_and_written_whole(open: Open) {
    let Some(bench) = open(1) else { return };
    two_reports(&bench);
    let mut cpu = bench.boot_cpu(&long());
    let mut state = cpu.registers().unwrap();
    assert_eq!((state.rip, state.gpr[gpr::RSI], state.code_bits()), (CODE, 0x1234_5678, 64));
    cpu.set_debug(&at(&[INC])).unwrap();
    assert_eq!(bench.run(&mut *cpu), BREAKPOINT);
    state = cpu.registers().unwrap();
    assert_eq!((state.rip, state.gpr[gpr::RAX]), (INC, 7));
    state.gpr[gpr::RAX] = 0x41;
    state.gpr[gpr::R15] = 0xdead_beef_0000_0001;
    state.segs[seg::GS].base = 0x1_2340_0000;
    state.vec.zmm[3][0] = 0x1122_3344_5566_7788;
    state.msrs.kernel_gs_base = 0x5_6780_0000;
    cpu.set_registers(&state).unwrap();
    let seen = cpu.registers().unwrap();
    assert_eq!((seen.gpr, seen.segs, seen.msrs), (state.gpr, state.segs, state.msrs));
    assert_eq!((&seen.vec, seen.cr0, seen.cr3, seen.efer), (&state.vec, state.cr0, state.cr3, state.efer));
    cpu.set_debug(&DebugPlan::default()).unwrap();
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    assert_eq!(bench.reports(), [7, 0x42]);
}

fn a_breakpoint_stops_before_its_instruction(open: Open) {
    let Some(bench) = open(1) else { return };
    two_reports(&bench);
    let mut cpu = bench.boot_cpu(&long());
    cpu.set_debug(&at(&[OUT, INC])).unwrap();
    for place in [OUT, INC] {
        assert_eq!(bench.run(&mut *cpu), BREAKPOINT);
        assert_eq!(rip(&mut *cpu), place);
        assert_eq!(bench.reports().len(), usize::from(place == INC));
        // As gdb goes on: past the place by a step, without it.
        cpu.set_debug(&STEP).unwrap();
        assert_eq!(bench.run(&mut *cpu), STEPPED);
        cpu.set_debug(&at(&[INC])).unwrap();
        if place == OUT {
            assert_eq!(rip(&mut *cpu), INC);
        }
    }
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    assert_eq!(bench.reports(), [7, 8]);
}

fn steps_are_one_instruction_long(open: Open) {
    let Some(bench) = open(1) else { return };
    two_reports(&bench);
    let mut cpu = bench.boot_cpu(&long());
    for next in [CODE + 5, OUT, INC, CODE + 13] {
        cpu.set_debug(&STEP).unwrap();
        assert_eq!(bench.run(&mut *cpu), STEPPED);
        assert_eq!(rip(&mut *cpu), next);
    }
    assert_eq!(bench.reports(), [7], "OUT was one of them");
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked, "a step is asked for each time");
}

fn the_debuggers_int3_is_a_stop_and_the_guests_is_its_own(open: Open) {
    const HANDLER: u64 = 0x1_8000;
    let Some(bench) = open(1) else { return };
    bench.load(CODE, 64, |a| {
        a.lidt(ptr(IDTR)).unwrap();
        a.int3().unwrap();
        out_value(a, REPORT, 2);
        done(a);
    });
    bench.gate(3, HANDLER);
    bench.load(HANDLER, 64, |a| {
        out_value(a, REPORT, 1);
        a.iretq().unwrap();
    });
    let mut cpu = bench.boot_cpu(&long());
    if bench.vm.debug_means().patches {
        let mut code = [0; 16];
        bench.ram.read(CODE, &mut code).unwrap();
        let int3 = CODE + code.iter().position(|byte| *byte == 0xcc).unwrap() as u64;
        let plan = DebugPlan { patched: vec![int3], ..DebugPlan::default() };
        cpu.set_debug(&plan).unwrap();
        assert_eq!(bench.run(&mut *cpu), BREAKPOINT);
        assert_eq!((rip(&mut *cpu), bench.reports().len()), (int3, 0));
        cpu.set_debug(&DebugPlan { patched: vec![int3 + 1], ..DebugPlan::default() }).unwrap();
    }
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    assert_eq!(bench.reports(), [1, 2]);
}

fn watchpoints_stop_behind_the_access(open: Open) {
    const WATCHED: u64 = 0x1_9000;
    let Some(bench) = open(1) else { return };
    if !bench.vm.debug_means().watches {
        // Data breakpoints never trigger where kernel code is emulated (docs/kvm-hosts.md); gdb is told that there are none.
        return;
    }
    bench.load(CODE, 64, |a| {
        a.mov(rbx, WATCHED).unwrap();
        a.mov(eax, dword_ptr(rbx)).unwrap();
        a.mov(dword_ptr(rbx + 4), 5).unwrap();
        a.mov(dword_ptr(rbx), 6).unwrap();
        out_value(a, REPORT, 1);
        done(a);
    });
    let mut cpu = bench.boot_cpu(&long());
    let watch = Watch { addr: WATCHED, len: 4, kind: WatchKind::Write };
    cpu.set_debug(&DebugPlan { watches: vec![watch], ..DebugPlan::default() }).unwrap();
    assert_eq!(bench.run(&mut *cpu), Exit::Debug(DebugStop::Watch(watch)));
    let mut written = [0; 8];
    bench.ram.read(WATCHED, &mut written).unwrap();
    assert_eq!(written, [6, 0, 0, 0, 5, 0, 0, 0], "the read and the neighbour were none of its business");
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    assert_eq!(bench.reports(), [1]);
}

/// Reads or writes 8 bytes at [`CELL`], as the row says, then reports.
const CELL: u64 = 0x1_9100;

fn watchpoints_have_four_sizes_and_three_kinds(open: Open) {
    let Some(bench) = open(1) else { return };
    if !bench.vm.debug_means().watches {
        return;
    }
    bench.load(CODE, 64, |a| {
        a.mov(rbx, CELL).unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.mov(byte_ptr(rbx + 7), 1).unwrap();
        done(a);
    });
    // MOV RBX of a constant that fits in 32 bits is 10 bytes here, the read 3, the write 4.
    let (read, written) = (CODE + 13, CODE + 17);
    // Where from the cell, size, kind, RIP at the first stop; none: it is not met.
    let rows = [
        (0, 8, WatchKind::Write, Some(written)),
        (4, 4, WatchKind::Write, Some(written)),
        (6, 2, WatchKind::Write, Some(written)),
        (7, 1, WatchKind::Write, Some(written)),
        (6, 1, WatchKind::Write, None),
        (8, 8, WatchKind::Access, None),
        (0, 4, WatchKind::Access, Some(read)),
        (2, 1, WatchKind::Read, Some(read)),
    ];
    let mut cpu = bench.boot_cpu(&long());
    for (from, len, kind, stop) in rows {
        cpu.reset(&long()).unwrap();
        let watch = Watch { addr: CELL + from, len, kind };
        cpu.set_debug(&DebugPlan { watches: vec![watch], ..DebugPlan::default() }).unwrap();
        let Some(at) = stop else {
            cpu.set_debug(&DebugPlan {
                watches: vec![watch],
                breakpoints: vec![written],
                ..DebugPlan::default()
            })
            .unwrap();
            assert_eq!(bench.run(&mut *cpu), BREAKPOINT, "{watch:x?}");
            continue;
        };
        assert_eq!(bench.run(&mut *cpu), Exit::Debug(DebugStop::Watch(watch)), "{watch:x?}");
        assert_eq!(rip(&mut *cpu), at, "{watch:x?}");
    }
}

fn as_many_places_as_there_are_slots(open: Open) {
    let Some(bench) = open(1) else { return };
    bench.load(CODE, 64, |a| {
        (0..4).for_each(|_| a.nop().unwrap());
        done(a);
    });
    // Soft has as many as one likes.
    let places: Vec<u64> = (1..=bench.vm.debug_means().slots.min(4) as u64).map(|n| CODE + n).collect();
    let mut cpu = bench.boot_cpu(&long());
    for place in &places {
        cpu.set_debug(&at(&places)).unwrap();
        assert_eq!(bench.run(&mut *cpu), BREAKPOINT);
        assert_eq!(rip(&mut *cpu), *place);
        // Past it, which is at the next one, not behind it.
        cpu.set_debug(&STEP).unwrap();
        assert_eq!(bench.run(&mut *cpu), STEPPED);
    }
    cpu.set_debug(&DebugPlan::default()).unwrap();
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
}

/// The program's #DB handler reports DR6's low bits and goes past a code breakpoint by RF.
fn reports_debug_exceptions(bench: &Bench) {
    const HANDLER: u64 = 0x1_8000;
    bench.gate(1, HANDLER);
    bench.load(HANDLER, 64, |a| {
        a.push(rax).unwrap();
        a.push(rdx).unwrap();
        a.mov(rax, dr6).unwrap();
        a.and(eax, 0x600f).unwrap();
        out(a, REPORT);
        a.xor(eax, eax).unwrap();
        a.mov(dr6, rax).unwrap();
        a.or(dword_ptr(rsp + 32), 1 << 16).unwrap();
        a.pop(rdx).unwrap();
        a.pop(rax).unwrap();
        a.iretq().unwrap();
    });
}

fn the_guests_own_breakpoints_reach_it(open: Open) {
    let Some(bench) = open(1) else { return };
    if !bench.vm.debug_means().watches {
        // As a debugger's.
        return;
    }
    reports_debug_exceptions(&bench);
    bench.load(CODE, 64, |a| {
        let mut here = a.create_label();
        a.lidt(ptr(IDTR)).unwrap();
        a.mov(rbx, CELL).unwrap();
        a.mov(dr0, rbx).unwrap();
        a.lea(rax, ptr(here)).unwrap();
        a.mov(dr3, rax).unwrap();
        // Number 0: writes of 4 bytes; number 3: code.
        a.mov(eax, 0x000d_0482).unwrap();
        a.mov(dr7, rax).unwrap();
        a.mov(ecx, dword_ptr(rbx)).unwrap();
        a.mov(dword_ptr(rbx + 4), 1).unwrap();
        a.mov(dword_ptr(rbx), 1).unwrap();
        out_value(a, REPORT, 0x100);
        a.set_label(&mut here).unwrap();
        a.nop().unwrap();
        out_value(a, REPORT, 0x200);
        a.mov(eax, 0x400).unwrap();
        a.mov(dr7, rax).unwrap();
        a.mov(dword_ptr(rbx), 2).unwrap();
        done(a);
    });
    let mut cpu = bench.boot_cpu(&long());
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    assert_eq!(bench.reports(), [1, 0x100, 8, 0x200]);
}

fn the_guests_debug_registers_are_its_own(open: Open) {
    let Some(bench) = open(1) else { return };
    bench.load(CODE, 64, |a| {
        a.mov(rbx, CELL).unwrap();
        a.mov(dr1, rbx).unwrap();
        a.mov(rax, dr1).unwrap();
        out(a, REPORT);
        a.mov(rax, dr7).unwrap();
        out(a, REPORT);
        done(a);
    });
    let mut cpu = bench.boot_cpu(&long());
    // Of the debugger's use of them the guest sees nothing.
    cpu.set_debug(&at(&[CODE + 10])).unwrap();
    assert_eq!(bench.run(&mut *cpu), BREAKPOINT);
    cpu.set_debug(&at(&[CODE])).unwrap();
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    assert_eq!(bench.reports(), [CELL, 0x400]);
    assert_eq!(cpu.registers().unwrap().dr[1], CELL);
}

fn a_plan_outlives_a_reset(open: Open) {
    let Some(bench) = open(1) else { return };
    two_reports(&bench);
    let mut cpu = bench.boot_cpu(&long());
    cpu.set_debug(&at(&[INC])).unwrap();
    cpu.reset(&long()).unwrap();
    assert_eq!(bench.run(&mut *cpu), BREAKPOINT);
    assert_eq!(rip(&mut *cpu), INC);
}
