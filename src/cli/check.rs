//! What the options mean to each other: ids, connections, slots, addresses.
//!
//! Called by `options` when the command line is read to its end, since options come in any order. Pure.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::config::{
    AddressChoice, Config, Device, E1000Options, IsaDebugExitOptions, Netdev, NetdevKind, PciAddress, Serial,
    TapOptions,
};
use super::device::UNASSIGNED_MAC;
use super::draft::{Draft, Given};
use super::error::{CliError, Wrong, quoted};
use super::socket_options::{DgramOptions, SocketAddress, SocketOptions, StreamOptions};
use super::suggest::did_you_mean;
use super::values::FREE_SLOTS;

/// The first NIC's MAC unless the user gives one; the next ones count up (QEMU's rule).
const DEFAULT_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// Holds the options against each other and makes the configuration.
pub(super) fn finish(mut draft: Draft) -> Result<Config, CliError> {
    let kernel = kernel(&draft)?;
    unique_ids(&draft.netdevs, "netdev", |netdev| Some(&netdev.id))?;
    unique_ids(&draft.devices, "device", Device::id)?;
    distinct_taps(&draft.netdevs)?;
    connections(&draft)?;
    distinct_slots(&draft.devices)?;
    distinct_ports(&draft.devices)?;
    assign_macs(&mut draft.devices);
    let warnings = doubts(&draft);
    if draft.serials.is_empty() && !draft.nodefaults {
        draft.serials.push(Serial::Stdio);
    }
    Ok(Config {
        kernel,
        initrd: draft.initrd,
        append: draft.append,
        memory: draft.memory,
        smp: draft.smp,
        netdevs: draft.netdevs.into_iter().map(|given| given.value).collect(),
        devices: draft.devices.into_iter().map(|given| given.value).collect(),
        accel: draft.accel,
        cpu: draft.cpu,
        nographic: draft.nographic,
        serials: draft.serials,
        no_reboot: draft.no_reboot,
        timeout: draft.timeout,
        result: draft.result,
        machine: draft.machine,
        fw_cfg: draft.fw_cfg,
        warnings,
    })
}

fn kernel(draft: &Draft) -> Result<PathBuf, CliError> {
    draft.kernel.clone().ok_or_else(|| {
        let how = "add -kernel FILE, as in -kernel target/guest/bzImage (-help shows whole command lines)";
        CliError::new("-kernel", Wrong::new("there is nothing to boot", how))
    })
}

fn error<T>(given: &Given<T>, problem: String, advice: impl Into<String>) -> CliError {
    CliError::new(&given.echo, Wrong::new(problem, advice))
}

/// Refuses the second of two items for which `same` holds.
fn no_two<T>(
    items: &[Given<T>],
    same: impl Fn(&T, &T) -> bool,
    problem: impl Fn(&T, &Given<T>) -> String,
    advice: &str,
) -> Result<(), CliError> {
    for (n, second) in items.iter().enumerate() {
        if let Some(first) = items[..n].iter().find(|first| same(&first.value, &second.value)) {
            return Err(error(second, problem(&second.value, first), advice));
        }
    }
    Ok(())
}

fn unique_ids<T>(items: &[Given<T>], what: &str, id: impl Fn(&T) -> Option<&str>) -> Result<(), CliError> {
    no_two(
        items,
        |a, b| id(a).is_some() && id(a) == id(b),
        |second, first| {
            format!("the {what} id {} is taken by '{}'", quoted(id(second).unwrap_or_default()), first.echo)
        },
        "give each its own",
    )
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

/// Every `netdev=` names a netdev that exists and that no other device uses.
fn connections(draft: &Draft) -> Result<(), CliError> {
    for given in &draft.devices {
        if let Some(wanted) = netdev_of(&given.value)
            && !draft.netdevs.iter().any(|netdev| netdev.value.id == wanted)
        {
            return Err(error(
                given,
                format!("there is no netdev {}", quoted(wanted)),
                missing_netdev(wanted, &draft.netdevs),
            ));
        }
    }
    no_two(
        &draft.devices,
        |a, b| netdev_of(a).is_some() && netdev_of(a) == netdev_of(b),
        |second, first| {
            format!(
                "the netdev {} is used by '{}'",
                quoted(netdev_of(second).unwrap_or_default()),
                first.echo
            )
        },
        "give each NIC a -netdev of its own",
    )
}

fn missing_netdev(wanted: &str, netdevs: &[Given<Netdev>]) -> String {
    let ids: Vec<&str> = netdevs.iter().map(|given| given.value.id.as_str()).collect();
    match ids.as_slice() {
        [] => format!("add -netdev tap,id={wanted}"),
        [only] => format!("did you mean '{only}'?"),
        _ => did_you_mean(wanted, ids.iter().copied(), format!("there are {}", ids.join(", "))),
    }
}

fn nic(device: &Device) -> Option<&E1000Options> {
    match device {
        Device::E1000(nic) => Some(nic),
        Device::IsaDebugExit(_) => None,
    }
}

fn netdev_of(device: &Device) -> Option<&str> {
    nic(device).and_then(|nic| nic.netdev.as_deref())
}

fn slot_of(device: &Device) -> Option<PciAddress> {
    nic(device).and_then(|nic| nic.addr)
}

fn distinct_slots(devices: &[Given<Device>]) -> Result<(), CliError> {
    no_two(
        devices,
        |a, b| slot_of(a).is_some() && slot_of(a) == slot_of(b),
        |_, first| format!("the PCI slot is taken by '{}'", first.echo),
        "choose another, or leave addr= out and one is found",
    )?;
    match devices.iter().filter(|given| nic(&given.value).is_some()).nth(FREE_SLOTS) {
        Some(first_too_many) => Err(error(
            first_too_many,
            format!("the PCI bus has {FREE_SLOTS} slots for devices and all are taken"),
            "remove one",
        )),
        None => Ok(()),
    }
}

fn ports_of(device: &Device) -> Option<std::ops::Range<u32>> {
    match device {
        Device::IsaDebugExit(IsaDebugExitOptions { iobase, iosize, .. }) => {
            Some(u32::from(*iobase)..u32::from(*iobase) + u32::from(*iosize))
        }
        Device::E1000(_) => None,
    }
}

fn distinct_ports(devices: &[Given<Device>]) -> Result<(), CliError> {
    no_two(
        devices,
        |a, b| ports_of(a).zip(ports_of(b)).is_some_and(|(a, b)| a.start < b.end && b.start < a.end),
        |_, first| format!("these I/O ports are taken by '{}'", first.echo),
        "give it another iobase",
    )
}

/// Gives every NIC without `mac=` the next default address that no NIC has.
fn assign_macs(devices: &mut [Given<Device>]) {
    let mut taken: Vec<[u8; 6]> =
        devices.iter().filter_map(|given| nic(&given.value)).map(|nic| nic.mac).collect();
    let mut candidates = (0..=u8::MAX).map(|n| {
        let mut mac = DEFAULT_MAC;
        mac[5] = mac[5].wrapping_add(n);
        mac
    });
    for given in devices {
        let Device::E1000(E1000Options { mac, .. }) = &mut given.value else {
            continue;
        };
        if *mac == UNASSIGNED_MAC {
            // 256 candidates and at most FREE_SLOTS NICs: there is always one left.
            *mac = candidates.find(|mac| !taken.contains(mac)).unwrap_or(DEFAULT_MAC);
            taken.push(*mac);
        }
    }
}

/// What works but is probably not meant.
fn doubts(draft: &Draft) -> Vec<String> {
    let idle = draft.netdevs.iter().filter(|netdev| {
        let id = Some(netdev.value.id.as_str());
        !draft.devices.iter().any(|device| netdev_of(&device.value) == id)
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
    idle.chain(unplugged).chain(clones).collect()
}
