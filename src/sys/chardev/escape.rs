//! Ctrl-A: the keys that the terminal's user types to minivmm instead of the guest. Pure.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What Ctrl-A h prints.
pub const HELP: &str = "
Ctrl-A h        this help
Ctrl-A x        end minivmm at once (the guest is not shut down)
Ctrl-A b        send a break (Linux: SysRq)
Ctrl-A c        switch between console and monitor
Ctrl-A Ctrl-A   send Ctrl-A
";

/// What Ctrl-A c prints where nothing shares the terminal.
pub const NO_MONITOR: &str = "\nthe monitor is not on this terminal (docs/monitor.md)\n";

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Goes to the guest.
    Pass(u8),
    /// Nothing (yet).
    Nothing,
    /// End the run.
    Quit,
    /// Print [`HELP`].
    Help,
    /// Switch between console and monitor.
    Monitor,
    /// A break for the guest.
    Break,
}

/// Watches for Ctrl-A.
#[derive(Debug, Default)]
pub struct Escape {
    pressed: bool,
}

impl Escape {
    /// Takes one byte of input.
    pub fn feed(&mut self, byte: u8) -> Key {
        if !std::mem::take(&mut self.pressed) {
            if byte != ESCAPE {
                return Key::Pass(byte);
            }
            self.pressed = true;
            return Key::Nothing;
        }
        match byte {
            ESCAPE => Key::Pass(ESCAPE),
            b'x' => Key::Quit,
            b'h' | b'?' => Key::Help,
            b'c' => Key::Monitor,
            b'b' => Key::Break,
            _ => Key::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let mut escape = Escape::default();
        let keys: Vec<Key> = b"a\x01x\x01h\x01c\x01b\x01\x01\x01zb".iter().map(|&b| escape.feed(b)).collect();
        use Key::*;
        let expected = [
            Pass(b'a'),
            Nothing,
            Quit,
            Nothing,
            Help,
            Nothing,
            Monitor,
            Nothing,
            Break,
            Nothing,
            Pass(1),
            Nothing,
            Nothing,
            Pass(b'b'),
        ];
        assert_eq!(keys, expected);
    }
}
