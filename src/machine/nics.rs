//! NICs and their cables: each device gets a slot, its wires and its peer.

use std::sync::Arc;

use super::board::{Board, Surroundings};
use super::error::SetupError;
use super::pc;
use crate::cli::E1000Options;
use crate::event::HostTimer;
use crate::irq::MsiSink;
use crate::memory::DmaHandle;
use crate::netdev::{Network, NicEnd};
use crate::nic::e1000::{self, E1000};
use crate::pci::{IntxLine, Msi, Wires};

/// One NIC and its place in the network.
#[derive(Debug)]
pub struct Nic {
    /// The device.
    pub device: Arc<E1000>,
    /// By which the network knows it.
    pub name: String,
}

impl Nic {
    /// Puts a NIC on the bus and plugs its cable in.
    ///
    /// # Errors
    /// [`SetupError`] when the slot or the netdev is taken or the host gives no timer.
    pub fn new(
        options: &E1000Options,
        slot: u8,
        around: &Surroundings<'_>,
        board: &Board,
        messages: Arc<dyn MsiSink>,
        network: &Network,
    ) -> Result<Self, SetupError> {
        let dma = DmaHandle::new(around.ram.clone(), Some(messages));
        let intx = IntxLine::new(around.inputs.line(pc::intx_gsi(slot, 1)));
        let msi = Msi::new(dma.clone());
        let timer = HostTimer::new(around.events, around.clock)?;
        let link_delay_ns = u64::try_from(options.link_delay.as_nanos()).unwrap_or(u64::MAX);
        let config =
            e1000::Config { link_delay_ns, msi: Some(msi.clone()), ..e1000::Config::new(options.mac) };
        let device = E1000::new(config, dma.clone(), intx.clone(), timer.clone());
        let target = Arc::downgrade(&device);
        timer.on_wake(move || {
            if let Some(device) = target.upgrade() {
                device.time_passed();
            }
        });
        board.pci.add(slot, device.clone(), Wires { dma, intx: Some(intx), msi: Some(msi) })?;
        let name = network.add_nic(NicEnd {
            id: options.id.clone(),
            model: "e1000",
            mac: options.mac,
            port: device.clone(),
            netdev: options.netdev.clone(),
        })?;
        Ok(Self { device, name })
    }
}
