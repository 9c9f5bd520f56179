//! What an accelerator must do, as small machine-code programs with expected accesses and exits.
//!
//! Everything here goes through the `Accel` traits only, so that any accelerator can run it. Where KVM cannot be
//! used the tests say `SKIP kvm: reason` and fail, unless MINIVMM_ALLOW_SKIP contains `kvm`.

mod bench;
mod instructions;
mod interrupts;
mod lifecycle;
mod ports_and_memory;
mod privilege;
mod smp;
