//! The machine: assembly and wiring of accelerator, buses, chips, PCI, NICs and network backends.

pub mod board;
pub mod error;
pub mod exit_code;
pub mod exits;
pub mod lifecycle;
pub mod pc;
pub mod vcpu_thread;
pub mod watch;
