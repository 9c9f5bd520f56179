//! What becomes of a run in which a part of ours fails: every thread's panic, and a way out that hangs.
//!
//! Whole machines on the software CPU, whose guest touches a port; the device behind it is the test's.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc;

use serde_json::Value;

use super::*;
use crate::bus::{Access, AccessError, BusDevice, Width};
use crate::cli::{self, Command};
use crate::event::Waker;
use crate::monitor::events::Listener;
use crate::sys::Notices;

/// Where nothing else is.
const PORT: u16 = 0x0770;
const SOON: Duration = Duration::from_secs(60);

/// A multiboot 1 kernel without a file format: reads [`PORT`], then writes `[value]` to port `[port]`, for ever.
fn kernel(then: (u16, u8)) -> Vec<u8> {
    const LOAD: u32 = 0x10_0000;
    const FLAGS: u32 = 1 << 16;
    const MAGIC: u32 = 0x1bad_b002;
    let header = [MAGIC, FLAGS, MAGIC.wrapping_add(FLAGS).wrapping_neg(), LOAD, LOAD, 0, 0, LOAD + 32];
    let (port, value) = (then.0.to_le_bytes(), then.1);
    let [touched_low, touched_high] = PORT.to_le_bytes();
    // mov dx, PORT; in al, dx; mov dx, port; mov al, value; again: out dx, al; jmp again
    let code = [
        0x66,
        0xba,
        touched_low,
        touched_high,
        0xec,
        0x66,
        0xba,
        port[0],
        port[1],
        0xb0,
        value,
        0xee,
        0xeb,
        0xfd,
    ];
    header.iter().flat_map(|word| word.to_le_bytes()).chain(code).collect()
}

/// Calls the test when the guest touches it.
struct Touched<F>(F);

impl<F> fmt::Debug for Touched<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Touched")
    }
}

impl<F: Fn() + Send + Sync> BusDevice for Touched<F> {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        (self.0)();
        Ok(Width::Byte.all_ones())
    }

    fn write(&self, _: u64, _: u64, _: &Access<'_>) -> Result<(), AccessError> {
        Ok(())
    }
}

/// A machine with `options`, whose guest touches the port and then does `then`, with `-result` in `folder`.
fn machine(folder: &Path, options: &str, then: (u16, u8)) -> Machine {
    let (image, result) = (folder.join("kernel"), folder.join("result.json"));
    std::fs::write(&image, kernel(then)).unwrap();
    let fixed = ["-kernel", image.to_str().unwrap(), "-result", result.to_str().unwrap()];
    let more = "-m 16 -accel soft -serial none -monitor none -timeout 100";
    let words = fixed.into_iter().chain(more.split(' ')).chain(options.split_whitespace());
    match cli::parse(words.map(Into::into)) {
        Ok(Command::Run(config)) => Machine::new(*config, Notices::new(|_| ())).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn on_touch(machine: &Machine, device: impl Fn() + Send + Sync + 'static) {
    machine.bus.pio.insert("test", PORT.into(), 1, Arc::new(Touched(device))).unwrap();
}

fn result(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("result.json")).unwrap()).unwrap()
}

/// Runs the machine, and wants an end with status 125, these words, and a whole report of it.
fn fails(machine: Machine, folder: &Path, words: &str) {
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(machine.run()).unwrap());
    let reason = ended.recv_timeout(SOON).expect("the run did not end");
    assert_eq!(reason, EndReason::Internal(words.to_owned()));
    let result = result(folder);
    assert_eq!((&result["status"], &result["reason"]), (&125.into(), &"internal-error".into()), "{result}");
    assert!(result["message"].as_str().unwrap().ends_with(words) && result["nics"].is_array(), "{result}");
}

const NOTHING: (u16, u8) = (PORT + 1, 0);
const RESET: (u16, u8) = (0xcf9, 6);

#[test]
fn a_panic_in_a_vcpu_ends_the_run_also_when_others_wait_for_their_turn() {
    for cpus in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path(), &format!("-smp {cpus}"), NOTHING);
        on_touch(&machine, || panic!("in a device"));
        fails(machine, folder.path(), "vCPU 0: panic: in a device");
    }
}

#[test]
fn a_panic_in_the_event_loop_ends_the_run_whoever_runs_the_loop() {
    // With one CPU its thread does.
    for cpus in 1..=2 {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path(), &format!("-smp {cpus}"), NOTHING);
        let waker = Waker::new(machine._event_loop.handle(), || panic!("in a handler")).unwrap();
        on_touch(&machine, move || waker.wake());
        fails(machine, folder.path(), "event loop: panic: in a handler");
    }
}

#[derive(Debug)]
struct OnReset;

impl Listener for OnReset {
    fn happened(&self, event: &Event, _: &Arc<str>) {
        assert!(event.name() != "RESET", "in a listener");
    }
}

#[test]
fn a_panic_on_the_main_thread_ends_the_run_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path(), "", RESET);
    let listener: Arc<dyn Listener> = Arc::new(OnReset);
    machine.control.events.listen(Arc::downgrade(&listener));
    fails(machine, folder.path(), "panic: in a listener");
}

static EXITED: AtomicI32 = AtomicI32::new(0);

#[test]
fn a_way_out_that_hangs_is_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = machine(folder.path(), "-timeout 0.3", NOTHING);
    machine.last_resort.patience = Duration::from_millis(200);
    machine.last_resort.exit = |status| EXITED.store(status, Ordering::SeqCst);
    let (go_on, until) = mpsc::channel::<()>();
    let until = Mutex::new(until);
    // A CPU that never comes back, whoever kicks it.
    on_touch(&machine, move || until.lock().unwrap().recv().unwrap_or_default());
    let run = std::thread::spawn(move || machine.run());
    let begin = Instant::now();
    while EXITED.load(Ordering::SeqCst) == 0 {
        assert!(begin.elapsed() < SOON, "it hangs for ever");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(EXITED.load(Ordering::SeqCst), 125);
    let result = result(folder.path());
    assert_eq!((&result["status"], &result["reason"]), (&125.into(), &"internal-error".into()), "{result}");
    let message = result["message"].as_str().unwrap();
    assert!(
        message.contains("the machine does not stop") && message.contains("-timeout: 300ms passed"),
        "{message}"
    );
    drop(go_on);
    // With or without the place of the CPU, which may be late.
    assert_eq!(run.join().unwrap().name(), "timeout");
}

#[test]
fn a_result_that_cannot_be_written_is_refused_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old");
    std::fs::write(&old, "{}").unwrap();
    forget_result(&old).unwrap();
    assert!(!old.exists(), "somebody takes it for this run's");
    forget_result(&old).unwrap();
    let words = |path: &Path| forget_result(path).unwrap_err().to_string();
    let is_folder = words(folder.path());
    assert!(is_folder.starts_with("-result /") && is_folder.ends_with(": is a directory"), "{is_folder}");
    let nowhere = words(&folder.path().join("no").join("file"));
    assert!(nowhere.contains("/no/file: No such file or directory"), "{nowhere}");
    forget_result(Path::new("/dev/null")).unwrap();
}
