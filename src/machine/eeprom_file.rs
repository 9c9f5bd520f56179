//! `eeprom=FILE`: where a NIC's EEPROM lives between runs.
//!
//! Opened by `nics` when the NIC is made. The file is the EEPROM's words in little-endian order: 128 bytes for 64 words,
//! 512 for 256; `ethtool -e eth0 raw on` prints the same bytes. Each programming by the guest replaces the file
//! whole, so it is never half written.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::nic::e1000::eeprom::{Image, ImageError, LARGE, Store};
use crate::sys::{Notices, files};

/// Why a file cannot be an EEPROM.
#[derive(Debug, thiserror::Error)]
pub enum EepromError {
    /// It cannot be read, or a new one cannot be written.
    #[error("eeprom={path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The host's error.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("eeprom={0}: this is not a regular file")]
    NotAFile(String),
    /// Of a size that no EEPROM has.
    #[error("eeprom={path}: {source}; name another file, or remove this one and it is made anew")]
    Image {
        /// The file.
        path: String,
        /// What is wrong with its bytes.
        source: ImageError,
    },
    /// `mac=` says one thing, the file another.
    #[error("eeprom={path}: the file holds the address {} and mac= says {}; leave mac= out, or remove the file",
        hex(.in_file), hex(.wanted))]
    OtherMac {
        /// The file.
        path: String,
        /// Its address.
        in_file: [u8; 6],
        /// The option's.
        wanted: [u8; 6],
    },
}

fn hex(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The file behind an EEPROM.
#[derive(Debug)]
pub struct EepromFile {
    path: PathBuf,
    notices: Notices,
    /// A guest that programs in a loop must not fill the user's terminal.
    said: AtomicBool,
}

impl EepromFile {
    /// Reads the file, or makes it from `fresh` where there is none. `wanted_mac` is `mac=`, if given.
    ///
    /// # Errors
    /// [`EepromError`]. A file that is there is not changed.
    pub fn open(
        path: &Path,
        fresh: impl FnOnce() -> Image,
        wanted_mac: Option<[u8; 6]>,
        notices: &Notices,
    ) -> Result<(Image, Self), EepromError> {
        let name = || path.display().to_string();
        let io_error = |source| EepromError::Io { path: name(), source };
        let image = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let image = fresh();
                files::replace_durably(path, &image.to_bytes()).map_err(io_error)?;
                image
            }
            Err(error) => return Err(io_error(error)),
            Ok(about) if !about.is_file() => return Err(EepromError::NotAFile(name())),
            Ok(_) => {
                let image = read(path).map_err(io_error)?;
                Image::from_bytes(&image).map_err(|source| EepromError::Image { path: name(), source })?
            }
        };
        if let Some(wanted) = wanted_mac.filter(|wanted| *wanted != image.mac()) {
            return Err(EepromError::OtherMac { path: name(), in_file: image.mac(), wanted });
        }
        // What a link points to is replaced, not the link.
        let path = path.canonicalize().map_err(io_error)?;
        let notices = notices.about(&format!("eeprom={}", path.display()));
        if !image.checksum_is_good() {
            notices.say("the checksum (word 3f) is wrong, as drivers will find");
        }
        Ok((image, Self { path, notices, said: AtomicBool::new(false) }))
    }
}

/// At most one byte more than the largest EEPROM, so that a huge file is known for what it is without being read.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * LARGE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Store for EepromFile {
    fn programmed(&self, image: &Image) {
        if let Err(error) = files::replace_durably(&self.path, &image.to_bytes())
            && !self.said.swap(true, Ordering::Relaxed)
        {
            self.notices
                .say(&format!("cannot be written, so what the guest programs is lost at the end: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nic::e1000::Model;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn fresh() -> Image {
        Image::fresh(Model::I82540Em, MAC)
    }

    fn open(path: &Path, mac: Option<[u8; 6]>) -> Result<(Image, EepromFile), EepromError> {
        EepromFile::open(path, fresh, mac, &Notices::new(|_| ()))
    }

    fn message(path: &Path, mac: Option<[u8; 6]>) -> String {
        open(path, mac).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn it_is_made_once_and_keeps_what_is_programmed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        let (mut image, file) = open(&path, Some(MAC)).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), &image), (fresh().to_bytes(), &fresh()));
        image.set_mac([2; 6]);
        file.programmed(&image);
        assert_eq!(open(&path, None).unwrap().0, image);
        assert_eq!(
            message(&path, Some(MAC)),
            format!(
                "eeprom={}: the file holds the address 02:02:02:02:02:02 and mac= says 02:00:00:00:00:01; \
                 leave mac= out, or remove the file",
                path.display()
            )
        );
    }

    #[test]
    fn what_is_no_eeprom_is_refused_and_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rom");
        for len in [0, 127, 4096] {
            std::fs::write(&path, vec![7; len]).unwrap();
            assert!(message(&path, None).contains("an EEPROM image has 128 bytes"), "{len}");
            assert_eq!(std::fs::read(&path).unwrap(), vec![7; len]);
        }
        assert!(message(folder.path(), None).ends_with("this is not a regular file"));
        assert!(message(Path::new("/dev/null"), None).ends_with("this is not a regular file"));
        assert!(message(&folder.path().join("no/rom"), None).contains("No such file"));
    }

    #[test]
    fn a_link_stays_a_link_and_trouble_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("rom"), folder.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        std::fs::write(&path, [0xff; 512]).unwrap();
        let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let into = said.clone();
        let notices = Notices::new(move |line| into.lock().unwrap().push(line.to_owned()));
        let (image, file) = EepromFile::open(&link, fresh, None, &notices).unwrap();
        assert_eq!((image.words().len(), said.lock().unwrap().len()), (LARGE, 1), "a bad checksum is told");
        file.programmed(&fresh());
        assert!(link.is_symlink() && std::fs::read(&path).unwrap().len() == 128);
        std::fs::remove_dir_all(folder.path()).unwrap();
        file.programmed(&fresh());
        file.programmed(&fresh());
        let said = said.lock().unwrap();
        assert!(said.len() == 2 && said[1].contains("cannot be written"), "{said:?}");
    }
}
