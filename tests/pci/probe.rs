//! A function that records its calls, and a bus with it on, driven as a kernel would.

use std::sync::{Arc, Mutex};

use minivmm::bus::{Access, AccessError, Bus, BusDevice, Mmio, Pio, Width};
use minivmm::irq::{IrqLine, MsiSink};
use minivmm::machine::pc;
use minivmm::memory::{DmaHandle, GuestRam};
use minivmm::pci::{
    BarKind, BarSpec, Bdf, Capability, Ecam, Function, Identity, IntxLine, Msi, PciBus, PowerState, Wires,
};

pub const MEM32: BarSpec = BarSpec { index: 0, kind: BarKind::Mem32, size: 0x2_0000 };
pub const IO: BarSpec = BarSpec { index: 1, kind: BarKind::Io, size: 64 };
pub const MEM64: BarSpec = BarSpec { index: 2, kind: BarKind::Mem64, size: 0x4000 };
pub const PM: u8 = 0xdc;
pub const MSI: u8 = 0xf0;
pub const RAM: u64 = 1 << 20;

/// What reached the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Read(u8, u64),
    Write(u8, u64, u64),
    BusMaster(bool),
    Power(PowerState),
    Reset,
}

#[derive(Debug, Default)]
pub struct Probe {
    pub calls: Mutex<Vec<Call>>,
}

impl Probe {
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn record(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Function for Probe {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x8086,
            device: 0x100e,
            revision: 3,
            class: 0x02_00_00,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            interrupt_pin: 1,
            min_gnt: 0xff,
            max_lat: 0,
        }
    }

    fn bars(&self) -> Vec<BarSpec> {
        vec![MEM32, IO, MEM64]
    }

    fn bar_read(&self, bar: u8, offset: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        self.record(Call::Read(bar, offset));
        Ok(0x1000 * u64::from(bar) + offset)
    }

    fn bar_write(&self, bar: u8, offset: u64, value: u64, _: &Access<'_>) -> Result<(), AccessError> {
        self.record(Call::Write(bar, offset, value));
        Ok(())
    }

    fn bus_master_changed(&self, on: bool) {
        self.record(Call::BusMaster(on));
    }

    fn bus_reset(&self) {
        self.record(Call::Reset);
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::power_management(PM, 0xc822), Capability::msi(MSI)]
    }

    fn power_state_changed(&self, state: PowerState) {
        self.record(Call::Power(state));
    }
}

#[derive(Debug, Default)]
pub struct Messages(pub Mutex<Vec<(u64, u32)>>);

impl MsiSink for Messages {
    fn send(&self, addr: u64, data: u32) {
        self.0.lock().unwrap().push((addr, data));
    }
}

/// Something else on the bus, which a BAR must never cover.
#[derive(Debug)]
pub struct Fixed;

impl BusDevice for Fixed {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        Ok(0xf1)
    }

    fn write(&self, _: u64, _: u64, _: &Access<'_>) -> Result<(), AccessError> {
        Ok(())
    }
}

/// A function in its slot, with its wires.
#[derive(Debug)]
pub struct Plugged {
    pub bdf: Bdf,
    pub probe: Arc<Probe>,
    pub dma: DmaHandle,
    pub intx: IntxLine,
    pub msi: Msi,
}

/// A bus as `machine` builds it, with ECAM, without other chips.
#[derive(Debug)]
pub struct TestBus {
    pub pio: Bus<Pio>,
    pub mmio: Bus<Mmio>,
    pub pci: Arc<PciBus>,
    pub ram: GuestRam,
    pub messages: Arc<Messages>,
}

impl TestBus {
    pub fn new() -> Self {
        let (pio, mmio) = (Bus::default(), Bus::default());
        let pci = Arc::new(PciBus::new(pio.clone(), mmio.clone(), pc::pci_map(RAM)));
        mmio.insert("ecam", pc::ECAM_BASE, pc::ECAM_LEN, Arc::new(Ecam::new(pci.clone()))).unwrap();
        let ram = GuestRam::new(&[(0, RAM)]).unwrap();
        Self { pio, mmio, pci, ram, messages: Arc::default() }
    }

    /// A bus with one probe in slot 3, programmed as before boot.
    pub fn with_probe() -> (Self, Plugged) {
        let bus = Self::new();
        let plugged = bus.plug(3);
        bus.pci.program_bars().unwrap();
        (bus, plugged)
    }

    pub fn plug(&self, slot: u8) -> Plugged {
        self.plug_with_rom(slot, None)
    }

    pub fn plug_with_rom(&self, slot: u8, rom: Option<Arc<[u8]>>) -> Plugged {
        let probe = Arc::new(Probe::default());
        let dma = DmaHandle::new(self.ram.clone(), Some(self.messages.clone()));
        let (intx, msi) = (IntxLine::new(IrqLine::detached()), Msi::new(dma.clone()));
        let wires = Wires { dma: dma.clone(), intx: Some(intx.clone()), msi: Some(msi.clone()) };
        self.pci.add_with_rom(slot, probe.clone(), wires, rom).unwrap();
        Plugged { bdf: Bdf::on_bus0(slot), probe, dma, intx, msi }
    }

    pub fn read(&self, bdf: Bdf, offset: u8, width: Width) -> u64 {
        self.pci.config_read(bdf, u16::from(offset), width)
    }

    pub fn write(&self, bdf: Bdf, offset: u8, width: Width, value: u64) {
        self.pci.config_write(bdf, u16::from(offset), width, value);
    }

    pub fn command(&self, bdf: Bdf) -> u16 {
        self.read(bdf, 4, Width::Word) as u16
    }

    pub fn set_command(&self, bdf: Bdf, value: u16) {
        self.write(bdf, 4, Width::Word, u64::from(value));
    }

    pub fn status(&self, bdf: Bdf) -> u16 {
        self.read(bdf, 6, Width::Word) as u16
    }

    /// A dword from memory space.
    pub fn mem(&self, addr: u64) -> u64 {
        self.mmio.read(addr, &Access::plain(Width::Dword))
    }

    /// A dword from I/O space.
    pub fn port(&self, port: u64) -> u64 {
        self.pio.read(port, &Access::plain(Width::Dword))
    }

    /// A BAR's address as the guest reads it.
    pub fn bar(&self, bdf: Bdf, spec: BarSpec) -> u64 {
        let width = if spec.kind == BarKind::Mem64 { Width::Qword } else { Width::Dword };
        self.read(bdf, 0x10 + 4 * spec.index, width) & !(spec.size - 1)
    }
}

/// What an absent device reads in 32 bits.
pub const NOBODY: u64 = 0xffff_ffff;
