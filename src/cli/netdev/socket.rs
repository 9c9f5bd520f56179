//! `-netdev socket`: QEMU's older words for `stream` and `dgram`.

use super::address::{group, host_and_port, inherited_fd};
use super::{Backend, key};
use crate::cli::config::NetdevKind;
use crate::cli::error::{CliError, Wrong};
use crate::cli::keyval::{Fields, Key, Kind, Schema};
use crate::cli::socket_options::{DgramOptions, InetAddress, SocketAddress, SocketOptions, StreamOptions};

pub(super) static BACKEND: Backend = Backend {
    name: "socket",
    text: "the older form of stream and dgram",
    schema: Schema { what: "-netdev socket", keys: KEYS, absent: &[], help: "-netdev socket,help" },
    build,
};

const KEYS: &[Key] = &[
    key("listen", Kind::Str, "", "wait for a TCP connection at [HOST]:PORT"),
    key("connect", Kind::Str, "", "connect by TCP to HOST:PORT"),
    key("mcast", Kind::Str, "", "share the UDP multicast group GROUP:PORT"),
    key("udp", Kind::Str, "", "send UDP to HOST:PORT; with localaddr="),
    key(
        "localaddr",
        Kind::Str,
        "",
        "with udp=: [HOST]:PORT to receive at; with mcast=: address of the interface",
    ),
    key("fd", Kind::Uint32, "", "number of an inherited, connected socket"),
];

const WAYS: [&str; 5] = ["listen", "connect", "mcast", "udp", "fd"];

fn build(fields: &Fields<'_>) -> Result<NetdevKind, CliError> {
    let wrong = |problem: String, advice: &str| Err(fields.error(Wrong::new(problem, advice)));
    let given = fields.given(&WAYS);
    let [way] = given[..] else {
        let problem = match given[..] {
            [] => "what to do is missing".to_owned(),
            _ => format!("{}= exclude each other", given.join("= and ")),
        };
        return wrong(problem, "give one of listen=, connect=, mcast=, udp= and fd=");
    };
    let local = !fields.given(&["localaddr"]).is_empty();
    if local && !["mcast", "udp"].contains(&way) {
        return wrong(format!("localaddr= is not for {way}="), "it belongs to mcast= and udp=");
    }
    let address = |key: &str| fields.get(key, host_and_port).map(|value| value.into_iter().next());
    // The key is given: it is the one way.
    let target = if way == "fd" { None } else { address(way)? };
    let options = match (way, target) {
        ("listen", Some(at)) => stream(at, true),
        ("connect", Some(to)) => {
            if to.host.is_empty() || to.port == 0 {
                return wrong("connect= needs a host and a port".to_owned(), "write HOST:PORT");
            }
            stream(to, false)
        }
        ("udp", Some(remote)) => match address("localaddr")? {
            Some(local) => SocketOptions::Dgram(DgramOptions::Inet { local, remote }),
            None => {
                return wrong("udp= goes with localaddr=".to_owned(), "add localaddr=:PORT to receive at");
            }
        },
        ("mcast", Some(to)) => {
            let Some(group) = group(&to) else {
                return wrong(
                    format!("mcast: {} is no multicast address", to.host),
                    "take one from 224.0.0.0 to 239.255.255.255, as in mcast=230.0.0.1:1234",
                );
            };
            let interface = fields.get("localaddr", interface)?;
            SocketOptions::Dgram(DgramOptions::Multicast { group, port: to.port, interface })
        }
        _ => SocketOptions::Fd(fields.get("fd", inherited_fd)?.unwrap_or_default()),
    };
    Ok(NetdevKind::Socket(options))
}

fn stream(address: InetAddress, server: bool) -> SocketOptions {
    // As in QEMU: the older form knows IPv4 only where nothing is said.
    let ipv4 = address.host.is_empty().then_some(true);
    let addr = SocketAddress::Inet(InetAddress { ipv4, ..address });
    SocketOptions::Stream(StreamOptions { addr, server, reconnect: None })
}

fn interface(text: &str) -> Result<std::net::Ipv4Addr, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(
            format!("{} is not an IPv4 address", crate::cli::error::quoted(text)),
            "write the address that the interface has",
        )
    })
}
