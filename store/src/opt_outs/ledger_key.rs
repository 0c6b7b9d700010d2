//! The key of the opt-out ledger's chain if the operator gave none. It is made once, beside the data it protects.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hookline_common::secret::Secret;

use crate::db::error::StoreError;

const FILE: &str = "ledger.key";

/// Reads `ledger.key` in `data_dir`, or makes it: 32 random bytes in hexadecimal, mode 0600. Processes that race get
/// the same key.
///
/// # Errors
/// `Unavailable` if the file cannot be read or made, `Invalid` if it holds no key.
pub fn ledger_key_file(data_dir: &Path) -> Result<Secret, StoreError> {
    if let Some(key) = ledger_key_if_there(data_dir)? {
        return Ok(key);
    }
    let path = data_dir.join(FILE);
    let made = make(data_dir).and_then(|()| fs::read_to_string(&path));
    key_in(&path, &made.map_err(|error| failed(&path, &error))?)
}

/// Reads `ledger.key` in `data_dir`; `None` if there is no such file.
///
/// # Errors
/// As for [`ledger_key_file`].
pub fn ledger_key_if_there(data_dir: &Path) -> Result<Option<Secret>, StoreError> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => key_in(&path, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&path, &error)),
    }
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

fn key_in(path: &Path, text: &str) -> Result<Secret, StoreError> {
    let key = text.trim();
    if key.len() < 32 {
        return Err(StoreError::Invalid(format!(
            "{} holds no key; restore it from a backup, or the ledger written with it cannot be checked",
            path.display()
        )));
    }
    Ok(Secret::new(key))
}

/// Writes the whole key to a temporary file, then links it: a reader never sees half a key, and the first link wins.
fn make(data_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(data_dir)?;
    let draft = data_dir.join(format!(".{FILE}.{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = writeln!(file, "{}", hex::encode(rand::random::<[u8; 32]>()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, data_dir.join(FILE)));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(data_dir)?.sync_all(),
    }
}
