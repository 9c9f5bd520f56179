//! PCI as a guest sees it: configuration mechanisms, BARs, Command, MSI, power states, reset. No KVM, no
//! guest; a probe function on a real bus records what reaches it.

mod bars;
mod command;
mod interrupts;
mod mechanisms;
mod placement;
mod power;
mod probe;
mod racing;
mod random_access;
mod reset;
mod rom;
mod tables;
