//! Two CPUs: the second waits for INIT and SIPI.

use std::sync::mpsc;

use iced_x86::code_asm::*;
use minivmm::accel::{Exit, StartState};

use crate::bench::*;

on_each_accelerator! {
    the_second_cpu_starts_by_init_and_sipi,
}

const LAPIC_ICR: u64 = 0xfee0_0300;
const TRAMPOLINE: u64 = 0x8000;

/// Sends `command` to APIC id 1.
fn send_ipi(a: &mut CodeAssembler, command: u32) {
    a.mov(rbx, LAPIC_ICR).unwrap();
    a.mov(dword_ptr(rbx + 0x10), 1 << 24).unwrap();
    a.mov(dword_ptr(rbx), command).unwrap();
}

fn load_programs(bench: &Bench) {
    bench.load(TRAMPOLINE, 16, |a| {
        a.mov(eax, 1).unwrap();
        a.cpuid().unwrap();
        a.shr(ebx, 24).unwrap();
        a.mov(eax, ebx).unwrap();
        out(a, REPORT);
        a.mov(ax, cs).unwrap();
        a.movzx(eax, ax).unwrap();
        out(a, REPORT);
        done(a);
    });
    bench.load(CODE, 64, |a| {
        send_ipi(a, 0x4500);
        send_ipi(a, 0x4608);
        let mut wait = a.create_label();
        a.set_label(&mut wait).unwrap();
        a.pause().unwrap();
        a.jmp(wait).unwrap();
    });
}

fn the_second_cpu_starts_by_init_and_sipi(machine: Open) {
    let Some(bench) = machine(2) else { return };
    load_programs(&bench);
    let mut boot = bench.boot_cpu(&long());
    let (ready, is_ready) = mpsc::channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut cpu = bench.vm.create_vcpu(1).unwrap();
            bench.adopt(&mut *cpu);
            cpu.reset(&StartState::WaitForSipi).unwrap();
            ready.send(()).unwrap();
            bench.run(&mut *cpu)
        });
        is_ready.recv().unwrap();
        assert_eq!(bench.run(&mut *boot), Exit::Kicked);
        assert_eq!(second.join().unwrap(), Exit::Kicked);
    });
    assert_eq!(bench.reports(), [1, TRAMPOLINE >> 4]);
}
