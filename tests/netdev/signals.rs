//! The orderly way out, and the short one.

use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc;

use minivmm::event::EventLoop;
use minivmm::sys::signals::Signals;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::*;

pub const TESTS: &[Test] = &[
    ("the_first_signal_ends_in_order", the_first_signal_ends_in_order),
    ("the_second_signal_ends_at_once", the_second_signal_ends_at_once),
];

/// Helper processes.
pub fn role(name: &str) {
    let (event_loop, events) = EventLoop::start().unwrap();
    let (sender, ended) = mpsc::channel();
    let _signals = Signals::watch(&events, move |signal| sender.send(signal).unwrap(), || ()).unwrap();
    println!("ready");
    let signal = ended.recv().unwrap();
    match name {
        "end-in-order" => {
            event_loop.join();
            std::process::exit(100 + signal);
        }
        "never-end" => loop {
            println!("ending");
            std::thread::park();
        },
        _ => panic!("no role {name}"),
    }
}

fn the_first_signal_ends_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let (mut child, line) = spawn_role("end-in-order", &[]);
        assert_eq!(line, "ready");
        kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        eventually("it ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(100 + signal.as_raw()));
    }
}

fn the_second_signal_ends_at_once() {
    let (mut child, line) = spawn_role("never-end", &[]);
    assert_eq!(line, "ready");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut ending = String::new();
    let output = child.stdout.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut ending).unwrap();
    assert_eq!(ending, "ending\n");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    eventually("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
}
