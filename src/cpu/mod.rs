//! x86-64 in software.
