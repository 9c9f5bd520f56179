//! The machine: assembly and wiring of accelerator, buses, chips, PCI, NICs and network backends.

pub mod pc;
