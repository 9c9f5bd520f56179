//! The program: arguments in, exit status out. Everything else is the library's.

use std::io::Write;
use std::process::ExitCode;

use minivmm::cli::{self, Command};
use minivmm::machine::{Machine, accel_help, trace_help};
use minivmm::sys::Notices;

/// Usage or set-up error (docs/exit-status.md).
const SETUP_FAILED: u8 = 1;

fn main() -> ExitCode {
    let status = run();
    // Whatever way the run ended, the terminal is as it was found.
    minivmm::sys::terminal::restore();
    status
}

fn run() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::AccelHelp) => print(&accel_help()),
        Ok(Command::TraceHelp(text)) => print(&(text + &trace_help())),
        Ok(Command::Run(config)) => {
            config.warnings.iter().for_each(|warning| eprintln!("minivmm: {warning}"));
            match Machine::new(*config, Notices::stderr()) {
                Ok(machine) => {
                    let reason = machine.run();
                    eprintln!("minivmm: {}: {reason}", reason.name());
                    ExitCode::from(reason.status())
                }
                Err(error) => fail(&error.to_string()),
            }
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(line: &str) -> ExitCode {
    eprintln!("minivmm: {line}");
    ExitCode::from(SETUP_FAILED)
}

/// Prints `text`; a closed pipe (`minivmm -help | head`) is no error of ours.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write: {error}")),
    }
}
