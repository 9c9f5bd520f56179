//! HMP: the conversation with a person, and QMP's human-monitor-command.
//!
//! Runs on a session's thread. On a terminal in raw mode lines are edited here; elsewhere they come whole. The
//! table of commands is also the help.

use std::borrow::Cow;
use std::fmt::Write;

use super::commands::{Announcement, CommandError, Commands};
use super::events::Event;
use super::line_editor::LineEditor;
use super::session::Protocol;
use super::{PciInfo, RunState, registers};
use crate::cli::did_you_mean;
use crate::netdev::{DirectionStats, EndSnapshot, FaultSnapshot, Snapshot};

const PROMPT: &str = "(minivmm) ";

/// What a command or an `info` gives: text whose lines end in \n.
type Text = Result<String, CommandError>;

/// A command, or a word after `info`.
struct Row {
    /// Names, the first being the usual one.
    names: &'static [&'static str],
    params: &'static str,
    text: &'static str,
    run: fn(&Commands, &str) -> Text,
}

const fn row(
    names: &'static [&'static str],
    params: &'static str,
    text: &'static str,
    run: fn(&Commands, &str) -> Text,
) -> Row {
    Row { names, params, text, run }
}

static COMMANDS: &[Row] = &[
    row(&["announce_self"], "[nic...]", "send the NICs' addresses to their networks (RARP)", announce_self),
    row(&["cont", "c"], "", "go on after stop or -S", |c, _| done(c.cont())),
    row(
        &["fault_add"],
        "kind[,netdev=ID][,key=value...]",
        "let something go wrong, as -fault does",
        |c, rest| {
            let id = c.fault_add(required(rest, "fault_add drop,netdev=n0,rate=1%")?)?;
            Ok(format!("{id}\n"))
        },
    ),
    row(&["fault_del"], "id", "end a fault", |c, rest| done(c.fault_del(required(rest, "fault_del id")?))),
    row(
        &["e1000"],
        "break [REGISTER|EVENT|off]|tell-again",
        "stop when a NIC's register is accessed (TDT) or at a trace event (e1000_tx_writeback); \
         let the driver doctor tell again what it has told (-d guest_errors)",
        e1000,
    ),
    row(&["help", "?"], "[command]", "this list, or one line of it", |_, word| help(COMMANDS, "", word)),
    row(
        &["hostfwd_add"],
        "[netdev] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
        "forward a port of the host to the guest (user networking)",
        |c, rest| hostfwd(rest, |id, rule| c.hostfwd_add(id, rule)),
    ),
    row(&["hostfwd_remove"], "[netdev] [tcp|udp]:[hostaddr]:hostport", "end a forwarding", |c, rest| {
        hostfwd(rest, |id, rule| c.hostfwd_remove(id, rule))
    }),
    row(&["info"], "what", "show something; info alone lists what there is", info),
    row(&["netdev_add"], "type,id=ID[,key=value...]", "add a network backend, as -netdev does", |c, rest| {
        done(c.netdev_add(required(rest, "netdev_add type,id=ID")?))
    }),
    row(&["netdev_del"], "id", "remove a network backend that nothing uses", |c, rest| {
        done(c.netdev_del(required(rest, "netdev_del id")?))
    }),
    row(
        &["object_add"],
        "filter-dump,id=ID,netdev=ID[,key=value...]",
        "add a filter, as -object does",
        |c, rest| done(c.object_add(required(rest, "object_add filter-dump,id=ID,netdev=ID,file=FILE")?)),
    ),
    row(&["object_del"], "id", "remove a filter", |c, rest| {
        done(c.object_del(required(rest, "object_del id")?))
    }),
    row(&["qom-set"], "id status on|off", "switch a filter", qom_set),
    row(&["quit", "q"], "", "end minivmm at once; the guest is not shut down", |c, _| {
        c.machine.quit();
        done(Ok(()))
    }),
    row(&["set_link"], "name on|off", "plug in or pull out the cable of a NIC or backend", set_link),
    row(&["stop", "s"], "", "CPUs and time stand still", |c, _| done(c.stop())),
    row(&["system_powerdown"], "", "press the power button: the guest may shut down", |c, _| {
        c.powerdown();
        done(Ok(()))
    }),
    row(&["system_reset"], "", "press the reset button", |c, _| {
        c.machine.reset();
        done(Ok(()))
    }),
];

static INFO: &[Row] = &[
    row(&["cpus"], "", "the CPUs and their threads", |c, _| Ok(cpus(c))),
    row(&["faults"], "", "what goes wrong by request, and how often it did", |c, _| Ok(faults(c))),
    row(&["e1000"], "[rings|regs|stats] [name]", "the NICs' rings, registers, counters", info_e1000),
    row(&["kvm"], "", "what runs the guest", |c, _| Ok(format!("accelerator: {}\n", c.machine.accel()))),
    row(&["netdev"], "", "what passed each backend", |c, _| Ok(netdev(c))),
    row(&["network"], "", "NICs, backends and who is joined with whom", |c, _| Ok(network(c))),
    row(&["nic"], "[name]", "the machine's counters of the NICs", nic),
    row(&["pci"], "", "the PCI functions", |c, _| Ok(c.machine.pci().iter().map(pci).collect())),
    row(&["registers"], "[-a]", "the registers of CPU 0, or of all CPUs", info_registers),
    row(&["rx-filter"], "[name]", "the NICs' address filters", rx_filter),
    row(&["status"], "", "whether the guest runs", |c, _| Ok(status(c.machine.state()))),
    row(&["usernet"], "", "connections and forwardings of user networking", |c, _| Ok(usernet(c))),
    row(&["version"], "", "the version of minivmm", |_, _| {
        Ok(concat!("minivmm ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
    }),
];

/// Runs one line; the answer's lines end in \r\n, as QEMU's do.
pub(super) fn run(commands: &Commands, line: &str) -> String {
    let text = match execute(commands, line) {
        Ok(text) => text,
        Err(error) => format!("Error: {error}\n"),
    };
    text.replace('\n', "\r\n")
}

fn execute(commands: &Commands, line: &str) -> Text {
    let (word, rest) = first_word(line);
    if word.is_empty() {
        return Ok(String::new());
    }
    let found = find(COMMANDS, word).ok_or_else(|| {
        let names = COMMANDS.iter().map(|row| row.names[0]);
        let hint = did_you_mean(word, names, "help lists the commands");
        CommandError::NotFound(format!("there is no command '{}'; {hint}", shown(word)))
    })?;
    if found.params.is_empty() && !rest.is_empty() {
        return Err(CommandError::Generic(format!("{word} takes nothing: remove '{}'", shown(rest))));
    }
    (found.run)(commands, rest)
}

fn info(commands: &Commands, rest: &str) -> Text {
    let (word, rest) = first_word(rest);
    if word.is_empty() {
        return help(INFO, "info ", "");
    }
    let found = find(INFO, word).ok_or_else(|| {
        let names = INFO.iter().map(|row| row.names[0]);
        let hint = did_you_mean(word, names, "info lists what there is");
        CommandError::NotFound(format!("there is no info '{}'; {hint}", shown(word)))
    })?;
    (found.run)(commands, rest)
}

fn find(table: &'static [Row], word: &str) -> Option<&'static Row> {
    table.iter().find(|row| row.names.contains(&word))
}

fn first_word(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim_start()))
}

/// What was typed, short and printable.
fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

fn required<'a>(rest: &'a str, how: &str) -> Result<&'a str, CommandError> {
    if rest.is_empty() {
        Err(CommandError::Generic(format!("something is missing: write {how}")))
    } else {
        Ok(rest)
    }
}

fn done(result: Result<(), CommandError>) -> Text {
    result.map(|()| String::new())
}

fn help(table: &'static [Row], before: &str, word: &str) -> Text {
    let rows: Vec<&Row> = match word {
        "" => table.iter().collect(),
        "info" => return help(INFO, "info ", ""),
        _ => find(table, word).into_iter().collect(),
    };
    if rows.is_empty() {
        return Err(CommandError::NotFound(format!("there is no command '{}'", shown(word))));
    }
    let mut text = String::new();
    for row in rows {
        let names = row.names.join("|");
        let left = format!("{before}{names} {}", row.params);
        let _ = match left.len() {
            0..=24 => writeln!(text, "{left:24} {}", row.text),
            _ => writeln!(text, "{left}\n{:24} {}", "", row.text),
        };
    }
    Ok(text)
}

fn hostfwd(rest: &str, f: impl FnOnce(Option<&str>, &str) -> Result<(), CommandError>) -> Text {
    let (first, rule) = first_word(required(rest, "hostfwd_add tcp::8080-:80")?);
    done(if rule.is_empty() { f(None, first) } else { f(Some(first), rule) })
}

fn set_link(commands: &Commands, rest: &str) -> Text {
    let (name, state) = first_word(rest);
    let up = match state {
        "on" => true,
        "off" => false,
        _ => return Err(CommandError::Generic("write set_link name on, or off".into())),
    };
    done(commands.set_link(name, up))
}

fn qom_set(commands: &Commands, rest: &str) -> Text {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words[..] {
        [path, property, "on"] => done(commands.set_filter_status(path, property, true)),
        [path, property, "off"] => done(commands.set_filter_status(path, property, false)),
        _ => Err(CommandError::Generic("write qom-set id status on, or off".into())),
    }
}

fn announce_self(commands: &Commands, rest: &str) -> Text {
    let names: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
    done(commands.announce_self((!names.is_empty()).then_some(&names[..]), Announcement::default()))
}

fn status(state: RunState) -> String {
    let word = match state {
        RunState::Prelaunch => "paused (prelaunch)",
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Debug => "paused (debug)",
        RunState::GuestPanicked => "running (guest panicked)",
        RunState::Shutdown => "paused (shutdown)",
    };
    format!("VM status: {word}\n")
}

fn cpus(commands: &Commands) -> String {
    let line = |cpu: super::CpuInfo| {
        let mark = if cpu.index == 0 { '*' } else { ' ' };
        format!("{mark} CPU #{}: thread_id={}\n", cpu.index, cpu.thread_id)
    };
    commands.machine.cpus().into_iter().map(line).collect()
}

fn pci(function: &PciInfo) -> String {
    let PciInfo { slot, id, class, interrupt, bars } = function;
    let mut text = format!(
        "  Bus  0, device {slot:3}, function 0:\n    class {class:04x}: PCI device {:04x}:{:04x}\n",
        id.0, id.1
    );
    // Writing to a String cannot fail.
    if let Some((pin, line)) = interrupt {
        let _ = writeln!(text, "      IRQ {line}, pin {}", char::from(b'A' + (pin - 1) % 4));
    }
    for bar in bars {
        let (kind, last) = (if bar.io { "I/O at" } else { "32 bit memory at" }, bar.base + (bar.size - 1));
        let _ = writeln!(text, "      BAR{}: {kind} 0x{:04x} [0x{last:04x}].", bar.index, bar.base);
    }
    text
}

/// As QEMU has it: hubs with what their ports are joined with, then a NIC (or a filter's port) with what it is joined with below, then the rest.
fn network(commands: &Commands) -> String {
    let Snapshot { ends, hubs } = commands.network.snapshot();
    let line = |end: &EndSnapshot| {
        let down = if end.link_up || end.peer.is_none() { "" } else { ",link=down" };
        let filters: String = end.filters.iter().map(|id| format!("\n   filter {id}")).collect();
        format!("{}: index=0,type={},{}{down}{filters}\n", end.name, end.kind, end.what)
    };
    let end = |name: &str| ends.iter().find(|end| end.name == name);
    let mut text = String::new();
    for hub in &hubs {
        let _ = writeln!(text, "hub {}{}", hub.id, if hub.learning { " (learning)" } else { "" });
        for port in &hub.ports {
            let peer = end(port).and_then(|port| port.peer.as_deref()).and_then(end);
            let _ = match peer {
                Some(peer) => write!(text, " \\ {port}: {}", line(peer)),
                None => writeln!(text, " \\ {port}"),
            };
        }
    }
    let on_hub = |end: &EndSnapshot| end.hub.is_some();
    let hub_s = |one: &EndSnapshot| on_hub(one) || one.peer.as_deref().and_then(end).is_some_and(on_hub);
    let (nics, others): (Vec<_>, Vec<_>) =
        ends.iter().filter(|end| !hub_s(end)).partition(|end| matches!(end.kind, "nic" | "filter"));
    for nic in &nics {
        text += &line(nic);
        let peer = nic.peer.as_deref().and_then(end);
        text.extend(peer.map(|peer| format!(" \\ {}", line(peer))));
    }
    let joined = |end: &EndSnapshot| nics.iter().any(|nic| nic.peer.as_ref() == Some(&end.name));
    others.iter().filter(|end| !joined(end)).for_each(|end| text += &line(end));
    text
}

fn netdev(commands: &Commands) -> String {
    let mut text = String::new();
    for end in commands.network.snapshot().ends {
        let Some(stats) = end.counters else { continue };
        let peer = end.peer.as_deref().unwrap_or("nothing");
        let _ = writeln!(text, "{}: {}, joined with {peer}", end.name, end.what);
        for (way, stats) in [("to", &stats.to_peer), ("from", &stats.from_peer)] {
            let _ = writeln!(text, "  {way:4} {peer}: {}", direction(stats));
        }
    }
    text
}

fn faults(commands: &Commands) -> String {
    let line = |fault: FaultSnapshot| format!("{}: {}: {}\n", fault.id, fault.place, fault.text);
    commands.faults().into_iter().map(line).collect()
}

fn direction(stats: &DirectionStats) -> String {
    let DirectionStats { frames, bytes, units, gso_units, full, dropped } = stats;
    let mut text =
        format!("{frames} frames, {bytes} bytes ({units} units, {gso_units} uncut), {full} times full");
    dropped.iter().for_each(|(why, count)| {
        let _ = write!(text, ", {count} dropped: {why}");
    });
    text
}

fn nic(commands: &Commands, rest: &str) -> Text {
    let nics = commands.machine.nics();
    if !rest.is_empty() && nics.iter().all(|nic| nic.name != rest) {
        return Err(CommandError::NoDevice(rest.to_owned()));
    }
    let mut text = String::new();
    for nic in nics.iter().filter(|nic| rest.is_empty() || nic.name == rest) {
        let link = if nic.link_up { "up" } else { "down" };
        let _ = writeln!(text, "{}: PCI slot {:#04x}, link {link}", nic.name, nic.slot);
        for (name, value) in &nic.counters {
            let _ = writeln!(text, "  {name:24} {value}");
        }
    }
    Ok(text)
}

fn e1000(commands: &Commands, rest: &str) -> Text {
    match first_word(rest) {
        ("break", what) => commands.machine.device_break(what).map_err(CommandError::Generic),
        ("tell-again", "") => {
            commands.machine.doctors_tell_again();
            Ok(String::new())
        }
        _ => Err(CommandError::Generic("write e1000 break TDT, e1000 break off, or e1000 tell-again".into())),
    }
}

fn info_e1000(commands: &Commands, rest: &str) -> Text {
    let (what, name) = first_word(rest);
    let show = match what {
        "regs" => registers::nic_registers,
        "" | "rings" => registers::nic_rings,
        "stats" => return nic(commands, name),
        _ => return Err(CommandError::Generic("write info e1000 rings, regs or stats".into())),
    };
    let found = commands.machine.nic_registers((!name.is_empty()).then_some(name));
    if found.is_empty() && !name.is_empty() {
        return Err(CommandError::NoDevice(name.to_owned()));
    }
    Ok(found.iter().map(|(nic, values)| format!("{nic}:\n{}", show(values))).collect())
}

fn info_registers(commands: &Commands, rest: &str) -> Text {
    let cpus = match rest {
        "" => 1,
        "-a" => commands.machine.cpus().len() as u32,
        _ => return Err(CommandError::Generic("write info registers, or info registers -a".into())),
    };
    let text = |cpu| {
        let state = commands.machine.registers(cpu).map_err(CommandError::Generic)?;
        Ok(format!("CPU#{cpu}\n{}", registers::text(&state)))
    };
    (0..cpus).map(text).collect()
}

fn rx_filter(commands: &Commands, rest: &str) -> Text {
    let mut text = String::new();
    let list = |macs: &[[u8; 6]]| -> String {
        macs.iter().map(|mac| format!(" {}", mac.map(|byte| format!("{byte:02x}")).join(":"))).collect()
    };
    for nic in commands.rx_filters((!rest.is_empty()).then_some(rest))? {
        let all = |all: bool| if all { " all" } else { "" };
        let _ = writeln!(text, "{}:", nic.name);
        let _ = writeln!(text, "  unicast:  {}{}", all(nic.all_unicast), list(&nic.unicast));
        let hash = if nic.hash { " by hash" } else { "" };
        let _ = writeln!(text, "  multicast:{}{}{hash}", all(nic.all_multicast), list(&nic.multicast));
        let _ = writeln!(text, "  broadcast: {}", if nic.broadcast { "yes" } else { "no" });
        let vlans = if nic.vlan_filter { format!("{:?}", nic.vlans) } else { "all".to_owned() };
        let _ = writeln!(text, "  VLANs: {vlans}");
    }
    Ok(text)
}

fn usernet(commands: &Commands) -> String {
    let told = commands.usernet();
    if told.is_empty() {
        return "there is no netdev of type user\n".to_owned();
    }
    told.into_iter().map(|(id, text)| format!("{id}:\n{}\n", text.trim_end())).collect()
}

/// A person's session.
#[derive(Debug)]
pub struct Hmp {
    commands: Commands,
    editor: LineEditor,
    terminal: bool,
    greeted: bool,
}

impl Hmp {
    /// `terminal`: the other side is a terminal in raw mode, which wants its echo.
    pub fn new(commands: Commands, terminal: bool) -> Self {
        Self { commands, editor: LineEditor::default(), terminal, greeted: false }
    }

    /// A terminal adds the carriage returns itself.
    fn lines<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.terminal { text.replace("\r\n", "\n").into() } else { text.into() }
    }
}

impl Protocol for Hmp {
    fn opened(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.greeted, true) {
            let version = env!("CARGO_PKG_VERSION");
            let greeting = format!("minivmm {version} monitor - type 'help' for more information\r\n");
            out.extend(self.lines(&greeting).bytes());
        }
        out.extend(PROMPT.bytes());
        out.extend(self.editor.typed());
    }

    fn input(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        let (mut echo, mut said) = (Vec::new(), Vec::new());
        for &byte in bytes {
            let line = self.editor.key(byte, &mut echo);
            if self.terminal {
                said.append(&mut echo);
            }
            echo.clear();
            if let Some(line) = line {
                // The echo comes before the answer, which may take its time.
                out(&std::mem::take(&mut said));
                out(self.lines(&run(&self.commands, &line)).as_bytes());
                said.extend(PROMPT.bytes());
            }
        }
        out(&said);
    }

    fn happened(&mut self, _event: &Event, _text: &str, _out: &mut Vec<u8>) {}

    fn closed(&mut self) {
        if !self.terminal {
            self.editor.clear();
            self.greeted = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing::{Told, commands};

    #[test]
    fn the_help_lists_every_command_and_every_command_answers() {
        let (commands, _) = commands();
        let help = run(&commands, "help");
        for row in COMMANDS {
            assert!(help.contains(row.names[0]), "{}", row.names[0]);
            assert!(
                run(&commands, &format!("help {}", row.names[0])).contains(row.text)
                    || row.names[0] == "info"
            );
        }
        for row in INFO {
            assert!(run(&commands, "info").contains(row.text));
            let answer = run(&commands, &format!("info {}", row.names[0]));
            assert!(!answer.contains("Error"), "{answer}");
        }
    }

    #[test]
    fn mistakes_are_answered_with_what_to_do() {
        let (commands, machine) = commands();
        let cases = [
            ("sotp", "Error: there is no command 'sotp'; did you mean 'stop'?\r\n"),
            ("info netwrok", "Error: there is no info 'netwrok'; did you mean 'network'?\r\n"),
            ("stop now", "Error: stop takes nothing: remove 'now'\r\n"),
            ("set_link n0 maybe", "Error: write set_link name on, or off\r\n"),
            ("set_link n0 off", "Error: Device 'n0' not found\r\n"),
            ("netdev_del", "Error: something is missing: write netdev_del id\r\n"),
            ("hostfwd_add tcp::1-:2", "Error: there is no netdev of type user\r\n"),
            ("  ", ""),
        ];
        for (line, answer) in cases {
            assert_eq!(run(&commands, line), answer, "{line}");
        }
        assert!(run(&commands, "netdev_add tpa,id=n0").contains("did you mean 'tap'?"));
        assert_eq!(machine.told(), []);
    }

    #[test]
    fn the_doctors_are_asked_to_tell_again() {
        let (commands, machine) = commands();
        assert_eq!(run(&commands, "e1000 tell-again"), "");
        assert_eq!(machine.told(), [Told::TellAgain]);
        assert!(run(&commands, "e1000 tell-again n0").contains("write e1000 break TDT"));
    }

    #[test]
    fn a_terminal_gets_its_echo_and_a_socket_does_not() {
        for terminal in [true, false] {
            let (commands, machine) = commands();
            let (mut hmp, mut said) = (Hmp::new(commands, terminal), Vec::new());
            hmp.opened(&mut said);
            hmp.input(b"stop\rinfo st", &mut |text| said.extend_from_slice(text));
            hmp.input(b"atus\r\n", &mut |text| said.extend_from_slice(text));
            let said = String::from_utf8(said).unwrap();
            let (_, conversation) = said.split_once(PROMPT).unwrap();
            let expected = match terminal {
                true => "stop\n(minivmm) info status\nVM status: running\n(minivmm) ",
                false => "(minivmm) VM status: running\r\n(minivmm) ",
            };
            assert_eq!(conversation, expected);
            assert_eq!(machine.told(), [Told::Stop]);
        }
    }
}
