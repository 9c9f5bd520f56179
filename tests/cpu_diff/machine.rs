//! The guest's side: the same linear addresses as on the host, over RAM of its own.
#![expect(unsafe_code, reason = "the RAM is lent by host pointer, as a real machine's is")]

use std::ptr::NonNull;

use minivmm::cpu::machine::{HostPage, Machine, MsrFault};
use minivmm::cpu::state::{CpuState, Segment, cr0, cr4, efer, seg};

use crate::generate::Case;

pub const INT3: u8 = 0xcc;

/// Linear addresses, the same on the host: a page of code, two pages of data with nothing around them, one page that
/// may only be read.
pub const CODE: u64 = 0x1000_0000;
pub const DATA: u64 = 0x1001_0000;
pub const DATA_SIZE: usize = 0x2000;
pub const READ_ONLY: u64 = 0x1001_4000;

/// Physical pages.
const TABLES: usize = 1;
const CODE_PAGE: usize = 8;
const DATA_PAGE: usize = 9;
const READ_ONLY_PAGE: usize = 11;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Page([u8; 4096]);

pub struct GuestMachine {
    ram: Box<[Page; 16]>,
    /// Where the last case's code was.
    code: (usize, usize),
}

impl GuestMachine {
    pub fn new() -> Self {
        let mut m = GuestMachine { ram: Box::new([Page([0; 4096]); 16]), code: (0, 0) };
        // PML4 -> PDPT -> PD -> PT, for the 2 MiB around CODE.
        let index = |shift: u32| (CODE >> shift & 511) as usize;
        for (level, shift) in [39, 30, 21].into_iter().enumerate() {
            m.entry(TABLES + level, index(shift), (TABLES + level + 1) as u64 * 4096 + 0x67);
        }
        let page = |a: u64| (a >> 12 & 511) as usize;
        m.entry(TABLES + 3, page(CODE), CODE_PAGE as u64 * 4096 + 0x67);
        m.entry(TABLES + 3, page(DATA), DATA_PAGE as u64 * 4096 + 0x67);
        m.entry(TABLES + 3, page(DATA) + 1, (DATA_PAGE + 1) as u64 * 4096 + 0x67);
        m.entry(TABLES + 3, page(READ_ONLY), READ_ONLY_PAGE as u64 * 4096 + 0x65);
        m
    }

    fn entry(&mut self, page: usize, n: usize, v: u64) {
        self.ram[page].0[8 * n..8 * n + 8].copy_from_slice(&v.to_le_bytes());
    }

    /// Puts the case's code and data in place.
    pub fn load(&mut self, case: &Case) {
        let at = (case.state.rip - CODE) as usize;
        let code = &mut self.ram[CODE_PAGE].0;
        code[self.code.0..self.code.0 + self.code.1].fill(0);
        self.code = (at, case.bytes.len());
        code[at..at + case.bytes.len()].copy_from_slice(&case.bytes);
        if let Some(behind) = case.breakpoint() {
            code[(behind - CODE) as usize] = INT3;
            self.code.1 += 1;
        }
        for n in 0..2 {
            self.ram[DATA_PAGE + n].0.copy_from_slice(&case.memory[4096 * n..4096 * (n + 1)]);
        }
    }

    /// The data pages.
    pub fn data(&self) -> [&[u8; 4096]; 2] {
        [&self.ram[DATA_PAGE].0, &self.ram[DATA_PAGE + 1].0]
    }
}

impl Machine for GuestMachine {
    fn ram(&mut self, page: u64) -> Option<HostPage> {
        let p = self.ram.get_mut((page >> 12) as usize)?;
        // SAFETY: 4096 aligned bytes of a box that outlives the runs of the CPU.
        Some(unsafe { HostPage::new(NonNull::from(&mut p.0).cast()) })
    }
    fn read(&mut self, _: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn write(&mut self, _: u64, _: &[u8]) {}
    fn port_in(&mut self, _: u16, _: u8) -> u32 {
        0
    }
    fn port_out(&mut self, _: u16, _: u8, _: u32) {}
    fn rdmsr(&mut self, _: u32) -> Result<u64, MsrFault> {
        Err(MsrFault)
    }
    fn wrmsr(&mut self, _: u32, _: u64) -> Result<(), MsrFault> {
        Err(MsrFault)
    }
    fn cpuid(&mut self, _: u32, _: u32) -> [u32; 4] {
        [0; 4]
    }
    fn tsc(&mut self) -> u64 {
        0
    }
    fn cr8(&mut self) -> u64 {
        0
    }
    fn set_cr8(&mut self, _: u64) {}
}

/// 64-bit user mode as Linux sets it up.
pub fn user_state() -> CpuState {
    let mut s = CpuState { cr3: TABLES as u64 * 4096, ..CpuState::default() };
    s.cr0 = cr0::PE | cr0::PG | cr0::WP | cr0::NE | cr0::ET | cr0::MP | cr0::AM;
    s.cr4 = cr4::PAE
        | cr4::OSFXSR
        | cr4::OSXMMEXCPT
        | cr4::OSXSAVE
        | cr4::FSGSBASE
        | cr4::PGE
        | cr4::SMEP
        | cr4::SMAP;
    s.efer = efer::LMA | efer::LME | efer::NXE | efer::SCE;
    s.xcr0 = 0xe7;
    s.tr = Segment::default();
    s.segs = [Segment { selector: 0, attr: 0xc0f3, limit: u32::MAX, base: 0 }; 6];
    s.segs[seg::CS] = Segment { selector: 0x33, attr: 0xa0fb, limit: u32::MAX, base: 0 };
    s.segs[seg::SS] = Segment { selector: 0x2b, attr: 0xc0f3, limit: u32::MAX, base: 0 };
    s
}
