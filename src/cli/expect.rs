//! `-expect [within=TIME,]REGEX`: what must be seen on the console for the run to be a success.
//!
//! Called by `options`; `machine::watch` searches for it. Pure.

use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use super::error::{CliError, Context, Wrong};
use super::values;

/// Longest compiled expression, in bytes: enough for any line, too little to be a burden at each byte.
const MAX_COMPILED: usize = 1 << 20;

/// One `-expect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// What is searched for in each line of the console.
    pub pattern: Pattern,
    /// `within=`: how long it may take from the guest's start, or from the `-expect` before; never zero. None: as
    /// long as the run lasts.
    pub within: Option<Duration>,
}

/// A regular expression on bytes (syntax of the crate `regex`). Two are equal if they are written alike.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// As the user wrote it.
    pub fn text(&self) -> &str {
        self.0.as_str()
    }

    /// Where it is first found in `line` at or behind `from`, which is not beyond its end: the end of the match.
    pub fn find_end(&self, line: &[u8], from: usize) -> Option<usize> {
        self.0.find_at(line, from).map(|found| found.end())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Pattern {}

impl std::str::FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        RegexBuilder::new(text).size_limit(MAX_COMPILED).build().map(Self)
    }
}

/// Reads the value of one `-expect`.
pub(super) fn parse(context: &Context, text: &str) -> Result<Expectation, CliError> {
    let (within, pattern) = match text.strip_prefix("within=").map(|rest| rest.split_once(',')) {
        Some(Some((time, pattern))) => (Some(time), pattern),
        Some(None) => {
            let wrong = Wrong::new("there is nothing to expect", "write within=TIME,REGEX");
            return Err(context.error(wrong));
        }
        None => (None, text),
    };
    if pattern.is_empty() {
        let wrong = Wrong::new("the expression is empty", "write what the console will show, as in 'login:'");
        return Err(context.error(wrong));
    }
    let within = within.map(|time| values::duration(time, Duration::from_secs(1))).transpose();
    let within = within.map_err(|wrong| context.error(wrong.at("within")))?;
    if within.is_some_and(|time| time.is_zero()) {
        let wrong = Wrong::new("within: nothing is seen in no time", "leave it out to wait for ever");
        return Err(context.error(wrong));
    }
    let pattern = pattern.parse().map_err(|error| context.error(unusable(&error)))?;
    Ok(Expectation { pattern, within })
}

/// The crate draws its errors over several lines; the last one says what is wrong.
fn unusable(error: &regex::Error) -> Wrong {
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
    Wrong::new(
        format!("the regular expression cannot be used: {last}"),
        "put \\ before a character that means itself",
    )
}
