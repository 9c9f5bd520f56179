//! What all CPUs of a software machine share: memory, interrupt controllers, time, whose turn it is.
//!
//! Created by `SoftAccel`; called by `machine`, by device threads (interrupts), and by every CPU.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::chips::{Chips, Wake};
use super::doorbell::Doorbell;
use super::turns::Turns;
use super::vcpu::SoftVcpu;
use crate::accel::debug::DebugMeans;
use crate::accel::{AccelError, Executor, Vcpu, Vm};
use crate::chipset::ioapic::ApicMessage;
use crate::cpu::CodePages;
use crate::cpu::ram::RamPages;
use crate::irq::{GsiSink, MsiSink};
use crate::machine::pc;
use crate::memory::{AREA_BASE, AREA_END, FirmwareArea, GuestRam};
use crate::time::MonotonicClock;

/// Shared by the CPUs.
#[derive(Debug)]
pub(super) struct Shared {
    pub ram: RamPages,
    /// Where the firmware is, if the machine has one.
    firmware: OnceLock<Arc<FirmwareArea>>,
    pub code: Arc<CodePages>,
    pub turns: Turns,
    bells: Vec<Arc<Doorbell>>,
    chips: Mutex<Chips>,
    clock: MonotonicClock,
    /// CPUs that only a message from another CPU can wake, one bit each.
    quiet: AtomicU64,
}

impl Shared {
    pub fn cpus(&self) -> u32 {
        self.bells.len() as u32
    }

    /// The machine's time in nanoseconds: the time-stamp counter, and the time of all timers.
    pub fn now(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The firmware's area if `address` lies in it.
    #[inline]
    pub fn firmware(&self, address: u64) -> Option<&FirmwareArea> {
        self.firmware.get().map(|area| &**area).filter(|area| area.covers(address))
    }

    pub fn bell(&self, cpu: usize) -> &Arc<Doorbell> {
        &self.bells[cpu]
    }

    pub fn chips(&self) -> MutexGuard<'_, Chips> {
        self.chips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the chips, then wakes whom it concerns.
    pub fn with_chips(&self, f: impl FnOnce(&mut Chips) -> Wake) {
        let wake = f(&mut self.chips());
        self.ring(wake);
    }

    pub fn ring(&self, Wake(mut cpus): Wake) {
        while cpus != 0 {
            if let Some(bell) = self.bells.get(cpus.trailing_zeros() as usize) {
                bell.ring();
            }
            cpus &= cpus - 1;
        }
    }

    /// `cpu` can be woken by another CPU only, if `quiet`. Returns whether that holds for all of them, so that
    /// nothing will ever happen again; the others are then told to find out, too.
    pub fn set_quiet(&self, cpu: usize, quiet: bool) -> bool {
        let own = 1u64 << cpu;
        if !quiet {
            self.quiet.fetch_and(!own, Ordering::SeqCst);
            return false;
        }
        let all = u64::MAX >> (64 - self.cpus());
        let over = self.quiet.fetch_or(own, Ordering::SeqCst) | own == all && self.chips().is_silent();
        if over {
            self.ring(Wake(all & !own));
        }
        over
    }
}

/// One virtual machine.
#[derive(Debug)]
pub(super) struct SoftVm {
    shared: Arc<Shared>,
}

impl SoftVm {
    /// # Errors
    /// [`AccelError::Unavailable`] when another machine runs on this RAM.
    pub fn new(ram: GuestRam, cpus: u32, clock: MonotonicClock) -> Result<Self, AccelError> {
        let code = Arc::new(CodePages::new(ram.end()));
        if !ram.watch_writes(code.clone()) {
            return Err(AccelError::Unavailable("-accel soft: another machine has this RAM".to_string()));
        }
        let shared = Shared {
            code,
            ram: RamPages::new(ram),
            firmware: OnceLock::new(),
            turns: Turns::new(cpus),
            bells: (0..cpus).map(|_| Arc::default()).collect(),
            chips: Mutex::new(power_on(cpus)),
            clock,
            quiet: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// The chips after power-on, PCI interrupts and ACPI's already level-triggered at the PICs, as firmware leaves them.
fn power_on(cpus: u32) -> Chips {
    let mut chips = Chips::new(cpus);
    let level = pc::PIRQ_GSI.into_iter().chain([pc::SCI_GSI]).fold(0u16, |bits, gsi| bits | 1 << gsi);
    for (port, bits) in [0x4d0, 0x4d1].into_iter().zip(level.to_le_bytes()) {
        // Nothing is pending, so nobody is to be woken.
        let _ = chips.port_write(port, bits, 0);
    }
    chips
}

impl GsiSink for SoftVm {
    fn set_gsi(&self, gsi: u32, level: bool) {
        self.shared.with_chips(|chips| chips.set_gsi(gsi, level));
    }
}

impl MsiSink for SoftVm {
    fn send(&self, addr: u64, data: u32) {
        if let Some(message) = ApicMessage::from_msi(addr, data) {
            self.shared.with_chips(|chips| chips.send(message));
        }
    }
}

impl Vm for SoftVm {
    fn create_vcpu(&self, id: u32) -> Result<Box<dyn Vcpu>, AccelError> {
        if id >= self.shared.cpus() {
            return Err(AccelError::CannotRun(format!(
                "no vCPU {id}: the machine has {}",
                self.shared.cpus()
            )));
        }
        Ok(Box::new(SoftVcpu::new(self.shared.clone(), id)))
    }

    fn reset(&self) -> Result<(), AccelError> {
        *self.shared.chips() = power_on(self.shared.cpus());
        self.shared.quiet.store(0, Ordering::SeqCst);
        self.shared.code.forget_all();
        Ok(())
    }

    fn map_firmware(&self, area: &Arc<FirmwareArea>) -> Result<(), AccelError> {
        self.shared.firmware.get_or_init(|| area.clone());
        self.shared.code.remapped(AREA_BASE, AREA_END);
        self.shared.ring(Wake(u64::MAX));
        Ok(())
    }

    fn offer_executor(&self, executor: Arc<dyn Executor>) {
        // With more CPUs the one that sleeps is not always the one that a frame is for.
        if let [only] = &self.shared.bells[..] {
            only.sleep_in(executor);
        }
    }

    fn debug_means(&self) -> DebugMeans {
        DebugMeans { slots: usize::MAX, watches: true, patches: false }
    }

    fn describe(&self) -> String {
        "software CPU: works everywhere, slower than KVM with hardware under it".to_owned()
    }
}
