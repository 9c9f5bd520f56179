//! The configuration while options are still coming in.
//!
//! Filled by `options`, turned into a [`Config`](super::Config) by `check`. Values are checked one by one; what
//! they mean to each other is not.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{
    AccelChoice, Chardev, CpuModel, DEFAULT_MEMORY, Device, FwCfgFile, MachineConfig, MonitorConfig, Netdev,
    ObserveConfig,
};
use super::error::Context;
use super::expect::Expectation;
use super::fault_plan::FaultPlan;
use super::filter_options::FilterOptions;
use super::net::Net;
use super::socket_options::SocketChardev;

/// A value, and how the option that brought it was typed.
#[derive(Debug)]
pub(super) struct Given<T> {
    pub(super) echo: String,
    pub(super) value: T,
}

/// What has been asked for so far.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kernel: Option<PathBuf>,
    pub(super) bios: Option<PathBuf>,
    pub(super) initrd: Option<PathBuf>,
    pub(super) append: String,
    pub(super) memory: u64,
    pub(super) smp: u32,
    pub(super) netdevs: Vec<Given<Netdev>>,
    pub(super) chardevs: Vec<Given<SocketChardev>>,
    pub(super) filters: Vec<Given<FilterOptions>>,
    pub(super) faults: Vec<Given<FaultPlan>>,
    pub(super) devices: Vec<Given<Device>>,
    /// `-net` and `-nic`, to become netdevs and devices.
    pub(super) nets: Vec<Given<Net>>,
    /// Some option says what network there is, if only that there is none.
    pub(super) says_network: bool,
    /// The first `-net`.
    pub(super) legacy: Option<String>,
    pub(super) accel: Vec<AccelChoice>,
    pub(super) cpu: CpuModel,
    pub(super) nographic: bool,
    pub(super) nodefaults: bool,
    pub(super) serials: Vec<Chardev>,
    pub(super) monitors: Vec<Given<MonitorConfig>>,
    /// `-monitor` was given, be it `none`.
    pub(super) monitor_placed: bool,
    pub(super) stopped: bool,
    pub(super) gdb: Option<Chardev>,
    pub(super) no_reboot: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) expect: Vec<Expectation>,
    pub(super) on_failure: Option<PathBuf>,
    pub(super) result: Option<PathBuf>,
    pub(super) observe: ObserveConfig,
    pub(super) machine: MachineConfig,
    pub(super) fw_cfg: Vec<FwCfgFile>,
}

impl<T> Given<T> {
    pub(super) fn new(context: &Context, value: T) -> Self {
        Given { echo: context.echo().to_owned(), value }
    }
}

impl Draft {
    /// Adds accelerators to try after those already chosen.
    pub(super) fn try_accel(&mut self, list: Vec<AccelChoice>) {
        for accel in list {
            if !self.accel.contains(&accel) {
                self.accel.push(accel);
            }
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Draft {
            kernel: None,
            bios: None,
            initrd: None,
            append: String::new(),
            memory: DEFAULT_MEMORY,
            smp: 1,
            netdevs: Vec::new(),
            chardevs: Vec::new(),
            filters: Vec::new(),
            faults: Vec::new(),
            devices: Vec::new(),
            nets: Vec::new(),
            says_network: false,
            legacy: None,
            accel: Vec::new(),
            cpu: CpuModel::default(),
            nographic: false,
            nodefaults: false,
            serials: Vec::new(),
            monitors: Vec::new(),
            monitor_placed: false,
            stopped: false,
            gdb: None,
            no_reboot: false,
            timeout: None,
            expect: Vec::new(),
            on_failure: None,
            result: None,
            observe: ObserveConfig::default(),
            machine: MachineConfig::default(),
            fw_cfg: Vec::new(),
        }
    }
}
