//! The host's operating system, as far as a user meets it: terminal, signals, and the files behind serial lines.

pub mod chardev;
pub mod files;
pub mod inherit;
mod notices;
pub mod signals;
pub mod terminal;
pub mod unix_path;

pub use notices::Notices;
