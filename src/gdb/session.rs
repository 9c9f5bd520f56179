//! The conversation with a gdb: bytes in and out, and what happens to the machine meanwhile.
//!
//! A protocol of the monitor's sessions: called on the session's thread only. A client that connects finds the machine
//! stopped; one that detaches lets it go on, with nothing of the debugger's left in it. One that vanishes leaves it as it
//! is, but without its breakpoints.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, MultiThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind as GdbWatchKind;

use super::target::{Guest, thread};
use super::{Debuggee, Resume, Stopped, Why};
use crate::accel::debug::{DebugStop, Watch, WatchKind};
use crate::monitor::{Event, Protocol};

/// The longest packet, in bytes: a page of memory in hexadecimal, and some.
const PACKET: usize = 0x4000;

/// What is to be sent.
#[derive(Debug, Default)]
struct Outbox(Vec<u8>);

impl Connection for Outbox {
    type Error = Infallible;

    fn write(&mut self, byte: u8) -> Result<(), Infallible> {
        self.0.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

type Stub = GdbStubStateMachine<'static, Guest, Outbox>;
type Error = GdbStubError<String, Infallible>;

/// A debugger's end of the line.
pub struct Gdb {
    guest: Guest,
    /// None while nobody is connected, and after the client's last word.
    stub: Option<Stub>,
    /// The client's last word, to be acted on once it is answered.
    over: Option<DisconnectReason>,
    /// What the client is to be told when it next listens: at the next stop.
    untold: Vec<String>,
}

impl fmt::Debug for Gdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gdb").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl Gdb {
    /// Nobody is connected yet.
    pub fn new(machine: Arc<dyn Debuggee>) -> Self {
        Self { guest: Guest::new(machine), stub: None, over: None, untold: Vec::new() }
    }

    fn begin(&mut self) {
        let stub = GdbStub::builder(Outbox::default()).packet_buffer_size(PACKET).build();
        self.stub = stub.ok().and_then(|stub| stub.run_state_machine(&mut self.guest).ok());
    }

    /// Goes on with what a step of the stub gave.
    fn follow(&mut self, mut next: Result<Stub, Error>, out: &mut Vec<u8>) {
        loop {
            match next {
                Ok(GdbStubStateMachine::CtrlCInterrupt(stub)) => {
                    let stop = self.interrupt();
                    next = stub.interrupt_handled(&mut self.guest, Some(stop));
                }
                Ok(GdbStubStateMachine::Disconnected(mut stub)) => {
                    out.append(&mut stub.borrow_conn().0);
                    if stub.get_reason() == DisconnectReason::Kill {
                        // gdb waits for the answer to vKill, which gdbstub leaves out; that to k is not read.
                        out.extend_from_slice(b"$OK#9a");
                    }
                    self.over = Some(stub.get_reason());
                    return;
                }
                Ok(mut stub) => {
                    out.append(said(&mut stub));
                    self.stub = Some(stub);
                    return self.does_it_run(out);
                }
                // Not what a debugger says. The conversation begins anew.
                Err(_) => return self.begin(),
            }
        }
    }

    /// A machine that cannot go on as it was told is stopped, and the client hears why.
    fn does_it_run(&mut self, out: &mut Vec<u8>) {
        if let Some(error) = self.guest.not_resumed.take() {
            self.trouble(&format!("the machine cannot go on: {error}"));
            let reason = self.interrupt();
            self.tell(reason, out);
        }
    }

    /// Ctrl-C.
    fn interrupt(&mut self) -> MultiThreadStopReason<u64> {
        self.stop();
        self.guest.forget();
        self.reason()
    }

    /// A machine that cannot be stopped in order stands still all the same.
    fn stop(&mut self) {
        if let Err(error) = self.guest.machine.stop() {
            self.trouble(&format!("the machine stands still, but not in order: {error}"));
        }
    }

    /// Something went wrong that the user should know.
    fn trouble(&mut self, line: &str) {
        self.guest.machine.say(line);
        self.untold.push(format!("minivmm: {line}\n"));
    }

    fn act(&mut self, why: DisconnectReason) {
        self.guest.machine.forget();
        match why {
            DisconnectReason::Kill => self.guest.machine.quit(),
            DisconnectReason::Disconnect => {
                if let Err(error) = self.guest.machine.resume(&Resume::default()) {
                    self.guest.machine.say(&format!("the machine does not go on: {error}"));
                }
            }
            DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {}
        }
    }

    /// Why the machine stands still, as gdb says it.
    fn reason(&mut self) -> MultiThreadStopReason<u64> {
        if let Some(error) = self.guest.machine.take_trouble() {
            self.trouble(&format!("the machine stands still, but not in order: {error}"));
        }
        let signal = |cpu, signal| MultiThreadStopReason::SignalWithThread { tid: thread(cpu), signal };
        let Some(Stopped { cpu, why }) = self.guest.machine.take_stop() else {
            return signal(0, Signal::SIGINT);
        };
        match why {
            Why::Plan(DebugStop::Breakpoint) => MultiThreadStopReason::SwBreak(thread(cpu)),
            Why::Plan(DebugStop::Watch(Watch { addr, kind, .. })) => {
                let kind = match kind {
                    WatchKind::Write => GdbWatchKind::Write,
                    WatchKind::Read => GdbWatchKind::Read,
                    WatchKind::Access => GdbWatchKind::ReadWrite,
                };
                MultiThreadStopReason::Watch { tid: thread(cpu), kind, addr }
            }
            Why::Plan(DebugStop::Step) | Why::Device => signal(cpu, Signal::SIGTRAP),
        }
    }

    fn tell(&mut self, reason: MultiThreadStopReason<u64>, out: &mut Vec<u8>) {
        if let Some(GdbStubStateMachine::Running(stub)) =
            self.stub.take_if(|stub| matches!(stub, GdbStubStateMachine::Running(_)))
        {
            // The one moment when gdb prints what it has not asked for: it waits for the stop that comes behind.
            self.untold.drain(..).for_each(|text| console(&text, out));
            let next = stub.report_stop(&mut self.guest, reason);
            self.follow(next, out);
        }
    }
}

/// The packet that makes gdb print `text`.
fn console(text: &str, out: &mut Vec<u8>) {
    let body = text.bytes().fold(String::from("O"), |body, byte| format!("{body}{byte:02x}"));
    let sum = body.bytes().fold(0, u8::wrapping_add);
    out.extend_from_slice(format!("${body}#{sum:02x}").as_bytes());
}

/// What the stub has put out.
fn said(stub: &mut Stub) -> &mut Vec<u8> {
    match stub {
        GdbStubStateMachine::Idle(stub) => &mut stub.borrow_conn().0,
        GdbStubStateMachine::Running(stub) => &mut stub.borrow_conn().0,
        GdbStubStateMachine::CtrlCInterrupt(stub) => &mut stub.borrow_conn().0,
        GdbStubStateMachine::Disconnected(stub) => &mut stub.borrow_conn().0,
    }
}

impl Protocol for Gdb {
    fn opened(&mut self, _: &mut Vec<u8>) {
        self.untold.clear();
        self.stop();
        let _ = self.guest.machine.take_stop();
        self.guest.forget();
        self.begin();
    }

    fn input(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        let mut answer = Vec::new();
        for &byte in bytes {
            let next = match self.stub.take() {
                Some(GdbStubStateMachine::Idle(stub)) => stub.incoming_data(&mut self.guest, byte),
                Some(GdbStubStateMachine::Running(stub)) => stub.incoming_data(&mut self.guest, byte),
                Some(other) => Ok(other),
                None => break,
            };
            self.follow(next, &mut answer);
        }
        if !answer.is_empty() {
            out(&answer);
        }
        if let Some(why) = self.over.take() {
            self.act(why);
        }
    }

    fn happened(&mut self, event: &Event, _: &str, out: &mut Vec<u8>) {
        match event {
            // One of an earlier stop finds the machine running again.
            Event::Stop if self.guest.machine.is_stopped() => {
                self.guest.forget();
                if matches!(self.stub, Some(GdbStubStateMachine::Running(_))) {
                    let reason = self.reason();
                    self.tell(reason, out);
                }
            }
            Event::Reset(_) | Event::Resume => self.guest.forget(),
            Event::Shutdown { status, .. } => self.tell(MultiThreadStopReason::Exited(*status), out),
            _ => {}
        }
    }

    fn closed(&mut self) {
        self.stub = None;
        self.guest.machine.forget();
    }
}
