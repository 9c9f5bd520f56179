//! System instructions and exceptions: a table of short programs, each run on soft and on KVM, everything that the guest
//! can see compared.
//!
//! A program runs at CPL 0 or 3 and ends with a fault or with [`done`]; the handlers of all vectors report vector, error
//! code, and the frame. Where the two disagree without a row in [`KNOWN`], the test fails and prints both; the SDM
//! decides who is wrong.

use iced_x86::code_asm::*;
use minivmm::accel::Exit;

use crate::bench::*;
use crate::processor;

mod control;
mod paging;
mod segments;
mod transfers;
mod user;

/// Where a program starts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    /// 64-bit code at CPL 0.
    Kernel,
    /// 64-bit code at CPL 3.
    User,
    /// 32-bit code at CPL 3 in compatibility mode.
    Compat,
}
use Level::{Compat, Kernel, User};

/// Name, level, the values that it is run with, and the program for one of them.
struct Row(&'static str, Level, &'static [u64], fn(&mut CodeAssembler, u64) -> Built);

/// For programs without a value.
const ONCE: &[u64] = &[0];

const TABLE: [&[Row]; 5] = [control::ROWS, segments::ROWS, transfers::ROWS, paging::ROWS, user::ROWS];

/// Disagreements of KVM with the SDM, by row: seen on a host without hardware virtualisation, where KVM emulates CPL 0.
const KNOWN: &[(&str, &str)] = &[
    ("CR0 bit 32", "not checked"),
    ("CR4 reserved bit", "not checked"),
    ("MSR TSC_AUX", "absent, though CPUID tells of RDTSCP"),
    ("MSR PAT of a reserved type", "not checked"),
    ("WRFSBASE without CR4.FSGSBASE", "done, for the host's CR4 has it"),
    ("LTR 0x44", "error code 0; SDM vol. 2, LTR: #GP(selector)"),
    ("IRETQ CS 0x18", "CS is not checked"),
    ("IRETQ CS 0x40", "CS is not checked"),
    ("IRETQ CS 0x98", "CS is not checked"),
    ("IRETQ to a RIP not canonical", "the fault comes after the return"),
    ("IRETQ to user, SS 0x38", "SDM vol. 2, IRET: RPL and DPL are checked before P"),
    ("IRETQ SS 0x50", "SS is not checked"),
    ("IRETQ to user, flags", "IOPL and NT are lost"),
    ("IRETD", "#GP; SDM vol. 2, IRET: in 64-bit mode SS:ESP is popped at each size"),
    ("INT 0x21", "the fault's frame has the RIP behind INT, and RF clear"),
    ("INT 0x42", "the fault's frame has the RIP behind INT, and RF clear"),
    ("user INT 0x20", USER_INT),
    ("user INT 0x21", USER_INT),
    ("user INT 0x23", USER_INT),
    ("user INT 0x42", USER_INT),
    ("user INT 0x24", USER_INT),
    ("user INT 0xd", USER_INT),
    ("user INT 0x22", USER_INT),
    ("compat INT3", USER_INT),
    ("compat INTO", USER_INT),
    ("compat BOUND", USER_INT),
    ("compat INT DPL 3", USER_INT),
    ("compat INT DPL 0", USER_INT),
    ("user XSETBV", "CPL 3 runs with the host's CR4.OSXSAVE; #UD without it"),
    ("compat IRETD", "#GP"),
    ("DR7.GD", "RF clear; SDM vol. 3, 18.3.1.1: set for every fault but an instruction breakpoint"),
    ("TF over MOV SS", "SDM vol. 3, 6.8.3: no trap before the next instruction is complete"),
];
const USER_INT: &str = "software interrupts from CPL 3 are #UD";

/// In kernel memory, for SMAP.
const GDT: u64 = KERNEL + 0x4_1000;
const IDT: u64 = KERNEL + 0x4_4000;
const TSS: u64 = KERNEL + 0x4_5000;
const LDT: u64 = KERNEL + 0x4_5800;
/// Operands of LGDT, LIDT.
const GDTR: u64 = 0x6000;
const IDTR: u64 = 0x6010;
const PROGRAM: u64 = KERNEL + 0x8000;
const STUBS: u64 = KERNEL + 0x1_0000;
const REPORTER: u64 = KERNEL + 0x1_4000;
const TARGET: u64 = KERNEL + 0x1_8000;
const STACKS: u64 = KERNEL + 0x2_0000;
const USER: u64 = 0x3_0000;
const USER_STACK: u64 = 0x4_0000;
/// Free memory: the user's, the kernel's.
const DATA: u64 = 0x5_0000;
/// A page with a page table of its own, in the 2 MiB at [`PT_SPAN`]; its entry is at [`PTE`].
const PT_SPAN: u64 = 0x60_0000;
const PT: u64 = KERNEL + 0x3_0000;
const PTE: u64 = PT + 8;
const PAGE: u64 = PT_SPAN + 0x1000;
/// Where the bench's page directory has the entry of [`PT_SPAN`].
const PDE: u64 = 0x2_0000 + 0x2000 + (PT_SPAN >> 21) * 8;
const NOT_CANONICAL: u64 = 0x0000_8000_0000_0000;

const GDT_ENTRIES: [u64; 20] = [
    0,
    0x00cf_9b00_0000_ffff, // 08: 32-bit code
    0x00af_9b00_0000_ffff, // 10: 64-bit code
    0x00cf_9300_0000_ffff, // 18: data
    0x00cf_fb00_0000_ffff, // 20: user 32-bit code
    0x00cf_f300_0000_ffff, // 28: user data
    0x00af_fb00_0000_ffff, // 30: user 64-bit code
    0x00cf_1300_0000_ffff, // 38: data, not present
    0x0000_8924_5000_0fff, // 40: TSS
    0,
    0x00cf_9100_0000_ffff, // 50: read-only data
    0x00af_9f00_0000_ffff, // 58: conforming 64-bit code
    0x00af_1b00_0000_ffff, // 60: 64-bit code, not present
    0x0000_8224_5800_001f, // 68: LDT
    0,
    0x0040_f300_0000_0fff, // 78: user data of 4 KiB
    0x00cf_9900_0000_ffff, // 80: execute-only code
    0x0000_0924_5000_0fff, // 88: TSS, not present
    0,
    0x00ef_9b00_0000_ffff, // 98: code with both L and D
];

fn set_up(bench: &Bench) {
    let put = |at: u64, value: u64| bench.ram.write(at, &value.to_le_bytes()).unwrap();
    for (n, d) in GDT_ENTRIES.iter().enumerate() {
        put(GDT + 8 * n as u64, *d);
    }
    put(LDT + 8, 0x00cf_f300_0000_ffff);
    for (at, limit, base) in [(GDTR, 8 * GDT_ENTRIES.len() as u64 - 1, GDT), (IDTR, 0x42 * 16 - 1, IDT)] {
        put(at, limit);
        put(at + 2, base);
    }
    // RSP0, IST1; the I/O map is beyond the limit.
    put(TSS + 4, STACKS + 0x1000);
    put(TSS + 36, STACKS + 0x2000);
    bench.ram.write(TSS + 102, &[0xff, 0xff]).unwrap();
    put(PT, 7);
    put(PTE, (PT_SPAN + 0x1000) | 7);
    put(PDE, PT | 7);
    for vector in 0..0x42 {
        let stub = STUBS + 64 * vector;
        let attributes: u64 = match vector {
            3 | 4 => 0xee00,
            0x20 => 0x8e01,
            0x21 => 0x0e00,
            0x22 => 0xee00,
            0x23 => 0x8f00,
            _ => 0x8e00,
        };
        put(IDT + 16 * vector, (stub & 0xffff) | 0x10 << 16 | attributes << 32 | (stub >> 16 & 0xffff) << 48);
        put(IDT + 16 * vector + 8, stub >> 32);
        bench.load(stub, 64, |a| {
            if !matches!(vector, 8 | 10..=14 | 17) {
                a.push(-1).unwrap();
            }
            a.push(vector as i32).unwrap();
            a.jmp(REPORTER).unwrap();
        });
    }
    // Vector, error code, RIP, CS, RFLAGS without status flags, RSP, SS; what is in SS and RSP now; CR2, DR6.
    bench.load(REPORTER, 64, |a| {
        for n in 0..7 {
            a.mov(eax, dword_ptr(rsp + 8 * n)).unwrap();
            if n == 4 {
                a.and(eax, 0x003f_f700).unwrap();
            }
            out(a, REPORT);
        }
        a.mov(eax, ss).unwrap();
        out(a, REPORT);
        a.mov(rax, rsp).unwrap();
        out(a, REPORT);
        let (mut debug, mut end) = (a.create_label(), a.create_label());
        a.cmp(dword_ptr(rsp), 1).unwrap();
        a.je(debug).unwrap();
        a.cmp(dword_ptr(rsp), 14).unwrap();
        a.jne(end).unwrap();
        a.mov(rax, cr2).unwrap();
        out(a, REPORT);
        a.jmp(end).unwrap();
        a.set_label(&mut debug).unwrap();
        a.mov(rax, dr6).unwrap();
        out(a, REPORT);
        a.set_label(&mut end).unwrap();
        done(a);
    });
    // Where programs jump and return to: reports CS.
    bench.load(TARGET, 64, |a| {
        a.mov(eax, cs).unwrap();
        out(a, REPORT);
        done(a);
    });
}

/// Starts `row`'s program and gives what was seen: how the run ended, and the reports.
fn observe(machine: Open, Row(_, level, _, program): &Row, value: u64) -> Option<(Exit, Vec<u64>)> {
    let bench = machine(1)?;
    set_up(&bench);
    bench.load(CODE, 64, |a| {
        a.lgdt(ptr(GDTR)).unwrap();
        a.lidt(ptr(IDTR)).unwrap();
        a.mov(eax, 0x40).unwrap();
        a.ltr(ax).unwrap();
        a.mov(eax, 0x18).unwrap();
        a.mov(ss, eax).unwrap();
        a.mov(rsp, STACKS + 0x800).unwrap();
        wrmsr(a, EFER, 0xd01).unwrap();
        wrmsr(a, STAR, 0x0020_0010 << 32).unwrap();
        wrmsr(a, LSTAR, TARGET).unwrap();
        wrmsr(a, SFMASK, 0x4_7700).unwrap();
        let (code, stack) = match level {
            Kernel => (0x10, None),
            User => (0x33, Some(0x2b)),
            Compat => (0x23, Some(0x2b)),
        };
        match stack {
            None => {
                a.mov(rax, PROGRAM).unwrap();
                a.jmp(rax).unwrap();
            }
            Some(data) => {
                a.push(data).unwrap();
                a.push(USER_STACK as i32).unwrap();
                a.push(0x2).unwrap();
                a.push(code).unwrap();
                a.push(USER as i32).unwrap();
                a.mov(eax, data).unwrap();
                a.mov(ds, eax).unwrap();
                a.mov(es, eax).unwrap();
                a.iretq().unwrap();
            }
        }
    });
    let (at, bits) = match level {
        Kernel => (PROGRAM, 64),
        User => (USER, 64),
        Compat => (USER, 32),
    };
    // Where some programs return to.
    bench.ram.write(USER + 0x800, &[0x0f, 0x0b]).unwrap();
    bench.ram.write(USER + 0x900, &[0x0f, 0x0b]).unwrap();
    bench.load(at, bits, |a| {
        program(a, value).unwrap();
        if *level == Kernel {
            done(a);
        } else {
            a.ud2().unwrap();
        }
    });
    let mut cpu = bench.boot_cpu(&long());
    let exit = bench.run(&mut *cpu);
    Some((exit, bench.reports()))
}

#[test]
fn soft_and_kvm_agree() {
    let mut wrong = Vec::new();
    let mut programs = 0;
    for row in TABLE.into_iter().flatten() {
        for &value in row.2 {
            let Some(on_soft) = observe(soft, row, value) else { return };
            let Some(on_kvm) = observe(kvm, row, value) else { return };
            programs += 1;
            let name = if row.2.len() == 1 { row.0.to_string() } else { format!("{} {value:#x}", row.0) };
            let known = KNOWN.iter().find(|(known, _)| *known == name);
            match (on_soft == on_kvm, known) {
                (true, None) => {}
                (false, Some((_, why))) => println!("{name}: KVM differs, known: {why}"),
                (true, Some(_)) => println!("{name}: known to differ, but does not on this host"),
                (false, None) => wrong.push(format!("{name}\n  soft {on_soft:x?}\n  kvm  {on_kvm:x?}")),
            }
        }
    }
    wrong.iter().for_each(|one| println!("{one}"));
    // One in a thousand would be none of so few: on a processor of another make one program in twenty may.
    assert!(
        wrong.is_empty() || processor::may_disagree(wrong.len() as u64, 50 * programs),
        "{} of {programs} programs differ",
        wrong.len()
    );
}

const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const SFMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

type Built = Result<(), IcedError>;

fn wrmsr(a: &mut CodeAssembler, msr: u32, value: u64) -> Built {
    a.mov(ecx, msr)?;
    a.mov(eax, value as u32)?;
    a.mov(edx, (value >> 32) as u32)?;
    a.wrmsr()
}

fn rdmsr(a: &mut CodeAssembler, msr: u32) -> Built {
    a.mov(ecx, msr)?;
    a.rdmsr()?;
    a.mov(ebx, edx)?;
    out(a, REPORT);
    a.mov(eax, ebx)?;
    out(a, REPORT);
    Ok(())
}

/// Writes, reads back, reports.
fn msr(a: &mut CodeAssembler, msr: u32, value: u64) -> Built {
    wrmsr(a, msr, value)?;
    rdmsr(a, msr)
}

/// Reports ZF and ECX.
fn zf_and_ecx(a: &mut CodeAssembler) -> Built {
    a.setz(al)?;
    a.movzx(eax, al)?;
    out(a, REPORT);
    a.mov(eax, ecx)?;
    out(a, REPORT);
    Ok(())
}

/// A frame for IRETQ, then IRETQ.
fn iretq(a: &mut CodeAssembler, to: u64, code: i32, flags: i32, stack: u64, data: i32) -> Built {
    a.push(data)?;
    a.mov(rax, stack)?;
    a.push(rax)?;
    a.push(flags)?;
    a.push(code)?;
    a.mov(rax, to)?;
    a.push(rax)?;
    a.iretq()
}

fn report_rax(a: &mut CodeAssembler) -> Built {
    out(a, REPORT);
    Ok(())
}

/// CR`n` with bits set and cleared.
fn change_cr0(a: &mut CodeAssembler, set: u32, clear: u32) -> Built {
    a.mov(rax, cr0)?;
    a.or(eax, set as i32)?;
    a.and(eax, !clear as i32)?;
    a.mov(cr0, rax)
}

fn change_cr4(a: &mut CodeAssembler, set: u32, clear: u32) -> Built {
    a.mov(rax, cr4)?;
    a.or(eax, set as i32)?;
    a.and(eax, !clear as i32)?;
    a.mov(cr4, rax)
}

const NX: u64 = 1 << 63;
/// An address bit beyond those of any processor.
const RESERVED: u64 = 1 << 51;

/// Gives the entry of [`PAGE`] these bits and drops its translation.
fn map_page(a: &mut CodeAssembler, bits: u64) -> Built {
    a.mov(rax, (PT_SPAN + 0x1000) | bits)?;
    a.mov(rbx, PTE)?;
    a.mov(qword_ptr(rbx), rax)?;
    a.mov(rbx, PAGE)?;
    a.invlpg(byte_ptr(rbx))
}

/// Reports the low word of the entry of [`PAGE`].
fn report_entry(a: &mut CodeAssembler) -> Built {
    a.mov(rbx, PTE)?;
    a.mov(eax, dword_ptr(rbx))?;
    report_rax(a)
}

/// Runs a decimal instruction with AX in bits 8 and up of `v` and flags below; AX and the defined flags go to ESP, which
/// the frame of the #UD shows.
fn decimal(a: &mut CodeAssembler, v: u64, run: fn(&mut CodeAssembler) -> Built) -> Built {
    a.push(v as i32 & 0xff)?;
    a.mov(eax, (v >> 8) as u32)?;
    a.popfd()?;
    run(a)?;
    a.mov(ebx, eax)?;
    a.lahf()?;
    a.movzx(eax, ah)?;
    // CF and AF only: the others follow from the result, or are undefined.
    a.and(eax, 0x11)?;
    a.shl(eax, 16)?;
    a.lea(esp, ptr(eax + ebx))?;
    a.ud2()
}
