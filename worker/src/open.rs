//! Opens the store that the settings name: to work with it, or to look at what is there.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use hookline_common::service::wrong_usage;
use hookline_common::settings::Settings;
use hookline_store::{Found, Location, Store, StoreError, StoreKind, StoreOptions};

/// Where `dev` keeps the secret that its webhooks are signed with, in its directory.
pub const DEV_SECRET: &str = "dev-webhook-secret";

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
    if settings.store.url.is_none() {
        data_dir(settings)?;
    }
    let opened = Store::open(StoreOptions { location: location(settings), ledger_key }).await;
    opened.with_context(|| format!("cannot open the store {}", place(settings)))
}

/// Opens the store that is there, and makes, migrates and changes nothing.
///
/// # Errors
/// As [`store`].
pub async fn store_if_there(settings: &Settings) -> anyhow::Result<Found> {
    let ledger_key = match &settings.store.ledger_key {
        Some(key) => Some(key.clone()),
        None => hookline_store::ledger_key_if_there(&settings.data_dir)
            .with_context(|| format!("cannot read the ledger key in {}", settings.data_dir.display()))?,
    };
    let opened = Store::open_if_there(&location(settings), ledger_key.as_ref()).await;
    opened.with_context(|| format!("cannot open the store {}", place(settings)))
}

fn location(settings: &Settings) -> Location {
    match &settings.store.url {
        Some(url) => Location::Url(url.clone()),
        None => Location::Sqlite(settings.data_dir.clone()),
    }
}

/// Where the store is, in words, without the URL: it holds a password.
#[must_use]
pub fn place(settings: &Settings) -> String {
    match &settings.store.url {
        Some(_) => "at [store] url".to_owned(),
        None => format!("in {}", settings.data_dir.display()),
    }
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
        let store = store(settings).await?;
        warn_of_dev(&settings.data_dir, &store).await?;
        return Ok(Opened { store, _only_worker: None });
    }
    data_dir(settings)?;
    let lock = WorkerLock::take(settings)?;
    let store = store(settings).await?;
    warn_of_dev(&settings.data_dir, &store).await?;
    // Nobody else is at it: what a worker that was killed had claimed is free to be looked at, without waiting for its
    // lease.
    store.end_claims_of_the_dead().await.context("cannot write to the store")?;
    Ok(Opened { store, _only_worker: Some(lock) })
}

/// Versions before this one let `dev` work in the directory of `run`: nobody can tell whose answers its store holds.
async fn warn_of_dev(data_dir: &Path, store: &Store) -> anyhow::Result<()> {
    let secret = data_dir.join(DEV_SECRET);
    let kind = store.kind().await.context("cannot read the store")?;
    if secret.exists() && kind != Some(StoreKind::Sandbox) {
        tracing::warn!(
            data_dir = %data_dir.display(),
            "store.mixed: an earlier `hookline dev` worked in this directory, so the store and its opt-out ledger may hold \
             answers of the sandbox that look like proof; begin anew in another data_dir, or, where you are sure that they \
             are all the real API's, remove {}",
            secret.display()
        );
    }
    Ok(())
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
