//! `-netdev hubport`: a port of a hub, QEMU's "VLAN".

use super::Backend;
use crate::cli::config::{HubPortOptions, NetdevKind};
use crate::cli::error::{CliError, Wrong};
use crate::cli::keyval::{Fields, Key, Kind, Schema};
use crate::cli::values;

pub(super) static BACKEND: Backend = Backend {
    name: "hubport",
    text: "a port of a numbered hub; each port gets the frames of all others",
    schema: Schema { what: "-netdev hubport", keys: KEYS, absent: &[], help: "-netdev hubport,help" },
    build,
};

const KEYS: &[Key] = &[
    Key { name: "hubid", kind: Kind::Uint32, default: "", text: "number of the hub (required)" },
    Key {
        name: "netdev",
        kind: Kind::Str,
        default: "a NIC's netdev= names this port",
        text: "id of the netdev that the port is connected to",
    },
    Key {
        name: "learning",
        kind: Kind::Bool,
        default: "off",
        text: "the hub learns addresses, as a switch does",
    },
];

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let hubid = fields.get("hubid", |text| values::number(text, 0, i32::MAX as u64))?;
    let hubid = hubid.ok_or_else(|| {
        fields.error(Wrong::new("hubid= is missing", "add hubid=0, or the number of another hub"))
    })?;
    Ok(NetdevKind::HubPort(HubPortOptions {
        hubid: hubid as u32,
        netdev: fields.get("netdev", values::identifier)?,
        learning: fields.get("learning", values::on_off)?,
    }))
}
