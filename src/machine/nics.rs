//! NICs and their cables: each device gets a slot, its wires and its peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::board::{Board, Surroundings};
use super::eeprom_file::EepromFile;
use super::error::SetupError;
use super::gate::Gate;
use super::observers::NicWatchers;
use crate::boot::bios::read_option_rom;
use crate::cli::{CardFaultPlan, E1000Options, NicModel, NicOverflow};
use crate::event::HostTimer;
use crate::irq::MsiSink;
use crate::memory::DmaHandle;
use crate::monitor::{Event, Events};
use crate::netdev::{Network, NicEnd};
use crate::nic::e1000::eeprom::{Image, Store};
use crate::nic::e1000::{self, E1000, Model, Overflow};
use crate::pci::{IntxLine, Msi, Wires};
use crate::sys::Notices;

/// One NIC and its place in the network.
#[derive(Debug)]
pub struct Nic {
    /// The device.
    pub device: Arc<E1000>,
    /// By which the network knows it.
    pub name: String,
    /// PCI slot.
    pub slot: u8,
    /// Between it and its cable.
    pub gate: Arc<Gate>,
    /// Monitors were told that its filters changed, and have not asked since.
    pub filters_told: Arc<AtomicBool>,
    /// Who watches it.
    pub watchers: NicWatchers,
}

impl Nic {
    /// Puts a NIC on the bus and plugs its cable in.
    ///
    /// # Errors
    /// [`SetupError`] when the slot or the netdev is taken, the EEPROM's file is of no use or the host gives no timer.
    #[expect(clippy::too_many_arguments, reason = "everything that a NIC is wired to")]
    pub fn new(
        options: &E1000Options,
        slot: u8,
        around: &Surroundings<'_>,
        board: &Board,
        messages: Arc<dyn MsiSink>,
        network: &Network,
        watchers: NicWatchers,
        notices: &Notices,
    ) -> Result<Self, SetupError> {
        let dma = DmaHandle::new(around.ram.clone(), Some(messages));
        let intx = IntxLine::new(board.intx_line(around, slot, 1));
        let msi = options.msi.then(|| Msi::new(dma.clone()));
        let timer = HostTimer::new(around.events, around.clock)?;
        let observer = watchers.observer.clone();
        let config = e1000::Config { observer, ..config(options, msi.clone(), notices)? };
        let mac = config.eeprom.as_ref().map_or(options.mac, Image::mac);
        let device = E1000::new(config, dma.clone(), intx.clone(), timer.clone());
        let target = Arc::downgrade(&device);
        timer.on_wake(move || {
            if let Some(device) = target.upgrade() {
                device.time_passed();
            }
        });
        let rom = options.romfile.as_deref().map(read_option_rom).transpose()?;
        board.pci.add_with_rom(slot, device.clone(), Wires { dma, intx: Some(intx), msi }, rom)?;
        let gate = Gate::new(device.clone());
        let name = network.add_nic(NicEnd {
            id: options.id.clone(),
            model: device.model().name(),
            mac,
            port: gate.clone(),
            netdev: options.netdev.clone(),
        })?;
        let filters_told = Arc::new(AtomicBool::new(false));
        Ok(Self { device, name, slot, gate, filters_told, watchers })
    }

    /// Lets monitors hear when the guest changes the address filters: once, until somebody asks for them, since a
    /// driver may do it a hundred times in a row.
    pub fn tell_filter_changes(&self, events: &Events) {
        let (told, name, events) = (self.filters_told.clone(), self.name.clone(), events.clone());
        self.device.on_filter_change(move || {
            if !told.swap(true, Ordering::SeqCst) {
                events.raise(&Event::NicRxFilterChanged { name: name.clone() });
            }
        });
    }
}

/// Which part `options` ask for.
pub fn model(options: &E1000Options) -> Model {
    match options.model {
        NicModel::I82540Em => Model::I82540Em,
        NicModel::I82545Em => Model::I82545Em,
        NicModel::I82544Gc => Model::I82544Gc,
    }
}

/// Lets something go wrong in the NIC that `plan` names, or in the only one.
///
/// # Errors
/// One line, when there is no such NIC, or its faults have one of this id.
pub fn add_fault(nics: &[Nic], plan: &CardFaultPlan) -> Result<(), String> {
    let nic = match (&plan.device, nics) {
        (None, [only]) => only,
        (None, _) => return Err(format!("the machine has {} NICs: say which by device=", nics.len())),
        (Some(name), _) => {
            let named = nics.iter().find(|nic| nic.name == *name);
            named.ok_or_else(|| format!("there is no NIC '{name}'; info network lists them"))?
        }
    };
    let time_ns = u64::try_from(plan.time.as_nanos()).unwrap_or(u64::MAX);
    let added = nic.device.add_fault(&plan.id, plan.fault, time_ns, plan.schedule);
    added.then_some(()).ok_or_else(|| format!("the id '{}' is taken", plan.id))
}

/// The board that `options` describes; its EEPROM's file is opened, and made if there is none.
fn config(options: &E1000Options, msi: Option<Msi>, notices: &Notices) -> Result<e1000::Config, SetupError> {
    let model = model(options);
    let overflow = match options.overflow {
        NicOverflow::Wait => Overflow::Wait,
        NicOverflow::Drop => Overflow::Drop,
    };
    let (mut eeprom, mut eeprom_store) = (None, None);
    if let Some(path) = &options.eeprom {
        let wanted = options.mac_given.then_some(options.mac);
        let (image, file) = EepromFile::open(path, || Image::fresh(model, options.mac), wanted, notices)?;
        eeprom = Some(image);
        eeprom_store = Some(Arc::new(file) as Arc<dyn Store>);
    }
    let link_delay_ns = u64::try_from(options.link_delay.as_nanos()).unwrap_or(u64::MAX);
    let strict = options.strict;
    let base = e1000::Config::new(options.mac);
    Ok(e1000::Config { model, link_delay_ns, strict, overflow, eeprom, eeprom_store, msi, ..base })
}
