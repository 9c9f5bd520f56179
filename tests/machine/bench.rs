//! The test bench: a machine of RAM, CPUs and a bus that records, and programs assembled at test time.
//!
//! Guest programs talk to the bench by port writes: [`REPORT`] records a value, [`DONE`] ends the run, [`RAISE`] and
//! [`LOWER`] drive an interrupt line, [`MESSAGE`] sends an MSI, [`DMA`] lets a device write to
//! memory, [`MAP`] switches what a piece of the firmware's area shows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use iced_x86::code_asm::CodeAssembler;
use minivmm::accel::kvm::KvmAccel;
use minivmm::accel::soft::SoftAccel;
use minivmm::accel::{Accel, EntryMode, EntryState, Exit, GuestBus, Kicker, StartState, Vcpu, Vm};
use minivmm::bus::Access;
use minivmm::memory::{DmaHandle, FirmwareArea, GuestRam};
use minivmm::time::MonotonicClock;

pub const REPORT: u32 = 0x500;
pub const DONE: u32 = 0x501;
pub const RAISE: u32 = 0x502;
pub const LOWER: u32 = 0x503;
pub const MESSAGE: u32 = 0x504;
/// Makes the bench's device write [`Recorder::dma`] to memory.
pub const DMA: u32 = 0x505;

/// Bits 15:8 the piece of [`Recorder::firmware`], bit 0 reads go to RAM, bit 1 writes do.
pub const MAP: u32 = 0x506;

/// Where programs are loaded.
pub const CODE: u64 = 0x1_0000;
/// Start of what only CPL 0 may touch: all above the first 2 MiB.
pub const KERNEL: u64 = 0x20_0000;
/// The long-mode programs' IDT, page tables, GDT and stack.
const IDT: u64 = 0x3000;
const GDT: u64 = 0x500;
const PML4: u64 = 0x2_0000;
const STACK: u64 = 0xf000;
const RAM: u64 = 16 << 20;
/// A hole: neither RAM nor an interrupt controller.
pub const HOLE: u64 = 0xd000_0000;
const PATIENCE: Duration = Duration::from_secs(30);

/// One access that reached the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    In(u16, u64),
    Out(u16, u64, u64),
    Read(u64, u64),
    Write(u64, u64, u64),
}

/// The bus: records, answers reads from a list (then all-ones), and obeys the control ports.
#[derive(Debug, Default)]
pub struct Recorder {
    pub events: Mutex<Vec<Event>>,
    pub reports: Mutex<Vec<u64>>,
    pub answers: Mutex<VecDeque<u64>>,
    pub rips: Mutex<Vec<Option<u64>>>,
    /// What the device writes, and where.
    pub dma: Mutex<Option<(DmaHandle, u64, Vec<u8>)>>,
    /// The machine's firmware, if it has one.
    pub firmware: Mutex<Option<Arc<FirmwareArea>>>,
    done: AtomicBool,
    vm: OnceLock<Arc<dyn Vm>>,
    kickers: Mutex<Vec<Arc<dyn Kicker>>>,
}

impl Recorder {
    fn answer(&self, access: &Access<'_>) -> u64 {
        self.rips.lock().unwrap().push(access.origin.rip());
        self.answers.lock().unwrap().pop_front().unwrap_or(access.width.all_ones())
    }

    fn log(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub fn kick_all(&self) {
        self.kickers.lock().unwrap().iter().for_each(|k| k.kick());
    }

    pub fn finish(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.kick_all();
    }

    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    fn control(&self, port: u32, value: u64) -> bool {
        let vm = self.vm.get().unwrap();
        match port {
            REPORT => self.reports.lock().unwrap().push(value),
            DONE => self.finish(),
            RAISE => vm.set_gsi(value as u32, true),
            LOWER => vm.set_gsi(value as u32, false),
            DMA => {
                let dma = self.dma.lock().unwrap();
                let (device, at, bytes) = dma.as_ref().expect("a test that uses DMA sets it up");
                device.write(*at, bytes).unwrap();
            }
            MAP => {
                let firmware = self.firmware.lock().unwrap();
                let area = firmware.as_ref().expect("a test that switches firmware has some");
                if area.set_piece((value >> 8) as usize, value & 1 != 0, value & 2 != 0) {
                    vm.map_firmware(area).unwrap();
                }
            }
            MESSAGE => vm.send(0xfee0_0000, value as u32),
            _ => return false,
        }
        true
    }
}

impl GuestBus for Recorder {
    fn pio_read(&self, port: u16, access: &Access<'_>) -> u64 {
        self.log(Event::In(port, access.width.bytes()));
        self.answer(access)
    }

    fn pio_write(&self, port: u16, value: u64, access: &Access<'_>) {
        if !self.control(port.into(), value) {
            self.log(Event::Out(port, access.width.bytes(), value));
        }
    }

    fn mmio_read(&self, addr: u64, access: &Access<'_>) -> u64 {
        self.log(Event::Read(addr, access.width.bytes()));
        self.answer(access)
    }

    fn mmio_write(&self, addr: u64, value: u64, access: &Access<'_>) {
        if let Some(area) = self.firmware.lock().unwrap().as_ref().filter(|area| area.covers(addr)) {
            return area.write(addr, &value.to_le_bytes()[..access.width.bytes() as usize]);
        }
        self.log(Event::Write(addr, access.width.bytes(), value));
    }
}

/// A machine under test.
pub struct Bench {
    pub ram: GuestRam,
    pub vm: Arc<dyn Vm>,
    pub bus: Arc<Recorder>,
    pub clock: MonotonicClock,
}

/// How a test gets a machine with so many CPUs; none when it may be skipped.
pub type Open = fn(u32) -> Option<Bench>;

/// A machine on the software CPU.
pub fn soft(cpus: u32) -> Option<Bench> {
    Some(Bench::new(&SoftAccel, cpus))
}

/// A machine on KVM, or none with permission to skip.
pub fn kvm(cpus: u32) -> Option<Bench> {
    match KvmAccel::open() {
        Ok(accel) => Some(Bench::new(&accel, cpus)),
        Err(why) => {
            println!("SKIP kvm: {why}");
            let allowed = std::env::var("MINIVMM_ALLOW_SKIP").unwrap_or_default();
            assert!(
                allowed.contains("kvm"),
                "KVM tests cannot run: {why} (MINIVMM_ALLOW_SKIP=kvm accepts that)"
            );
            None
        }
    }
}

impl Bench {
    /// A machine with `cpus` CPUs (not yet created), long-mode tables in place.
    fn new(accel: &dyn Accel, cpus: u32) -> Self {
        let ram = GuestRam::new(&[(0, RAM)]).unwrap();
        let clock = MonotonicClock::new();
        let vm = accel.create_vm(&ram, cpus, &clock).unwrap();
        let bus = Arc::new(Recorder::default());
        bus.vm.set(vm.clone()).unwrap();
        let bench = Self { ram, vm, bus, clock };
        bench.write_tables();
        bench
    }

    fn write_tables(&self) {
        let put = |at: u64, value: u64| self.ram.write(at, &value.to_le_bytes()).unwrap();
        put(GDT + 0x10, 0x00af_9b00_0000_ffff);
        put(GDT + 0x18, 0x00cf_9300_0000_ffff);
        put(PML4, (PML4 + 0x1000) | 7);
        for gib in 0..4 {
            put(PML4 + 0x1000 + gib * 8, (PML4 + 0x2000 + gib * 0x1000) | 7);
            for i in 0..512 {
                let user = if (gib, i) == (0, 0) { 4 } else { 0 };
                put(PML4 + 0x2000 + gib * 0x1000 + i * 8, (gib << 30) | (i << 21) | 0x83 | user);
            }
        }
        // LIDT operand for programs: limit 0xfff, base IDT.
        self.ram.write(IDTR, &[0xff, 0x0f]).unwrap();
        put(IDTR + 2, IDT);
    }

    /// Loads a program written for `bits`-bit code at `at`.
    pub fn load(&self, at: u64, bits: u32, program: impl FnOnce(&mut CodeAssembler)) {
        let mut a = CodeAssembler::new(bits).unwrap();
        program(&mut a);
        self.ram.write(at, &a.assemble(at).unwrap()).unwrap();
    }

    /// Points a long-mode interrupt gate at `handler`.
    pub fn gate(&self, vector: u64, handler: u64) {
        let low = (handler & 0xffff) | 0x10 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
        self.ram.write(IDT + vector * 16, &low.to_le_bytes()).unwrap();
        self.ram.write(IDT + vector * 16 + 8, &(handler >> 32).to_le_bytes()).unwrap();
    }

    /// The boot CPU at its start.
    pub fn boot_cpu(&self, start: &StartState) -> Box<dyn Vcpu> {
        let mut cpu = self.vm.create_vcpu(0).unwrap();
        self.adopt(&mut *cpu);
        cpu.reset(start).unwrap();
        cpu
    }

    /// Lets [`Recorder::finish`] interrupt this CPU; on its thread.
    pub fn adopt(&self, cpu: &mut dyn Vcpu) {
        self.bus.kickers.lock().unwrap().push(cpu.kicker().unwrap());
    }

    /// Runs until [`DONE`] or an exit of the CPU's own.
    pub fn run(&self, cpu: &mut dyn Vcpu) -> Exit {
        let (stop, stopped) = mpsc::channel::<()>();
        let bus = self.bus.clone();
        let watchdog = std::thread::spawn(move || {
            let late = stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            if late {
                bus.finish();
            }
            late
        });
        let exit = loop {
            match cpu.run(&self.dyn_bus()).unwrap() {
                Exit::Kicked if !self.bus.is_done() => {}
                exit => break exit,
            }
        };
        drop(stop);
        if watchdog.join().unwrap() {
            let at = cpu.registers().unwrap();
            panic!(
                "the guest did not finish; reports {:x?}, at {:#x}, {:x?}",
                self.reports(),
                at.rip,
                at.segs
            );
        }
        exit
    }

    /// Runs a program from its start on a fresh boot CPU and returns its reports.
    pub fn run_program(&self, start: &StartState) -> Vec<u64> {
        let mut cpu = self.boot_cpu(start);
        assert_eq!(
            self.run(&mut *cpu),
            Exit::Kicked,
            "reports {:x?}, events {:x?}",
            self.reports(),
            self.events()
        );
        self.reports()
    }

    /// The bus as CPUs take it.
    pub fn dyn_bus(&self) -> Arc<dyn GuestBus> {
        self.bus.clone()
    }

    pub fn reports(&self) -> Vec<u64> {
        self.bus.reports.lock().unwrap().clone()
    }

    pub fn events(&self) -> Vec<Event> {
        self.bus.events.lock().unwrap().clone()
    }
}

/// Where the operand for LIDT lies.
pub const IDTR: u64 = 0x700;

fn entry(mode: EntryMode, rip: u64) -> StartState {
    StartState::Run(EntryState {
        mode,
        rip,
        rsp: STACK,
        rsi: 0x1234_5678,
        rbx: 0x9abc_def0,
        rax: 0x2bad_b002,
        gdt_base: GDT,
        gdt_limit: 0x1f,
    })
}

/// Long mode at [`CODE`], the low 4 GiB identity-mapped.
pub fn long() -> StartState {
    entry(EntryMode::Long { cr3: PML4 }, CODE)
}

/// Protected mode at [`CODE`].
pub fn protected() -> StartState {
    entry(EntryMode::Protected, CODE)
}

/// Real mode at CS [`CODE`] / 16, IP 0.
pub fn real() -> StartState {
    entry(EntryMode::Real { segment: (CODE >> 4) as u16 }, 0)
}

/// The reset vector.
pub fn power_on() -> StartState {
    StartState::Run(EntryState::POWER_ON)
}

/// OUT of EAX to `port` (clobbers DX).
pub fn out(a: &mut CodeAssembler, port: u32) {
    use iced_x86::code_asm::{dx, eax};
    a.mov(dx, port).unwrap();
    a.out(dx, eax).unwrap();
}

/// OUT of `value` to `port` (clobbers EAX, DX).
pub fn out_value(a: &mut CodeAssembler, port: u32, value: u32) {
    use iced_x86::code_asm::eax;
    a.mov(eax, value).unwrap();
    out(a, port);
}

/// Ends the run; the CPU then spins until it is taken away.
pub fn done(a: &mut CodeAssembler) {
    out_value(a, DONE, 0);
    let mut spin = a.create_label();
    a.set_label(&mut spin).unwrap();
    a.jmp(spin).unwrap();
}
