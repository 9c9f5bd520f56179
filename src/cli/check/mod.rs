//! What the options mean to each other: ids, slots, ports, addresses; `network` has the cables,
//! `filters` what sits in them.
//!
//! Called by `options` when the command line is read to its end, since options come in any order. Pure.

mod filters;
mod network;

use super::config::{Chardev, Config, Device, E1000Options, IsaDebugExitOptions, MonitorConfig, PciAddress};
use super::draft::{Draft, Given};
use super::error::{CliError, Wrong, quoted};
use super::fault_plan::{CardFaultPlan, FaultPlan};
use super::net;
use super::nic::UNASSIGNED_MAC;
use super::suggest::did_you_mean;
use super::values::FREE_SLOTS;
use crate::machine::pc::FIRMWARE_ISA_BRIDGE_SLOT;

/// The first NIC's MAC unless the user gives one; the next ones count up (QEMU's rule).
const DEFAULT_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// Holds the options against each other and makes the configuration.
pub(super) fn finish(mut draft: Draft) -> Result<Config, CliError> {
    what_runs_first(&draft)?;
    net::add_default(&mut draft)?;
    net::expand(&mut draft);
    unique_ids(&draft.netdevs, "netdev", |netdev| Some(&netdev.id))?;
    unique_ids(&draft.devices, "device", Device::id)?;
    filters::check(&draft)?;
    network::check(&draft)?;
    faults(&draft)?;
    pci_slots(&draft)?;
    distinct_ports(&draft.devices)?;
    distinct_eeproms(&draft.devices)?;
    assign_macs(&mut draft.devices);
    let warnings = net::legacy_remark(&draft).into_iter().chain(network::doubts(&draft));
    let mut warnings: Vec<String> = warnings.chain(filters::doubts(&draft)).collect();
    if draft.serials.is_empty() && !draft.nodefaults {
        // A program that speaks QMP on stdio does not want the guest's words in between.
        let taken = draft.monitors.iter().any(|monitor| monitor.value.qmp && is_stdio(&monitor.value));
        draft.serials.push(if taken { Chardev::Null } else { Chardev::Stdio });
    }
    one_program_on_stdio(&draft)?;
    warnings.extend(nobody_starts_it(&draft));
    Ok(Config {
        kernel: draft.kernel,
        bios: draft.bios,
        initrd: draft.initrd,
        append: draft.append,
        memory: draft.memory,
        smp: draft.smp,
        netdevs: draft.netdevs.into_iter().map(|given| given.value).collect(),
        chardevs: draft.chardevs.into_iter().map(|given| given.value).collect(),
        filters: draft.filters.into_iter().map(|given| given.value).collect(),
        faults: draft.faults.into_iter().map(|given| given.value).collect(),
        devices: draft.devices.into_iter().map(|given| given.value).collect(),
        accel: draft.accel,
        cpu: draft.cpu,
        nographic: draft.nographic,
        serials: draft.serials,
        console_monitor: !draft.monitor_placed,
        monitors: draft.monitors.into_iter().map(|given| given.value).collect(),
        stopped: draft.stopped,
        gdb: draft.gdb,
        no_reboot: draft.no_reboot,
        timeout: draft.timeout,
        expect: draft.expect,
        on_failure: draft.on_failure,
        result: draft.result,
        observe: draft.observe,
        machine: draft.machine,
        fw_cfg: draft.fw_cfg,
        warnings,
    })
}

/// Every fault has a cable to strike, and a name of its own.
fn faults(draft: &Draft) -> Result<(), CliError> {
    unique_ids(&draft.faults, "fault", |plan| Some(plan.id()))?;
    for given in &draft.faults {
        match &given.value {
            FaultPlan::Card(plan) => card_exists(draft, given, plan)?,
            FaultPlan::Cable(plan) => netdev_exists(draft, given, plan.netdev())?,
        }
        let id = given.value.id();
        if let Some(filter) = draft.filters.iter().find(|filter| filter.value.id == id) {
            let problem = format!("the id {} is that of '{}'", quoted(id), filter.echo);
            return Err(error(given, problem, "choose another id="));
        }
    }
    Ok(())
}

/// A card that is named by its id, or the only one. Names that minivmm gives (`e1000.0`) are known to the machine only.
fn card_exists(draft: &Draft, given: &Given<FaultPlan>, plan: &CardFaultPlan) -> Result<(), CliError> {
    let nics = draft.devices.iter().filter_map(|device| match &device.value {
        Device::E1000(options) => Some(options.id.as_deref()),
        _ => None,
    });
    let nics: Vec<Option<&str>> = nics.collect();
    match &plan.device {
        None if nics.len() == 1 => Ok(()),
        None => {
            let problem = format!("the machine has {} NICs", nics.len());
            Err(error(given, problem, "say which: device=ID, and -device e1000,id=ID"))
        }
        Some(wanted) if nics.iter().flatten().any(|id| id == wanted) => Ok(()),
        Some(wanted) => {
            let advice = did_you_mean(wanted, nics.into_iter().flatten(), "name the id= of a -device e1000");
            Err(error(given, format!("there is no NIC {}", quoted(wanted)), advice))
        }
    }
}

fn netdev_exists<T>(draft: &Draft, given: &Given<T>, wanted: &str) -> Result<(), CliError> {
    let mut ids = draft.netdevs.iter().map(|netdev| netdev.value.id.as_str());
    if ids.clone().any(|id| id == wanted) {
        return Ok(());
    }
    let advice = did_you_mean(wanted, &mut ids, "name the id of a -netdev");
    Err(error(given, format!("there is no netdev {}", quoted(wanted)), advice))
}

/// A guest that `-S` holds, which neither a monitor nor gdb can let go.
fn nobody_starts_it(draft: &Draft) -> Option<String> {
    let on_console = !draft.monitor_placed && draft.serials.contains(&Chardev::Stdio);
    let held = draft.stopped && draft.monitors.is_empty() && draft.gdb.is_none() && !on_console;
    held.then(|| "-S: nothing can start the guest; add -monitor stdio, -qmp WHERE or -s".to_owned())
}

fn is_stdio(monitor: &MonitorConfig) -> bool {
    monitor.place == Chardev::Stdio
}

/// The console and one monitor for people share a terminal; QMP shares with nobody.
fn one_program_on_stdio(draft: &Draft) -> Result<(), CliError> {
    let users: Vec<&Given<MonitorConfig>> =
        draft.monitors.iter().filter(|monitor| is_stdio(&monitor.value)).collect();
    let qmp = users.iter().find(|monitor| monitor.value.qmp);
    let shared = users.len() > 1 || qmp.is_some() && draft.serials.contains(&Chardev::Stdio);
    match users.last() {
        Some(last) if shared => Err(error(
            qmp.unwrap_or(last),
            "stdio is used twice".to_owned(),
            "put one of them on unix:PATH,server=on,wait=off",
        )),
        _ => Ok(()),
    }
}

/// A kernel or a firmware, and what belongs to a kernel only with one.
fn what_runs_first(draft: &Draft) -> Result<(), CliError> {
    const NO_KERNEL: &str = "there is no kernel for it: the firmware starts what it finds";
    const LEAVE_OUT: &str = "leave it out, or give -kernel instead of -bios";
    let wrong = |option: &str, problem: &str, how: &str| Err(CliError::new(option, Wrong::new(problem, how)));
    match (&draft.kernel, &draft.bios) {
        (None, None) => {
            let how =
                "add -kernel FILE, as in -kernel target/guest/bzImage (-help shows whole command lines)";
            wrong("-kernel", "there is nothing to boot", how)
        }
        (Some(_), Some(_)) => {
            let how = "leave one of them out; firmware gets a kernel over the network (docs/boot.md)";
            wrong("-bios", "there is a -kernel, too, which is entered directly, without firmware", how)
        }
        (None, Some(_)) if draft.initrd.is_some() => wrong("-initrd", NO_KERNEL, LEAVE_OUT),
        (None, Some(_)) if !draft.append.is_empty() => wrong("-append", NO_KERNEL, LEAVE_OUT),
        _ => Ok(()),
    }
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

/// Every PCI device has a slot, and one of its own.
fn pci_slots(draft: &Draft) -> Result<(), CliError> {
    no_two(
        &draft.devices,
        |a, b| slot_of(a).is_some() && slot_of(a) == slot_of(b),
        |_, first| format!("the PCI slot is taken by '{}'", first.echo),
        "choose another, or leave addr= out and one is found",
    )?;
    let in_bridges_place = |given: &&Given<Device>| {
        slot_of(&given.value).is_some_and(|addr| addr.slot == FIRMWARE_ISA_BRIDGE_SLOT)
    };
    // A machine with firmware has its ISA bridge in a slot that others leave to devices.
    let free = match (&draft.bios, draft.devices.iter().find(in_bridges_place)) {
        (Some(_), Some(given)) => {
            let problem = format!("with -bios, slot {FIRMWARE_ISA_BRIDGE_SLOT:#x} belongs to the ISA bridge");
            return Err(error(given, problem, "choose another, or leave addr= out and one is found"));
        }
        (Some(_), None) => FREE_SLOTS - 1,
        (None, _) => FREE_SLOTS,
    };
    match draft.devices.iter().filter(|given| nic(&given.value).is_some()).nth(free) {
        Some(first_too_many) => Err(error(
            first_too_many,
            format!("the PCI bus has {free} slots for devices and all are taken"),
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

fn distinct_eeproms(devices: &[Given<Device>]) -> Result<(), CliError> {
    let file = |device: &Device| nic(device).and_then(|nic| nic.eeprom.clone());
    no_two(
        devices,
        |a, b| file(a).is_some() && file(a) == file(b),
        |_, first| format!("this EEPROM belongs to '{}'", first.echo),
        "give each NIC its own file",
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
