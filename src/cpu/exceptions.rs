//! Exceptions: vector, error code and, for page faults, the address (SDM vol. 3, chapter 6).
//!
//! Raised by every instruction handler and by paging; delivered by `interrupts.rs` or, under KVM, by the kernel.

/// Exception vectors (SDM vol. 3, table 6-1).
pub mod vector {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const MC: u8 = 18;
    pub const XM: u8 = 19;
}

/// Page-fault error code bits (SDM vol. 3, 4.7).
pub mod pf {
    pub const PRESENT: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const USER: u32 = 4;
    pub const RESERVED: u32 = 8;
    pub const FETCH: u32 = 16;
}

/// One exception, ready for delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    pub vector: u8,
    /// The error code, for the vectors that push one.
    pub code: Option<u32>,
    /// Linear address to go into CR2; only for #PF.
    pub cr2: Option<u64>,
}

impl Exception {
    /// An exception without an error code.
    pub const fn plain(vector: u8) -> Self {
        Exception { vector, code: None, cr2: None }
    }

    pub const fn with_code(vector: u8, code: u32) -> Self {
        Exception { vector, code: Some(code), cr2: None }
    }

    pub const fn page_fault(address: u64, code: u32) -> Self {
        Exception { vector: vector::PF, code: Some(code), cr2: Some(address) }
    }
}

/// Why a handler did not finish its instruction. One byte, so that results travel in registers; what belongs to
/// it is kept in [`super::Cpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `Cpu::fault` holds an exception; the instruction has not changed anything and RIP is to point at it.
    Fault,
    /// The instruction is complete, and `Cpu::fault` holds an exception to deliver after it (INT3, INTO, #DB).
    Trap,
    /// INT n: complete, and `Cpu::fault.vector` is to be delivered as a software interrupt.
    Interrupt,
    /// HLT: complete.
    Halt,
    /// PAUSE or MWAIT: complete; the guest says that it is waiting for somebody else.
    Pause,
    /// A string instruction did a bounded part of its work; RIP is to point at it again.
    Again,
    /// The instruction touches a device, or writes to memory that holds decoded code: run it again alone, with that
    /// allowed.
    Careful,
    /// Not implemented here.
    Unsupported,
}

/// What instruction handlers return.
pub type Flow = Result<(), Stop>;
