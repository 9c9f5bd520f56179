//! `filter-redirector`: frames leave the cable by `outdev=`, and frames of `indev=` enter it.
//!
//! Without `outdev=` the cable's own frames pass. Nothing is lost for want of room: the sender, in the cable or at
//! `indev=`, has to wait.

use std::sync::Arc;

use super::inlet::Inlet;
use super::node::{Behaviour, Node, Onward, Way};
use super::outlet::Outlet;
use crate::netdev::network::Branch;
use crate::netport::{Delivery, Frame, OwnedFrame};

/// Takes away and brings in. Each port stands with the id of what it is to be joined with.
#[derive(Debug)]
pub(super) struct Redirector {
    pub(super) indev: Option<(String, Arc<Inlet>)>,
    pub(super) outdev: Option<(String, Arc<Outlet>)>,
}

impl Behaviour for Redirector {
    fn describe(&self) -> String {
        let branches = self.branches().into_iter();
        let branches = branches.map(|branch| format!(",{}={}", branch.key, branch.to));
        "type=filter-redirector".to_owned() + &branches.collect::<String>()
    }

    fn frame(&self, frame: &Frame<'_>, _: Way, onward: &Onward<'_>) -> Delivery {
        match &self.outdev {
            Some((_, outlet)) => outlet.send(OwnedFrame::copy(frame)),
            None => onward.send(frame),
        }
    }

    fn room(&self, node: &Node, way: Way) {
        if let Some((_, inlet)) = &self.indev {
            inlet.room(node, way);
        }
    }

    fn switched(&self, _: &Node, on: bool) {
        if on && let Some((_, inlet)) = &self.indev {
            inlet.go_on();
        }
    }

    fn branches(&self) -> Vec<Branch> {
        let indev =
            self.indev.iter().map(|(id, port)| Branch { key: "indev", to: id.clone(), port: port.clone() });
        let outdev =
            self.outdev.iter().map(|(id, port)| Branch { key: "outdev", to: id.clone(), port: port.clone() });
        indev.chain(outdev).collect()
    }
}
