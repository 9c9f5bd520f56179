//! `-fault`: what is to go wrong, where and when.
//!
//! Called by `options` and for the monitor's `fault_add`. A kind is a row of [`KINDS`]. Pure. Whether the netdev
//! exists is looked at later, in `check`.

use std::time::Duration;

use super::error::{CliError, Context, Wrong, quoted};
use super::fault_plan::{
    CableFault, CardFaultPlan, FaultPlan, FrameFault, FrameFaultOptions, FramePattern, LinkFlap,
};
use super::filter_options::{FilterKind, FilterOptions, FilterPlace, FilterQueue};
use super::keyval::{self, Fields, Key, Kind, Schema};
use super::netdev::pairs;
use super::object::queue;
use super::suggest::did_you_mean;
use super::values;
use crate::fault::{ALWAYS, CardFault, Schedule};

/// A kind of fault.
#[derive(Debug)]
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) schema: Schema,
    /// Keys that it shares with others.
    pub(super) common: &'static [Key],
    build: fn(&Fields<'_>, id: String) -> Result<FaultPlan, CliError>,
}

/// What `-fault` asked for.
#[derive(Debug)]
pub(super) enum Request {
    Add(FaultPlan),
    ListTypes,
    ListKeys(&'static Type),
}

const fn kind(
    name: &'static str,
    text: &'static str,
    (what, help): (&'static str, &'static str),
    (keys, common): (&'static [Key], &'static [Key]),
    build: fn(&Fields<'_>, String) -> Result<FaultPlan, CliError>,
) -> Type {
    Type { name, text, schema: Schema { what, keys, absent: &[], help }, common, build }
}

pub(super) static KINDS: &[Type] = &[
    kind(
        "corrupt",
        "one bit of a frame is flipped",
        ("-fault corrupt", "-fault corrupt,help"),
        (CORRUPT_KEYS, FRAME_KEYS),
        corrupt,
    ),
    kind("delay", "frames come late", ("-fault delay", "-fault delay,help"), (DELAY_KEYS, FRAME_KEYS), delay),
    kind(
        "dma-error",
        "a frame cannot be read from memory and does not go out",
        ("-fault dma-error", "-fault dma-error,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::DmaError),
    ),
    kind("drop", "frames are lost", ("-fault drop", "-fault drop,help"), (&[], FRAME_KEYS), |fields, id| {
        frames(fields, id, FrameFault::Drop)
    }),
    kind(
        "duplicate",
        "frames come more than once",
        ("-fault duplicate", "-fault duplicate,help"),
        (DUPLICATE_KEYS, FRAME_KEYS),
        duplicate,
    ),
    kind(
        "eeprom-bit",
        "one bit of an EEPROM word is read wrong",
        ("-fault eeprom-bit", "-fault eeprom-bit,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::EepromBit),
    ),
    kind(
        "eeprom-checksum",
        "the EEPROM's checksum word is read wrong",
        ("-fault eeprom-checksum", "-fault eeprom-checksum,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::EepromChecksum),
    ),
    kind(
        "irq-lost",
        "an interrupt does not come; the next cause tries again",
        ("-fault irq-lost", "-fault irq-lost,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::InterruptLost),
    ),
    kind(
        "irq-spurious",
        "an interrupt comes once more, without a cause",
        ("-fault irq-spurious", "-fault irq-spurious,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::InterruptSpurious),
    ),
    kind(
        "irq-storm",
        "INTA# stays asserted for a time",
        ("-fault irq-storm", "-fault irq-storm,help"),
        (TIME_KEYS, CARD_KEYS),
        |fields, id| card(fields, id, CardFault::InterruptStorm),
    ),
    kind(
        "late-dd",
        "transmit descriptors are written back late",
        ("-fault late-dd", "-fault late-dd,help"),
        (TIME_KEYS, CARD_KEYS),
        |fields, id| card(fields, id, CardFault::LateDone),
    ),
    kind(
        "link-flap",
        "the cable comes out and goes in again",
        ("-fault link-flap", "-fault link-flap,help"),
        (LINK_KEYS, COMMON_KEYS),
        link_flap,
    ),
    kind(
        "mdic-timeout",
        "an access to the PHY is never ready",
        ("-fault mdic-timeout", "-fault mdic-timeout,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::MdicTimeout),
    ),
    kind(
        "removal",
        "the card is gone: reads give ones",
        ("-fault removal", "-fault removal,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::Removal),
    ),
    kind(
        "reorder",
        "later frames overtake a frame",
        ("-fault reorder", "-fault reorder,help"),
        (REORDER_KEYS, FRAME_KEYS),
        reorder,
    ),
    kind(
        "rx-overrun",
        "a received frame finds no room and is lost",
        ("-fault rx-overrun", "-fault rx-overrun,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::RxOverrun),
    ),
    kind(
        "tx-hang",
        "the transmitter stops until it is reset",
        ("-fault tx-hang", "-fault tx-hang,help"),
        (&[], CARD_KEYS),
        |fields, id| card(fields, id, CardFault::TxHang),
    ),
];

const fn key(name: &'static str, kind: Kind, default: &'static str, text: &'static str) -> Key {
    Key { name, kind, default, text }
}

const ID: Key = key("id", Kind::Str, "", "name of the plan (default: fault0 and so on)");
const NETDEV: Key = key("netdev", Kind::Str, "", "id of the netdev whose cable it is (required)");
const EVERY: Key = key(
    "every",
    Kind::Uint64,
    "1",
    "behind those of skip=, each how-many-th may be hit: 1 all, 2 each second",
);
const RATE: Key = key("rate", Kind::Str, "100%", "the chance of each that may be hit, in percent");
const COMMON_KEYS: &[Key] = &[ID, NETDEV];
const FRAME_KEYS: &[Key] = &[
    ID,
    NETDEV,
    key("queue", Kind::Str, "all", "rx: what the netdev gets from the guest; tx: what it sends to the guest"),
    key("match", Kind::Str, "", "HEX or HEX@OFFSET: only frames with these bytes there"),
    key("skip", Kind::Uint64, "0", "frames let alone at first"),
    EVERY,
    RATE,
    key("count", Kind::Uint64, "", "frames that are hit at most"),
    key(
        "seed",
        Kind::Uint64,
        "1",
        "what the chance of rate= begins with: the same seed hits the same frames",
    ),
];
const CARD_KEYS: &[Key] = &[
    ID,
    key("device", Kind::Str, "", "id of the -device (default: the only NIC)"),
    key("skip", Kind::Uint64, "0", "events let alone at first"),
    EVERY,
    RATE,
    key("count", Kind::Uint64, "", "events that are hit at most"),
    key(
        "seed",
        Kind::Uint64,
        "1",
        "what the chance of rate= begins with: the same seed hits the same events",
    ),
];
const TIME_KEYS: &[Key] = &[key("time", Kind::Str, "100ms", "how long")];
const CORRUPT_KEYS: &[Key] = &[key("offset", Kind::Uint32, "", "the byte of the frame (default: any)")];
const DELAY_KEYS: &[Key] = &[
    key("time", Kind::Str, "", "how late, such as 20ms (required)"),
    key("jitter", Kind::Str, "0", "up to this much more"),
];
const DUPLICATE_KEYS: &[Key] = &[key("copies", Kind::Uint32, "1", "how many more come")];
const REORDER_KEYS: &[Key] =
    &[key("distance", Kind::Uint32, "1", "how many overtake it; after 100 ms it goes on without")];
const LINK_KEYS: &[Key] = &[
    key("time", Kind::Str, "1s", "how long it is out"),
    key("period", Kind::Str, "10s", "from one time to the next, the first included"),
    key("count", Kind::Uint64, "", "how often (default: without end)"),
];

/// No frame is longer.
const LONGEST: u64 = 1 << 17;

/// Reads the value of one `-fault`; `number` makes up the id of a plan that has none.
pub(super) fn parse(context: &Context, text: &str, number: usize) -> Result<Request, CliError> {
    let mut pairs = pairs(text, "kind").map_err(|wrong| context.error(wrong))?;
    let name = keyval::take(&mut pairs, "kind")
        .and_then(|name| {
            let how = "write -fault drop,netdev=ID,rate=1%";
            name.ok_or_else(|| Wrong::new("the kind of the fault is missing", how))
        })
        .map_err(|wrong| context.error(wrong))?;
    if keyval::is_help(&name) {
        return Ok(Request::ListTypes);
    }
    let known = KINDS.iter().find(|known| known.name == name).ok_or_else(|| {
        let hint =
            did_you_mean(&name, KINDS.iter().map(|known| known.name), "-fault help lists what there is");
        context.error(Wrong::new(format!("{} is not a fault", quoted(&name)), hint))
    })?;
    if keyval::asks_for_help(&pairs) {
        return Ok(Request::ListKeys(known));
    }
    let fields = Fields::read_with(context, pairs, &known.schema, known.common)?;
    let id = fields.get("id", values::identifier)?.unwrap_or_else(|| format!("fault{number}"));
    Ok(Request::Add((known.build)(&fields, id)?))
}

fn netdev(fields: &Fields<'_>) -> Result<String, CliError> {
    let netdev = fields.get("netdev", values::identifier)?;
    netdev.ok_or_else(|| fields.error(Wrong::new("netdev= is missing", "name the -netdev whose cable it is")))
}

fn time(fields: &Fields<'_>, key: &str) -> Result<Option<Duration>, CliError> {
    fields.get(key, |text| values::duration(text, Duration::from_secs(1)))
}

fn count(fields: &Fields<'_>) -> Result<u64, CliError> {
    Ok(fields.get("count", |text| values::number(text, 1, u64::MAX))?.unwrap_or(u64::MAX))
}

fn schedule(fields: &Fields<'_>) -> Result<Schedule, CliError> {
    let number = |key, least| fields.get(key, |text| values::number(text, least, u64::MAX));
    let base = Schedule::default();
    Ok(Schedule {
        skip: number("skip", 0)?.unwrap_or(base.skip),
        every: number("every", 1)?.unwrap_or(base.every),
        rate: fields.get("rate", percent)?.unwrap_or(base.rate),
        count: count(fields)?,
        seed: number("seed", 0)?.unwrap_or(base.seed),
    })
}

fn card(fields: &Fields<'_>, id: String, fault: CardFault) -> Result<FaultPlan, CliError> {
    let device = fields.get("device", values::identifier)?;
    let time = time(fields, "time")?.unwrap_or(Duration::from_millis(100));
    Ok(FaultPlan::Card(CardFaultPlan { id, device, fault, time, schedule: schedule(fields)? }))
}

fn frames(fields: &Fields<'_>, id: String, fault: FrameFault) -> Result<FaultPlan, CliError> {
    let schedule = schedule(fields)?;
    let options = FrameFaultOptions { fault, schedule, pattern: fields.get("match", pattern)? };
    Ok(FaultPlan::Cable(CableFault::Frames(FilterOptions {
        id,
        netdev: netdev(fields)?,
        queue: fields.get("queue", queue)?.unwrap_or(FilterQueue::All),
        on: true,
        place: FilterPlace::Tail,
        kind: FilterKind::Fault(options),
    })))
}

fn corrupt(fields: &Fields<'_>, id: String) -> Result<FaultPlan, CliError> {
    let offset = fields.get("offset", |text| values::number(text, 0, LONGEST))?;
    frames(fields, id, FrameFault::Corrupt { offset: offset.map(|n| n as usize) })
}

fn delay(fields: &Fields<'_>, id: String) -> Result<FaultPlan, CliError> {
    let missing = || fields.error(Wrong::new("time= is missing", "add time=20ms"));
    let time_of_all = time(fields, "time")?.ok_or_else(missing)?;
    let jitter = time(fields, "jitter")?.unwrap_or_default();
    frames(fields, id, FrameFault::Delay { time: time_of_all, jitter })
}

fn duplicate(fields: &Fields<'_>, id: String) -> Result<FaultPlan, CliError> {
    let copies = fields.get("copies", |text| values::number(text, 1, 100))?.unwrap_or(1);
    frames(fields, id, FrameFault::Duplicate { copies: copies as u32 })
}

fn reorder(fields: &Fields<'_>, id: String) -> Result<FaultPlan, CliError> {
    let distance = fields.get("distance", |text| values::number(text, 1, 1000))?.unwrap_or(1);
    frames(fields, id, FrameFault::Reorder { distance: distance as u32 })
}

fn link_flap(fields: &Fields<'_>, id: String) -> Result<FaultPlan, CliError> {
    let down = time(fields, "time")?.unwrap_or(Duration::from_secs(1));
    let period = time(fields, "period")?.unwrap_or(Duration::from_secs(10).max(down * 2));
    if down.is_zero() || period <= down {
        let how = "the cable must be in for a while, too: write time=1s,period=10s";
        return Err(fields.error(Wrong::new("period= must be longer than time=, and neither zero", how)));
    }
    let flap = LinkFlap { id, netdev: netdev(fields)?, down, period, count: count(fields)? };
    Ok(FaultPlan::Cable(CableFault::Link(flap)))
}

/// `0.5%` or `0.5`, in millionths.
fn percent(text: &str) -> Result<u32, Wrong> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    let number = number.ok().filter(|percent| (0.0..=100.0).contains(percent));
    let wrong = || Wrong::new(format!("{} is not a rate", quoted(text)), "write 0% to 100%, as in 0.5%");
    number.map(|percent| (percent / 100.0 * f64::from(ALWAYS)).round() as u32).ok_or_else(wrong)
}

/// `HEX` or `HEX@OFFSET`.
fn pattern(text: &str) -> Result<FramePattern, Wrong> {
    let (hex, offset) = text.split_once('@').unwrap_or((text, "0"));
    let offset = values::number(offset, 0, LONGEST)? as usize;
    let byte = |at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    match bytes {
        Some(bytes) if !bytes.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit()) => {
            Ok(FramePattern { offset, bytes })
        }
        _ => Err(Wrong::new(
            format!("{} is no pattern", quoted(text)),
            "write hexadecimal bytes and where they are, as in match=0806@12 (ARP)",
        )),
    }
}
