//! `-netdev l2tpv3`.

use super::address::port;
use super::{Backend, key};
use crate::cli::config::NetdevKind;
use crate::cli::error::{CliError, Wrong};
use crate::cli::keyval::{Fields, Key, Kind, Schema};
use crate::cli::socket_options::{Cookies, CounterChoice, L2tpv3Options};
use crate::cli::values;

pub(super) static BACKEND: Backend = Backend {
    name: "l2tpv3",
    text: "frames in an L2TPv3 tunnel, as QEMU's and Linux's",
    schema: Schema { what: "-netdev l2tpv3", keys: KEYS, absent: &[], help: "-netdev l2tpv3,help" },
    build,
};

const KEYS: &[Key] = &[
    key("src", Kind::Str, "", "our address (required)"),
    key("dst", Kind::Str, "", "the other end's address (required)"),
    key("udp", Kind::Bool, "off", "over UDP; off: directly over IP, which needs CAP_NET_RAW"),
    key("srcport", Kind::Uint32, "", "our UDP port, with udp=on"),
    key("dstport", Kind::Uint32, "", "the other end's UDP port, with udp=on"),
    key("ipv6", Kind::Bool, "off", "the addresses are IPv6"),
    key("txsession", Kind::Uint32, "", "session that we send (required)"),
    key("rxsession", Kind::Uint32, "as txsession", "session that we expect"),
    key("txcookie", Kind::Uint64, "", "cookie that we send"),
    key("rxcookie", Kind::Uint64, "", "cookie that we expect"),
    key("cookie64", Kind::Bool, "off", "cookies have 8 bytes instead of 4"),
    key("counter", Kind::Bool, "off", "frames have a sequence number"),
    key("pincounter", Kind::Bool, "off", "the sequence number is always 0"),
    key("offset", Kind::Uint32, "0", "bytes between header and frame"),
];

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let wrong = |problem: String, advice: &str| fields.error(Wrong::new(problem, advice));
    let missing = |name: &str| wrong(format!("{name}= is missing"), "src=, dst= and txsession= are required");
    let flag = |name: &str| fields.get(name, values::on_off).map(|value| value.unwrap_or(false));
    let word =
        |name: &str| fields.get(name, |text| values::number(text, 0, u32::MAX.into()).map(|n| n as u32));
    let name = |key: &str| fields.get(key, |text| Ok(text.to_owned()))?.ok_or_else(|| missing(key));
    let (src, dst) = (name("src")?, name("dst")?);
    let tx_session = word("txsession")?.ok_or_else(|| missing("txsession"))?;
    let counter = match (flag("counter")?, flag("pincounter")?) {
        (_, true) => CounterChoice::Pinned,
        (true, false) => CounterChoice::Counting,
        (false, false) => CounterChoice::Absent,
    };
    let options = L2tpv3Options {
        src,
        dst,
        ports: ports(fields, flag("udp")?)?,
        ipv6: flag("ipv6")?,
        tx_session,
        rx_session: word("rxsession")?.unwrap_or(tx_session),
        cookies: cookies(fields, flag("cookie64")?)?,
        counter,
        // Within u16 by the check.
        offset: fields.get("offset", |text| values::number(text, 0, u16::MAX.into()))?.unwrap_or(0) as u16,
    };
    Ok(NetdevKind::L2tpv3(options))
}

fn ports(fields: &Fields<'_>, udp: bool) -> Result<Option<(u16, u16)>, CliError> {
    let (from, to) = (fields.get("srcport", port)?, fields.get("dstport", port)?);
    match (udp, from, to) {
        (true, Some(from), Some(to)) => Ok(Some((from, to))),
        (false, None, None) => Ok(None),
        (true, ..) => Err(fields.error(Wrong::new("udp=on needs both ports", "add srcport= and dstport="))),
        (false, ..) => {
            Err(fields.error(Wrong::new("ports are for UDP", "add udp=on, or leave the ports out")))
        }
    }
}

fn cookies(fields: &Fields<'_>, wide: bool) -> Result<Option<Cookies>, CliError> {
    let most = if wide { u64::MAX } else { u32::MAX.into() };
    let cookie = |name: &str| fields.get(name, |text| values::number(text, 0, most));
    match (cookie("txcookie")?, cookie("rxcookie")?) {
        (Some(tx), Some(rx)) => Ok(Some(Cookies { tx, rx, wide })),
        (None, None) if !wide => Ok(None),
        _ => Err(fields.error(Wrong::new(
            "a session has a cookie in both directions or in none",
            "give both txcookie= and rxcookie=",
        ))),
    }
}
