//! What goes wrong on cables by request: filters that hit frames, and cables that come out and go in again.
//!
//! Part of [`Network`], which the machine and the monitor ask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::{Network, NetworkError, Shared};
use crate::cli::{CableFault, LinkFlap};
use crate::event::HostTimer;
use crate::fault::{CableEffect, CableHit};
use crate::time::{Clock, MonotonicClock};

/// A `link-flap` at work. Its timer calls it on the event loop's thread.
#[derive(Debug)]
pub(super) struct Flap {
    plan: LinkFlap,
    network: Weak<Shared>,
    timer: Arc<HostTimer>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    is_down: bool,
    /// How often the cable has been out.
    done: u64,
    ended: bool,
}

/// A fault as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSnapshot {
    /// `id=`.
    pub id: String,
    /// Where: `netdev ID`, `device NAME`.
    pub place: String,
    /// What it is and how often it has struck.
    pub text: String,
}

impl Network {
    /// Lets something go wrong from now on.
    ///
    /// # Errors
    /// [`NetworkError::NoNetdev`], [`NetworkError::Taken`], and those of making a filter.
    pub fn add_fault(&self, plan: &CableFault) -> Result<(), NetworkError> {
        if self.flaps().iter().any(|flap| flap.plan.id == plan.id()) {
            return Err(NetworkError::Taken(plan.id().to_owned()));
        }
        match plan {
            CableFault::Frames(filter) => self.add_filter(filter),
            CableFault::Link(plan) => self.add_flap(plan),
        }
    }

    fn add_flap(&self, plan: &LinkFlap) -> Result<(), NetworkError> {
        if self.netdev(&plan.netdev).is_none() {
            return Err(NetworkError::NoNetdev(plan.netdev.clone()));
        }
        if self.filter(&plan.id).is_some() {
            return Err(NetworkError::Taken(plan.id.clone()));
        }
        let timer = HostTimer::new(&self.0.around.events, &MonotonicClock::new())?;
        let flap = Arc::new(Flap {
            plan: plan.clone(),
            network: Arc::downgrade(&self.0),
            timer: timer.clone(),
            state: Mutex::new(State { is_down: false, done: 0, ended: false }),
        });
        let weak = Arc::downgrade(&flap);
        timer.on_wake(move || {
            if let Some(flap) = weak.upgrade() {
                flap.turn();
            }
        });
        wake_in(&timer, plan.period);
        self.flaps().push(flap);
        Ok(())
    }

    /// Ends a fault; a cable that it has out goes in again.
    ///
    /// # Errors
    /// [`NetworkError::NoFault`].
    pub fn remove_fault(&self, id: &str) -> Result<(), NetworkError> {
        let flap = {
            let mut flaps = self.flaps();
            flaps.iter().position(|flap| flap.plan.id == id).map(|at| flaps.remove(at))
        };
        match flap {
            Some(flap) => {
                flap.end();
                Ok(())
            }
            None if self.filter(id).is_some_and(|filter| filter.is_fault()) => self.remove_filter(id),
            None => Err(NetworkError::NoFault(id.to_owned())),
        }
    }

    /// The faults that are set.
    pub fn faults(&self) -> Vec<FaultSnapshot> {
        let mut all = Vec::new();
        for end in self.ends().iter() {
            let faults = end.side.filters.iter().filter(|filter| filter.is_fault());
            all.extend(faults.map(|fault| FaultSnapshot {
                id: fault.id().to_owned(),
                place: format!("netdev {}", end.name),
                text: fault.describe(),
            }));
        }
        all.extend(self.flaps().iter().map(|flap| FaultSnapshot {
            id: flap.plan.id.clone(),
            place: format!("netdev {}", flap.plan.netdev),
            text: flap.describe(),
        }));
        all
    }

    fn flaps(&self) -> MutexGuard<'_, Vec<Arc<Flap>>> {
        self.0.flaps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_in(timer: &HostTimer, time: Duration) {
    timer.wake_at(timer.now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
}

impl Flap {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls the cable out, or puts it in. The lock is held over it, so that the end cannot come in between.
    fn turn(&self) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        state.is_down = !state.is_down;
        state.done += u64::from(state.is_down);
        self.set_link(!state.is_down, state.done);
        if state.is_down {
            wake_in(&self.timer, self.plan.down);
        } else if state.done < self.plan.count {
            wake_in(&self.timer, self.plan.period - self.plan.down);
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        if std::mem::take(&mut state.is_down) {
            self.set_link(true, state.done);
        }
    }

    /// Tells of it and does it; `hit`: how often the cable has been out.
    fn set_link(&self, up: bool, hit: u64) {
        if let Some(shared) = self.network.upgrade() {
            let (netdev, id, kind) = (&*self.plan.netdev, &*self.plan.id, "link-flap");
            let what = CableEffect::Link { up };
            shared.around.faults.tell(&CableHit { netdev, id, kind, hit, what });
            // A backend that is gone has no cable that could come out.
            let _ = Network(shared).set_link(&self.plan.netdev, up);
        }
    }

    fn describe(&self) -> String {
        let state = self.state();
        format!(
            "type=fault,kind=link-flap,link={},hit={}",
            if state.is_down { "off" } else { "on" },
            state.done
        )
    }
}
