//! Files that are replaced whole.
//!
//! Called by `machine` for `-result` and `eeprom=`. A reader, and a crash, sees either the old content or the new.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Replaces what is at `path` (a symbolic link: the link itself) by `content`. The old file's permissions are kept.
///
/// # Errors
/// The host's; `path` is then as it was.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    through_temporary(path, |file| file.write_all(content))
}

/// The same; the content is on the disk when this returns.
///
/// # Errors
/// The host's; `path` is then as it was.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    through_temporary(path, |file| file.write_all(content).and_then(|()| file.sync_all()))
}

fn through_temporary(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
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
