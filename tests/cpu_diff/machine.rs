//! The guest's side: the same linear addresses as on the host, over RAM of its own.
#![expect(unsafe_code, reason = "the RAM is lent by host pointer, as a real machine's is")]

use std::ptr::NonNull;

use minivmm::cpu::machine::{HostPage, Machine, MsrFault};
use minivmm::cpu::state::{CpuState, Segment, TableRegister, cr0, cr4, efer, gpr, seg};

use crate::generate::Case;
use crate::programs::Program;

pub const INT3: u8 = 0xcc;

/// Linear addresses, the same on the host: a page of code, two pages of data with nothing around them, one page that
/// may only be read.
pub const CODE: u64 = 0x1000_0000;
pub const DATA: u64 = 0x1001_0000;
pub const DATA_SIZE: usize = 0x2000;
pub const READ_ONLY: u64 = 0x1001_4000;
/// Two pages of code that may be written, for programs.
pub const PROGRAM: u64 = 0x1000_8000;
pub const PROGRAM_SIZE: usize = 0x2000;
/// The guest's alone, for its supervisor: descriptor tables, handlers, a stack down from the end of the page. In the
/// kernel's half, of which the host's processor tells its users alike.
const SYSTEM: u64 = 0xffff_ffff_c002_0000;
const HANDLERS: u64 = SYSTEM + 0x400;
const TSS: u64 = SYSTEM + 0x800;
const GDT: u64 = SYSTEM + 0x900;
const VECTORS: u64 = 48;
/// The vector of an interrupt whose handler returns at once; that of #DB does, too.
pub const RETURNS: u8 = 0x20;
const DEBUG: u8 = 1;
const BREAKPOINT: u64 = 3;

/// Physical pages.
const TABLES: usize = 1;
/// The three below the first that lead to [`SYSTEM`].
const SYSTEM_TABLES: usize = 5;
const CODE_PAGE: usize = 8;
const DATA_PAGE: usize = 9;
const READ_ONLY_PAGE: usize = 11;
const PROGRAM_PAGE: usize = 12;
const SYSTEM_PAGE: usize = 14;
pub const RAM_END: u64 = 16 * 4096;

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
        m.entry(TABLES + 3, page(PROGRAM), PROGRAM_PAGE as u64 * 4096 + 0x67);
        m.entry(TABLES + 3, page(PROGRAM) + 1, (PROGRAM_PAGE + 1) as u64 * 4096 + 0x67);
        let index = |shift: u32| (SYSTEM >> shift & 511) as usize;
        for (level, shift) in [39, 30, 21].into_iter().enumerate() {
            let table = if level == 0 { TABLES } else { SYSTEM_TABLES + level - 1 };
            m.entry(table, index(shift), (SYSTEM_TABLES + level) as u64 * 4096 + 0x67);
        }
        m.entry(SYSTEM_TABLES + 2, index(12), SYSTEM_PAGE as u64 * 4096 + 0x63);
        m.system();
        m
    }

    /// Descriptor tables, and handlers that stop, but for those that return.
    fn system(&mut self) {
        let mut put = |at: u64, bytes: &[u8]| {
            let at = (at - SYSTEM) as usize;
            self.ram[SYSTEM_PAGE].0[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for v in 0..VECTORS {
            let (at, dpl) = (HANDLERS + 16 * v, if v == BREAKPOINT { 3 } else { 0 });
            let gate = at & 0xffff | 0x10 << 16 | (0x8e | dpl << 5) << 40 | (at >> 16 & 0xffff) << 48;
            put(SYSTEM + 16 * v, &gate.to_le_bytes());
            put(SYSTEM + 16 * v + 8, &(at >> 32).to_le_bytes());
            // HLT
            put(at, &[0xf4]);
        }
        // or dword [rsp + 16], RF; iretq
        put(HANDLERS + 16 * u64::from(DEBUG), &[0x81, 0x4c, 0x24, 16, 0, 0, 1, 0, 0x48, 0xcf]);
        put(HANDLERS + 16 * u64::from(RETURNS), &[0x48, 0xcf]);
        put(TSS + 4, &(SYSTEM + 4096).to_le_bytes());
        let descriptors =
            [0, 0, 0x00af_9b00_0000_ffff, 0, 0, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff_u64];
        for (n, d) in (0..).zip(descriptors) {
            put(GDT + 8 * n, &d.to_le_bytes());
        }
    }

    /// Puts a program's code and data in place; says whether other code was there. Whoever keeps decoded code has to be
    /// told (`PROGRAM_PAGES`).
    pub fn load_program(&mut self, p: &Program) -> bool {
        self.load_data(&p.memory);
        // It can be written, too.
        self.ram[CODE_PAGE].0.fill(0);
        let mut code = [Page([INT3; 4096]); 2];
        let start = (p.state.rip - PROGRAM) as usize;
        for (at, &b) in (start..).zip(&p.code) {
            code[at / 4096].0[at % 4096] = b;
        }
        let there = &mut self.ram[PROGRAM_PAGE..PROGRAM_PAGE + 2];
        let other = there.iter().zip(&code).any(|(a, b)| a.0 != b.0);
        there.copy_from_slice(&code);
        other
    }

    /// What stopped the program, once the processor has halted: the vector, its error code, and the user's state as
    /// the exception found it.
    pub fn stopped(&self, s: &CpuState) -> (u8, u32, CpuState) {
        let vector = (s.rip - 1 - HANDLERS) / 16;
        let word = |at: u64| {
            let at = (at - SYSTEM) as usize;
            u64::from_le_bytes(std::array::from_fn(|n| self.ram[SYSTEM_PAGE].0[at + n]))
        };
        let has_code = matches!(vector, 8 | 10..=14 | 17);
        let (code, frame) = (word(s.gpr[gpr::RSP]), s.gpr[gpr::RSP] + if has_code { 8 } else { 0 });
        let mut user = CpuState { rip: word(frame), rflags: word(frame + 16), ..s.clone() };
        user.gpr[gpr::RSP] = word(frame + 24);
        (vector as u8, if has_code { code as u32 } else { 0 }, user)
    }

    /// The pages of the program, as it left them.
    pub fn program(&self) -> [&[u8; 4096]; 2] {
        [&self.ram[PROGRAM_PAGE].0, &self.ram[PROGRAM_PAGE + 1].0]
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
        self.load_data(&case.memory);
    }

    fn load_data(&mut self, memory: &[u8]) {
        for n in 0..2 {
            self.ram[DATA_PAGE + n].0.copy_from_slice(&memory[4096 * n..4096 * (n + 1)]);
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

/// Physical addresses of the program's pages.
pub const PROGRAM_PAGES: [u64; 2] = [PROGRAM_PAGE as u64 * 4096, (PROGRAM_PAGE as u64 + 1) * 4096];

/// A user's state, with the supervisor's tables.
pub fn with_system(s: &CpuState) -> CpuState {
    CpuState {
        idtr: TableRegister { base: SYSTEM, limit: VECTORS as u16 * 16 - 1 },
        gdtr: TableRegister { base: GDT, limit: 7 * 8 - 1 },
        tr: Segment { selector: 0x40, attr: 0x8b, limit: 0x67, base: TSS },
        ..s.clone()
    }
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
