//! Registers of a CPU at power-on, after INIT and SIPI, and at the kernel's entry.
//!
//! Called by `vcpu.rs`. Pure. Entry conventions: Linux boot protocol (64-bit), PVH, multiboot, real mode.

use crate::accel::{EntryMode, EntryState};
use crate::cpu::CpuState;
use crate::cpu::state::{Segment, TableRegister, cr0, cr4, efer, gpr, seg};

const CODE: u16 = Segment::PRESENT | Segment::CODE_OR_DATA | 0xb;
const DATA: u16 = Segment::PRESENT | Segment::CODE_OR_DATA | 0x3;
const BUSY_TSS: u16 = Segment::PRESENT | 0xb;
const DATA_SEGMENTS: [usize; 5] = [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS];

/// The power-on state with the registers that `entry` names.
pub(super) fn entry_state(entry: &EntryState) -> CpuState {
    if entry.mode == EntryMode::PowerOn {
        return CpuState::default();
    }
    let gdtr = TableRegister { base: entry.gdt_base, limit: entry.gdt_limit };
    let mut state = CpuState { gpr: [0; 16], rip: entry.rip, gdtr, ..CpuState::default() };
    state.gpr[gpr::RAX] = entry.rax;
    state.gpr[gpr::RBX] = entry.rbx;
    state.gpr[gpr::RSI] = entry.rsi;
    state.gpr[gpr::RSP] = entry.rsp;
    match entry.mode {
        EntryMode::PowerOn => {}
        EntryMode::Long { cr3 } => {
            flat(&mut state, Segment::LONG);
            state.cr0 |= cr0::PG;
            state.cr3 = cr3;
            state.cr4 = cr4::PAE;
            state.efer = efer::LME | efer::LMA;
        }
        EntryMode::Protected => flat(&mut state, Segment::BIG),
        EntryMode::Real { segment } => real(&mut state, segment),
    }
    state
}

/// Flat segments: code 0x10, data 0x18, and a busy TSS at 0 as PVH asks for (base 0, limit 67h).
fn flat(state: &mut CpuState, code_kind: u16) {
    let flat = Segment { limit: u32::MAX, ..Segment::default() };
    state.segs[seg::CS] = Segment { selector: 0x10, attr: CODE | Segment::GRANULARITY | code_kind, ..flat };
    for register in DATA_SEGMENTS {
        let attr = DATA | Segment::GRANULARITY | Segment::BIG;
        state.segs[register] = Segment { selector: 0x18, attr, ..flat };
    }
    state.tr = Segment { attr: BUSY_TSS, limit: 0x67, ..Segment::default() };
    state.ldtr = Segment::default();
    state.idtr = TableRegister::default();
    state.cr0 = cr0::PE | cr0::ET;
}

/// Real mode with CS, DS, ES and SS at `segment`, the interrupt vectors at 0.
fn real(state: &mut CpuState, segment: u16) {
    for register in [seg::CS, seg::ES, seg::SS, seg::DS] {
        let attr = if register == seg::CS { CODE } else { DATA };
        state.segs[register] =
            Segment { selector: segment, attr, limit: 0xffff, base: u64::from(segment) << 4 };
    }
    state.idtr = TableRegister { base: 0, limit: 0xffff };
    state.cr0 = cr0::ET;
}

/// After SIPI: real mode at page `page` (SDM volume 3, section 9.4.4.1), everything else as INIT left it.
pub(super) fn sipi(state: &mut CpuState, page: u8) {
    let cs = &mut state.segs[seg::CS];
    cs.selector = u16::from(page) << 8;
    cs.base = u64::from(page) << 12;
    state.rip = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mode: EntryMode) -> EntryState {
        EntryState { mode, rip: 0x100, rsp: 1, rsi: 2, rbx: 3, rax: 4, gdt_base: 0x500, gdt_limit: 0x1f }
    }

    #[test]
    fn modes_are_what_the_cpu_makes_of_the_registers() {
        let long = entry_state(&entry(EntryMode::Long { cr3: 0x1000 }));
        assert_eq!((long.code_bits(), long.cpl(), long.cr3), (64, 0, 0x1000));
        let protected = entry_state(&entry(EntryMode::Protected));
        assert_eq!((protected.code_bits(), protected.cpl(), protected.gpr[gpr::RDX]), (32, 0, 0));
        let real = entry_state(&entry(EntryMode::Real { segment: 0x1000 }));
        assert_eq!((real.code_bits(), real.segs[seg::CS].base), (16, 0x1_0000));
    }

    #[test]
    fn sipi_starts_at_its_page() {
        let mut state = CpuState::default();
        sipi(&mut state, 0x99);
        assert_eq!(
            (state.segs[seg::CS].base, state.segs[seg::CS].selector, state.rip),
            (0x9_9000, 0x9900, 0)
        );
    }
}
