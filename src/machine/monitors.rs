//! The monitors of the command line, and the debugger: each place opened and a session started on it.
//!
//! Called by the assembly once the machine can be commanded.

use std::sync::Arc;

use super::control::Control;
use super::debug::Debugged;
use super::error::SetupError;
use super::serial::{Mux, chardev_context};
use crate::cli::{Chardev, Config, MonitorConfig};
use crate::event::EventHandle;
use crate::gdb::Gdb;
use crate::memory::GuestRam;
use crate::monitor::{Commands, Hmp, Protocol, Qmp, Session};
use crate::netdev::Network;
use crate::sys::Notices;
use crate::sys::chardev::{self, CharDevice, Stdio, Use};

/// How the console's terminal is shared, if it is.
pub fn mux(config: &Config) -> Option<Mux> {
    let monitor_first = config.monitors.iter().any(wants_terminal);
    (monitor_first || config.console_monitor).then_some(Mux { monitor_first })
}

/// A monitor for people on stdio: shares the terminal with the console, if that is there.
fn wants_terminal(monitor: &MonitorConfig) -> bool {
    !monitor.qmp && monitor.place == Chardev::Stdio
}

/// Starts all monitors, and waits for a debugger if one is to come. `terminal`: the monitor's half of the console's terminal.
///
/// # Errors
/// [`SetupError`] when a place cannot be opened.
pub fn start(
    config: &Config,
    control: Arc<Control>,
    network: &Network,
    terminal: Option<Arc<dyn CharDevice>>,
    ram: &GuestRam,
    events: &EventHandle,
    notices: &Notices,
) -> Result<Vec<Session>, SetupError> {
    let (life, happenings) = (control.life.clone(), control.events.clone());
    let (machine, network, failures) = (control.clone(), network.clone(), control.failures.clone());
    let commands = Commands { machine, network, events: happenings, failures };
    let start = |device: Arc<dyn CharDevice>, qmp: bool| {
        let protocol: Box<dyn Protocol> = if qmp {
            Box::new(Qmp::new(commands.clone()))
        } else {
            Box::new(Hmp::new(commands.clone(), device.is_terminal()))
        };
        Session::start(device, &commands.events, &commands.failures, protocol).map_err(SetupError::Thread)
    };
    let mut sessions = Vec::new();
    for monitor in &config.monitors {
        if wants_terminal(monitor) && terminal.is_some() {
            continue;
        }
        let option = if monitor.qmp { "-qmp" } else { "-monitor" };
        let context = chardev_context(option, events, &life, notices);
        let device = match monitor.place {
            Chardev::Stdio if monitor.qmp => {
                Some(Stdio::open(Use::Program, &context)? as Arc<dyn CharDevice>)
            }
            _ => chardev::open(&monitor.place, &context)?,
        };
        sessions.extend(device.map(|device| start(device, monitor.qmp)).transpose()?);
    }
    if let Some(place) = &config.gdb {
        let context = chardev_context("-gdb", events, &life, notices);
        let gdb = Debugged::new(control, ram.clone(), commands.clone(), notices.about("-gdb"));
        let gdb = Gdb::new(Arc::new(gdb));
        if let Some(device) = chardev::open(place, &context)? {
            let session = Session::start(device, &commands.events, &commands.failures, Box::new(gdb));
            sessions.push(session.map_err(SetupError::Thread)?);
        }
    }
    sessions.extend(terminal.map(|terminal| start(terminal, false)).transpose()?);
    Ok(sessions)
}
