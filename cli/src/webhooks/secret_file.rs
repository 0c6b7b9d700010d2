//! The file for a webhook secret. Only this user can read it, it is written whole or not at all, and it never
//! overwrites other content.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hookline_common::secret::Secret;
use tempfile::NamedTempFile;

/// A place for a secret, prepared before the secret is created.
pub(super) struct SecretFile {
    path: PathBuf,
    /// `None` if the file already holds the secret.
    place: Option<NamedTempFile>,
}

impl SecretFile {
    /// Makes sure that the secret can be kept in `path`. `known` is the secret, if it already exists and can be
    /// compared.
    ///
    /// # Errors
    /// Fails when the file holds anything else or cannot be created there.
    pub(super) fn prepare(path: &Path, known: Option<&Secret>) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))?;
        if path.symlink_metadata().is_ok() {
            let held = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if known.is_some_and(|known| held.trim_end_matches(['\r', '\n']) == known.expose()) {
                return Ok(Self { path, place: None });
            }
            bail!(
                "{} holds something else, and nothing is overwritten; name another file with --secret-file, or move that one \
                 away",
                path.display()
            );
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        // `tempfile` makes files that only this user can read.
        let place = NamedTempFile::new_in(folder)
            .with_context(|| format!("cannot write in {}; name another place with --secret-file", folder.display()))?;
        Ok(Self { path, place: Some(place) })
    }

    /// Writes the secret and returns the file's path.
    ///
    /// # Errors
    /// Fails when the secret cannot be written or somebody created the file meanwhile.
    pub(super) fn keep(self, secret: &Secret) -> anyhow::Result<PathBuf> {
        let Some(mut place) = self.place else { return Ok(self.path) };
        let cannot = || {
            format!(
                "cannot write the secret into {}; TextUs still has it: run `hookline webhooks register` again, with another \
                 --secret-file where need be",
                self.path.display()
            )
        };
        writeln!(place, "{}", secret.expose()).with_context(cannot)?;
        place.as_file().sync_all().with_context(cannot)?;
        place.persist_noclobber(&self.path).map_err(|failed| failed.error).with_context(cannot)?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(cannot)?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret() -> Secret {
        Secret::new("textus-abc")
    }

    #[test]
    fn a_secret_is_kept_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");

        let kept = SecretFile::prepare(&path, None).unwrap().keep(&secret()).unwrap();

        assert_eq!(fs::read_to_string(&kept).unwrap(), "textus-abc\n");
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn what_is_there_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for held in ["other", ""] {
            fs::write(&path, held).unwrap();
            assert!(SecretFile::prepare(&path, Some(&secret())).is_err(), "{held:?}");
        }
        fs::write(&path, "textus-abc\n").unwrap();
        assert!(SecretFile::prepare(&path, Some(&secret())).unwrap().keep(&secret()).is_ok(), "the same secret");
        assert!(SecretFile::prepare(&path, None).is_err(), "nobody knows yet which secret it will be");
        fs::remove_file(&path).unwrap();

        let late = SecretFile::prepare(&path, None).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        assert!(late.keep(&secret()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody else's");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_before_anything_is_made() {
        assert!(SecretFile::prepare(Path::new("/nonexistent/folder/secret"), None).is_err());
    }
}
