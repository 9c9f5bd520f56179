//! One terminal for the guest's console and the monitor: Ctrl-A c takes the keyboard from one to the other.
//!
//! Both may write at any time. A half that is not started yet, or that has no room, leaves its input with the
//! terminal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::{CharDevice, CharReceiver, Stdio};

/// The guest's console.
const CONSOLE: usize = 0;
/// The monitor.
const MONITOR: usize = 1;

#[derive(Debug)]
struct Mux {
    terminal: Arc<Stdio>,
    /// Who has the keyboard.
    focus: AtomicUsize,
    receivers: [Receiver; 2],
}

#[derive(Default)]
struct Receiver(OnceLock<Box<dyn CharReceiver>>);

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

/// One of the two.
#[derive(Debug)]
struct Half {
    mux: Arc<Mux>,
    which: usize,
}

/// Shares a terminal that was not started yet. The console's half, then the monitor's; `monitor_first`: the
/// monitor begins with the keyboard.
pub fn share(terminal: Arc<Stdio>, monitor_first: bool) -> (Arc<dyn CharDevice>, Arc<dyn CharDevice>) {
    let focus = AtomicUsize::new(if monitor_first { MONITOR } else { CONSOLE });
    let mux = Arc::new(Mux { terminal, focus, receivers: Default::default() });
    let weak = Arc::downgrade(&mux);
    mux.terminal.on_monitor_key(Box::new(move || {
        if let Some(mux) = weak.upgrade() {
            mux.switch();
        }
    }));
    (Arc::new(Half { mux: mux.clone(), which: CONSOLE }), Arc::new(Half { mux, which: MONITOR }))
}

impl Mux {
    fn switch(&self) {
        let before = self.focus.fetch_xor(1, Ordering::SeqCst);
        if let Some(receiver) = self.receivers[before].0.get() {
            receiver.closed();
        }
        self.tell_focused();
    }

    fn focused(&self) -> Option<&dyn CharReceiver> {
        self.receivers[self.focus.load(Ordering::SeqCst)].0.get().map(|receiver| &**receiver)
    }

    fn tell_focused(&self) {
        if let Some(receiver) = self.focused() {
            receiver.opened();
        }
    }
}

/// The terminal's input.
struct Keyboard(Weak<Mux>);

impl CharReceiver for Keyboard {
    fn receive(&self, bytes: &[u8]) -> usize {
        let Some(mux) = self.0.upgrade() else { return bytes.len() };
        mux.focused().map_or(0, |receiver| receiver.receive(bytes))
    }

    fn receive_break(&self) {
        if let Some(mux) = self.0.upgrade()
            && let Some(console) = mux.receivers[CONSOLE].0.get()
        {
            console.receive_break();
        }
    }
}

impl CharDevice for Half {
    fn write(&self, bytes: &[u8]) {
        self.mux.terminal.write(bytes);
    }

    fn input_ready(&self) {
        self.mux.terminal.input_ready();
    }

    fn start(&self, receiver: Box<dyn CharReceiver>) {
        self.mux.receivers[self.which].0.get_or_init(|| receiver);
        if self.mux.focus.load(Ordering::SeqCst) == self.which {
            self.mux.tell_focused();
        }
        // The first of the two starts the terminal; for the second this is a call to look again.
        self.mux.terminal.start(Box::new(Keyboard(Arc::downgrade(&self.mux))));
    }

    fn is_terminal(&self) -> bool {
        self.mux.terminal.is_terminal()
    }
}
