//! Accelerators: what runs the guest's instructions.
//!
//! Downward [`Accel`], [`Vm`] and [`Vcpu`]; upward [`GuestBus`], which the machine implements. `kvm` and `soft`
//! behave alike. Only `machine` uses this module.

pub mod debug;
pub mod kvm;
mod port;
pub mod soft;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Access;
use crate::cpu::CpuState;
use crate::irq::{GsiSink, MsiSink};
use crate::memory::{FirmwareArea, GuestRam};
use crate::time::MonotonicClock;
use debug::{DebugMeans, DebugPlan, DebugStop};

/// Where a vCPU's accesses go that are not RAM. Implemented by `machine`.
pub trait GuestBus: Debug + Send + Sync {
    /// IN: the value in the low `access.width` bytes.
    fn pio_read(&self, port: u16, access: &Access<'_>) -> u64;
    /// OUT.
    fn pio_write(&self, port: u16, value: u64, access: &Access<'_>);
    /// A read of guest physical memory that is not RAM.
    fn mmio_read(&self, addr: u64, access: &Access<'_>) -> u64;
    /// A write to guest physical memory that is not RAM.
    fn mmio_write(&self, addr: u64, value: u64, access: &Access<'_>);
}

/// The event loop, as a CPU's own thread can run it: an idle CPU then hears of a frame itself instead of being woken by
/// the thread that heard of it. Implemented by `machine`.
pub trait Executor: Debug + Send + Sync {
    /// The loop runs on the caller's thread, in [`Self::work`], until [`Self::give_back`].
    fn take_over(&self);
    /// Ends [`Self::take_over`].
    fn give_back(&self);
    /// Calls the handlers of what is ready. Without a `limit` it waits until something is; with one, at most so long.
    fn work(&self, limit: Option<Duration>);
    /// Ends a wait in [`Self::work`]; callable from any thread, nothing from the one that works.
    fn wake(&self);
}

/// Why an accelerator cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// Not usable here: what was tried, what the host answered, what to do.
    #[error("{0}")]
    Unavailable(String),
    /// The host failed in the middle.
    #[error("{what}: {source}")]
    Host {
        /// The call that failed.
        what: &'static str,
        /// The host's error.
        source: std::io::Error,
    },
    /// The guest did what this accelerator cannot run: the instruction and where.
    #[error("{0}")]
    CannotRun(String),
}

/// Why a vCPU came back to its thread. Port and memory accesses never end a run; they go to [`GuestBus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Somebody called [`Kicker::kick`]: look at the life cycle, then run again.
    Kicked,
    /// HLT with interrupts off, on an accelerator that leaves that to us: nothing can wake this CPU.
    Halted,
    /// Triple fault.
    Shutdown,
    /// Something of the debugger's plan was met.
    Debug(DebugStop),
}

/// Makes a running vCPU come back with [`Exit::Kicked`] soon; a kick between two runs ends the next one.
pub trait Kicker: Debug + Send + Sync {
    /// Callable from any thread.
    fn kick(&self);
}

/// How a vCPU starts after power-on or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartState {
    /// Runs from these registers: the boot CPU.
    Run(EntryState),
    /// Waits for INIT and SIPI: every other CPU.
    WaitForSipi,
}

/// The boot CPU's registers at the kernel's entry. Segments are flat, interrupts off, paging as `mode` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryState {
    /// The processor mode at entry.
    pub mode: EntryMode,
    /// First instruction.
    pub rip: u64,
    /// RSP.
    pub rsp: u64,
    /// RSI: Linux 64-bit boot protocol, the zero page.
    pub rsi: u64,
    /// RBX: PVH, the start info; multiboot, its information structure.
    pub rbx: u64,
    /// RAX: multiboot's magic number.
    pub rax: u64,
    /// Guest physical base of a GDT whose selectors 0x10 and 0x18 are flat code and data of the mode.
    pub gdt_base: u64,
    /// GDT limit in bytes, inclusive.
    pub gdt_limit: u16,
}

impl EntryState {
    /// What a firmware's image expects.
    pub const POWER_ON: Self =
        Self { mode: EntryMode::PowerOn, rip: 0, rsp: 0, rsi: 0, rbx: 0, rax: 0, gdt_base: 0, gdt_limit: 0 };
}

/// The processor mode at entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryMode {
    /// 64-bit long mode, paging through the PML4 at `cr3`.
    Long {
        /// Guest physical base of the PML4.
        cr3: u64,
    },
    /// 32-bit protected mode, paging off (PVH, multiboot).
    Protected,
    /// As after power-on, at the reset vector FFFFFFF0h (SDM volume 3, table 9-1): the other registers do not count.
    PowerOn,
    /// 16-bit real mode at CS = `segment`.
    Real {
        /// CS, DS, ES and SS selector; base is 16 times it.
        segment: u16,
    },
}

/// A kind of accelerator.
pub trait Accel: Debug {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Creates a machine with this RAM, an interrupt controller (PIC, IOAPIC, local APICs) and a PIT. What the
    /// accelerator counts time by, it counts by `clock`, unless the host's kernel does it.
    ///
    /// # Errors
    /// [`AccelError`].
    fn create_vm(
        &self,
        ram: &GuestRam,
        vcpus: u32,
        clock: &MonotonicClock,
    ) -> Result<Arc<dyn Vm>, AccelError>;
}

/// One virtual machine: the part of it that the accelerator owns.
pub trait Vm: GsiSink + MsiSink {
    /// Creates vCPU `id`, whose APIC id is the same.
    ///
    /// # Errors
    /// [`AccelError`].
    fn create_vcpu(&self, id: u32) -> Result<Box<dyn Vcpu>, AccelError>;

    /// Interrupt controllers and PIT to their power-on state. No vCPU may be running.
    ///
    /// # Errors
    /// [`AccelError`].
    fn reset(&self) -> Result<(), AccelError>;

    /// The guest's time is to stand still. No vCPU runs until [`Self::resume`].
    ///
    /// # Errors
    /// [`AccelError`].
    fn pause(&self) -> Result<(), AccelError> {
        Ok(())
    }

    /// The guest's time goes on where it stood, as far as the host allows.
    ///
    /// # Errors
    /// [`AccelError`].
    fn resume(&self) -> Result<(), AccelError> {
        Ok(())
    }

    /// From now on the guest sees `area` where it lies. Called before any vCPU runs, and again, also from a vCPU's own
    /// thread in the middle of an access, whenever what it shows has changed: always with the same one.
    ///
    /// # Errors
    /// [`AccelError`].
    fn map_firmware(&self, area: &Arc<FirmwareArea>) -> Result<(), AccelError>;

    /// Offers the event loop, before any vCPU is created. An accelerator whose CPUs sleep elsewhere leaves it alone.
    fn offer_executor(&self, executor: Arc<dyn Executor>) {
        drop(executor);
    }

    /// Whether CPUs that halt for ever stay inside [`Vcpu::run`] instead of coming back with [`Exit::Halted`].
    fn halts_unseen(&self) -> bool {
        false
    }

    /// Whether nothing here but a CPU can send what wakes a CPU with interrupts off (NMI, SMI, INIT): asked where
    /// [`Self::halts_unseen`], while no CPU runs.
    fn is_silent(&self) -> bool {
        true
    }

    /// What [`Vcpu::set_debug`] can do here.
    fn debug_means(&self) -> DebugMeans;

    /// One line on what runs the guest, for the user (hardware or emulation under it).
    fn describe(&self) -> String;
}

/// One virtual CPU; lives on its own thread.
pub trait Vcpu: Debug + Send {
    /// Puts the CPU into its start state: everything else as after power-on.
    ///
    /// # Errors
    /// [`AccelError`].
    fn reset(&mut self, start: &StartState) -> Result<(), AccelError>;

    /// Runs until an [`Exit`]. Accesses go to `bus`.
    ///
    /// # Errors
    /// [`AccelError`], after which the CPU must not run again before a reset.
    fn run(&mut self, bus: &Arc<dyn GuestBus>) -> Result<Exit, AccelError>;

    /// The CPU will not run for a while, and its own clocks are to stand still.
    ///
    /// # Errors
    /// [`AccelError`].
    fn pause(&mut self) -> Result<(), AccelError> {
        Ok(())
    }

    /// The CPU goes on after [`Self::pause`].
    ///
    /// # Errors
    /// [`AccelError`].
    fn resume(&mut self) -> Result<(), AccelError> {
        Ok(())
    }

    /// Between two runs: whether the CPU has halted with interrupts off, or waits to be started, and nothing is on its way
    /// to wake it. Asked where [`Vm::halts_unseen`].
    fn is_deaf(&mut self) -> bool {
        false
    }

    /// All registers as they are between two runs. Fields of [`CpuState`] that only an instruction in flight has
    /// (interrupt shadow, blocked NMIs, HLT) are as the accelerator knows them.
    ///
    /// # Errors
    /// [`AccelError`].
    fn registers(&mut self) -> Result<CpuState, AccelError>;

    /// Replaces the registers, between two runs.
    ///
    /// # Errors
    /// [`AccelError`], also when the host refuses a value; some registers may have their new value then.
    fn set_registers(&mut self, state: &CpuState) -> Result<(), AccelError>;

    /// Replaces the debugger's plan, between two runs. It holds over a reset.
    ///
    /// # Errors
    /// [`AccelError`], also when the plan is more than [`Vm::debug_means`].
    fn set_debug(&mut self, plan: &DebugPlan) -> Result<(), AccelError>;

    /// The handle by which others interrupt [`Self::run`]. Must be made on the thread that runs the CPU.
    ///
    /// # Errors
    /// [`AccelError`].
    fn kicker(&mut self) -> Result<Arc<dyn Kicker>, AccelError>;
}
