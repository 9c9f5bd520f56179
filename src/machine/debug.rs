//! The machine as gdb sees it: memory by the guest's page tables, places to stop at, stop and go.
//!
//! Made by the assembly for `-gdb`; called on the debugger's session thread, never on a CPU's. CPUs are reached by
//! [`Lifecycle::with_cpu`](super::lifecycle::Lifecycle::with_cpu), stopping and going on by [`Control`], as monitors do it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::control::Control;
use crate::accel::debug::{DebugPlan, Watch};
use crate::cpu::{CpuState, paging};
use crate::gdb::{Debuggee, Point, Resume, Stopped};
use crate::memory::GuestRam;
use crate::monitor::{Commands, Controls, RunState};
use crate::sys::Notices;

const INT3: u8 = 0xcc;
const PAGE: u64 = 4096;

/// A machine that is debugged.
#[derive(Debug)]
pub struct Debugged {
    control: Arc<Control>,
    ram: GuestRam,
    /// For `monitor ...`.
    commands: Commands,
    notices: Notices,
    places: Mutex<Vec<Place>>,
}

/// Somewhere to stop, and how that is done.
#[derive(Debug, Clone, Copy)]
struct Place {
    point: Point,
    /// INT3 is in memory: the physical address, and the byte that belongs there. Else a CPU's debug facilities do it.
    patch: Option<(u64, u8)>,
}

impl Debugged {
    /// Nothing is set. `notices`: for what goes wrong.
    pub fn new(control: Arc<Control>, ram: GuestRam, commands: Commands, notices: Notices) -> Self {
        Self { control, ram, commands, notices, places: Mutex::default() }
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn physical(&self, state: &CpuState, addr: u64) -> Option<u64> {
        paging::look(state, addr, |at, entry| self.ram.read(at, entry).is_ok())
    }

    /// The pieces of a range that lie in one page each, with their physical addresses, up to the first that has none.
    fn pieces<'a>(
        &'a self,
        state: &'a CpuState,
        addr: u64,
        len: usize,
    ) -> impl Iterator<Item = (std::ops::Range<usize>, u64)> + 'a {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = addr.wrapping_add(done as u64);
            let n = (len - done).min((PAGE - at % PAGE) as usize);
            let physical = self.physical(state, at).filter(|&to| n > 0 && self.ram.contains(to, n))?;
            done += n;
            Some((done - n..done, physical))
        })
    }

    /// A place for an INT3 that can be written now.
    fn patch(&self, addr: u64, state: &CpuState) -> Option<(u64, u8)> {
        let at = self.physical(state, addr)?;
        let mut old = [0];
        self.ram.read(at, &mut old).ok()?;
        self.ram.write(at, &[INT3]).ok()?;
        Some((at, old[0]))
    }

    /// Puts back what an INT3 stands for, unless somebody has written something else there.
    fn undo(&self, (at, byte): (u64, u8)) {
        let mut now = [0];
        if self.ram.read(at, &mut now).is_ok() && now[0] == INT3 {
            // It was RAM a moment ago, and RAM does not go away.
            let _ = self.ram.write(at, &[byte]);
        }
    }

    /// Whether the CPUs can take one more.
    fn has_room(&self, places: &[Place], point: Point) -> bool {
        let means = self.control.vm.debug_means();
        let used = places.iter().filter(|place| place.patch.is_none()).count();
        let fits = match point {
            // The processor's come in these sizes, each at a multiple of its own.
            Point::Watch(Watch { addr, len, .. }) => {
                means.watches
                    && (means.slots == usize::MAX || matches!(len, 1 | 2 | 4 | 8) && addr % len == 0)
            }
            _ => true,
        };
        fits && used < means.slots
    }

    /// What each CPU is to do when it next runs.
    fn plan(&self) -> DebugPlan {
        let mut plan = DebugPlan::default();
        for Place { point, patch } in &*self.places() {
            match (point, patch) {
                (Point::Software(addr) | Point::Hardware(addr), None) => plan.breakpoints.push(*addr),
                (Point::Software(addr) | Point::Hardware(addr), Some(_)) => plan.patched.push(*addr),
                (Point::Watch(watch), _) => plan.watches.push(*watch),
            }
        }
        plan
    }

    fn set_plans(&self, plan: &DebugPlan, steps: &[u32]) -> Result<(), String> {
        for cpu in 0..self.cpus() {
            let plan = DebugPlan { step: steps.contains(&cpu), ..plan.clone() };
            self.control.with_cpu(cpu, move |vcpu| vcpu.set_debug(&plan))?;
        }
        Ok(())
    }
}

impl Debuggee for Debugged {
    fn cpus(&self) -> u32 {
        self.control.life.threads().len() as u32
    }

    fn registers(&self, cpu: u32) -> Result<CpuState, String> {
        if self.is_stopped() { self.control.registers(cpu) } else { Err("the machine runs".into()) }
    }

    fn set_registers(&self, cpu: u32, state: &CpuState) -> Result<(), String> {
        let state = state.clone();
        self.control.with_cpu(cpu, move |vcpu| vcpu.set_registers(&state))
    }

    fn read(&self, state: &CpuState, addr: u64, data: &mut [u8]) -> usize {
        let places = self.places();
        let mut read = 0;
        for (range, physical) in self.pieces(state, addr, data.len()) {
            let piece = &mut data[range.clone()];
            if self.ram.read(physical, piece).is_err() {
                break;
            }
            for (at, byte) in places.iter().filter_map(|place| place.patch) {
                if let Some(shown) = at.checked_sub(physical).and_then(|n| piece.get_mut(n as usize)) {
                    *shown = byte;
                }
            }
            read = range.end;
        }
        read
    }

    fn write(&self, state: &CpuState, addr: u64, data: &[u8]) -> bool {
        let pieces: Vec<_> = self.pieces(state, addr, data.len()).collect();
        if pieces.last().map_or(0, |(range, _)| range.end) != data.len() {
            return false;
        }
        let mut places = self.places();
        pieces.into_iter().all(|(range, physical)| {
            let mut piece = data[range].to_vec();
            for (at, byte) in places.iter_mut().filter_map(|place| place.patch.as_mut()) {
                if let Some(written) = at.checked_sub(physical).and_then(|n| piece.get_mut(n as usize)) {
                    *byte = std::mem::replace(written, INT3);
                }
            }
            self.ram.write(physical, &piece).is_ok()
        })
    }

    fn add(&self, point: Point, state: &CpuState) -> bool {
        let mut places = self.places();
        if places.iter().any(|place| place.point == point) {
            return true;
        }
        let patch = match point {
            Point::Software(addr) if self.control.vm.debug_means().patches => self.patch(addr, state),
            _ => None,
        };
        let taken = patch.is_some() || self.has_room(&places, point);
        if taken {
            places.push(Place { point, patch });
        }
        taken
    }

    fn remove(&self, point: Point) -> bool {
        let mut places = self.places();
        let found = places.iter().position(|place| place.point == point);
        let Some(place) = found.map(|at| places.remove(at)) else { return false };
        place.patch.into_iter().for_each(|patch| self.undo(patch));
        true
    }

    fn stop(&self) -> Result<(), String> {
        self.control.stop()
    }

    fn resume(&self, how: &Resume) -> Result<(), String> {
        self.set_plans(&self.plan(), &how.steps)?;
        let only = how.only.as_ref().map(|cpus| cpus.iter().fold(0, |set, cpu| set | 1u64 << (cpu & 63)));
        self.control.life.hold_all_but(only.unwrap_or(u64::MAX));
        self.control.cont()
    }

    fn forget(&self) {
        let places = std::mem::take(&mut *self.places());
        places.iter().rev().filter_map(|place| place.patch).for_each(|patch| self.undo(patch));
        self.control.life.hold_all_but(u64::MAX);
        // A CPU that does not answer is past being debugged.
        let _ = self.set_plans(&DebugPlan::default(), &[]);
    }

    fn is_stopped(&self) -> bool {
        matches!(self.control.state(), RunState::Paused | RunState::Prelaunch | RunState::Debug)
    }

    fn take_stop(&self) -> Option<Stopped> {
        self.control.life.take_stop()
    }

    fn take_trouble(&self) -> Option<String> {
        self.control.take_trouble()
    }

    fn say(&self, line: &str) {
        self.notices.say(line);
    }

    fn quit(&self) {
        self.control.quit();
    }

    fn command(&self, line: &str) -> String {
        self.commands.human(line).replace("\r\n", "\n")
    }
}
