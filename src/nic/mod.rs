//! Network interface controllers: device models that speak PCI on one side and frames on the other.
//!
//! `machine` creates them; they never learn of KVM, taps, threads or the host's clock.

pub mod e1000;
