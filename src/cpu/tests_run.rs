//! Whole programs on the interpreter: control flow, exceptions, interrupts, changed code, and the way of an AP from real
//! mode.

use std::sync::Arc;

use iced_x86::code_asm::*;

use super::exceptions::vector;
use super::state::{Segment, TableRegister, cr0, cr4, efer, gpr, rflags as rf, seg};
use super::testing::*;
use super::*;

const IDT: u64 = 0x20_0000;
const TSS: u64 = 0x20_2000;
const GDT: u64 = 0x20_3000;
pub(super) const HANDLERS: u64 = 0x21_0000;
const IST_STACK: u64 = 0x22_1000;
const KERNEL_STACK: u64 = 0x22_3000;

pub(super) struct Program {
    pub m: TestMachine,
    pub i: Interpreter<TestMachine>,
}

fn assemble(at: u64, code: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).unwrap();
    code(&mut a);
    a.assemble(at).unwrap()
}

/// A machine with code at [`CODE`], a GDT, an IDT whose handlers are `hlt` at `HANDLERS + 16 * vector`, and a TSS.
pub(super) fn program(mut state: CpuState, code: impl FnOnce(&mut CodeAssembler)) -> Program {
    let mut m = TestMachine::new();
    m.map();
    let bytes = assemble(CODE, code);
    m.poke(CODE, &bytes);
    for (n, d) in
        [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff]
            .into_iter()
            .enumerate()
    {
        m.poke64(GDT + 8 * n as u64, d);
    }
    for v in 0..256u64 {
        let h = HANDLERS + 16 * v;
        let ist = if v == vector::DF as u64 { 1 } else { 0 };
        m.poke64(IDT + 16 * v, h & 0xffff | 0x10 << 16 | ist << 32 | 0x8e << 40 | (h >> 16 & 0xffff) << 48);
        m.poke(h, &[0xf4]);
    }
    m.poke64(TSS + 4, KERNEL_STACK);
    m.poke64(TSS + 0x24, IST_STACK);
    state.gdtr = TableRegister { base: GDT, limit: 0xff };
    state.idtr = TableRegister { base: IDT, limit: 0xfff };
    state.tr = Segment { selector: 0x40, attr: 0x8b, limit: 0x67, base: TSS };
    let pages = Arc::new(CodePages::new(4 << 20));
    Program { m, i: Interpreter::new(state, pages) }
}

impl Program {
    fn run(&mut self) -> Exit {
        self.run_at_most(10_000_000)
    }
    pub fn run_at_most(&mut self, instructions: u64) -> Exit {
        self.i.run(&mut self.m, instructions)
    }
    fn state(&self) -> &CpuState {
        &self.i.cpu.state
    }
    fn stack(&mut self, n: u64) -> u64 {
        let top = self.state().gpr[gpr::RSP];
        self.m.peek64(top + 8 * n)
    }
    /// The vector whose handler the guest has stopped in.
    fn handled(&self) -> u64 {
        (self.state().rip - 1 - HANDLERS) / 16
    }
}

#[test]
fn a_loop_runs_to_its_halt() {
    let mut p = program(long_mode(), |a| {
        let mut top = a.create_label();
        a.mov(ecx, 100_000).unwrap();
        a.xor(eax, eax).unwrap();
        a.set_label(&mut top).unwrap();
        a.add(rax, rcx).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.state().gpr[gpr::RAX], 5_000_050_000);
}

#[test]
fn a_handler_that_cannot_be_fetched_uses_up_the_budget() {
    let mut p = program(long_mode(), |a| a.hlt().unwrap());
    // A stack of its own, so that no fault of the stack ends it; and neither code nor handlers are there.
    let gate = p.m.peek64(IDT + 16 * vector::PF as u64);
    p.m.poke64(IDT + 16 * vector::PF as u64, gate | 1 << 32);
    for page in [CODE, HANDLERS] {
        p.m.poke64(TestMachine::pte(page), 0);
    }
    assert_eq!(p.run_at_most(1000), Exit::Budget);
}

#[test]
fn page_fault_goes_through_the_idt_with_its_frame() {
    let mut p = program(user_mode(), |a| {
        a.nop().unwrap();
        a.mov(qword_ptr(0x70_0000), rax).unwrap();
    });
    p.m.poke64(TestMachine::pte(0x70_0000), 0);
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.handled(), vector::PF as u64);
    assert_eq!(p.state().cr2, 0x70_0000);
    assert_eq!(p.state().gpr[gpr::RSP], KERNEL_STACK - 48);
    let frame: Vec<u64> = (0..6).map(|n| p.stack(n)).collect();
    assert_eq!(frame[..3], [6, CODE + 1, 0x33]);
    assert_eq!(frame[4..], [STACK, 0x2b]);
    assert_ne!(frame[3] & rf::RF, 0);
    assert_eq!(p.state().segs[seg::CS].selector, 0x10);
}

#[test]
fn fault_while_delivering_is_a_double_fault_on_its_ist_stack_and_then_a_shutdown() {
    let code = |a: &mut CodeAssembler| a.ud2().unwrap();
    let mut state = long_mode();
    state.gpr[gpr::RSP] = 0x70_0000;
    let mut p = program(state, code);
    p.m.poke64(TestMachine::pte(0x6f_f000), 0);
    // #UD, then #PF on its stack: not contributory with #UD, so #PF; #PF on the same stack again: #DF.
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.handled(), vector::DF as u64);
    assert_eq!(p.state().gpr[gpr::RSP], IST_STACK - 48);
    p.i.cpu.state.idtr.limit = 0;
    p.i.cpu.state.rip = CODE;
    assert_eq!(p.run(), Exit::Shutdown);
}

#[test]
fn an_interrupt_waits_for_sti_and_its_shadow_and_iret_returns() {
    let mut p = program(long_mode(), |a| {
        a.nop().unwrap();
        a.sti().unwrap();
        a.mov(eax, 1).unwrap();
        a.hlt().unwrap();
        a.mov(eax, 2).unwrap();
        a.cli().unwrap();
        a.hlt().unwrap();
    });
    let handler = assemble(HANDLERS + 16 * 0x41, |a| {
        a.mov(ebx, eax).unwrap();
        a.iretq().unwrap();
    });
    p.m.poke(HANDLERS + 16 * 0x41, &handler);
    p.i.want_window = true;
    let exit = p.run();
    assert!(matches!(exit, Exit::Window | Exit::Halt), "{exit:?}");
    assert!(p.i.cpu.interruptible() || exit == Exit::Halt);
    p.i.cpu.interrupt(&mut p.m, 0x41).unwrap();
    p.i.want_window = false;
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.state().gpr[gpr::RBX], 1);
    if p.state().gpr[gpr::RAX] == 1 {
        assert_eq!(p.run(), Exit::Halt);
    }
    assert_eq!(p.state().gpr[gpr::RAX], 2);
}

#[test]
fn a_waiting_interrupt_finds_the_shortest_window() {
    // How firmware and boot loaders let interrupts in: closed again two instructions later (SDM volume 2, STI).
    let mut p = program(long_mode(), |a| {
        a.sti().unwrap();
        a.nop().unwrap();
        a.nop().unwrap();
        a.cli().unwrap();
        a.hlt().unwrap();
    });
    p.i.want_window = true;
    assert_eq!((p.run(), p.state().rip), (Exit::Window, CODE + 2));
    p.i.want_window = false;
    assert_eq!(p.run(), Exit::Halt);
}

#[test]
fn syscall_and_sysret_change_the_level() {
    let mut state = user_mode();
    state.msrs.star = 0x23 << 48 | 0x10 << 32;
    state.msrs.lstar = 0x21_8000;
    state.msrs.sfmask = rf::IF;
    let mut p = program(state, |a| {
        a.syscall().unwrap();
        a.mov(eax, 7).unwrap();
        a.ud2().unwrap();
    });
    let entry = assemble(0x21_8000, |a| {
        a.mov(ebx, cs).unwrap();
        a.sysretq().unwrap();
    });
    p.m.poke(0x21_8000, &entry);
    p.i.cpu.state.rflags |= rf::IF;
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.handled(), vector::UD as u64);
    assert_eq!((p.state().gpr[gpr::RAX], p.state().gpr[gpr::RBX]), (7, 0x10));
    assert_eq!(p.stack(1), 0x33);
    assert_ne!(p.stack(2) & rf::IF, 0);
}

#[test]
fn changed_code_is_seen_at_once() {
    // The loop patches the immediate (after the opcode byte) of its own addition: the first pass adds 1, the others 2.
    let mut p = program(long_mode(), |a| {
        let mut top = a.create_label();
        let mut patched = a.create_label();
        a.mov(ecx, 10).unwrap();
        a.set_label(&mut top).unwrap();
        a.lea(rdi, ptr(patched)).unwrap();
        a.set_label(&mut patched).unwrap();
        a.add(eax, 1).unwrap();
        a.mov(byte_ptr(rdi + 1), 2).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.state().gpr[gpr::RAX], 19);
}

#[test]
fn writes_by_others_are_seen_through_code_pages() {
    let mut p = program(long_mode(), |a| {
        a.mov(eax, 1).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(p.run(), Exit::Halt);
    p.m.poke(CODE + 1, &[9]);
    p.i.cpu.code.written(CODE);
    p.i.cpu.state.rip = CODE;
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.state().gpr[gpr::RAX], 9);
}

#[test]
fn a_changed_mapping_runs_other_code_at_the_same_address() {
    let mut p = program(long_mode(), |a| {
        a.mov(eax, 1).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(p.run(), Exit::Halt);
    p.m.poke(DATA, &[0xb8, 5, 0, 0, 0, 0xf4]);
    p.m.poke64(TestMachine::pte(CODE), DATA | 7);
    p.i.cpu.flush_tlb();
    p.i.cpu.state.rip = CODE;
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.state().gpr[gpr::RAX], 5);
}

#[test]
fn invlpg_on_a_large_page_forgets_all_of_it() {
    let mut p = program(long_mode(), |a| {
        a.mov(rax, qword_ptr(rsi)).unwrap();
        a.mov(qword_ptr(rdi), rcx).unwrap();
        a.invlpg(ptr(rbx)).unwrap();
        a.mov(rdx, qword_ptr(rsi)).unwrap();
        a.hlt().unwrap();
    });
    // 4 MiB to 6 MiB is one large page, first onto 2 MiB, then onto 0; INVLPG names another part of it.
    let pde = TABLES + 0x2000 + 2 * 8;
    p.m.poke64(pde, 0x20_0087);
    p.m.poke64(0x20_0000 + 0x15_0000, 1);
    p.m.poke64(0x15_0000, 2);
    let g = &mut p.i.cpu.state.gpr;
    (g[gpr::RSI], g[gpr::RBX]) = (0x40_0000 + 0x15_0000, 0x40_0000 + 0x3000);
    (g[gpr::RDI], g[gpr::RCX]) = (pde, 0x87);
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!((p.state().gpr[gpr::RAX], p.state().gpr[gpr::RDX]), (1, 2));
}

/// A 16-bit stub like a kernel's AP trampoline: real mode, protected mode, long mode.
#[test]
fn an_ap_gets_from_real_mode_to_long_mode() {
    let mut p = program(long_mode(), |a| a.hlt().unwrap());
    let at = 0x8000u64;
    let mut real = CodeAssembler::new(16).unwrap();
    real.cli().unwrap();
    real.mov(ax, cs).unwrap();
    real.mov(ds, ax).unwrap();
    real.lgdt(fword_ptr(0x100)).unwrap();
    real.mov(eax, cr0).unwrap();
    real.or(eax, 1).unwrap();
    real.mov(cr0, eax).unwrap();
    let mut code = real.assemble(0).unwrap();
    // ljmpl $0x8, $0x8200
    code.extend([0x66, 0xea, 0x00, 0x82, 0, 0, 0x08, 0]);
    p.m.poke(at, &code);
    p.m.poke(at + 0x100, &[0x1f, 0]);
    p.m.poke(at + 0x102, &0x9000u32.to_le_bytes());
    for (n, d) in
        [0, 0x00cf_9b00_0000_ffff, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff].into_iter().enumerate()
    {
        p.m.poke64(0x9000 + 8 * n as u64, d);
    }
    let mut protected = CodeAssembler::new(32).unwrap();
    protected.mov(ax, 0x18).unwrap();
    protected.mov(ds, ax).unwrap();
    protected.mov(ss, ax).unwrap();
    protected.mov(eax, cr4).unwrap();
    protected.or(eax, cr4::PAE as u32 as i32).unwrap();
    protected.mov(cr4, eax).unwrap();
    protected.mov(eax, TABLES as u32).unwrap();
    protected.mov(cr3, eax).unwrap();
    protected.mov(ecx, 0xc000_0080u32).unwrap();
    protected.rdmsr().unwrap();
    protected.or(eax, efer::LME as u32).unwrap();
    protected.wrmsr().unwrap();
    protected.mov(eax, cr0).unwrap();
    protected.or(eax, (cr0::PG | cr0::WP) as u32).unwrap();
    protected.mov(cr0, eax).unwrap();
    let mut code = protected.assemble(0x8200).unwrap();
    // ljmp $0x10, $CODE
    code.push(0xea);
    code.extend((CODE as u32).to_le_bytes());
    code.extend([0x10, 0]);
    p.m.poke(at + 0x200, &code);
    let mut state = CpuState::default();
    state.startup(8);
    p.i.cpu.state = state;
    p.i.cpu.flush_tlb();
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.state().rip, CODE + 1);
    assert_eq!(p.state().code_bits(), 64);
    assert_ne!(p.state().efer & efer::LMA, 0);
    assert_eq!(p.state().cpl(), 0);
}

#[test]
fn int_n_checks_the_gate_level() {
    let mut p = program(user_mode(), |a| a.int(0x80).unwrap());
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.handled(), vector::GP as u64);
    assert_eq!(p.stack(0), 0x80 * 8 + 2);
    let mut p = program(user_mode(), |a| a.int(0x80).unwrap());
    let gate = p.m.peek64(IDT + 16 * 0x80);
    p.m.poke64(IDT + 16 * 0x80, gate | 0x60 << 40);
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.handled(), 0x80);
    assert_eq!(p.stack(0), CODE + 2);
}

#[test]
fn int_n_that_cannot_be_delivered_is_its_own_fault() {
    let mut p = program(long_mode(), |a| {
        a.nop().unwrap();
        a.int(0x21).unwrap();
    });
    let gate = p.m.peek64(IDT + 16 * 0x21);
    p.m.poke64(IDT + 16 * 0x21, gate & !(0x80 << 40));
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.handled(), vector::NP as u64);
    // SDM vol. 3, error code: IDT, not external; RIP is INT's, for it is to be run again.
    assert_eq!((p.stack(0), p.stack(1)), (0x21 * 8 + 2, CODE + 1));
}

#[test]
fn single_step_traps_after_each_instruction() {
    let mut p = program(long_mode(), |a| {
        a.mov(eax, 1).unwrap();
        a.mov(eax, 2).unwrap();
    });
    p.i.cpu.state.rflags |= rf::TF;
    assert_eq!(p.run(), Exit::Halt);
    assert_eq!(p.handled(), vector::DB as u64);
    assert_eq!((p.state().gpr[gpr::RAX], p.stack(0)), (1, CODE + 5));
    assert_ne!(p.state().dr[6] & 1 << 14, 0);
}

/// A hostile guest: random bytes as code at every level and code size, random registers, page tables among the data
/// that it can write.
#[test]
fn random_code_never_panics() {
    let mut seed = 0x1234_5678_9abc_def0u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed ^ seed >> 29
    };
    for round in 0..400u64 {
        let state = match round % 4 {
            0 => user_mode(),
            1 => CpuState { rip: CODE & 0xffff, ..CpuState::default() },
            _ => long_mode(),
        };
        let mut p = program(state, |a| a.nop().unwrap());
        if round % 4 == 3 {
            // 32-bit segments below long mode.
            p.i.cpu.state.segs[seg::CS].attr = 0xc09b;
        }
        if round % 4 == 1 {
            p.i.cpu.state.startup((CODE >> 12) as u8);
        }
        for n in 0..0x1000 / 8 {
            p.m.poke64(CODE + 8 * n, next());
        }
        for g in &mut p.i.cpu.state.gpr {
            *g = match next() % 4 {
                0 => next(),
                1 => next() % 0x40_0000,
                2 => TABLES + next() % 0x8000,
                _ => DATA + next() % 0x2000,
            };
        }
        if round % 3 == 0 {
            // Breakpoints of all kinds where code, data and ports are.
            for n in 0..4 {
                p.i.cpu.state.dr[n] = [CODE, DATA, STACK, 0][next() as usize % 4] + next() % 0x100;
            }
            p.i.cpu.state.dr[7] = next() & 0xffff_03ff | 0x400;
            p.i.cpu.state.cr4 |= next() & cr4::DE;
        }
        for _ in 0..40 {
            p.i.cpu.state.halted = false;
            if p.i.run(&mut p.m, 200) == Exit::Shutdown {
                break;
            }
            p.i.cpu.state.rip = CODE + next() % 0xff0;
        }
    }
}

/// Not a limit, a figure: run with `--release -- --nocapture`.
#[test]
fn speed_of_a_mixed_loop() {
    let mut p = program(long_mode(), |a| {
        let mut top = a.create_label();
        let mut skip = a.create_label();
        let mut leaf = a.create_label();
        a.mov(ecx, 300_000).unwrap();
        a.mov(rsi, DATA).unwrap();
        a.set_label(&mut top).unwrap();
        a.mov(rax, qword_ptr(rsi)).unwrap();
        a.add(rax, rcx).unwrap();
        a.mov(qword_ptr(rsi + 8), rax).unwrap();
        a.lea(rdx, ptr(rax + rcx * 4 + 16)).unwrap();
        a.and(edx, 0xff).unwrap();
        a.movzx(ebx, byte_ptr(rsi + rdx)).unwrap();
        a.test(bl, 1).unwrap();
        a.jne(skip).unwrap();
        a.shl(rax, 3).unwrap();
        a.xor(rax, rbx).unwrap();
        a.set_label(&mut skip).unwrap();
        a.push(rax).unwrap();
        a.call(leaf).unwrap();
        a.pop(rax).unwrap();
        a.cmp(rax, rdx).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.hlt().unwrap();
        a.set_label(&mut leaf).unwrap();
        a.inc(qword_ptr(rsi + 64)).unwrap();
        a.ret().unwrap();
    });
    let start = std::time::Instant::now();
    assert_eq!(p.run(), Exit::Halt);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(p.m.peek64(DATA + 64), 300_000);
    println!("{:.0} MIPS", p.i.retired as f64 / seconds / 1e6);
}

#[test]
fn what_cpuid_does_not_announce_is_no_instruction() {
    type Line = fn(&mut CodeAssembler);
    let absent: [Line; 10] = [
        |a| a.aesenc(xmm0, xmm1).unwrap(),
        |a| a.pclmulqdq(xmm0, xmm1, 0).unwrap(),
        |a| a.sha1nexte(xmm0, xmm1).unwrap(),
        |a| a.vpxor(xmm0, xmm0, xmm1).unwrap(),
        |a| a.vpaddd(ymm0, ymm0, ymm1).unwrap(),
        |a| a.vfmadd132ps(xmm0, xmm1, xmm2).unwrap(),
        |a| a.vaesenc(ymm0, ymm1, ymm2).unwrap(),
        |a| a.kmovw(k1, eax).unwrap(),
        |a| a.monitor().unwrap(),
        |a| a.xsaves(ptr(rsp)).unwrap(),
    ];
    let state = || {
        let mut s = long_mode();
        s.cr4 |= cr4::OSFXSR | cr4::OSXSAVE;
        // As if a guest had got AVX and AVX-512 past XSETBV.
        s.xcr0 = 0xe7;
        s
    };
    for (n, line) in absent.into_iter().enumerate() {
        for stepped in [false, true] {
            let mut p = program(state(), |a| {
                a.nop().unwrap();
                line(a);
                a.hlt().unwrap();
            });
            if stepped {
                // Each instruction by itself, as under the trap flag.
                p.i.cpu.state.dr[7] |= 1;
            }
            assert_eq!(p.run(), Exit::Halt);
            assert_eq!(
                p.i.cpu.state.rip,
                HANDLERS + 16 * vector::UD as u64 + 1,
                "line {n}, stepped {stepped}"
            );
        }
    }
    let mut p = program(state(), |a| {
        a.pcmpgtq(xmm0, xmm1).unwrap();
        a.crc32(eax, ecx).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(p.run(), Exit::Halt);
    assert!(p.i.cpu.state.rip < HANDLERS, "what it announces is there");
}
