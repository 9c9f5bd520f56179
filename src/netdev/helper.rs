//! Programs that prepare a backend and end: QEMU's bridge helper, and passt until it is in the background.
//!
//! Called while a backend is opened; waits for the program, up to [`PATIENCE`].

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked after.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of its last words that are shown.
const WORDS: usize = 300;

/// Why a program did not do its work.
#[derive(Debug)]
pub enum HelperError {
    /// It could not be started.
    NotRun(io::Error),
    /// It failed.
    Failed {
        /// "exit status: 1", "no end after 10s".
        status: String,
        /// What it said on standard error, by lines that are not empty.
        said: Vec<String>,
    },
}

/// Runs a program that gets a duplicate of `lent`, whose number in the program `command` is told, and waits for
/// its success.
///
/// # Errors
/// [`HelperError`]; the program has ended then.
pub fn run(lent: BorrowedFd<'_>, command: impl FnOnce(i32) -> Command) -> Result<(), HelperError> {
    // Not close-on-exec: the program inherits it. Ours is closed as soon as the program runs.
    let theirs = rustix::io::dup(lent).map_err(|error| HelperError::NotRun(error.into()))?;
    let mut command = command(theirs.as_raw_fd());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(HelperError::NotRun)?;
    drop(theirs);
    match wait(&mut child) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(HelperError::Failed { status: status.to_string(), said: said(&mut child) }),
        Ok(None) => {
            // It is ours and not yet reaped.
            let _ = child.kill().and_then(|()| child.wait());
            Err(HelperError::Failed { status: format!("no end after {PATIENCE:?}"), said: said(&mut child) })
        }
        Err(error) => Err(HelperError::NotRun(error)),
    }
}

fn wait(child: &mut Child) -> io::Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

/// What is in the pipe, without waiting for those who may still hold it.
fn said(child: &mut Child) -> Vec<String> {
    let Some(mut pipe) = child.stderr.take() else { return Vec::new() };
    let mut bytes = vec![0; 64 * 1024];
    let got =
        rustix::io::ioctl_fionbio(&pipe, true).map_err(io::Error::from).and_then(|()| pipe.read(&mut bytes));
    let text = String::from_utf8_lossy(&bytes[..got.unwrap_or(0)]).into_owned();
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// ": " and the last words of a program, on one line; nothing if there are none.
pub fn last_words<'a>(lines: impl Iterator<Item = &'a String>) -> String {
    let lines: Vec<&str> = lines.map(String::as_str).collect();
    let words: String = lines.join(" | ").chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    // The end tells most.
    let from = words.char_indices().rev().nth(WORDS).map_or(0, |(at, _)| at);
    if words.is_empty() { words } else { format!(": {}", &words[from..]) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn sh(script: &str) -> (Result<(), HelperError>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let run = run(theirs.as_fd(), |fd| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("fd={fd}; {script}")]);
            command
        });
        (run, ours)
    }

    #[test]
    fn the_program_has_the_descriptor_and_we_do_not_keep_it() {
        let (outcome, mut ours) =
            sh("python3 -c 'import os, sys; os.write(int(sys.argv[1]), b\"here\\n\")' $fd");
        assert!(outcome.is_ok());
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here\n", "and then the end, since nobody has the other side");
    }

    #[test]
    fn a_failure_comes_with_status_and_last_words() {
        let (outcome, _) = sh("echo one >&2; echo two >&2; exit 3");
        let Err(HelperError::Failed { status, said }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((status.as_str(), last_words(said.iter()).as_str()), ("exit status: 3", ": one | two"));
        let missing = run(std::io::stdin().as_fd(), |_| Command::new("/no/such/program"));
        assert!(matches!(missing, Err(HelperError::NotRun(_))), "{missing:?}");
    }
}
