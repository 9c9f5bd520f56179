//! What `-object filter-...` means: the typed part of the configuration.
//!
//! Made by `object`, read by `netdev/filter` and `netdev/network`. Plain data, as `config`.

use std::path::PathBuf;
use std::time::Duration;

use super::fault_plan::FrameFaultOptions;

/// `-object filter-...`: something in the cable of a netdev that sees, keeps or adds frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterOptions {
    /// `id=`.
    pub id: String,
    /// `netdev=`: on whose cable it sits.
    pub netdev: String,
    /// `queue=`.
    pub queue: FilterQueue,
    /// `status=`.
    pub on: bool,
    /// `position=` and `insert=`.
    pub place: FilterPlace,
    /// What it does.
    pub kind: FilterKind,
}

/// `queue=`: which frames of the netdev a filter acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FilterQueue {
    /// Both directions.
    #[default]
    All,
    /// Those that the netdev receives: from the guest.
    Rx,
    /// Those that it sends: to the guest.
    Tx,
}

/// Where a filter goes among those on the same netdev; the head is nearest to the netdev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterPlace {
    /// `position=head`.
    Head,
    /// `position=tail`.
    Tail,
    /// `position=id=ID,insert=before`: between that filter and the netdev.
    Before(String),
    /// `position=id=ID,insert=behind`.
    Behind(String),
}

/// The kinds of filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterKind {
    /// `filter-dump`.
    Dump(DumpOptions),
    /// `filter-buffer`: frames wait and go together.
    Buffer {
        /// `interval=`: never zero.
        interval: Duration,
    },
    /// `filter-mirror`: copies leave by another port.
    Mirror {
        /// `outdev=`: a chardev or a netdev.
        outdev: String,
    },
    /// `filter-redirector`: frames leave and enter by other ports. At least one of the two is there.
    Redirector {
        /// `indev=`: a chardev or a netdev, whose frames enter the cable.
        indev: Option<String>,
        /// `outdev=`: a chardev or a netdev, where frames go instead of along the cable.
        outdev: Option<String>,
    },
    /// `filter-replay`.
    Replay(ReplayOptions),
    /// `-fault` of frames.
    Fault(FrameFaultOptions),
}

impl FilterKind {
    /// As the user writes it.
    pub fn name(&self) -> &'static str {
        match self {
            FilterKind::Dump(_) => "filter-dump",
            FilterKind::Buffer { .. } => "filter-buffer",
            FilterKind::Mirror { .. } => "filter-mirror",
            FilterKind::Redirector { .. } => "filter-redirector",
            FilterKind::Replay(_) => "filter-replay",
            FilterKind::Fault(_) => "fault",
        }
    }

    /// The other cables' ends that it names: the key and the id.
    pub fn devs(&self) -> Vec<(&'static str, &str)> {
        let (indev, outdev) = match self {
            FilterKind::Mirror { outdev } => (&None, Some(outdev)),
            FilterKind::Redirector { indev, outdev } => (indev, outdev.as_ref()),
            _ => (&None, None),
        };
        let indev = indev.iter().map(|id| ("indev", id.as_str()));
        indev.chain(outdev.map(|id| ("outdev", id.as_str()))).collect()
    }
}

/// `filter-dump`: frames into a capture file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpOptions {
    /// `file=`: created or truncated.
    pub file: PathBuf,
    /// `maxlen=`: bytes kept of each frame.
    pub max_len: u32,
    /// `format=`.
    pub format: CaptureFormat,
}

/// `format=` of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaptureFormat {
    /// Classic, microseconds.
    #[default]
    Pcap,
    /// With nanoseconds and directions.
    PcapNg,
}

/// `filter-replay`: frames out of a capture file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayOptions {
    /// `file=`: pcap or pcapng.
    pub file: PathBuf,
    /// `speed=`.
    pub speed: ReplaySpeed,
}

/// `speed=` of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplaySpeed {
    /// With the pauses of the capture.
    #[default]
    Real,
    /// As fast as the receiver takes them.
    Max,
}
