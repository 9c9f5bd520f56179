//! Ends, expectations, pauses, and threads that do as vCPUs do.

use super::*;

fn asked(events: &[PowerEvent], no_reboot: bool) -> Next {
    let life = Lifecycle::default();
    events.iter().for_each(|e| life.request(*e));
    life.next(no_reboot, None)
}

#[test]
fn the_first_request_wins() {
    assert_eq!(asked(&[PowerEvent::Reset, PowerEvent::PowerOff], false), Next::Reset { guest: true });
    assert_eq!(asked(&[PowerEvent::Reset], true), Next::End(EndReason::Reset));
    assert_eq!(asked(&[PowerEvent::DebugExit(3)], true), Next::End(EndReason::DebugExit(3)));
}

#[test]
fn who_pressed_the_reset_button_is_known_once() {
    let life = Lifecycle::default();
    life.press_reset();
    assert_eq!(life.next(false, None), Next::Reset { guest: false });
    life.request(PowerEvent::Reset);
    assert_eq!(life.next(false, None), Next::Reset { guest: true });
}

#[test]
fn a_reset_after_a_panic_ends_the_run_as_a_panic() {
    let life = Lifecycle::default();
    life.panicked("VFS: no root");
    life.request(PowerEvent::Reset);
    assert_eq!(life.next(false, None), Next::End(EndReason::Panic("VFS: no root".into())));
}

#[test]
fn a_panic_alone_ends_the_run_within_a_second() {
    let life = Lifecycle::default();
    life.request(PowerEvent::Panicked);
    let start = Instant::now();
    assert_eq!(life.next(false, None), Next::End(EndReason::Panic(String::new())));
    assert!(start.elapsed() < Duration::from_secs(1));
}

fn expecting(texts: &[(&str, Option<Duration>)]) -> Lifecycle {
    let life = Lifecycle::default();
    let expectation = |&(text, within): &(&str, _)| Expectation { pattern: text.parse().unwrap(), within };
    life.expect(&texts.iter().map(expectation).collect::<Vec<_>>());
    life.start(ENTRY);
    life
}

#[test]
fn the_run_succeeds_once_everything_was_seen() {
    let life = expecting(&[("a", None), ("b", None)]);
    life.seen();
    assert!(life.lock().end.is_none());
    life.seen();
    life.request(PowerEvent::PowerOff);
    assert_eq!(life.next(false, None), Next::End(EndReason::Expected("b".into())));
    life.seen();
}

#[test]
fn no_other_end_is_a_success_then() {
    let before = |end| EndReason::NotSeen("a".into(), Unseen::BeforeEnd(Box::new(end)));
    let life = expecting(&[("a", None)]);
    life.request(PowerEvent::PowerOff);
    assert_eq!(life.next(false, None), Next::End(before(EndReason::PowerOff)));
    life.command_ended(0);
    life.request(PowerEvent::PowerOff);
    assert_eq!(life.next(false, None), Next::End(before(EndReason::CommandExit(0))));
    life.command_ended(3);
    life.request(PowerEvent::PowerOff);
    assert_eq!(life.next(false, None), Next::End(EndReason::CommandExit(3)), "that says more");
    life.end(EndReason::Quit);
    assert_eq!(life.next(false, None), Next::End(before(EndReason::Quit)));
}

#[test]
fn each_has_its_own_time() {
    let ms = Duration::from_millis;
    let life = expecting(&[("a", Some(ms(60_000))), ("b", Some(ms(20)))]);
    let begin = Instant::now();
    life.seen();
    assert_eq!(life.next(false, None), Next::End(EndReason::NotSeen("b".into(), Unseen::InTime(ms(20)))));
    assert!(begin.elapsed() >= ms(20), "counted from when the one before was seen");
    let seen: Vec<bool> = life.expectations().iter().map(|(_, at)| at.is_some()).collect();
    assert_eq!(seen, [true, false]);
}

#[test]
fn power_off_after_a_command_carries_its_status() {
    let life = Lifecycle::default();
    life.command_ended(3);
    life.request(PowerEvent::PowerOff);
    assert_eq!(life.next(false, None), Next::End(EndReason::CommandExit(3)));
}

#[test]
fn halting_every_cpu_ends_the_run_and_keeps_a_commands_status() {
    let life = Lifecycle::default();
    life.halted();
    assert_eq!(life.next(false, None), Next::End(EndReason::Halted));
    life.command_ended(4);
    life.halted();
    assert_eq!(life.next(false, None), Next::End(EndReason::CommandExit(4)));
}

#[test]
fn what_the_guest_asked_for_wins_over_how_its_cpus_end_behind_it() {
    for end in [EndReason::Halted, EndReason::TripleFault(0)] {
        let life = Lifecycle::default();
        life.request(PowerEvent::DebugExit(3));
        life.cpu_ended(end.clone());
        assert_eq!(life.next(false, None), Next::End(EndReason::DebugExit(3)));
        // Also while the main thread is busy with it.
        let life = Lifecycle::default();
        life.request(PowerEvent::Reset);
        assert_eq!(life.next(false, None), Next::Reset { guest: true });
        life.cpu_ended(end.clone());
        life.start(ENTRY);
        assert!(life.lock().end.is_none());
        life.cpu_ended(end.clone());
        life.request(PowerEvent::PowerOff);
        assert_eq!(life.next(false, None), Next::End(end), "it ended before it could ask");
    }
}

#[test]
fn a_run_that_ends_while_a_halted_cpu_does_a_job_is_over_for_it() {
    let life = Lifecycle::default();
    life.join_cpu(Arc::new(Kicked::default()));
    life.start(ENTRY);
    let (own, _) = life.wait_start(0, 0, &mut |_| ()).unwrap();
    assert!(life.with_cpu_within(Duration::ZERO, 0, |_| ()).is_none(), "it waits for no answer");
    let (over, is_over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let next = life.wait_start(own, 0, &mut |_| life.finish());
        over.send(next.is_none()).unwrap();
    });
    assert!(is_over.recv_timeout(Duration::from_secs(60)).unwrap());
}

#[derive(Debug, Default)]
struct Kicked(std::sync::atomic::AtomicBool);

impl Kicker for Kicked {
    fn kick(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

const ENTRY: EntryState = EntryState {
    mode: crate::accel::EntryMode::Protected,
    rip: 0,
    rsp: 0,
    rsi: 0,
    rbx: 0,
    rax: 0,
    gdt_base: 0,
    gdt_limit: 0,
};

/// A thread that does as a vCPU's does, and ends with its last generation; it says when it has found that it is to rest.
fn cpu(life: &Lifecycle, index: u32) -> (std::thread::JoinHandle<u64>, std::sync::mpsc::Receiver<()>) {
    let (life, kicked) = (life.clone(), Arc::new(Kicked::default()));
    let (rests, resting) = std::sync::mpsc::channel();
    life.join_cpu(kicked.clone());
    let thread = std::thread::spawn(move || {
        let mut generation = 0;
        while let Some((own, _)) = life.wait_start(generation, index, &mut |_| ()) {
            generation = own;
            loop {
                match life.turn(own, index, &mut |_| ()) {
                    Turn::Over => break,
                    Turn::Rest => {
                        rests.send(()).unwrap_or_default();
                        life.rest(own, index, &mut |_| ());
                    }
                    Turn::Run => {
                        while !kicked.0.swap(false, std::sync::atomic::Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                }
            }
            life.parked();
        }
        generation
    });
    (thread, resting)
}

#[test]
fn a_pause_keeps_the_generation_and_a_reset_keeps_the_pause() {
    let life = Lifecycle::default();
    let cpus = [cpu(&life, 0), cpu(&life, 1)];
    let turn = |own| life.turn(own, 0, &mut |_| ());
    assert!(life.pause(), "before the start");
    life.start(ENTRY);
    for (_, resting) in &cpus {
        resting.recv().expect("the CPU has ended");
    }
    assert_eq!(turn(1), Turn::Rest);
    life.resume();
    assert_eq!(turn(1), Turn::Run);
    assert!(life.pause());
    assert_eq!((life.pause(), life.lock().active), (false, 0));
    life.stop();
    assert_eq!(turn(1), Turn::Over);
    life.start(ENTRY);
    assert_eq!((turn(1), turn(2)), (Turn::Over, Turn::Rest));
    life.resume();
    assert_eq!(turn(2), Turn::Run);
    while life.lock().active < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    life.stop();
    life.finish();
    for (thread, _resting) in cpus {
        assert_eq!(thread.join().unwrap(), 2);
    }
}

#[test]
fn the_timeout_ends_the_run() {
    let life = Lifecycle::default();
    let length = Duration::from_millis(5);
    let next = life.next(false, Some((Instant::now() + length, length)));
    assert_eq!(next, Next::End(EndReason::Timeout(length)));
}
