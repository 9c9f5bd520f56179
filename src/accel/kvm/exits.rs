//! One exit's port or memory access, cut into the accesses that GuestBus takes.
//!
//! Called by `vcpu.rs` with what the shared page says; pure but for the call to the bus.

use kvm_ioctls::VcpuFd;

use super::run_page::RunPage;
pub(super) use crate::accel::port::Port;
use crate::bus::{Origin, Width};

/// RIP by KVM_GET_REGS, if somebody asks. For a memory write it may already point behind the instruction: KVM
/// finishes those before it tells us.
pub(super) struct VcpuOrigin<'a>(pub &'a VcpuFd);

impl Origin for VcpuOrigin<'_> {
    fn rip(&self) -> Option<u64> {
        self.0.get_regs().ok().map(|regs| regs.rip)
    }
}

/// KVM_EXIT_IO.
#[derive(Debug, Clone, Copy)]
pub(super) struct IoExit {
    pub write: bool,
    pub size: u8,
    pub port: u16,
    pub count: u32,
    pub data_offset: u64,
}

impl Port<'_> {
    /// Performs a port access; a string instruction's elements one by one, in order.
    pub(in crate::accel::kvm) fn io(&self, io: &IoExit, page: &RunPage) {
        let Some(width) = Width::from_len(io.size.into()) else { return };
        for i in 0..io.count as usize {
            let (at, mut value) = (io.data_offset as usize + i * usize::from(io.size), [0; 8]);
            let bytes = &mut value[..usize::from(io.size)];
            if io.write {
                page.read(at, bytes);
                self.pio_write(io.port, u64::from_le_bytes(value), width);
            } else {
                let answer = self.pio_read(io.port, width).to_le_bytes();
                page.write(at, &answer[..usize::from(io.size)]);
            }
        }
    }
}
