//! The way from user to kernel and back: SYSCALL, SYSRET, and page faults that are none of SYSCALL's.

use iced_x86::code_asm::*;

use crate::bench::*;

on_each_accelerator! {
    syscall_enters_the_kernel_and_sysret_comes_back,
    a_user_fault_is_no_syscall,
    a_user_jump_to_the_kernel_entry_is_no_syscall,
}

const USER: u64 = 0x3_0000;
const ENTRY: u64 = KERNEL;
const FAULT: u64 = KERNEL + 0x1000;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const SFMASK: u32 = 0xc000_0084;
const EFER: u32 = 0xc000_0080;

fn wrmsr(a: &mut CodeAssembler, msr: u32, value: u64) {
    a.mov(ecx, msr).unwrap();
    a.mov(eax, value as u32).unwrap();
    a.mov(edx, (value >> 32) as u32).unwrap();
    a.wrmsr().unwrap();
}

/// Sets up SYSCALL, then goes to [`USER`] at CPL 3 by SYSRET.
fn load_kernel(bench: &Bench) {
    // RSP0 of the task state segment at 0.
    bench.ram.write(4, &0xe000_u64.to_le_bytes()).unwrap();
    bench.gate(14, FAULT);
    bench.load(CODE, 64, |a| {
        a.lidt(ptr(IDTR)).unwrap();
        wrmsr(a, EFER, 0x501);
        wrmsr(a, STAR, 0x0023_0010 << 32);
        // As Linux sets it.
        wrmsr(a, SFMASK, 0x25_7fd5);
        wrmsr(a, LSTAR, ENTRY);
        a.mov(ecx, USER as u32).unwrap();
        a.mov(r11d, 0x202).unwrap();
        a.sysretq().unwrap();
    });
    // Reports RAX, CS, RCX and R11; RAX 2 ends, all else returns.
    bench.load(ENTRY, 64, |a| {
        let mut back = a.create_label();
        out(a, REPORT);
        a.mov(r8d, eax).unwrap();
        a.mov(ax, cs).unwrap();
        a.movzx(eax, ax).unwrap();
        out(a, REPORT);
        for register in [ecx, r11d] {
            a.mov(eax, register).unwrap();
            out(a, REPORT);
        }
        a.cmp(r8d, 2).unwrap();
        a.jne(back).unwrap();
        done(a);
        a.set_label(&mut back).unwrap();
        a.sysretq().unwrap();
    });
    // Reports the error code and CR2, then ends.
    bench.load(FAULT, 64, |a| {
        a.pop(rax).unwrap();
        out(a, REPORT);
        a.mov(rax, cr2).unwrap();
        out(a, REPORT);
        done(a);
    });
}

fn syscall_enters_the_kernel_and_sysret_comes_back(machine: Open) {
    let Some(bench) = machine(1) else { return };
    load_kernel(&bench);
    bench.load(USER, 64, |a| {
        a.mov(eax, 1).unwrap();
        a.syscall().unwrap();
        a.mov(eax, 2).unwrap();
        a.syscall().unwrap();
    });
    let expected = [1, 0x10, USER + 7, 0x202, 2, 0x10, USER + 14, 0x202];
    assert_eq!(bench.run_program(&long()), expected);
}

fn a_user_fault_is_no_syscall(machine: Open) {
    let Some(bench) = machine(1) else { return };
    load_kernel(&bench);
    bench.load(USER, 64, |a| {
        a.mov(rbx, KERNEL + 0x5000).unwrap();
        a.mov(dword_ptr(rbx), eax).unwrap();
    });
    assert_eq!(bench.run_program(&long()), [7, KERNEL + 0x5000]);
}

fn a_user_jump_to_the_kernel_entry_is_no_syscall(machine: Open) {
    let Some(bench) = machine(1) else { return };
    load_kernel(&bench);
    bench.load(USER, 64, |a| {
        a.mov(rbx, ENTRY).unwrap();
        a.jmp(rbx).unwrap();
    });
    let reports = bench.run_program(&long());
    // The fetch bit shows only with NX or SMEP on.
    assert!(matches!(reports[..], [5 | 0x15, ENTRY]), "{reports:x?}");
}
