//! The command line from outside: what is understood, what is refused and how, and that nothing panics.
//!
//! Uses only `minivmm::cli`, and the words of errors that docs/qemu-compat.md quotes; opens nothing.

mod broken;
mod compat_page;
mod grammar;
mod help;
mod networks;
mod observe;
mod parity;
mod properties;
mod sockets;

use std::ffi::OsString;

use minivmm::cli::{self, CliError, Command, Config};

/// Parses words.
fn parse(words: &[&str]) -> Result<Command, CliError> {
    cli::parse(words.iter().map(OsString::from))
}

/// Parses a line without quoting, split at blanks, to which `-kernel k` is added in front.
fn run(line: &str) -> Config {
    let words: Vec<&str> = ["-kernel", "k"].into_iter().chain(line.split_whitespace()).collect();
    run_words(&words)
}

fn run_words(words: &[&str]) -> Config {
    match parse(words) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{words:?} gave {other:?}"),
    }
}

/// The message for a line that must be refused, without `minivmm: ` in front.
fn refusal(words: &[&str]) -> String {
    match parse(words) {
        Err(error) => error.to_string(),
        Ok(command) => panic!("{words:?} was taken: {command:?}"),
    }
}
