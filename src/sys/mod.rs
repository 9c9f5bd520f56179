//! The host's operating system, as far as a user meets it: terminal, signals, and the files behind serial lines.
