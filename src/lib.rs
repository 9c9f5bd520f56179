//! minivmm, a small machine emulator for people who write and test network drivers.

pub mod accel;
pub mod boot;
pub mod bus;
pub mod chipset;
pub mod cli;
pub mod cpu;
pub mod event;
pub mod failures;
pub mod fault;
pub mod gdb;
pub mod irq;
pub mod machine;
pub mod memory;
pub mod monitor;
pub mod netdev;
pub mod netport;
pub mod nic;
pub mod pci;
pub mod sys;
pub mod time;
pub mod token;
pub mod trace;
