//! The e1000 as its drivers see it: registers, rings, frames, interrupts, on a clock turned by hand.
//!
//! No KVM, no tap, no thread but where threads are the subject. One file for each behaviour.

mod bars;
mod damaged_frames;
mod eeprom;
mod flow_control;
mod interrupts;
mod leds;
mod link;
mod linux_driver;
mod msi_and_power;
mod overflow;
mod receive;
mod register_docs;
mod robustness;
mod segmentation;
mod self_test;
mod statistics;
mod transmit;
mod wake;
