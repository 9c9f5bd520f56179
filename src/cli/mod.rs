//! The command line: text in, typed configuration out.
//!
//! Called by `main` only. Pure: opens nothing, prints nothing, ends nothing; whatever is to be shown comes back
//! as text. The grammar is QEMU's.

mod config;

pub use config::{
    AccelChoice, AddressChoice, Command, Config, CpuModel, DEFAULT_MEMORY, Device, E1000Options, FwCfgFile,
    FwCfgSource, IsaDebugExitOptions, KernelUnpack, MAX_CPUS, MAX_MEMORY, MAX_SERIALS, MIN_MEMORY,
    MachineConfig, Netdev, PciAddress, ScriptChoice, Serial, TapOptions,
};
