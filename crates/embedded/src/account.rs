//! As whom PostgreSQL runs: it refuses root, so root hands it to another user.

use crate::error::EmbeddedError;
use nix::unistd::{Gid, Uid, User};
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

/// The user that `initdb` and `postgres` run as.
#[derive(Clone, Debug)]
pub(super) struct SystemAccount {
    pub name: String,
    pub uid: Uid,
    pub gid: Gid,
    /// We are root, and the child has to become this user.
    pub switch: bool,
}

impl SystemAccount {
    /// For the cluster in `pgdata`: its owner where root meets an existing one (so that a cluster can be used by
    /// its owner and by root in turn, and doesn't change hands when a `postgres` user appears later).
    pub(crate) fn for_cluster(pgdata: &Path) -> Result<Self, EmbeddedError> {
        match fs::metadata(pgdata) {
            Ok(metadata) if Uid::effective().is_root() => Self::owner(pgdata, &metadata),
            _ => Self::for_new_cluster(),
        }
    }

    /// Ourselves; for root the user `postgres`, or `nobody` where PostgreSQL came as a Python wheel, without a user.
    pub(crate) fn for_new_cluster() -> Result<Self, EmbeddedError> {
        let uid = Uid::effective();
        if !uid.is_root() {
            return Ok(Self {
                name: name_of(uid),
                uid,
                gid: Gid::effective(),
                switch: false,
            });
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .filter(|user| !user.uid.is_root())
            .map(|user| Self {
                name: user.name,
                uid: user.uid,
                gid: user.gid,
                switch: true,
            })
            .ok_or(EmbeddedError::NoAccount)
    }

    fn owner(pgdata: &Path, metadata: &Metadata) -> Result<Self, EmbeddedError> {
        let uid = Uid::from_raw(metadata.uid());
        if uid.is_root() {
            let reason = "belongs to root, as whom PostgreSQL refuses to run".to_owned();
            return Err(EmbeddedError::NotOurs {
                dir: pgdata.to_path_buf(),
                reason,
            });
        }
        Ok(Self {
            name: name_of(uid),
            uid,
            gid: Gid::from_raw(metadata.gid()),
            switch: true,
        })
    }

    /// Gives a path that we have just made to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.switch {
            return Ok(());
        }
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
            .map_err(EmbeddedError::io("change the owner of", path))
    }

    /// Finds the first directory on the way to `dir` (and `dir` itself) that this user may not enter. `dir` has
    /// to be free of symbolic links. Looks at the mode bits alone: an access list that allows more is not seen.
    pub(crate) fn check_way_to(&self, dir: &Path) -> Result<(), EmbeddedError> {
        if !self.switch {
            return Ok(());
        }
        let mut way: Vec<&Path> = dir.ancestors().collect();
        way.reverse();
        for step in way {
            let metadata = fs::metadata(step).map_err(EmbeddedError::io("look at", step))?;
            if !self.may_enter(&metadata) {
                return Err(EmbeddedError::NotEnterable {
                    dir: step.to_path_buf(),
                    user: self.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Other groups of the user don't count: the child gives up all supplementary groups.
    fn may_enter(&self, directory: &Metadata) -> bool {
        let bit = if directory.uid() == self.uid.as_raw() {
            0o100
        } else if directory.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        directory.mode() & bit != 0
    }
}

fn name_of(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(), // containers are often run with a uid that /etc/passwd doesn't know
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_the_directory_that_is_in_the_way() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let inner = top.join("closed/inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        // An id that owns nothing: it enters by the bits for others.
        let stranger = SystemAccount {
            name: "stranger".into(),
            uid: Uid::from_raw(54_321),
            gid: Gid::from_raw(54_321),
            switch: true,
        };

        let error = stranger.check_way_to(&inner).unwrap_err();
        assert!(
            matches!(&error, EmbeddedError::NotEnterable { dir, .. } if *dir == top.join("closed")),
            "{error}"
        );

        fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o711)).unwrap();
        stranger.check_way_to(&inner).unwrap();
    }

    #[test]
    fn nobody_runs_postgres_as_root() {
        if let Ok(account) = SystemAccount::for_new_cluster() {
            assert!(!account.uid.is_root());
            assert_eq!(account.switch, Uid::effective().is_root());
        }
    }
}
