//! Interrupt lines through PIC and IOAPIC, messages, and HLT that waits for them.

use iced_x86::code_asm::*;

use crate::bench::*;

on_each_accelerator! {
    a_line_reaches_the_boot_cpu_through_the_pic,
    a_level_through_the_ioapic_comes_back_until_it_is_lowered,
    a_message_wakes_a_halted_cpu,
    interrupts_inside_a_string_instruction_lose_nothing,
}

const HANDLER: u64 = 0x1_8000;
const LAPIC: u64 = 0xfee0_0000;
const IOAPIC: u64 = 0xfec0_0000;

/// Reports `value`, then acknowledges at the local APIC.
fn apic_handler(a: &mut CodeAssembler, value: u32) {
    a.push(rax).unwrap();
    a.push(rdx).unwrap();
    a.push(rbx).unwrap();
    out_value(a, REPORT, value);
    a.mov(rbx, LAPIC + 0xb0).unwrap();
    a.mov(dword_ptr(rbx), 0).unwrap();
    a.pop(rbx).unwrap();
    a.pop(rdx).unwrap();
    a.pop(rax).unwrap();
    a.iretq().unwrap();
}

fn a_line_reaches_the_boot_cpu_through_the_pic(machine: Open) {
    let Some(bench) = machine(1) else { return };
    // Vector 0x24: IRQ 4 with base 0x20.
    bench.ram.write(0x24 * 4, &[0x00, 0x80, 0x00, 0x10]).unwrap();
    bench.load(HANDLER, 16, |a| {
        out_value(a, LOWER, 4);
        out_value(a, REPORT, 0x24);
        a.mov(al, 0x20).unwrap();
        a.out(0x20, al).unwrap();
        a.iret().unwrap();
    });
    bench.load(CODE, 16, |a| {
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xef)] {
            a.mov(al, value).unwrap();
            a.out(port, al).unwrap();
        }
        for _ in 0..2 {
            out_value(a, RAISE, 4);
            a.sti().unwrap();
            a.hlt().unwrap();
            a.cli().unwrap();
            out_value(a, REPORT, 1);
        }
        done(a);
    });
    assert_eq!(bench.run_program(&real()), [0x24, 1, 0x24, 1]);
}

fn a_level_through_the_ioapic_comes_back_until_it_is_lowered(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.gate(0x51, HANDLER);
    bench.load(HANDLER, 64, |a| {
        // The second time, the device is served.
        let mut again = a.create_label();
        a.inc(r12d).unwrap();
        a.cmp(r12d, 2).unwrap();
        a.jne(again).unwrap();
        out_value(a, LOWER, 11);
        a.set_label(&mut again).unwrap();
        apic_handler(a, 0x51);
    });
    bench.load(CODE, 64, |a| {
        a.lidt(ptr(IDTR)).unwrap();
        a.xor(r12d, r12d).unwrap();
        // The PIC's inputs are the same lines: masked, as kernels do.
        a.mov(al, 0xff).unwrap();
        a.out(0x21, al).unwrap();
        a.out(0xa1, al).unwrap();
        a.mov(rbx, LAPIC + 0xf0).unwrap();
        a.mov(dword_ptr(rbx), 0x1ff).unwrap();
        a.mov(rbx, IOAPIC).unwrap();
        // Pin 11: level, vector 0x51, CPU 0.
        for (index, value) in [(0x10 + 2 * 11 + 1, 0), (0x10 + 2 * 11, 0x8051)] {
            a.mov(dword_ptr(rbx), index).unwrap();
            a.mov(dword_ptr(rbx + 0x10), value).unwrap();
        }
        out_value(a, RAISE, 11);
        a.sti().unwrap();
        let mut wait = a.create_label();
        a.set_label(&mut wait).unwrap();
        a.cmp(r12d, 2).unwrap();
        a.jb(wait).unwrap();
        a.cli().unwrap();
        out_value(a, REPORT, 2);
        done(a);
    });
    assert_eq!(bench.run_program(&long()), [0x51, 0x51, 2]);
}

fn a_message_wakes_a_halted_cpu(machine: Open) {
    let Some(bench) = machine(1) else { return };
    bench.gate(0x61, HANDLER);
    bench.load(HANDLER, 64, |a| apic_handler(a, 0x61));
    bench.load(CODE, 64, |a| {
        a.lidt(ptr(IDTR)).unwrap();
        a.mov(rbx, LAPIC + 0xf0).unwrap();
        a.mov(dword_ptr(rbx), 0x1ff).unwrap();
        out_value(a, MESSAGE, 0x61);
        a.sti().unwrap();
        a.hlt().unwrap();
        out_value(a, REPORT, 1);
        done(a);
    });
    assert_eq!(bench.run_program(&long()), [0x61, 1]);
}

/// CLAC, as a kernel's handlers begin where the processor has SMAP.
fn clac_if_there(a: &mut CodeAssembler) {
    let smap = std::arch::x86_64::__cpuid_count(7, 0).ebx >> 20 & 1;
    if smap == 1 {
        a.clac().unwrap();
    }
}

fn interrupts_inside_a_string_instruction_lose_nothing(machine: Open) {
    const LEN: u32 = 0x1_0000;
    const TIMES: u32 = 8;
    let Some(bench) = machine(1) else { return };
    bench.gate(0x71, HANDLER);
    bench.load(HANDLER, 64, |a| {
        clac_if_there(a);
        a.push(rbx).unwrap();
        a.mov(rbx, LAPIC + 0xb0).unwrap();
        a.mov(dword_ptr(rbx), 0).unwrap();
        a.inc(r13d).unwrap();
        a.pop(rbx).unwrap();
        a.iretq().unwrap();
    });
    bench.load(CODE, 64, |a| {
        let mut again = a.create_label();
        a.lidt(ptr(IDTR)).unwrap();
        a.xor(r13d, r13d).unwrap();
        // Local APIC on; timer periodic, vector 71h, 1 ms where its crystal has 1 GHz.
        a.mov(rbx, LAPIC).unwrap();
        for (offset, value) in [(0xf0, 0x1ff), (0x320, 0x2_0071), (0x3e0, 0xb), (0x380, 1_000_000)] {
            a.mov(dword_ptr(rbx + offset), value).unwrap();
        }
        a.sti().unwrap();
        a.mov(r12d, TIMES).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(edi, 0x40_0000).unwrap();
        a.mov(ecx, LEN).unwrap();
        a.mov(eax, r12d).unwrap();
        a.rep().stosb().unwrap();
        a.mov(esi, 0x40_0000).unwrap();
        a.mov(edi, 0x50_0000).unwrap();
        a.mov(ecx, LEN / 8).unwrap();
        a.rep().movsq().unwrap();
        a.lea(eax, dword_ptr(rdi + rcx)).unwrap();
        out(a, REPORT);
        a.dec(r12d).unwrap();
        a.jne(again).unwrap();
        a.cli().unwrap();
        done(a);
    });
    assert_eq!(bench.run_program(&long()), vec![0x50_0000 + u64::from(LEN); TIMES as usize]);
    let mut copied = vec![0; LEN as usize + 1];
    bench.ram.read(0x50_0000, &mut copied).unwrap();
    assert!(copied[..LEN as usize].iter().all(|b| *b == 1) && copied[LEN as usize] == 0);
}
