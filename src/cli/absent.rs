//! Options that are not here: QEMU's, and words that are nobody's.
//!
//! Called by `options` for a word that its table does not know. A user who comes from QEMU learns what to do
//! instead. Pure.

use std::ffi::OsString;

use super::error::{CliError, Context, Wrong, quoted};
use super::keyval::Absent;
use super::options::{Apply, OPTIONS, Spec, dashless};
use super::suggest::nearest;

const NO_DISK: &str = "there are no disks; files reach the guest by -initrd or -fw_cfg";
const NO_DISPLAY: &str = "leave it out: there is no display, only serial ports";
const USE_MONITOR: &str = "use -monitor or -qmp with the place itself";
const NO_FIRMWARE: &str =
    "leave it out: the kernel is entered directly, by -kernel, or all of the firmware is the -bios";
const NO_SOUND: &str = "leave it out: there is no sound";
const NO_USB: &str = "leave it out: there is no USB";
const NO_SNAPSHOT: &str = "there are no snapshots";
const LEAVE_OUT: &str = "leave it out";

const fn row(name: &'static str, instead: &'static str) -> Absent {
    Absent { name, accepts: None, instead }
}

const fn none_is_fine(name: &'static str, instead: &'static str) -> Absent {
    Absent { name, accepts: Some("none"), instead }
}

/// QEMU's options that are not here.
pub(super) static ABSENT: &[Absent] = &[
    row("netfilter", LEAVE_OUT),
    row("hda", NO_DISK),
    row("hdb", NO_DISK),
    row("hdc", NO_DISK),
    row("hdd", NO_DISK),
    row("fda", NO_DISK),
    row("fdb", NO_DISK),
    row("sd", NO_DISK),
    row("mtdblock", NO_DISK),
    row("pflash", NO_FIRMWARE),
    row("cdrom", NO_DISK),
    row("drive", NO_DISK),
    row("blockdev", NO_DISK),
    row("snapshot", NO_DISK),
    row("fsdev", NO_DISK),
    row("virtfs", NO_DISK),
    none_is_fine("vga", NO_DISPLAY),
    none_is_fine("display", NO_DISPLAY),
    row("curses", NO_DISPLAY),
    row("sdl", NO_DISPLAY),
    row("vnc", NO_DISPLAY),
    row("spice", NO_DISPLAY),
    row("full-screen", NO_DISPLAY),
    row("k", NO_DISPLAY),
    row("mon", USE_MONITOR),
    row("qmp-pretty", USE_MONITOR),
    row("D", "leave it out: remarks go to standard error, a trace to its file="),
    row("dfilter", "leave it out: only NICs are traced"),
    row("L", NO_FIRMWARE),
    row("boot", NO_FIRMWARE),
    row("option-rom", NO_FIRMWARE),
    row("smbios", LEAVE_OUT),
    row("acpitable", "leave it out: the tables describe the machine as it is"),
    row("no-acpi", "leave it out: ACPI tables are always there; acpi=off in -append makes Linux ignore them"),
    row("no-hpet", "leave it out: there is no HPET"),
    row("dtb", "leave it out: a PC has no device tree"),
    row("rtc", "leave it out: the clock is the host's, in UTC"),
    row("usb", NO_USB),
    row("usbdevice", NO_USB),
    row("audio", NO_SOUND),
    row("audiodev", NO_SOUND),
    row("soundhw", NO_SOUND),
    none_is_fine("parallel", "leave it out: there is no parallel port"),
    row("debugcon", "use -serial"),
    row("global", "write the property into -device"),
    row("set", "write the property into -device"),
    row("readconfig", "write the options on the command line"),
    row("writeconfig", LEAVE_OUT),
    row("no-user-config", "leave it out: no configuration file is read"),
    row("daemonize", "start it in the background by the shell or a service manager"),
    row("pidfile", "the shell's $! has the process id"),
    row("run-with", "start it as the right user in the right directory"),
    row("runas", "start it as that user"),
    row("chroot", "start it there"),
    row("sandbox", LEAVE_OUT),
    row("name", LEAVE_OUT),
    row("uuid", LEAVE_OUT),
    row("msg", LEAVE_OUT),
    row("no-shutdown", "leave it out: a guest that powers off ends the run"),
    row("action", "leave it out; -no-reboot turns a reset into the end of the run"),
    row("watchdog", "leave it out; -timeout bounds the run"),
    row("watchdog-action", "leave it out; -timeout bounds the run"),
    row("icount", LEAVE_OUT),
    row("tb-size", LEAVE_OUT),
    row("one-insn-per-tb", LEAVE_OUT),
    row("singlestep", LEAVE_OUT),
    row("numa", "leave it out: there is one node"),
    row("mem-path", LEAVE_OUT),
    row("mem-prealloc", LEAVE_OUT),
    row("overcommit", LEAVE_OUT),
    row("add-fd", "inherited descriptors need no announcement: write fd=N in -netdev"),
    row("compat", LEAVE_OUT),
    row("preconfig", "use -S and a monitor"),
    row("loadvm", NO_SNAPSHOT),
    row("incoming", NO_SNAPSHOT),
    row("only-migratable", NO_SNAPSHOT),
    row("tpmdev", "leave it out: there is no TPM"),
    row("shim", NO_FIRMWARE),
];

/// Whether `word` and what follows ask for what is the case anyway, such as `-display none`.
///
/// Takes the value from `args`. A value that asks for more is the error.
pub(super) fn accepts(word: &str, args: &mut impl Iterator<Item = OsString>) -> Result<bool, CliError> {
    let Some(absent) = dashless(word).and_then(find) else {
        return Ok(false);
    };
    let Some(accepted) = absent.accepts else {
        return Ok(false);
    };
    let value = args.next().unwrap_or_default();
    if value == accepted {
        return Ok(true);
    }
    let echo = format!("{word} {}", value.to_string_lossy());
    Err(Context::new(echo.trim_end()).error(not_here(absent)))
}

fn find(name: &str) -> Option<&'static Absent> {
    ABSENT.iter().find(|absent| absent.name == name)
}

fn not_here(absent: &Absent) -> Wrong {
    Wrong::new(format!("QEMU's -{} is not here", absent.name), absent.instead)
}

/// The error for a word that is no option of ours.
pub(super) fn refuse(word: &str) -> CliError {
    let context = Context::new(if word.is_empty() { "''" } else { word });
    let Some(name) = dashless(word) else {
        return context.error(not_an_option(word));
    };
    if let Some(absent) = find(name) {
        return context.error(not_here(absent));
    }
    context.error(unknown(word, name))
}

/// A word without a dash.
fn not_an_option(word: &str) -> Wrong {
    if let Some(name) = word.strip_prefix(['\u{2013}', '\u{2014}', '\u{2212}']) {
        let name = name.trim_start_matches('-');
        return Wrong::new(
            "it begins with a typographic dash, as text processors make them",
            format!("did you mean {}?", quoted(&format!("-{name}"))),
        );
    }
    if OPTIONS.iter().any(|spec| spec.name == word && word.len() > 1) {
        return Wrong::new("the dash is missing", format!("did you mean '-{word}'?"));
    }
    Wrong::new("this is no option, and there are no disk images to name", "a kernel is given by -kernel FILE")
}

fn unknown(word: &str, name: &str) -> Wrong {
    let problem = "there is no such option";
    if let Some((name, value)) = name.split_once('=')
        && let Some(spec) = OPTIONS.iter().find(|spec| spec.name == name)
    {
        return match spec.apply {
            Apply::Flag(_) => Wrong::new(format!("-{name} takes no value"), format!("write -{name}")),
            _ => Wrong::new(
                "'=' does not join an option and its value",
                format!("write -{name} {}", quoted(value)),
            ),
        };
    }
    let head = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if let Some(Spec { apply: Apply::Text(_), .. }) =
        OPTIONS.iter().find(|spec| spec.name == head && head.len() < name.len())
    {
        return Wrong::new(
            problem,
            format!("did you mean {}?", quoted(&format!("-{head} {}", &name[head.len()..]))),
        );
    }
    let ours = OPTIONS.iter().flat_map(|spec| spec.aliases.iter().copied().chain([spec.name]));
    match nearest(name, ours) {
        Some(candidate) => Wrong::new(problem, format!("did you mean '-{candidate}'?")),
        None if word.trim_matches('-').is_empty() => Wrong::new("this is no option", "remove it"),
        None => Wrong::new(problem, "-help lists them"),
    }
}
