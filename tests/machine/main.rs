//! What an accelerator must do, as small machine-code programs with expected accesses and exits.
//!
//! Everything goes through the `Accel` traits only, and every program runs on each accelerator. Where KVM cannot be
//! used its tests say `SKIP kvm: reason` and fail, unless MINIVMM_ALLOW_SKIP contains `kvm`.

/// Makes tests of functions that take an [`bench::Open`]: `kvm::NAME` and `soft::NAME`.
macro_rules! on_each_accelerator {
    ($($name:ident),+ $(,)?) => {
        mod kvm {
            $(#[test] fn $name() { super::$name(crate::bench::kvm) })+
        }
        mod soft {
            $(#[test] fn $name() { super::$name(crate::bench::soft) })+
        }
    };
}

mod bench;
mod debug;
mod firmware;
mod instructions;
mod interrupts;
mod lifecycle;
mod ports_and_memory;
mod privilege;
#[path = "../common/processor.rs"]
mod processor;
mod smp;
mod system;
