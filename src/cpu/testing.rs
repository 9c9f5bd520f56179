//! A machine for tests: flat RAM with identity page tables, port and MSR logs, and an assembler in front.
#![expect(unsafe_code, reason = "the test RAM is lent by host pointer, as a real machine's is")]

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;

use iced_x86::code_asm::CodeAssembler;

use super::machine::{HostPage, Machine, MsrFault};
use super::state::{Segment, cr0, cr4, efer, seg};
use super::{Cpu, CpuState, Outcome};

pub const PAGE: usize = 4096;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Page([u8; PAGE]);

/// 4 MiB of RAM at physical 0; everything above is MMIO that is recorded.
pub struct TestMachine {
    ram: Box<[Page]>,
    pub ports: Vec<(u16, u8, u32)>,
    pub mmio: Vec<(u64, Vec<u8>)>,
    pub msrs: HashMap<u32, u64>,
    pub tsc: u64,
    pub cr8: u64,
    /// What RDRAND and RDSEED find.
    pub random: Option<u64>,
    pub bell: AtomicBool,
    /// A page that is not RAM any more.
    pub moved: Option<u64>,
}

/// Where tests put things.
pub const CODE: u64 = 0x10_0000;
pub const DATA: u64 = 0x11_0000;
pub const STACK: u64 = 0x12_0000;
pub const TABLES: u64 = 0x1000;

impl TestMachine {
    pub fn new() -> Self {
        TestMachine {
            ram: vec![Page([0; PAGE]); 1024].into(),
            ports: Vec::new(),
            mmio: Vec::new(),
            msrs: HashMap::new(),
            tsc: 1000,
            cr8: 0,
            random: None,
            bell: AtomicBool::new(false),
            moved: None,
        }
    }

    fn slot(&mut self, address: u64, size: usize) -> &mut [u8] {
        let at = address as usize;
        &mut self.ram[at / PAGE].0[at % PAGE..at % PAGE + size]
    }

    pub fn poke(&mut self, address: u64, data: &[u8]) {
        for (n, b) in data.iter().enumerate() {
            self.slot(address + n as u64, 1)[0] = *b;
        }
    }

    pub fn peek<const N: usize>(&mut self, address: u64) -> [u8; N] {
        std::array::from_fn(|n| self.slot(address + n as u64, 1)[0])
    }

    pub fn peek64(&mut self, address: u64) -> u64 {
        u64::from_le_bytes(self.peek(address))
    }

    pub fn poke64(&mut self, address: u64, v: u64) {
        self.poke(address, &v.to_le_bytes());
    }

    /// Identity map of the first 8 MiB in 4 KiB pages and one of the GiB above by a 2 MiB page each, all user and
    /// writable.
    pub fn map(&mut self) {
        let (pml4, pdpt, pd, pt) = (TABLES, TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000);
        self.poke64(pml4, pdpt | 7);
        self.poke64(pdpt, pd | 7);
        for n in 0..4 {
            self.poke64(pd + 8 * n, (pt + 0x1000 * n) | 7);
        }
        for n in 0..2048 {
            self.poke64(pt + 8 * n, (n << 12) | 7);
        }
    }

    /// Address of the page-table entry of a linear page below 8 MiB.
    pub fn pte(address: u64) -> u64 {
        TABLES + 0x3000 + (address >> 12) * 8
    }
}

impl Machine for TestMachine {
    fn bell(&self) -> &AtomicBool {
        &self.bell
    }

    fn ram(&mut self, page: u64) -> Option<HostPage> {
        let p = self.ram.get_mut((page / PAGE as u64) as usize).filter(|_| self.moved != Some(page))?;
        // SAFETY: 4096 aligned bytes that live as long as the test's machine, which outlives its CPU's runs.
        Some(unsafe { HostPage::new(NonNull::from(&mut p.0).cast()) })
    }

    fn read(&mut self, _: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write(&mut self, address: u64, data: &[u8]) {
        self.mmio.push((address, data.to_vec()));
    }

    fn port_in(&mut self, port: u16, _: u8) -> u32 {
        port as u32 * 0x0001_0001
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) {
        self.ports.push((port, size, value));
    }

    fn rdmsr(&mut self, msr: u32) -> Result<u64, MsrFault> {
        self.msrs.get(&msr).copied().ok_or(MsrFault)
    }

    fn wrmsr(&mut self, msr: u32, value: u64) -> Result<(), MsrFault> {
        self.msrs.insert(msr, value);
        Ok(())
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        match (leaf, subleaf) {
            (0xd, 0) => [0xe7, 0, 0, 0],
            _ => [leaf, subleaf, 0, 0],
        }
    }

    fn tsc(&mut self) -> u64 {
        assert!(self.tsc != u64::MAX, "no such time");
        self.tsc += 1;
        self.tsc
    }

    fn random(&mut self) -> Option<u64> {
        self.random
    }

    fn cr8(&mut self) -> u64 {
        self.cr8
    }

    fn set_cr8(&mut self, priority: u64) {
        self.cr8 = priority;
    }
}

/// 64-bit mode at CPL 0 with paging on, everything an operating system would switch on.
pub fn long_mode() -> CpuState {
    let mut s = CpuState { rip: CODE, cr3: TABLES, ..CpuState::default() };
    s.cr0 = cr0::PE | cr0::PG | cr0::WP | cr0::NE | cr0::ET | cr0::MP;
    s.cr4 = cr4::PAE
        | cr4::OSFXSR
        | cr4::OSXMMEXCPT
        | cr4::OSXSAVE
        | cr4::FSGSBASE
        | cr4::SMAP
        | cr4::SMEP
        | cr4::PGE;
    // The identity map is a user map; tests of SMAP and SMEP switch them on where they mean them.
    s.cr4 &= !(cr4::SMAP | cr4::SMEP);
    s.efer = efer::LMA | efer::LME | efer::NXE | efer::SCE;
    s.xcr0 = 0xe7;
    s.gpr = [0; 16];
    s.gpr[4] = STACK;
    let data = Segment { selector: 0x18, attr: 0xc093, limit: u32::MAX, base: 0 };
    s.segs = [data; 6];
    s.segs[seg::CS] = Segment { selector: 0x10, attr: 0xa09b, limit: u32::MAX, base: 0 };
    s
}

/// The same at CPL 3.
pub fn user_mode() -> CpuState {
    let mut s = long_mode();
    s.segs = [Segment { selector: 0x2b, attr: 0xc0f3, limit: u32::MAX, base: 0 }; 6];
    s.segs[seg::CS] = Segment { selector: 0x33, attr: 0xa0fb, limit: u32::MAX, base: 0 };
    s
}

/// A machine with code in place and a CPU about to run it.
pub struct Bench {
    pub m: TestMachine,
    pub c: Cpu,
}

impl Bench {
    /// Assembles `code` at [`CODE`].
    pub fn new(state: CpuState, code: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut a = CodeAssembler::new(64).unwrap();
        code(&mut a);
        let bytes = a.assemble(CODE).unwrap();
        Self::with_bytes(state, &bytes)
    }

    pub fn with_bytes(state: CpuState, bytes: &[u8]) -> Self {
        let mut m = TestMachine::new();
        m.map();
        m.poke(CODE, bytes);
        Bench { m, c: Cpu::new(state) }
    }

    pub fn step(&mut self) -> Outcome {
        self.c.run_one(&mut self.m, None)
    }

    /// Runs `n` instructions, each of which must retire.
    pub fn steps(&mut self, n: usize) -> &mut Self {
        for k in 0..n {
            assert_eq!(self.step(), Outcome::Retired, "instruction {k}");
        }
        self
    }

    pub fn reg(&self, r: usize) -> u64 {
        self.c.state.gpr[r]
    }
}
