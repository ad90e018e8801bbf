//! The kernel's page cache, of which it can be asked to forget files; on Linux only.

use std::path::PathBuf;

/// Has it forget the files, segments of 1 GB included. Answers whether all could be opened and there are some.
#[cfg(target_os = "linux")]
pub(crate) fn forget(files: &[PathBuf]) -> bool {
    use std::fs::File;

    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

    let forget_one = |file: &PathBuf| {
        let opened = File::open(file)?;
        posix_fadvise(&opened, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(std::io::Error::from)
    };
    let all = files.iter().all(|file| {
        let mut ok = forget_one(file).is_ok();
        for segment in 1.. {
            let mut name = file.clone().into_os_string();
            name.push(format!(".{segment}"));
            let segment = PathBuf::from(name);
            if !segment.exists() {
                break;
            }
            ok &= forget_one(&segment).is_ok();
        }
        ok
    });
    all && !files.is_empty()
}

/// Can't be done here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn forget(_: &[PathBuf]) -> bool {
    false
}
