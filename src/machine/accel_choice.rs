//! Which accelerator runs the guest: `-accel` in order, else what suits this machine.
//!
//! Without `-accel`: KVM where it has hardware under it, the software CPU otherwise.

use crate::accel::kvm::KvmAccel;
use crate::accel::soft::SoftAccel;
use crate::accel::{Accel, AccelError};
use crate::cli::AccelChoice;

/// The accelerator that was taken, and one line why, if the user did not name it alone.
#[derive(Debug)]
pub struct Chosen {
    /// The accelerator.
    pub accel: Box<dyn Accel>,
    /// For the user, on standard error.
    pub note: Option<String>,
}

/// Opens the first of `wanted` that works; with an empty list, the one that suits.
///
/// # Errors
/// [`AccelError`] when none works: what each of them said.
pub fn choose(wanted: &[AccelChoice]) -> Result<Chosen, AccelError> {
    match wanted {
        [] => Ok(suitable()),
        [only] => Ok(Chosen { accel: open(*only)?, note: None }),
        several => first_that_works(several),
    }
}

fn open(choice: AccelChoice) -> Result<Box<dyn Accel>, AccelError> {
    Ok(match choice {
        AccelChoice::Kvm => Box::new(KvmAccel::open()?),
        AccelChoice::Soft => Box::new(SoftAccel),
    })
}

fn name(choice: AccelChoice) -> &'static str {
    match choice {
        AccelChoice::Kvm => "kvm",
        AccelChoice::Soft => "soft",
    }
}

fn suitable() -> Chosen {
    let why = match KvmAccel::open() {
        Ok(kvm) if kvm.hardware() => return Chosen { accel: Box::new(kvm), note: None },
        Ok(_) => "this host's KVM has no hardware virtualization under it and would be slower".to_owned(),
        Err(error) => error.to_string(),
    };
    let note = Some(format!("-accel soft: {why} (-accel kvm insists)"));
    Chosen { accel: Box::new(SoftAccel), note }
}

fn first_that_works(wanted: &[AccelChoice]) -> Result<Chosen, AccelError> {
    let mut failures = Vec::new();
    for choice in wanted {
        match open(*choice) {
            Ok(accel) => {
                let note = format!("-accel {}: {}", name(*choice), failures.join("; "));
                return Ok(Chosen { accel, note: (!failures.is_empty()).then_some(note) });
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(AccelError::Unavailable(failures.join("; ")))
}

/// The text of `-accel help`.
pub fn help() -> String {
    let kvm = match KvmAccel::open() {
        Ok(kvm) if kvm.hardware() => "works here, with hardware virtualization".to_owned(),
        Ok(_) => {
            "works here, but without hardware virtualization under it: slow (docs/kvm-hosts.md)".to_owned()
        }
        Err(error) => format!("does not work here: {error}"),
    };
    let taken = suitable().accel.name();
    format!(
        "Accelerators, what runs the guest's instructions:\n  \
         kvm   {kvm}\n  soft  works everywhere: the CPU in software, no privileges needed\n\
         Without -accel this machine takes {taken}. -accel kvm:soft takes the first that works.\n"
    )
}
