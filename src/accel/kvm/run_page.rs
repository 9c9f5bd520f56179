//! The pages that a vCPU shares with the kernel (`struct kvm_run` and the data of port accesses), mapped once
//! more by ourselves: other threads set `immediate_exit` in it, and port data lies behind the structure.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

use crate::accel::AccelError;

/// A mapping of a vCPU's shared pages.
#[derive(Debug)]
pub(super) struct RunPage {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; every access is a single atomic or volatile one.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// Maps `len` bytes (KVM_GET_VCPU_MMAP_SIZE) of `fd`.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn map(fd: &VcpuFd, len: usize) -> Result<Self, AccelError> {
        let (rights, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address the kernel chooses; nothing of ours is touched.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, shared, fd.as_raw_fd(), 0) };
        match NonNull::new(at.cast::<u8>()) {
            Some(base) if at != libc::MAP_FAILED => Ok(Self { base, len }),
            _ => Err(AccelError::Host {
                what: "cannot map a vCPU's shared page",
                source: std::io::Error::last_os_error(),
            }),
        }
    }

    /// Makes the next KVM_RUN (or the one running, with a signal) return EINTR.
    pub fn set_immediate_exit(&self, on: bool) {
        // SAFETY: the field lies inside the mapping and lives as long as `self`; the kernel reads it as one byte.
        let flag = unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset_of!(kvm_run, immediate_exit))) };
        flag.store(on.into(), Ordering::SeqCst);
    }

    /// Copies `out.len()` bytes at `offset` out; what lies beyond the mapping reads as zero.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        for (i, byte) in out.iter_mut().enumerate() {
            // SAFETY: inside the mapping by the check.
            *byte = self.inside(offset, i).map_or(0, |at| unsafe { at.read_volatile() });
        }
    }

    /// Copies `data` to `offset`; what lies beyond the mapping is dropped.
    pub fn write(&self, offset: usize, data: &[u8]) {
        for (i, byte) in data.iter().enumerate() {
            if let Some(at) = self.inside(offset, i) {
                // SAFETY: inside the mapping by the check.
                unsafe { at.write_volatile(*byte) };
            }
        }
    }

    fn inside(&self, offset: usize, i: usize) -> Option<*mut u8> {
        let at = offset.checked_add(i).filter(|at| *at < self.len)?;
        // SAFETY: `at` is below the mapping's length.
        Some(unsafe { self.base.as_ptr().add(at) })
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping, no longer referred to.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
