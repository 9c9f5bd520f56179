//! The command line: text in, typed configuration out.
//!
//! Called by `main` only. Pure: opens nothing, prints nothing, ends nothing; whatever is to be shown comes back
//! as text. The grammar is QEMU's; where it differs, `docs/qemu-compat.md` says so.
//!
//! `options` holds the table of options and walks the words along it; `netdev`, `device`, `nic`, `serial` and `machine`
//! read the values with the help of `keyval` (lists) and `values` (single values); `check` holds the options
//! against each other at the end; `absent` knows what QEMU has and we have not; `help` prints all those tables.

mod absent;
mod check;
mod config;
mod device;
mod draft;
mod error;
mod forward_rule;
mod help;
mod keyval;
mod machine;
mod net;
mod netdev;
mod nic;
mod object;
mod options;
mod serial;
mod socket_options;
mod suggest;
mod user_net;
mod values;

use std::ffi::OsString;

pub use config::{
    AccelChoice, AddressChoice, BridgeHelper, CaptureFormat, Command, Config, CpuModel, DEFAULT_MEMORY,
    Device, DumpOptions, E1000Options, FilterKind, FilterOptions, FilterPlace, FilterQueue, FwCfgFile,
    FwCfgSource, HubPortOptions, IsaDebugExitOptions, KernelUnpack, MAX_CPUS, MAX_MEMORY, MAX_SERIALS,
    MIN_MEMORY, MachineConfig, Netdev, NetdevKind, NicModel, NicOverflow, PciAddress, ReplayOptions,
    ReplaySpeed, ScriptChoice, Serial, TapOptions,
};
pub use error::CliError;
pub use forward_rule::{host_forward, listen_at};
pub use socket_options::{
    Cookies, CounterChoice, DgramOptions, InetAddress, L2tpv3Options, PasstOptions, SocketAddress,
    SocketOptions, StreamOptions, UnixAddress,
};
pub use user_net::{ForwardTarget, GuestForward, HostForward, ListenAt, UserOptions};

/// Reads a command line, without the program's name: `parse(std::env::args_os().skip(1))`.
///
/// # Errors
///
/// The first thing that is wrong, from left to right; what concerns several options comes last.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, CliError> {
    options::parse(args)
}
