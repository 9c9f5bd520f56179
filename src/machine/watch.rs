//! Watching serial output for the few lines that mean something to the run.
//!
//! Pure: fed by the serial glue with what the guest prints, before it reaches the host's side. The guest may
//! print anything; memory is bounded and nothing here fails.

/// Longest line that is looked at; the rest of a longer one is skipped.
const MAX_LINE: usize = 4096;

/// Cuts a byte stream into lines.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut f: impl FnMut(&[u8])) {
        for &byte in bytes {
            if byte == b'\n' {
                f(&self.line);
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
        }
    }
}

/// Recognises a Linux panic on the console (kernel/panic.c prints it at every log level).
#[derive(Debug, Default)]
pub struct PanicWatch {
    lines: Lines,
}

impl PanicWatch {
    /// Takes console output; returns the panic's own words once its line is complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<String> {
        const MARK: &[u8] = b"Kernel panic - not syncing: ";
        let mut found = None;
        self.lines.feed(bytes, |line| {
            if let Some(at) = line.windows(MARK.len()).position(|w| w == MARK) {
                found.get_or_insert_with(|| printable(&line[at + MARK.len()..]));
            }
        });
        found
    }
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Recognises the guest agent's report that `minivmm.run=COMMAND` ended (docs/guest.md): a JSON line
/// `{"event":"run-exit","status":N}`.
#[derive(Debug, Default)]
pub struct CommandWatch {
    lines: Lines,
}

impl CommandWatch {
    /// Takes agent output; returns the command's status, 0 to 255.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<u8> {
        let mut found = None;
        self.lines.feed(bytes, |line| found = found.or_else(|| status(line)));
        found
    }
}

fn status(line: &[u8]) -> Option<u8> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    (value.get("event")? == "run-exit").then_some(())?;
    u8::try_from(value.get("status")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_line_is_found_across_pieces_and_only_when_complete() {
        let mut watch = PanicWatch::default();
        assert_eq!(watch.feed(b"[    1.0] Kernel panic - not sync"), None);
        assert_eq!(watch.feed(b"ing: VFS: no \x1b[1mroot\r"), None);
        assert_eq!(watch.feed(b"\nmore"), Some("VFS: no [1mroot".into()));
    }

    #[test]
    fn the_command_s_status_is_a_json_line() {
        let mut watch = CommandWatch::default();
        assert_eq!(
            watch.feed(b"{\"event\":\"ready\"}\nnonsense\n{\"event\":\"run-exit\",\"status\":700}\n"),
            None
        );
        assert_eq!(watch.feed(b"{\"event\":\"run-exit\",\"status\":7}\n"), Some(7));
    }

    #[test]
    fn endless_lines_cost_no_memory() {
        let mut watch = PanicWatch::default();
        for _ in 0..1000 {
            assert_eq!(watch.feed(&[b'x'; 4096]), None);
        }
        assert!(watch.lines.line.capacity() <= 2 * MAX_LINE);
    }
}
