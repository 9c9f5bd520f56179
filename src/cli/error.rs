//! The one line that a bad command line gets.
//!
//! Made by every parser in `cli` through [`Context`], shown by `main`. Never prints and never spans lines: what
//! the user typed is echoed with its control characters escaped and its tail cut.

use std::fmt;

/// Characters of an option that are echoed.
const ECHO_LIMIT: usize = 120;
/// Characters of a single value that are quoted.
const QUOTE_LIMIT: usize = 60;

/// A command line that cannot be used. `Display` is one line: the option as typed, what was wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{echo}: {wrong}")]
pub struct CliError {
    echo: String,
    wrong: Wrong,
}

impl CliError {
    /// `echo` is an option as typed, already printable.
    pub(super) fn new(echo: &str, wrong: impl Into<Wrong>) -> Self {
        CliError { echo: echo.to_owned(), wrong: wrong.into() }
    }
}

/// What was wrong with a value and what to do about it, without saying where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    problem: String,
    advice: Option<String>,
}

impl Wrong {
    pub(super) fn new(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Wrong { problem: problem.into(), advice: Some(advice.into()) }
    }

    /// The same, said of `key`.
    pub(super) fn at(mut self, key: &str) -> Self {
        self.problem.insert_str(0, &format!("{key}: "));
        self
    }
}

/// A problem that says by itself what to do.
impl From<String> for Wrong {
    fn from(problem: String) -> Self {
        Wrong { problem, advice: None }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// The option being read, as it was typed.
#[derive(Debug)]
pub(super) struct Context {
    echo: String,
}

impl Context {
    /// `words`: the option and its value as typed.
    pub(super) fn new(words: &str) -> Self {
        Context { echo: printable(words, ECHO_LIMIT) }
    }

    pub(super) fn echo(&self) -> &str {
        &self.echo
    }

    pub(super) fn error(&self, wrong: impl Into<Wrong>) -> CliError {
        CliError::new(&self.echo, wrong)
    }
}

/// `value` between quotes, printable and short.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", printable(value, QUOTE_LIMIT))
}

/// `text` on one line: what cannot be printed is escaped, and all beyond `limit` characters is cut.
fn printable(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == limit {
            out.push_str("...");
            break;
        }
        match c {
            '\'' | '"' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}
