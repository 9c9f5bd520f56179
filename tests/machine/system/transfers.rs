//! Rows of `system.rs`: far transfers, returns, interrupts.

use super::*;

pub(super) const ROWS: &[Row] = &[
    Row("JMP FAR", Kernel, &[0x0, 0x10, 0x13, 0x58, 0x60, 0x18, 0x33, 0x40, 0x100, 0x98], |a, v| {
        a.mov(rax, TARGET)?;
        a.mov(dword_ptr(DATA), eax)?;
        a.mov(word_ptr(DATA + 4), v as i32)?;
        a.db(&[0xff, 0x2c, 0x25, 0x00, 0x00, 0x05, 0x00])
    }),
    Row("CALL FAR", Kernel, &[0x0, 0x10, 0x13, 0x58, 0x60, 0x18, 0x33, 0x40, 0x100, 0x98], |a, v| {
        a.mov(rax, TARGET)?;
        a.mov(dword_ptr(DATA), eax)?;
        a.mov(word_ptr(DATA + 4), v as i32)?;
        a.db(&[0xff, 0x1c, 0x25, 0x00, 0x00, 0x05, 0x00])
    }),
    Row("RETFQ", Kernel, &[0x0, 0x10, 0x13, 0x58, 0x60, 0x18, 0x33, 0x40, 0x100, 0x98], |a, v| {
        a.push(v as i32)?;
        a.mov(rax, TARGET)?;
        a.push(rax)?;
        a.db(&[0x48, 0xcb])
    }),
    Row("IRETQ CS", Kernel, &[0x0, 0x10, 0x13, 0x58, 0x60, 0x18, 0x33, 0x40, 0x100, 0x98], |a, v| {
        iretq(a, TARGET, v as i32, 2, STACKS + 0x700, 0x18)
    }),
    Row("IRETQ to a RIP not canonical", Kernel, ONCE, |a, _| {
        iretq(a, NOT_CANONICAL, 0x10, 2, STACKS + 0x700, 0x18)
    }),
    Row("IRETQ with NT", Kernel, ONCE, |a, _| {
        a.push(0x4002)?;
        a.popfq()?;
        iretq(a, TARGET, 0x10, 2, STACKS + 0x700, 0x18)
    }),
    Row("IRETQ SS", Kernel, &[0x0, 0x2b, 0x38, 0x50], |a, v| {
        iretq(a, TARGET, 0x10, 2, STACKS + 0x700, v as i32)
    }),
    Row("IRETQ to user, SS", Kernel, &[0x0, 0x2b, 0x38, 0x50], |a, v| {
        iretq(a, USER, 0x33, 0x202, USER_STACK, v as i32)
    }),
    Row("IRETQ to user, flags", Kernel, ONCE, |a, _| iretq(a, USER, 0x33, 0x24_7ed7, USER_STACK, 0x2b)),
    Row("IRETD", Kernel, ONCE, |a, _| {
        a.mov(eax, STACKS as u32)?;
        a.mov(ebx, eax)?;
        a.lea(rsp, ptr(rsp - 20))?;
        a.mov(rax, TARGET)?;
        a.mov(dword_ptr(rsp), eax)?;
        a.mov(dword_ptr(rsp + 4), 0x10)?;
        a.mov(dword_ptr(rsp + 8), 2)?;
        a.mov(dword_ptr(rsp + 12), ebx)?;
        a.mov(dword_ptr(rsp + 16), 0x18)?;
        a.iretd()
    }),
    Row("IRETQ with TF", Kernel, ONCE, |a, _| iretq(a, TARGET, 0x10, 0x102, STACKS + 0x700, 0x18)),
    Row("INT", Kernel, &[0x20, 0x21, 0x23, 0x42, 0x24, 0xd], |a, v| {
        a.sti()?;
        a.nop()?;
        a.int(v as i32)
    }),
    Row("user INT", User, &[0x20, 0x21, 0x23, 0x42, 0x24, 0xd, 0x22], |a, v| a.int(v as i32)),
    Row("#DE", Kernel, ONCE, |a, _| {
        a.xor(ecx, ecx)?;
        a.div(ecx)
    }),
    Row("#UD", Kernel, ONCE, |a, _| a.ud2()),
    Row("#GP by address", Kernel, ONCE, |a, _| {
        a.mov(rbx, NOT_CANONICAL)?;
        a.mov(al, byte_ptr(rbx))
    }),
    Row("#SS by address", Kernel, ONCE, |a, _| {
        a.mov(rbp, NOT_CANONICAL)?;
        a.mov(al, byte_ptr(rbp))
    }),
    Row("#DF by a stack that is not there", Kernel, ONCE, |a, _| {
        a.mov(rsp, 0x10_0000_0000_u64)?;
        a.ud2()
    }),
];
