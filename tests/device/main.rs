//! The e1000 as its drivers see it: registers, rings, frames, interrupts, on a clock turned by hand.
//!
//! No KVM, no tap, no thread but where threads are the subject. One file for each behaviour.

mod bars;
mod eeprom;
mod interrupts;
mod linux_driver;
mod receive;
mod transmit;
