//! What passed a backend, in wire frames and in the backend's own units.
//!
//! A wire frame is what a cable would carry: cut, checksummed, without FCS. A unit is what one system call
//! moved; a unit that is to be cut into segments counts as one unit and as many wire frames.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::netport::{Delivery, DropReason, Frame};

/// Counters of one port. "in" is towards the guest (from the host), "out" is from the guest.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames that the port gave to its peer.
    pub to_peer: DirectionCounters,
    /// Frames that the port's peer gave to it.
    pub from_peer: DirectionCounters,
}

/// Counters of one direction. Relaxed: each is exact, but two of them may be read a frame apart.
#[derive(Debug, Default)]
pub struct DirectionCounters {
    frames: AtomicU64,
    bytes: AtomicU64,
    units: AtomicU64,
    gso_units: AtomicU64,
    full: AtomicU64,
    dropped: [AtomicU64; REASONS.len()],
}

const REASONS: [(DropReason, &str); 7] = [
    (DropReason::LinkDown, "link-down"),
    (DropReason::Filtered, "filtered"),
    (DropReason::BadLength, "bad-length"),
    (DropReason::BadMeta, "bad-meta"),
    (DropReason::Backend, "backend"),
    (DropReason::NoPeer, "no-peer"),
    (DropReason::Overrun, "overrun"),
];

impl DirectionCounters {
    /// Counts the outcome of one offer.
    pub fn count(&self, frame: &Frame<'_>, outcome: Delivery) {
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        let (frames, bytes) = wire_size(frame);
        match outcome {
            Delivery::Taken => {
                add(&self.frames, frames);
                add(&self.bytes, bytes);
                add(&self.units, 1);
                add(&self.gso_units, frame.meta.gso.is_some().into());
            }
            Delivery::Full => {
                add(&self.full, 1);
            }
            Delivery::Dropped(why) => {
                if let Some(at) = REASONS.iter().position(|&(reason, _)| reason == why) {
                    add(&self.dropped[at], frames);
                }
            }
        }
    }

    /// The present values.
    pub fn read(&self) -> DirectionStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DirectionStats {
            frames: get(&self.frames),
            bytes: get(&self.bytes),
            units: get(&self.units),
            gso_units: get(&self.gso_units),
            full: get(&self.full),
            dropped: REASONS
                .iter()
                .zip(&self.dropped)
                .map(|(&(_, name), n)| (name, get(n)))
                .filter(|&(_, n)| n > 0)
                .collect(),
        }
    }
}

/// One direction's values at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DirectionStats {
    /// Wire frames that were taken.
    pub frames: u64,
    /// Their bytes, without FCS.
    pub bytes: u64,
    /// Backend units that were taken.
    pub units: u64,
    /// Those of `units` that were still to be cut.
    pub gso_units: u64,
    /// How often there was no room; the frame was kept and offered again.
    pub full: u64,
    /// Wire frames that were dropped, by reason; only reasons that occurred.
    pub dropped: Vec<(&'static str, u64)>,
}

impl DirectionStats {
    /// Wire frames dropped for this reason.
    pub fn dropped_for(&self, why: DropReason) -> u64 {
        let name = REASONS.iter().find(|&&(reason, _)| reason == why).map(|&(_, name)| name);
        self.dropped.iter().filter(|&&(reason, _)| Some(reason) == name).map(|&(_, n)| n).sum()
    }
}

/// Both directions at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PortStats {
    /// Towards the guest.
    pub to_peer: DirectionStats,
    /// From the guest.
    pub from_peer: DirectionStats,
}

impl PortCounters {
    /// The present values.
    pub fn read(&self) -> PortStats {
        PortStats { to_peer: self.to_peer.read(), from_peer: self.from_peer.read() }
    }
}

/// How many wire frames a frame becomes, and their bytes together: each segment repeats the headers.
fn wire_size(frame: &Frame<'_>) -> (u64, u64) {
    let len = frame.len() as u64;
    let Some(gso) = frame.meta.gso else { return (1, len) };
    let headers = u64::from(gso.header_len).min(len);
    let frames = (len - headers).div_ceil(u64::from(gso.mss).max(1)).max(1);
    (frames, len + (frames - 1) * headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netport::{FrameMeta, Gso, GsoKind};

    #[test]
    fn a_unit_to_be_cut_counts_as_the_frames_it_becomes() {
        let bytes = [0; 54 + 2 * 1000 + 1];
        let gso = Gso { kind: GsoKind::Tcp4, mss: 1000, header_len: 54 };
        let meta = FrameMeta { gso: Some(gso), ..FrameMeta::default() };
        let counters = DirectionCounters::default();
        counters.count(&Frame { head: &bytes, body: &[], meta }, Delivery::Taken);
        counters.count(&Frame::whole(&bytes[..60]), Delivery::Taken);
        let stats = counters.read();
        assert_eq!((stats.frames, stats.bytes), (4, 3 * 54 + 2001 + 60));
        assert_eq!((stats.units, stats.gso_units), (2, 1));
    }

    #[test]
    fn drops_are_told_by_reason_and_full_is_no_drop() {
        let counters = DirectionCounters::default();
        let frame = [0; 60];
        for outcome in [
            Delivery::Full,
            Delivery::Dropped(DropReason::Filtered),
            Delivery::Dropped(DropReason::Filtered),
            Delivery::Dropped(DropReason::NoPeer),
        ] {
            counters.count(&Frame::whole(&frame), outcome);
        }
        let stats = counters.read();
        assert_eq!((stats.frames, stats.full), (0, 1));
        assert_eq!(stats.dropped, [("filtered", 2), ("no-peer", 1)]);
        assert_eq!(stats.dropped_for(DropReason::Filtered), 2);
    }
}
