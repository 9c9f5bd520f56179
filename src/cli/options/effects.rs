//! What each option does to the draft.
//!
//! Called by `words` through the table. A value is read by the parser of its kind; an answer (help, the version) ends the
//! walk. Pure.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::config::{AccelChoice, Chardev, Command, Device, MAX_SERIALS, MonitorConfig};
use crate::cli::draft::{Draft, Given};
use crate::cli::error::{CliError, Context, Wrong, quoted};
use crate::cli::{
    chardev, device, expect, fault, help, machine, net, netdev, object, observe, socket_chardev, values,
};

pub(super) fn set_kernel(draft: &mut Draft, path: PathBuf) {
    draft.kernel = Some(path);
}

pub(super) fn set_bios(draft: &mut Draft, path: PathBuf) {
    draft.bios = Some(path);
}

pub(super) fn set_initrd(draft: &mut Draft, path: PathBuf) {
    draft.initrd = Some(path);
}

pub(super) fn set_append(draft: &mut Draft, _: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.append = text.to_owned();
    Ok(None)
}

pub(super) fn add_fw_cfg(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    let file = machine::fw_cfg(context, text)?;
    if draft.fw_cfg.iter().any(|other| other.name == file.name) {
        let problem = format!("there is already a file {}", quoted(&file.name));
        return Err(context.error(Wrong::new(problem, "give each its own name")));
    }
    draft.fw_cfg.push(file);
    Ok(None)
}

pub(super) fn set_memory(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    draft.memory = machine::memory(context, text)?;
    Ok(None)
}

pub(super) fn set_smp(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.smp = machine::smp(context, text)?;
    Ok(None)
}

pub(super) fn set_cpu(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let Some(model) = machine::cpu(context, text)? else {
        return Ok(Some(Command::Print(help::cpu())));
    };
    draft.cpu = model;
    Ok(None)
}

pub(super) fn set_accel(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    let Some(list) = machine::accel(context, text)? else {
        return Ok(Some(Command::AccelHelp));
    };
    draft.try_accel(list);
    Ok(None)
}

pub(super) fn enable_kvm(draft: &mut Draft) -> Option<Command> {
    draft.try_accel(vec![AccelChoice::Kvm]);
    None
}

pub(super) fn set_machine(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    let Some(request) = machine::machine(context, text)? else {
        return Ok(Some(Command::Print(help::machine())));
    };
    draft.try_accel(request.accel.unwrap_or_default());
    draft.machine.kernel_unpack = request.kernel_unpack.unwrap_or(draft.machine.kernel_unpack);
    Ok(None)
}

pub(super) fn add_device(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
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

pub(super) fn add_netdev(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
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

pub(super) fn add_nic(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    let request = net::parse_nic(context, text)?;
    add_short_form(draft, context, request)
}

pub(super) fn add_net(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
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

pub(super) fn add_fault(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    match fault::parse(context, text, draft.faults.len())? {
        fault::Request::ListTypes => return Ok(Some(Command::Print(help::faults()))),
        fault::Request::ListKeys(known) => return Ok(Some(Command::Print(help::fault_keys(known)))),
        fault::Request::Add(plan) => draft.faults.push(Given::new(context, plan)),
    }
    Ok(None)
}

pub(super) fn add_object(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    match object::parse(context, text)? {
        object::Request::ListTypes => return Ok(Some(Command::Print(help::objects()))),
        object::Request::ListKeys(known) => return Ok(Some(Command::Print(help::object_keys(known)))),
        object::Request::Add(filter) => draft.filters.push(Given::new(context, filter)),
    }
    Ok(None)
}

pub(super) fn add_chardev(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    match socket_chardev::parse(context, text)? {
        socket_chardev::Request::ListTypes => return Ok(Some(Command::Print(help::chardevs()))),
        socket_chardev::Request::ListKeys => return Ok(Some(Command::Print(help::chardev_keys()))),
        socket_chardev::Request::Add(chardev) => draft.chardevs.push(Given::new(context, chardev)),
    }
    Ok(None)
}

pub(super) fn add_serial(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
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

pub(super) fn add_monitor(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    draft.monitor_placed = true;
    push_monitor(draft, context, text, false)
}

pub(super) fn add_qmp(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
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

pub(super) fn set_default_gdb(draft: &mut Draft) -> Option<Command> {
    draft.gdb = Some(chardev::default_gdb());
    None
}

pub(super) fn set_gdb(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    draft.gdb = chardev::gdb(context, text)?;
    Ok(None)
}

pub(super) fn set_stopped(draft: &mut Draft) -> Option<Command> {
    draft.stopped = true;
    None
}

pub(super) fn set_nographic(draft: &mut Draft) -> Option<Command> {
    draft.nographic = true;
    None
}

pub(super) fn set_nodefaults(draft: &mut Draft) -> Option<Command> {
    draft.nodefaults = true;
    draft.says_network = true;
    None
}

pub(super) fn set_no_reboot(draft: &mut Draft) -> Option<Command> {
    draft.no_reboot = true;
    None
}

pub(super) fn set_timeout(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    let timeout = values::duration(text, Duration::from_secs(1)).map_err(|wrong| context.error(wrong))?;
    if timeout.is_zero() {
        let wrong = Wrong::new("the run would end before it starts", "leave it out to wait for ever");
        return Err(context.error(wrong));
    }
    draft.timeout = Some(timeout);
    Ok(None)
}

pub(super) fn set_log(draft: &mut Draft, context: &Context, text: &str) -> Result<Option<Command>, CliError> {
    match observe::log(context, text)? {
        observe::LogRequest::List => return Ok(Some(Command::Print(help::log()))),
        observe::LogRequest::Set { doctor, symbols } => {
            draft.observe.doctor = doctor.or(draft.observe.doctor);
            draft.observe.symbols = symbols.or(draft.observe.symbols.take());
        }
    }
    Ok(None)
}

pub(super) fn add_trace(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    match observe::trace(context, text)? {
        observe::TraceRequest::List => return Ok(Some(Command::TraceHelp(help::trace()))),
        observe::TraceRequest::Add(trace) => draft.observe.traces.push(trace),
    }
    Ok(None)
}

pub(super) fn add_expect(
    draft: &mut Draft,
    context: &Context,
    text: &str,
) -> Result<Option<Command>, CliError> {
    draft.expect.push(expect::parse(context, text)?);
    Ok(None)
}

pub(super) fn set_on_failure(draft: &mut Draft, path: PathBuf) {
    draft.on_failure = Some(path);
}

pub(super) fn set_result(draft: &mut Draft, path: PathBuf) {
    draft.result = Some(path);
}

pub(super) fn print_help(_: &mut Draft) -> Option<Command> {
    Some(Command::Print(help::overview()))
}

pub(super) fn print_version(_: &mut Draft) -> Option<Command> {
    Some(Command::Print(help::version()))
}
