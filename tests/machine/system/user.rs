//! Rows of `system.rs`: what CPL 3 may not do, and compatibility mode.

use super::*;

/// Operands of `decimal`: digits and no digits in AX, with every combination of CF and AF below.
const DECIMAL: &[u64] = &[
    0x2, 0x3, 0x12, 0x13, 0x10902, 0x10903, 0x10912, 0x10913, 0x20a02, 0x20a03, 0x20a12, 0x20a13, 0xff9a02,
    0xff9a03, 0xff9a12, 0xff9a13, 0x12f602, 0x12f603, 0x12f612, 0x12f613, 0x39902, 0x39903, 0x39912, 0x39913,
    0x5a502, 0x5a503, 0x5a512, 0x5a513,
];

pub(super) const ROWS: &[Row] = &[
    Row("user HLT", User, ONCE, |a, _| a.hlt()),
    Row("user CLI", User, ONCE, |a, _| a.cli()),
    Row("user STI", User, ONCE, |a, _| a.sti()),
    Row("user IN", User, ONCE, |a, _| a.in_(al, 0x80)),
    Row("user OUT", User, ONCE, |a, _| a.out(0x80, al)),
    Row("user MOV CR0", User, ONCE, |a, _| a.mov(rax, cr0)),
    Row("user MOV DR0", User, ONCE, |a, _| a.mov(rax, dr0)),
    Row("user RDMSR", User, ONCE, |a, _| {
        a.mov(ecx, EFER)?;
        a.rdmsr()
    }),
    Row("user WRMSR", User, ONCE, |a, _| wrmsr(a, EFER, 0xd01)),
    Row("user CLTS", User, ONCE, |a, _| a.clts()),
    Row("user LMSW", User, ONCE, |a, _| a.lmsw(ax)),
    Row("user INVLPG", User, ONCE, |a, _| a.invlpg(byte_ptr(rbx))),
    Row("user LGDT", User, ONCE, |a, _| a.lgdt(ptr(GDTR))),
    Row("user LTR", User, ONCE, |a, _| a.ltr(ax)),
    Row("user LLDT", User, ONCE, |a, _| a.lldt(ax)),
    Row("user SWAPGS", User, ONCE, |a, _| a.swapgs()),
    Row("user SYSRET", User, ONCE, |a, _| a.sysretq()),
    Row("user WBINVD", User, ONCE, |a, _| a.wbinvd()),
    Row("user XSETBV", User, ONCE, |a, _| {
        a.xor(ecx, ecx)?;
        a.xsetbv()
    }),
    Row("user INT3", User, ONCE, |a, _| a.int3()),
    Row("user POPF cannot set IF", User, ONCE, |a, _| {
        a.push(0x3202)?;
        a.popfq()?;
        a.ud2()
    }),
    Row("user TF", User, ONCE, |a, _| {
        a.push(0x102)?;
        a.popfq()?;
        a.nop()?;
        a.nop()
    }),
    Row("user MOV DS, kernel data", User, ONCE, |a, _| {
        a.mov(eax, 0x18)?;
        a.mov(ds, eax)
    }),
    Row("user MOV SS, null", User, ONCE, |a, _| {
        a.xor(eax, eax)?;
        a.mov(ss, eax)
    }),
    Row("user MOV DS, conforming", User, ONCE, |a, _| {
        a.mov(eax, 0x58)?;
        a.mov(ds, eax)?;
        a.ud2()
    }),
    Row("user read kernel memory", User, ONCE, |a, _| {
        a.mov(rbx, KERNEL)?;
        a.mov(al, byte_ptr(rbx))
    }),
    Row("user write kernel memory", User, ONCE, |a, _| {
        a.mov(rbx, KERNEL)?;
        a.mov(byte_ptr(rbx), al)
    }),
    Row("user run kernel memory", User, ONCE, |a, _| {
        a.mov(rbx, KERNEL)?;
        a.jmp(rbx)
    }),
    Row("user IRETQ to kernel", User, ONCE, |a, _| iretq(a, TARGET, 0x10, 2, STACKS, 0x18)),
    Row("user RETF to kernel", User, ONCE, |a, _| {
        a.push(0x10)?;
        a.push(0x1000)?;
        a.db(&[0x48, 0xcb])
    }),
    Row("user #DE", User, ONCE, |a, _| {
        a.xor(ecx, ecx)?;
        a.div(ecx)
    }),
    Row("user not canonical", User, ONCE, |a, _| {
        a.mov(rbx, NOT_CANONICAL)?;
        a.mov(al, byte_ptr(rbx))
    }),
    Row("user stack not canonical", User, ONCE, |a, _| {
        a.mov(rsp, NOT_CANONICAL)?;
        a.push(rax)
    }),
    Row("user SYSCALL", User, ONCE, |a, _| a.syscall()),
    Row("user IRETQ to compatibility mode", User, ONCE, |a, _| {
        iretq(a, USER + 0x800, 0x23, 2, USER_STACK, 0x2b)
    }),
    Row("compat INT3", Compat, ONCE, |a, _| a.int3()),
    Row("compat INTO", Compat, ONCE, |a, _| {
        a.mov(al, 0x7f)?;
        a.add(al, 1)?;
        a.into()
    }),
    Row("compat BOUND", Compat, ONCE, |a, _| {
        a.mov(dword_ptr(DATA), 1)?;
        a.mov(dword_ptr(DATA + 4), 2)?;
        a.mov(eax, 9)?;
        a.bound(eax, qword_ptr(DATA))
    }),
    Row("compat AAM 0", Compat, ONCE, |a, _| a.aam(0)),
    Row("compat INT DPL 3", Compat, ONCE, |a, _| a.int(0x22)),
    Row("compat INT DPL 0", Compat, ONCE, |a, _| a.int(0x24)),
    Row("compat HLT", Compat, ONCE, |a, _| a.hlt()),
    Row("compat PUSH ES, POP DS", Compat, ONCE, |a, _| {
        a.push(es)?;
        a.pop(ds)?;
        a.push(cs)?;
        a.pop(eax)?;
        a.ud2()
    }),
    Row("compat limit of DS", Compat, ONCE, |a, _| {
        a.mov(eax, 0x7b)?;
        a.mov(ds, eax)?;
        a.mov(al, byte_ptr(0x1000))
    }),
    Row("compat limit of SS", Compat, ONCE, |a, _| {
        a.mov(eax, 0x7b)?;
        a.mov(ss, eax)?;
        a.push(eax)
    }),
    Row("compat limit within", Compat, ONCE, |a, _| {
        a.mov(eax, 0x7b)?;
        a.mov(es, eax)?;
        a.mov(al, byte_ptr(0xfff).es())?;
        a.ud2()
    }),
    Row("compat word at the limit", Compat, ONCE, |a, _| {
        a.mov(eax, 0x7b)?;
        a.mov(es, eax)?;
        a.mov(ax, word_ptr(0xfff).es())
    }),
    Row("compat POPAD", Compat, ONCE, |a, _| {
        a.pushad()?;
        a.popad()?;
        a.ud2()
    }),
    Row("compat IRETD", Compat, ONCE, |a, _| {
        a.pushfd()?;
        a.push(cs)?;
        a.push((USER + 0x900) as i32)?;
        a.iretd()
    }),
    Row("compat JMP FAR to 64-bit", Compat, ONCE, |a, _| a.db(&[0xea, 0x00, 0x09, 0x03, 0x00, 0x33, 0x00])),
    Row("compat null DS", Compat, ONCE, |a, _| {
        a.xor(eax, eax)?;
        a.mov(ds, eax)?;
        a.mov(al, byte_ptr(DATA))
    }),
    Row("compat MOV ES, kernel data", Compat, ONCE, |a, _| {
        a.mov(eax, 0x18)?;
        a.mov(es, eax)
    }),
    Row("compat LES", Compat, ONCE, |a, _| {
        a.mov(dword_ptr(DATA), 1)?;
        a.mov(word_ptr(DATA + 4), 0x38)?;
        a.db(&[0xc4, 0x05, 0x00, 0x00, 0x05, 0x00])
    }),
    Row("compat run kernel memory", Compat, ONCE, |a, _| {
        a.mov(ebx, KERNEL as u32)?;
        a.jmp(ebx)
    }),
    Row("compat DAS", Compat, DECIMAL, |a, v| decimal(a, v, |a| a.das())),
    Row("compat AAD(10)", Compat, DECIMAL, |a, v| decimal(a, v, |a| a.aad(10))),
    Row("compat AAM(10)", Compat, DECIMAL, |a, v| decimal(a, v, |a| a.aam(10))),
    Row("compat AAD(7)", Compat, DECIMAL, |a, v| decimal(a, v, |a| a.aad(7))),
    Row("compat AAM(16)", Compat, DECIMAL, |a, v| decimal(a, v, |a| a.aam(16))),
];
