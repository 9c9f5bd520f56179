//! The options: one table, the only place that knows which options exist; help and "did you mean" read it too.
//!
//! [`words`] walks the command line along it, and is called by [`parse`](super::parse); [`effects`] is what each option
//! does. Pure.

mod effects;
mod words;

use std::path::PathBuf;

use super::config::Command;
use super::draft::Draft;
use super::error::{CliError, Context};

pub(super) use words::{dashless, parse};

/// An option that exists.
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    /// What follows it, as the help shows it; empty for a flag.
    pub(super) value: &'static str,
    pub(super) group: Group,
    pub(super) text: &'static str,
    pub(super) apply: Apply,
}

/// Where the help shows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Boot,
    Machine,
    Network,
    Console,
    Run,
    Help,
}

/// What an option does to the draft. An answer ends the walk.
pub(super) enum Apply {
    Flag(fn(&mut Draft) -> Option<Command>),
    Text(fn(&mut Draft, &Context, &str) -> Result<Option<Command>, CliError>),
    /// Bytes that need not be UTF-8.
    Path(fn(&mut Draft, PathBuf)),
}

const fn option(
    name: &'static str,
    value: &'static str,
    group: Group,
    text: &'static str,
    apply: Apply,
) -> Spec {
    Spec { name, aliases: &[], value, group, text, apply }
}

const fn alias(spec: Spec, aliases: &'static [&'static str]) -> Spec {
    Spec { aliases, ..spec }
}

pub(super) static OPTIONS: &[Spec] = &[
    option(
        "kernel",
        "FILE",
        Group::Boot,
        "bzImage or ELF kernel to boot (required, unless there is -bios)",
        Apply::Path(effects::set_kernel),
    ),
    option("initrd", "FILE", Group::Boot, "initial RAM disk", Apply::Path(effects::set_initrd)),
    option("append", "TEXT", Group::Boot, "the kernel's command line", Apply::Text(effects::set_append)),
    option(
        "bios",
        "FILE",
        Group::Boot,
        "start with a firmware's image, such as SeaBIOS's bios-256k.bin, instead of a kernel",
        Apply::Path(effects::set_bios),
    ),
    option(
        "fw_cfg",
        "opt/NAME,file=FILE|string=TEXT",
        Group::Boot,
        "a file that the guest reads from fw_cfg",
        Apply::Text(effects::add_fw_cfg),
    ),
    option(
        "m",
        "SIZE",
        Group::Machine,
        "guest memory, in MiB without a suffix (default: 256)",
        Apply::Text(effects::set_memory),
    ),
    option("smp", "N", Group::Machine, "number of CPUs, 1 to 32 (default: 1)", Apply::Text(effects::set_smp)),
    option("cpu", "MODEL", Group::Machine, "host (default) or max; -cpu help", Apply::Text(effects::set_cpu)),
    option(
        "accel",
        "NAME[:NAME]",
        Group::Machine,
        "what runs the guest, the first that works; -accel help",
        Apply::Text(effects::set_accel),
    ),
    option("enable-kvm", "", Group::Machine, "the same as -accel kvm", Apply::Flag(effects::enable_kvm)),
    alias(
        option(
            "machine",
            "[TYPE][,KEY=VALUE]",
            Group::Machine,
            "pc (default) and its settings; -machine help",
            Apply::Text(effects::set_machine),
        ),
        &["M"],
    ),
    option(
        "device",
        "MODEL[,KEY=VALUE]",
        Group::Machine,
        "add a device; -device help, -device MODEL,help",
        Apply::Text(effects::add_device),
    ),
    option(
        "netdev",
        "TYPE,id=ID[,KEY=VALUE]",
        Group::Network,
        "add a network backend; -netdev help, -netdev TYPE,help",
        Apply::Text(effects::add_netdev),
    ),
    option(
        "nic",
        "[TYPE][,model=MODEL][,mac=MAC][,KEY=VALUE]",
        Group::Network,
        "add a NIC with its backend; none: no default NIC; -nic help, -nic TYPE,help",
        Apply::Text(effects::add_nic),
    ),
    option(
        "net",
        "nic|TYPE[,vlan=HUB][,KEY=VALUE]",
        Group::Network,
        "the old form: a NIC or a backend on a hub; -net help, -net TYPE,help",
        Apply::Text(effects::add_net),
    ),
    option(
        "fault",
        "KIND[,netdev=ID|device=ID][,KEY=VALUE]",
        Group::Network,
        "let something go wrong, repeatably; -fault help, -fault KIND,help",
        Apply::Text(effects::add_fault),
    ),
    option(
        "object",
        "TYPE,id=ID,netdev=ID[,KEY=VALUE]",
        Group::Network,
        "add a filter to a netdev's cable; -object help, -object TYPE,help",
        Apply::Text(effects::add_object),
    ),
    option(
        "chardev",
        "socket,id=ID[,KEY=VALUE]",
        Group::Network,
        "a connection for filter-mirror and filter-redirector; -chardev socket,help",
        Apply::Text(effects::add_chardev),
    ),
    option(
        "serial",
        "WHERE",
        Group::Console,
        "the next serial port (default: one on stdio); -serial help",
        Apply::Text(effects::add_serial),
    ),
    option(
        "monitor",
        "WHERE",
        Group::Console,
        "a monitor for people (default: Ctrl-A c on the console); none: no monitor",
        Apply::Text(effects::add_monitor),
    ),
    option(
        "qmp",
        "WHERE",
        Group::Console,
        "a monitor for programs, such as unix:PATH,server=on,wait=off",
        Apply::Text(effects::add_qmp),
    ),
    option(
        "nographic",
        "",
        Group::Console,
        "accepted; there is never a display",
        Apply::Flag(effects::set_nographic),
    ),
    option(
        "nodefaults",
        "",
        Group::Console,
        "no serial port and no NIC unless an option asks for it",
        Apply::Flag(effects::set_nodefaults),
    ),
    option(
        "S",
        "",
        Group::Run,
        "do not start before a monitor or gdb says so",
        Apply::Flag(effects::set_stopped),
    ),
    option("s", "", Group::Run, "the same as -gdb tcp::1234", Apply::Flag(effects::set_default_gdb)),
    option(
        "gdb",
        "tcp:[HOST]:PORT|unix:PATH",
        Group::Run,
        "let gdb connect there (default host: 127.0.0.1); docs/debugging.md",
        Apply::Text(effects::set_gdb),
    ),
    option(
        "no-reboot",
        "",
        Group::Run,
        "a reset of the guest ends the run",
        Apply::Flag(effects::set_no_reboot),
    ),
    option(
        "timeout",
        "TIME",
        Group::Run,
        "end the run after 90 (seconds), 1m30s or 500ms",
        Apply::Text(effects::set_timeout),
    ),
    option(
        "expect",
        "[within=TIME,]REGEX",
        Group::Run,
        "end the run with success once REGEX was seen on the console; several: in this order",
        Apply::Text(effects::add_expect),
    ),
    option(
        "on-failure",
        "DIR",
        Group::Run,
        "a run that ends with a status other than 0 leaves its serial output and captures there",
        Apply::Path(effects::set_on_failure),
    ),
    option(
        "result",
        "FILE",
        Group::Run,
        "how the run ended and its counters, as JSON; SIGUSR1 writes it at once",
        Apply::Path(effects::set_result),
    ),
    option(
        "d",
        "ITEM[,ITEM]",
        Group::Run,
        "guest_errors[=fatal]: say what the driver does wrong with the NIC; -d help",
        Apply::Text(effects::set_log),
    ),
    option(
        "trace",
        "PATTERN[,file=FILE][,format=text|json|pcapng]",
        Group::Run,
        "tell what happens in the NIC, as in 'e1000_*'; -trace help",
        Apply::Text(effects::add_trace),
    ),
    alias(option("help", "", Group::Help, "this text", Apply::Flag(effects::print_help)), &["h"]),
    option("version", "", Group::Help, "the version", Apply::Flag(effects::print_version)),
];
