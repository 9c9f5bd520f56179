//! Notices that no CPU can ever run again, where the accelerator keeps HLT to itself (KVM with its own interrupt controllers).
//!
//! Begun by [`super::Machine`], a thread of its own. Once a second it looks whether the vCPUs' threads have used processor
//! time; if next to none, it stops all of them at the same moment and asks each whether anything but another CPU could
//! wake it, and the accelerator whether its chips could. Only then the run ends, as on `accel/soft`. Decides nothing while
//! the machine is stopped.

use std::fs;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::lifecycle::Lifecycle;
use crate::accel::Vm;
use crate::failures::Failures;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Clock ticks of the host (10 ms each) that halted CPUs may use in that time, for our own kicks.
const IDLE_TICKS: u64 = 2;

/// Begins to look, if the CPUs of `vm` halt unseen. Without a thread to do it, `-timeout` ends such a run.
pub fn watch(vm: &Arc<dyn Vm>, life: &Lifecycle, failures: &Failures) -> Option<JoinHandle<()>> {
    if !vm.halts_unseen() {
        return None;
    }
    let (vm, life) = (vm.clone(), life.clone());
    let body = move || {
        let mut before = used(&life);
        while !life.is_over_within(PERIOD) {
            let now = used(&life);
            let idle = before.zip(now).is_some_and(|(before, now)| now.saturating_sub(before) <= IDLE_TICKS);
            before = now;
            if idle && are_deaf(&vm, &life) {
                life.all_halted();
            }
        }
    };
    failures.spawn("deaf", body).ok()
}

fn are_deaf(vm: &Arc<dyn Vm>, life: &Lifecycle) -> bool {
    let vm = vm.clone();
    life.ask_all(move |vcpu| vcpu.is_deaf() && vm.is_silent())
}

/// Clock ticks that the vCPUs' threads have used so far.
fn used(life: &Lifecycle) -> Option<u64> {
    life.threads().into_iter().map(ticks).sum()
}

/// Those of one thread: fields 14 and 15 of its `stat` (proc_pid_stat(5)), guest time included.
fn ticks(thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    // Its name, in parentheses, may have spaces.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_uses_time() {
        let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let before = ticks(own).unwrap();
        while ticks(own).unwrap() < before + 3 {}
        assert_eq!(ticks(0), None);
    }
}
