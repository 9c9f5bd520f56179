//! `filter-mirror`: every frame goes its way, and a copy of it to `outdev=`.
//!
//! The copy leaves before the frame, so that no answer comes before its question. A receiver that is slow loses copies
//! (counted as `overrun`); it never holds up the cable.

use std::sync::{Arc, Mutex, PoisonError};

use super::node::{Behaviour, Onward, Way};
use super::outlet::Outlet;
use super::refused::Refused;
use crate::netdev::network::Branch;
use crate::netport::{Delivery, Frame, OwnedFrame};

/// Copies and passes on.
#[derive(Debug)]
pub(super) struct Mirror {
    outdev: String,
    outlet: Arc<Outlet>,
    /// What was copied already.
    refused: Mutex<Refused>,
}

impl Mirror {
    /// Copies leave by `outlet`, which is to be joined with `outdev`.
    pub(super) fn new(outdev: String, outlet: Arc<Outlet>) -> Self {
        Self { outdev, outlet, refused: Mutex::default() }
    }
}

impl Behaviour for Mirror {
    fn describe(&self) -> String {
        format!("type=filter-mirror,outdev={}", self.outdev)
    }

    fn frame(&self, frame: &Frame<'_>, way: Way, onward: &Onward<'_>) -> Delivery {
        // Both get what was there at one moment, whatever the guest does meanwhile.
        let copy = OwnedFrame::copy(frame);
        let refused = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = refused().comes_again(way, &copy.bytes);
        if !seen {
            self.outlet.send_or_drop(&copy);
        }
        let outcome = onward.send(&copy.frame());
        if outcome == Delivery::Full {
            refused().keep(way, copy.bytes);
        }
        outcome
    }

    fn branches(&self) -> Vec<Branch> {
        vec![Branch { key: "outdev", to: self.outdev.clone(), port: self.outlet.clone() }]
    }
}
