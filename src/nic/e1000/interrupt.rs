//! The cause set: ICR, ICS, IMS, IMC as one, and what it drives onto INTA# or sends as MSI.
//!
//! A part of its own, lockable alone: register handlers and both engines call it after they have let go of
//! the register file. Its lock is a leaf; the line and the clock are called with it held, so that levels
//! leave in the order in which the causes changed. It also keeps the earliest deadline of the whole device,
//! because moderation sets most of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::Faults;
use super::moderation::{DelayTimer, NEVER, Throttle};
use super::observe::{self, Event, Moment, Observer};
use super::spec::cause;
use crate::fault::CardFault;
use crate::pci::{IntxLine, Msi};
use crate::time::Clock;

/// Deadlines that other parts keep and this one watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Autonegotiation completes.
    Link = 0,
    /// An engine left work behind.
    Work = 1,
    /// A PAUSE frame's time is over.
    Pause = 2,
    /// RDTR or RADV ends for received descriptors that wait to be written back.
    RxBurst = 3,
    /// TIDV ends for transmitted ones.
    TxBurst = 4,
    /// Descriptors that a fault made late are written back.
    TxLate = 5,
    /// A fault lets INTA# go.
    Storm = 6,
}

impl Watch {
    const ALL: [Self; 7] =
        [Self::Link, Self::Work, Self::Pause, Self::RxBurst, Self::TxBurst, Self::TxLate, Self::Storm];
}

/// How a cause with a delay timer is to be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// RDTR or TIDV, in units of 1.024 us; zero: at once.
    pub timer: u16,
    /// RADV or TADV, in the same units; zero: no bound.
    pub absolute: u16,
}

impl Delay {
    /// At once.
    pub const NONE: Self = Self { timer: 0, absolute: 0 };
}

/// The cause set with its timers.
#[derive(Debug)]
pub struct Interrupts {
    state: Mutex<State>,
    line: IntxLine,
    msi: Option<Msi>,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn Observer>>,
    faults: Arc<Faults>,
    /// The earliest deadline, readable without the lock.
    earliest: AtomicU64,
}

#[derive(Debug, Clone)]
struct State {
    icr: u32,
    ims: u32,
    asserted: bool,
    throttle: Throttle,
    rx_delay: DelayTimer,
    tx_delay: DelayTimer,
    watched: [u64; Watch::ALL.len()],
    /// What the clock was last asked for.
    armed: u64,
    /// A fault asserts the interrupt without a cause, until ICR is read.
    spurious: bool,
    /// A fault keeps the interrupt asserted until then.
    storm_until: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            icr: 0,
            ims: 0,
            asserted: false,
            throttle: Throttle::default(),
            rx_delay: DelayTimer::default(),
            tx_delay: DelayTimer::default(),
            watched: [NEVER; Watch::ALL.len()],
            armed: NEVER,
            spurious: false,
            storm_until: 0,
        }
    }
}

impl Interrupts {
    /// No cause, everything masked, line low.
    pub fn new(
        line: IntxLine,
        msi: Option<Msi>,
        clock: Arc<dyn Clock>,
        observer: Option<Arc<dyn Observer>>,
        faults: Arc<Faults>,
    ) -> Self {
        Self { state: Mutex::default(), line, msi, clock, observer, faults, earliest: AtomicU64::new(NEVER) }
    }

    /// Latches `causes`.
    pub fn raise(&self, causes: u32) {
        if causes != 0 {
            self.change(|s| s.icr |= causes & cause::ALL);
        }
    }

    /// Reads ICR: all causes, masked ones too; clears them all.
    pub fn read_icr(&self) -> u32 {
        self.change(|s| {
            s.spurious = false;
            std::mem::take(&mut s.icr)
        })
    }

    /// Drives the line anew: what rules it beside the causes has changed.
    pub fn look_again(&self) {
        self.change(|_| ());
    }

    /// What ICS reads: ICR, without clearing it.
    pub fn peek_icr(&self) -> u32 {
        self.lock().icr
    }

    /// Writes ICR: bits written as 1 are acknowledged.
    pub fn acknowledge(&self, bits: u32) {
        self.change(|s| s.icr &= !bits);
    }

    /// Reads IMS.
    pub fn mask(&self) -> u32 {
        self.lock().ims
    }

    /// Writes IMS: enables causes.
    pub fn unmask(&self, bits: u32) {
        self.change(|s| s.ims |= bits & cause::ALL);
    }

    /// Writes IMC: disables causes.
    pub fn mask_off(&self, bits: u32) {
        self.change(|s| s.ims &= !bits);
    }

    /// Reads ITR.
    pub fn itr(&self) -> u16 {
        self.lock().throttle.interval()
    }

    /// Writes ITR.
    pub fn set_itr(&self, interval: u16) {
        self.change(|s| s.throttle.set_interval(interval));
    }

    /// A frame was received: RXT0 after the delay, `now_causes` at once.
    #[inline(always)]
    pub fn received(&self, delay: Delay, now_causes: u32) {
        let now = if delay.timer == 0 { 0 } else { self.clock.now_ns() };
        self.change(|s| {
            s.icr |= now_causes & cause::ALL;
            if now_causes & cause::RXT0 != 0 {
                s.rx_delay.stop();
            } else if delay.timer == 0 {
                s.icr |= cause::RXT0;
            } else {
                s.rx_delay.event(now, delay.timer, delay.absolute);
            }
        });
    }

    /// Descriptors were written back: TXDW after the delay, `now_causes` at once.
    #[inline(always)]
    pub fn transmitted(&self, delay: Delay, now_causes: u32) {
        let now = if delay.timer == 0 { 0 } else { self.clock.now_ns() };
        self.change(|s| {
            s.icr |= now_causes & cause::ALL;
            if delay.timer == 0 {
                s.icr |= cause::TXDW;
                s.tx_delay.stop();
            } else {
                s.tx_delay.event(now, delay.timer, delay.absolute);
            }
        });
    }

    /// RDTR.FPD: a delayed RXT0 is raised now.
    pub fn flush_rx_delay(&self) {
        self.change(|s| {
            s.rx_delay.stop();
            s.icr |= cause::RXT0;
        });
    }

    /// TIDV.FPD: a delayed TXDW is raised now.
    pub fn flush_tx_delay(&self) {
        self.change(|s| {
            if s.tx_delay.stop() {
                s.icr |= cause::TXDW;
            }
        });
    }

    /// Sets or, with `None`, clears another part's deadline.
    pub fn watch(&self, what: Watch, deadline: Option<u64>) {
        self.change(|s| s.watched[what as usize] = deadline.unwrap_or(NEVER));
    }

    /// CTRL.RST: no causes, no mask, no throttle, no delays, line low. Watched deadlines stay: they belong to
    /// parts that a reset does not touch.
    pub fn reset(&self) {
        self.change(|s| {
            let State { icr, ims, asserted: _, throttle, rx_delay, tx_delay, .. } = s;
            (*icr, *ims) = (0, 0);
            *throttle = Throttle::default();
            *rx_delay = DelayTimer::default();
            *tx_delay = DelayTimer::default();
        });
    }

    /// Whether some deadline has been reached. Cheap enough for every entry into the device.
    pub fn something_due(&self) -> bool {
        let earliest = self.earliest.load(Ordering::Acquire);
        earliest != NEVER && earliest <= self.clock.now_ns()
    }

    /// Raises what is due and returns which watched deadlines have been reached (each is cleared by that).
    /// `woken`: this is the wake-up that was asked for, so that the next one has to be asked for anew.
    pub fn time_passed(&self, woken: bool) -> Vec<Watch> {
        let now = self.clock.now_ns();
        self.change(|s| {
            if woken {
                s.armed = NEVER;
            }
            if s.rx_delay.deadline() <= now && s.rx_delay.stop() {
                s.icr |= cause::RXT0;
            }
            if s.tx_delay.deadline() <= now && s.tx_delay.stop() {
                s.icr |= cause::TXDW;
            }
            let mut reached = Vec::new();
            for what in Watch::ALL {
                let deadline = &mut s.watched[what as usize];
                if *deadline <= now {
                    *deadline = NEVER;
                    reached.push(what);
                }
            }
            reached
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then drives the line and the clock to match.
    #[inline(always)]
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        // One test for both kinds of listeners.
        if self.faults.hooked() {
            return self.change_and_tell(&mut state, f);
        }
        let result = f(&mut state);
        let held_until = self.drive(&mut state, false);
        self.arm(&mut state, held_until);
        result
    }

    #[cold]
    #[inline(never)]
    fn change_and_tell<R>(&self, state: &mut State, f: impl FnOnce(&mut State) -> R) -> R {
        let before = (state.icr, state.ims, state.asserted);
        let result = f(state);
        let held_until = self.drive(state, self.faults.interrupts_planned());
        self.tell_changes(before, state);
        self.arm(state, held_until);
        result
    }

    /// Tells the observer what a change came to, in the order in which hardware does it.
    #[cold]
    fn tell_changes(&self, (icr, ims, asserted): (u32, u32, bool), s: &State) {
        let Some(observer) = &self.observer else { return };
        // No message comes from here, so bus mastering does not matter.
        let moment = Moment { now_ns: self.clock.now_ns(), origin: observe::origin(), bus_master: true };
        let tell = |event: Event<'_>| observer.event(&moment, &event);
        let (raised, cleared) = (s.icr & !icr, icr & !s.icr);
        if raised != 0 {
            tell(Event::Raised { causes: raised, icr: s.icr, ims: s.ims });
        }
        if cleared != 0 {
            tell(Event::Acknowledged { causes: cleared });
        }
        if ims != s.ims {
            tell(Event::Masked { old: ims, new: s.ims });
        }
        if asserted != s.asserted {
            tell(Event::Line { asserted: s.asserted });
        }
    }

    /// Drives the line; returns when an assertion that the throttle holds back is due.
    #[inline]
    fn drive(&self, s: &mut State, may_fail: bool) -> u64 {
        let mut wanted = s.icr & s.ims != 0;
        if may_fail {
            wanted = self.misdrive(s, wanted);
        }
        if wanted && !s.asserted && !s.throttle.is_off() {
            let now = self.clock.now_ns();
            if now < s.throttle.not_before() {
                return s.throttle.not_before();
            }
            s.throttle.asserted(now);
        }
        if wanted != s.asserted {
            s.asserted = wanted;
            self.signal(wanted);
        }
        NEVER
    }

    /// What faults make of it.
    #[cold]
    fn misdrive(&self, s: &mut State, wanted: bool) -> bool {
        if self.faults.is_gone(false) {
            return false;
        }
        let now = self.clock.now_ns();
        let held = s.spurious || now < s.storm_until;
        if wanted && !s.asserted {
            if self.faults.strikes(CardFault::InterruptLost).is_some() {
                return held;
            }
            if let Some(hit) = self.faults.strikes(CardFault::InterruptStorm) {
                s.storm_until = now.saturating_add(hit.time_ns);
                s.watched[Watch::Storm as usize] = s.storm_until;
            }
        }
        if !wanted && s.asserted && !held && self.faults.strikes(CardFault::InterruptSpurious).is_some() {
            s.spurious = true;
            self.signal(false);
            self.signal(true);
        }
        wanted || s.spurious || now < s.storm_until
    }

    /// INTA# follows the level, and the header keeps it in while MSI is enabled; MSI is one message for each rise.
    fn signal(&self, asserted: bool) {
        self.line.set_level(asserted);
        if let Some(msi) = &self.msi
            && asserted
        {
            // Nothing while disabled; without bus mastering the message is lost, as on hardware.
            let _ = msi.send();
        }
    }

    /// Asks for a wake-up at the earliest deadline, unless one is coming that is no later.
    fn arm(&self, s: &mut State, held_until: u64) {
        let delays = held_until.min(s.rx_delay.deadline()).min(s.tx_delay.deadline());
        let earliest = s.watched.into_iter().fold(delays, u64::min);
        self.earliest.store(earliest, Ordering::Release);
        if earliest < s.armed {
            s.armed = earliest;
            self.clock.wake_at(earliest);
        }
    }
}
