//! The KVM accelerator: the guest runs on the host's own processor.
//!
//! `machine` opens it with [`KvmAccel::open`]; nobody else does. Follows the KVM API
//! (Documentation/virt/kvm/api.rst) for hosts with hardware virtualization, where none of `quirks.rs` runs.
//! Knows no device: accesses go up through `GuestBus`.
//!
//! ```text
//! caps.rs      /dev/kvm and what it can do         vm.rs        memory slots, interrupt lines, reset
//! irqchip.rs   PIC, IOAPIC, PIT at power-on        vcpu.rs      the run loop
//! cpuid.rs     what CPUID says                     exits.rs     one port or memory access to GuestBus
//! boot_regs.rs registers at the kernel's entry     power_on.rs  vCPU state at power-on, for reset
//! assist.rs    one instruction by cpu/          registers.rs between KVM and cpu/
//! quirks.rs    defects of KVMs without hardware, none of which runs elsewhere
//! run_page.rs  the page shared with the kernel     kicker.rs    how others interrupt a run
//! guest_debug.rs the debugger's plan, KVM_SET_GUEST_DEBUG
//! firmware_slots.rs memory slots where a firmware lies over RAM
//! pause.rs     time that the kernel counts, over a stop
//! ```

mod assist;
mod boot_regs;
mod caps;
mod cpuid;
mod deaf;
mod exits;
mod firmware_slots;
mod guest_debug;
mod irqchip;
mod kicker;
mod pause;
mod power_on;
mod quirks;
mod registers;
mod run_page;
mod vcpu;
mod vm;

pub use caps::KvmAccel;

use vmm_sys_util::errno;

use crate::accel::AccelError;

/// Makes an [`AccelError::Host`] out of an ioctl's error.
fn host(what: &'static str) -> impl Fn(errno::Error) -> AccelError {
    move |error| AccelError::Host { what, source: error.into() }
}
