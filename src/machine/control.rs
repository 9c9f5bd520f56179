//! The machine as monitors command it: stop and cont, buttons, and what can be asked.
//!
//! Made by the assembly, called on the sessions' threads. Stopping goes in order: the CPUs, then the doors of the
//! NICs, then the accelerator's time, then the clock that all devices share; going on goes the other way round.
//!
//! Lock order: `standing`, which is held over a whole stop or cont, before everything else.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device_break::DeviceBreaks;
use super::exit_code::EndReason;
use super::lifecycle::Lifecycle;
use super::nics::{self, Nic};
use super::report::Reporter;
use crate::accel::{AccelError, Vcpu, Vm};
use crate::bus::Width;
use crate::chipset::PmBlock;
use crate::cli::CardFaultPlan;
use crate::cpu::CpuState;
use crate::failures::Failures;
use crate::monitor::{
    Controls, CpuInfo, Event, Events, NicInfo, PciBarInfo, PciInfo, RunState, RxFilterInfo,
};
use crate::netdev::FaultSnapshot;
use crate::netport::{Delivery, Frame, FramePort};
use crate::nic::e1000::fault::FaultState;
use crate::pci::{BarKind, Bdf, PciBus, spec};
use crate::time::MonotonicClock;

/// Everything that a monitor can reach.
#[derive(Debug)]
pub struct Control {
    /// CPUs.
    pub life: Lifecycle,
    /// The machine's time.
    pub clock: MonotonicClock,
    /// The accelerator's part.
    pub vm: Arc<dyn Vm>,
    /// The power button.
    pub pm: Arc<PmBlock>,
    /// Bus 0.
    pub pci: Arc<PciBus>,
    /// NICs.
    pub reporter: Arc<Reporter>,
    /// Who is told.
    pub events: Events,
    /// Where panics of our threads are told.
    pub failures: Failures,
    /// Stops at what a NIC does; only with a debugger.
    pub breaks: Option<Arc<DeviceBreaks>>,
    /// Begins as [`Standing::No`].
    pub standing: Mutex<Standing>,
    /// See [`Self::take_trouble`].
    pub trouble: Mutex<Option<String>>,
}

/// Whether the machine stands still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// It runs, or is about to.
    #[default]
    No,
    /// Since before its first instruction.
    Prelaunch,
    /// Since `stop`.
    Paused,
    /// Since something that its debugger asked for.
    Debug,
}

impl Control {
    /// Lets the machine begin at rest (`-S`). Before the first start.
    ///
    /// # Errors
    /// One line, when the accelerator cannot.
    pub fn begin_stopped(&self) -> Result<(), String> {
        self.stand(&mut self.standing(), Standing::Prelaunch)
    }

    /// Stops the machine because [`Lifecycle::stop_soon`] was called. The main thread's.
    pub fn stop_for_debugger(&self) {
        // Without the accelerator's clock stopped the guest's time goes on; it stands still all the same. The error is
        // kept for the debugger.
        let _ = self.halt(Standing::Debug);
    }

    /// What went wrong when the machine was last stopped by itself, once.
    pub fn take_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn halt(&self, how: Standing) -> Result<(), String> {
        let mut standing = self.standing();
        if *standing != Standing::No {
            return Ok(());
        }
        let stopped = self.stand(&mut standing, how);
        if how == Standing::Debug {
            // Before the event: who hears of the stop asks for it.
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = stopped.clone().err();
        }
        self.events.raise(&Event::Stop);
        stopped
    }

    /// Does something with a CPU on its own thread.
    ///
    /// # Errors
    /// One line, when it does not answer, or its own.
    pub fn with_cpu<R: Send + 'static>(
        &self,
        cpu: u32,
        f: impl FnOnce(&mut dyn Vcpu) -> Result<R, AccelError> + Send + 'static,
    ) -> Result<R, String> {
        let done = self.life.with_cpu(cpu, f).ok_or_else(|| format!("CPU {cpu} does not answer"))?;
        done.map_err(|error| error.to_string())
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand(&self, standing: &mut Standing, how: Standing) -> Result<(), String> {
        self.life.pause();
        self.nics().iter().for_each(|nic| nic.gate.shut());
        let paused = self.vm.pause().map_err(|error| error.to_string());
        self.clock.pause();
        *standing = how;
        paused
    }

    fn nics(&self) -> &[Nic] {
        &self.reporter.nics
    }

    fn nic(&self, name: &str) -> Option<&Nic> {
        self.nics().iter().find(|nic| nic.name == name)
    }

    fn function(&self, slot: u8) -> PciInfo {
        let read = |offset: u8, width| self.pci.config_read(Bdf::on_bus0(slot), offset.into(), width);
        let (pin, line) = (read(spec::INTERRUPT_PIN, Width::Byte), read(spec::INTERRUPT_LINE, Width::Byte));
        let mut placed: Vec<_> = self.pci.allocations().iter().map(|p| (p.slot, p.bar, p.base)).collect();
        if placed.is_empty() {
            // The guest's own firmware placed them.
            placed = self.pci.claims().iter().map(|claim| (claim.slot, claim.bar, claim.base)).collect();
        }
        let own = placed.into_iter().filter(|placed| placed.0 == slot);
        let bars = own.map(|(_, bar, base)| PciBarInfo {
            index: bar.index,
            io: bar.kind == BarKind::Io,
            base,
            size: bar.size,
        });
        PciInfo {
            slot,
            id: (read(spec::VENDOR_ID, Width::Word) as u16, read(spec::DEVICE_ID, Width::Word) as u16),
            class: read(spec::REVISION + 2, Width::Word) as u16,
            interrupt: (pin != 0).then_some((pin as u8, line as u8)),
            bars: bars.collect(),
        }
    }
}

impl Controls for Control {
    fn state(&self) -> RunState {
        match *self.standing() {
            _ if self.life.is_over() => RunState::Shutdown,
            Standing::Prelaunch => RunState::Prelaunch,
            Standing::Paused => RunState::Paused,
            Standing::Debug => RunState::Debug,
            Standing::No if self.life.has_panicked() => RunState::GuestPanicked,
            Standing::No => RunState::Running,
        }
    }

    fn stop(&self) -> Result<(), String> {
        self.halt(Standing::Paused)
    }

    fn cont(&self) -> Result<(), String> {
        let mut standing = self.standing();
        if std::mem::take(&mut *standing) == Standing::No {
            return Ok(());
        }
        self.clock.resume();
        let resumed = self.vm.resume().map_err(|error| error.to_string());
        self.nics().iter().for_each(|nic| nic.gate.open());
        self.events.raise(&Event::Resume);
        self.life.resume();
        resumed
    }

    fn reset(&self) {
        self.life.press_reset();
    }

    fn press_power_button(&self) {
        self.pm.press_power_button();
    }

    fn quit(&self) {
        self.life.end(EndReason::Quit);
    }

    fn accel(&self) -> &'static str {
        self.reporter.accel
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        let cpu = |(index, thread_id)| CpuInfo { index, thread_id };
        (0..).zip(self.life.threads()).map(cpu).collect()
    }

    fn registers(&self, cpu: u32) -> Result<CpuState, String> {
        self.with_cpu(cpu, |vcpu| vcpu.registers())
    }

    fn nic_registers(&self, name: Option<&str>) -> Vec<(String, Vec<(String, u32)>)> {
        let wanted = self.nics().iter().filter(|nic| name.is_none_or(|name| nic.name == name));
        wanted.map(|nic| (nic.name.clone(), nic.device.registers())).collect()
    }

    fn device_break(&self, what: &str) -> Result<String, String> {
        match &self.breaks {
            Some(breaks) => breaks.command(what),
            None => Err("only with -gdb or -s: nobody would hear of the stop".into()),
        }
    }

    fn doctors_tell_again(&self) {
        self.nics().iter().for_each(|nic| nic.watchers.doctor_tells_again());
    }

    fn pci(&self) -> Vec<PciInfo> {
        self.pci.used_slots().into_iter().map(|slot| self.function(slot)).collect()
    }

    fn nics(&self) -> Vec<NicInfo> {
        let info = |nic: &Nic| {
            let counters = serde_json::to_value(nic.device.stats_snapshot());
            NicInfo {
                name: nic.name.clone(),
                slot: nic.slot,
                mac: nic.device.filter_state().station,
                link_up: nic.device.link_is_up(),
                counters: counters.ok().and_then(|value| value.as_object().cloned()).unwrap_or_default(),
            }
        };
        self.nics().iter().map(info).collect()
    }

    fn rx_filters(&self, name: Option<&str>) -> Vec<RxFilterInfo> {
        let info = |nic: &Nic| {
            // Before the look: what changes after it is news.
            nic.filters_told.store(false, Ordering::SeqCst);
            let state = nic.device.filter_state();
            let (multicast, unicast) = state.exact.iter().partition(|mac| mac[0] & 1 != 0);
            RxFilterInfo {
                name: nic.name.clone(),
                all_unicast: state.all_unicast,
                all_multicast: state.all_multicast,
                broadcast: state.broadcast || state.all_multicast,
                mac: state.station,
                unicast,
                multicast,
                hash: state.hash,
                vlan_filter: state.vlan_filter,
                vlans: state.vlans,
            }
        };
        self.nics().iter().filter(|nic| name.is_none_or(|name| nic.name == name)).map(info).collect()
    }

    fn add_card_fault(&self, plan: &CardFaultPlan) -> Result<(), String> {
        nics::add_fault(self.nics(), plan)
    }

    fn remove_card_fault(&self, id: &str) -> bool {
        self.nics().iter().any(|nic| nic.device.remove_fault(id))
    }

    fn card_faults(&self) -> Vec<FaultSnapshot> {
        let of = |nic: &Nic| {
            let place = format!("device {}", nic.name);
            let snapshot = |state: FaultState| FaultSnapshot {
                text: format!("type=fault,kind={},hit={},of={}", state.fault.name(), state.hit, state.of),
                id: state.id,
                place: place.clone(),
            };
            nic.device.fault_states().into_iter().map(snapshot).collect::<Vec<_>>()
        };
        self.nics().iter().flat_map(of).collect()
    }

    fn transmit(&self, nic: &str, frame: &[u8]) -> bool {
        self.nic(nic).is_some_and(|nic| {
            // Nobody waits for an announcement that finds no room.
            let _: Delivery = nic.gate.peer_slot().send(&Frame::whole(frame));
            true
        })
    }
}
