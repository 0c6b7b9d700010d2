//! Whether a file that this process holds open is still the one at its path. A process that goes on writing to a file
//! that was removed or replaced promises what no restart finds again.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The device and the number of a file, which stay the same while it exists.
type Identity = (u64, u64);

/// A path, and which file was there when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFile {
    path: PathBuf,
    identity: Identity,
}

impl HeldFile {
    /// Remembers which file is at `path` now.
    ///
    /// # Errors
    /// If there is none, or the path cannot be inspected.
    pub fn at(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    /// Returns what happened to the file, or `None` if it is still there. A path that cannot be inspected now counts as
    /// unchanged: the file is open, and says itself whether it can be used.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let what = match identity(&self.path) {
            Ok(identity) if identity == self.identity => return None,
            Ok(_) => "replaced by another file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "removed",
            Err(_) => return None,
        };
        Some(format!(
            "{} was {what} while it was in use; stop this process, put data_dir in order (docs/runbooks.md, \"A file of \
             data_dir is gone or damaged\"), and start it again",
            self.path.display()
        ))
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_removed_or_replaced_is_lost_and_one_that_grew_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store.db");
        std::fs::write(&path, "a").expect("written");
        let held = HeldFile::at(&path).expect("it is there");
        std::fs::write(&path, "a and more").expect("written");
        assert_eq!(held.lost(), None);

        let other = dir.path().join("other");
        std::fs::write(&other, "a").expect("written");
        std::fs::rename(&other, &path).expect("renamed");
        assert!(held.lost().is_some_and(|why| why.contains("replaced by another file")));

        std::fs::remove_file(&path).expect("removed");
        assert!(held.lost().is_some_and(|why| why.contains("was removed")));
        assert!(HeldFile::at(&path).is_err());
    }
}
