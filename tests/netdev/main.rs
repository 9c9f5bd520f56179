//! Network backends and the event loop against the real host: taps, TCP stacks, permissions, signals.
//!
//! Each test is this program again, in a network namespace of its own (`unshare`), so that nothing of the host
//! is touched and nothing is left. Without /dev/net/tun or namespaces there is a loud skip.

mod datagrams;
mod harness;
mod helpers;
mod signals;
mod sockets;
mod tap_errors;
mod tap_life;
mod tap_traffic;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(
        &[
            signals::TESTS,
            tap_life::TESTS,
            tap_traffic::TESTS,
            tap_errors::TESTS,
            sockets::TESTS,
            datagrams::TESTS,
            helpers::TESTS,
        ]
        .concat(),
        tap_life::role,
    )
}
