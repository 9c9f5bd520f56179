//! What a fault on a cable has done, as it is told to whoever traces. Plain data.

use std::fmt;
use std::sync::Arc;

/// A fault has struck on a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CableHit<'a> {
    /// `netdev=` of the plan.
    pub netdev: &'a str,
    /// `id=` of the plan.
    pub id: &'a str,
    /// The kind, as the user writes it.
    pub kind: &'static str,
    /// How often the plan has struck, this time included.
    pub hit: u64,
    /// What happened.
    pub what: CableEffect<'a>,
}

/// What a fault has done to a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CableEffect<'a> {
    /// To a frame.
    Frame {
        /// It was on its way from the netdev to the guest.
        to_guest: bool,
        /// The frame as it was before.
        bytes: &'a [u8],
        /// Of the plan's schedule.
        seed: u64,
        /// Events that the plan could have hit so far.
        of: u64,
        /// What became of it.
        done: FrameEffect,
    },
    /// The cable was pulled out or put in.
    Link {
        /// It is in.
        up: bool,
    },
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameEffect {
    /// It is gone.
    Lost,
    /// A bit of the byte at this offset is inverted.
    Flipped {
        /// From the beginning of the frame.
        byte: usize,
        /// 0 to 7.
        bit: u32,
    },
    /// So many more follow it.
    Copied(u32),
    /// It waits for so many others to pass.
    Overtaken(u32),
    /// It waits for so many nanoseconds.
    Delayed(u64),
    /// It was to wait, but too many do: it is gone.
    NoPlace,
    /// Nothing: the byte to be damaged lies beyond its end, or another frame waits to be overtaken already.
    Passed,
}

impl fmt::Display for FrameEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("lost"),
            Self::Flipped { byte, bit } => write!(f, "bit {bit} of byte {byte} inverted"),
            Self::Copied(copies) => write!(f, "{copies} more sent"),
            Self::Overtaken(distance) => write!(f, "held until {distance} others have passed"),
            Self::Delayed(ns) => write!(f, "held for {} us", ns / 1000),
            Self::NoPlace => f.write_str("lost: too many are held back"),
            Self::Passed => f.write_str("let through as it was"),
        }
    }
}

/// Who is told of [`CableHit`]s, from any thread; by default nobody.
#[derive(Clone, Default)]
pub struct CableListener(Option<Arc<Hear>>);

type Hear = dyn Fn(&CableHit<'_>) + Send + Sync;

impl CableListener {
    /// `hear` is told; it must not wait, and must not call the network.
    pub fn new(hear: impl Fn(&CableHit<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    /// It happened.
    pub fn tell(&self, hit: &CableHit<'_>) {
        if let Some(hear) = &self.0 {
            hear(hit);
        }
    }
}

impl fmt::Debug for CableListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CableListener").field(&self.0.is_some()).finish()
    }
}
