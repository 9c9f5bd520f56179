//! `-netdev stream`.

use std::time::Duration;

use super::address::{self, absent_of_addresses, keys_with_addresses};
use super::{Backend, key};
use crate::cli::config::NetdevKind;
use crate::cli::error::{CliError, Wrong};
use crate::cli::keyval::{Absent, Fields, Key, Kind, Schema};
use crate::cli::socket_options::{SocketAddress, StreamOptions};
use crate::cli::values;

pub(super) static BACKEND: Backend = Backend {
    name: "stream",
    text: "frames over a TCP or Unix connection, as QEMU's",
    schema: Schema { what: "-netdev stream", keys: KEYS, absent: ABSENT, help: "-netdev stream,help" },
    build,
};

const KEYS: &[Key] = keys_with_addresses!("addr";
    key("server", Kind::Bool, "off", "listen at the address; off: connect to it"),
    key("reconnect", Kind::Uint32, "never", "seconds after which a client tries again"),
    key("reconnect-ms", Kind::Uint32, "never", "the same in milliseconds"),
);

const ABSENT: &[Absent] = absent_of_addresses!("addr");

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let addr = address::read(fields, "addr", KEYS)?.ok_or_else(|| {
        fields.error(Wrong::new(
            "the address is missing",
            "add addr.type=unix,addr.path=PATH or addr.type=inet,addr.host=HOST,addr.port=PORT",
        ))
    })?;
    options(fields, addr).map(NetdevKind::Stream)
}

/// `server=`, `reconnect=` and `reconnect-ms=`, held against the address.
pub(in crate::cli) fn options(fields: &Fields<'_>, addr: SocketAddress) -> Result<StreamOptions, CliError> {
    let server = fields.get("server", values::on_off)?.unwrap_or(false);
    let reconnect = reconnect(fields)?;
    if reconnect.is_some() && (server || matches!(addr, SocketAddress::Fd(_))) {
        let who = if server { "a server waits for others to connect" } else { "a descriptor has no address" };
        return Err(fields.error(Wrong::new(format!("{who} and cannot reconnect"), "leave reconnect out")));
    }
    if let SocketAddress::Inet(inet) = &addr
        && !server
        && (inet.host.is_empty() || inet.port == 0)
    {
        return Err(fields.error(Wrong::new(
            "a client needs the host and the port to connect to",
            "name both, or add server=on",
        )));
    }
    Ok(StreamOptions { addr, server, reconnect })
}

fn reconnect(fields: &Fields<'_>) -> Result<Option<Duration>, CliError> {
    const YEAR: u64 = 365 * 24 * 3600;
    let seconds = fields.get("reconnect", |text| values::number(text, 0, YEAR))?.map(Duration::from_secs);
    let millis =
        fields.get("reconnect-ms", |text| values::number(text, 0, YEAR * 1000))?.map(Duration::from_millis);
    if seconds.is_some() && millis.is_some() {
        return Err(fields.error(Wrong::new("reconnect= and reconnect-ms= say the same", "keep one of them")));
    }
    // QEMU: zero is never.
    Ok(seconds.or(millis).filter(|time| !time.is_zero()))
}
