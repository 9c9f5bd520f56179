//! The words of the command line, from left to right: options and their values.
//!
//! Called by [`parse`](crate::cli::parse). What an option means is the table's; what refers to several options is left to
//! `check`. Pure.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Apply, OPTIONS, Spec};
use crate::cli::config::Command;
use crate::cli::draft::Draft;
use crate::cli::error::{CliError, Context, Wrong, quoted};
use crate::cli::{absent, check};

/// Walks the command line (without the program's name).
pub(in crate::cli) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Command, CliError> {
    let mut draft = Draft::default();
    while let Some(word) = args.next() {
        let word = word.to_string_lossy().into_owned();
        let Some(spec) = find(&word) else {
            if !absent::accepts(&word, &mut args)? {
                return Err(absent::refuse(&word));
            }
            continue;
        };
        if let Some(answer) = apply(spec, &word, &mut args, &mut draft)? {
            return Ok(answer);
        }
    }
    check::finish(draft).map(|config| Command::Run(Box::new(config)))
}

/// The option that `word` names, with one dash or two.
fn find(word: &str) -> Option<&'static Spec> {
    let name = dashless(word)?;
    OPTIONS.iter().find(|spec| spec.name == name || spec.aliases.contains(&name))
}

/// `word` without its one or two dashes; None if it has none.
pub(in crate::cli) fn dashless(word: &str) -> Option<&str> {
    word.strip_prefix("--").or_else(|| word.strip_prefix('-'))
}

fn apply(
    spec: &Spec,
    word: &str,
    args: &mut impl Iterator<Item = OsString>,
    draft: &mut Draft,
) -> Result<Option<Command>, CliError> {
    match spec.apply {
        Apply::Flag(apply) => Ok(apply(draft)),
        Apply::Text(apply) => {
            let value = value_of(spec, word, args)?;
            let context = Context::new(&format!("{word} {}", value.to_string_lossy()));
            let text = value
                .to_str()
                .ok_or_else(|| context.error(Wrong::new("the value is not UTF-8", "retype or rename it")))?;
            apply(draft, &context, text)
        }
        Apply::Path(apply) => {
            let value = value_of(spec, word, args)?;
            if value.is_empty() {
                return Err(
                    Context::new(word).error(Wrong::new("the path is empty", format!("write {word} FILE")))
                );
            }
            apply(draft, PathBuf::from(value));
            Ok(None)
        }
    }
}

/// The word after the option, unless it is missing or plainly the next option.
fn value_of(
    spec: &Spec,
    word: &str,
    args: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, CliError> {
    let context = Context::new(word);
    let how = format!("write {word} {}", spec.value);
    let value = args.next().ok_or_else(|| context.error(Wrong::new("the value is missing", &*how)))?;
    match find(&value.to_string_lossy()) {
        Some(_) => {
            let problem =
                format!("the value is missing: {} is the next option", quoted(&value.to_string_lossy()));
            Err(context.error(Wrong::new(problem, how)))
        }
        None => Ok(value),
    }
}
