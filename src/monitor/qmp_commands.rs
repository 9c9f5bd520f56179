//! QMP's table of commands: names, arguments, and which method of `Commands` each calls.
//!
//! Called by `qmp.rs`. Arguments are held against the table before a method runs, with QEMU's texts.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::commands::{Announcement, CommandError, Commands};
use super::qmp;
use super::{PciInfo, RunState, RxFilterInfo};
use crate::cli::did_you_mean;
use crate::netdev::{DirectionStats, EndSnapshot, FaultSnapshot};

type Arguments = Map<String, Value>;

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Str,
    Bool,
    Int,
    List,
    Any,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Str => "string",
            Self::Bool => "boolean",
            Self::Int => "integer",
            Self::List => "array",
            Self::Any => "any",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Str => value.is_string(),
            Self::Bool => value.is_boolean(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::List => value.is_array(),
            Self::Any => true,
        }
    }
}

/// An argument.
#[derive(Debug)]
pub(super) struct Arg {
    name: &'static str,
    kind: Kind,
    required: bool,
}

const fn must(name: &'static str, kind: Kind) -> Arg {
    Arg { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Arg {
    Arg { name, kind, required: false }
}

/// A command.
struct Row {
    name: &'static str,
    /// None: any, checked by the command itself.
    args: Option<&'static [Arg]>,
    run: fn(&Commands, &Arguments) -> Result<Value, CommandError>,
}

const fn row(
    name: &'static str,
    args: &'static [Arg],
    run: fn(&Commands, &Arguments) -> Result<Value, CommandError>,
) -> Row {
    Row { name, args: Some(args), run }
}

/// Arguments of qmp_capabilities, which the conversation itself carries out.
pub(super) const CAPABILITIES: &[Arg] = &[may("enable", Kind::List)];
/// Arguments of human-monitor-command, likewise.
pub(super) const HUMAN: &[Arg] = &[must("command-line", Kind::Str), may("cpu-index", Kind::Int)];

static COMMANDS: &[Row] = &[
    row("query-version", &[], |_, _| Ok(qmp::version())),
    row("query-commands", &[], |_, _| Ok(names().map(|name| json!({"name": name})).collect())),
    row("query-status", &[], |c, _| Ok(status(c.machine.state()))),
    row("query-kvm", &[], |c, _| Ok(json!({"enabled": c.machine.accel() == "kvm", "present": true}))),
    row("query-name", &[], |_, _| Ok(json!({}))),
    row("query-uuid", &[], |_, _| Ok(json!({"UUID": "00000000-0000-0000-0000-000000000000"}))),
    row("query-cpus-fast", &[], |c, _| Ok(cpus(c))),
    row("query-pci", &[], |c, _| Ok(pci(&c.machine.pci()))),
    row("stop", &[], |c, _| done(c.stop())),
    row("cont", &[], |c, _| done(c.cont())),
    row("system_reset", &[], |c, _| {
        c.machine.reset();
        done(Ok(()))
    }),
    row("system_powerdown", &[], |c, _| {
        c.powerdown();
        done(Ok(()))
    }),
    row("quit", &[], |c, _| {
        c.machine.quit();
        done(Ok(()))
    }),
    row("set_link", &[must("name", Kind::Str), must("up", Kind::Bool)], |c, a| {
        done(c.set_link(text(a, "name"), a.get("up") == Some(&Value::Bool(true))))
    }),
    Row {
        name: "netdev_add",
        args: None,
        run: |c, a| done(c.netdev_add(&Value::from(a.clone()).to_string())),
    },
    row("netdev_del", &[must("id", Kind::Str)], |c, a| done(c.netdev_del(text(a, "id")))),
    Row {
        name: "object-add",
        args: None,
        run: |c, a| done(c.object_add(&Value::from(a.clone()).to_string())),
    },
    row("object-del", &[must("id", Kind::Str)], |c, a| done(c.object_del(text(a, "id")))),
    Row {
        name: "fault-add",
        args: None,
        run: |c, a| Ok(json!({"id": c.fault_add(&Value::from(a.clone()).to_string())?})),
    },
    row("fault-del", &[must("id", Kind::Str)], |c, a| done(c.fault_del(text(a, "id")))),
    row("query-faults", &[], |c, _| {
        let fault = |f: FaultSnapshot| json!({"id": f.id, "place": f.place, "text": f.text});
        Ok(c.faults().into_iter().map(fault).collect())
    }),
    row("qom-get", &[must("path", Kind::Str), must("property", Kind::Str)], |c, a| {
        let on = c.filter_status(text(a, "path"), text(a, "property"))?;
        Ok(if on { "on" } else { "off" }.into())
    }),
    row(
        "qom-set",
        &[must("path", Kind::Str), must("property", Kind::Str), must("value", Kind::Any)],
        |c, a| {
            let on = match a.get("value") {
                Some(Value::Bool(on)) => *on,
                Some(Value::String(text)) if text == "on" || text == "off" => text == "on",
                _ => return Err(CommandError::Generic("Parameter 'value' expects 'on' or 'off'".into())),
            };
            done(c.set_filter_status(text(a, "path"), text(a, "property"), on))
        },
    ),
    row("query-rx-filter", &[may("name", Kind::Str)], rx_filter),
    row("query-netdev", &[], |c, _| Ok(netdev(c))),
    row(
        "announce-self",
        &[
            must("initial", Kind::Int),
            must("max", Kind::Int),
            must("rounds", Kind::Int),
            must("step", Kind::Int),
            may("interfaces", Kind::List),
            may("id", Kind::Str),
        ],
        announce_self,
    ),
];

fn names() -> impl Iterator<Item = &'static str> {
    ["qmp_capabilities", "human-monitor-command"].into_iter().chain(COMMANDS.iter().map(|row| row.name))
}

/// Runs the command `name`.
///
/// # Errors
/// Unknown commands, arguments that do not fit, and the command's own.
pub(super) fn execute(commands: &Commands, name: &str, arguments: Arguments) -> Result<Value, CommandError> {
    let Some(row) = COMMANDS.iter().find(|row| row.name == name) else {
        let hint = did_you_mean(name, names(), "query-commands lists what there is");
        return Err(CommandError::NotFound(format!("The command {name} has not been found; {hint}")));
    };
    if let Some(args) = row.args {
        check(args, &arguments)?;
    }
    (row.run)(commands, &arguments)
}

/// Holds arguments against their table.
///
/// # Errors
/// The first that is missing, of the wrong type, or unknown.
pub(super) fn check(table: &[Arg], arguments: &Arguments) -> Result<(), CommandError> {
    let wrong = |text: String| Err(CommandError::Generic(text));
    for arg in table {
        match arguments.get(arg.name) {
            None if arg.required => return wrong(format!("Parameter '{}' is missing", arg.name)),
            Some(value) if !arg.kind.fits(value) => {
                let (name, kind) = (arg.name, arg.kind.name());
                return wrong(format!("Invalid parameter type for '{name}', expected: {kind}"));
            }
            _ => {}
        }
    }
    match arguments.keys().find(|name| table.iter().all(|arg| arg.name != **name)) {
        Some(name) => wrong(format!("Parameter '{name}' is unexpected")),
        None => Ok(()),
    }
}

/// A string that `check` has found to be there.
fn text<'a>(arguments: &'a Arguments, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn done(result: Result<(), CommandError>) -> Result<Value, CommandError> {
    result.map(|()| json!({}))
}

fn status(state: RunState) -> Value {
    json!({"status": state, "running": state == RunState::Running, "singlestep": false})
}

fn cpus(commands: &Commands) -> Value {
    let one = |cpu: super::CpuInfo| {
        json!({
            "cpu-index": cpu.index,
            "qom-path": format!("/machine/unattached/device[{}]", cpu.index),
            "thread-id": cpu.thread_id,
            "target": "x86_64",
            "props": {"socket-id": cpu.index, "core-id": 0, "thread-id": 0},
        })
    };
    commands.machine.cpus().into_iter().map(one).collect()
}

fn pci(functions: &[PciInfo]) -> Value {
    let devices: Vec<Value> = functions.iter().map(pci_device).collect();
    json!([{"bus": 0, "devices": devices}])
}

fn pci_device(function: &PciInfo) -> Value {
    let region = |bar: &super::PciBarInfo| {
        let kind = if bar.io { "io" } else { "memory" };
        json!({"bar": bar.index, "type": kind, "address": bar.base, "size": bar.size})
    };
    let mut device = json!({
        "bus": 0,
        "slot": function.slot,
        "function": 0,
        "class_info": {"class": function.class},
        "id": {"vendor": function.id.0, "device": function.id.1},
        "qdev_id": "",
        "irq_pin": function.interrupt.map_or(0, |(pin, _)| pin),
        "regions": function.bars.iter().map(region).collect::<Vec<_>>(),
    });
    if let (Some((_, line)), Some(object)) = (function.interrupt, device.as_object_mut()) {
        object.insert("irq".into(), line.into());
    }
    device
}

/// Ours: who is joined with whom, and what passed.
fn netdev(commands: &Commands) -> Value {
    let nics = commands.machine.nics();
    let one = |end: EndSnapshot| {
        let nic = nics.iter().find(|nic| end.kind == "nic" && nic.name == end.name);
        let counters = match (nic, &end.counters) {
            (Some(nic), _) => Value::Object(nic.counters.clone()),
            (None, Some(stats)) => {
                json!({"to-peer": direction(&stats.to_peer), "from-peer": direction(&stats.from_peer)})
            }
            (None, None) => Value::Null,
        };
        json!({
            "id": end.name,
            "type": end.kind,
            "description": end.what,
            "peer": end.peer,
            "hub": end.hub,
            "link": end.link_up,
            "filters": end.filters,
            "counters": counters,
        })
    };
    commands.network.snapshot().ends.into_iter().map(one).collect()
}

fn direction(stats: &DirectionStats) -> Value {
    let DirectionStats { frames, bytes, units, gso_units, full, dropped } = stats;
    let dropped: Map<String, Value> =
        dropped.iter().map(|&(why, count)| (why.to_owned(), count.into())).collect();
    json!({
        "wire-frames": frames,
        "bytes": bytes,
        "units": units,
        "gso-units": gso_units,
        "full": full,
        "dropped": dropped,
    })
}

fn mac_text(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn rx_filter(commands: &Commands, arguments: &Arguments) -> Result<Value, CommandError> {
    let name = arguments.get("name").and_then(Value::as_str);
    let found = commands.rx_filters(name)?;
    Ok(found.iter().map(one_rx_filter).collect())
}

fn one_rx_filter(nic: &RxFilterInfo) -> Value {
    let mode = |all: bool, some: bool| match (all, some) {
        (true, _) => "all",
        (false, true) => "normal",
        (false, false) => "none",
    };
    // The station's own address has a member of its own.
    let unicast = nic.unicast.iter().filter(|mac| **mac != nic.mac);
    json!({
        "name": nic.name,
        "promiscuous": nic.all_unicast && nic.all_multicast,
        "multicast": mode(nic.all_multicast, nic.hash || !nic.multicast.is_empty()),
        "unicast": mode(nic.all_unicast, !nic.unicast.is_empty()),
        "vlan": mode(!nic.vlan_filter, !nic.vlans.is_empty()),
        "broadcast-allowed": nic.broadcast,
        "multicast-overflow": nic.hash,
        "unicast-overflow": false,
        "main-mac": mac_text(&nic.mac),
        "vlan-table": nic.vlans,
        "unicast-table": unicast.map(mac_text).collect::<Vec<_>>(),
        "multicast-table": nic.multicast.iter().map(mac_text).collect::<Vec<_>>(),
    })
}

fn announce_self(commands: &Commands, arguments: &Arguments) -> Result<Value, CommandError> {
    // QEMU's limits.
    let number = |name: &str, least: u64, most: u64| {
        let value = arguments.get(name).and_then(Value::as_u64).filter(|n| (least..=most).contains(n));
        value.ok_or_else(|| {
            CommandError::Generic(format!("Parameter '{name}' expects a value between {least} and {most}"))
        })
    };
    let how = Announcement {
        initial: Duration::from_millis(number("initial", 1, 100_000)?),
        max: Duration::from_millis(number("max", 1, 100_000)?),
        rounds: number("rounds", 1, 1000)? as u32,
        step: Duration::from_millis(number("step", 0, 10_000)?),
    };
    let names = arguments.get("interfaces").and_then(Value::as_array).map(|list| {
        list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
    });
    match names {
        Some(None) => {
            Err(CommandError::Generic("Invalid parameter type for 'interfaces', expected: string".into()))
        }
        Some(Some(names)) => done(commands.announce_self(Some(&names), how)),
        None => done(commands.announce_self(None, how)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing::{Told, commands};

    fn ask(commands: &Commands, name: &str, arguments: Value) -> Result<Value, CommandError> {
        let Value::Object(arguments) = arguments else { panic!("{arguments}") };
        execute(commands, name, arguments)
    }

    #[test]
    fn every_command_of_the_table_is_listed_and_known() {
        let (commands, _) = commands();
        let listed = ask(&commands, "query-commands", json!({})).unwrap();
        for name in listed.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()) {
            let found = ask(&commands, name, json!({}));
            let own = ["qmp_capabilities", "human-monitor-command"].contains(&name);
            assert_eq!(matches!(found, Err(CommandError::NotFound(_))), own, "{name}");
        }
        assert!(listed.as_array().unwrap().len() > 15);
    }

    #[test]
    fn life_cycle_commands_reach_the_machine() {
        let (commands, machine) = commands();
        for name in ["stop", "cont", "system_reset", "system_powerdown", "quit"] {
            assert_eq!(ask(&commands, name, json!({})), Ok(json!({})), "{name}");
        }
        let expected = [Told::Stop, Told::Cont, Told::Reset, Told::PowerButton, Told::Quit];
        assert_eq!(machine.told(), expected);
        let status = ask(&commands, "query-status", json!({})).unwrap();
        assert_eq!((&status["status"], &status["running"]), (&json!("running"), &json!(true)));
    }

    #[test]
    fn address_filters_have_qmp_s_members() {
        let (commands, _) = commands();
        let filters = ask(&commands, "query-rx-filter", json!({"name": "nic0"})).unwrap();
        let expected = json!({
            "name": "nic0", "promiscuous": false, "multicast": "normal", "unicast": "normal", "vlan": "normal",
            "broadcast-allowed": true, "multicast-overflow": true, "unicast-overflow": false,
            "main-mac": "52:54:00:00:00:01", "vlan-table": [0, 5], "unicast-table": ["02:00:00:00:00:02"],
            "multicast-table": ["01:00:5e:00:00:01"],
        });
        assert_eq!(filters, json!([expected]));
        let error = ask(&commands, "query-rx-filter", json!({"name": "nic1"})).unwrap_err();
        assert_eq!(error.class(), "DeviceNotFound");
    }

    #[test]
    fn announcements_go_to_the_nics_that_are_named() {
        let (commands, machine) = commands();
        let args = |interfaces: Value| json!({"initial": 1, "max": 2, "rounds": 3, "step": 1, "interfaces": interfaces});
        assert_eq!(ask(&commands, "announce-self", args(json!(["nic0"]))), Ok(json!({})));
        let begin = std::time::Instant::now();
        while machine.told().len() < 3 {
            assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", machine.told());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(machine.told().iter().all(|told| *told == Told::Frame("nic0".into(), 60)));
        let error = ask(&commands, "announce-self", args(json!(["nic1"]))).unwrap_err();
        assert_eq!(error.class(), "DeviceNotFound");
        assert!(ask(&commands, "announce-self", args(json!([1]))).is_err());
        let error = ask(&commands, "announce-self", json!({"initial": 0, "max": 1, "rounds": 1, "step": 1}));
        assert!(error.unwrap_err().to_string().contains("'initial' expects a value between 1"));
    }
}
