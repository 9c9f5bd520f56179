//! The command line: text in, typed configuration out.
//!
//! Called by `main` only. Pure: opens nothing, prints nothing, ends nothing; whatever is to be shown comes back
//! as text. The grammar is QEMU's; where it differs, `docs/qemu-compat.md` says so.
//!
//! `options` holds the table of options, walks the words along it and knows what each does; `netdev`, `device`, `nic`, `serial` and `machine`
//! read the values with the help of `keyval` (lists) and `values` (single values); `check` holds the options
//! against each other at the end; `absent` knows what QEMU has and we have not; `help` prints all those tables.

mod absent;
mod chardev;
mod check;
mod config;
mod device;
mod draft;
mod error;
mod expect;
mod fault;
mod fault_plan;
mod filter_options;
mod forward_rule;
mod help;
mod keyval;
mod machine;
mod net;
mod netdev;
mod nic;
mod object;
mod observe;
mod options;
mod socket_chardev;
mod socket_options;
mod suggest;
mod user_net;
mod values;

use std::ffi::OsString;

use error::{Context, Wrong};

pub use config::{
    AccelChoice, AddressChoice, BridgeHelper, Chardev, Command, Config, CpuModel, DEFAULT_MEMORY, Device,
    DoctorMode, E1000Options, FwCfgFile, FwCfgSource, HubPortOptions, IsaDebugExitOptions, KernelUnpack,
    MAX_CPUS, MAX_MEMORY, MAX_SERIALS, MIN_MEMORY, MachineConfig, MonitorConfig, Netdev, NetdevKind,
    NicModel, NicOverflow, ObserveConfig, PciAddress, ScriptChoice, TapOptions, TraceFormat, TraceOptions,
};
pub use error::CliError;
pub use expect::{Expectation, Pattern};
pub use fault_plan::{
    CableFault, CardFaultPlan, FaultPlan, FrameFault, FrameFaultOptions, FramePattern, LinkFlap,
};
pub use filter_options::{
    CaptureFormat, DumpOptions, FilterKind, FilterOptions, FilterPlace, FilterQueue, ReplayOptions,
    ReplaySpeed,
};
pub use forward_rule::{host_forward, listen_at};
pub use socket_options::{
    Cookies, CounterChoice, DgramOptions, InetAddress, L2tpv3Options, PasstOptions, SocketAddress,
    SocketChardev, SocketOptions, StreamOptions, UnixAddress,
};
pub use suggest::did_you_mean;
pub use user_net::{ForwardTarget, GuestForward, HostForward, ListenAt, UserOptions};

/// Reads the value of a `-netdev` that comes while the machine runs (`netdev_add`), in either of its forms.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_netdev(text: &str) -> Result<Netdev, CliError> {
    let context = Context::new("netdev_add");
    match netdev::parse(&context, text)? {
        netdev::Request::Add(netdev) => Ok(netdev),
        _ => Err(context.error(Wrong::new("help is not given here", "minivmm -netdev help lists backends"))),
    }
}

/// Reads the value of an `-object` that comes while the machine runs (`object_add`), in either of its forms.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_filter(text: &str) -> Result<FilterOptions, CliError> {
    let context = Context::new("object_add");
    match object::parse(&context, text)? {
        object::Request::Add(filter) => Ok(filter),
        _ => Err(context.error(Wrong::new("help is not given here", "minivmm -object help lists filters"))),
    }
}

/// Reads the value of a `-fault` that comes while the machine runs (`fault_add`), in either of its forms. `number`
/// makes up the id of a plan that has none.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_fault(text: &str, number: usize) -> Result<FaultPlan, CliError> {
    let context = Context::new("fault_add");
    match fault::parse(&context, text, number)? {
        fault::Request::Add(plan) => Ok(plan),
        _ => Err(context.error(Wrong::new("help is not given here", "minivmm -fault help lists faults"))),
    }
}

/// Reads a command line, without the program's name: `parse(std::env::args_os().skip(1))`.
///
/// # Errors
///
/// The first thing that is wrong, from left to right; what concerns several options comes last.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, CliError> {
    options::parse(args)
}
