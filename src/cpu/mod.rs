//! x86-64 in software: pure, no KVM, no threads, no files, no clock.
//!
//! ```text
//! state.rs      registers as plain data            xsave.rs      vector registers and their memory images
//! machine.rs    what the CPU sees around it (trait) host.rs      guest RAM by host pointer (unsafe)
//! paging.rs     page-table walks                   tlb.rs        translations, every memory access (unsafe)
//! exceptions.rs vectors, error codes               flags.rs      lazy arithmetic flags
//! op.rs         the decoded form                   decode.rs     bytes -> op, and what an instruction needs
//! segments.rs   descriptors, far transfers         interrupts.rs delivery through the IDT
//! exec/         handlers, one file per family      assist.rs     exactly one instruction (for accel/kvm)
//! cpuid.rs      the CPUID model of accel/soft
//! debug.rs      a debugger's stops                 breakpoints.rs the guest's own, by its debug registers
//! code_pages.rs which pages hold decoded code      run.rs        whole machines, by cached blocks (for accel/soft)
//! threaded.rs   from op to op (unsafe)             blocks.rs     the cache of decoded blocks
//! translate/    blocks as host code (unsafe)
//! ```
//!
//! Two callers: `accel/kvm` runs the one instruction that KVM could not ([`Cpu::run_one`]); `accel/soft` runs whole
//! machines. `docs/cpu.md` lists what is supported.

pub mod assist;
mod blocks;
mod breakpoints;
pub mod code_pages;
pub mod cpuid;
pub mod debug;
pub mod decode;
pub mod exceptions;
mod exec;
mod flags;
mod host;
pub mod interrupts;
pub mod machine;
mod op;
pub mod paging;
pub mod ram;
pub mod run;
mod segments;
pub mod state;
mod threaded;
mod tlb;
mod translate;
pub mod xsave;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_breakpoints;
#[cfg(test)]
mod tests_debug;
#[cfg(test)]
mod tests_fast;
#[cfg(test)]
mod tests_native;
#[cfg(test)]
mod tests_run;
#[cfg(test)]
mod tests_xsave;

pub use assist::{Outcome, Unsupported};
pub use code_pages::CodePages;
pub use exceptions::Exception;
pub use machine::{HostPage, Machine};
pub use run::{Exit, Interpreter};
pub use state::CpuState;

use exceptions::vector;
use flags::Flags;
use state::rflags;

/// One logical processor: its state, and what makes running it fast.
///
/// Between calls `state` is complete and may be read and changed freely; after changing control registers, EFER or
/// page tables behind the CPU's back call [`Cpu::flush_tlb`].
#[derive(Debug)]
pub struct Cpu {
    pub state: CpuState,
    /// Physical address bits that page-table entries may use, 32 to 52; the rest is reserved. As in CPUID leaf
    /// 80000008h.
    pub phys_bits: u32,
    /// Where XSAVE puts what. As in CPUID leaf 0Dh.
    pub xsave_layout: xsave::Layout,
    /// Status flags while running; `state.rflags` has them between runs only.
    flags: Flags,
    tlb: tlb::Tlb,
    /// The exception that goes with [`exceptions::Stop::Fault`].
    fault: Exception,
    /// Which pages hold decoded code: the machine's, or none.
    code: std::sync::Arc<code_pages::CodePages>,
    /// Copies of what `state` says, kept while running.
    cpl: u8,
    bits: u32,
    /// What decoded code depends on: code size (bits 0 to 1) and user rights (bit 3). Never zero.
    mode_key: u32,
    /// Base of the code segment, zero in 64-bit mode.
    code_base: u64,
    /// #AC checks are on: CPL 3, CR0.AM and RFLAGS.AC.
    align_check: bool,
    /// Devices may be touched, and pages that hold decoded code written; `start` is the instruction itself.
    careful: bool,
    /// What a debugger watches.
    watches: debug::Watches,
    /// What the guest's debug registers say; nothing for `accel/kvm`.
    own: breakpoints::Own,
    /// The last instruction has loaded SS: no debug exception before the next is complete, so that a handler never
    /// finds half a stack pointer (SDM vol. 3, 6.8.3).
    stack_switch: bool,
    /// RIP of the first instruction of what is being run; ops know their distance from it.
    start: u64,
    /// The distance of the op that stopped a block.
    stopped: u16,
    /// What host code and whoever runs it tell each other.
    native: translate::Running,
    /// What [`cpuid::model`] does not announce raises #UD. For guests that see another CPUID everything is done that
    /// can be.
    announced_only: bool,
}

impl Cpu {
    /// A processor in the given state, with an empty TLB.
    pub fn new(state: CpuState) -> Self {
        let mut cpu = Cpu {
            state,
            phys_bits: 48,
            xsave_layout: xsave::Layout::INTEL,
            flags: Flags::default(),
            tlb: tlb::Tlb::default(),
            fault: Exception::plain(vector::UD),
            code: Default::default(),
            cpl: 0,
            bits: 64,
            mode_key: 0,
            code_base: 0,
            align_check: false,
            careful: true,
            watches: debug::Watches::default(),
            own: breakpoints::Own::default(),
            stack_switch: false,
            start: 0,
            stopped: 0,
            native: translate::Running::default(),
            announced_only: false,
        };
        cpu.enter();
        cpu
    }

    /// Takes the flags and the mode out of `state`: start of a run.
    fn enter(&mut self) {
        self.flags.set_bits(self.state.rflags);
        self.mode_changed();
    }

    /// Puts the flags back into `state`: end of a run.
    fn leave(&mut self) {
        self.state.rflags = self.rflags();
    }

    /// To be called after CS, CR0, EFER or RFLAGS.VM changed.
    fn mode_changed(&mut self) {
        self.cpl = self.state.cpl();
        self.bits = self.state.code_bits();
        self.mode_key = self.bits >> 5 | 4 | ((self.cpl == 3) as u32) << 3;
        self.code_base = if self.bits == 64 { 0 } else { self.state.segs[state::seg::CS].base };
        self.rights_changed();
    }

    /// RFLAGS with the current status flags.
    fn rflags(&self) -> u64 {
        self.state.rflags & !rflags::STATUS | self.flags.bits() | rflags::FIXED
    }

    /// RIP of the instruction being executed.
    fn here<M>(&self, op: &op::Op<M>) -> u64 {
        exec::wrap_ip(self.start.wrapping_add(op.offset as u64), self.bits)
    }

    /// Protected mode, and not virtual-8086 mode: segments have descriptors.
    fn protected(&self) -> bool {
        self.state.cr0 & state::cr0::PE != 0 && self.state.rflags & rflags::VM == 0
    }
}
