//! minivmm.
pub mod cli;
pub mod cpu;
