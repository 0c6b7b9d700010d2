//! The data directory: who may read it, who owns it, and whether its file system is durable.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hookline_common::held_file::HeldFile;

use crate::BrokerError;

const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// `statfs` magic numbers (<https://man7.org/linux/man-pages/man2/statfs.2.html>).
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const OVERLAYFS: u64 = 0x794c_7630;

/// The lock that a process holds while it consumes. The operating system releases it when the process ends, however it
/// ends.
#[derive(Debug)]
pub(super) struct OwnerLock {
    _file: File,
    path: PathBuf,
}

/// The files that the writer holds open, as they were at their paths when it opened them.
#[derive(Debug)]
pub(super) struct HeldFiles {
    file: HeldFile,
    lock: Option<HeldFile>,
    log_path: PathBuf,
    /// The write-ahead log, once it was seen. As long as a connection is open, no other process removes it in order.
    log: Option<HeldFile>,
}

impl HeldFiles {
    /// # Errors
    /// If the file or the lock is gone already.
    pub(super) fn new(file: &Path, owner: Option<&OwnerLock>) -> io::Result<Self> {
        let mut log_path = file.as_os_str().to_owned();
        log_path.push("-wal");
        let lock = owner.map(|owner| HeldFile::at(&owner.path)).transpose()?;
        Ok(Self { file: HeldFile::at(file)?, lock, log_path: log_path.into(), log: None })
    }

    /// Returns what happened to a file that is no longer the one at its path.
    pub(super) fn lost(&mut self) -> Option<String> {
        if self.log.is_none() {
            self.log = HeldFile::at(&self.log_path).ok();
        }
        [Some(&self.file), self.lock.as_ref(), self.log.as_ref()].into_iter().flatten().find_map(HeldFile::lost)
    }
}

/// The name of the file system under `dir`, if that file system loses its files with the machine or the container.
#[must_use]
pub fn forgetful_file_system(dir: &Path) -> Option<&'static str> {
    let magic = rustix::fs::statfs(dir).ok()?.f_type;
    match u64::try_from(magic).ok()? & 0xffff_ffff {
        TMPFS => Some("tmpfs"),
        RAMFS => Some("ramfs"),
        OVERLAYFS => Some("overlayfs"),
        _ => None,
    }
}

/// Creates the directory, and an empty file that only this user can read. SQLite gives its log and index the file's own
/// mode.
pub(super) fn prepare(data_dir: &Path, file: &Path) -> Result<(), BrokerError> {
    let failed = |path: &Path, cause: std::io::Error| open_error(path, &cause);
    if !data_dir.is_dir() {
        let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(data_dir);
        made.map_err(|cause| failed(data_dir, cause))?;
    }
    private_file(file).map_err(|cause| failed(file, cause))?;
    // Without this a power cut may lose the file itself, whatever was synced into it.
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(|cause| failed(data_dir, cause))?;
    Ok(())
}

/// Takes the owner's role.
///
/// # Errors
/// `Owned` if another process has the role, `Open` if the lock file cannot be used.
pub(super) fn lock(data_dir: &Path, path: &Path) -> Result<OwnerLock, BrokerError> {
    let mut file = private_file(path).map_err(|cause| open_error(path, &cause))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(owned(data_dir, &mut file)),
        Err(TryLockError::Error(cause)) => return Err(open_error(path, &cause)),
    }
    // The number is only for the message above; the lock itself is what counts.
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|cause| open_error(path, &cause))?;
    if let Some(kind) = forgetful_file_system(data_dir) {
        tracing::warn!(
            data_dir = %data_dir.display(),
            file_system = kind,
            "data_dir is on a file system that does not survive the machine or the container: accepted events can be \
             lost; put it on a disk or a volume"
        );
    }
    Ok(OwnerLock { _file: file, path: path.to_owned() })
}

/// Whether a process holds the owner's role.
pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(path)
}

fn owned(data_dir: &Path, file: &mut File) -> BrokerError {
    let mut owner = String::new();
    let owner = match file.read_to_string(&mut owner) {
        Ok(_) if !owner.trim().is_empty() => format!("another process (pid {})", owner.trim()),
        Ok(_) | Err(_) => "another process".to_owned(),
    };
    BrokerError::Owned(format!(
        "{} is used by {owner}; stop it or use another data_dir",
        std::path::absolute(data_dir).unwrap_or_else(|_| PathBuf::from(data_dir)).display()
    ))
}

pub(super) fn open_error(path: &Path, cause: &dyn std::fmt::Display) -> BrokerError {
    BrokerError::Open { path: path.display().to_string(), cause: cause.to_string() }
}
