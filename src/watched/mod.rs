//! Files of settings that may change while the server runs: certificates, keys, limits.
//!
//! A file is watched by reading it every few seconds. Notifications of the file system would be sooner, and miss what
//! matters: Kubernetes swaps a symbolic link two directories up, editors rename, network file systems tell nothing. What
//! is compared is the contents, so it doesn't matter how they came there.
//!
//! New contents are taken when two looks in a row have found them: a file that is just being written is incomplete, and
//! a certificate may be there before its key. What can't be used is logged once, and what was in use stays. Whoever asks for a
//! look ([`Looks::now`]) says that the change is complete.

mod looks;

use std::{fmt, fs::File, io::Read, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, watch},
    task, time,
};

pub use looks::{LookOutcome, Looks};

use looks::Answer;

/// How often files are read, where nothing else is said: what has changed is in use after two looks. Reading some small
/// files that often costs nothing that could be measured.
pub const LOOK: Duration = Duration::from_secs(3);
/// The most bytes of a file: a bundle of all public authorities has some 200 KB, and a device that never ends, named by
/// mistake, must not fill the memory.
const MOST_BYTES: u64 = 4 << 20;

/// A file, and the flag that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagFile {
    /// The flag, such as `--tls-cert`.
    pub flag: &'static str,
    /// The path that was given with it.
    pub path: PathBuf,
}

impl FlagFile {
    /// An error about the file, which names the flag and the path. `reason` must not quote what is secret.
    pub fn error(&self, reason: impl fmt::Display) -> anyhow::Error {
        anyhow::anyhow!("{} {}: {reason}", self.flag, self.path.display())
    }

    fn read(&self) -> anyhow::Result<FileContents> {
        let failed = |error: std::io::Error| self.error(format_args!("can't read it: {error}"));
        let file = File::open(&self.path).map_err(failed)?;
        // A pipe would be waited for, and has nothing the second time.
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(self.error("isn't a file"));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(self.error(format_args!("has more than {MOST_BYTES} bytes")));
        }
        Ok(FileContents {
            file: self.clone(),
            bytes,
        })
    }
}

/// The contents of a file, which may be secret.
pub struct FileContents {
    /// The file.
    pub file: FlagFile,
    bytes: Vec<u8>,
}

impl fmt::Debug for FileContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileContents")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl FileContents {
    /// The contents.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The contents as text.
    ///
    /// # Errors
    /// They aren't UTF-8.
    pub fn text(&self) -> anyhow::Result<&str> {
        std::str::from_utf8(&self.bytes).map_err(|_| self.file.error("isn't UTF-8"))
    }
}

/// A value that is made of files, and made again when they change. A clone is the same one; when the last is dropped, the
/// files aren't looked at any more.
pub struct Watched<T>(watch::Receiver<Arc<T>>);

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Watched(self.0.clone())
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files and parses them, and does so again when they have changed, in a task of the current runtime.
    /// `parse` gets the contents in the order of `files`; its errors name the file ([`FlagFile::error`]), and quote
    /// nothing that is secret.
    ///
    /// # Errors
    /// A file can't be read or parsed: the error names its flag.
    pub fn open(
        files: Vec<FlagFile>,
        looks: &Looks,
        parse: impl Fn(&[FileContents]) -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let found = FoundVersion::read(&files);
        let value = parse(&found.contents?)?;
        let (current, receiver) = watch::channel(Arc::new(value));
        let watcher = FileWatcher {
            files,
            parse: Box::new(parse),
            last_seen: found.digest,
            in_use: found.digest,
            told: None,
            current,
        };
        tokio::spawn(watcher.follow(looks.interval(), looks.join()));
        Ok(Watched(receiver))
    }

    /// The same of one file of text. `parse` says what is wrong, without the file's name, which is added.
    ///
    /// # Errors
    /// The file can't be read or parsed: the error names its flag.
    pub fn open_text<E: fmt::Display>(
        file: FlagFile,
        looks: &Looks,
        parse: impl Fn(&str) -> Result<T, E> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        Self::open(vec![file], looks, move |contents| {
            let contents = contents.first().context("a file")?;
            parse(contents.text()?).map_err(|reason| contents.file.error(reason))
        })
    }

    /// A value that never changes.
    #[must_use]
    pub fn fixed(value: T) -> Self {
        Watched(watch::channel(Arc::new(value)).1)
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits for another value than the last that this clone was told of, and answers it. Never, where there can't be
    /// another.
    pub async fn changed(&mut self) -> Arc<T> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.0.borrow_and_update())
    }
}

/// The files as one look has found them.
struct FoundVersion {
    contents: anyhow::Result<Vec<FileContents>>,
    /// What tells it from other versions. Contents aren't kept to be compared: there are keys among them.
    digest: [u8; 32],
}

impl FoundVersion {
    fn read(files: &[FlagFile]) -> Self {
        let mut hash = Sha256::new();
        let contents = files
            .iter()
            .map(|file| {
                let read = file.read();
                let reason = read.as_ref().err().map(ToString::to_string);
                let bytes = match (&read, &reason) {
                    (Ok(contents), _) => contents.bytes.as_slice(),
                    (Err(_), reason) => reason.as_deref().unwrap_or_default().as_bytes(),
                };
                hash.update([u8::from(read.is_ok())]);
                hash.update(bytes.len().to_be_bytes());
                hash.update(bytes);
                read
            })
            // All of them, also behind one that can't be read: their contents are a part of the version.
            .collect::<Vec<_>>()
            .into_iter()
            .collect();
        FoundVersion {
            contents,
            digest: hash.finalize().into(),
        }
    }
}

type Parse<T> = Box<dyn Fn(&[FileContents]) -> anyhow::Result<T> + Send + Sync>;

/// The looks at the files of one value.
struct FileWatcher<T> {
    files: Vec<FlagFile>,
    parse: Parse<T>,
    /// The version that the last look has found.
    last_seen: [u8; 32],
    /// The version that the current value is made of.
    in_use: [u8; 32],
    /// The version that can't be used, of which the log has been told.
    told: Option<[u8; 32]>,
    current: watch::Sender<Arc<T>>,
}

impl<T: Send + Sync + 'static> FileWatcher<T> {
    /// Looks until nobody has the value any more.
    async fn follow(mut self, interval: Duration, mut asked: mpsc::UnboundedReceiver<Answer>) {
        loop {
            let answer = tokio::select! {
                () = time::sleep(interval) => None,
                () = self.current.closed() => return,
                Some(answer) = asked.recv() => Some(answer),
            };
            let is_asked = answer.is_some();
            // A file system may take its time.
            let looked = task::spawn_blocking(move || {
                let outcome = self.look(is_asked);
                (self, outcome)
            });
            let (watcher, outcome) = match looked.await {
                Ok(looked) => looked,
                // The runtime is going down; or a parser has panicked, whose state is gone.
                Err(error) => {
                    if error.is_panic() {
                        tracing::error!("files aren't watched any more: their parser has panicked");
                    }
                    return;
                }
            };
            self = watcher;
            match answer {
                // Whoever has asked, and is gone, needs no answer.
                Some(answer) => drop(answer.send(outcome)),
                None => tell(&outcome),
            }
        }
    }

    /// Takes what has changed, once two looks have found it, or at once for who has asked.
    fn look(&mut self, is_asked: bool) -> LookOutcome {
        let found = FoundVersion::read(&self.files);
        let is_settled = std::mem::replace(&mut self.last_seen, found.digest) == found.digest;
        if found.digest == self.in_use {
            self.told = None;
            return LookOutcome::Same;
        }
        if !is_settled && !is_asked {
            return LookOutcome::Same;
        }
        // What couldn't be used before is tried again: a certificate may not have been valid yet.
        match found.contents.and_then(|contents| (self.parse)(&contents)) {
            Ok(value) => {
                self.in_use = found.digest;
                self.told = None;
                self.current.send_replace(Arc::new(value));
                LookOutcome::InUse(self.names())
            }
            Err(_) if self.told == Some(found.digest) && !is_asked => LookOutcome::Same,
            Err(error) => {
                self.told = Some(found.digest);
                LookOutcome::Refused(format!("{error:#}"))
            }
        }
    }

    fn names(&self) -> String {
        let names = self.files.iter().map(|file| file.path.display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Logs what a look has found that nobody asked for.
fn tell(outcome: &LookOutcome) {
    match outcome {
        LookOutcome::Same => {}
        LookOutcome::InUse(files) => tracing::info!(files, "files have changed, and are in use"),
        LookOutcome::Refused(error) => {
            tracing::warn!(
                error,
                "files have changed and can't be used: what was in use stays"
            );
        }
    }
}

/// Reads TOML. What is wrong is told in one line with its number. Values aren't quoted, which may be secrets.
///
/// # Errors
/// It isn't TOML, or not what is wanted.
pub fn parse_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => format!(
            "line {}: {}",
            line_at(text, span.start),
            unquoted(error.message())
        ),
        None => unquoted(error.message()),
    })
}

/// What serde says of a value, without the value.
fn unquoted(message: &str) -> String {
    let (kind, rest) = message.split_at(message.find([':', '`']).unwrap_or(message.len()));
    let is_of_a_value = ["invalid type", "invalid value", "unknown variant"].contains(&kind.trim_end());
    match rest.rsplit_once(", expected ") {
        Some((_, expected)) if is_of_a_value => format!("{}, expected {expected}", kind.trim_end()),
        _ if is_of_a_value => kind.trim_end().to_owned(),
        _ => message.to_owned(),
    }
}

/// The number of the line that has the byte at `offset`.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
