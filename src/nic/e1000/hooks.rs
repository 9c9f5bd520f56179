//! The places in an engine where observers are told and faults strike, as code that is there only if somebody uses it.
//!
//! An engine that handles a frame in a microsecond cannot afford a test at each of them. So it is compiled twice, with and
//! without; whoever enters it looks once ([`E1000::is_hooked`]) and chooses. What comes to be used meanwhile counts from
//! the next entry on. Decides nothing itself.

use std::ops::Deref;

use super::E1000;
use super::fault::Hit;
use super::observe::Event;
use super::rx_ring::RxEngine;
use super::tx_ring::TxEngine;
use crate::fault::CardFault;
use crate::netport::{Delivery, Frame};
use crate::token::Round;

/// The device, for an engine: `ON` where somebody observes or something is planned to go wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hooked<'a, const ON: bool>(pub &'a E1000);

impl<const ON: bool> Deref for Hooked<'_, ON> {
    type Target = E1000;

    #[inline]
    fn deref(&self) -> &E1000 {
        self.0
    }
}

impl<const ON: bool> Hooked<'_, ON> {
    /// As [`E1000::tell`].
    #[inline]
    pub fn tell<'e>(self, event: impl FnOnce() -> Event<'e>) {
        if ON {
            self.0.tell(event);
        }
    }

    /// Whether anybody wants to be told.
    #[inline]
    pub fn is_observed(self) -> bool {
        ON && self.0.is_observed()
    }

    /// Whether some plan has this fault.
    #[inline]
    pub fn planned(self, fault: CardFault) -> bool {
        ON && self.0.faults().planned(fault)
    }

    /// The event of this fault has come: what happens, if it is hit.
    #[inline]
    pub fn strikes(self, fault: CardFault) -> Option<Hit> {
        if ON { self.0.faults().strikes(fault) } else { None }
    }
}

impl E1000 {
    /// Enters the transmit engine.
    pub(super) fn run_tx(&self, tx: &mut TxEngine) -> Round {
        if self.is_hooked() { tx.run(Hooked::<true>(self)) } else { tx.run(Hooked::<false>(self)) }
    }

    /// Enters the receive engine, for frames that wait in it.
    pub(super) fn run_rx(&self, rx: &mut RxEngine) -> Round {
        if self.is_hooked() { rx.run(Hooked::<true>(self)) } else { rx.run(Hooked::<false>(self)) }
    }

    /// Enters the receive engine with a frame of the peer's.
    pub(super) fn deliver_rx(&self, rx: &mut RxEngine, frame: &Frame<'_>) -> Delivery {
        if self.is_hooked() {
            rx.deliver(Hooked::<true>(self), frame)
        } else {
            rx.deliver(Hooked::<false>(self), frame)
        }
    }
}
