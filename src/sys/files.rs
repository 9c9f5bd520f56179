//! Files that are replaced whole.
//!
//! Called by `machine` for `-result`, `coverage=` and `eeprom=`. A reader, and a crash, sees either the old content or the
//! new. A device (`/dev/null`, `/dev/stdout`) is written to, never replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Replaces what is at `path` (a symbolic link: the link itself) by `content`. The old file's permissions are kept.
///
/// # Errors
/// The host's; `path` is then as it was.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if is_device(path) {
        // Nobody waits for whoever should read it.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        return OpenOptions::new().append(true).custom_flags(flags).open(path)?.write_all(content);
    }
    through_temporary(path, |file| file.write_all(content))
}

/// Whether [`replace`] would work now; nothing stays of the trial.
///
/// # Errors
/// As [`replace`]'s.
pub fn replaceable(path: &Path) -> io::Result<()> {
    match is_device(path) {
        true => Ok(()),
        false if path.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        false => {
            let trial = temporary(path);
            File::create(&trial)?;
            std::fs::remove_file(&trial)
        }
    }
}

/// A character device, or one of the links by which a process names its own descriptors.
fn is_device(path: &Path) -> bool {
    let device = std::fs::metadata(path).is_ok_and(|data| data.file_type().is_char_device());
    device || std::fs::read_link(path).is_ok_and(|target| target.starts_with("/proc"))
}

/// The same; the content is on the disk when this returns.
///
/// # Errors
/// The host's; `path` is then as it was.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    through_temporary(path, |file| file.write_all(content).and_then(|()| file.sync_all()))
}

/// A name beside `path`, of this process's own.
fn temporary(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder.join(format!(".{name}.{}", std::process::id()))
}

fn through_temporary(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary(path);
    let written = File::create(&temporary).and_then(|mut file| {
        if let Ok(old) = std::fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        fill(&mut file)
    });
    written.and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
        // The first error is the one to tell; the leftover may not even exist.
        std::fs::remove_file(&temporary).unwrap_or_default();
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn content_is_replaced_whole_and_permissions_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"a long first content").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        replace_durably(&path, b"short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_device_stays_and_takes_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        replaceable(&null).unwrap();
        replace(&null, b"x").unwrap();
        assert!(null.is_symlink(), "replaced by a file");
        // As /dev/stdout is, where it leads to a file.
        let (file, own) = (folder.path().join("file"), folder.path().join("own"));
        let open = File::create(&file).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        std::os::unix::fs::symlink(format!("/proc/self/fd/{number}"), &own).unwrap();
        (&open).write_all(b"before, ").unwrap();
        replace(&own, b"behind").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"before, behind");
        assert!(own.is_symlink(), "replaced by a file");
    }

    #[test]
    fn a_trial_tells_what_would_fail_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replaceable(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(replaceable(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let nowhere = folder.path().join("no").join("file");
        assert_eq!(replaceable(&nowhere).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_failure_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"x").is_err());
        assert!(path.is_dir());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("no/such/folder"), b"x").is_err());
    }
}
