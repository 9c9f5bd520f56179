//! Rows of `system.rs`: descriptor tables and segment registers.

use super::*;

/// Selectors to look at: null, and descriptors of different kinds and privileges.
const SELECTORS: &[u64] =
    &[0x0, 0x10, 0x18, 0x1b, 0x2b, 0x38, 0x40, 0x50, 0x58, 0x5b, 0x68, 0x78, 0x80, 0x100, 0xc];

pub(super) const ROWS: &[Row] = &[
    Row("SGDT", Kernel, ONCE, |a, _| {
        a.sgdt(ptr(DATA))?;
        a.mov(eax, dword_ptr(DATA))?;
        report_rax(a)?;
        a.mov(eax, dword_ptr(DATA + 4))?;
        report_rax(a)
    }),
    Row("SIDT", Kernel, ONCE, |a, _| {
        a.sidt(ptr(DATA))?;
        a.mov(eax, dword_ptr(DATA))?;
        report_rax(a)
    }),
    Row("LGDT not canonical", Kernel, ONCE, |a, _| {
        a.mov(rax, NOT_CANONICAL)?;
        a.mov(qword_ptr(DATA + 2), rax)?;
        a.lgdt(ptr(DATA))
    }),
    Row("LIDT not canonical", Kernel, ONCE, |a, _| {
        a.mov(rax, NOT_CANONICAL)?;
        a.mov(qword_ptr(DATA + 2), rax)?;
        a.lidt(ptr(DATA))
    }),
    Row("exception without an IDT", Kernel, ONCE, |a, _| {
        a.lidt(ptr(DATA))?;
        a.ud2()
    }),
    Row("STR", Kernel, ONCE, |a, _| {
        a.xor(eax, eax)?;
        a.str(eax)?;
        report_rax(a)
    }),
    Row("LTR", Kernel, &[0x0, 0x40, 0x18, 0x68, 0x88, 0x100, 0x44], |a, v| {
        a.mov(eax, v as u32)?;
        a.ltr(ax)
    }),
    Row("LLDT", Kernel, &[0x0, 0x18, 0x40, 0x100, 0x6c], |a, v| {
        a.mov(eax, v as u32)?;
        a.lldt(ax)?;
        a.sldt(eax)?;
        report_rax(a)
    }),
    Row("LLDT and a segment of it", Kernel, ONCE, |a, _| {
        a.mov(eax, 0x68)?;
        a.lldt(ax)?;
        a.sldt(eax)?;
        report_rax(a)?;
        a.mov(eax, 0xf)?;
        a.mov(ds, eax)?;
        a.mov(eax, ds)?;
        report_rax(a)
    }),
    Row("LAR", Kernel, SELECTORS, |a, v| {
        a.mov(ecx, 0x55)?;
        a.mov(eax, v as u32)?;
        a.lar(ecx, eax)?;
        zf_and_ecx(a)
    }),
    Row("LSL", Kernel, SELECTORS, |a, v| {
        a.mov(ecx, 0x55)?;
        a.mov(eax, v as u32)?;
        a.lsl(ecx, eax)?;
        zf_and_ecx(a)
    }),
    Row("VERR", Kernel, SELECTORS, |a, v| {
        a.xor(ecx, ecx)?;
        a.mov(eax, v as u32)?;
        a.verr(ax)?;
        zf_and_ecx(a)
    }),
    Row("VERW", Kernel, SELECTORS, |a, v| {
        a.xor(ecx, ecx)?;
        a.mov(eax, v as u32)?;
        a.verw(ax)?;
        zf_and_ecx(a)
    }),
    Row("MOV DS", Kernel, &[0x0, 0x3, 0x18, 0x1b, 0x2b, 0x38, 0x50, 0x10, 0x80, 0x40, 0x100, 0xc], |a, v| {
        a.mov(eax, v as u32)?;
        a.mov(ds, eax)?;
        a.mov(eax, ds)?;
        report_rax(a)
    }),
    Row("MOV SS", Kernel, &[0x0, 0x3, 0x18, 0x1b, 0x2b, 0x38, 0x50, 0x10, 0x80, 0x40, 0x100, 0xc], |a, v| {
        a.mov(eax, v as u32)?;
        a.mov(ss, eax)?;
        a.mov(eax, ss)?;
        report_rax(a)
    }),
    Row("MOV FS", Kernel, &[0x0, 0x3, 0x18, 0x1b, 0x2b, 0x38, 0x50, 0x10, 0x80, 0x40, 0x100, 0xc], |a, v| {
        a.mov(eax, v as u32)?;
        a.mov(fs, eax)?;
        a.mov(eax, fs)?;
        report_rax(a)
    }),
    Row("MOV CS", Kernel, ONCE, |a, _| a.db(&[0x8e, 0xc8])),
];
