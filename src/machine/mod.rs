//! The machine: assembly and wiring of accelerator, buses, chips, PCI, NICs and network backends.
//!
//! `main` calls [`Machine::new`], which does everything that can fail, then [`Machine::run`]. The only module
//! that knows `accel`, `netdev` and `nic` together; it contains wiring and no behaviour of devices.

mod accel_choice;
pub mod board;
mod control;
mod deaf;
mod debug;
mod device_break;
pub mod eeprom_file;
pub mod error;
mod executor;
pub mod exit_code;
pub mod exits;
mod failure_folder;
mod firmware;
mod first;
mod gate;
mod last_resort;
pub mod lifecycle;
mod monitors;
mod nics;
mod observers;
pub mod pc;
mod report;
mod serial;
mod signal_ends;
pub mod vcpu_thread;
pub mod watch;
mod whereabouts;

pub use crate::trace::help as trace_help;
pub use accel_choice::help as accel_help;
pub use error::SetupError;
pub use exit_code::EndReason;
pub use report::{forget_result, write_bare};

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::accel::Vm;
use crate::boot::acpi::{IntxRoute, TableConfig};

use crate::chipset::{FwCfgFile, PowerSink};
use crate::cli::{Config, Device, FaultPlan, FwCfgSource, HubPortOptions, Netdev, NetdevKind};
use crate::event::EventLoop;
use crate::failures::{Failures, caught};
use crate::memory::GuestRam;
use crate::monitor::{Cause, Event, Events, Session};
use crate::netdev::{NetdevEvents, Network, Surroundings as NetworkSurroundings};
use crate::sys::Notices;
use crate::sys::signals::Signals;
use crate::time::MonotonicClock;

use board::{Board, InterruptInputs, Surroundings};
use control::Control;
use device_break::DeviceBreaks;
use executor::LoopExecutor;
use exits::Buses;
use failure_folder::FailureFolder;
use first::First;
use last_resort::LastResort;
use lifecycle::{Lifecycle, Next};
use nics::Nic;
use observers::Watchers;
use report::Reporter;
use signal_ends::SignalEnds;

/// A machine, set up and ready to run.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    first: First,
    tables: TableConfig,
    ram: GuestRam,
    vm: Arc<dyn Vm>,
    board: Board,
    reporter: Arc<Reporter>,
    bus: Arc<Buses>,
    life: Lifecycle,
    control: Arc<Control>,
    failure_folder: Option<FailureFolder>,
    monitors: Vec<Session>,
    _signals: Signals,
    _event_loop: EventLoop,
    last_resort: last_resort::Plan,
    threads: Vec<JoinHandle<()>>,
}

impl Machine {
    /// Reads the files, opens the accelerator and the backends, wires everything. No guest code runs yet.
    ///
    /// # Errors
    /// [`SetupError`]: one line for the user; nothing is left behind.
    pub fn new(config: Config, notices: Notices) -> Result<Self, SetupError> {
        let started = Instant::now();
        let first = First::read(&config)?;
        let mut files = fw_cfg_files(&config)?;
        let chosen = accel_choice::choose(&config.accel)?;
        chosen.note.iter().for_each(|note| notices.say(note));
        let ram = GuestRam::new(&pc::ram_layout(config.memory))?;
        let clock = MonotonicClock::new();
        let vm = chosen.accel.create_vm(&ram, config.smp, &clock)?;
        let happenings = Events::default();
        let life = Lifecycle::new(happenings.clone());
        let ended = life.clone();
        let failures = Failures::new(move |what| ended.end(EndReason::Internal(what)));
        let (event_loop, events) = EventLoop::start_guarded(failures.clone())?;
        let ends = SignalEnds::new(&life, config.result.clone());
        let signals = ends.watch(&events)?;
        vm.offer_executor(Arc::new(LoopExecutor::new(&events, &clock)?));
        let folder =
            config.on_failure.as_deref().map(|path| FailureFolder::open(path, &notices)).transpose()?;
        let mut observe = config.observe.clone();
        observe.traces.extend(folder.as_ref().map(FailureFolder::trace));
        let breaks = config.gdb.is_some().then(|| Arc::new(DeviceBreaks::new(life.clone())));
        let watchers =
            Watchers::new(&observe, config.kernel.as_deref(), &clock, breaks.clone(), &life, &notices)?;
        let mut around = NetworkSurroundings::new(events.clone(), notices.clone());
        around.happenings = NetdevEvents::new({
            let happenings = happenings.clone();
            move |event| happenings.raise(&event.into())
        });
        around.faults = watchers.of_cables();
        let network = open_network(&config, around)?;
        let captures = folder.iter().flat_map(|folder| folder.captures(&config.netdevs));
        captures.into_iter().try_for_each(|filter| network.add_filter(&filter))?;
        life.expect(&config.expect);
        let (buses, inputs) = (Buses::default(), InterruptInputs::new(vm.clone()));
        let power: Arc<dyn PowerSink> = Arc::new(life.clone());
        let firmware = first.place(&ram, &vm, &buses, &life)?;
        let around = Surroundings {
            buses: &buses,
            inputs: &inputs,
            ram: &ram,
            events: &events,
            clock: &clock,
            power: &power,
            firmware: firmware.as_ref(),
        };
        let mut board = Board::new(around)?;
        let wanted = serial::Wanted {
            serials: &config.serials,
            mux: monitors::mux(&config),
            expect: &config.expect,
            folder: folder.as_ref(),
        };
        let terminal = serial::add(&wanted, &mut board, &around, &life, &notices)?;
        let nics = add_devices(&config.devices, &board, &around, &vm, &network, &watchers, &notices)?;
        nics.iter().for_each(|nic| nic.tell_filter_changes(&happenings));
        add_card_faults(&config.faults, &nics)?;
        board.program_pci()?;
        let tables = table_config(&config, &board);
        files.extend(first.fw_cfg_files(&tables));
        board.add_fw_cfg(&buses, files, first.fw_cfg_items(&tables))?;
        let bus: Arc<Buses> = Arc::new(buses);
        let spawn = |id| vcpu_thread::spawn(id, vm.clone(), life.clone(), bus.clone());
        let mut threads = (0..config.smp).map(spawn).collect::<Result<Vec<_>, _>>()?;
        let reporter = Arc::new(Reporter {
            path: config.result.clone(),
            accel: chosen.accel.name(),
            life: life.clone(),
            started,
            network,
            nics,
            watchers,
            notices: notices.clone(),
        });
        ends.begin(&reporter);
        threads.extend(deaf::watch(&vm, &life, &failures));
        let control = Arc::new(Control {
            life: life.clone(),
            clock,
            vm: vm.clone(),
            pm: board.pm().clone(),
            pci: board.pci.clone(),
            reporter: reporter.clone(),
            events: happenings,
            failures,
            breaks,
            standing: Mutex::default(),
            trouble: Mutex::default(),
        });
        if config.stopped {
            control.begin_stopped().map_err(SetupError::Stopped)?;
        }
        let network = &reporter.network;
        let monitors = monitors::start(&config, control.clone(), network, terminal, &ram, &events, &notices)?;
        let last_resort = last_resort::Plan {
            patience: last_resort::PATIENCE,
            result: config.result.clone(),
            notices,
            exit: |status| std::process::exit(status),
        };
        let machine = Self {
            config,
            first,
            tables,
            ram,
            vm,
            board,
            reporter,
            bus,
            life,
            control,
            failure_folder: folder,
            monitors,
            _signals: signals,
            _event_loop: event_loop,
            last_resort,
            threads,
        };
        Ok(machine)
    }

    /// Runs the guest until something ends it, be it a failure of ours.
    pub fn run(mut self) -> EndReason {
        let reason = caught(|| self.generations()).unwrap_or_else(EndReason::Internal);
        let last_resort = LastResort::arm(self.last_resort.clone(), &reason, &self.control.failures);
        let reason = caught(|| whereabouts::add(reason.clone(), &self.life, &self.reporter.watchers))
            .unwrap_or(reason);
        self.stop();
        let end = Event::Shutdown { cause: reason.cause(), status: reason.status() };
        self.control.events.raise(&end);
        self.reporter.write(Some(&reason), self.failure_folder.as_ref().map(FailureFolder::result));
        self.reporter.end_watch();
        if let Some(folder) = self.failure_folder.take() {
            folder.end(reason.status() == 0);
        }
        // Each session answers what it was asked.
        self.monitors.clear();
        // Only now are all files closed.
        drop(self);
        drop(last_resort);
        reason
    }

    fn generations(&self) -> EndReason {
        let deadline = self.config.timeout.map(|length| (self.reporter.started + length, length));
        loop {
            if let Err(error) = self.start() {
                return EndReason::Internal(error.to_string());
            }
            match self.next(deadline) {
                Ending::End(reason) => return reason,
                Ending::Reset { guest } => {
                    self.life.stop();
                    let reason = if guest { "guest-reset" } else { "host-qmp-system-reset" };
                    self.control.events.raise(&Event::Reset(Cause { guest, reason }));
                }
            }
            if let Err(error) = self.reset() {
                return EndReason::Internal(error.to_string());
            }
        }
    }

    /// What ends this generation. Meanwhile the machine is stopped as often as its debugger wants it.
    fn next(&self, deadline: Option<(Instant, Duration)>) -> Ending {
        loop {
            match self.life.next(self.config.no_reboot, deadline) {
                Next::Stop => self.control.stop_for_debugger(),
                Next::Reset { guest } => return Ending::Reset { guest },
                Next::End(reason) => return Ending::End(reason),
            }
        }
    }

    fn start(&self) -> Result<(), SetupError> {
        let entry = self.first.load(&self.ram, &self.tables)?;
        self.life.start(entry);
        Ok(())
    }

    fn reset(&self) -> Result<(), SetupError> {
        self.board.reset()?;
        self.vm.reset()?;
        self.ram.clear();
        Ok(())
    }

    fn stop(&mut self) {
        self.life.stop();
        self.life.finish();
        for thread in self.threads.drain(..) {
            // A panic in the thread was turned into the reason of the end already.
            thread.join().unwrap_or_default();
        }
        self.bus.pio.clear();
        self.bus.mmio.clear();
    }
}

/// What a generation of the machine ends with.
enum Ending {
    Reset { guest: bool },
    End(EndReason),
}

/// Opens every backend, those that name another one last. Those opened before a failure are closed again.
fn open_network(config: &Config, around: NetworkSurroundings) -> Result<Network, SetupError> {
    let network = Network::new(around);
    let names_another = |netdev: &&Netdev| {
        matches!(&netdev.kind, NetdevKind::HubPort(HubPortOptions { netdev: Some(_), .. }))
    };
    let netdevs = || config.netdevs.iter();
    netdevs().filter(|netdev| !names_another(netdev)).try_for_each(|netdev| network.add_netdev(netdev))?;
    netdevs().filter(names_another).try_for_each(|netdev| network.add_netdev(netdev))?;
    config.chardevs.iter().try_for_each(|chardev| network.add_chardev(chardev))?;
    config.filters.iter().try_for_each(|filter| network.add_filter(filter))?;
    let on_cables = config.faults.iter().filter_map(|plan| match plan {
        FaultPlan::Cable(plan) => Some(plan),
        FaultPlan::Card(_) => None,
    });
    on_cables.into_iter().try_for_each(|plan| network.add_fault(plan))?;
    Ok(network)
}

fn add_card_faults(faults: &[FaultPlan], nics: &[Nic]) -> Result<(), SetupError> {
    faults.iter().try_for_each(|plan| match plan {
        FaultPlan::Card(plan) => nics::add_fault(nics, plan).map_err(SetupError::Fault),
        FaultPlan::Cable(_) => Ok(()),
    })
}

/// Puts the devices on the board, those with an address of their own first.
fn add_devices(
    devices: &[Device],
    board: &Board,
    around: &Surroundings<'_>,
    vm: &Arc<dyn Vm>,
    network: &Network,
    watchers: &Watchers,
    notices: &Notices,
) -> Result<Vec<Nic>, SetupError> {
    let mut taken = board.pci.used_slots();
    let addressed = devices.iter().filter_map(|device| match device {
        Device::E1000(options) => options.addr.map(|a| a.slot),
        Device::IsaDebugExit(_) => None,
    });
    taken.extend(addressed);
    let mut nics = Vec::new();
    for device in devices {
        match device {
            Device::IsaDebugExit(options) => board.add_debug_exit(around, options)?,
            Device::E1000(options) => {
                let free = || (0..pc::ISA_BRIDGE_SLOT).find(|slot| !taken.contains(slot));
                let slot = options.addr.map(|a| a.slot).or_else(free).ok_or(SetupError::NoSlot)?;
                taken.push(slot);
                let watchers = watchers.of_nic(options, nics::model(options), slot);
                nics.push(Nic::new(options, slot, around, board, vm.clone(), network, watchers, notices)?);
            }
        }
    }
    Ok(nics)
}

/// What ACPI and MP tables tell: what is on the board.
fn table_config(config: &Config, board: &Board) -> TableConfig {
    let map = board.pci.map();
    let route = |(slot, pin, gsi)| IntxRoute { slot, pin, gsi };
    TableConfig {
        cpus: config.smp as u8,
        pci_io: map.io,
        pci_mem: map.mem,
        routes: board.pci.interrupt_pins().into_iter().map(route).collect(),
        serial: board.serial_ports(),
        i8042: true,
        fw_cfg: true,
        pvpanic: true,
    }
}

fn fw_cfg_files(config: &Config) -> Result<Vec<FwCfgFile>, SetupError> {
    let read = |file: &crate::cli::FwCfgFile| {
        let content = match &file.source {
            FwCfgSource::String(text) => text.as_bytes().to_vec(),
            FwCfgSource::File(path) => std::fs::read(path).map_err(|source| SetupError::File {
                option: "-fw_cfg",
                path: path.display().to_string(),
                source,
            })?,
        };
        Ok(FwCfgFile { name: file.name.clone(), content: content.into() })
    };
    config.fw_cfg.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
