//! `-netdev bridge`, and the same wish among the keys of a tap.

use super::{Backend, key};
use crate::cli::config::{BridgeHelper, NetdevKind};
use crate::cli::error::{CliError, Wrong};
use crate::cli::keyval::{Fields, Key, Kind, Schema};
use crate::cli::values;

pub(super) static BACKEND: Backend = Backend {
    name: "bridge",
    text: "a tap on a bridge of the host, made by QEMU's set-uid helper",
    schema: Schema { what: "-netdev bridge", keys: KEYS, absent: &[], help: "-netdev bridge,help" },
    build,
};

pub(super) const BR: Key = key("br", Kind::Str, DEFAULT_BRIDGE, "bridge that the helper puts the tap on");
pub(super) const HELPER: Key =
    key("helper", Kind::Str, "qemu-bridge-helper", "program that makes a tap and hands it over");
const KEYS: &[Key] = &[BR, HELPER];
const DEFAULT_BRIDGE: &str = "br0";

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    read(fields).map(NetdevKind::Bridge)
}

/// `br=` and `helper=`.
pub(super) fn read(fields: &Fields<'_>) -> Result<BridgeHelper, CliError> {
    let program = |text: &str| match text {
        "" => Err(Wrong::new("the path is empty", "name a program, or leave helper= out")),
        _ => Ok(text.to_owned()),
    };
    Ok(BridgeHelper {
        bridge: fields.get("br", values::interface_name)?.unwrap_or_else(|| DEFAULT_BRIDGE.to_owned()),
        program: fields.get("helper", program)?,
    })
}
