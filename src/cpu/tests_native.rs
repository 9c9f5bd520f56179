//! Blocks as host code: what lets them go on by themselves, and what stops them.

use iced_x86::code_asm::*;

use super::state::{cr0, cr4 as cr4_bits, gpr, rflags as rf};
use super::testing::*;
use super::tests_run::{HANDLERS, Program, program};
use super::*;

/// A processor that makes host code of every block at once.
fn native(code: impl FnOnce(&mut CodeAssembler)) -> Program {
    let mut p = program(long_mode(), code);
    p.i.translate_after(1);
    p
}

/// RCX times around three blocks, by a call and a jump.
fn rounds(a: &mut CodeAssembler, count: u32) {
    let (mut again, mut f) = (a.create_label(), a.create_label());
    a.mov(ecx, count).unwrap();
    a.xor(eax, eax).unwrap();
    a.set_label(&mut again).unwrap();
    a.call(f).unwrap();
    a.dec(ecx).unwrap();
    a.jnz(again).unwrap();
    a.hlt().unwrap();
    a.set_label(&mut f).unwrap();
    a.add(eax, 3).unwrap();
    a.ret().unwrap();
}

#[test]
fn blocks_follow_each_other_and_all_instructions_are_counted() {
    let mut p = native(|a| rounds(a, 1000));
    assert_eq!(p.run_at_most(1_000_000), Exit::Halt);
    assert_eq!((p.i.cpu.state.gpr[gpr::RAX], p.i.retired), (3000, 2 + 5 * 1000 + 1));
    // Of 4000 blocks, few had to be looked up.
    let looked_up = p.i.blocks.looked_up;
    assert!((4..40).contains(&looked_up), "{looked_up} looked up");
}

#[test]
fn a_budget_ends_a_loop_of_host_code() {
    let mut p = native(|a| rounds(a, 1_000_000));
    for n in 1..=20 {
        assert_eq!(p.run_at_most(1000), Exit::Budget);
        // At the end of the block that used it up.
        assert!((1000 * n..1000 * n + 4 * n).contains(&p.i.retired), "{} after {n}", p.i.retired);
    }
}

#[test]
fn a_bell_ends_a_loop_of_host_code() {
    let mut p = native(|a| {
        let mut again = a.create_label();
        a.set_label(&mut again).unwrap();
        a.inc(rax).unwrap();
        a.jmp(again).unwrap();
    });
    assert_eq!(p.run_at_most(1000), Exit::Budget);
    p.m.bell.store(true, std::sync::atomic::Ordering::Relaxed);
    let before = p.i.cpu.state.gpr[gpr::RAX];
    assert_eq!(p.run_at_most(1_000_000), Exit::Attention);
    assert!(p.i.cpu.state.gpr[gpr::RAX] <= before + 1);
}

#[test]
fn an_interrupt_window_opens_behind_the_first_block() {
    let mut p = native(|a| rounds(a, 1_000_000));
    assert_eq!(p.run_at_most(1000), Exit::Budget);
    p.i.cpu.state.rflags |= rf::IF;
    p.i.want_window = true;
    let before = p.i.retired;
    assert_eq!(p.run_at_most(1000), Exit::Window);
    assert!(p.i.retired - before <= 4);
}

#[test]
fn a_panic_of_the_machine_passes_host_code() {
    let mut p = native(|a| {
        a.nop().unwrap();
        a.rdtsc().unwrap();
        a.hlt().unwrap();
    });
    p.m.tsc = u64::MAX;
    let run = std::panic::AssertUnwindSafe(|| p.run_at_most(1000));
    let panic = std::panic::catch_unwind(run).expect_err("the clock is broken");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"no such time"));
}

/// A fault in a block that another led to: its own instruction is named, and what came before is counted.
#[test]
fn a_fault_behind_other_blocks_is_at_its_own_instruction() {
    let mut p = native(|a| {
        let mut again = a.create_label();
        let mut f = a.create_label();
        a.mov(rbx, 0x3f_f000_u64).unwrap();
        a.set_label(&mut again).unwrap();
        a.call(f).unwrap();
        a.add(rbx, 8).unwrap();
        a.jmp(again).unwrap();
        a.set_label(&mut f).unwrap();
        a.nop().unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.ret().unwrap();
    });
    // The page behind is not there.
    p.m.poke64(TABLES + 0x5000, 0);
    assert_eq!(p.run_at_most(1_000_000), Exit::Halt);
    let state = &p.i.cpu.state;
    assert_eq!((state.rip - 1 - HANDLERS) / 16, u64::from(vector::PF));
    assert_eq!((state.gpr[gpr::RBX], state.cr2), (0x40_0000, 0x40_0000));
    let stack = state.gpr[gpr::RSP];
    // mov rbx is 5 or 7 bytes, call 5, add 4, jmp 2, nop 1.
    let fault = p.m.peek64(stack + 8);
    assert_eq!(p.m.peek::<3>(fault), [0x48, 0x8b, 0x03]);
    assert_eq!(p.i.retired, 1 + 512 * 6 + 3 + 1);
}

/// Code that is written to while blocks lead to it directly: by the guest itself, and from outside.
#[test]
fn links_do_not_lead_to_code_that_has_changed() {
    let mut p = native(|a| rounds(a, 1000));
    assert_eq!(p.run_at_most(1000), Exit::Budget);
    let (left, sum) = (p.i.cpu.state.gpr[gpr::RCX], p.i.cpu.state.gpr[gpr::RAX]);
    // add eax, 3 becomes add eax, 5.
    let code = p.m.peek::<64>(CODE);
    let at = CODE + code.windows(2).position(|w| w == [0x05, 3]).expect("it is there") as u64;
    p.m.poke(at + 1, &[5]);
    p.i.cpu.code.written(at);
    assert_eq!(p.run_at_most(1_000_000), Exit::Halt);
    let more = p.i.cpu.state.gpr[gpr::RAX] - sum;
    assert!([5 * left, 5 * left - 5, 5 * left - 2].contains(&more), "{more} in {left} rounds");
}

/// A call to a page whose translation changes half-way.
#[test]
fn links_do_not_lead_to_pages_that_were_mapped_anew() {
    let (f, g, entry) = (0x15_0000, 0x16_0000, TABLES + 0x3000 + 8 * 0x150);
    let mut p = native(|a| {
        let (mut again, mut on) = (a.create_label(), a.create_label());
        a.mov(ecx, 100).unwrap();
        a.mov(rdi, entry).unwrap();
        a.mov(rbx, f).unwrap();
        a.set_label(&mut again).unwrap();
        a.call(f).unwrap();
        a.call(rbx).unwrap();
        a.cmp(ecx, 50).unwrap();
        a.jne(on).unwrap();
        a.mov(qword_ptr(rdi), (g | 7) as i32).unwrap();
        a.invlpg(ptr(rbx)).unwrap();
        a.set_label(&mut on).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
        a.hlt().unwrap();
    });
    p.m.poke(f, &[0x83, 0xc0, 1, 0xc3]);
    p.m.poke(g, &[0x83, 0xc0, 7, 0xc3]);
    p.i.cpu.state.gpr[gpr::RAX] = 0;
    assert_eq!(p.run_at_most(1_000_000), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 51 * 2 + 49 * 14);
}

/// Two targets of one call that have the same place in the table of targets.
#[test]
fn targets_that_share_a_place_are_told_apart() {
    let (f, g) = (0x15_0000_u64, 0x15_1000_u64);
    let mut p = native(|a| {
        let mut again = a.create_label();
        a.mov(ecx, 100).unwrap();
        a.mov(rbx, f).unwrap();
        a.set_label(&mut again).unwrap();
        a.call(rbx).unwrap();
        a.xor(rbx, (f ^ g) as i32).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
        a.hlt().unwrap();
    });
    p.m.poke(f, &[0x83, 0xc0, 1, 0xc3]);
    p.m.poke(g, &[0x83, 0xc0, 7, 0xc3]);
    assert_eq!(p.run_at_most(1_000_000), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 50 + 50 * 7);
}

/// Bits that a page walk sets in an entry that is executed, too.
#[test]
fn a_page_walk_that_marks_an_entry_in_code_is_seen() {
    // A function with an entry of a page directory in it: mov rax, imm64; ret.
    let entry = CODE + 0x100;
    // The address that goes through this entry of the directory in the code's page.
    let through = 0x4000_0000 + ((0x100 / 8) << 21);
    let mut p = native(|a| {
        let (mut again, mut over) = (a.create_label(), a.create_label());
        a.mov(ecx, 3).unwrap();
        a.set_label(&mut again).unwrap();
        a.call(entry - 2).unwrap();
        a.cmp(ecx, 2).unwrap();
        a.jne(over).unwrap();
        a.mov(edx, dword_ptr(rsi)).unwrap();
        a.set_label(&mut over).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
        a.hlt().unwrap();
    });
    p.m.poke(entry - 2, &[0x48, 0xb8]);
    // 2 MiB from 0 on, present, writable, user; not accessed yet.
    p.m.poke64(entry, 0x87);
    p.m.poke(entry + 8, &[0xc3]);
    p.m.poke64(TABLES + 0x1000 + 8, CODE | 0x27);
    p.i.cpu.state.gpr[gpr::RSI] = through;
    assert_eq!(p.run_at_most(1000), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 0xa7);
}

/// The host stops making memory executable while blocks run as host code: they go on as ops.
#[test]
fn a_host_that_takes_its_leave_back_runs_ops() {
    let mut p = native(|a| rounds(a, 1000));
    assert_eq!(p.run_at_most(1000), Exit::Budget);
    p.i.blocks.refuse();
    // Another block, in the same page of host code.
    p.m.poke(HANDLERS + 16 * 32, &[0x90, 0x48, 0xcf]);
    p.i.cpu.interrupt(&mut p.m, 32).unwrap();
    assert_eq!(p.run_at_most(1_000_000), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 3000);
    assert!(!p.i.blocks.has_host_code());
}

/// More blocks than there is room for: everything is forgotten, and nothing leads to what was there before.
#[test]
fn a_guest_with_more_code_than_room_goes_on() {
    let mut p = native(|a| {
        // Calls 40,000 functions, 24 bytes each, twice over.
        let (mut twice, mut again) = (a.create_label(), a.create_label());
        a.mov(edx, 2).unwrap();
        a.set_label(&mut twice).unwrap();
        a.mov(rbx, 0x23_0000_u64).unwrap();
        a.mov(ecx, 40_000).unwrap();
        a.set_label(&mut again).unwrap();
        a.call(rbx).unwrap();
        a.add(rbx, 24).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
        a.dec(edx).unwrap();
        a.jnz(twice).unwrap();
        a.hlt().unwrap();
    });
    for n in 0..40_000 {
        // add eax, 1; jz +0; jz +0; ret
        p.m.poke(0x23_0000 + 24 * n, &[0x83, 0xc0, 1, 0x74, 0, 0x74, 0, 0xc3]);
    }
    assert_eq!(p.run_at_most(10_000_000), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 80_000);
    assert!(p.i.blocks.cleared > 0, "there was room for all");
}

/// A page that is remapped while an entry of the TLB still speaks of it: what is lent from now on is not reached
/// through what was said of the page before.
#[test]
fn an_entry_of_the_tlb_speaks_of_one_host_page() {
    let mut p = native(|a| {
        a.mov(rbx, DATA).unwrap();
        a.mov(eax, dword_ptr(rbx)).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(p.run_at_most(1000), Exit::Halt);
    // Nothing is lent there any more. A write finds that out; a read must, too, from then on.
    p.m.moved = Some(DATA);
    let c = &mut p.i.cpu;
    c.careful = true;
    c.store::<u32, _>(&mut p.m, DATA, 5).unwrap();
    assert_eq!(c.load::<u32, _>(&mut p.m, DATA).unwrap(), u32::MAX);
    assert_eq!(p.m.mmio, [(DATA, vec![5, 0, 0, 0])]);
}

/// Pages that lie side by side for the guest only.
#[test]
fn operands_across_pages_are_in_both() {
    let (first, at) = (0x30_0000, 0x30_0ffc_u64);
    let mut p = native(|a| {
        let mut again = a.create_label();
        a.mov(ecx, 3).unwrap();
        a.mov(rbx, at).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.mov(rdx, rcx).unwrap();
        a.shl(rdx, 33).unwrap();
        a.or(rdx, rcx).unwrap();
        a.mov(qword_ptr(rbx), rdx).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
        a.hlt().unwrap();
    });
    p.m.poke64(TestMachine::pte(first), (DATA + 0x3000) | 0x67);
    p.m.poke64(TestMachine::pte(first + 0x1000), DATA | 0x67);
    assert_eq!(p.run_at_most(1000), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RAX], 2 << 33 | 2);
    assert_eq!((p.m.peek(DATA + 0x3ffc), p.m.peek(DATA)), ([1, 0, 0, 0], [2, 0, 0, 0]));
}

/// A page for the supervisor only, whose code the kernel has just run, is none that a process may run.
#[test]
fn code_of_the_kernel_is_not_run_for_a_process() {
    let f = 0x15_0000_u64;
    let mut p = native(|a| {
        a.mov(rbx, f).unwrap();
        a.call(rbx).unwrap();
        for word in [0x2b, STACK as i32, 2, 0x33] {
            a.push(word).unwrap();
        }
        a.push(rbx).unwrap();
        a.iretq().unwrap();
    });
    p.m.poke64(TestMachine::pte(f), f | 3);
    p.m.poke(f, &[0x83, 0xc0, 1, 0xc3]);
    assert_eq!(p.run_at_most(1000), Exit::Halt);
    let state = &p.i.cpu.state;
    assert_eq!(((state.rip - 1 - HANDLERS) / 16, state.cr2), (u64::from(vector::PF), f));
    assert_eq!(state.gpr[gpr::RAX], 1, "run by the kernel only");
    let error = state.gpr[gpr::RSP];
    assert_eq!(p.m.peek64(error), 0x15, "present, user, fetch");
}

/// A page that the TLB knows does not spare an address its check.
#[test]
fn alignment_is_checked_where_the_page_is_known() {
    let mut state = user_mode();
    state.cr0 |= cr0::AM;
    state.rflags |= rf::AC;
    let mut p = program(state, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 3).unwrap();
        a.mov(rbx, DATA).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
        a.mov(rax, qword_ptr(rbx + 1)).unwrap();
    });
    p.i.translate_after(1);
    assert_eq!(p.run_at_most(1000), Exit::Halt);
    assert_eq!((p.i.cpu.state.rip - 1 - HANDLERS) / 16, u64::from(vector::AC));
}

/// What was known before CR4.PGE changed is not used behind it, in any epoch of the TLB (they come again after 2048).
#[test]
fn a_flush_forgets_translations() {
    let (page, entry) = (0x30_0000_u64, TestMachine::pte(0x30_0000));
    let mut p = native(|a| {
        let mut again = a.create_label();
        a.mov(ecx, 6000).unwrap();
        a.mov(rbx, page).unwrap();
        a.mov(rdi, entry).unwrap();
        a.xor(edx, edx).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(rdx, qword_ptr(rbx)).unwrap();
        a.xor(qword_ptr(rdi), 0x1000).unwrap();
        a.mov(rax, cr4).unwrap();
        a.xor(eax, cr4_bits::PGE as i32).unwrap();
        a.mov(cr4, rax).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
        a.hlt().unwrap();
    });
    for n in 0..2 {
        p.m.poke64(page + 0x1000 * n, n + 1);
    }
    assert_eq!(p.run_at_most(1_000_000), Exit::Halt);
    assert_eq!(p.i.cpu.state.gpr[gpr::RDX], 3000 + 2 * 3000);
}

/// The flags in the frame of a fault are those of the instructions before it.
#[test]
fn a_fault_finds_the_flags_of_what_came_before() {
    for (take, zero, carry) in [(1, rf::ZF, 0), (2, 0, rf::CF)] {
        let mut p = native(|a| {
            a.mov(eax, 1).unwrap();
            a.mov(rbx, 0x3f_f000_u64).unwrap();
            a.sub(eax, take).unwrap();
            a.mov(rdx, qword_ptr(rbx)).unwrap();
            // Whose flags are not needed, since these overwrite them.
            a.xor(edx, edx).unwrap();
            a.hlt().unwrap();
        });
        p.m.poke64(TestMachine::pte(0x3f_f000), 0);
        assert_eq!(p.run_at_most(1000), Exit::Halt);
        assert_eq!((p.i.cpu.state.rip - 1 - HANDLERS) / 16, u64::from(vector::PF));
        let frame = p.i.cpu.state.gpr[gpr::RSP];
        assert_eq!(p.m.peek64(frame + 24) & (rf::ZF | rf::CF), zero | carry);
    }
}
