//! Forwarding rules of user networking, as text: `hostfwd=` and `guestfwd=`.
//!
//! Called by the option parser and, through [`host_forward`] and [`listen_at`], by the monitor. The grammar is
//! QEMU's; addresses are numbers, IPv6 ones in brackets. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use super::error::{Wrong, quoted};
use super::user_net::{ForwardTarget, GuestForward, HostForward, ListenAt};
use super::values;

const HOST_HOW: &str = "write [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport, as in tcp::2222-:22";
const LISTEN_HOW: &str = "write [tcp|udp]:[hostaddr]:hostport, as in tcp::2222";
const GUEST_HOW: &str =
    "write tcp:server:port-target, where the target is cmd:COMMAND, tcp:ADDRESS:PORT or unix:PATH";
/// Longest path of a Unix socket (unix(7)).
const MAX_UNIX_PATH: usize = 107;

/// A rule `[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport` or `unix:path-[guestaddr]:guestport`; without a
/// guest address it is for `guest`.
///
/// # Errors
/// What is wrong with it, and how it is written.
pub fn host_forward(text: &str, guest: Ipv4Addr) -> Result<HostForward, String> {
    rule(text, guest).map_err(|wrong| wrong.to_string())
}

/// The host's end of a rule: `[tcp|udp]:[hostaddr]:hostport` or `unix:path`.
///
/// # Errors
/// What is wrong with it, and how it is written.
pub fn listen_at(text: &str) -> Result<ListenAt, String> {
    listen(text, LISTEN_HOW).map_err(|wrong| wrong.to_string())
}

/// As [`host_forward`].
pub(super) fn rule(text: &str, guest: Ipv4Addr) -> Result<HostForward, Wrong> {
    // A path may contain the separator.
    let (host, to) = text
        .rsplit_once('-')
        .ok_or_else(|| Wrong::new(format!("{} has no '-' before the guest's end", quoted(text)), HOST_HOW))?;
    let (address, port_text) = to
        .rsplit_once(':')
        .ok_or_else(|| Wrong::new(format!("{} has no ':' before the guest's port", quoted(to)), HOST_HOW))?;
    let address = match address {
        "" => guest,
        _ => address.parse().map_err(|_| {
            Wrong::new(format!("{} is not an IPv4 address of the guest", quoted(address)), HOST_HOW)
        })?,
    };
    Ok(HostForward {
        listen: listen(host, HOST_HOW)?,
        guest: SocketAddrV4::new(address, port(port_text, HOST_HOW)?),
    })
}

fn listen(text: &str, how: &str) -> Result<ListenAt, Wrong> {
    let (protocol, rest) = text
        .split_once(':')
        .ok_or_else(|| Wrong::new(format!("{} has no ':' after the protocol", quoted(text)), how))?;
    if protocol == "unix" {
        return unix_path(rest).map(ListenAt::Unix);
    }
    let (address, port_text) = rest
        .rsplit_once(':')
        .ok_or_else(|| Wrong::new(format!("{} has no ':' before the host's port", quoted(rest)), how))?;
    let at = SocketAddr::new(host_address(address, how)?, port(port_text, how)?);
    match protocol {
        "" | "tcp" => Ok(ListenAt::Tcp(at)),
        "udp" => Ok(ListenAt::Udp(at)),
        _ => Err(Wrong::new(format!("{} is not a protocol", quoted(protocol)), how)),
    }
}

/// Nothing is every IPv4 address of the host, as in QEMU.
fn host_address(text: &str, how: &str) -> Result<IpAddr, Wrong> {
    if text.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        None => text.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
    };
    address.ok_or_else(|| {
        let problem = format!("{} is not an address", quoted(text));
        match text {
            "localhost" => Wrong::new(problem, "write 127.0.0.1"),
            _ => Wrong::new(problem, how),
        }
    })
}

fn port(text: &str, how: &str) -> Result<u16, Wrong> {
    values::number(text, 1, u16::MAX.into())
        .map(|port| port as u16)
        .map_err(|_| Wrong::new(format!("{} is not a port (1 to 65535)", quoted(text)), how))
}

fn unix_path(text: &str) -> Result<PathBuf, Wrong> {
    if text.len() > MAX_UNIX_PATH {
        let problem =
            format!("{} is {} bytes long and Linux allows {MAX_UNIX_PATH}", quoted(text), text.len());
        return Err(Wrong::new(problem, "shorten it"));
    }
    values::path(text)
}

/// `[tcp]:server:port-target`.
pub(super) fn guest_rule(text: &str) -> Result<GuestForward, Wrong> {
    let wrong = |problem: String| Wrong::new(problem, GUEST_HOW);
    let (protocol, rest) = text
        .split_once(':')
        .ok_or_else(|| wrong(format!("{} has no ':' after the protocol", quoted(text))))?;
    if !matches!(protocol, "" | "tcp") {
        return Err(wrong(format!("{} cannot be forwarded from the guest", quoted(protocol))));
    }
    let (server, target) = rest
        .split_once('-')
        .ok_or_else(|| wrong(format!("{} has no '-' before the target", quoted(rest))))?;
    let (address, port_text) = server
        .rsplit_once(':')
        .ok_or_else(|| wrong(format!("{} has no ':' before the port", quoted(server))))?;
    let address: Ipv4Addr =
        address.parse().map_err(|_| wrong(format!("{} is not an IPv4 address", quoted(address))))?;
    let server = SocketAddrV4::new(address, port(port_text, GUEST_HOW)?);
    Ok(GuestForward { server, target: forward_target(target)? })
}

fn forward_target(text: &str) -> Result<ForwardTarget, Wrong> {
    let wrong = |problem: String| Wrong::new(problem, GUEST_HOW);
    match text.split_once(':') {
        Some(("cmd", "")) => Err(wrong("the command is empty".into())),
        Some(("cmd", command)) if command.contains('\0') => {
            Err(wrong("the command holds a zero byte".into()))
        }
        Some(("cmd", command)) => Ok(ForwardTarget::Command(command.to_owned())),
        Some(("unix", path)) => unix_path(path).map(ForwardTarget::Unix),
        Some(("tcp", place)) => {
            let (address, port_text) = place
                .rsplit_once(':')
                .ok_or_else(|| wrong(format!("{} has no ':' before the port", quoted(place))))?;
            let address = match address {
                "" => Ipv4Addr::LOCALHOST.into(),
                _ => host_address(address, GUEST_HOW)?,
            };
            Ok(ForwardTarget::Tcp(SocketAddr::new(address, port(port_text, GUEST_HOW)?)))
        }
        _ => Err(wrong(format!("{} is not a target", quoted(text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

    #[test]
    fn host_rules_mean_what_they_mean_in_qemu() {
        let tcp = |at: &str| ListenAt::Tcp(at.parse().unwrap());
        for (text, listen, guest) in [
            ("tcp::2222-:22", tcp("0.0.0.0:2222"), "10.0.2.15:22"),
            ("::2222-:22", tcp("0.0.0.0:2222"), "10.0.2.15:22"),
            ("tcp:127.0.0.1:80-10.0.2.20:8080", tcp("127.0.0.1:80"), "10.0.2.20:8080"),
            ("udp:127.0.0.1:53-:53", ListenAt::Udp("127.0.0.1:53".parse().unwrap()), "10.0.2.15:53"),
            ("tcp:[::1]:80-:80", tcp("[::1]:80"), "10.0.2.15:80"),
            ("unix:/run/a-b:c.sock-:80", ListenAt::Unix("/run/a-b:c.sock".into()), "10.0.2.15:80"),
        ] {
            let expected = HostForward { listen, guest: guest.parse().unwrap() };
            assert_eq!(host_forward(text, GUEST), Ok(expected), "{text}");
        }
        assert_eq!(listen_at("tcp::2222"), Ok(tcp("0.0.0.0:2222")));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        for (text, problem) in [
            ("foo", "has no '-'"),
            ("tcp::22-", "has no ':' before the guest's port"),
            ("tcp:22-:22", "has no ':' before the host's port"),
            ("sctp::22-:22", "'sctp' is not a protocol"),
            ("tcp::0-:22", "'0' is not a port"),
            ("tcp::22-:99999", "'99999' is not a port"),
            ("tcp:localhost:22-:22", "write 127.0.0.1"),
            ("tcp::22-guest:22", "'guest' is not an IPv4 address of the guest"),
            ("unix:-:22", "the path is empty"),
        ] {
            let error = host_forward(text, GUEST).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn guest_rules_name_a_program_or_a_socket() {
        let target = |text: &str| guest_rule(text).map(|rule| rule.target);
        assert_eq!(
            target("tcp:10.0.2.100:80-cmd:nc -q0 a 80"),
            Ok(ForwardTarget::Command("nc -q0 a 80".into()))
        );
        assert_eq!(
            target(":10.0.2.100:80-tcp:127.0.0.1:8080"),
            Ok(ForwardTarget::Tcp("127.0.0.1:8080".parse().unwrap()))
        );
        assert_eq!(target("tcp:10.0.2.100:80-unix:/x-y"), Ok(ForwardTarget::Unix("/x-y".into())));
        for text in [
            "udp:10.0.2.1:1-cmd:x",
            "tcp:10.0.2.1:1",
            "tcp:10.0.2.1:1-stdio",
            "tcp:10.0.2.1:1-cmd:",
            "tcp:x:1-cmd:x",
        ] {
            assert!(guest_rule(text).is_err(), "{text}");
        }
    }
}
