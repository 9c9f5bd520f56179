//! Where the guest's CPUs stood when a run ended in a way that leaves that question: a triple fault, a halt, a time that passed.
//!
//! Called by the main thread between the end's reason and the stop of the CPUs. Never fails and never waits long: a CPU that
//! does not answer is left out.

use std::time::Duration;

use super::exit_code::{EndReason, Unseen};
use super::lifecycle::Lifecycle;
use super::observers::Watchers;
use crate::cpu::CpuState;
use crate::cpu::state::seg;

/// How long a CPU may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// More CPUs than these make no better message.
const CPUS: u32 = 4;

/// The reason, with the places where it is one of those.
pub fn add(reason: EndReason, life: &Lifecycle, watchers: &Watchers) -> EndReason {
    let cpus = match reason {
        EndReason::TripleFault(cpu) => cpu..cpu + 1,
        EndReason::Halted | EndReason::Timeout(_) | EndReason::NotSeen(_, Unseen::InTime(_)) => 0..CPUS,
        _ => return reason,
    };
    let registers =
        |cpu| life.with_cpu_within(PATIENCE, cpu, |vcpu| vcpu.registers())?.ok().map(|state| (cpu, state));
    let found: Vec<_> = cpus.map_while(registers).filter(|(_, state)| !is_fresh(state)).collect();
    let addresses: Vec<_> = found.iter().map(|(_, state)| linear(state)).collect();
    let places = found.iter().zip(watchers.describe(&addresses)).map(|((cpu, state), at)| {
        let more = if let EndReason::TripleFault(_) = reason { about_fault(state) } else { String::new() };
        format!("CPU {cpu} at {at}{more}")
    });
    let places = places.collect::<Vec<_>>().join(", ");
    if places.is_empty() { reason } else { EndReason::At(Box::new(reason), places) }
}

/// As after power-on: it has not been started, or the host's KVM has put it there after its triple fault.
fn is_fresh(state: &CpuState) -> bool {
    state.rip == 0xfff0 && state.segs[seg::CS].base == 0xffff_0000
}

fn linear(state: &CpuState) -> u64 {
    // In 64-bit code the base is zero.
    state.segs[seg::CS].base.wrapping_add(state.rip)
}

/// What a triple fault is made of, mostly: an exception that has no handler.
fn about_fault(state: &CpuState) -> String {
    let paging = state.cr0 >> 31 != 0;
    let address = if paging { format!(", CR2 {:#x}", state.cr2) } else { String::new() };
    format!("{address}, IDT {:#x} limit {:#x}", state.idtr.base, state.idtr.limit)
}
