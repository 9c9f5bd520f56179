//! The program: arguments in, exit status out. Everything else is the library's.

use std::io::Write;
use std::process::ExitCode;

use minivmm::cli::{self, Command, Config};
use minivmm::failures::caught;
use minivmm::machine::{self, EndReason, Machine, accel_help, trace_help};
use minivmm::sys::Notices;

/// Usage or set-up error (docs/exit-status.md).
const SETUP_FAILED: u8 = 1;

pub fn main() -> ExitCode {
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
    if let Some(Err(error)) = result.as_deref().map(machine::forget_result) {
        return fail(&error.to_string());
    }
    let run = || Machine::new(config, Notices::stderr()).map(Machine::run);
    let (reason, reported) = match caught(run) {
        Ok(Ok(reason)) => (reason, true),
        Ok(Err(error)) => (EndReason::Setup(error.to_string()), false),
        // Our own failure, on this thread, outside the guest's time: the machine could not write its report.
        Err(words) => (EndReason::Internal(words), false),
    };
    if let Some(path) = result.filter(|_| !reported)
        && let Err(error) = machine::write_bare(&path, &reason)
    {
        eprintln!("minivmm: -result {}: {error}", path.display());
    }
    match reason {
        EndReason::Setup(line) => fail(&line),
        reason => {
            Notices::stderr().say(&format!("{}: {reason}", reason.name()));
            ExitCode::from(reason.status())
        }
    }
}

fn fail(line: &str) -> ExitCode {
    Notices::stderr().say(line);
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
