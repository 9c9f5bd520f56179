//! `-d` and `-trace`: what the user wants to see of a device's inner life.
//!
//! Called by `options`. Pure: symbols and trace files are paths here, and whether a pattern means anything is for
//! `machine` to say, which knows the events.

use std::path::PathBuf;

use super::config::{DoctorMode, TraceFormat, TraceOptions};
use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::{self, Absent, Fields, Key, Kind, Schema, Value};
use super::values;

/// What `-d` asked for.
#[derive(Debug)]
pub(super) enum LogRequest {
    Set { doctor: Option<DoctorMode>, symbols: Option<PathBuf> },
    List,
}

/// What `-trace` asked for.
#[derive(Debug)]
pub(super) enum TraceRequest {
    Add(TraceOptions),
    List,
}

/// What `-d` takes.
pub(super) static LOG: Schema = Schema {
    what: "-d",
    keys: &[
        Key {
            name: "guest_errors",
            kind: Kind::Str,
            default: "",
            text: "say what the driver did wrong with the NIC; fatal: end the run at the first error or warning",
        },
        Key {
            name: "symbols",
            kind: Kind::Str,
            default: "the kernel, if it is an ELF file",
            text: "file that names guest addresses: System.map, kallsyms or ELF",
        },
    ],
    absent: &[
        not_here("in_asm"),
        not_here("out_asm"),
        not_here("op"),
        not_here("int"),
        not_here("exec"),
        not_here("cpu"),
        not_here("cpu_reset"),
        not_here("mmu"),
        not_here("pcall"),
        not_here("page"),
        not_here("nochain"),
        not_here("strace"),
        not_here("plugin"),
        Absent {
            name: "unimp",
            accepts: Some("on"),
            instead: "leave it out: guest_errors has what it would say",
        },
        Absent { name: "trace", accepts: None, instead: "use -trace" },
    ],
    help: "-d help",
};

/// What `-trace` takes beside the pattern.
pub(super) static TRACE: Schema = Schema {
    what: "-trace",
    keys: &[
        Key {
            name: "enable",
            kind: Kind::Str,
            default: "*",
            text: "which events: a name or a pattern with *; the bare first value means this",
        },
        Key { name: "file", kind: Kind::Str, default: "standard error", text: "where they go" },
        Key {
            name: "format",
            kind: Kind::Str,
            default: "text",
            text: "text, json (lines) or pcapng (frames with comments)",
        },
        Key {
            name: "limit",
            kind: Kind::Uint32,
            default: "100000",
            text: "events a second at most (frames, in pcapng), the rest is counted; 0, and pcapng without it: no limit",
        },
    ],
    absent: &[Absent { name: "events", accepts: None, instead: "write one -trace for each pattern" }],
    help: "-trace help",
};

const fn not_here(name: &'static str) -> Absent {
    Absent { name, accepts: None, instead: "use a debugger" }
}

/// Reads the value of `-d`.
pub(super) fn log(context: &Context, text: &str) -> Result<LogRequest, CliError> {
    let mut pairs = keyval::split(text, "item").map_err(|wrong| context.error(wrong))?;
    if let Some(first) = pairs.first_mut()
        && first.key == "item"
        && let Value::Text(name) = &first.value
    {
        if keyval::is_help(name) {
            return Ok(LogRequest::List);
        }
        (first.key, first.value) = (name.clone(), Value::Bare);
    }
    for pair in &mut pairs {
        if pair.value == Value::Bare {
            pair.value = Value::Text("on".to_owned());
        }
    }
    let fields = Fields::read(context, pairs, &LOG)?;
    let modes = [("on", Some(DoctorMode::Report)), ("fatal", Some(DoctorMode::Fatal)), ("off", None)];
    let doctor = fields.get("guest_errors", |text| values::one_of(text, &modes))?.flatten();
    Ok(LogRequest::Set { doctor, symbols: fields.get("symbols", values::path)? })
}

/// Reads the value of `-trace`.
pub(super) fn trace(context: &Context, text: &str) -> Result<TraceRequest, CliError> {
    let pairs = keyval::split(text, "enable").map_err(|wrong| context.error(wrong))?;
    let fields = Fields::read(context, pairs, &TRACE)?;
    let pattern = fields.get("enable", |text| Ok(text.to_owned()))?.unwrap_or_else(|| "*".to_owned());
    if keyval::is_help(&pattern) {
        return Ok(TraceRequest::List);
    }
    if pattern.is_empty() {
        return Err(context.error(Wrong::new("the pattern is empty", "write -trace 'e1000_*'")));
    }
    let formats = [("text", TraceFormat::Text), ("json", TraceFormat::Json), ("pcapng", TraceFormat::PcapNg)];
    let format = fields.get("format", |text| values::one_of(text, &formats))?.unwrap_or_default();
    let file = fields.get("file", values::path)?;
    if format == TraceFormat::PcapNg && file.is_none() {
        let wrong = Wrong::new(format!("{} needs a file", quoted("format=pcapng")), "add file=FILE");
        return Err(context.error(wrong));
    }
    let limit = fields.get("limit", |text| values::number(text, 0, u32::MAX.into()))?;
    let default = if format == TraceFormat::PcapNg { 0 } else { DEFAULT_LIMIT };
    Ok(TraceRequest::Add(TraceOptions { pattern, file, format, limit: limit.map_or(default, |n| n as u32) }))
}

/// Events a second without `limit=`: some 10 MB of text.
const DEFAULT_LIMIT: u32 = 100_000;
