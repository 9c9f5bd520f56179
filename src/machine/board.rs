//! The board: the chips of a PC on their buses, each with its wires.
//!
//! Built once by the assembly; [`Board::reset`] puts every chip into its power-on state. Only wiring is here:
//! behaviour lives in `chipset` and `pci`, addresses in [`super::pc`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::SetupError;
use super::exits::Buses;
use super::firmware::Firmware;
use super::pc;
use crate::bus::BusDevice;
use crate::chipset::{
    CmosMemory, DebugExit, FW_CFG_LEN, FwCfg, FwCfgFile, FwCfgItem, I8042, I8042_COMMAND_OFFSET, PIRQS,
    PM_LEN, PirqRouter, PmBlock, Port92, PowerSink, Pvpanic, RTC_LEN, ResetControl, Rtc, SERIAL_PORT_LEN,
    SerialPort,
};
use crate::cli::IsaDebugExitOptions;
use crate::event::{EventHandle, HostTimer};
use crate::irq::{GsiPin, GsiSink, IrqLine};
use crate::memory::{DmaHandle, GuestRam};
use crate::pci::{
    CONFIG_PORTS_BASE, CONFIG_PORTS_LEN, ConfigPorts, Ecam, HostBridge, IsaBridge, PciBus, Piix3, Wires,
};
use crate::time::MonotonicClock;

/// The interrupt inputs that are in use; one [`GsiPin`] each, so that sharing devices are ORed.
#[derive(Debug)]
pub struct InterruptInputs {
    sink: Arc<dyn GsiSink>,
    pins: Mutex<BTreeMap<u32, GsiPin>>,
}

impl InterruptInputs {
    /// The inputs of `sink`, the accelerator's interrupt controllers.
    pub fn new(sink: Arc<dyn GsiSink>) -> Self {
        Self { sink, pins: Mutex::default() }
    }

    /// A new wire to input `gsi`.
    pub fn line(&self, gsi: u32) -> IrqLine {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.entry(gsi).or_insert_with(|| GsiPin::new(gsi, self.sink.clone())).line()
    }
}

/// What the board is wired to.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The two buses.
    pub buses: &'a Buses,
    /// Interrupt inputs.
    pub inputs: &'a InterruptInputs,
    /// Guest RAM.
    pub ram: &'a GuestRam,
    /// The event loop, for the chips' timers.
    pub events: &'a EventHandle,
    /// The machine's time.
    pub clock: &'a MonotonicClock,
    /// Who carries out power-off and reset.
    pub power: &'a Arc<dyn PowerSink>,
    /// `-bios`.
    pub firmware: Option<&'a Firmware>,
}

/// What only a machine that starts with firmware has.
#[derive(Debug)]
struct FirmwareChips {
    port92: Arc<Port92>,
    /// Inputs of the interrupt router.
    pirqs: InterruptInputs,
}

/// The chips.
#[derive(Debug)]
pub struct Board {
    /// Bus 0.
    pub pci: Arc<PciBus>,
    config_ports: Arc<ConfigPorts>,
    reset_control: Arc<ResetControl>,
    i8042: Arc<I8042>,
    rtc: Arc<Rtc>,
    pm: Arc<PmBlock>,
    fw_cfg: Option<Arc<FwCfg>>,
    serial: Vec<Arc<SerialPort>>,
    firmware: Option<FirmwareChips>,
}

impl Board {
    /// Puts the chips on the buses.
    ///
    /// # Errors
    /// [`SetupError`] when the host gives no timer.
    pub fn new(around: Surroundings<'_>) -> Result<Self, SetupError> {
        let reset_control = Arc::new(ResetControl::new(around.power.clone()));
        let (pci, firmware) = match around.firmware {
            None => (pci_bus(&around)?, None),
            Some(firmware) => firmware_board(&around, firmware).map(|(pci, chips)| (pci, Some(chips)))?,
        };
        let board = Self {
            config_ports: Arc::new(ConfigPorts::new(pci.clone(), reset_control.clone())),
            pci,
            reset_control,
            i8042: Arc::new(I8042::new(around.inputs.line(pc::KEYBOARD_GSI), around.power.clone())),
            rtc: rtc(&around)?,
            pm: pm(&around)?,
            fw_cfg: None,
            serial: Vec::new(),
            firmware,
        };
        board.place(&around)?;
        Ok(board)
    }

    fn place(&self, around: &Surroundings<'_>) -> Result<(), SetupError> {
        let pvpanic = Arc::new(Pvpanic::new(around.power.clone()));
        let ports: [(&str, u64, u64, Arc<dyn BusDevice>); 6] = [
            ("PCI configuration ports", CONFIG_PORTS_BASE, CONFIG_PORTS_LEN, self.config_ports.clone()),
            ("i8042 data port", pc::I8042_BASE, 1, self.i8042.data_port()),
            ("i8042 command port", pc::I8042_BASE + I8042_COMMAND_OFFSET, 1, self.i8042.command_port()),
            ("RTC", pc::RTC.0, RTC_LEN, self.rtc.clone()),
            ("ACPI PM block", pc::PM_BASE, PM_LEN, self.pm.clone()),
            ("pvpanic", pc::PVPANIC_PORT, 1, pvpanic),
        ];
        for (name, base, len, device) in ports {
            around.buses.pio.insert(name, base, len, device)?;
        }
        let ecam = Arc::new(Ecam::new(self.pci.clone()));
        around.buses.mmio.insert("ECAM", pc::ECAM_BASE, pc::ECAM_LEN, ecam)?;
        Ok(())
    }

    /// Adds serial port number `index` (0 is ttyS0).
    ///
    /// # Errors
    /// [`SetupError`] when its ports are taken.
    pub fn add_serial(
        &mut self,
        buses: &Buses,
        index: usize,
        port: Arc<SerialPort>,
    ) -> Result<(), SetupError> {
        let (base, _) = pc::COM[index];
        buses.pio.insert(&format!("serial port {index}"), base, SERIAL_PORT_LEN, port.clone())?;
        self.serial.push(port);
        Ok(())
    }

    /// Adds fw_cfg, when all is known that it tells.
    ///
    /// # Errors
    /// [`SetupError`] when a file does not fit.
    pub fn add_fw_cfg(
        &mut self,
        buses: &Buses,
        files: Vec<FwCfgFile>,
        items: Vec<FwCfgItem>,
    ) -> Result<(), SetupError> {
        let fw_cfg = Arc::new(FwCfg::new(files, items)?);
        buses.pio.insert("fw_cfg", pc::FW_CFG_BASE, FW_CFG_LEN, fw_cfg.clone())?;
        self.fw_cfg = Some(fw_cfg);
        Ok(())
    }

    /// A new wire to the interrupt of `pin` (1 = INTA#) of the PCI device in `slot`.
    pub fn intx_line(&self, around: &Surroundings<'_>, slot: u8, pin: u8) -> IrqLine {
        match &self.firmware {
            None => around.inputs.line(pc::intx_gsi(slot, pin)),
            Some(chips) => chips.pirqs.line(pc::firmware_pirq(slot, pin)),
        }
    }

    /// The devices are complete: does what a BIOS does with PCI, if none will run.
    ///
    /// # Errors
    /// [`SetupError`] when the BARs do not fit.
    pub fn program_pci(&self) -> Result<(), SetupError> {
        if self.firmware.is_none() {
            self.pci.program_bars()?;
        }
        Ok(())
    }

    /// The power management block, with the power button.
    pub fn pm(&self) -> &Arc<PmBlock> {
        &self.pm
    }

    /// How many serial ports there are.
    pub fn serial_ports(&self) -> usize {
        self.serial.len()
    }

    /// Adds `-device isa-debug-exit`.
    ///
    /// # Errors
    /// [`SetupError`] when its ports are taken.
    pub fn add_debug_exit(
        &self,
        around: &Surroundings<'_>,
        options: &IsaDebugExitOptions,
    ) -> Result<(), SetupError> {
        let device = Arc::new(DebugExit::new(around.power.clone()));
        let (base, len) = (options.iobase.into(), options.iosize.into());
        around.buses.pio.insert("isa-debug-exit", base, len, device)?;
        Ok(())
    }

    /// Every chip and function to its state after power-on. No vCPU may be running.
    ///
    /// # Errors
    /// [`SetupError`] when the BARs no longer fit, which cannot be once they did.
    pub fn reset(&self) -> Result<(), SetupError> {
        let Self { pci, config_ports, reset_control, i8042, rtc, pm, fw_cfg, serial, firmware } = self;
        match firmware {
            None => pci.reset()?,
            Some(chips) => {
                pci.reset_only();
                chips.port92.reset();
            }
        }
        config_ports.reset();
        reset_control.reset();
        i8042.reset();
        rtc.reset();
        pm.reset();
        fw_cfg.iter().for_each(|fw_cfg| fw_cfg.reset());
        serial.iter().for_each(|port| port.reset());
        Ok(())
    }
}

fn pci_bus(around: &Surroundings<'_>) -> Result<Arc<PciBus>, SetupError> {
    let (pio, mmio) = (around.buses.pio.clone(), around.buses.mmio.clone());
    let bus = PciBus::new(pio, mmio, pc::pci_map(around.ram.end()));
    let dma = || Wires::dma_only(DmaHandle::new(around.ram.clone(), None));
    bus.add(pc::HOST_BRIDGE_SLOT, Arc::new(HostBridge::new(pc::ECAM_BASE)), dma())?;
    bus.add(pc::ISA_BRIDGE_SLOT, Arc::new(IsaBridge), dma())?;
    Ok(Arc::new(bus))
}

/// Bus 0 of a machine that starts with firmware: a chipset that firmware knows, and its interrupt router.
fn firmware_board(
    around: &Surroundings<'_>,
    firmware: &Firmware,
) -> Result<(Arc<PciBus>, FirmwareChips), SetupError> {
    let (pio, mmio) = (around.buses.pio.clone(), around.buses.mmio.clone());
    let ioapic: [IrqLine; PIRQS] =
        std::array::from_fn(|n| around.inputs.line(pc::FIRMWARE_PIRQ_GSI + n as u32));
    let router = PirqRouter::new(|irq| around.inputs.line(irq), ioapic);
    let bus = PciBus::new(pio, mmio, pc::firmware_pci_map(around.ram.end()));
    let dma = || Wires::dma_only(DmaHandle::new(around.ram.clone(), None));
    bus.add(pc::HOST_BRIDGE_SLOT, Arc::new(firmware.host_bridge()), dma())?;
    let routes = router.clone();
    let isa_bridge = Piix3::new(move |pirq, route| routes.set_route(pirq, route));
    bus.add(pc::FIRMWARE_ISA_BRIDGE_SLOT, Arc::new(isa_bridge), dma())?;
    let port92 = Arc::new(Port92::new(around.power.clone()));
    around.buses.pio.insert("port 92h", pc::PORT92, 1, port92.clone())?;
    Ok((Arc::new(bus), FirmwareChips { port92, pirqs: InterruptInputs::new(router) }))
}

fn rtc(around: &Surroundings<'_>) -> Result<Arc<Rtc>, SetupError> {
    let timer = HostTimer::new(around.events, around.clock)?;
    let size = |r: &crate::memory::RamRegion| r.len;
    let regions = around.ram.regions();
    let memory = CmosMemory { low: regions.first().map_or(0, size), high: regions.get(1).map_or(0, size) };
    let rtc = Rtc::new(around.inputs.line(pc::RTC.1), Box::new(wall_time), timer.clone(), memory);
    let rtc = Arc::new(rtc);
    let target = Arc::downgrade(&rtc);
    timer.on_wake(move || {
        if let Some(rtc) = target.upgrade() {
            rtc.time_passed();
        }
    });
    Ok(rtc)
}

fn wall_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn pm(around: &Surroundings<'_>) -> Result<Arc<PmBlock>, SetupError> {
    let timer = HostTimer::new(around.events, around.clock)?;
    let pm = PmBlock::new(around.inputs.line(pc::SCI_GSI), timer.clone(), around.power.clone());
    let pm = Arc::new(pm);
    let target = Arc::downgrade(&pm);
    timer.on_wake(move || {
        if let Some(pm) = target.upgrade() {
            pm.time_passed();
        }
    });
    Ok(pm)
}
