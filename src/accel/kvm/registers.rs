//! A vCPU's registers between KVM and `cpu/`: fetched, converted, and written back only where they changed.
//!
//! Used by `assist.rs` and `quirks.rs`. With KVM_CAP_SYNC_REGS general and system registers travel in the shared
//! page and cost no system call; otherwise by KVM_GET/SET_REGS and _SREGS.
#![expect(unsafe_code, reason = "the XSAVE image's size is known to us only")]

use kvm_bindings::{Msrs as KvmMsrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xsave};
use kvm_ioctls::{SyncReg, VcpuFd};

use super::host;
use crate::accel::AccelError;
use crate::cpu::CpuState;
use crate::cpu::decode::Needs;
use crate::cpu::state::{Msrs, Segment, TableRegister, gpr, seg};
use crate::cpu::xsave::{Layout, VectorState};

/// General and system registers as KVM holds them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Registers {
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
}

impl Registers {
    /// As they were at the last exit. `synced`: KVM put them into the shared page.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn get(fd: &VcpuFd, synced: bool) -> Result<Self, AccelError> {
        if synced {
            let shared = fd.sync_regs();
            return Ok(Self { regs: shared.regs, sregs: shared.sregs });
        }
        let regs = fd.get_regs().map_err(host("KVM_GET_REGS"))?;
        let sregs = fd.get_sregs().map_err(host("KVM_GET_SREGS"))?;
        Ok(Self { regs, sregs })
    }

    /// Writes back what differs from `before`.
    ///
    /// # Errors
    /// [`AccelError::Host`].
    pub fn put(mut self, before: &Self, fd: &mut VcpuFd, synced: bool) -> Result<(), AccelError> {
        // Events have their own way. In the shared page KVM only ever sets bits here, so a stale one would
        // deliver an interrupt twice.
        self.sregs.interrupt_bitmap = [0; 4];
        let system = self.sregs != kvm_sregs { interrupt_bitmap: [0; 4], ..before.sregs };
        let general = self.regs != before.regs;
        if synced {
            let shared = fd.sync_regs_mut();
            (shared.regs, shared.sregs) = (self.regs, self.sregs);
            if general {
                fd.set_sync_dirty_reg(SyncReg::Register);
            }
            if system {
                fd.set_sync_dirty_reg(SyncReg::SystemRegister);
            }
            return Ok(());
        }
        if system {
            fd.set_sregs(&self.sregs).map_err(host("KVM_SET_SREGS"))?;
        }
        if general {
            fd.set_regs(&self.regs).map_err(host("KVM_SET_REGS"))?;
        }
        Ok(())
    }

    /// A state with these registers, all else at power-on.
    pub fn state(&self) -> CpuState {
        let mut state = CpuState::default();
        self.fill(&mut state);
        state
    }

    /// Fills the general and system part of `state`.
    pub fn fill(&self, state: &mut CpuState) {
        let (r, s) = (&self.regs, &self.sregs);
        state.gpr = [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
            r.r14, r.r15,
        ];
        (state.rip, state.rflags) = (r.rip, r.rflags);
        state.segs = [&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs].map(segment_in);
        (state.ldtr, state.tr) = (segment_in(&s.ldt), segment_in(&s.tr));
        (state.gdtr, state.idtr) = (table_in(&s.gdt), table_in(&s.idt));
        (state.cr0, state.cr2, state.cr3, state.cr4) = (s.cr0, s.cr2, s.cr3, s.cr4);
        (state.cr8, state.efer) = (s.cr8, s.efer);
    }

    /// Takes the general and system part of `state`; segments that did not change keep KVM's form.
    pub fn take(&mut self, state: &CpuState) {
        let g = &state.gpr;
        self.regs = kvm_regs {
            rax: g[gpr::RAX],
            rcx: g[gpr::RCX],
            rdx: g[gpr::RDX],
            rbx: g[gpr::RBX],
            rsp: g[gpr::RSP],
            rbp: g[gpr::RBP],
            rsi: g[gpr::RSI],
            rdi: g[gpr::RDI],
            r8: g[gpr::R8],
            r9: g[gpr::R9],
            r10: g[gpr::R10],
            r11: g[gpr::R11],
            r12: g[gpr::R12],
            r13: g[gpr::R13],
            r14: g[gpr::R14],
            r15: g[gpr::R15],
            rip: state.rip,
            rflags: state.rflags,
        };
        let s = &mut self.sregs;
        let segments = [
            (&mut s.es, &state.segs[seg::ES]),
            (&mut s.cs, &state.segs[seg::CS]),
            (&mut s.ss, &state.segs[seg::SS]),
            (&mut s.ds, &state.segs[seg::DS]),
            (&mut s.fs, &state.segs[seg::FS]),
            (&mut s.gs, &state.segs[seg::GS]),
            (&mut s.ldt, &state.ldtr),
            (&mut s.tr, &state.tr),
        ];
        for (kvm, ours) in segments {
            if segment_in(kvm) != *ours {
                *kvm = segment_out(ours);
            }
        }
        for (kvm, ours) in [(&mut s.gdt, &state.gdtr), (&mut s.idt, &state.idtr)] {
            (kvm.base, kvm.limit) = (ours.base, ours.limit);
        }
        (s.cr0, s.cr2, s.cr3, s.cr4) = (state.cr0, state.cr2, state.cr3, state.cr4);
        s.efer = state.efer;
    }
}

fn segment_in(s: &kvm_segment) -> Segment {
    let present = s.present != 0 && s.unusable == 0;
    let attr = u16::from(s.type_ & 15)
        | u16::from(s.s & 1) << 4
        | u16::from(s.dpl & 3) << 5
        | u16::from(present) << 7
        | u16::from(s.avl & 1) << 12
        | u16::from(s.l & 1) << 13
        | u16::from(s.db & 1) << 14
        | u16::from(s.g & 1) << 15;
    Segment { selector: s.selector, attr, limit: s.limit, base: s.base }
}

fn segment_out(s: &Segment) -> kvm_segment {
    let bit = |n: u32| (s.attr >> n & 1) as u8;
    kvm_segment {
        base: s.base,
        limit: s.limit,
        selector: s.selector,
        type_: (s.attr & 15) as u8,
        s: bit(4),
        dpl: s.dpl(),
        present: bit(7),
        avl: bit(12),
        l: bit(13),
        db: bit(14),
        g: bit(15),
        unusable: (!s.present()).into(),
        ..Default::default()
    }
}

fn table_in(t: &kvm_dtable) -> TableRegister {
    TableRegister { base: t.base, limit: t.limit }
}

/// State that only some instructions touch, as it was fetched.
#[derive(Debug, Default)]
pub(super) struct Extra {
    vector: Option<Box<kvm_xsave>>,
    msrs: Option<Msrs>,
    debug: Option<[u64; 8]>,
}

const STAR: u32 = 0xc000_0081;

/// MSRs that `cpu/` keeps, by index, and their places.
type Place = fn(&mut Msrs) -> &mut u64;
const MSRS: [(u32, Place); 12] = [
    (STAR, |m| &mut m.star),
    (STAR + 1, |m| &mut m.lstar),
    (STAR + 2, |m| &mut m.cstar),
    (STAR + 3, |m| &mut m.sfmask),
    (0xc000_0102, |m| &mut m.kernel_gs_base),
    (0xc000_0103, |m| &mut m.tsc_aux),
    (0x174, |m| &mut m.sysenter_cs),
    (0x175, |m| &mut m.sysenter_esp),
    (0x176, |m| &mut m.sysenter_eip),
    (0x277, |m| &mut m.pat),
    (0x3b, |m| &mut m.tsc_adjust),
    (0xda0, |m| &mut m.xss),
];

/// Reads one MSR; `None` when KVM does not have it.
pub(super) fn get_msr(fd: &VcpuFd, index: u32) -> Option<u64> {
    let mut one = KvmMsrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]).ok()?;
    (fd.get_msrs(&mut one).ok()? == 1).then(|| one.as_slice()[0].data)
}

/// Writes one MSR; `false` when KVM refuses.
pub(super) fn set_msr(fd: &VcpuFd, index: u32, data: u64) -> bool {
    let one = KvmMsrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }]);
    one.is_ok_and(|one| fd.set_msrs(&one) == Ok(1))
}

impl Extra {
    /// Fetches what `needs` names into `state`.
    ///
    /// # Errors
    /// [`AccelError`].
    pub fn get(
        fd: &VcpuFd,
        needs: &Needs,
        layout: &Layout,
        state: &mut CpuState,
    ) -> Result<Self, AccelError> {
        let mut extra = Self::default();
        if needs.vector {
            state.xcr0 = xcr0(fd)?;
            let image = Box::new(fd.get_xsave().map_err(host("KVM_GET_XSAVE"))?);
            state.vec = VectorState::from_standard(layout, &bytes(&image))
                .map_err(|e| AccelError::CannotRun(format!("the host's XSAVE image: {e}")))?;
            extra.vector = Some(image);
        }
        if needs.msrs {
            for (index, place) in MSRS {
                *place(&mut state.msrs) = get_msr(fd, index).unwrap_or(0);
            }
            extra.msrs = Some(state.msrs);
        }
        if needs.debug {
            let d = fd.get_debug_regs().map_err(host("KVM_GET_DEBUGREGS"))?;
            state.dr = [d.db[0], d.db[1], d.db[2], d.db[3], 0, 0, d.dr6, d.dr7];
            extra.debug = Some(state.dr);
        }
        Ok(extra)
    }

    /// Writes back what differs from what was fetched.
    ///
    /// # Errors
    /// [`AccelError`].
    pub fn put(self, fd: &VcpuFd, layout: &Layout, state: &mut CpuState) -> Result<(), AccelError> {
        if let Some(image) = self.vector {
            put_vector(fd, image, layout, state)?;
        }
        if let Some(mut before) = self.msrs {
            for (index, place) in MSRS {
                let (old, new) = (*place(&mut before), *place(&mut state.msrs));
                if old != new && !set_msr(fd, index, new) {
                    return Err(AccelError::CannotRun(format!("KVM refuses {new:#x} in MSR {index:#x}")));
                }
            }
        }
        if self.debug.is_some_and(|before| before != state.dr) {
            put_debug(fd, &state.dr)?;
        }
        Ok(())
    }
}

/// Writes debug registers.
///
/// # Errors
/// [`AccelError::Host`].
pub(super) fn put_debug(fd: &VcpuFd, dr: &[u64; 8]) -> Result<(), AccelError> {
    let mut d = fd.get_debug_regs().map_err(host("KVM_GET_DEBUGREGS"))?;
    d.db = [dr[0], dr[1], dr[2], dr[3]];
    (d.dr6, d.dr7) = (dr[6], dr[7]);
    fd.set_debug_regs(&d).map_err(host("KVM_SET_DEBUGREGS"))
}

fn xcr0(fd: &VcpuFd) -> Result<u64, AccelError> {
    let xcrs = fd.get_xcrs().map_err(host("KVM_GET_XCRS"))?;
    let used = (xcrs.nr_xcrs as usize).min(xcrs.xcrs.len());
    Ok(xcrs.xcrs[..used].iter().find(|x| x.xcr == 0).map_or(1, |x| x.value))
}

fn bytes(image: &kvm_xsave) -> [u8; 4096] {
    let mut bytes = [0; 4096];
    for (to, from) in bytes.chunks_exact_mut(4).zip(image.region) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    bytes
}

fn put_vector(
    fd: &VcpuFd,
    mut image: Box<kvm_xsave>,
    layout: &Layout,
    state: &CpuState,
) -> Result<(), AccelError> {
    let before = bytes(&image);
    let mut after = before;
    let present = u64::from(image.region[128]) | u64::from(image.region[129]) << 32;
    state
        .vec
        .to_standard(layout, state.xcr0 | present, &mut after)
        .map_err(|e| AccelError::CannotRun(format!("the XSAVE image for the host: {e}")))?;
    if after == before {
        return Ok(());
    }
    for (to, from) in image.region.iter_mut().zip(after.chunks_exact(4)) {
        *to = u32::from_le_bytes([from[0], from[1], from[2], from[3]]);
    }
    // SAFETY: KVM reads 4096 bytes unless the process asked for AMX by arch_prctl, which this one never does.
    unsafe { fd.set_xsave(&image) }.map_err(host("KVM_SET_XSAVE"))
}

impl crate::bus::Origin for Registers {
    fn rip(&self) -> Option<u64> {
        Some(self.regs.rip)
    }
}
