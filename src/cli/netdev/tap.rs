//! `-netdev tap`.

use super::{Backend, path_or_no};
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
    Absent {
        name: "br",
        accepts: None,
        instead: "leave it out: address= makes the host reachable without a bridge",
    },
    Absent {
        name: "helper",
        accepts: None,
        instead: "make the tap beforehand and name it by ifname=, or hand it over by fd=",
    },
    Absent { name: "fds", accepts: None, instead: "hand over one tap by fd=" },
    Absent { name: "queues", accepts: Some("1"), instead: ONE_QUEUE },
    Absent { name: "sndbuf", accepts: Some("0"), instead: "leave it out" },
    Absent { name: "vhost", accepts: Some("off"), instead: NO_VHOST },
    Absent { name: "vhostfd", accepts: None, instead: NO_VHOST },
    Absent { name: "vhostfds", accepts: None, instead: NO_VHOST },
    Absent { name: "vhostforce", accepts: Some("off"), instead: NO_VHOST },
    Absent { name: "poll-us", accepts: None, instead: NO_VHOST },
];

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let options = TapOptions {
        ifname: fields.get("ifname", values::interface_name)?,
        script: fields.get("script", path_or_no)?.unwrap_or_default(),
        downscript: fields.get("downscript", path_or_no)?.unwrap_or_default(),
        fd: fields.get("fd", inherited_fd)?,
        vnet_hdr: fields.get("vnet_hdr", values::on_off)?,
        address: fields.get("address", values::host_address)?.unwrap_or(AddressChoice::Default),
    };
    if options.fd.is_some() {
        let settled = fields.given(&["ifname", "script", "downscript", "vnet_hdr"]);
        if !settled.is_empty() {
            return Err(fields.error(Wrong::new(
                format!(
                    "fd= brings a tap that is already set up, so {}= cannot go with it",
                    settled.join("=, ")
                ),
                "leave out one or the other",
            )));
        }
    }
    Ok(NetdevKind::Tap(options))
}

fn inherited_fd(text: &str) -> Result<i32, Wrong> {
    const FIRST: u64 = 3;
    let fd = values::number(text, 0, i32::MAX as u64)?;
    if fd < FIRST {
        return Err(Wrong::new(
            format!("{fd} is standard input, output or error"),
            "hand the tap over as 3 or more, as in: minivmm ... fd=3 3<>/dev/tapN",
        ));
    }
    Ok(fd as i32)
}
