//! Files that change, that are swapped, and that can't be used.

#![cfg(test)]

use std::{fs, path::Path};

use super::*;

fn watcher(path: &Path) -> (FileWatcher<u32>, Watched<u32>) {
    let files = vec![FlagFile {
        flag: "--number-file",
        path: path.to_owned(),
    }];
    let parse = |contents: &[FileContents]| {
        let contents = &contents[0];
        let number = contents.text()?.trim().parse();
        number.map_err(|_| contents.file.error("has no number"))
    };
    let found = FoundVersion::read(&files);
    let first = parse(&found.contents.expect("a file")).expect("a number");
    let (current, receiver) = watch::channel(Arc::new(first));
    let watcher = FileWatcher {
        files,
        parse: Box::new(parse),
        last_seen: found.digest,
        in_use: found.digest,
        told: None,
        current,
    };
    (watcher, Watched(receiver))
}

#[test]
fn a_change_is_taken_when_two_looks_have_found_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("number");
    fs::write(&path, "1").expect("written");
    let (mut watcher, value) = watcher(&path);
    fs::write(&path, "22").expect("written");
    watcher.look(false);
    fs::write(&path, "222").expect("written");
    watcher.look(false);
    assert_eq!(*value.get(), 1);
    watcher.look(false);
    assert_eq!(*value.get(), 222);
}

#[test]
fn what_can_t_be_used_keeps_what_was_there_and_is_told_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("number");
    fs::write(&path, "1").expect("written");
    let (mut watcher, value) = watcher(&path);
    fs::write(&path, "one").expect("written");
    watcher.look(false);
    assert!(watcher.told.is_none());
    watcher.look(false);
    let told = watcher.told.expect("told");
    watcher.look(false);
    assert_eq!(watcher.told, Some(told));
    // Gone altogether: another trouble, of which is told as well.
    fs::remove_file(&path).expect("removed");
    watcher.look(false);
    watcher.look(false);
    assert_ne!(watcher.told, Some(told));
    assert_eq!(*value.get(), 1);
    fs::write(&path, "2").expect("written");
    watcher.look(false);
    watcher.look(false);
    assert_eq!(*value.get(), 2);
}

#[test]
fn a_link_that_is_swapped_is_a_change() {
    let dir = tempfile::tempdir().expect("a directory");
    for (version, number) in [("..a", "1"), ("..b", "2")] {
        fs::create_dir(dir.path().join(version)).expect("a directory");
        fs::write(dir.path().join(version).join("number"), number).expect("written");
    }
    let (data, path) = (dir.path().join("..data"), dir.path().join("number"));
    let link = std::os::unix::fs::symlink::<&str, &Path>;
    link("..a", &data).expect("a link");
    link("..data/number", &path).expect("a link");
    let (mut watcher, value) = watcher(&path);
    let next = dir.path().join("..data_tmp");
    link("..b", &next).expect("a link");
    fs::rename(&next, &data).expect("renamed");
    watcher.look(false);
    watcher.look(false);
    assert_eq!(*value.get(), 2);
}

#[tokio::test]
async fn errors_at_boot_name_the_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |path: PathBuf| {
        let flag = "--number-file";
        Watched::open_text(FlagFile { flag, path }, &Looks::every(LOOK), |text| {
            text.parse::<u32>().map_err(|_| "has no number")
        })
    };
    let bad = dir.path().join("bad");
    fs::write(&bad, "hunter2").expect("written");
    for (path, reason) in [
        (dir.path().join("missing"), "can't read it: "),
        (dir.path().to_owned(), "isn't a file"),
        (bad, "has no number"),
    ] {
        let error = open(path.clone()).expect_err("it can't be used").to_string();
        let expected = format!("--number-file {}: {reason}", path.display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_toml_is_told_with_its_line() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Numbers {
        _one: u32,
    }
    let error = parse_toml::<Numbers>("_one = 1\n\ntwo = 2\n").expect_err("unknown");
    assert!(error.starts_with("line 3: unknown field `two`"), "{error}");
    assert!(parse_toml::<Numbers>("_one = ").is_err());
    let error = parse_toml::<Numbers>("_one = 'hunter2, expected'").expect_err("a text");
    assert_eq!(error, "line 1: invalid type, expected u32");
    assert!(parse_toml::<Numbers>("_one = 1").is_ok());
}

#[tokio::test]
async fn a_look_that_is_asked_for_takes_a_change_at_once_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("number");
    fs::write(&path, "1").expect("written");
    let looks = Looks::every(Duration::from_hours(1));
    let file = FlagFile {
        flag: "--number-file",
        path: path.clone(),
    };
    let value = Watched::open_text(file, &looks, |text| {
        text.parse::<u32>().map_err(|_| "has no number")
    });
    let value = value.expect("a number");
    assert_eq!(looks.now().await, [LookOutcome::Same]);
    fs::write(&path, "2").expect("written");
    let name = path.display().to_string();
    assert_eq!(looks.now().await, [LookOutcome::InUse(name.clone())]);
    assert_eq!(*value.get(), 2);
    fs::write(&path, "two").expect("written");
    // Each time, as often as it is asked.
    for _ in 0..2 {
        let refused = format!("--number-file {name}: has no number");
        assert_eq!(looks.now().await, [LookOutcome::Refused(refused)]);
    }
    assert_eq!(*value.get(), 2);
    drop(value);
    while !looks.now().await.is_empty() {
        task::yield_now().await;
    }
}
