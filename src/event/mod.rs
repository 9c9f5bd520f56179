//! The event loop: one thread that waits for host files and timers and calls their handlers.
