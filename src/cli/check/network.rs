//! What the network options mean to each other: who is connected with whom, and what is probably not meant.
//!
//! Called by `check`. A NIC, a hub's port and a filter name the netdev at the other end of their cable; every netdev
//! has one cable at most, and hubs are joined without a loop.

use std::net::Ipv4Addr;

use super::{error, filters, netdev_of, nic, no_two};
use crate::cli::config::{AddressChoice, Device, HubPortOptions, Netdev, NetdevKind, TapOptions};
use crate::cli::draft::{Draft, Given};
use crate::cli::error::{CliError, Wrong, quoted};
use crate::cli::socket_options::{DgramOptions, SocketAddress, SocketOptions, StreamOptions};
use crate::cli::suggest::did_you_mean;

/// One end that names another.
struct User<'a> {
    echo: &'a str,
    /// The netdev that it names.
    wants: &'a str,
    /// Its own id, if it is a netdev itself.
    own: Option<&'a str>,
}

/// Refuses what cannot be built.
pub(super) fn check(draft: &Draft) -> Result<(), CliError> {
    distinct_taps(&draft.netdevs)?;
    one_kind_of_hub(&draft.netdevs)?;
    connections(draft)?;
    no_loop(draft)
}

fn distinct_taps(netdevs: &[Given<Netdev>]) -> Result<(), CliError> {
    let taps: Vec<Given<&TapOptions>> = netdevs
        .iter()
        .filter_map(|given| match &given.value.kind {
            NetdevKind::Tap(tap) => Some(Given { echo: given.echo.clone(), value: tap }),
            _ => None,
        })
        .collect();
    no_two(
        &taps,
        |a, b| a.ifname.is_some() && a.ifname == b.ifname,
        |_, first| format!("this interface is taken by '{}'", first.echo),
        "give each netdev its own ifname",
    )?;
    no_two(
        netdevs,
        |a, b| inherited(&a.kind).is_some() && inherited(&a.kind) == inherited(&b.kind),
        |_, first| format!("this fd is taken by '{}'", first.echo),
        "hand over one descriptor for each netdev",
    )?;
    no_two(
        &taps,
        |a, b| address_of(a).is_some() && address_of(a) == address_of(b),
        |_, first| format!("this address is taken by '{}'", first.echo),
        "give each tap its own subnet, as in 10.0.2.2/24 and 10.0.3.2/24",
    )
}

/// The descriptor that a backend takes over.
fn inherited(kind: &NetdevKind) -> Option<i32> {
    match kind {
        NetdevKind::Tap(tap) => tap.fd,
        NetdevKind::Stream(StreamOptions { addr: SocketAddress::Fd(fd), .. })
        | NetdevKind::Dgram(DgramOptions::Fd(fd))
        | NetdevKind::Socket(SocketOptions::Fd(fd)) => Some(*fd),
        _ => None,
    }
}

fn address_of(tap: &TapOptions) -> Option<Ipv4Addr> {
    match tap.address {
        AddressChoice::Ip4 { addr, .. } => Some(addr),
        AddressChoice::Default | AddressChoice::None => None,
    }
}

fn hub_port(netdev: &Netdev) -> Option<&HubPortOptions> {
    match &netdev.kind {
        NetdevKind::HubPort(port) => Some(port),
        _ => None,
    }
}

/// `learning=` is the hub's, so no two of its ports may say different things.
fn one_kind_of_hub(netdevs: &[Given<Netdev>]) -> Result<(), CliError> {
    let said = |netdev: &Netdev| hub_port(netdev).and_then(|port| Some((port.hubid, port.learning?)));
    no_two(
        netdevs,
        |a, b| said(a).zip(said(b)).is_some_and(|(a, b)| a.0 == b.0 && a.1 != b.1),
        |_, first| format!("the hub's other port, '{}', says the opposite", first.echo),
        "learning= holds for the whole hub; write it once",
    )
}

impl<'a> User<'a> {
    fn device(given: &'a Given<Device>) -> Option<Self> {
        netdev_of(&given.value).map(|wants| User { echo: &given.echo, wants, own: None })
    }

    fn port(given: &'a Given<Netdev>) -> Option<Self> {
        let wants = hub_port(&given.value)?.netdev.as_deref()?;
        Some(User { echo: &given.echo, wants, own: Some(&given.value.id) })
    }
}

fn users(draft: &Draft) -> Vec<User<'_>> {
    let devices = draft.devices.iter().filter_map(User::device);
    let filters = filters::named_netdevs(draft).map(|(echo, wants)| User { echo, wants, own: None });
    devices.chain(draft.netdevs.iter().filter_map(User::port)).chain(filters).collect()
}

/// Every `netdev=` names a netdev that exists and that has no other cable.
fn connections(draft: &Draft) -> Result<(), CliError> {
    let users = users(draft);
    let refuse = |user: &User<'_>, problem: String, advice: String| {
        Err(CliError::new(user.echo, Wrong::new(problem, advice)))
    };
    for (n, user) in users.iter().enumerate() {
        let wanted = quoted(user.wants);
        if !draft.netdevs.iter().any(|netdev| netdev.value.id == user.wants) {
            let advice = missing_netdev(user.wants, &draft.netdevs);
            return refuse(user, format!("there is no netdev {wanted}"), advice);
        }
        if user.own == Some(user.wants) {
            let problem = "the port would be connected to itself".to_owned();
            return refuse(user, problem, "name another netdev".to_owned());
        }
        if let Some(first) = users[..n].iter().find(|first| first.wants == user.wants) {
            return refuse(
                user,
                format!("the netdev {wanted} is used by '{}'", first.echo),
                "give each NIC a -netdev of its own, or join them by hubports".to_owned(),
            );
        }
        if let Some(busy) = users.iter().find(|other| other.own == Some(user.wants)) {
            return refuse(
                user,
                format!("the port {wanted} is connected by its own netdev= ('{}')", busy.echo),
                "add another port with the same hubid".to_owned(),
            );
        }
    }
    Ok(())
}

fn missing_netdev(wanted: &str, netdevs: &[Given<Netdev>]) -> String {
    // What we made up for the user is nothing to refer to.
    let ids: Vec<&str> =
        netdevs.iter().map(|given| given.value.id.as_str()).filter(|id| !id.starts_with('#')).collect();
    match ids.as_slice() {
        [] => format!("add -netdev tap,id={wanted}"),
        [only] => format!("did you mean '{only}'?"),
        _ => did_you_mean(wanted, ids.iter().copied(), format!("there are {}", ids.join(", "))),
    }
}

/// Pairs of hubs that are joined, with the option that does it.
fn joins(draft: &Draft) -> impl Iterator<Item = (&Given<Netdev>, u32, u32)> {
    draft.netdevs.iter().filter_map(|given| {
        let port = hub_port(&given.value)?;
        let other = draft.netdevs.iter().find(|other| Some(&other.value.id) == port.netdev.as_ref())?;
        Some((given, port.hubid, hub_port(&other.value)?.hubid))
    })
}

/// Which hubs are one network: for every hub that is joined with others, one of them stands for all.
fn no_loop(draft: &Draft) -> Result<(), CliError> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (given, a, b) in joins(draft) {
        let mut group_of = |hub| match groups.iter().position(|group| group.contains(&hub)) {
            Some(at) => groups.remove(at),
            None => vec![hub],
        };
        let mut group = group_of(a);
        if group.contains(&b) {
            let problem = match a == b {
                true => format!("hub {a} would be joined with itself"),
                false => format!("hub {a} and hub {b} are joined already"),
            };
            return Err(error(given, problem, "frames would go round for ever; leave this join out"));
        }
        group.append(&mut group_of(b));
        groups.push(group);
    }
    Ok(())
}

/// What works but is probably not meant.
pub(super) fn doubts(draft: &Draft) -> Vec<String> {
    let used = users(draft);
    let idle = draft.netdevs.iter().filter(|netdev| {
        let connects = hub_port(&netdev.value).is_some_and(|port| port.netdev.is_some());
        !connects && !used.iter().any(|user| user.wants == netdev.value.id)
    });
    let idle = idle.map(|netdev| {
        let id = &netdev.value.id;
        format!("{}: no device uses this netdev; add -device e1000,netdev={id}", netdev.echo)
    });
    let nics = || draft.devices.iter().filter_map(|given| nic(&given.value).map(|nic| (given, nic)));
    let unplugged = nics().filter(|(_, nic)| nic.netdev.is_none()).map(|(given, _)| {
        format!("{}: the NIC has no netdev, so its link stays without a peer; add netdev=ID", given.echo)
    });
    let clones =
        nics().enumerate().filter(|(n, (_, nic))| nics().take(*n).any(|(_, other)| other.mac == nic.mac));
    let clones =
        clones.map(|(_, (given, _))| format!("{}: another NIC has the same MAC address", given.echo));
    idle.chain(unplugged).chain(one_sided_hubs(draft)).chain(clones).collect()
}

/// Hubs with NICs but without a way to the host, and the other way about.
fn one_sided_hubs(draft: &Draft) -> Vec<String> {
    let ports = || draft.netdevs.iter().filter_map(|given| hub_port(&given.value).map(|port| (given, port)));
    let mut hubs: Vec<u32> = ports().map(|(_, port)| port.hubid).collect();
    hubs.sort_unstable();
    hubs.dedup();
    // A hub that is joined with another one has something at its other end.
    hubs.retain(|hub| !joins(draft).any(|(_, a, b)| a == *hub || b == *hub));
    let on = |hub: u32| ports().filter(move |(_, port)| port.hubid == hub);
    let warning = |hub| {
        let (first, _) = on(hub).next()?;
        let named = |device: &Given<Device>| {
            let wanted = netdev_of(&device.value);
            wanted.is_some_and(|wanted| on(hub).any(|(given, _)| given.value.id == wanted))
        };
        let has_nic = draft.devices.iter().any(named);
        let has_host = on(hub).any(|(_, port)| port.netdev.is_some());
        match (has_nic, has_host) {
            (true, false) => Some(format!(
                "{}: hub {hub} has no way to the host; add -net tap or another backend",
                first.echo
            )),
            (false, true) => Some(format!("{}: hub {hub} has no NIC; add -net nic", first.echo)),
            _ => None,
        }
    };
    hubs.into_iter().filter_map(warning).collect()
}
