//! `prepare` with real files: what is no file, or no good file, is named with its option and path, on one line.

use std::path::Path;

use minivmm::boot::{BootConfig, BootTarget, prepare};

use super::builder::*;

fn config(kernel: &Path, initrd: Option<&Path>) -> BootConfig {
    BootConfig { kernel: kernel.into(), initrd: initrd.map(Into::into), target: target() }
}

fn error(kernel: &Path, initrd: Option<&Path>) -> String {
    let line = prepare(&config(kernel, initrd)).unwrap_err().to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn files_are_read_and_may_be_named_by_links() {
    let dir = tempfile::tempdir().unwrap();
    let (kernel, link, initrd) =
        (dir.path().join("bzImage"), dir.path().join("link"), dir.path().join("initrd"));
    std::fs::write(&kernel, gzip_bzimage()).unwrap();
    std::os::unix::fs::symlink(&kernel, &link).unwrap();
    std::fs::write(&initrd, [1; 300]).unwrap();
    let image = prepare(&config(&link, Some(&initrd))).unwrap();
    assert!(image.pieces().any(|(at, bytes)| at == RAM - 4096 && bytes == [1; 300]));
}

#[test]
fn missing_files_directories_and_devices_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("kernel");
    std::fs::write(&good, gzip_bzimage()).unwrap();
    let missing = dir.path().join("missing");
    assert!(
        error(&missing, None)
            .starts_with(&format!("-kernel {}: cannot read it: No such file", missing.display()))
    );
    assert!(
        error(&good, Some(&missing)).starts_with(&format!("-initrd {}: cannot read it", missing.display()))
    );
    assert!(error(dir.path(), None).ends_with("this is a directory, not a file with a kernel"));
    assert!(error(&good, Some(dir.path())).ends_with("this is a directory, not a file"));
    assert!(error(Path::new("/dev/zero"), None).contains("a character device"));
}

#[test]
fn a_path_with_a_line_break_stays_on_one_line() {
    assert!(
        error(Path::new("no\nsuch\u{1b}[31mfile"), None).starts_with("-kernel no\\nsuch\\u{1b}[31mfile: ")
    );
}

#[test]
fn an_initrd_larger_than_ram_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (kernel, initrd) = (dir.path().join("kernel"), dir.path().join("initrd"));
    std::fs::write(&kernel, gzip_bzimage()).unwrap();
    let huge = std::fs::File::create(&initrd).unwrap();
    huge.set_len(1 << 40).unwrap();
    let line = error(&kernel, Some(&initrd));
    assert!(line.contains("1099511627776 bytes do not fit") && line.contains("-m"), "{line}");
}

#[test]
fn a_kernel_file_of_a_terabyte_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("kernel");
    std::fs::File::create(&kernel).unwrap().set_len(1 << 40).unwrap();
    assert!(error(&kernel, None).ends_with("larger than 1024 MiB: not a kernel"));
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &gzip_bzimage()).unwrap());
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let small = BootConfig {
        target: BootTarget { cmdline: String::new(), ..target() },
        ..config(path.as_ref(), None)
    };
    assert!(prepare(&small).unwrap().summary().contains("6.16.9-test"));
    feeder.join().unwrap();
}
