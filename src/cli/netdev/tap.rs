//! `-netdev tap`.

use super::address::inherited_fd;
use super::{Backend, bridge, key, path_or_no};
use crate::cli::config::{AddressChoice, NetdevKind, TapOptions};
use crate::cli::error::{CliError, Wrong};
use crate::cli::keyval::{Absent, Fields, Key, Kind, Schema};
use crate::cli::values;

pub(super) static BACKEND: Backend = Backend {
    name: "tap",
    text: "a tap interface of the host, created or attached to",
    schema: Schema { what: "-netdev tap", keys: KEYS, absent: ABSENT, help: "-netdev tap,help" },
    build,
};

const KEYS: &[Key] = &[
    Key {
        name: "ifname",
        kind: Kind::Str,
        default: "the kernel picks one",
        text: "interface to create or to attach to, at most 15 characters",
    },
    Key { name: "fd", kind: Kind::Uint32, default: "", text: "number of an inherited, open tap" },
    Key { name: "script", kind: Kind::Str, default: "no", text: "program to run when the tap is up, or no" },
    Key {
        name: "downscript",
        kind: Kind::Str,
        default: "no",
        text: "program to run before the tap goes, or no",
    },
    Key {
        name: "vnet_hdr",
        kind: Kind::Bool,
        default: "on where the tap has it",
        text: "pass checksum and segmentation requests to the host",
    },
    bridge::BR,
    bridge::HELPER,
    key("fds", Kind::Str, "", "as fd=: one number, since an e1000 has one queue"),
    key(
        "sndbuf",
        Kind::Size,
        "the kernel's",
        "bytes of the guest's frames that the host queues; 0 is no limit",
    ),
    Key {
        name: "address",
        kind: Kind::Str,
        default: "10.0.2.2/24 on a tap of our own",
        text: "IPv4 address of the host's side, or none",
    },
];

const NO_VHOST: &str = "leave it out (vhost serves virtio NICs only)";
const ONE_QUEUE: &str = "leave it out (an e1000 has one queue)";
const ABSENT: &[Absent] = &[
    Absent { name: "queues", accepts: Some("1"), instead: ONE_QUEUE },
    Absent { name: "vhost", accepts: Some("off"), instead: NO_VHOST },
    Absent { name: "vhostfd", accepts: None, instead: NO_VHOST },
    Absent { name: "vhostfds", accepts: None, instead: NO_VHOST },
    Absent { name: "vhostforce", accepts: Some("off"), instead: NO_VHOST },
    Absent { name: "poll-us", accepts: None, instead: NO_VHOST },
];

/// Keys that say how the tap comes about; each group excludes the others.
const WAYS: [(&[&str], &str); 2] = [
    (&["fd", "fds"], "brings a tap that is already set up"),
    (&["br", "helper"], "has a helper make the tap"),
];
const OWN: [&str; 3] = ["ifname", "script", "downscript"];

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    check_ways(fields)?;
    let fd = fields.get("fd", inherited_fd)?.or(fields.get("fds", only_fd)?);
    let by_helper = !fields.given(&["br", "helper"]).is_empty();
    Ok(NetdevKind::Tap(TapOptions {
        ifname: fields.get("ifname", values::interface_name)?,
        script: fields.get("script", path_or_no)?.unwrap_or_default(),
        downscript: fields.get("downscript", path_or_no)?.unwrap_or_default(),
        fd,
        helper: by_helper.then(|| bridge::read(fields)).transpose()?,
        vnet_hdr: fields.get("vnet_hdr", values::on_off)?,
        sndbuf: fields.get("sndbuf", sndbuf)?,
        address: fields.get("address", values::host_address)?.unwrap_or(AddressChoice::Default),
    }))
}

/// A tap comes in one way.
fn check_ways(fields: &Fields<'_>) -> Result<(), CliError> {
    for (at, (keys, what)) in WAYS.iter().enumerate() {
        let Some(way) = fields.given(keys).first().copied() else { continue };
        let others = WAYS.iter().skip(at + 1).flat_map(|(keys, _)| keys.iter());
        let mut others: Vec<&str> = OWN.iter().chain(others).copied().collect();
        if *keys == WAYS[0].0 {
            others.push("vnet_hdr");
            others.push(if way == "fd" { "fds" } else { "fd" });
        }
        let settled = fields.given(&others);
        if !settled.is_empty() {
            return Err(fields.error(Wrong::new(
                format!("{way}= {what}, so {}= cannot go with it", settled.join("=, ")),
                "leave out one or the other",
            )));
        }
    }
    Ok(())
}

/// The one descriptor of a list.
fn only_fd(text: &str) -> Result<i32, Wrong> {
    match text.split(':').count() {
        1 => inherited_fd(text),
        n => Err(Wrong::new(format!("{n} queues, and an e1000 has one"), "hand over one tap by fd=")),
    }
}

fn sndbuf(text: &str) -> Result<u32, Wrong> {
    // Within u32 by the limit.
    values::byte_size(text, i32::MAX as u64).map(|bytes| bytes as u32)
}
