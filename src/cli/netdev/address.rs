//! Addresses of sockets as QEMU nests them: `addr.type=inet,addr.host=,addr.port=` and so on.
//!
//! Called by the backends on sockets. Pure: names are resolved by `netdev/socket`.

use std::net::Ipv4Addr;

use crate::cli::error::{CliError, Wrong, quoted};
use crate::cli::keyval::{Fields, Key};
use crate::cli::socket_options::{InetAddress, SocketAddress, UnixAddress};
use crate::cli::values;

/// The longest path or name of a Unix socket, in bytes (sun_path less a terminating zero).
const MAX_UNIX: usize = 107;

/// Keys of a backend: those of each address, then its own.
macro_rules! keys_with_addresses {
    ($($prefix:literal),+; $($key:expr),* $(,)?) => {
        &[
            $(
                $crate::cli::netdev::key(
                    concat!($prefix, ".type"), Kind::Str, "", "inet, unix or fd, as which the other keys say that they count",
                ),
                $crate::cli::netdev::key(concat!($prefix, ".host"), Kind::Str, "", "inet: host name or address"),
                $crate::cli::netdev::key(concat!($prefix, ".port"), Kind::Uint32, "", "inet: port number"),
                $crate::cli::netdev::key(concat!($prefix, ".ipv4"), Kind::Bool, "", "inet: use IPv4 addresses"),
                $crate::cli::netdev::key(concat!($prefix, ".ipv6"), Kind::Bool, "", "inet: use IPv6 addresses"),
                $crate::cli::netdev::key(
                    concat!($prefix, ".keep-alive"), Kind::Bool, "off", "inet: TCP asks an idle peer for signs of life",
                ),
                $crate::cli::netdev::key(concat!($prefix, ".path"), Kind::Str, "", "unix: path of the socket"),
                $crate::cli::netdev::key(
                    concat!($prefix, ".abstract"), Kind::Bool, "off", "unix: path= is a name outside the file system",
                ),
                $crate::cli::netdev::key(concat!($prefix, ".str"), Kind::Str, "", "fd: number of an inherited socket"),
            )+
            $($key),*
        ]
    };
}

/// Keys of an address that are not here.
macro_rules! absent_of_addresses {
    ($($prefix:literal),+) => {
        &[
            $(
                Absent { name: concat!($prefix, ".to"), accepts: None, instead: "choose one port" },
                Absent { name: concat!($prefix, ".numeric"), accepts: Some("off"), instead: "write an address as host" },
                Absent { name: concat!($prefix, ".mptcp"), accepts: Some("off"), instead: "leave it out" },
                Absent { name: concat!($prefix, ".tight"), accepts: Some("on"), instead: "leave it out" },
            )+
        ]
    };
}

pub(super) use {absent_of_addresses, keys_with_addresses};

/// The address whose keys begin with `prefix`; None if none of them is given.
pub(super) fn read(
    fields: &Fields<'_>,
    prefix: &str,
    all: &[Key],
) -> Result<Option<SocketAddress>, CliError> {
    const KINDS: [(&str, &[&str]); 3] = [
        ("inet", &["host", "port", "ipv4", "ipv6", "keep-alive"]),
        ("unix", &["path", "abstract"]),
        ("fd", &["str"]),
    ];
    let name = |part: &str| format!("{prefix}.{part}");
    let belongs = |key: &&Key| key.name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    let names: Vec<&str> = all.iter().filter(belongs).map(|key| key.name).collect();
    let given = fields.given(&names);
    if given.is_empty() {
        return Ok(None);
    }
    let choices: Vec<(&str, usize)> = KINDS.iter().enumerate().map(|(at, (kind, _))| (*kind, at)).collect();
    let chosen = fields.get(&name("type"), |text| values::one_of(text, &choices))?;
    let (kind, parts) = chosen.map(|at| KINDS[at]).ok_or_else(|| {
        fields.error(Wrong::new(
            format!("{prefix}.type= is missing"),
            format!("add {prefix}.type=inet, {prefix}.type=unix or {prefix}.type=fd"),
        ))
    })?;
    let fits = |key: &&str| **key == name("type") || parts.iter().any(|part| **key == name(part));
    if let Some(stray) = given.iter().find(|key| !fits(key)) {
        let parts: Vec<String> = parts.iter().map(|part| name(part) + "=").collect();
        return Err(fields.error(Wrong::new(
            format!("{stray}= is not for {prefix}.type={kind}"),
            format!("{kind} has {}", parts.join(", ")),
        )));
    }
    let needed = |part: &str| {
        fields.error(Wrong::from(format!("{}= is missing: {prefix}.type={kind} needs it", name(part))))
    };
    Ok(Some(match kind {
        "inet" => SocketAddress::Inet(InetAddress {
            host: fields.get(&name("host"), host)?.ok_or_else(|| needed("host"))?,
            port: fields.get(&name("port"), port)?.ok_or_else(|| needed("port"))?,
            ipv4: fields.get(&name("ipv4"), values::on_off)?,
            ipv6: fields.get(&name("ipv6"), values::on_off)?,
            keep_alive: fields.get(&name("keep-alive"), values::on_off)?.unwrap_or(false),
        }),
        "unix" => {
            let hidden = fields.get(&name("abstract"), values::on_off)?.unwrap_or(false);
            let path = fields.get(&name("path"), unix_name)?.ok_or_else(|| needed("path"))?;
            SocketAddress::Unix(if hidden {
                UnixAddress::Abstract(path)
            } else {
                UnixAddress::Path(path.into())
            })
        }
        _ => SocketAddress::Fd(fields.get(&name("str"), inherited_fd)?.ok_or_else(|| needed("str"))?),
    }))
}

/// `HOST:PORT` of the legacy options; an IPv6 address stands in brackets, and an empty host is every address.
pub(super) fn host_and_port(text: &str) -> Result<InetAddress, Wrong> {
    let how = "write HOST:PORT, as in 127.0.0.1:1234 or [::1]:1234";
    let (name, number) =
        text.rsplit_once(':').ok_or_else(|| Wrong::new(format!("{} has no port", quoted(text)), how))?;
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if inner.is_none() && name.contains(':') {
        return Err(Wrong::new(format!("{} is not a host", quoted(name)), how));
    }
    Ok(InetAddress::new(host(inner.unwrap_or(name))?, port(number)?))
}

/// An IPv4 group.
pub(super) fn group(address: &InetAddress) -> Option<Ipv4Addr> {
    address.host.parse().ok().filter(Ipv4Addr::is_multicast)
}

/// A host's name or address, or nothing. What has the look of an address must be one.
pub(in crate::cli) fn host(text: &str) -> Result<String, Wrong> {
    let looks_like_ip4 = text.chars().all(|c| c.is_ascii_digit() || c == '.') && text.contains('.');
    if looks_like_ip4 && text.parse::<Ipv4Addr>().is_err() {
        return Err(Wrong::new(
            format!("{} is not an IPv4 address", quoted(text)),
            "write four numbers up to 255",
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(Wrong::new(format!("{} is not a host", quoted(text)), "write a name or an address"));
    }
    Ok(text.to_owned())
}

/// A port number; 0 lets the host choose one.
pub(in crate::cli) fn port(text: &str) -> Result<u16, Wrong> {
    // Within u16 by the check.
    values::number(text, 0, u16::MAX.into()).map(|port| port as u16)
}

pub(in crate::cli) fn unix_name(text: &str) -> Result<String, Wrong> {
    match text.len() {
        0 => Err(Wrong::new("the path is empty", "name a socket")),
        1..=MAX_UNIX => Ok(text.to_owned()),
        len => Err(Wrong::new(
            format!("{} is {len} bytes long and a socket's path may have {MAX_UNIX}", quoted(text)),
            "use a shorter path, or a relative one",
        )),
    }
}

/// The number of a descriptor that the parent left open.
pub(in crate::cli) fn inherited_fd(text: &str) -> Result<i32, Wrong> {
    const FIRST: u64 = 3;
    let fd = values::number(text, 0, i32::MAX as u64)?;
    if fd < FIRST {
        return Err(Wrong::new(
            format!("{fd} is standard input, output or error"),
            "hand the file over as 3 or more, as in: minivmm ... fd=3 3<>FILE",
        ));
    }
    // Within i32 by the check.
    Ok(fd as i32)
}
