//! The software CPU on code, tables and state that the input makes up: no panic, no access outside the memory that it
//! was given, bounded work for each instruction and each run. Everything is done twice, with blocks that become host
//! code at once and with ops alone, and must come out the same after every turn.
//!
//! The input: a mode, bits to change in the state, a list of turns (budgets, interrupts, writes by "DMA"), patches of
//! memory, and what is left is code. Without patches there are page tables that map all RAM, descriptor tables for
//! every mode, and interrupt handlers that return.
#![expect(unsafe_code, reason = "RAM is lent to the CPU by host pointer, as a real machine's is")]

use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minivmm::cpu::cpuid::{Topology, model};
use minivmm::cpu::machine::{HostPage, Machine, MsrFault};
use minivmm::cpu::state::{CpuState, Segment, TableRegister, cr0, cr4, efer, rflags, seg};
use minivmm::cpu::{CodePages, Exit, Interpreter, Outcome};

use super::input::Input;

/// Pages of RAM from physical address 0.
const PAGES: usize = 32;
const CANARY: u8 = 0xc5;
/// Where things lie, in pages.
const TABLES: usize = 1;
const GDT: usize = 8;
const IDT: usize = 9;
const TSS: usize = 10;
const HANDLERS: usize = 12;
const CODE: usize = 16;
/// Calls to the machine that one instruction may make: 4096 repetitions with two operands, each found by a walk of
/// five levels that reads, marks and looks again.
const CALLS_AT_MOST: u64 = 4096 * 2 * 16;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Page([u8; 4096]);

/// RAM pages with a page that nobody may touch before and after each; everything else is a device that answers with
/// the input.
struct FuzzMachine {
    /// RAM page n is at 2n + 1.
    pages: Vec<Page>,
    calls: u64,
    noise: u64,
    bell: AtomicBool,
    cr8: u64,
}

impl FuzzMachine {
    fn new() -> Self {
        let mut pages = vec![Page([CANARY; 4096]); 2 * PAGES + 1];
        pages.iter_mut().skip(1).step_by(2).for_each(|ram| ram.0.fill(0));
        let mut m = FuzzMachine { pages, calls: 0, noise: 0, bell: AtomicBool::new(false), cr8: 0 };
        tables(&mut m);
        m
    }

    /// RAM as `fresh` has it.
    fn restart(&mut self, fresh: &FuzzMachine, noise: u64) {
        self.pages.copy_from_slice(&fresh.pages);
        (self.calls, self.noise, self.cr8) = (0, noise | 1, 0);
        self.bell.store(false, Ordering::Relaxed);
    }

    fn check_canaries(&self) {
        // One comparison for each page: the fuzzer traces every other.
        for page in self.pages.iter().step_by(2) {
            assert!(page.0 == [CANARY; 4096], "wrote outside the RAM that it was given");
        }
    }

    fn poke(&mut self, address: usize, data: &[u8]) {
        for (n, &b) in data.iter().enumerate() {
            let at = (address + n) % (PAGES * 4096);
            self.pages[2 * (at / 4096) + 1].0[at % 4096] = b;
        }
    }

    fn next(&mut self) -> u64 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        self.bell.store(self.noise & 0xff00 == 0, Ordering::Relaxed);
        self.noise
    }

    fn called(&mut self, address: u64, size: usize) {
        self.calls += 1;
        assert!(address < 1 << 52, "physical address {address:#x}");
        assert!((1..=64).contains(&size), "access of {size} bytes");
        assert!((address & 4095) as usize + size <= 4096, "{size} bytes at {address:#x} cross a page");
    }
}

impl Machine for FuzzMachine {
    fn ram(&mut self, page: u64) -> Option<HostPage> {
        self.calls += 1;
        assert!(page & 4095 == 0 && page < 1 << 52, "page {page:#x}");
        let n = usize::try_from(page >> 12).ok().filter(|&n| n < PAGES)?;
        // SAFETY: 4096 aligned bytes of a vector that is never resized and outlives the CPU's runs.
        Some(unsafe { HostPage::new(NonNull::from(&mut self.pages[2 * n + 1].0).cast()) })
    }

    /// The last page is ROM.
    fn writable(&mut self, page: u64) -> bool {
        page >> 12 != PAGES as u64 - 1
    }

    fn read(&mut self, address: u64, data: &mut [u8]) {
        self.called(address, data.len());
        data.fill_with(|| self.next() as u8);
    }

    fn write(&mut self, address: u64, data: &[u8]) {
        self.called(address, data.len());
    }

    fn port_in(&mut self, _: u16, size: u8) -> u32 {
        assert!(matches!(size, 1 | 2 | 4), "IN of {size} bytes");
        self.calls += 1;
        self.next() as u32
    }

    fn port_out(&mut self, _: u16, size: u8, _: u32) {
        assert!(matches!(size, 1 | 2 | 4), "OUT of {size} bytes");
        self.calls += 1;
    }

    fn rdmsr(&mut self, msr: u32) -> Result<u64, MsrFault> {
        self.calls += 1;
        if msr & 1 == 0 { Ok(self.next()) } else { Err(MsrFault) }
    }

    fn wrmsr(&mut self, msr: u32, _: u64) -> Result<(), MsrFault> {
        self.calls += 1;
        if msr & 1 == 0 { Ok(()) } else { Err(MsrFault) }
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        self.calls += 1;
        let one = Topology { apic_id: 0, cpus: 1, tsc_khz: 1_000_000, x2apic: false, tsc_deadline: true };
        model(&one, leaf, subleaf)
    }

    fn tsc(&mut self) -> u64 {
        self.calls += 1;
        self.next()
    }

    fn cr8(&mut self) -> u64 {
        self.cr8
    }

    fn bell(&self) -> &AtomicBool {
        &self.bell
    }

    fn set_cr8(&mut self, priority: u64) {
        assert!(priority < 16, "CR8 {priority}");
        self.cr8 = priority;
    }
}

/// A processor and its machine.
struct Side {
    m: FuzzMachine,
    cpu: Interpreter<FuzzMachine>,
    pages: Arc<CodePages>,
}

impl Side {
    fn new() -> Self {
        let pages = Arc::new(CodePages::new(PAGES as u64 * 4096));
        let cpu = Interpreter::new(CpuState::default(), pages.clone());
        Side { m: FuzzMachine::new(), cpu, pages }
    }

    /// Does one turn; says how it ended, and whether nothing can come after it.
    fn take(&mut self, turn: Turn) -> (Option<Exit>, bool) {
        let Side { m, cpu, pages } = self;
        (m.calls, cpu.retired) = (0, 0);
        let ended = match turn.kind % 8 {
            0 if cpu.cpu.interruptible() => (None, cpu.cpu.interrupt(m, turn.argument).is_err()),
            1 => (None, cpu.cpu.interrupt(m, 2).is_err()),
            2 => {
                let at = (turn.argument as usize) << 9;
                let word = m.next().to_le_bytes();
                m.poke(at, &word);
                pages.written(at as u64 % (PAGES as u64 * 4096));
                (None, false)
            }
            3 => {
                cpu.retired = 1;
                (None, matches!(cpu.cpu.run_one(m, None), Outcome::Halt))
            }
            _ => {
                let budget = turn.argument as u64 + 1;
                let exit = cpu.run(m, budget);
                assert!(cpu.retired <= budget + 32, "{} instructions for a budget of {budget}", cpu.retired);
                (Some(exit), exit == Exit::Shutdown || exit == Exit::Halt && !cpu.cpu.interruptible())
            }
        };
        assert!(m.calls <= CALLS_AT_MOST * (cpu.retired + 4), "{} calls to the machine", m.calls);
        ended
    }
}

/// Made once: the cache of decoded code is large.
struct Bench {
    /// With tables and nothing else.
    fresh: FuzzMachine,
    /// Whose blocks become host code, and whose blocks stay ops.
    host_code: Side,
    ops: Side,
}

thread_local! {
    static BENCH: RefCell<Bench> = {
        let mut ops = Side::new();
        ops.cpu.translate_after(u16::MAX);
        RefCell::new(Bench { fresh: FuzzMachine::new(), host_code: Side::new(), ops })
    };
}

/// The target.
pub fn run(data: &[u8]) {
    BENCH.with_borrow_mut(|bench| {
        let turns = bench.set_up(&mut Input::new(data));
        bench.take(&turns);
        bench.host_code.m.check_canaries();
        bench.ops.m.check_canaries();
    });
}

/// One step of the run.
#[derive(Clone, Copy, Debug)]
struct Turn {
    kind: u8,
    argument: u8,
}

impl Bench {
    fn set_up(&mut self, input: &mut Input) -> Vec<Turn> {
        let mode = input.u8();
        let Bench { fresh, host_code, ops } = self;
        host_code.m.restart(fresh, input.u64());
        let mut s = state(mode, input);
        change(&mut s, input);
        for _ in 0..input.u8() % 16 {
            let at = input.u16() as usize * 2;
            let n = input.u8() % 65;
            host_code.m.poke(at, input.bytes(n as usize));
        }
        let turns =
            (0..1 + input.u8() % 24).map(|_| Turn { kind: input.u8(), argument: input.u8() }).collect();
        host_code.m.poke(CODE * 4096, input.bytes(3 * 4096));
        ops.m.restart(&host_code.m, host_code.m.noise);
        // At once, or ops first.
        host_code.cpu.translate_after(1 + u16::from(mode >> 3 & 1));
        for side in [host_code, ops] {
            side.pages.forget_all();
            side.cpu.cpu.state = s.clone();
            side.cpu.reset();
            side.cpu.want_window = mode & 0x80 != 0;
        }
        turns
    }

    fn take(&mut self, turns: &[Turn]) {
        let Bench { host_code, ops, .. } = self;
        for (n, turn) in turns.iter().enumerate() {
            let (one, other) = (host_code.take(*turn), ops.take(*turn));
            let counted = (host_code.cpu.retired, ops.cpu.retired);
            assert!(one == other, "turn {n}, {turn:?}: host code {one:?}, ops {other:?}");
            assert!(counted.0 == counted.1, "turn {n}, {turn:?}: instructions {counted:?}");
            let (a, b) = (&host_code.cpu.cpu.state, &ops.cpu.cpu.state);
            assert!(a == b, "turn {n}, {turn:?}: host code {a:x?}\nops {b:x?}");
            if one.1 {
                break;
            }
        }
        assert!(host_code.m.noise == ops.m.noise, "the machine was asked for something else");
        let pages = host_code.m.pages.iter().zip(&ops.m.pages);
        let other = pages.enumerate().position(|(_, (a, b))| a.0 != b.0);
        assert!(other.is_none(), "page {other:?} differs (RAM page n is at 2n + 1)");
    }
}

/// Page tables of every kind that map all RAM one to one, descriptor tables, and handlers that return.
fn tables(m: &mut FuzzMachine) {
    let entry = |m: &mut FuzzMachine, page: usize, n: usize, to: usize, flags: u64| {
        m.poke(page * 4096 + 8 * n, &((to as u64 * 4096) | flags).to_le_bytes());
    };
    // PML5 -> PML4 -> PDPT -> PD -> PT; PAE enters at its own PDPT.
    for level in 0..4 {
        entry(m, TABLES + level, 0, TABLES + level + 1, 7);
        entry(m, TABLES + level, 511, TABLES + level + 1, 7);
    }
    entry(m, PAE_ROOT, 0, TABLES + 3, 1);
    for n in 0..PAGES {
        entry(m, TABLES + 4, n, n, 7);
        m.poke(LEGACY_TABLE * 4096 + 4 * n, &((n as u32 * 4096) | 7).to_le_bytes());
    }
    m.poke(LEGACY_ROOT * 4096, &((LEGACY_TABLE * 4096) as u32 | 7).to_le_bytes());
    for (n, descriptor) in GDT_ENTRIES.iter().enumerate() {
        m.poke(GDT * 4096 + 8 * n, &descriptor.to_le_bytes());
    }
    for n in 0..256usize {
        let handler = (HANDLERS * 4096 + 16 * n) as u64;
        // 16 bytes each: the low half is a 32-bit gate too, for every other vector of protected mode.
        let gate = handler & 0xffff | 0x08 << 16 | 0xee00 << 32 | (n as u64 % 3) << 32;
        m.poke(IDT * 4096 + 16 * n, &gate.to_le_bytes());
        // Drops the error code where there is one, then IRETQ.
        let code: &[u8] =
            if matches!(n, 8 | 10..=14 | 17) { &[0x48, 0x83, 0xc4, 8, 0x48, 0xcf] } else { &[0x48, 0xcf] };
        m.poke(handler as usize, code);
    }
    for n in 0..16 {
        m.poke(TSS * 4096 + 4 + 8 * n, &(STACK + 0x100 * n as u64).to_le_bytes());
    }
}

/// CR3 of PAE and of 32-bit paging.
const PAE_ROOT: usize = 6;
const LEGACY_ROOT: usize = 7;
const LEGACY_TABLE: usize = 11;
const STACK: u64 = 24 * 4096;

/// Null, 64-bit code, data, 32-bit code, 16-bit code, 16-bit data, user code, user data, TSS (two places), LDT (two),
/// a call gate, a code segment that is not present, conforming code, read-only data.
const GDT_ENTRIES: [u64; 16] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x0000_9b00_0000_ffff,
    0x0000_9300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x0000_8900_a000_0fff,
    0,
    0x0000_8200_8000_0fff,
    0,
    0x0000_ec00_0008_c000,
    0x00cf_1b00_0000_ffff,
    0x00cf_9f00_0000_ffff,
    0x00cf_b100_0000_ffff,
];

/// A state that runs, in one of eight modes.
fn state(mode: u8, input: &mut Input) -> CpuState {
    let mut s = CpuState::default();
    for (n, r) in s.gpr.iter_mut().enumerate() {
        // Addresses in RAM, small numbers, anything.
        let v = input.u16() as u64;
        *r = match v & 3 {
            0 | 1 => v << 1,
            2 => v >> 2,
            _ => v.wrapping_mul(0x9e37_79b9_7f4a_7c15) << (n & 7),
        };
    }
    s.gpr[4] = STACK + 0x800;
    s.rip = CODE as u64 * 4096;
    s.gdtr = TableRegister { base: GDT as u64 * 4096, limit: 16 * 8 - 1 };
    s.idtr = TableRegister { base: IDT as u64 * 4096, limit: 0xfff };
    s.tr = Segment { selector: 0x40, attr: 0x8b, limit: 0xfff, base: TSS as u64 * 4096 };
    s.msrs.star = 0x0033_0008 << 32;
    s.msrs.lstar = CODE as u64 * 4096 + 64;
    s.msrs.sysenter_cs = 8;
    s.msrs.sysenter_eip = s.msrs.lstar;
    s.msrs.sysenter_esp = STACK;
    s.xcr0 = 3;
    let protected = cr0::PE | cr0::NE | cr0::ET | cr0::MP;
    let paged = protected | cr0::PG | cr0::WP | cr0::AM;
    let features = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE | cr4::FSGSBASE | cr4::PGE;
    let long = efer::LMA | efer::LME | efer::NXE | efer::SCE;
    let user = if mode & 0x40 != 0 { 0x60 } else { 0 };
    // Attributes of the code segment: 64, 32, 16 bits.
    let (code64, code32, code16) = (0xa09b | user, 0xc09b | user, 0x009b | user);
    let (cr0, cr3, cr4, efer, code) = match mode % 8 {
        0 => (cr0::ET, 0, 0, 0, 0x9b),
        1 => (protected, 0, features, 0, code16),
        2 => (protected, 0, features, 0, code32),
        3 => (paged, LEGACY_ROOT, features | cr4::PSE, 0, code32),
        4 => (paged, PAE_ROOT, features | cr4::PAE, efer::NXE, code32),
        5 => (paged, TABLES + 1, features | cr4::PAE, long, code32),
        6 => (paged, TABLES, features | cr4::PAE | cr4::LA57, long, code64),
        _ => (paged, TABLES + 1, features | cr4::PAE, long, code64),
    };
    (s.cr0, s.cr3, s.cr4, s.efer) = (cr0, cr3 as u64 * 4096, cr4, efer);
    if mode.is_multiple_of(8) {
        s.segs = [Segment { selector: 0, attr: 0x93, limit: 0xffff, base: 0 }; 6];
        s.segs[seg::CS] = Segment { selector: 0x1000, attr: 0x9b, limit: 0xffff, base: CODE as u64 * 4096 };
        (s.rip, s.gpr[4]) = (0, 0x8000);
        s.idtr = TableRegister { base: 0, limit: 0x3ff };
    } else {
        let rpl = u16::from(user != 0) * 3;
        s.segs = [Segment { selector: 0x10 | rpl, attr: 0xc093 | user, limit: u32::MAX, base: 0 }; 6];
        s.segs[seg::CS] = Segment { selector: 8 | rpl, attr: code, limit: u32::MAX, base: 0 };
    }
    s
}

/// Changes to the state that the input asks for: single bits of what rules the processor, or whole registers.
fn change(s: &mut CpuState, input: &mut Input) {
    for _ in 0..input.u8() % 12 {
        let (what, which) = (input.u8(), input.u8());
        let bit = 1u64 << (which & 63);
        match what % 16 {
            0 => s.cr0 ^= bit & 0xffff_ffff,
            1 => s.cr4 ^= bit & 0x00ff_ffff,
            2 => s.efer ^= bit & 0xfff,
            3 => s.rflags ^= bit & 0x003f_ffff & !rflags::FIXED,
            4 => s.segs[which as usize % 6].attr ^= 1 << (input.u8() & 15),
            5 => s.segs[which as usize % 6].base = input.u64(),
            6 => s.segs[which as usize % 6].limit = input.u32(),
            7 => s.segs[which as usize % 6].selector = input.u16(),
            8 => s.gpr[which as usize % 16] = input.u64(),
            9 => s.rip = input.u64(),
            10 => s.cr3 = input.u64() & 0x000f_ffff_ffff_ffff,
            11 => s.dr[which as usize % 8] ^= 1 << (input.u8() & 63),
            12 => s.xcr0 ^= bit & 0xe6,
            13 => s.tr = Segment { attr: input.u16(), limit: input.u32(), base: input.u64(), ..s.tr },
            14 => {
                let table = if which & 1 == 0 { &mut s.gdtr } else { &mut s.idtr };
                *table = TableRegister { base: input.u64(), limit: input.u16() };
            }
            _ => match which % 4 {
                0 => s.interrupt_shadow ^= true,
                1 => s.nmi_blocked ^= true,
                2 => s.vec.fcw ^= input.u16(),
                _ => s.vec.mxcsr ^= input.u32() & 0xffff,
            },
        }
    }
}
