//! Secrets in files of their own, as Docker and Kubernetes mount them: `DATABASE_URL_FILE` for `DATABASE_URL`, and
//! `database-url-file` in the configuration file.

use std::{env, ffi::OsString, fs::File, io::Read, path::Path};

/// The most bytes of a secret: a URL with many hosts has some hundred. A device that never ends, named by mistake, must not
/// fill the memory.
const MOST_BYTES: u64 = 64 << 10;

/// What goes behind a variable's name, where its value is in a file.
const FILE: &str = "_FILE";

/// A variable's value, where it has one: an empty variable is one that isn't set.
pub(super) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The variable that names the file of another one's value.
pub(super) fn file_variable(name: &str) -> String {
    format!("{name}{FILE}")
}

/// The secret of `NAME_FILE`, where that is set.
///
/// # Errors
/// The file can't be used, or `NAME` is set as well.
pub(super) fn of_variable(name: &str) -> Result<Option<String>, String> {
    let from = file_variable(name);
    let Some(path) = variable(&from) else {
        return Ok(None);
    };
    if variable(name).is_some() {
        return Err(format!("{name} and {from} are both set, and only one may be"));
    }
    read(Path::new(&path))
        .map(Some)
        .map_err(|reason| format!("{from} {}: {reason}", Path::new(&path).display()))
}

/// A file's contents without the newline that editors put at the end.
///
/// # Errors
/// It can't be read, or has nothing or too much in it.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("can't read it: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("has more than {MOST_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "isn't UTF-8".to_owned())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text.to_owned())
}
