//! Registers at the kernel's entry, from [`EntryState`] to KVM's structures.
//!
//! Called by `vcpu.rs` at reset; changes only what the entry conventions say (Linux boot protocol, 64-bit;
//! PVH; multiboot; real mode), on top of the power-on state.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::accel::{EntryMode, EntryState};

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Only the bit that always reads as one: interrupts off.
const RFLAGS_FIXED: u64 = 2;
/// Offset of the first instruction after power-on.
const RESET_VECTOR: u64 = 0xfff0;

/// General registers for `entry`; all others zero.
pub(super) fn regs(entry: &EntryState) -> kvm_regs {
    let power_on = entry.mode == EntryMode::PowerOn;
    kvm_regs {
        rip: if power_on { RESET_VECTOR } else { entry.rip },
        rsp: entry.rsp,
        rsi: entry.rsi,
        rbx: entry.rbx,
        rax: entry.rax,
        rflags: RFLAGS_FIXED,
        ..Default::default()
    }
}

/// Puts segments, tables and control registers of `entry` into `sregs`, which holds the power-on state.
pub(super) fn apply(entry: &EntryState, sregs: &mut kvm_sregs) {
    if entry.mode == EntryMode::PowerOn {
        return;
    }
    sregs.gdt.base = entry.gdt_base;
    sregs.gdt.limit = entry.gdt_limit;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    match entry.mode {
        EntryMode::PowerOn => {}
        EntryMode::Long { cr3 } => {
            flat(sregs, true);
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = cr3;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
        EntryMode::Protected => {
            flat(sregs, false);
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
        }
        EntryMode::Real { segment } => real(sregs, segment),
    }
}

/// Flat segments: code 0x10, data 0x18, and a busy TSS at 0 as PVH asks for (base 0, limit 67h).
fn flat(sregs: &mut kvm_sregs, long: bool) {
    let code = kvm_segment { selector: 0x10, type_: 11, l: long.into(), db: (!long).into(), ..segment_4g() };
    let data = kvm_segment { selector: 0x18, type_: 3, db: 1, ..segment_4g() };
    sregs.cs = code;
    for register in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *register = data;
    }
    sregs.tr = kvm_segment { limit: 0x67, type_: 11, present: 1, ..Default::default() };
    sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
}

fn segment_4g() -> kvm_segment {
    kvm_segment { limit: 0xffff_ffff, present: 1, s: 1, g: 1, ..Default::default() }
}

fn real(sregs: &mut kvm_sregs, segment: u16) {
    let base = u64::from(segment) << 4;
    let data = kvm_segment {
        base,
        limit: 0xffff,
        selector: segment,
        type_: 3,
        present: 1,
        s: 1,
        ..Default::default()
    };
    sregs.cs = kvm_segment { type_: 11, ..data };
    for register in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        *register = data;
    }
    sregs.idt.limit = 0xffff;
}
