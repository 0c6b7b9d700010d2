//! Opens the store that the settings name; the command line does it the same way.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use anyhow::Context;
use hookline_common::service::wrong_usage;
use hookline_common::settings::Settings;
use hookline_store::{Location, Store, StoreError, StoreOptions};

/// Makes the data directory, for this user only, where it is missing.
///
/// # Errors
/// Says what to do where it cannot be made.
pub fn data_dir(settings: &Settings) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&settings.data_dir).with_context(|| {
        format!("cannot make {}: set data_dir to where this user may write", settings.data_dir.display())
    })
}

/// Opens the store, making and migrating what is missing.
///
/// # Errors
/// [`StoreError`] as the cause where the store itself is what failed: [`is_away`] tells whether it may work later.
pub async fn store(settings: &Settings) -> anyhow::Result<Store> {
    let ledger_key = match &settings.store.ledger_key {
        Some(key) => key.clone(),
        None => {
            data_dir(settings)?;
            hookline_store::ledger_key_file(&settings.data_dir)
                .with_context(|| format!("cannot read or make the ledger key in {}", settings.data_dir.display()))?
        }
    };
    let (location, place) = match &settings.store.url {
        Some(url) => (Location::Url(url.clone()), "at [store] url".to_owned()),
        None => {
            data_dir(settings)?;
            (Location::Sqlite(settings.data_dir.clone()), format!("in {}", settings.data_dir.display()))
        }
    };
    let opened = Store::open(StoreOptions { location, ledger_key }).await;
    opened.with_context(|| format!("cannot open the store {place}"))
}

/// Whether opening the store may succeed later.
#[must_use]
pub fn is_away(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StoreError>().is_some_and(StoreError::is_unavailable)
}

/// A store that a worker may write with, until [`Opened::close`].
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// Where the store is SQLite: held as long as this worker is at it.
    _only_worker: Option<WorkerLock>,
}

impl Opened {
    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}

/// As [`store`]; where that is SQLite, this process becomes its only worker.
///
/// # Errors
/// As [`store`], and `WrongUsage` where another worker is at the SQLite store.
pub(crate) async fn for_a_worker(settings: &Settings) -> anyhow::Result<Opened> {
    if settings.store.url.is_some() {
        return Ok(Opened { store: store(settings).await?, _only_worker: None });
    }
    data_dir(settings)?;
    let lock = WorkerLock::take(settings)?;
    let store = store(settings).await?;
    // Nobody else is at it: what a worker that was killed had claimed is free to be looked at, without waiting for its
    // lease.
    store.end_claims_of_the_dead().await.context("cannot write to the store")?;
    Ok(Opened { store, _only_worker: Some(lock) })
}

/// The operating system lets go of it when the process ends, however it ends.
struct WorkerLock(#[expect(dead_code, reason = "holding it is its use")] File);

impl WorkerLock {
    fn take(settings: &Settings) -> anyhow::Result<Self> {
        let path = settings.data_dir.join("worker.lock");
        let cannot = || format!("cannot lock {}", path.display());
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(wrong_usage(format!(
                "store.url is missing, and another worker is at the SQLite store in {}; several worker processes need \
                 [store] url with PostgreSQL, or a data_dir and queues of their own",
                settings.data_dir.display()
            ))),
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }
}
