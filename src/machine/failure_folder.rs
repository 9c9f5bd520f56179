//! `-on-failure DIR`: what was recorded of a run, for whoever must find out why it failed.
//!
//! Made by the assembly before anything speaks. Serial output and frames go into the folder while the machine runs,
//! so that even SIGKILL leaves them; a run that succeeds takes them away again. The folder belongs to the last run:
//! what one before left in it is removed at the start.

use std::fs::{self, File};
use std::io::{self, LineWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::SetupError;
use crate::cli::{
    CaptureFormat, DumpOptions, FilterKind, FilterOptions, FilterPlace, FilterQueue, Netdev, TraceFormat,
    TraceOptions,
};
use crate::sys::Notices;

/// A serial port's file of this length gets the ending `.old`, and a new one is begun: the end of a long run counts.
const LONGEST_RECORD: u64 = 32 << 20;
/// Bytes that a capture keeps of each frame: all of the largest one that the guest can have.
const WHOLE_FRAMES: u32 = 65536;
/// More events of a NIC in a second are only counted.
const EVENTS_PER_SECOND: u32 = 10_000;
/// How the program was called; also tells that a folder is one of ours.
const COMMAND_LINE: &str = "command-line";
/// What a folder of ours may hold.
const OURS: [&str; 6] = [".log", ".log.old", ".pcapng", "result.json", "trace.txt", COMMAND_LINE];

/// The folder of one run.
#[derive(Debug)]
pub struct FailureFolder {
    path: PathBuf,
    /// We made it, and take it away with what is in it.
    made: bool,
    /// The machine has not come to its end.
    open: bool,
    notices: Notices,
}

impl FailureFolder {
    /// Makes the folder, or empties one that an earlier run left, and notes how we were called.
    ///
    /// # Errors
    /// [`SetupError::File`].
    pub fn open(path: &Path, notices: &Notices) -> Result<Self, SetupError> {
        let made = !path.exists();
        let folder = Self { path: path.to_owned(), made, open: true, notices: notices.clone() };
        let begin = || {
            if path.exists() && !path.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            fs::create_dir_all(path)?;
            if path.join(COMMAND_LINE).exists() {
                folder.clear()?;
            }
            fs::write(path.join(COMMAND_LINE), command_line())
        };
        begin().map_err(|source| folder.error(source))?;
        Ok(folder)
    }

    fn error(&self, source: io::Error) -> SetupError {
        SetupError::File { option: "-on-failure", path: self.path.display().to_string(), source }
    }

    /// Begins the record of serial port number `index`.
    ///
    /// # Errors
    /// [`SetupError::File`].
    pub fn serial(&self, index: usize) -> Result<Record, SetupError> {
        let path = self.path.join(format!("serial{index}.log"));
        let file = File::create(&path).map_err(|source| self.error(source))?;
        let state = Mutex::new(Some(Open { file: LineWriter::new(file), length: 0 }));
        Ok(Record { path, state, notices: self.notices.clone() })
    }

    /// A capture in the cable of each netdev, next to the netdev: `ID.pcapng`.
    pub fn captures(&self, netdevs: &[Netdev]) -> Vec<FilterOptions> {
        let capture = |(n, netdev): (usize, &Netdev)| FilterOptions {
            // As no user can write it.
            id: format!("#on-failure{n}"),
            netdev: netdev.id.clone(),
            queue: FilterQueue::All,
            on: true,
            place: FilterPlace::Head,
            kind: FilterKind::Dump(DumpOptions {
                file: self.path.join(format!("{}.pcapng", netdev.id.replace('#', "_"))),
                max_len: WHOLE_FRAMES,
                format: CaptureFormat::PcapNg,
            }),
        };
        netdevs.iter().enumerate().map(capture).collect()
    }

    /// What happens in the NICs.
    pub fn trace(&self) -> TraceOptions {
        TraceOptions {
            pattern: "e1000_*".to_owned(),
            file: Some(self.path.join("trace.txt")),
            format: TraceFormat::Text,
            limit: EVENTS_PER_SECOND,
        }
    }

    /// Where the report of a run that failed goes.
    pub fn result(&self) -> PathBuf {
        self.path.join("result.json")
    }

    /// The run has ended: after a failure says where everything is, after a success removes it.
    pub fn end(mut self, success: bool) {
        self.open = false;
        if success {
            self.remove();
        } else {
            self.notices.say(&format!("what was recorded of the run is in {}", self.path.display()));
        }
    }

    fn remove(&self) {
        // Nothing depends on it: the next run tries again.
        let _ = self.clear();
        if self.made {
            // Somebody may have put something of his own there; it stays then.
            let _ = fs::remove_dir(&self.path);
        }
    }

    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            if OURS.iter().any(|ending| name.to_string_lossy().ends_with(ending)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for FailureFolder {
    fn drop(&mut self) {
        // A machine that could not be set up has recorded nothing; one that we broke has.
        if self.open && !std::thread::panicking() {
            self.remove();
        }
    }
}

/// Our own arguments as a shell takes them.
fn command_line() -> String {
    let quote = |word: std::ffi::OsString| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=:,./+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    std::env::args_os().map(quote).collect::<Vec<_>>().join(" ") + "\n"
}

/// What a serial port said, line by line as it comes.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    /// None once it could not be written.
    state: Mutex<Option<Open>>,
    notices: Notices,
}

#[derive(Debug)]
struct Open {
    file: LineWriter<File>,
    length: u64,
}

impl Record {
    /// Adds output of the guest.
    pub fn add(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let Some(open) = state.as_mut() else { return };
        if let Err(error) = self.write(open, bytes) {
            *state = None;
            drop(state);
            self.notices.say(&format!("-on-failure {}: {error}; no more is recorded", self.path.display()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, open: &mut Open, bytes: &[u8]) -> io::Result<()> {
        if open.length >= LONGEST_RECORD {
            open.file.flush()?;
            fs::rename(&self.path, self.path.with_extension("log.old"))?;
            *open = Open { file: LineWriter::new(File::create(&self.path)?), length: 0 };
        }
        open.length += bytes.len() as u64;
        open.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Notices {
        Notices::new(|_| ())
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .map(|list| list.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    #[test]
    fn a_failure_leaves_its_records_and_a_success_none() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a/b");
        let folder = FailureFolder::open(&path, &quiet()).unwrap();
        folder.serial(0).unwrap().add(b"words\n");
        folder.end(false);
        assert_eq!(names(&path), ["command-line", "serial0.log"]);
        assert_eq!(fs::read(path.join("serial0.log")).unwrap(), b"words\n");

        // The next run begins with an empty folder, and does not take away what it has not made.
        fs::write(path.join("mine"), "").unwrap();
        let folder = FailureFolder::open(&path, &quiet()).unwrap();
        assert_eq!(names(&path), ["command-line", "mine"]);
        folder.end(true);
        assert_eq!(names(&path), ["mine"]);

        let error = FailureFolder::open(&path.join("mine"), &quiet()).unwrap_err().to_string();
        assert!(error.ends_with("mine: not a directory"), "{error}");
    }

    #[test]
    fn a_success_takes_the_folder_away_that_it_made_and_so_does_a_failed_set_up() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("kept");
        let folder = FailureFolder::open(&path, &quiet()).unwrap();
        let _record = folder.serial(0).unwrap();
        folder.end(true);
        assert!(!path.exists());
        drop(FailureFolder::open(&path, &quiet()).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_of_somebody_else_s_keeps_its_files() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("build.log"), "").unwrap();
        FailureFolder::open(outer.path(), &quiet()).unwrap().end(false);
        assert_eq!(names(outer.path()), ["build.log", "command-line"]);
    }

    #[test]
    fn the_end_of_an_endless_output_is_kept() {
        let outer = tempfile::tempdir().unwrap();
        let folder = FailureFolder::open(outer.path(), &quiet()).unwrap();
        let record = folder.serial(0).unwrap();
        let piece = [b"x".repeat((8 << 20) - 1), b"\n".to_vec()].concat();
        (0..9).for_each(|_| record.add(&piece));
        let length = |name: &str| fs::metadata(outer.path().join(name)).unwrap().len();
        assert_eq!((length("serial0.log"), length("serial0.log.old")), (8 << 20, LONGEST_RECORD));
        record.add(&piece);
        folder.end(false);
    }
}
