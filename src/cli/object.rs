//! `-object`: the filters in the cables of netdevs.
//!
//! Called by `options`. A type is a row of [`TYPES`]; QEMU's objects that a user may try are rows of [`ABSENT`].
//! Pure. Whether the netdev exists is looked at later, in `check`.

use std::time::Duration;

use super::error::{CliError, Context, Wrong, quoted};
use super::filter_options::{
    CaptureFormat, DumpOptions, FilterKind, FilterOptions, FilterPlace, FilterQueue, ReplayOptions,
    ReplaySpeed,
};
use super::keyval::{self, Absent, Fields, Key, Kind, Schema};
use super::netdev::pairs;
use super::suggest::did_you_mean;
use super::values;

/// A type of object that exists.
#[derive(Debug)]
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// Its own keys; those that all filters have are [`COMMON`].
    pub(super) schema: Schema,
    build: fn(&Fields<'_>) -> Result<FilterKind, CliError>,
}

/// What `-object` asked for.
#[derive(Debug)]
pub(super) enum Request {
    Add(FilterOptions),
    ListTypes,
    ListKeys(&'static Type),
}

pub(super) static TYPES: &[Type] = &[
    Type {
        name: "filter-buffer",
        text: "holds frames and lets them go together",
        schema: Schema {
            what: "-object filter-buffer",
            keys: &[Key {
                name: "interval",
                kind: Kind::Uint32,
                default: "",
                text: "microseconds (required)",
            }],
            absent: &[],
            help: "-object filter-buffer,help",
        },
        build: buffer,
    },
    Type {
        name: "filter-dump",
        text: "writes frames into a capture file",
        schema: Schema {
            what: "-object filter-dump",
            keys: DUMP_KEYS,
            absent: &[],
            help: "-object filter-dump,help",
        },
        build: dump,
    },
    Type {
        name: "filter-mirror",
        text: "copies frames to a chardev or another netdev",
        schema: Schema {
            what: "-object filter-mirror",
            keys: MIRROR_KEYS,
            absent: NO_HEADER,
            help: "-object filter-mirror,help",
        },
        build: mirror,
    },
    Type {
        name: "filter-redirector",
        text: "sends frames to, and takes frames from, a chardev or another netdev",
        schema: Schema {
            what: "-object filter-redirector",
            keys: REDIRECTOR_KEYS,
            absent: NO_HEADER,
            help: "-object filter-redirector,help",
        },
        build: redirector,
    },
    Type {
        name: "filter-replay",
        text: "sends the frames of a capture file",
        schema: Schema {
            what: "-object filter-replay",
            keys: REPLAY_KEYS,
            absent: &[],
            help: "-object filter-replay,help",
        },
        build: replay,
    },
];

/// Keys of every filter.
pub(super) const COMMON: &[Key] = &[
    Key { name: "id", kind: Kind::Str, default: "", text: "name of the filter (required)" },
    Key {
        name: "netdev",
        kind: Kind::Str,
        default: "",
        text: "id of the netdev on whose cable it sits (required)",
    },
    Key {
        name: "queue",
        kind: Kind::Str,
        default: "all",
        text: "rx: what the netdev gets from the guest; tx: what it sends to the guest",
    },
    Key { name: "status", kind: Kind::Str, default: "on", text: "off: frames pass untouched" },
    Key {
        name: "position",
        kind: Kind::Str,
        default: "tail",
        text: "among the netdev's filters: head (next to it), tail, id=ID",
    },
    Key {
        name: "insert",
        kind: Kind::Str,
        default: "behind",
        text: "before or behind the one that position names",
    },
];

const DUMP_KEYS: &[Key] = &[
    Key { name: "file", kind: Kind::Str, default: "", text: "capture file, overwritten (required)" },
    Key {
        name: "format",
        kind: Kind::Str,
        default: "pcap",
        text: "pcap or pcapng (nanoseconds, directions)",
    },
    Key { name: "maxlen", kind: Kind::Uint32, default: "65536", text: "bytes kept of each frame" },
];

const REPLAY_KEYS: &[Key] = &[
    Key { name: "file", kind: Kind::Str, default: "", text: "capture file, pcap or pcapng (required)" },
    Key {
        name: "speed",
        kind: Kind::Str,
        default: "real",
        text: "real: with the capture's pauses; max: without",
    },
];

const OUTDEV: &str = "id of a -chardev socket or of a -netdev that nothing else uses";
const MIRROR_KEYS: &[Key] = &[Key { name: "outdev", kind: Kind::Str, default: "", text: OUTDEV }];
const REDIRECTOR_KEYS: &[Key] = &[
    Key { name: "outdev", kind: Kind::Str, default: "", text: OUTDEV },
    Key { name: "indev", kind: Kind::Str, default: "", text: "likewise, whose frames enter the cable" },
];
const NO_HEADER: &[Absent] = &[Absent {
    name: "vnet_hdr_support",
    accepts: Some("off"),
    instead: "leave it out on both sides: frames are finished when they leave",
}];

const NO_COLO: &str = "leave it out (it serves fault-tolerant pairs of machines)";
/// QEMU's objects that are not here.
const ABSENT: &[Absent] = &[
    Absent { name: "filter-rewriter", accepts: None, instead: NO_COLO },
    Absent { name: "colo-compare", accepts: None, instead: NO_COLO },
    Absent { name: "memory-backend-ram", accepts: None, instead: "use -m" },
    Absent { name: "memory-backend-file", accepts: None, instead: "use -m" },
    Absent { name: "rng-random", accepts: None, instead: "leave it out" },
    Absent { name: "iothread", accepts: None, instead: "leave it out" },
    Absent { name: "secret", accepts: None, instead: "leave it out" },
];

/// Reads the value of one `-object`.
pub(super) fn parse(context: &Context, text: &str) -> Result<Request, CliError> {
    let mut pairs = pairs(text, "qom-type").map_err(|wrong| context.error(wrong))?;
    let name = keyval::take(&mut pairs, "qom-type")
        .and_then(|name| {
            let how = "write -object filter-dump,id=ID,netdev=ID,file=FILE";
            name.ok_or_else(|| Wrong::new("the type of the object is missing", how))
        })
        .map_err(|wrong| context.error(wrong))?;
    if keyval::is_help(&name) {
        return Ok(Request::ListTypes);
    }
    let known = TYPES.iter().find(|known| known.name == name);
    let known = known.ok_or_else(|| context.error(unknown_type(&name)))?;
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys(known));
    }
    let fields = Fields::read_with(context, pairs, &known.schema, COMMON)?;
    let required = |key: &str, how: &str| {
        let value = fields.get(key, values::identifier)?;
        value.ok_or_else(|| fields.error(Wrong::new(format!("{key}= is missing"), how)))
    };
    Ok(Request::Add(FilterOptions {
        id: required("id", "add id=f0")?,
        netdev: required("netdev", "name the -netdev on whose cable it is to sit")?,
        queue: fields.get("queue", queue)?.unwrap_or_default(),
        on: fields.get("status", values::on_off)?.unwrap_or(true),
        place: place(&fields)?,
        kind: (known.build)(&fields)?,
    }))
}

fn unknown_type(name: &str) -> Wrong {
    if let Some(absent) = ABSENT.iter().find(|absent| absent.name == name) {
        return Wrong::new(format!("QEMU's '{name}' is not here"), absent.instead);
    }
    let names = TYPES.iter().map(|known| known.name);
    Wrong::new(
        format!("{} is not an object", quoted(name)),
        did_you_mean(name, names, "-object help lists what there is"),
    )
}

/// `queue=`.
pub(super) fn queue(text: &str) -> Result<FilterQueue, Wrong> {
    values::one_of(text, &[("all", FilterQueue::All), ("rx", FilterQueue::Rx), ("tx", FilterQueue::Tx)])
}

fn place(fields: &Fields<'_>) -> Result<FilterPlace, CliError> {
    let before = fields.get("insert", |text| values::one_of(text, &[("before", true), ("behind", false)]))?;
    let place = fields.get("position", |text| match (text, text.strip_prefix("id=")) {
        ("head", _) => Ok(FilterPlace::Head),
        ("tail", _) => Ok(FilterPlace::Tail),
        (_, Some(id)) => values::identifier(id).map(|id| match before {
            Some(true) => FilterPlace::Before(id),
            _ => FilterPlace::Behind(id),
        }),
        _ => Err(Wrong::new(format!("{} is no position", quoted(text)), "write head, tail or id=ID")),
    })?;
    match (place, before) {
        (Some(FilterPlace::Head | FilterPlace::Tail) | None, Some(_)) => {
            Err(fields.error(Wrong::new("insert= goes with position=id=ID", "leave it out or name a filter")))
        }
        (place, _) => Ok(place.unwrap_or(FilterPlace::Tail)),
    }
}

fn file(fields: &Fields<'_>) -> Result<std::path::PathBuf, CliError> {
    let file = fields.get("file", values::path)?;
    file.ok_or_else(|| fields.error(Wrong::new("file= is missing", "add file=FILE")))
}

fn buffer(fields: &Fields<'_>) -> Result<FilterKind, CliError> {
    let interval = fields.get("interval", |text| values::number(text, 1, u32::MAX.into()))?;
    let interval = interval
        .ok_or_else(|| fields.error(Wrong::new("interval= is missing", "add interval=MICROSECONDS")))?;
    Ok(FilterKind::Buffer { interval: Duration::from_micros(interval) })
}

/// No frame is longer; readers of captures refuse a larger snapshot length.
const MOST_KEPT: u64 = 1 << 18;

fn dump(fields: &Fields<'_>) -> Result<FilterKind, CliError> {
    let formats = [("pcap", CaptureFormat::Pcap), ("pcapng", CaptureFormat::PcapNg)];
    Ok(FilterKind::Dump(DumpOptions {
        file: file(fields)?,
        max_len: fields
            .get("maxlen", |text| values::number(text, 1, u32::MAX.into()))?
            .map_or(65536, |n| n.min(MOST_KEPT)) as u32,
        format: fields.get("format", |text| values::one_of(text, &formats))?.unwrap_or_default(),
    }))
}

fn mirror(fields: &Fields<'_>) -> Result<FilterKind, CliError> {
    let outdev = fields.get("outdev", values::identifier)?;
    let outdev = outdev.ok_or_else(|| {
        fields.error(Wrong::new("outdev= is missing", "name a -chardev socket, or a -netdev of its own"))
    })?;
    Ok(FilterKind::Mirror { outdev })
}

fn redirector(fields: &Fields<'_>) -> Result<FilterKind, CliError> {
    let (indev, outdev) =
        (fields.get("indev", values::identifier)?, fields.get("outdev", values::identifier)?);
    match (&indev, &outdev) {
        (None, None) => Err(fields.error(Wrong::new("indev= and outdev= are missing", "add one, or both"))),
        (Some(indev), Some(outdev)) if indev == outdev => {
            Err(fields.error(Wrong::new("indev= and outdev= are the same", "give each its own")))
        }
        _ => Ok(FilterKind::Redirector { indev, outdev }),
    }
}

fn replay(fields: &Fields<'_>) -> Result<FilterKind, CliError> {
    let speeds = [("real", ReplaySpeed::Real), ("max", ReplaySpeed::Max)];
    Ok(FilterKind::Replay(ReplayOptions {
        file: file(fields)?,
        speed: fields.get("speed", |text| values::one_of(text, &speeds))?.unwrap_or_default(),
    }))
}
