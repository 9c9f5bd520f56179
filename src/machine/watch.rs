//! Watching serial output for the few lines that mean something to the run.
//!
//! Pure: fed by the serial glue with what the guest prints, before it reaches the host's side. The guest may
//! print anything; memory is bounded and nothing here fails.

use std::collections::VecDeque;

use crate::cli::Pattern;

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

/// Searches the console for what `-expect` names, one after the other.
///
/// Each line is searched without its end, and while it grows: a prompt has no end. There `$` does not match, since
/// more may follow. A line of more than [`MAX_LINE`] bytes is searched in pieces that overlap by half.
#[derive(Debug, Default)]
pub struct ExpectWatch {
    patterns: VecDeque<Pattern>,
    line: Vec<u8>,
    /// Where the search in this line begins: behind what was found in it.
    from: usize,
}

impl ExpectWatch {
    /// Looks for `patterns` in this order.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self { patterns: patterns.into_iter().collect(), ..Self::default() }
    }

    /// Takes console output; returns how many patterns were found in it.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let before = self.patterns.len();
        for &byte in bytes {
            match byte {
                _ if self.patterns.is_empty() => break,
                b'\n' => self.end_of_line(),
                _ => {
                    if self.line.len() == MAX_LINE {
                        self.forget_half();
                    }
                    self.line.push(byte);
                    // A carriage return may belong to the line's end.
                    if byte != b'\r' {
                        self.unfinished();
                    }
                }
            }
        }
        before - self.patterns.len()
    }

    fn end_of_line(&mut self) {
        let end = self.line.iter().rposition(|&b| b != b'\r').map_or(0, |last| last + 1);
        while let Some(found) = self.find(end.max(self.from)) {
            self.found(found);
        }
        self.line.clear();
        self.from = 0;
    }

    /// Programs that paint a screen never end a line.
    fn forget_half(&mut self) {
        self.line.drain(..MAX_LINE / 2);
        self.from = self.from.saturating_sub(MAX_LINE / 2);
    }

    /// A byte behind the line stands for what may follow: a match that needs it, or the line's end, is none yet.
    fn unfinished(&mut self) {
        let len = self.line.len();
        self.line.push(0);
        while let Some(found) = self.find(len + 1).filter(|&found| found <= len) {
            self.found(found);
        }
        self.line.truncate(len);
    }

    fn find(&self, end: usize) -> Option<usize> {
        self.patterns.front()?.find_end(self.line.get(..end)?, self.from)
    }

    fn found(&mut self, end: usize) {
        self.patterns.pop_front();
        self.from = end;
    }
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

    fn expecting(patterns: &[&str]) -> ExpectWatch {
        ExpectWatch::new(patterns.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn a_prompt_is_seen_without_its_line_s_end() {
        let mut watch = expecting(&["^login: "]);
        assert_eq!(watch.feed(b"Last login: today\r\nlogin:"), 0);
        assert_eq!(watch.feed(b" "), 1);
        assert_eq!(watch.feed(b"login: "), 0, "once is enough");
    }

    #[test]
    fn the_end_of_a_line_is_where_it_ends_only() {
        let mut watch = expecting(&["ok$", "all of it.", "x*"]);
        assert_eq!(watch.feed(b"ok, but\r\nnot ok"), 0);
        assert_eq!(watch.feed(b"\r\nall of it"), 1);
        assert_eq!(watch.feed(b"\r\n"), 0, "a line's end is no character");
        assert_eq!(watch.feed(b"all of it!"), 2);
    }

    #[test]
    fn patterns_are_seen_in_their_order_also_in_one_line() {
        let mut watch = expecting(&["one", "two", "one"]);
        assert_eq!(watch.feed(b"two one"), 1);
        assert_eq!(watch.feed(b" two two\n"), 1);
        assert_eq!(watch.feed(b"on"), 0);
        assert_eq!(watch.feed(b"e\n"), 1);
        let mut watch = expecting(&["^a", "^b"]);
        assert_eq!(watch.feed(b"ab\n"), 1);
        assert_eq!(watch.feed(b"b"), 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_searched() {
        let mut watch = expecting(&[r"(?-u)\xff\x80z"]);
        assert_eq!(watch.feed(b"\x00\xff\x80z"), 1);
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
        let mut expect = expecting(&["y"]);
        assert_eq!(expect.feed(&[b'x'; 10_000]), 0);
        assert!(expect.line.capacity() <= 2 * MAX_LINE);
        assert_eq!(expect.feed(b"y"), 1, "wherever in a line it stands");
        let mut watch = PanicWatch::default();
        for _ in 0..1000 {
            assert_eq!(watch.feed(&[b'x'; 4096]), None);
        }
        assert!(watch.lines.line.capacity() <= 2 * MAX_LINE);
    }
}
