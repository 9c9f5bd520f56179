//! NICs and their cables: each device gets a slot, its wires and its peer.

use std::sync::Arc;

use super::board::{Board, Surroundings};
use super::error::SetupError;
use super::pc;
use crate::cli::E1000Options;
use crate::event::HostTimer;
use crate::irq::MsiSink;
use crate::memory::DmaHandle;
use crate::netdev::{Backend, Netdevs};
use crate::netport::{self, FramePort};
use crate::nic::e1000::{self, E1000};
use crate::pci::{IntxLine, Msi, Wires};

/// One NIC and what it is plugged into.
#[derive(Debug)]
pub struct Nic {
    /// The device.
    pub device: Arc<E1000>,
    /// The backend at the other end of its cable.
    pub backend: Option<Arc<dyn Backend>>,
    port: Arc<dyn FramePort>,
}

impl Nic {
    /// Puts a NIC on the bus and plugs its cable in.
    ///
    /// # Errors
    /// [`SetupError`] when the slot is taken or the host gives no timer.
    pub fn new(
        options: &E1000Options,
        slot: u8,
        around: &Surroundings<'_>,
        board: &Board,
        messages: Arc<dyn MsiSink>,
        netdevs: &Netdevs,
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
        let backend = options.netdev.as_deref().and_then(|id| netdevs.get(id)).cloned();
        let port: Arc<dyn FramePort> = device.clone();
        if let Some(backend) = &backend {
            let other: Arc<dyn FramePort> = backend.clone();
            netport::join(&port, &other);
        } else {
            device.set_link(false);
        }
        Ok(Self { device, backend, port })
    }
}

impl Drop for Nic {
    /// Peers hold each other; unplugging lets both go.
    fn drop(&mut self) {
        netport::part(&self.port);
    }
}
