//! One thread for each vCPU: creates it, then runs it while the life cycle says so.
//!
//! KVM wants a vCPU used by the thread that created it (Documentation/virt/kvm/api.rst, section 1), hence the
//! creation here; errors of creation go back to the caller, errors of running end the run.

use std::panic::resume_unwind;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

use super::exit_code::EndReason;
use super::lifecycle::{Lifecycle, Turn};
use crate::accel::{AccelError, Exit, GuestBus, Vcpu, Vm};
use crate::failures::caught;
use crate::gdb::{Stopped, Why};

/// Starts the thread of vCPU `id` and waits until the vCPU exists. It then waits for the machine's start.
///
/// # Errors
/// [`AccelError`] when the thread or the vCPU cannot be created.
pub fn spawn(
    id: u32,
    vm: Arc<dyn Vm>,
    life: Lifecycle,
    bus: Arc<dyn GuestBus>,
) -> Result<JoinHandle<()>, AccelError> {
    let (created, is_created) = mpsc::channel();
    let body = move || match create(id, &*vm, &life) {
        Ok(vcpu) => {
            // The receiver waits for exactly one message, so it is still there.
            created.send(Ok(())).unwrap_or_default();
            run(id, vcpu, &life, &bus);
        }
        Err(error) => created.send(Err(error)).unwrap_or_default(),
    };
    let thread = Builder::new()
        .name(format!("vcpu{id}"))
        .spawn(body)
        .map_err(|source| AccelError::Host { what: "cannot start a vCPU thread", source })?;
    match is_created.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        // It ended without a word: by a panic, which goes on here.
        Err(_) => match thread.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => Err(AccelError::CannotRun(format!("vCPU {id} was not created"))),
        },
    }
}

fn create(id: u32, vm: &dyn Vm, life: &Lifecycle) -> Result<Box<dyn Vcpu>, AccelError> {
    let mut vcpu = vm.create_vcpu(id)?;
    life.join_cpu(vcpu.kicker()?);
    Ok(vcpu)
}

fn run(id: u32, mut vcpu: Box<dyn Vcpu>, life: &Lifecycle, bus: &Arc<dyn GuestBus>) {
    // A panic of ours in a vCPU thread must end the run in order, not leave the others waiting.
    let outcome = caught(|| generations(id, &mut *vcpu, life, bus));
    let why = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(words) => words,
    };
    life.end(EndReason::Internal(format!("vCPU {id}: {why}")));
}

/// While it lives, the life cycle counts this CPU as running.
struct Running<'a>(&'a Lifecycle);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.parked();
    }
}

fn generations(
    id: u32,
    vcpu: &mut dyn Vcpu,
    life: &Lifecycle,
    bus: &Arc<dyn GuestBus>,
) -> Result<(), AccelError> {
    let mut generation = 0;
    while let Some((own, start)) = life.wait_start(generation, id, &mut |job| job(vcpu)) {
        let _running = Running(life);
        generation = own;
        vcpu.reset(&start)?;
        run_generation(id, vcpu, own, life, bus)?;
    }
    Ok(())
}

fn run_generation(
    id: u32,
    vcpu: &mut dyn Vcpu,
    own: u64,
    life: &Lifecycle,
    bus: &Arc<dyn GuestBus>,
) -> Result<(), AccelError> {
    loop {
        match life.turn(own, id, &mut |job| job(vcpu)) {
            Turn::Over => return Ok(()),
            Turn::Rest => {
                vcpu.pause()?;
                life.rest(own, id, &mut |job| job(vcpu));
                vcpu.resume()?;
            }
            Turn::Run => match vcpu.run(bus)? {
                Exit::Kicked => {}
                Exit::Debug(stop) => life.stop_soon(Stopped { cpu: id, why: Why::Plan(stop) }),
                Exit::Halted => {
                    life.halted();
                    return Ok(());
                }
                Exit::Shutdown => {
                    life.cpu_ended(EndReason::TripleFault(id));
                    return Ok(());
                }
            },
        }
    }
}
