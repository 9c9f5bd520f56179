//! Start states, shutdown, kicks, and reset back to power-on.

use std::time::Duration;

use iced_x86::code_asm::*;
use minivmm::accel::{Exit, StartState, Vcpu};

use crate::bench::*;

on_each_accelerator! {
    every_start_state_has_its_registers,
    a_kick_ends_a_run,
    a_kick_between_runs_ends_the_next_one,
    a_halted_cpu_can_be_kicked,
    a_triple_fault_is_a_shutdown_and_a_reset_starts_again,
    nothing_survives_a_reset,
    a_waiting_cpu_comes_back_when_kicked,
    a_guest_s_time_stands_still_while_the_machine_is_paused,
}

/// Reports RSI, RBX, RAX and RFLAGS as the program was entered with.
fn report_entry(a: &mut CodeAssembler) {
    a.mov(ecx, eax).unwrap();
    for register in [esi, ebx, ecx] {
        a.mov(eax, register).unwrap();
        out(a, REPORT);
    }
}

fn every_start_state_has_its_registers(machine: Open) {
    for (start, bits) in [(long(), 64), (protected(), 32), (real(), 16)] {
        let Some(bench) = machine(1) else { return };
        bench.load(CODE, bits, |a| {
            report_entry(a);
            a.mov(eax, esp).unwrap();
            out(a, REPORT);
            done(a);
        });
        assert_eq!(bench.run_program(&start), [0x1234_5678, 0x9abc_def0, 0x2bad_b002, 0xf000], "{start:?}");
    }
}

fn spin(bench: &Bench) {
    bench.load(CODE, 64, |a| {
        let mut spin = a.create_label();
        a.set_label(&mut spin).unwrap();
        a.jmp(spin).unwrap();
    });
}

fn a_kick_ends_a_run(machine: Open) {
    let Some(bench) = machine(1) else { return };
    spin(&bench);
    let mut cpu = bench.boot_cpu(&long());
    let kicker = cpu.kicker().unwrap();
    let other = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            kicker.kick();
        }
    });
    assert_eq!(cpu.run(&bench.dyn_bus()).unwrap(), Exit::Kicked);
    other.join().unwrap();
}

fn a_kick_between_runs_ends_the_next_one(machine: Open) {
    let Some(bench) = machine(1) else { return };
    spin(&bench);
    let mut cpu = bench.boot_cpu(&long());
    let kicker = cpu.kicker().unwrap();
    for _ in 0..50 {
        kicker.kick();
        assert_eq!(cpu.run(&bench.dyn_bus()).unwrap(), Exit::Kicked);
    }
    kicker.kick();
    cpu.reset(&long()).unwrap();
    assert_eq!(cpu.run(&bench.dyn_bus()).unwrap(), Exit::Kicked);
}

fn a_halted_cpu_can_be_kicked(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        out_value(a, REPORT, 1);
        a.cli().unwrap();
        a.hlt().unwrap();
    });
    let mut cpu = bench.boot_cpu(&long());
    let kicker = cpu.kicker().unwrap();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        kicker.kick();
    });
    let exit = cpu.run(&bench.dyn_bus()).unwrap();
    assert!(matches!(exit, Exit::Kicked | Exit::Halted), "{exit:?}");
    other.join().unwrap();
}

fn a_triple_fault_is_a_shutdown_and_a_reset_starts_again(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        out_value(a, REPORT, 7);
        a.ud2().unwrap();
    });
    let mut cpu = bench.boot_cpu(&long());
    for runs in 1..=3 {
        assert_eq!(bench.run(&mut *cpu), Exit::Shutdown);
        assert_eq!(bench.reports(), vec![7; runs]);
        bench.vm.reset().unwrap();
        cpu.reset(&long()).unwrap();
    }
}

fn nothing_survives_a_reset(machine: Open) {
    const LSTAR: u32 = 0xc000_0082;
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        a.mov(r9, cr2).unwrap();
        a.mov(r10, dr0).unwrap();
        a.mov(ecx, LSTAR).unwrap();
        a.rdmsr().unwrap();
        for register in [eax, r8d, r9d, r10d, r15d] {
            a.mov(eax, register).unwrap();
            out(a, REPORT);
        }
        a.mov(rbx, 0xfee0_00f0_u64).unwrap();
        a.mov(eax, dword_ptr(rbx)).unwrap();
        out(a, REPORT);
        a.mov(dword_ptr(rbx), 0x155).unwrap();
        a.mov(eax, 0x5555).unwrap();
        a.xor(edx, edx).unwrap();
        a.wrmsr().unwrap();
        a.mov(r8, rax).unwrap();
        a.mov(r15, rax).unwrap();
        a.mov(cr2, rax).unwrap();
        a.mov(dr0, rax).unwrap();
        done(a);
    });
    let mut cpu = bench.boot_cpu(&long());
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    cpu.reset(&long()).unwrap();
    // The run ended by DONE, which stays set, so this one ends at its own kick.
    assert_eq!(bench.run(&mut *cpu), Exit::Kicked);
    let reports = bench.reports();
    let (first, second) = reports.split_at(6);
    assert_eq!(first, [0, 0, 0, 0, 0, 0x1ff]);
    assert_eq!(second, first);
}

fn a_waiting_cpu_comes_back_when_kicked(machine: Open) {
    let Some(bench) = machine(2) else { return };
    let mut cpu = bench.vm.create_vcpu(1).unwrap();
    cpu.reset(&StartState::WaitForSipi).unwrap();
    let kicker = cpu.kicker().unwrap();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        kicker.kick();
    });
    assert_eq!(cpu.run(&bench.dyn_bus()).unwrap(), Exit::Kicked);
    other.join().unwrap();
}

/// By the time-stamp counter, which the guest writes to memory as fast as it can. The pause is longer than a second:
/// docs/monitor.md tells what KVM makes of shorter ones.
fn a_guest_s_time_stands_still_while_the_machine_is_paused(machine: Open) {
    const AT: u64 = 0x8000;
    const LONG: Duration = Duration::from_millis(1500);
    let Some(bench) = machine(1) else { return };
    bench.load(CODE, 64, |a| {
        a.mov(r8, AT).unwrap();
        let mut again = a.create_label();
        a.set_label(&mut again).unwrap();
        a.rdtsc().unwrap();
        a.shl(rdx, 32).unwrap();
        a.or(rax, rdx).unwrap();
        a.mov(qword_ptr(r8), rax).unwrap();
        a.jmp(again).unwrap();
    });
    let mut cpu = bench.boot_cpu(&long());
    let kicker = cpu.kicker().unwrap();
    let time = |cpu: &mut dyn Vcpu| {
        let kicker = kicker.clone();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            kicker.kick();
        });
        assert_eq!(cpu.run(&bench.dyn_bus()).unwrap(), Exit::Kicked);
        other.join().unwrap();
        let mut counter = [0; 8];
        bench.ram.read(AT, &mut counter).unwrap();
        u64::from_le_bytes(counter)
    };
    let before = time(&mut *cpu);
    std::thread::sleep(LONG);
    let between = time(&mut *cpu);
    // In the order in which the machine does it.
    cpu.pause().unwrap();
    bench.vm.pause().unwrap();
    bench.clock.pause();
    std::thread::sleep(LONG);
    bench.clock.resume();
    bench.vm.resume().unwrap();
    cpu.resume().unwrap();
    let after = time(&mut *cpu);
    let (ran, stood) = (between - before, after - between);
    assert!(after > between);
    // The CPU is a moment old.
    if before > 20 * ran {
        println!("KVM gives guests the host's own time-stamp counter, which nobody can stop");
        return;
    }
    assert!(stood < ran / 2, "{stood} ticks in a pause as long as {ran}");
}
