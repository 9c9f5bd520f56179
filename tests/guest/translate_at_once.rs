//! minivmm, but that `-accel soft` makes host code of every block at its first run: for `scripts/test`, which boots a
//! guest with it. The program itself has no such option.

use std::process::ExitCode;

#[path = "../../src/main.rs"]
mod program;

fn main() -> ExitCode {
    minivmm::cpu::run::translate_from_first_run();
    program::main()
}
