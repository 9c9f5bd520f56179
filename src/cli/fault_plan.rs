//! What a `-fault` means; plain data, made by `fault`.

use std::time::Duration;

use super::filter_options::FilterOptions;
use crate::fault::Schedule;

/// One thing that is to go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultPlan {
    /// Of frames, on a netdev's cable.
    Frames(FilterOptions),
    /// `link-flap`.
    Link(LinkFlap),
}

impl FaultPlan {
    /// `id=`; given or made up.
    pub fn id(&self) -> &str {
        match self {
            FaultPlan::Frames(filter) => &filter.id,
            FaultPlan::Link(flap) => &flap.id,
        }
    }

    /// The netdev that it names.
    pub fn netdev(&self) -> &str {
        match self {
            FaultPlan::Frames(filter) => &filter.netdev,
            FaultPlan::Link(flap) => &flap.netdev,
        }
    }
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
