//! What a `-fault` means; plain data, made by `fault`.

use std::time::Duration;

use super::filter_options::FilterOptions;
use crate::fault::{CardFault, Schedule};

/// One thing that is to go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultPlan {
    /// On a netdev's cable.
    Cable(CableFault),
    /// In a network card.
    Card(CardFaultPlan),
}

impl FaultPlan {
    /// `id=`; given or made up.
    pub fn id(&self) -> &str {
        match self {
            FaultPlan::Cable(plan) => plan.id(),
            FaultPlan::Card(plan) => &plan.id,
        }
    }
}

/// What goes wrong on a netdev's cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CableFault {
    /// To frames.
    Frames(FilterOptions),
    /// `link-flap`.
    Link(LinkFlap),
}

impl CableFault {
    /// `id=`; given or made up.
    pub fn id(&self) -> &str {
        match self {
            CableFault::Frames(filter) => &filter.id,
            CableFault::Link(flap) => &flap.id,
        }
    }

    /// `netdev=`.
    pub fn netdev(&self) -> &str {
        match self {
            CableFault::Frames(filter) => &filter.netdev,
            CableFault::Link(flap) => &flap.netdev,
        }
    }
}

/// Something goes wrong in a network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardFaultPlan {
    /// `id=`.
    pub id: String,
    /// `device=`: `id=` of a NIC, or its name as the monitor shows it. None: the only one.
    pub device: Option<String>,
    /// What goes wrong.
    pub fault: CardFault,
    /// `time=`: how long, for faults that last.
    pub time: Duration,
    /// Which events are hit.
    pub schedule: Schedule,
}

/// The cable of a netdev comes out and goes in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFlap {
    /// `id=`.
    pub id: String,
    /// `netdev=`.
    pub netdev: String,
    /// `time=`: how long it is out; never zero.
    pub down: Duration,
    /// `period=`: from one time to the next, the first included; longer than `down`.
    pub period: Duration,
    /// `count=`: how often.
    pub count: u64,
}

/// What becomes of frames, and of which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameFaultOptions {
    /// What becomes of those that are hit.
    pub fault: FrameFault,
    /// Which of those that match.
    pub schedule: Schedule,
    /// `match=`: what a frame must have; all match without it.
    pub pattern: Option<FramePattern>,
}

/// The kinds of frame faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    /// Lost.
    Drop,
    /// One bit is flipped, in the byte at `offset` or anywhere.
    Corrupt {
        /// `offset=`: from the beginning of the frame; beyond its end nothing happens.
        offset: Option<usize>,
    },
    /// It comes again.
    Duplicate {
        /// `copies=`: this often.
        copies: u32,
    },
    /// It comes after others that were sent later, but at most 100 ms late.
    Reorder {
        /// `distance=`: this many others.
        distance: u32,
    },
    /// It comes late.
    Delay {
        /// `time=`: this late,
        time: Duration,
        /// `jitter=`: and up to this much more, so that frames may overtake each other.
        jitter: Duration,
    },
}

impl FrameFault {
    /// As the user writes it.
    pub fn name(self) -> &'static str {
        match self {
            FrameFault::Drop => "drop",
            FrameFault::Corrupt { .. } => "corrupt",
            FrameFault::Duplicate { .. } => "duplicate",
            FrameFault::Reorder { .. } => "reorder",
            FrameFault::Delay { .. } => "delay",
        }
    }
}

/// Bytes at a place of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramePattern {
    /// From the beginning of the frame (its destination address).
    pub offset: usize,
    /// What must be there; not empty.
    pub bytes: Vec<u8>,
}
