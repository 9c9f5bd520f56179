//! The e1000 as its drivers see it: registers, rings, frames, interrupts, on a clock turned by hand.
//!
//! No KVM, no tap, no thread but where threads are the subject. One file for each behaviour.

mod bars;
mod causes;
mod checksums;
mod coverage;
mod damaged_frames;
mod doctor;
mod doctor_correct;
mod doctor_moments;
mod doctor_sums;
mod doctor_wrong;
mod eeprom;
mod faults;
mod flow_control;
mod hostile_guest;
mod interrupts;
mod leds;
mod link;
mod linux_driver;
mod msi_and_power;
mod overflow;
mod receive;
mod receive_ring;
mod register_docs;
mod resets;
mod robustness;
mod segmentation;
mod self_test;
mod statistics;
mod trace;
mod transmit;
mod transmit_fields;
mod wake;
mod write_back;
