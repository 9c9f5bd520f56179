//! The options: one table, and the loop that walks the command line along it.
//!
//! Called by [`parse`](super::parse). The table is the only place that knows which options exist; help and "did
//! you mean" read it too. Values go to the parsers of each option, and what refers to several options
//! is left to `check`. Pure.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::config::{AccelChoice, Chardev, Command, Device, MAX_SERIALS, MonitorConfig};
use super::draft::{Draft, Given};
use super::error::{CliError, Context, Wrong, quoted};
use super::{
    absent, chardev, check, device, expect, fault, help, machine, net, netdev, object, observe,
    socket_chardev, values,
};

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
        Apply::Path(set_kernel),
    ),
    option("initrd", "FILE", Group::Boot, "initial RAM disk", Apply::Path(set_initrd)),
    option("append", "TEXT", Group::Boot, "the kernel's command line", Apply::Text(set_append)),
    option(
        "bios",
        "FILE",
        Group::Boot,
        "start with a firmware's image, such as SeaBIOS's bios-256k.bin, instead of a kernel",
        Apply::Path(set_bios),
    ),
    option(
        "fw_cfg",
        "opt/NAME,file=FILE|string=TEXT",
        Group::Boot,
        "a file that the guest reads from fw_cfg",
        Apply::Text(add_fw_cfg),
    ),
    option(
        "m",
        "SIZE",
        Group::Machine,
        "guest memory, in MiB without a suffix (default: 256)",
        Apply::Text(set_memory),
    ),
    option("smp", "N", Group::Machine, "number of CPUs, 1 to 32 (default: 1)", Apply::Text(set_smp)),
    option("cpu", "MODEL", Group::Machine, "host (default) or max; -cpu help", Apply::Text(set_cpu)),
    option(
        "accel",
        "NAME[:NAME]",
        Group::Machine,
        "what runs the guest, the first that works; -accel help",
        Apply::Text(set_accel),
    ),
    option("enable-kvm", "", Group::Machine, "the same as -accel kvm", Apply::Flag(enable_kvm)),
    alias(
        option(
            "machine",
            "[TYPE][,KEY=VALUE]",
            Group::Machine,
            "pc (default) and its settings; -machine help",
            Apply::Text(set_machine),
        ),
        &["M"],
    ),
    option(
        "device",
        "MODEL[,KEY=VALUE]",
        Group::Machine,
        "add a device; -device help, -device MODEL,help",
        Apply::Text(add_device),
    ),
    option(
        "netdev",
        "TYPE,id=ID[,KEY=VALUE]",
        Group::Network,
        "add a network backend; -netdev help, -netdev TYPE,help",
        Apply::Text(add_netdev),
    ),
    option(
        "nic",
        "[TYPE][,model=MODEL][,mac=MAC][,KEY=VALUE]",
        Group::Network,
        "add a NIC with its backend; none: no default NIC; -nic help, -nic TYPE,help",
        Apply::Text(add_nic),
    ),
    option(
        "net",
        "nic|TYPE[,vlan=HUB][,KEY=VALUE]",
        Group::Network,
        "the old form: a NIC or a backend on a hub; -net help, -net TYPE,help",
        Apply::Text(add_net),
    ),
    option(
        "fault",
        "KIND,netdev=ID[,key=value...]",
        Group::Network,
        "let something go wrong, repeatably; -fault help, -fault KIND,help",
        Apply::Text(add_fault),
    ),
    option(
        "object",
        "TYPE,id=ID,netdev=ID[,KEY=VALUE]",
        Group::Network,
        "add a filter to a netdev's cable; -object help, -object TYPE,help",
        Apply::Text(add_object),
    ),
    option(
        "chardev",
        "socket,id=ID[,KEY=VALUE]",
        Group::Network,
        "a connection for filter-mirror and filter-redirector; -chardev socket,help",
        Apply::Text(add_chardev),
    ),
    option(
        "serial",
        "WHERE",
        Group::Console,
        "the next serial port (default: one on stdio); -serial help",
        Apply::Text(add_serial),
    ),
    option(
        "monitor",
        "WHERE",
        Group::Console,
        "a monitor for people (default: Ctrl-A c on the console); none: no monitor",
        Apply::Text(add_monitor),
    ),
    option(
        "qmp",
        "WHERE",
        Group::Console,
        "a monitor for programs, such as unix:PATH,server=on,wait=off",
        Apply::Text(add_qmp),
    ),
    option("nographic", "", Group::Console, "accepted; there is never a display", Apply::Flag(set_nographic)),
    option(
        "nodefaults",
        "",
        Group::Console,
        "no serial port and no NIC unless an option asks for it",
        Apply::Flag(set_nodefaults),
    ),
    option("S", "", Group::Run, "do not start before a monitor or gdb says so", Apply::Flag(set_stopped)),
    option("s", "", Group::Run, "the same as -gdb tcp::1234", Apply::Flag(set_default_gdb)),
    option(
        "gdb",
        "tcp:[HOST]:PORT|unix:PATH",
        Group::Run,
        "wait for gdb there (default host: 127.0.0.1); docs/debugging.md",
        Apply::Text(set_gdb),
    ),
    option("no-reboot", "", Group::Run, "a reset of the guest ends the run", Apply::Flag(set_no_reboot)),
    option("timeout", "TIME", Group::Run, "end the run after 90, 1m30s or 500ms", Apply::Text(set_timeout)),
    option(
        "expect",
        "[within=TIME,]REGEX",
        Group::Run,
        "end the run with success once REGEX was seen on the console; several: in this order",
        Apply::Text(add_expect),
    ),
    option(
        "on-failure",
        "DIR",
        Group::Run,
        "a run that ends with a status other than 0 leaves its serial output and captures there",
        Apply::Path(set_on_failure),
    ),
    option(
        "result",
        "FILE",
        Group::Run,
        "how the run ended and its counters, as JSON; SIGUSR1 writes it at once",
        Apply::Path(set_result),
    ),
    option(
        "d",
        "ITEM[,ITEM]",
        Group::Run,
        "guest_errors[=fatal]: say what the driver does wrong with the NIC; -d help",
        Apply::Text(set_log),
    ),
    option(
        "trace",
        "PATTERN[,file=FILE][,format=text|json|pcapng]",
        Group::Run,
        "tell what happens in the NIC, as in 'e1000_*'; -trace help",
        Apply::Text(add_trace),
    ),
    alias(option("help", "", Group::Help, "this text", Apply::Flag(print_help)), &["h"]),
    option("version", "", Group::Help, "the version", Apply::Flag(print_version)),
];

/// Walks the command line (without the program's name).
pub(super) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Command, CliError> {
    let mut draft = Draft::default();
    while let Some(word) = args.next() {
        let word = word.to_string_lossy().into_owned();
        let Some(spec) = find(&word) else {
            if !absent::accepts(&word, &mut args)? {
                return Err(absent::refuse(&word));
            }
            continue;
        };
        if let Some(answer) = apply(spec, &word, &mut args, &mut draft)? {
            return Ok(answer);
        }
    }
    check::finish(draft).map(|config| Command::Run(Box::new(config)))
}

/// The option that `word` names, with one dash or two.
fn find(word: &str) -> Option<&'static Spec> {
    let name = dashless(word)?;
    OPTIONS.iter().find(|spec| spec.name == name || spec.aliases.contains(&name))
}

/// `word` without its one or two dashes; None if it has none.
pub(super) fn dashless(word: &str) -> Option<&str> {
    word.strip_prefix("--").or_else(|| word.strip_prefix('-'))
}

fn apply(
    spec: &Spec,
    word: &str,
    args: &mut impl Iterator<Item = OsString>,
    draft: &mut Draft,
) -> Result<Option<Command>, CliError> {
    match spec.apply {
        Apply::Flag(apply) => Ok(apply(draft)),
        Apply::Text(apply) => {
            let value = value_of(spec, word, args)?;
            let context = Context::new(&format!("{word} {}", value.to_string_lossy()));
            let text = value
                .to_str()
                .ok_or_else(|| context.error(Wrong::new("the value is not UTF-8", "retype or rename it")))?;
            apply(draft, &context, text)
        }
        Apply::Path(apply) => {
            let value = value_of(spec, word, args)?;
            if value.is_empty() {
                return Err(
                    Context::new(word).error(Wrong::new("the path is empty", format!("write {word} FILE")))
                );
            }
            apply(draft, PathBuf::from(value));
            Ok(None)
        }
    }
}

/// The word after the option, unless it is missing or plainly the next option.
fn value_of(
    spec: &Spec,
    word: &str,
    args: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, CliError> {
    let context = Context::new(word);
    let how = format!("write {word} {}", spec.value);
    let value = args.next().ok_or_else(|| context.error(Wrong::new("the value is missing", &*how)))?;
    match find(&value.to_string_lossy()) {
        Some(_) => {
            let problem =
                format!("the value is missing: {} is the next option", quoted(&value.to_string_lossy()));
            Err(context.error(Wrong::new(problem, how)))
        }
        None => Ok(value),
    }
}

fn set_kernel(draft: &mut Draft, path: PathBuf) {
    draft.kernel = Some(path);
}

fn set_bios(draft: &mut Draft, path: PathBuf) {
    draft.bios = Some(path);
}

fn set_initrd(draft: &mut Draft, path: PathBuf) {
    draft.initrd = Some(path);
}

fn set_append(draft: &mut Draft, _: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.append = text.to_owned();
    Ok(None)
}

fn add_fw_cfg(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let file = machine::fw_cfg(context, text)?;
    if draft.fw_cfg.iter().any(|other| other.name == file.name) {
        let problem = format!("there is already a file {}", quoted(&file.name));
        return Err(context.error(Wrong::new(problem, "give each its own name")));
    }
    draft.fw_cfg.push(file);
    Ok(None)
}

fn set_memory(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.memory = machine::memory(context, text)?;
    Ok(None)
}

fn set_smp(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.smp = machine::smp(context, text)?;
    Ok(None)
}

fn set_cpu(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let Some(model) = machine::cpu(context, text)? else {
        return Ok(Some(Command::Print(help::cpu())));
    };
    draft.cpu = model;
    Ok(None)
}

fn set_accel(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let Some(list) = machine::accel(context, text)? else {
        return Ok(Some(Command::AccelHelp));
    };
    draft.try_accel(list);
    Ok(None)
}

fn enable_kvm(draft: &mut Draft) -> Option<Command> {
    draft.try_accel(vec![AccelChoice::Kvm]);
    None
}

fn set_machine(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let Some(request) = machine::machine(context, text)? else {
        return Ok(Some(Command::Print(help::machine())));
    };
    draft.try_accel(request.accel.unwrap_or_default());
    draft.machine.kernel_unpack = request.kernel_unpack.unwrap_or(draft.machine.kernel_unpack);
    Ok(None)
}

fn add_device(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match device::parse(context, text)? {
        device::Request::ListModels => return Ok(Some(Command::Print(help::devices()))),
        device::Request::ListKeys(model) => return Ok(Some(Command::Print(help::device_keys(model)))),
        device::Request::Add(device) => {
            draft.says_network |= matches!(device, Device::E1000(_));
            draft.devices.push(Given::new(context, device));
        }
    }
    Ok(None)
}

fn add_netdev(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match netdev::parse(context, text)? {
        netdev::Request::ListBackends => return Ok(Some(Command::Print(help::backends()))),
        netdev::Request::ListKeys(backend) => {
            return Ok(Some(Command::Print(help::backend_keys(backend, netdev::COMMON))));
        }
        netdev::Request::Add(netdev) => draft.netdevs.push(Given::new(context, netdev)),
    }
    draft.says_network = true;
    Ok(None)
}

fn add_nic(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let request = net::parse_nic(context, text)?;
    add_short_form(draft, context, request)
}

fn add_net(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let request = net::parse_net(context, text)?;
    if let net::Request::Add(_) = request {
        draft.legacy.get_or_insert_with(|| context.echo().to_owned());
    }
    add_short_form(draft, context, request)
}

fn add_short_form(
    draft: &mut Draft,
    context: &Context,
    request: net::Request,
) -> Result<Option<Command>, CliError> {
    match request {
        net::Request::Add(net) => draft.nets.push(Given::new(context, *net)),
        net::Request::Nothing => {}
        net::Request::ListTypes => return Ok(Some(Command::Print(help::net_types()))),
        net::Request::ListModels => return Ok(Some(Command::Print(help::nic_models()))),
        net::Request::ListNicKeys => return Ok(Some(Command::Print(help::net_nic_keys()))),
        net::Request::ListKeys(backend, common) => {
            return Ok(Some(Command::Print(help::backend_keys(backend, common))));
        }
    }
    draft.says_network = true;
    Ok(None)
}

fn add_fault(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match fault::parse(context, text, draft.faults.len())? {
        fault::Request::ListTypes => return Ok(Some(Command::Print(help::faults()))),
        fault::Request::ListKeys(known) => return Ok(Some(Command::Print(help::fault_keys(known)))),
        fault::Request::Add(plan) => draft.faults.push(Given::new(context, plan)),
    }
    Ok(None)
}

fn add_object(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match object::parse(context, text)? {
        object::Request::ListTypes => return Ok(Some(Command::Print(help::objects()))),
        object::Request::ListKeys(known) => return Ok(Some(Command::Print(help::object_keys(known)))),
        object::Request::Add(filter) => draft.filters.push(Given::new(context, filter)),
    }
    Ok(None)
}

fn add_chardev(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match socket_chardev::parse(context, text)? {
        socket_chardev::Request::ListTypes => return Ok(Some(Command::Print(help::chardevs()))),
        socket_chardev::Request::ListKeys => return Ok(Some(Command::Print(help::chardev_keys()))),
        socket_chardev::Request::Add(chardev) => draft.chardevs.push(Given::new(context, chardev)),
    }
    Ok(None)
}

fn add_serial(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let Some(serial) = chardev::parse(context, text)? else {
        return Ok(Some(Command::Print(help::serial())));
    };
    if serial == Chardev::Stdio && draft.serials.contains(&Chardev::Stdio) {
        return Err(context.error(Wrong::new("stdio has a serial port already", "put this one elsewhere")));
    }
    if draft.serials.len() == MAX_SERIALS {
        let problem = format!("the machine has {MAX_SERIALS} serial ports and all are taken");
        return Err(context.error(Wrong::new(problem, "remove one")));
    }
    draft.serials.push(serial);
    Ok(None)
}

fn add_monitor(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.monitor_placed = true;
    push_monitor(draft, context, text, false)
}

fn add_qmp(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    push_monitor(draft, context, text, true)
}

fn push_monitor(
    draft: &mut Draft,
    context: &Context,
    text: &str,
    qmp: bool,
) -> Result<Option<Command>, CliError> {
    match chardev::parse(context, text)? {
        None => return Ok(Some(Command::Print(help::serial()))),
        Some(Chardev::None) => {}
        Some(Chardev::File(_)) => {
            let wrong = Wrong::new("nobody can type into a file", "use unix:PATH,server=on,wait=off");
            return Err(context.error(wrong));
        }
        Some(place) => draft.monitors.push(Given::new(context, MonitorConfig { qmp, place })),
    }
    Ok(None)
}

fn set_default_gdb(draft: &mut Draft) -> Option<Command> {
    draft.gdb = Some(chardev::default_gdb());
    None
}

fn set_gdb(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.gdb = chardev::gdb(context, text)?;
    Ok(None)
}

fn set_stopped(draft: &mut Draft) -> Option<Command> {
    draft.stopped = true;
    None
}

fn set_nographic(draft: &mut Draft) -> Option<Command> {
    draft.nographic = true;
    None
}

fn set_nodefaults(draft: &mut Draft) -> Option<Command> {
    draft.nodefaults = true;
    draft.says_network = true;
    None
}

fn set_no_reboot(draft: &mut Draft) -> Option<Command> {
    draft.no_reboot = true;
    None
}

fn set_timeout(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let timeout = values::duration(text, Duration::from_secs(1)).map_err(|wrong| context.error(wrong))?;
    if timeout.is_zero() {
        let wrong = Wrong::new("the run would end before it starts", "leave it out to wait for ever");
        return Err(context.error(wrong));
    }
    draft.timeout = Some(timeout);
    Ok(None)
}

fn set_log(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match observe::log(context, text)? {
        observe::LogRequest::List => return Ok(Some(Command::Print(help::log()))),
        observe::LogRequest::Set { doctor, symbols } => {
            draft.observe.doctor = doctor.or(draft.observe.doctor);
            draft.observe.symbols = symbols.or(draft.observe.symbols.take());
        }
    }
    Ok(None)
}

fn add_trace(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match observe::trace(context, text)? {
        observe::TraceRequest::List => return Ok(Some(Command::TraceHelp(help::trace()))),
        observe::TraceRequest::Add(trace) => draft.observe.traces.push(trace),
    }
    Ok(None)
}

fn add_expect(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.expect.push(expect::parse(context, text)?);
    Ok(None)
}

fn set_on_failure(draft: &mut Draft, path: PathBuf) {
    draft.on_failure = Some(path);
}

fn set_result(draft: &mut Draft, path: PathBuf) {
    draft.result = Some(path);
}

fn print_help(_: &mut Draft) -> Option<Command> {
    Some(Command::Print(help::overview()))
}

fn print_version(_: &mut Draft) -> Option<Command> {
    Some(Command::Print(help::version()))
}
