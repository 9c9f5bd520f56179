//! PCI: configuration space, BARs, interrupts. A device implements [`Function`]; the rest is here.

mod function;
mod intx;

pub use function::{BarKind, BarSpec, Function, Identity};
pub use intx::IntxLine;
