//! Intel 82540EM, as a PCI function on one side and a frame port on the other.
//!
//! `machine` makes it with [`E1000::new`], plugs it into `pci` (as a [`Function`]) and joins it to a network
//! backend (as a [`FramePort`]). Pure: memory, interrupts, frames and time come through traits; there is no
//! thread, no KVM, no tap and no host clock here. Facts are from the 8254x manual (317453).
//!
//! Three parts, each behind its own lock:
//!
//! ```text
//! Regs        registers, EEPROM, PHY, statistics   held for a register access, never across a call out
//! TxEngine    transmit ring                        token; holds it while it calls the peer
//! RxEngine    receive ring                         token; never calls the peer
//! Interrupts  ICR, IMS, timers, INTA#              leaf; drives line and clock with it held
//! ```
//!
//! Lock order: a token, then `Regs`, and apart from that nothing; `Regs` and `Interrupts` are never held
//! together, and no token is waited for with another lock held. Register handlers return
//! [`regs::Effects`], which [`E1000::perform`] carries out after unlocking.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod bar_io;
mod bar_mmio;
mod board;
pub mod coverage;
pub mod doctor;
pub mod eeprom;
pub mod fault;
mod filter_state;
mod flow_control;
mod function;
mod hooks;
mod interrupt;
pub mod led;
mod link;
mod moderation;
pub mod observe;
mod phy;
mod port;
pub mod regs;
mod rx_fifo;
mod rx_filter;
mod rx_offload;
mod rx_place;
mod rx_ring;
pub mod spec;
mod stats;
pub mod testing;
mod tx_context;
mod tx_frame;
mod tx_offload;
mod tx_ring;
mod wake;
mod write_back;

use crate::bus::Access;
use crate::fault::{CardFault, Schedule};
use crate::memory::DmaHandle;
use crate::netport::PeerSlot;
use crate::pci::{IntxLine, Pme};
use crate::time::Clock;
use crate::token::{Entered, Token};
use eeprom::{Eeprom, Image};
use fault::{FaultState, Faults};
use filter_state::FilterListener;
use hooks::Hooked;
use interrupt::{Interrupts, Watch};
use observe::{Caused, Event, Moment, Observer};
use port::LoopedBack;
use regs::{Effects, Regs};
use rx_ring::RxEngine;
use spec::cause;
use tx_ring::TxEngine;

pub use board::{Config, Model, Overflow};
pub use filter_state::FilterState;
pub use function::{BAR_IO, BAR_IO_64, BAR_MMIO};
pub use stats::Counters;

/// The device.
#[derive(Debug)]
pub struct E1000 {
    model: Model,
    strict: bool,
    has_msi: bool,
    pme: Pme,
    dma: DmaHandle,
    clock: Arc<dyn Clock>,
    regs: Mutex<Regs>,
    tx: Token<TxEngine>,
    rx: Token<RxEngine>,
    interrupts: Interrupts,
    /// Locked for each report, so that the store gets them in order.
    eeprom_store: Option<Mutex<Arc<dyn eeprom::Store>>>,
    loopback: Mutex<VecDeque<LoopedBack>>,
    filter_listener: FilterListener,
    ioaddr: AtomicU32,
    port: PeerSlot,
    observer: Option<Arc<dyn Observer>>,
    faults: Arc<Faults>,
}

impl E1000 {
    /// The part after power-up, with its cable in.
    pub fn new(config: Config, dma: DmaHandle, line: IntxLine, clock: Arc<dyn Clock>) -> Arc<Self> {
        let Config { model, mac, link_delay_ns, strict, overflow, eeprom, eeprom_store, msi, observer } =
            config;
        let faults = Faults::new(clock.clone(), observer.clone());
        let image = eeprom.unwrap_or_else(|| Image::fresh(model, mac));
        let eeprom = Eeprom::new(image, model.eeprom_handshake(), faults.clone());
        let mut regs = Regs::new(model, eeprom, link_delay_ns, strict, clock.clone(), faults.clone());
        regs.overflow = overflow;
        let pme = regs.pme.clone();
        let has_msi = msi.is_some();
        let interrupts = Interrupts::new(line, msi, clock.clone(), observer.clone(), faults.clone());
        interrupts.watch(Watch::Link, regs.phy.deadline());
        let nic = Self {
            model,
            strict,
            has_msi,
            pme,
            dma,
            clock,
            regs: Mutex::new(regs),
            tx: Token::default(),
            rx: Token::default(),
            interrupts,
            eeprom_store: eeprom_store.map(Mutex::new),
            loopback: Mutex::default(),
            filter_listener: FilterListener::default(),
            ioaddr: AtomicU32::new(0),
            port: PeerSlot::default(),
            observer,
            faults,
        };
        nic.tell_reset(true);
        Arc::new(nic)
    }

    /// The wake-up that was asked of the clock, or any other moment.
    pub fn time_passed(&self) {
        self.look_at_time(true);
    }

    /// Plugs the cable in or pulls it out. LSC follows when the link does.
    pub fn set_link(&self, plugged: bool) {
        let effects = self.regs().set_cable(plugged);
        self.perform(effects);
    }

    /// Lets something go wrong from now on; `time_ns` is how long, where that matters. `false` if another plan has the
    /// name.
    pub fn add_fault(&self, id: &str, fault: CardFault, time_ns: u64, schedule: Schedule) -> bool {
        self.faults.add(id, fault, time_ns, schedule)
    }

    /// Ends what [`Self::add_fault`] began; `false` if there is none of this name. A card that was pulled out is back
    /// in its slot as it was.
    pub fn remove_fault(&self, id: &str) -> bool {
        let found = self.faults.remove(id);
        self.interrupts.look_again();
        self.kick_transmitter();
        found
    }

    /// What goes wrong by request, and how often it did.
    pub fn fault_states(&self) -> Vec<FaultState> {
        self.faults.states()
    }

    /// Whether STATUS.LU is set.
    pub fn link_is_up(&self) -> bool {
        self.regs().link_up
    }

    /// What the four LED pins show.
    pub fn leds(&self) -> [led::Led; 4] {
        self.regs().leds()
    }

    /// The machine's counters of this NIC, which the guest cannot clear.
    pub fn stats_snapshot(&self) -> Counters {
        self.regs().counters
    }

    /// The EEPROM's contents, which the guest may have changed.
    pub fn eeprom(&self) -> Image {
        self.regs().eeprom.image().clone()
    }

    /// Number of this part's I/O BAR.
    pub fn io_bar(&self) -> u8 {
        if self.model.wide_bar() { BAR_IO_64 } else { BAR_IO }
    }

    /// Which part it is.
    pub fn model(&self) -> Model {
        self.model
    }

    fn regs(&self) -> MutexGuard<'_, Regs> {
        self.regs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    fn dma(&self) -> &DmaHandle {
        &self.dma
    }

    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn port(&self) -> &PeerSlot {
        &self.port
    }

    fn strict(&self) -> bool {
        self.strict
    }

    fn ioaddr(&self) -> &AtomicU32 {
        &self.ioaddr
    }

    /// Whether a fault has taken the card away, now that BAR0 or BAR2 is accessed. A card that goes lets its line go.
    #[inline]
    fn is_gone(&self) -> bool {
        if !self.faults.planned(CardFault::Removal) {
            return false;
        }
        let was_gone = self.faults.is_gone(false);
        let is_gone = self.faults.is_gone(true);
        if is_gone && !was_gone {
            self.interrupts.look_again();
        }
        is_gone
    }

    /// Whether anybody wants to be told, or something is planned to go wrong.
    #[inline]
    fn is_hooked(&self) -> bool {
        self.faults.hooked()
    }

    /// Whether anybody wants to be told.
    #[inline]
    fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Tells the observer, if there is one, what `event` makes. The register lock must be free if `event` takes it.
    #[inline]
    fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(observer) = &self.observer {
            self.tell_observer(&**observer, event);
        }
    }

    /// Out of the way of those who have nobody to tell.
    #[cold]
    #[inline(never)]
    fn tell_observer<'a>(&self, observer: &dyn Observer, event: impl FnOnce() -> Event<'a>) {
        observer.event(&self.moment(), &event());
    }

    fn moment(&self) -> Moment {
        let (now_ns, bus_master) = (self.clock.now_ns(), self.dma.enabled());
        Moment { now_ns, origin: observe::origin(), bus_master }
    }

    /// Tells what the registers are after a reset.
    fn tell_reset(&self, power_on: bool) {
        if self.is_observed() {
            let registers = self.regs().dwords().to_vec();
            self.tell(|| Event::Reset { power_on, registers: &registers });
        }
    }

    /// The instruction behind `access` is the cause of what follows, if anybody wants to know.
    #[inline]
    fn caused_by(&self, access: &Access<'_>) -> Option<Caused> {
        self.is_observed().then(|| Caused::by(access))
    }

    /// The wire is the cause of what follows, whatever the peer's driver does on this thread.
    #[inline]
    fn caused_by_wire(&self) -> Option<Caused> {
        self.is_observed().then(Caused::by_wire)
    }

    /// Carries out what a register handler asked for. No lock is held here.
    fn perform(&self, effects: Effects) {
        if effects.reset_interrupts {
            self.tell_reset(effects.power_on);
            self.interrupts.reset();
        }
        if effects.stop_tx && self.tx.wait_idle() {
            self.finish_later();
        }
        if effects.stop_rx {
            self.lock_loopback().clear();
            if self.rx.with(RxEngine::forget).1 {
                self.finish_later();
            }
        }
        if effects.filters_changed {
            self.filter_listener.tell();
        }
        if effects.eeprom_programmed {
            self.store_eeprom();
        }
        if let Some(deadline) = effects.negotiation {
            self.interrupts.watch(Watch::Link, deadline);
        }
        if effects.flush_rx_delay {
            self.write_received();
            self.interrupts.flush_rx_delay();
        }
        if effects.flush_tx_delay {
            self.interrupts.flush_tx_delay();
            self.flush_transmitted();
        }
        if let Some(up) = effects.link {
            self.tell(|| Event::Link { up });
        }
        self.interrupts.raise(effects.raise);
        if let Some(up) = effects.link
            && let Some(peer) = self.port.get()
        {
            peer.peer_link(up);
        }
        if effects.send_pause {
            self.send_owed_pause();
        }
        if effects.rx_wake {
            self.wake_receiver();
        }
        if effects.tx_kick {
            self.kick_transmitter();
        }
    }

    /// Reports the EEPROM's contents. The image is taken with the store locked, so that an older one never comes later.
    fn store_eeprom(&self) {
        if let Some(store) = &self.eeprom_store {
            let store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let image = self.eeprom();
            store.programmed(&image);
        }
    }

    /// Runs the transmit ring, unless somebody else does.
    fn kick_transmitter(&self) {
        if self.tx.enter_rounds(|tx| self.run_tx(tx), || self.drain_loopback()) == Entered::Again {
            self.finish_later();
        }
    }

    /// The receive ring may have room for those who were told to wait.
    fn wake_receiver(&self) {
        if std::mem::take(&mut self.regs().rx_waiting) {
            self.run_receiver(true);
        }
    }

    /// Runs the receive ring, unless somebody else does, and tells the peer if it `waited` and there is room.
    fn run_receiver(&self, waited: bool) {
        let entered = self.rx.enter_rounds(|rx| self.run_rx(rx), || ());
        if entered == Entered::Again {
            self.finish_later();
        }
        if waited && entered != Entered::Done {
            // Whoever is inside asks for another look when it leaves.
            self.regs().rx_waiting = true;
        } else if waited && !self.regs().rx_waiting {
            // `run` waits again if a frame of its own still lacks room.
            self.port.ready();
        }
    }

    /// RDTR or RADV has ended, or FPD was written: what has gathered is written back. Says whether a delay ran for it.
    fn write_received(&self) -> bool {
        let (delayed, knocked) = self.rx.with(|rx| rx.write_burst(Hooked::<true>(self)));
        if knocked {
            self.finish_later();
        }
        delayed
    }

    /// TIDV has ended, or FPD was written: whoever holds the transmit ring writes back what has gathered.
    fn flush_transmitted(&self) {
        self.regs().tx_flush = true;
        self.kick_transmitter();
    }

    /// Asks to be entered again soon: a caller has done its share.
    fn finish_later(&self) {
        self.interrupts.watch(Watch::Work, Some(self.clock.now_ns()));
    }

    fn look_at_time(&self, woken: bool) {
        for reached in self.interrupts.time_passed(woken) {
            match reached {
                Watch::Link => {
                    let effects = self.regs().time_passed();
                    self.perform(effects);
                }
                Watch::Pause => {
                    self.send_owed_pause();
                    self.kick_transmitter();
                }
                Watch::RxBurst => {
                    if self.write_received() {
                        self.interrupts.raise(cause::RXT0);
                    }
                }
                Watch::TxBurst => self.flush_transmitted(),
                Watch::TxLate => self.kick_transmitter(),
                // The cause set has looked at its line already.
                Watch::Storm => {}
                Watch::Work => {
                    let waited = std::mem::take(&mut self.regs().rx_waiting);
                    self.run_receiver(waited);
                    self.kick_transmitter();
                }
            }
        }
    }

    /// Deadlines are looked at whenever somebody enters the device anyway.
    fn look_at_deadlines(&self) {
        if self.interrupts.something_due() {
            self.look_at_time(false);
        }
    }
}
