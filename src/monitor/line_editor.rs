//! A line that is typed on a terminal in raw mode: echo, the keys that mend it, and the lines before.
//!
//! Pure: keys in, echo and finished lines out. Keys: Backspace, Ctrl-W (word), Ctrl-U (line), Ctrl-C (drops the
//! line), up and down (earlier lines). Other control characters and escape sequences do nothing.

/// Longest line, in bytes.
pub const MAX_LINE: usize = 4096;
/// Lines that are remembered.
const HISTORY: usize = 100;

const CTRL_C: u8 = 0x03;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const CTRL_W: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    /// Behind ESC.
    Begun,
    /// Behind ESC [ (or ESC O); parameters are skipped.
    Inside,
}

/// The editor of one terminal.
#[derive(Debug, Default)]
pub struct LineEditor {
    line: Vec<u8>,
    sequence: Sequence,
    history: Vec<Vec<u8>>,
    /// Which earlier line is shown; the history's length for none.
    at: usize,
    /// The previous byte was a carriage return.
    after_cr: bool,
}

impl LineEditor {
    /// Takes one key; what is to be shown goes to `echo`. A finished line comes back without its end.
    pub fn key(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<String> {
        let after_cr = std::mem::take(&mut self.after_cr);
        if self.sequence != Sequence::None {
            self.in_sequence(byte, echo);
            return None;
        }
        match byte {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => {
                self.after_cr = byte == b'\r';
                echo.push(b'\n');
                return Some(self.finish());
            }
            DELETE | BACKSPACE => self.rub_out(1, echo),
            CTRL_U => self.rub_out(usize::MAX, echo),
            CTRL_W => {
                let text = String::from_utf8_lossy(&self.line).into_owned();
                let kept = text.trim_end().rfind(' ').map_or(0, |space| space + 1);
                self.rub_out(text.chars().count() - text[..kept].chars().count(), echo);
            }
            CTRL_C => {
                echo.extend_from_slice(b"^C\n");
                self.line.clear();
                return Some(String::new());
            }
            ESCAPE => self.sequence = Sequence::Begun,
            0..=0x1f => {}
            _ if self.line.len() < MAX_LINE => {
                self.line.push(byte);
                echo.push(byte);
            }
            _ => {}
        }
        None
    }

    /// Drops what was typed and not finished.
    pub fn clear(&mut self) {
        self.line.clear();
        self.sequence = Sequence::None;
        self.at = self.history.len();
    }

    /// What was typed and not finished.
    pub fn typed(&self) -> &[u8] {
        &self.line
    }

    fn finish(&mut self) -> String {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        self.at = self.history.len();
        String::from_utf8_lossy(&line).into_owned()
    }

    fn in_sequence(&mut self, byte: u8, echo: &mut Vec<u8>) {
        self.sequence = match (self.sequence, byte) {
            (Sequence::Begun, b'[' | b'O') => Sequence::Inside,
            (Sequence::Inside, b'0'..=b'?') => Sequence::Inside,
            _ => Sequence::None,
        };
        match byte {
            _ if self.sequence == Sequence::Inside => {}
            b'A' => self.show(self.at.saturating_sub(1), echo),
            b'B' => self.show((self.at + 1).min(self.history.len()), echo),
            _ => {}
        }
    }

    /// Replaces the line by an earlier one.
    fn show(&mut self, at: usize, echo: &mut Vec<u8>) {
        self.at = at;
        self.rub_out(usize::MAX, echo);
        self.line = self.history.get(at).cloned().unwrap_or_default();
        echo.extend_from_slice(&self.line);
    }

    /// Takes characters off the end.
    fn rub_out(&mut self, count: usize, echo: &mut Vec<u8>) {
        for _ in 0..count {
            // The bytes that continue a UTF-8 character go with the first.
            while self.line.last().is_some_and(|byte| byte & 0xc0 == 0x80) {
                self.line.pop();
            }
            if self.line.pop().is_none() {
                break;
            }
            echo.extend_from_slice(b"\x08 \x08");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal shows in its last line, and the finished lines.
    fn type_in(editor: &mut LineEditor, keys: &[u8]) -> (String, Vec<String>) {
        let (mut echo, mut lines) = (Vec::new(), Vec::new());
        for &key in keys {
            lines.extend(editor.key(key, &mut echo));
        }
        let mut shown = String::new();
        for c in String::from_utf8(echo).unwrap().chars() {
            match c {
                '\x08' => drop(shown.pop()),
                '\n' => shown.clear(),
                '\r' => {}
                // The space between two backspaces is not there to stay.
                c => shown.push(c),
            }
        }
        (shown, lines)
    }

    #[test]
    fn keys_mend_the_line_and_the_terminal_shows_it() {
        let mut editor = LineEditor::default();
        assert_eq!(type_in(&mut editor, b"stpo\x7f\x7fop\r\n"), ("".into(), vec!["stop".into()]));
        let (shown, lines) = type_in(&mut editor, "info netwörk\x7f\x7f\x7f\x7fx".as_bytes());
        assert_eq!((shown.as_str(), lines.len()), ("info netx", 0));
        assert_eq!(editor.typed(), b"info netx");
        assert_eq!(type_in(&mut editor, b"\x17y\x15q\n").1, ["q"]);
        assert_eq!(type_in(&mut editor, b"abc\x03"), ("".into(), vec![String::new()]));
        assert_eq!(type_in(&mut editor, b"\n").1, [""], "a line feed of its own ends a line");
        assert_eq!(type_in(&mut editor, b"\x7f\x7fa\x00\x1b[3~\x1bOC\x1b[1;5Db\r").1, ["ab"]);
    }

    #[test]
    fn earlier_lines_come_back() {
        let mut editor = LineEditor::default();
        type_in(&mut editor, b"one\rtwo\rtwo\r");
        assert_eq!(type_in(&mut editor, b"\x1b[A\x1b[A\r").1, ["one"]);
        assert_eq!(type_in(&mut editor, b"x\x1b[A\x1b[B\x1b[By\r").1, ["y"]);
        assert_eq!(type_in(&mut editor, b"\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\r").1, ["one"]);
    }

    #[test]
    fn length_and_memory_are_bounded() {
        let mut editor = LineEditor::default();
        for n in 0..3 * HISTORY {
            type_in(&mut editor, format!("line {n}\r").as_bytes());
        }
        assert_eq!(editor.history.len(), HISTORY);
        let (_, lines) = type_in(&mut editor, &[vec![b'x'; 3 * MAX_LINE], vec![b'\r']].concat());
        assert_eq!(lines[0].len(), MAX_LINE);
    }
}
