//! The architectural state of one logical processor, as plain data.
//!
//! Filled and read by `accel/kvm` (for the one instruction KVM could not run) and by `accel/soft` (for a whole
//! machine); changed by everything under `cpu/`. It never refers to memory, devices or host state, so it can
//! be copied, compared and stored whole.

use super::xsave::VectorState;

/// Bits of RFLAGS (SDM vol. 1, 3.4.3).
pub mod rflags {
    pub const CF: u64 = 1 << 0;
    /// Reads as one, always.
    pub const FIXED: u64 = 1 << 1;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
    /// The six arithmetic flags.
    pub const STATUS: u64 = CF | PF | AF | ZF | SF | OF;
}

/// Bits of CR0 (SDM vol. 3, 2.5).
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// Bits of CR4 (SDM vol. 3, 2.5).
pub mod cr4 {
    pub const VME: u64 = 1 << 0;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const LA57: u64 = 1 << 12;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
}

/// Bits of IA32_EFER (SDM vol. 3, 2.2.1).
pub mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// Numbers of the general registers in [`CpuState::gpr`]: the order of the instruction encoding.
pub mod gpr {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
    pub const R12: usize = 12;
    pub const R13: usize = 13;
    pub const R14: usize = 14;
    pub const R15: usize = 15;
}

/// Numbers of the segment registers in [`CpuState::segs`]: the order of the instruction encoding.
pub mod seg {
    pub const ES: usize = 0;
    pub const CS: usize = 1;
    pub const SS: usize = 2;
    pub const DS: usize = 3;
    pub const FS: usize = 4;
    pub const GS: usize = 5;
}

/// A segment register with its hidden part, or LDTR or TR.
///
/// `attr` holds the attribute bits where a descriptor's bytes 5 and 6 hold them: type in bits 3:0, S 4, DPL 6:5,
/// P 7, AVL 12, L 13, D/B 14, G 15. A register loaded with a null selector has P clear ("unusable" in KVM's and
/// VMX's words). `limit` is in bytes, with granularity applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub selector: u16,
    pub attr: u16,
    pub limit: u32,
    pub base: u64,
}

impl Segment {
    pub const PRESENT: u16 = 1 << 7;
    pub const CODE_OR_DATA: u16 = 1 << 4;
    pub const LONG: u16 = 1 << 13;
    pub const BIG: u16 = 1 << 14;
    pub const GRANULARITY: u16 = 1 << 15;

    /// The segment type, bits 3:0 (SDM vol. 3, 3.4.5.1).
    pub fn kind(&self) -> u16 {
        self.attr & 15
    }

    /// Descriptor privilege level, 0 to 3.
    pub fn dpl(&self) -> u8 {
        (self.attr >> 5 & 3) as u8
    }

    pub fn present(&self) -> bool {
        self.attr & Self::PRESENT != 0
    }

    /// Code segment for 64-bit mode.
    pub fn long(&self) -> bool {
        self.attr & Self::LONG != 0
    }

    /// D/B: 32-bit code or stack.
    pub fn big(&self) -> bool {
        self.attr & Self::BIG != 0
    }

    /// Whether the type is a code segment.
    pub fn is_code(&self) -> bool {
        self.attr & (Self::CODE_OR_DATA | 8) == Self::CODE_OR_DATA | 8
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRegister {
    pub base: u64,
    pub limit: u16,
}

/// Model-specific registers that the processor itself gives meaning to. Every other MSR is the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    /// Added to the machine's time-stamp counter by RDTSC and RDTSCP (IA32_TSC_ADJUST).
    pub tsc_adjust: u64,
    pub misc_enable: u64,
    pub debugctl: u64,
    /// IA32_XSS; no supervisor state component is supported, so it stays zero.
    pub xss: u64,
}

/// Everything an instruction can see of the processor.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuState {
    /// General registers by their number in the encoding: rax rcx rdx rbx rsp rbp rsi rdi r8..r15.
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    /// ES CS SS DS FS GS.
    pub segs: [Segment; 6],
    pub gdtr: TableRegister,
    pub idtr: TableRegister,
    pub ldtr: Segment,
    pub tr: Segment,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    /// Task priority; only here so that the state is whole: the interrupt controller's copy counts, see
    /// [`super::machine::Machine::cr8`].
    pub cr8: u64,
    pub efer: u64,
    pub dr: [u64; 8],
    pub xcr0: u64,
    pub msrs: Msrs,
    pub vec: VectorState,
    /// The instruction after STI, MOV SS or POP SS has not been executed yet: no interrupt may come in between.
    pub interrupt_shadow: bool,
    /// NMIs are blocked until the next IRET.
    pub nmi_blocked: bool,
    /// HLT was executed; cleared by the delivery of an interrupt.
    pub halted: bool,
}

impl Default for CpuState {
    /// The state after power-up or INIT (SDM vol. 3, table 10-1).
    fn default() -> Self {
        let data = Segment { selector: 0, attr: 0x93, limit: 0xffff, base: 0 };
        let mut segs = [data; 6];
        segs[seg::CS] = Segment { selector: 0xf000, attr: 0x9b, limit: 0xffff, base: 0xffff_0000 };
        let mut gpr = [0; 16];
        gpr[gpr::RDX] = 0x600;
        CpuState {
            gpr,
            rip: 0xfff0,
            rflags: rflags::FIXED,
            segs,
            gdtr: TableRegister { base: 0, limit: 0xffff },
            idtr: TableRegister { base: 0, limit: 0xffff },
            ldtr: Segment { selector: 0, attr: 0x82, limit: 0xffff, base: 0 },
            tr: Segment { selector: 0, attr: 0x8b, limit: 0xffff, base: 0 },
            cr0: 0x6000_0010,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            efer: 0,
            dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            xcr0: 1,
            msrs: Msrs { pat: 0x0007_0406_0007_0406, misc_enable: 1, ..Msrs::default() },
            vec: VectorState::default(),
            interrupt_shadow: false,
            nmi_blocked: false,
            halted: false,
        }
    }
}

impl CpuState {
    /// Where a start-up IPI puts a processor that waits for it after INIT: real mode at `vector` * 4096.
    pub fn startup(&mut self, vector: u8) {
        let cs = &mut self.segs[seg::CS];
        (cs.selector, cs.base) = ((vector as u16) << 8, (vector as u64) << 12);
        self.rip = 0;
        self.halted = false;
    }

    /// Current privilege level, 0 to 3.
    pub fn cpl(&self) -> u8 {
        if self.cr0 & cr0::PE == 0 {
            0
        } else if self.rflags & rflags::VM != 0 {
            3
        } else {
            (self.segs[seg::CS].selector & 3) as u8
        }
    }

    /// IA-32e mode is active (64-bit or compatibility mode).
    pub fn long_mode(&self) -> bool {
        self.efer & efer::LMA != 0
    }

    /// Default operand and address size of the code segment: 16, 32 or 64 bits.
    pub fn code_bits(&self) -> u32 {
        let cs = &self.segs[seg::CS];
        if self.long_mode() && cs.long() {
            64
        } else if cs.big() && self.cr0 & cr0::PE != 0 {
            32
        } else {
            16
        }
    }
}
