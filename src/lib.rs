//! minivmm.
pub mod cpu;
