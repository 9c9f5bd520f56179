//! The machine as one software CPU sees it: RAM, local and I/O APIC, everything else on the bus.
//!
//! Called by `cpu/` in the middle of an instruction, on the CPU's own thread. Ports and pages of the interrupt
//! controllers and the PIT are answered here; the rest goes to `GuestBus` in accesses of 1, 2, 4 or 8 bytes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::chips::Chips;
use super::doorbell::Doorbell;
use super::msrs::{self, MachineMsrs};
use super::vm::Shared;
use crate::accel::GuestBus;
use crate::accel::port::Port;
use crate::bus::{Origin, Width};
use crate::cpu::machine::MsrFault;
use crate::cpu::{HostPage, Machine, cpuid};
use crate::machine::pc;
use crate::memory::Behind;

const PAGE: u64 = 4096;
/// The time-stamp counter counts nanoseconds, and so do all timers.
const TSC_KHZ: u32 = 1_000_000;

/// One CPU's view.
#[derive(Debug)]
pub(super) struct SoftMachine {
    id: u32,
    shared: Arc<Shared>,
    bell: Arc<Doorbell>,
    /// None before the first run: nothing answers then.
    bus: Option<Arc<dyn GuestBus>>,
    msrs: MachineMsrs,
    /// IA32_TSC_DEADLINE as written; counts only while the APIC has it armed.
    deadline: u64,
    /// The instruction being executed.
    rip: u64,
}

struct At(u64);

impl Origin for At {
    fn rip(&self) -> Option<u64> {
        Some(self.0)
    }
}

impl SoftMachine {
    pub fn new(shared: Arc<Shared>, id: u32) -> Self {
        let bell = shared.bell(id as usize).clone();
        Self { id, bell, shared, bus: None, msrs: MachineMsrs::new(id == 0), deadline: 0, rip: 0 }
    }

    /// As after power-on.
    pub fn reset(&mut self) {
        self.msrs = MachineMsrs::new(self.id == 0);
        self.deadline = 0;
    }

    /// Where accesses go from now on.
    pub fn set_bus(&mut self, bus: &Arc<dyn GuestBus>) {
        self.bus = Some(bus.clone());
    }

    fn cpu(&self) -> usize {
        self.id as usize
    }

    fn is_lapic(&self, address: u64) -> bool {
        address & !(PAGE - 1) == pc::LAPIC_BASE && self.msrs.apic_enabled()
    }

    fn on_bus<R>(&self, f: impl FnOnce(Port<'_>) -> R) -> Option<R> {
        let bus = self.bus.as_deref()?;
        Some(f(Port { bus, cpu: self.id, origin: &At(self.rip) }))
    }

    fn set_deadline(&mut self, deadline: u64) {
        self.deadline = deadline;
        let (cpu, now) = (self.cpu(), self.shared.now());
        self.shared.with_chips(|chips| {
            chips.set_deadline(cpu, (deadline != 0).then_some(deadline));
            chips.run_timers(now)
        });
    }

    fn deadline(&self) -> u64 {
        if self.shared.chips().deadline_armed(self.cpu()) { self.deadline } else { 0 }
    }
}

/// The registers of both APICs are 32 bits wide at multiples of 16; other bytes of the page read as zero.
fn register_bytes(address: u64, data: &mut [u8], read: impl FnOnce(u64) -> u32) {
    let (register, at) = (address & (PAGE - 16), (address & 15) as usize);
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&read(register).to_le_bytes());
    for (i, byte) in data.iter_mut().enumerate() {
        *byte = bytes.get(at + i).copied().unwrap_or(0);
    }
}

/// What a write means to such a register; none when it does not begin at one.
fn register_value(address: u64, data: &[u8]) -> Option<(u64, u32)> {
    let mut bytes = [0; 4];
    let n = data.len().min(4);
    bytes[..n].copy_from_slice(&data[..n]);
    (address & 15 == 0).then_some((address & (PAGE - 1), u32::from_le_bytes(bytes)))
}

impl Machine for SoftMachine {
    #[inline]
    fn ram(&mut self, page: u64) -> Option<HostPage> {
        match self.shared.firmware(page) {
            None => self.shared.ram.page(page),
            Some(area) => self.shared.ram.page_of(area, page),
        }
    }

    fn writable(&mut self, page: u64) -> bool {
        self.shared.firmware(page).is_none_or(|area| area.page(page) == Behind::Ram { writable: true })
    }

    fn read(&mut self, address: u64, data: &mut [u8]) {
        let (cpu, shared) = (self.cpu(), &self.shared);
        if self.is_lapic(address) {
            register_bytes(address, data, |at| shared.chips().lapic_read(cpu, at, shared.now()));
        } else if address & !(PAGE - 1) == pc::IOAPIC_BASE {
            register_bytes(address, data, |at| shared.chips().ioapic_read(at));
        } else if self.on_bus(|port| port.mmio_read(address, data)).is_none() {
            data.fill(0xff);
        }
    }

    fn write(&mut self, address: u64, data: &[u8]) {
        let (cpu, shared) = (self.cpu(), &self.shared);
        if self.is_lapic(address) {
            if let Some((at, value)) = register_value(address, data) {
                let now = shared.now();
                shared.with_chips(|chips| chips.lapic_write(cpu, at, value, now));
            }
        } else if address & !(PAGE - 1) == pc::IOAPIC_BASE {
            if let Some((at, value)) = register_value(address, data) {
                shared.with_chips(|chips| chips.ioapic_write(at, value));
            }
        } else {
            // Before the first run there is no bus, and the write has nowhere to go.
            let _ = self.on_bus(|port| port.mmio_write(address, data));
        }
    }

    fn port_in(&mut self, port: u16, size: u8) -> u32 {
        if Chips::owns_port(port) {
            let now = self.shared.now();
            let mut value = [0xff; 4];
            for (i, byte) in value.iter_mut().enumerate().take(size.into()) {
                let port = port.wrapping_add(i as u16);
                if Chips::owns_port(port) {
                    *byte = self.shared.chips().port_read(port, now);
                }
            }
            return u32::from_le_bytes(value);
        }
        let width = Width::from_len(size.into()).unwrap_or(Width::Dword);
        self.on_bus(|p| p.pio_read(port, width)).unwrap_or(u64::MAX) as u32
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) {
        if Chips::owns_port(port) {
            let now = self.shared.now();
            for (i, byte) in value.to_le_bytes().into_iter().enumerate().take(size.into()) {
                let port = port.wrapping_add(i as u16);
                if Chips::owns_port(port) {
                    self.shared.with_chips(|chips| chips.port_write(port, byte, now));
                }
            }
            return;
        }
        let width = Width::from_len(size.into()).unwrap_or(Width::Dword);
        // Before the first run there is no bus, and the write has nowhere to go.
        let _ = self.on_bus(|p| p.pio_write(port, value.into(), width));
    }

    fn rdmsr(&mut self, msr: u32) -> Result<u64, MsrFault> {
        match msr {
            msrs::TSC_DEADLINE => Ok(self.deadline()),
            _ => self.msrs.read(msr),
        }
    }

    fn wrmsr(&mut self, msr: u32, value: u64) -> Result<(), MsrFault> {
        match msr {
            msrs::TSC_DEADLINE => self.set_deadline(value),
            _ => self.msrs.write(msr, value)?,
        }
        Ok(())
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let topology = cpuid::Topology {
            apic_id: self.id,
            cpus: self.shared.cpus(),
            tsc_khz: TSC_KHZ,
            x2apic: false,
            tsc_deadline: true,
        };
        cpuid::model(&topology, leaf, subleaf)
    }

    fn tsc(&mut self) -> u64 {
        self.shared.now()
    }

    fn random(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        // The host's generator; before it is ready the guest asks again, as of a processor that is out of numbers.
        let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
        (got == Ok(bytes.len())).then(|| u64::from_le_bytes(bytes))
    }

    fn cr8(&mut self) -> u64 {
        self.shared.chips().cr8(self.cpu()).into()
    }

    fn set_cr8(&mut self, priority: u64) {
        self.shared.chips().set_cr8(self.cpu(), priority as u8);
        // A lower priority may let a waiting interrupt through.
        self.bell.ring();
    }

    #[inline(always)]
    fn bell(&self) -> &AtomicBool {
        self.bell.rung()
    }

    fn at(&mut self, rip: u64) {
        self.rip = rip;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuid_gives_the_frequencies_of_counter_and_timer() {
        let topology =
            cpuid::Topology { apic_id: 0, cpus: 1, tsc_khz: TSC_KHZ, x2apic: false, tsc_deadline: true };
        let [denominator, numerator, crystal, _] = cpuid::model(&topology, 0x15, 0);
        assert_eq!(u64::from(crystal), crate::chipset::lapic::APIC_TIMER_HZ);
        // As Linux computes it, in 32 bits.
        assert_eq!((crystal / 1000).checked_mul(numerator).map(|n| n / denominator), Some(TSC_KHZ));
    }

    #[test]
    fn narrow_reads_see_their_bytes_of_a_register() {
        let read = |address, len: usize| {
            let mut data = vec![0xaa; len];
            register_bytes(address, &mut data, |at| {
                assert_eq!(at, 0x20);
                0x0403_0201
            });
            data
        };
        assert_eq!(read(0xfee0_0020, 4), [1, 2, 3, 4]);
        assert_eq!(read(0xfee0_0023, 1), [4]);
        assert_eq!(read(0xfee0_0022, 8), [3, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(0xfee0_002c, 8), [0; 8]);
    }

    #[test]
    fn writes_count_only_at_the_beginning_of_a_register() {
        assert_eq!(register_value(0xfee0_00b0, &[1, 2, 3, 4]), Some((0xb0, 0x0403_0201)));
        assert_eq!(register_value(0xfec0_0000, &[0x12]), Some((0, 0x12)));
        assert_eq!(register_value(0xfee0_00b4, &[0; 4]), None);
    }
}
