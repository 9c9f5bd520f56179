//! Cuts a byte stream into JSON values as QEMU's monitor does: objects need not end in a line end, and strings
//! may stand in single quotes.
//!
//! Pure. Used by `qmp.rs`, fuzzed. Memory is bounded by [`MAX_VALUE`]; after an error everything up to the next
//! line end (or a byte 0xff, with which clients resynchronize) is skipped, so that one broken command costs one
//! error.

use serde_json::Value;

/// Longest value, in bytes.
pub const MAX_VALUE: usize = 256 << 10;
/// Deepest nesting. serde_json's own limit is 128.
pub const MAX_DEPTH: usize = 64;

/// Why a piece of input is no JSON value; `Display` is what QMP says after "JSON parse error, ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Something else than a value begins here.
    #[error("expecting a JSON object, not {0:?}")]
    NoValue(char),
    /// Brackets, strings, numbers.
    #[error("{0}")]
    Syntax(String),
    /// More than [`MAX_VALUE`] bytes.
    #[error("the value is longer than {MAX_VALUE} bytes")]
    TooLong,
    /// More than [`MAX_DEPTH`] levels.
    #[error("the value is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Between values.
    #[default]
    Between,
    Inside,
    /// In a string that this quote ends.
    Quoted(u8),
    /// Behind a backslash in such a string.
    Escaped(u8),
    /// Behind an error.
    Skipping,
}

/// The cutter.
#[derive(Debug, Default)]
pub struct JsonStream {
    state: State,
    depth: usize,
    value: Vec<u8>,
}

impl JsonStream {
    /// Takes the next bytes; `found` gets each value or error that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Result<Value, JsonError>)) {
        for &byte in bytes {
            if let Some(result) = self.take(byte) {
                found(result);
            }
        }
    }

    /// Forgets what was begun.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn take(&mut self, byte: u8) -> Option<Result<Value, JsonError>> {
        if byte == 0xff {
            self.clear();
            return None;
        }
        match self.state {
            State::Skipping => {
                if byte == b'\n' {
                    self.clear();
                }
                None
            }
            State::Between => match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0 => None,
                b'{' | b'[' => self.inside(byte),
                _ => self.fail(byte, JsonError::NoValue(byte.into())),
            },
            State::Inside => self.inside(byte),
            State::Quoted(quote) => self.quoted(byte, quote),
            State::Escaped(quote) => {
                self.state = State::Quoted(quote);
                if byte != b'\'' {
                    self.value.push(b'\\');
                }
                self.keep(byte)
            }
        }
    }

    fn inside(&mut self, byte: u8) -> Option<Result<Value, JsonError>> {
        self.state = State::Inside;
        match byte {
            b'{' | b'[' if self.depth == MAX_DEPTH => return self.fail(byte, JsonError::TooDeep),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            b'"' | b'\'' => {
                self.state = State::Quoted(byte);
                return self.keep(b'"');
            }
            _ => {}
        }
        let failed = self.keep(byte);
        if failed.is_some() || self.depth > 0 {
            return failed;
        }
        let parsed = serde_json::from_slice(&self.value);
        match parsed {
            Ok(value) => {
                self.clear();
                Some(Ok(value))
            }
            Err(error) => self.fail(byte, JsonError::Syntax(error.to_string())),
        }
    }

    fn quoted(&mut self, byte: u8, quote: u8) -> Option<Result<Value, JsonError>> {
        match byte {
            b'\\' => {
                // Kept with the next byte, since an escaped single quote is no escape in JSON.
                self.state = State::Escaped(quote);
                None
            }
            _ if byte == quote => {
                self.state = State::Inside;
                self.keep(b'"')
            }
            b'"' => {
                self.value.push(b'\\');
                self.keep(byte)
            }
            // A string never spans lines: the rest of a line with a forgotten quote is not the next command.
            b'\n' => self.fail(byte, JsonError::Syntax("a string does not end on its line".into())),
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) -> Option<Result<Value, JsonError>> {
        self.value.push(byte);
        if self.value.len() <= MAX_VALUE { None } else { self.fail(byte, JsonError::TooLong) }
    }

    fn fail(&mut self, byte: u8, error: JsonError) -> Option<Result<Value, JsonError>> {
        self.clear();
        if byte != b'\n' {
            self.state = State::Skipping;
        }
        Some(Err(error))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn all(input: &[u8]) -> Vec<Result<Value, JsonError>> {
        let (mut stream, mut found) = (JsonStream::default(), Vec::new());
        stream.feed(input, |result| found.push(result));
        found
    }

    #[test]
    fn values_need_no_line_end_between_them() {
        let input = br#"  {"a":[1,{"b":"}{\"]"}]}{"c":null}
            [2] {'execute': 'it\'s "so"'}"#;
        let expected = [
            json!({"a": [1, {"b": "}{\"]"}]}),
            json!({"c": null}),
            json!([2]),
            json!({"execute": "it's \"so\""}),
        ];
        let values: Vec<Value> = all(input).into_iter().map(Result::unwrap).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn a_broken_command_costs_one_error_and_the_next_line_is_read() {
        let brackets = r#"{"a":1]"#;
        for broken in ["hello {}", brackets, r#"{"a" 1}"#, "}", r#"{"a":"b"#, "\u{1}", "{\"a\":\"\u{1}\"}"] {
            let mut input = broken.as_bytes().to_vec();
            input.extend_from_slice(b"\n{\"ok\":1}");
            // The unfinished bracket goes on; the other one closes it wrongly.
            let found = all(&input);
            assert!(found[0].is_err(), "{broken}");
            assert_eq!(found[1..], [Ok(json!({"ok": 1}))], "{broken}");
        }
        let found = all(b"{\"a\":\xff{\"ok\":1}");
        assert_eq!(found, [Ok(json!({"ok": 1}))]);
    }

    #[test]
    fn length_and_depth_are_bounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(all(deep.as_bytes()), [Err(JsonError::TooDeep)]);
        let nested = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert!(all(nested.as_bytes())[0].is_ok());
        let mut stream = JsonStream::default();
        let mut errors = 0;
        stream.feed(b"{\"a\":\"", |_| ());
        for _ in 0..2 * MAX_VALUE / 1024 {
            stream.feed(&[b'x'; 1024], |result| errors += u32::from(result == Err(JsonError::TooLong)));
        }
        assert_eq!((errors, stream.value.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_result_is_the_same(input in r#"[{}\[\]"':,a1\\ \n]{0,60}"#, at in 0usize..60) {
            let at = at.min(input.len());
            let (mut stream, mut found) = (JsonStream::default(), Vec::new());
            stream.feed(&input.as_bytes()[..at], |result| found.push(result));
            stream.feed(&input.as_bytes()[at..], |result| found.push(result));
            prop_assert_eq!(found, all(input.as_bytes()));
        }
    }
}
