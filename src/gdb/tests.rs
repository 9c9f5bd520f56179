//! The conversation with a made-up machine: what gdb says, byte for byte, and what the machine is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::accel::debug::WatchKind;
use crate::monitor::{Cause, Event, Protocol};

/// 64 KiB of memory at 0, two CPUs; remembers what it was told.
#[derive(Debug, Default)]
struct Machine {
    told: Mutex<Vec<String>>,
    memory: Mutex<Vec<u8>>,
    states: Mutex<Vec<CpuState>>,
    running: Mutex<bool>,
    stops: Mutex<VecDeque<Stopped>>,
    /// What stopping and going on fail with.
    fails: Mutex<Option<String>>,
    trouble: Mutex<Option<String>>,
    notices: Mutex<Vec<String>>,
}

impl Machine {
    fn new() -> Arc<Self> {
        let machine = Self { running: Mutex::new(true), ..Self::default() };
        *machine.memory.lock().unwrap() = vec![0; 0x1_0000];
        *machine.states.lock().unwrap() = vec![CpuState::default(); 2];
        Arc::new(machine)
    }

    fn tell(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push(what.into());
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

impl Debuggee for Machine {
    fn cpus(&self) -> u32 {
        2
    }

    fn registers(&self, cpu: u32) -> Result<CpuState, String> {
        self.tell(format!("registers {cpu}"));
        Ok(self.states.lock().unwrap()[cpu as usize].clone())
    }

    fn set_registers(&self, cpu: u32, state: &CpuState) -> Result<(), String> {
        self.states.lock().unwrap()[cpu as usize] = state.clone();
        Ok(())
    }

    fn read(&self, _: &CpuState, addr: u64, data: &mut [u8]) -> usize {
        let memory = self.memory.lock().unwrap();
        let there = memory.get(addr as usize..).unwrap_or_default();
        let n = data.len().min(there.len());
        data[..n].copy_from_slice(&there[..n]);
        n
    }

    fn write(&self, _: &CpuState, addr: u64, data: &[u8]) -> bool {
        let mut memory = self.memory.lock().unwrap();
        let place = memory.get_mut(addr as usize..(addr as usize).saturating_add(data.len()));
        place.map(|place| place.copy_from_slice(data)).is_some()
    }

    fn add(&self, point: Point, _: &CpuState) -> bool {
        self.tell(format!("add {point:x?}"));
        point != Point::Software(0xbad)
    }

    fn remove(&self, point: Point) -> bool {
        self.tell(format!("remove {point:x?}"));
        true
    }

    fn stop(&self) -> Result<(), String> {
        self.tell("stop");
        *self.running.lock().unwrap() = false;
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn resume(&self, how: &Resume) -> Result<(), String> {
        self.tell(format!("resume {:?} {:?}", how.steps, how.only));
        *self.running.lock().unwrap() = true;
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn forget(&self) {
        self.tell("forget");
    }

    fn is_stopped(&self) -> bool {
        !*self.running.lock().unwrap()
    }

    fn take_stop(&self) -> Option<Stopped> {
        self.stops.lock().unwrap().pop_front()
    }

    fn take_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap().take()
    }

    fn say(&self, line: &str) {
        self.notices.lock().unwrap().push(line.to_owned());
    }

    fn quit(&self) {
        self.tell("quit");
    }

    fn command(&self, line: &str) -> String {
        format!("you said {line}\n")
    }
}

struct Talk {
    machine: Arc<Machine>,
    gdb: Gdb,
}

/// A packet as gdb sends it.
fn packet(body: &str) -> Vec<u8> {
    let sum = body.bytes().fold(0u8, u8::wrapping_add);
    format!("${body}#{sum:02x}").into_bytes()
}

/// The bodies of the packets in `bytes`, run lengths expanded.
fn bodies(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let packets = text.split('$').skip(1).map(|p| p.split('#').next().unwrap_or_default());
    packets
        .map(|packet| {
            let (mut body, mut chars) = (String::new(), packet.chars());
            while let Some(c) = chars.next() {
                if c == '*' {
                    let count = u32::from(chars.next().unwrap()) - 29;
                    let last = body.chars().last().unwrap();
                    (0..count).for_each(|_| body.push(last));
                } else {
                    body.push(c);
                }
            }
            body
        })
        .collect()
}

impl Talk {
    /// A debugger has connected to a running machine.
    fn new() -> Self {
        let machine = Machine::new();
        let mut gdb = Gdb::new(machine.clone());
        gdb.opened(&mut Vec::new());
        assert_eq!(machine.told(), ["stop"]);
        Self { machine, gdb }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        self.gdb.input(bytes, &mut |answer| out.extend_from_slice(answer));
        bodies(&out)
    }

    /// Says one packet; gives the one answer.
    fn say(&mut self, body: &str) -> String {
        let mut answers = self.bytes(&packet(body));
        assert!(answers.len() <= 1, "{body}: {answers:?}");
        answers.pop().unwrap_or_default()
    }

    fn happens(&mut self, event: &Event) -> Vec<String> {
        let mut out = Vec::new();
        self.gdb.happened(event, "", &mut out);
        bodies(&out)
    }

    /// The machine stops by itself.
    fn stops(&mut self, cpu: u32, why: Why) -> Vec<String> {
        self.machine.stops.lock().unwrap().push_back(Stopped { cpu, why });
        *self.machine.running.lock().unwrap() = false;
        self.happens(&Event::Stop)
    }
}

#[test]
fn registers_and_memory_are_read_and_written() {
    let mut talk = Talk::new();
    {
        let mut states = talk.machine.states.lock().unwrap();
        (states[0].gpr[0], states[1].gpr[0]) = (0x1122_3344, 0x5566);
    }
    assert!(talk.say("g").starts_with("4433221100000000"));
    assert_eq!(talk.say("Hg2"), "OK");
    assert_eq!(talk.say("p0"), "6655000000000000");
    assert_eq!(talk.say("P0=0807060504030201"), "OK");
    assert_eq!(talk.machine.states.lock().unwrap()[1].gpr[0], 0x0102_0304_0506_0708);
    assert_eq!(talk.say("pffff"), "", "no such register");
    assert_eq!(talk.say("M100,4:01020304"), "OK");
    assert_eq!(talk.say("m102,4"), "03040000");
    assert_eq!(talk.say("mfffe,4"), "0000", "as far as there is memory");
    assert_eq!(talk.say("m10000,4"), "E0e");
    assert_eq!(talk.say("M10000,1:00"), "E0e");
}

/// gdb's numbers (its manual's i386:x86-64 order), which are not the processor's.
#[test]
fn each_general_register_has_gdbs_number() {
    use crate::cpu::state::gpr::{RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};
    let mut talk = Talk::new();
    let order = [RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, 8, 9, 10, 11, 12, 13, 14, 15];
    {
        let mut states = talk.machine.states.lock().unwrap();
        (0..16).for_each(|n| states[0].gpr[n] = 0x10 + n as u64);
        (states[0].rip, states[0].rflags) = (0x77, 0x246);
    }
    let all = talk.say("g");
    for (number, register) in order.into_iter().enumerate() {
        let value = format!("{:02x}00000000000000", 0x10 + register);
        assert_eq!(talk.say(&format!("p{number:x}")), value, "register {number}");
        assert_eq!(all[16 * number..][..16], value, "register {number} of all");
    }
    assert!(all[16 * 16..].starts_with("770000000000000046020000"), "RIP and EFLAGS behind them");
    assert_eq!(talk.say("P5=0102000000000000"), "OK");
    assert_eq!(talk.machine.states.lock().unwrap()[0].gpr[RDI], 0x201);
}

#[test]
fn registers_are_asked_for_once_a_stop() {
    let mut talk = Talk::new();
    talk.say("g");
    talk.say("g");
    talk.say("m0,8");
    assert_eq!(talk.machine.told(), ["registers 0"]);
    talk.say("vCont;c");
    talk.stops(0, Why::Device);
    talk.say("g");
    assert_eq!(talk.machine.told(), ["resume [] None", "registers 0"]);
}

#[test]
fn threads_are_cpus() {
    let mut talk = Talk::new();
    assert_eq!(talk.say("qfThreadInfo"), "m01,02");
    let info = talk.say("qThreadExtraInfo,2");
    assert_eq!(info, "CPU 1".bytes().map(|b| format!("{b:02x}")).collect::<String>());
    assert_eq!(talk.say("T2"), "OK");
    assert_ne!(talk.say("T3"), "OK");
    let xml = talk.say("qXfer:features:read:target.xml:0,ffff");
    assert!(xml.starts_with("m<?xml") && xml.contains("org.gnu.gdb.i386.core"), "{xml}");
}

#[test]
fn stops_say_which_cpu_and_why() {
    let mut talk = Talk::new();
    assert_eq!(talk.say("vCont;c"), "");
    assert_eq!(talk.stops(1, Why::Plan(DebugStop::Breakpoint)), ["T05thread:02;swbreak:;"]);
    assert_eq!(talk.say("vCont;s:2;c"), "");
    assert_eq!(talk.stops(1, Why::Plan(DebugStop::Step)), ["T05thread:02;"]);
    assert_eq!(talk.say("vCont;s:1"), "");
    let watch = Watch { addr: 0x1234, len: 4, kind: WatchKind::Write };
    assert_eq!(talk.stops(0, Why::Plan(DebugStop::Watch(watch))), ["T05thread:01;watch:1234;"]);
    let resumed = ["resume [] None", "resume [1] None", "resume [0] Some([0])"];
    assert_eq!(talk.machine.told(), resumed);
    assert_eq!(talk.happens(&Event::Stop), [""; 0], "gdb knows already");
}

#[test]
fn ctrl_c_stops_and_a_late_event_of_it_is_nothing() {
    let mut talk = Talk::new();
    talk.say("vCont;c");
    talk.machine.told();
    assert_eq!(talk.bytes(&[3]), ["T02thread:01;"]);
    assert_eq!(talk.machine.told(), ["stop"]);
    talk.say("vCont;c");
    assert_eq!(talk.happens(&Event::Stop), [""; 0], "the machine runs again");
    // A breakpoint that was met at that moment is what is told.
    talk.machine.stops.lock().unwrap().push_back(Stopped { cpu: 1, why: Why::Plan(DebugStop::Breakpoint) });
    assert_eq!(talk.bytes(&[3]), ["T05thread:02;swbreak:;"]);
}

#[test]
fn places_to_stop_at_are_passed_on() {
    let mut talk = Talk::new();
    talk.say("g");
    talk.machine.told();
    for body in ["Z0,1000,1", "Z1,2000,1", "Z2,3000,8", "Z3,3000,8", "Z4,3000,8", "z0,1000,1"] {
        assert_eq!(talk.say(body), "OK", "{body}");
    }
    assert!(talk.say("Z0,bad,1").starts_with('E'));
    let told = talk.machine.told();
    assert_eq!(told[0], "add Software(1000)");
    assert_eq!(told[1], "add Hardware(2000)");
    for (told, kind) in told[2..].iter().zip(["Write", "Read", "Access"]) {
        assert_eq!(*told, format!("add Watch(Watch {{ addr: 3000, len: 8, kind: {kind} }})"));
    }
    assert_eq!(told[5], "remove Software(1000)");
}

#[test]
fn leaving_takes_everything_away() {
    let mut talk = Talk::new();
    assert_eq!(talk.say("D"), "OK");
    assert_eq!(talk.machine.told(), ["forget", "resume [] None"]);
    let mut talk = Talk::new();
    talk.say("k");
    assert_eq!(talk.machine.told(), ["forget", "quit"]);
    let mut talk = Talk::new();
    talk.gdb.closed();
    assert_eq!(talk.machine.told(), ["forget"], "a debugger that vanished leaves it as it is");
    talk.gdb.opened(&mut Vec::new());
    assert!(talk.say("g").len() > 1000, "the next one is served");
}

#[test]
fn monitor_commands_are_answered_and_the_end_is_told() {
    let mut talk = Talk::new();
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let answers = talk.bytes(&packet(&format!("qRcmd,{}", hex("info status"))));
    assert_eq!(answers, [format!("O{}", hex("you said info status\n")), "OK".to_owned()]);
    talk.say("vCont;c");
    let end = Event::Shutdown { cause: Cause { guest: true, reason: "guest-panic" }, status: 126 };
    assert_eq!(talk.happens(&end), ["W7e"]);
}

/// What gdb prints for a packet.
fn printed(body: &str) -> String {
    let hex = body.strip_prefix('O').expect("a console packet");
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

#[test]
fn a_machine_that_cannot_stop_or_go_on_in_order_is_told_to_gdb_and_to_the_user() {
    let mut talk = Talk::new();
    *talk.machine.fails.lock().unwrap() = Some("KVM_SET_CLOCK: out of order".into());
    // It is stopped for good, or gdb would wait for a stop that never comes.
    let answers = talk.bytes(&packet("vCont;c"));
    assert_eq!(printed(&answers[0]), "minivmm: the machine cannot go on: KVM_SET_CLOCK: out of order\n");
    assert!(printed(&answers[1]).contains("stands still, but not in order: KVM_SET_CLOCK"), "{answers:?}");
    assert_eq!(answers[2..], ["T02thread:01;"]);
    assert!(talk.machine.is_stopped());
    assert_eq!(talk.machine.notices.lock().unwrap().len(), 2);
    // One that it has stopped at by itself.
    *talk.machine.fails.lock().unwrap() = None;
    talk.say("vCont;c");
    *talk.machine.trouble.lock().unwrap() = Some("no clock".into());
    let answers = talk.stops(1, Why::Plan(DebugStop::Breakpoint));
    assert!(printed(&answers[0]).contains("no clock"), "{answers:?}");
    assert_eq!(answers[1..], ["T05thread:02;swbreak:;"]);
    assert!(talk.say("?").starts_with("T05"), "and the conversation goes on");
    // Nobody hears it any more on the line.
    talk.machine.notices.lock().unwrap().clear();
    *talk.machine.fails.lock().unwrap() = Some("out of order".into());
    assert_eq!(talk.say("D"), "OK");
    assert_eq!(*talk.machine.notices.lock().unwrap(), ["the machine does not go on: out of order"]);
}

/// A generator of numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

#[test]
fn what_is_no_packet_does_no_harm() {
    let mut talk = Talk::new();
    let mut random = Random(1);
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..40).map(|_| random.below(256) as u8).collect();
        if random.below(4) == 0 {
            bytes = packet(&String::from_utf8_lossy(&bytes).replace(['$', '#', '*', '}'], "Z"));
        }
        talk.bytes(&bytes);
    }
    // A long packet without an end, then a new conversation.
    talk.bytes(&[b'$'; 100_000]);
    talk.gdb.closed();
    talk.gdb.opened(&mut Vec::new());
    assert!(talk.say("g").len() > 1000);
}

/// What gdb says, and what a hostile one makes of it: other numbers, pieces left out, said twice or cut off.
#[test]
fn packets_that_are_nearly_right_do_no_harm() {
    const SAID: [&str; 26] = [
        "g",
        "p0",
        "pff",
        "P0=0807060504030201",
        "G00112233",
        "m100,4",
        "M100,4:01020304",
        "X100,2:ab",
        "Hg2",
        "Hc-1",
        "T2",
        "Z0,1000,1",
        "Z2,3000,8",
        "z0,1000,1",
        "Z4,3000,8",
        "vCont?",
        "vCont;s:1;c",
        "vCont;c:2",
        "qfThreadInfo",
        "qThreadExtraInfo,2",
        "qXfer:features:read:target.xml:0,ffff",
        "qRcmd,696e666f",
        "qSupported:multiprocess+;swbreak+",
        "D",
        "?",
        "vKill;1",
    ];
    const NUMBERS: [&str; 8] =
        ["0", "ffffffffffffffff", "7fffffffffffffff", "-1", "", "100000001", "fffff", "zz"];
    let mut random = Random(2);
    for round in 0..400 {
        let mut talk = Talk::new();
        for _ in 0..20 {
            let mut body = SAID[random.below(SAID.len())].to_owned();
            for _ in 0..random.below(3) {
                // All of it is ASCII.
                let at = random.below(body.len().max(1)).min(body.len());
                match random.below(4) {
                    0 => {
                        let end = body[at..].find([',', ':', ';', '=']).map_or(body.len(), |n| at + n);
                        body.replace_range(at..end, NUMBERS[random.below(NUMBERS.len())]);
                    }
                    1 => body.truncate(at),
                    2 => body.insert_str(at, SAID[random.below(SAID.len())]),
                    _ => body.insert(at, [',', ':', ';', '=', '.'][random.below(5)]),
                }
            }
            let mut bytes = packet(&body);
            if random.below(8) == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            talk.bytes(&bytes);
            if random.below(4) == 0 {
                talk.stops(random.below(2) as u32, Why::Device);
            }
        }
        // Whatever was said, the next client finds a machine that stands still and answers.
        talk.gdb.closed();
        talk.machine.told();
        talk.gdb.opened(&mut Vec::new());
        assert!(talk.machine.is_stopped(), "round {round}");
        assert!(talk.say("g").len() > 1000, "round {round}");
    }
}
