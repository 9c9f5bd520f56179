//! The texts that explain the command line.
//!
//! Called by `options` when help is asked for. Everything that lists something is made from the table that the
//! parser reads, so that it cannot say anything else. Pure: returns text, always ending with a newline.

use super::chardev::KINDS;
use super::device::{MODELS, Model};
use super::keyval::Key;
use super::machine::{self, CPU_MODELS, TYPES};
use super::net;
use super::netdev::{BACKENDS, Backend};
use super::options::{Group, OPTIONS, Spec};
use super::socket_chardev;
use super::{fault, object, observe};

/// `-version`.
pub(super) fn version() -> String {
    concat!("minivmm ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

const INTRODUCTION: &str = "\
A small machine emulator for people who write and test network drivers.

  minivmm -kernel FILE [OPTION]...

Options come in any order, with one dash or two, and are written as in QEMU: KEY=VALUE pairs are separated by
commas, ',,' is a comma in a value, switches are on or off, -netdev and -device also take a JSON object.

Boot a guest whose NIC is connected to the host (guest 10.0.2.15, host 10.0.2.2):

  minivmm -kernel target/guest/bzImage -netdev tap,id=n0 -device e1000,netdev=n0

The same without root, with a tap made once for you:

  sudo ip tuntap add dev tap0 mode tap user $USER
  sudo ip address add 10.0.2.2/24 dev tap0
  sudo ip link set tap0 up
  minivmm -kernel target/guest/bzImage -netdev tap,id=n0,ifname=tap0 -device e1000,netdev=n0

Two NICs, an address of your choice, and an end after a minute and a half:

  minivmm -kernel bzImage -append 'ip=10.9.0.2::10.9.0.1:255.255.255.0::eth0:off' -timeout 1m30s \\
    -netdev tap,id=a,address=10.9.0.1/24 -device e1000,netdev=a \\
    -netdev tap,id=b,address=none -device e1000,netdev=b,mac=52:54:00:00:00:02
";

const GROUPS: &[(Group, &str)] = &[
    (Group::Boot, "What to boot"),
    (Group::Machine, "The machine"),
    (Group::Network, "The network"),
    (Group::Console, "Serial ports and monitors"),
    (Group::Run, "The run"),
    (Group::Help, "Help"),
];

const NETWORK_DEFAULTS: &str = "\
Without -netdev, -nic, -net and a NIC's -device there is an e1000 with user networking (-nic none: no NIC).
A tap without ifname, script and fd is created, brought up with address 10.0.2.2/24 (unless that subnet is on an
interface already) and removed at the end. The guest takes 10.0.2.15/24, gateway 10.0.2.2, unless ip= in -append
says otherwise. NICs get MAC 52:54:00:12:34:56, :57 and so on.
";

const KEYS: &str = "\
Keys on the console:
  Ctrl-A c  switch between console and monitor
  Ctrl-A x  quit
  Ctrl-A h  list the keys
";

/// As docs/exit-status.md has it.
const EXIT_STATUSES: &str = "\
Exit status:
    0    the guest powered off; or reset under -no-reboot; or Ctrl-A x; with -expect: seen, and nothing else
    1    the command line or the set-up was wrong; one line on standard error says how
  122    -d guest_errors=fatal: the driver did something wrong
  123    -expect: not seen
  124    -timeout was reached
  125    internal error
  126    the guest panicked, triple-faulted, or halted every CPU with interrupts off
  128+n  signal n ended the run
  other  the guest's own: minivmm.run's, or isa-debug-exit's 2n+1
";

/// `-help`.
pub(super) fn overview() -> String {
    let mut text = version() + INTRODUCTION;
    for (group, title) in GROUPS {
        text += &format!("\n{title}:\n");
        let options: Vec<(String, &str)> = OPTIONS
            .iter()
            .filter(|spec| spec.group == *group)
            .map(|spec| (synopsis(spec), spec.text))
            .collect();
        text += &columns(&options);
    }
    [text.as_str(), NETWORK_DEFAULTS, KEYS, EXIT_STATUSES].join("\n")
}

fn synopsis(spec: &Spec) -> String {
    let names: Vec<String> =
        spec.aliases.iter().copied().chain([spec.name]).map(|name| format!("-{name}")).collect();
    format!("{} {}", names.join(", "), spec.value).trim_end().to_owned()
}

/// Two columns; a left side that is too long gets a line of its own.
fn columns(rows: &[(String, &str)]) -> String {
    const WIDEST: usize = 30;
    let fitting = rows.iter().map(|(left, _)| left.len()).filter(|width| *width <= WIDEST);
    let width = fitting.max().unwrap_or(0);
    rows.iter()
        .map(|(left, right)| match left.len() {
            0..=WIDEST => format!("  {left:width$}  {right}\n"),
            _ => format!("  {left}\n  {:width$}  {right}\n", ""),
        })
        .collect()
}

/// `-device help`.
pub(super) fn devices() -> String {
    let line = |model: &Model| {
        let aliases: String = model.aliases.iter().map(|alias| format!(", alias \"{alias}\"")).collect();
        format!("name \"{}\", bus {}{aliases}, desc \"{}\"\n", model.name, model.bus, model.text)
    };
    MODELS.iter().map(line).collect()
}

/// `-device MODEL,help`.
pub(super) fn device_keys(model: &Model) -> String {
    format!("{} options:\n{}", model.name, keys(model.schema.keys.iter()))
}

/// `-netdev help`.
pub(super) fn backends() -> String {
    let rows: Vec<(String, &str)> =
        BACKENDS.iter().map(|backend| (backend.name.to_owned(), backend.text)).collect();
    format!("Available netdev backend types:\n{}", columns(&rows))
}

/// `-netdev TYPE,help`; `common` are the keys that the option has for every backend.
pub(super) fn backend_keys(backend: &Backend, common: &[Key]) -> String {
    format!("{} options:\n{}", backend.name, keys(common.iter().chain(backend.schema.keys)))
}

/// `-net help` and `-nic help`.
pub(super) fn net_types() -> String {
    backends() + "and none for no network; -net has nic besides.\n"
}

/// `-net nic,help`.
pub(super) fn net_nic_keys() -> String {
    format!("nic options:\n{}", keys(net::NIC.keys.iter()))
}

/// `model=help`.
pub(super) fn nic_models() -> String {
    let nics = MODELS.iter().filter(|model| model.bus == "PCI");
    let rows: Vec<(String, &str)> = nics.map(|model| (model.name.to_owned(), model.text)).collect();
    format!("Available NIC models:\n{}", columns(&rows))
}

/// `-object help`.
pub(super) fn objects() -> String {
    let rows: Vec<(String, &str)> =
        object::TYPES.iter().map(|known| (known.name.to_owned(), known.text)).collect();
    format!("List of user creatable objects:\n{}", columns(&rows))
}

/// `-object TYPE,help`.
pub(super) fn object_keys(known: &object::Type) -> String {
    format!("{} options:\n{}", known.name, keys(object::COMMON.iter().chain(known.schema.keys)))
}

/// `-fault help`.
pub(super) fn faults() -> String {
    let rows: Vec<(String, &str)> =
        fault::KINDS.iter().map(|known| (known.name.to_owned(), known.text)).collect();
    format!("Faults:\n{}", columns(&rows))
}

/// `-fault KIND,help`.
pub(super) fn fault_keys(known: &fault::Type) -> String {
    format!("-fault {} options:\n{}", known.name, keys(known.common.iter().chain(known.schema.keys)))
}

/// `-chardev help`.
pub(super) fn chardevs() -> String {
    format!(
        "Available chardev backend types:\n{}",
        columns(&[("socket".to_owned(), "frames over a TCP or Unix connection, for filters")])
    )
}

/// `-chardev socket,help`.
pub(super) fn chardev_keys() -> String {
    format!("socket options:\n{}", keys(socket_chardev::SCHEMA.keys.iter()))
}

/// The keys in QEMU's form, sorted: `name=<type> - text (default: value)`.
fn keys<'a>(keys: impl Iterator<Item = &'a Key>) -> String {
    let mut sorted: Vec<&Key> = keys.collect();
    sorted.sort_by_key(|key| key.name);
    let line = |key: &Key| {
        let default = match key.default {
            "" => String::new(),
            default => format!(" (default: {default})"),
        };
        format!("  {:22} - {}{default}\n", format!("{}=<{}>", key.name, key.kind), key.text)
    };
    sorted.into_iter().map(line).collect()
}

/// `-d help`.
pub(super) fn log() -> String {
    format!("-d options:\n{}", keys(observe::LOG.keys.iter()))
}

/// `-trace help`, without the events.
pub(super) fn trace() -> String {
    format!("-trace options:\n{}", keys(observe::TRACE.keys.iter()))
}

/// `-machine help`.
pub(super) fn machine() -> String {
    let types: Vec<(String, &str)> = TYPES.iter().map(|(name, text)| ((*name).to_owned(), *text)).collect();
    format!(
        "Supported machines are:\n{}-machine options:\n{}",
        columns(&types),
        keys(machine::MACHINE.keys.iter())
    )
}

/// `-cpu help`.
pub(super) fn cpu() -> String {
    let rows: Vec<(String, &str)> =
        CPU_MODELS.iter().map(|(name, _, text)| ((*name).to_owned(), *text)).collect();
    format!("Available CPUs:\n{}", columns(&rows))
}

/// `-serial help`.
pub(super) fn serial() -> String {
    let rows: Vec<(String, &str)> = KINDS.iter().map(|(form, text)| ((*form).to_owned(), *text)).collect();
    format!("A serial port or a monitor leads to:\n{}", columns(&rows))
}
