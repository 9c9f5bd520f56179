//! Rows of `system.rs`: control, debug and model-specific registers.

use super::*;

pub(super) const ROWS: &[Row] = &[
    Row("CR0.TS set and CLTS", Kernel, ONCE, |a, _| {
        change_cr0(a, 8, 0)?;
        a.mov(rax, cr0)?;
        a.and(eax, 0x3f)?;
        report_rax(a)?;
        a.clts()?;
        a.mov(rax, cr0)?;
        a.and(eax, 0x3f)?;
        report_rax(a)
    }),
    Row("x87 with CR0.TS", Kernel, ONCE, |a, _| {
        change_cr0(a, 8, 0)?;
        a.fld1()
    }),
    Row("WAIT with CR0.TS and MP", Kernel, ONCE, |a, _| {
        change_cr0(a, 10, 0)?;
        a.wait()
    }),
    Row("SMSW and LMSW", Kernel, ONCE, |a, _| {
        a.mov(eax, 8)?;
        a.lmsw(ax)?;
        a.smsw(eax)?;
        a.and(eax, 0x3f)?;
        report_rax(a)?;
        a.xor(eax, eax)?;
        a.lmsw(ax)?;
        a.smsw(eax)?;
        a.and(eax, 0x31)?;
        report_rax(a)
    }),
    Row("CR0.PG without PE", Kernel, ONCE, |a, _| change_cr0(a, 0, 1)),
    Row("CR0.PG off in 64-bit mode", Kernel, ONCE, |a, _| change_cr0(a, 0, 0x8000_0000)),
    Row("CR0.NW without CD", Kernel, ONCE, |a, _| change_cr0(a, 0x2000_0000, 0x4000_0000)),
    Row("CR0 bit 32", Kernel, ONCE, |a, _| {
        a.mov(rax, cr0)?;
        a.bts(rax, 32)?;
        a.mov(cr0, rax)
    }),
    Row("CR4 reserved bit", Kernel, ONCE, |a, _| {
        a.mov(rax, cr4)?;
        a.bts(rax, 40)?;
        a.mov(cr4, rax)
    }),
    Row("CR4.PAE off in 64-bit mode", Kernel, ONCE, |a, _| change_cr4(a, 0, 0x20)),
    Row("CR4.VME in 64-bit mode", Kernel, ONCE, |a, _| {
        change_cr4(a, 1, 0)?;
        a.mov(rax, cr4)?;
        a.and(eax, 1)?;
        report_rax(a)
    }),
    Row("CR3 reserved bit", Kernel, ONCE, |a, _| {
        a.mov(rax, cr3)?;
        a.bts(rax, 62)?;
        a.mov(cr3, rax)
    }),
    Row("CR8", Kernel, &[0x5, 0xf, 0x10], |a, v| {
        a.mov(eax, v as u32)?;
        a.mov(cr8, rax)?;
        a.xor(eax, eax)?;
        a.mov(rax, cr8)?;
        report_rax(a)
    }),
    Row("CR1", Kernel, ONCE, |a, _| a.db(&[0x0f, 0x20, 0xc8])),
    Row("CR5 write", Kernel, ONCE, |a, _| a.db(&[0x0f, 0x22, 0xe8])),
    Row("DR0 and DR7", Kernel, ONCE, |a, _| {
        a.mov(eax, 0x1234)?;
        a.mov(dr0, rax)?;
        a.mov(rax, dr0)?;
        report_rax(a)?;
        a.mov(rax, dr7)?;
        report_rax(a)
    }),
    Row("DR7 bit 32", Kernel, ONCE, |a, _| {
        a.mov(rax, 1_u64 << 32)?;
        a.mov(dr7, rax)
    }),
    Row("DR6 bit 32", Kernel, ONCE, |a, _| {
        a.mov(rax, 1_u64 << 32)?;
        a.mov(dr6, rax)
    }),
    Row("DR4 is DR6 without CR4.DE", Kernel, ONCE, |a, _| {
        change_cr4(a, 0, 8)?;
        a.mov(rax, dr4)?;
        report_rax(a)
    }),
    Row("DR4 with CR4.DE", Kernel, ONCE, |a, _| {
        change_cr4(a, 8, 0)?;
        a.mov(rax, dr4)
    }),
    Row("DR7.GD", Kernel, ONCE, |a, _| {
        a.mov(eax, 0x2400)?;
        a.mov(dr7, rax)?;
        a.mov(rax, dr0)
    }),
    Row("TF", Kernel, ONCE, |a, _| {
        a.push(0x102)?;
        a.popfq()?;
        a.nop()?;
        a.nop()
    }),
    Row("TF over MOV SS", Kernel, ONCE, |a, _| {
        a.mov(ecx, 0x18)?;
        a.push(0x102)?;
        a.popfq()?;
        a.mov(ss, ecx)?;
        a.nop()?;
        a.nop()
    }),
    Row("INT1", Kernel, ONCE, |a, _| a.int1()),
    Row("INT3", Kernel, ONCE, |a, _| a.int3()),
    Row("MSR LSTAR", Kernel, ONCE, |a, _| msr(a, LSTAR, 0xffff_8000_0000_1000)),
    Row("MSR STAR", Kernel, ONCE, |a, _| msr(a, STAR, 0x0011_0022_3344_5566)),
    Row("MSR SFMASK", Kernel, ONCE, |a, _| msr(a, SFMASK, 0x77)),
    Row("MSR FS base", Kernel, ONCE, |a, _| msr(a, FS_BASE, 0x1234_5678_9abc)),
    Row("MSR kernel GS base", Kernel, ONCE, |a, _| msr(a, KERNEL_GS_BASE, 0xffff_f000_0000_0000)),
    Row("MSR TSC_AUX", Kernel, ONCE, |a, _| msr(a, 0xc000_0103, 0x55)),
    Row("MSR CSTAR", Kernel, ONCE, |a, _| msr(a, 0xc000_0083, 0x1000)),
    Row("MSR PAT", Kernel, ONCE, |a, _| msr(a, 0x277, 0x0007_0406_0007_0406)),
    Row("MSR SYSENTER_CS", Kernel, ONCE, |a, _| msr(a, 0x174, 0x8)),
    Row("MSR not canonical", Kernel, &[LSTAR as u64, FS_BASE as u64, KERNEL_GS_BASE as u64], |a, v| {
        wrmsr(a, v as u32, NOT_CANONICAL)
    }),
    Row("MSR PAT of a reserved type", Kernel, ONCE, |a, _| wrmsr(a, 0x277, 2)),
    Row("MSR EFER", Kernel, &[0xd01, 0xd03, 0xc01, 0x501], |a, v| {
        wrmsr(a, EFER, v)?;
        rdmsr(a, EFER)
    }),
    Row("MSR that is none, read", Kernel, ONCE, |a, _| rdmsr(a, 0x1234_5678)),
    Row("MSR that is none, write", Kernel, ONCE, |a, _| wrmsr(a, 0x1234_5678, 0)),
    Row("SWAPGS", Kernel, ONCE, |a, _| {
        wrmsr(a, GS_BASE, 0x1000)?;
        wrmsr(a, KERNEL_GS_BASE, 0x2000)?;
        a.swapgs()?;
        rdmsr(a, GS_BASE)?;
        rdmsr(a, KERNEL_GS_BASE)
    }),
    Row("WRFSBASE without CR4.FSGSBASE", Kernel, ONCE, |a, _| {
        change_cr4(a, 0, 0x1_0000)?;
        a.mov(eax, 1)?;
        a.wrfsbase(rax)
    }),
    Row("WRGSBASE", Kernel, ONCE, |a, _| {
        change_cr4(a, 0x1_0000, 0)?;
        a.mov(rax, 0x1234_0000_u64)?;
        a.wrgsbase(rax)?;
        a.rdgsbase(rax)?;
        report_rax(a)
    }),
    Row("WRFSBASE not canonical", Kernel, ONCE, |a, _| {
        change_cr4(a, 0x1_0000, 0)?;
        a.mov(rax, NOT_CANONICAL)?;
        a.wrfsbase(rax)
    }),
];
