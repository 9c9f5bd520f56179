//! The program: arguments in, exit status out. Everything else is the library's.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use minivmm::cli::{self, Command, Config};
use minivmm::machine::{self, EndReason, Machine, accel_help, trace_help};
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
        Ok(Command::Run(config)) => run_machine(*config),
        Err(error) => fail(&error.to_string()),
    }
}

fn run_machine(config: Config) -> ExitCode {
    config.warnings.iter().for_each(|warning| eprintln!("minivmm: {warning}"));
    let result = config.result.clone();
    let machine = match Machine::new(config, Notices::stderr()) {
        Ok(machine) => machine,
        Err(error) => return not_set_up(result.as_deref(), &error.to_string()),
    };
    // Our own failure ends the run with the status that says so.
    let reason = catch_unwind(AssertUnwindSafe(|| machine.run()))
        .unwrap_or_else(|_| EndReason::Internal("panic on the main thread".into()));
    eprintln!("minivmm: {}: {reason}", reason.name());
    ExitCode::from(reason.status())
}

fn not_set_up(result: Option<&Path>, line: &str) -> ExitCode {
    if let Some(path) = result
        && let Err(error) = machine::not_set_up(path, SETUP_FAILED, line)
    {
        eprintln!("minivmm: -result {}: {error}", path.display());
    }
    fail(line)
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
