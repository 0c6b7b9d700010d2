//! Opens the store that the settings name, either to work with it or only to inspect it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use hookline_common::service::wrong_usage;
use hookline_common::settings::Settings;
use hookline_store::{Found, Location, Store, StoreError, StoreKind, StoreOptions};

/// File name, in the directory of `dev`, of the secret that signs its webhooks.
pub const DEV_SECRET: &str = "dev-webhook-secret";

/// Creates the data directory, readable by this user only, if it is missing.
///
/// # Errors
/// When the directory can't be created; the message says what to do.
pub fn data_dir(settings: &Settings) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&settings.data_dir).with_context(|| {
        format!("cannot make {}: set data_dir to where this user may write", settings.data_dir.display())
    })
}

/// Opens the store, creating and migrating whatever is missing.
///
/// # Errors
/// When the store can't be opened. If the store itself failed, the cause is a [`StoreError`], and [`is_away`] tells
/// whether a later try may work.
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

/// Opens an existing store. Creates, migrates and changes nothing.
///
/// # Errors
/// Same as [`store`].
pub async fn store_if_there(settings: &Settings) -> anyhow::Result<Found> {
    let ledger_key = match &settings.store.ledger_key {
        Some(key) => Some(key.clone()),
        None => hookline_store::ledger_key_if_there(&settings.data_dir)
            .with_context(|| format!("cannot read the ledger key in {}", settings.data_dir.display()))?,
    };
    let opened = Store::open_if_there(&location(settings), ledger_key.as_ref()).await;
    opened.with_context(|| format!("cannot open the store {}", place(settings)))
}

/// Returns where the store of these settings is.
#[must_use]
pub fn location(settings: &Settings) -> Location {
    match &settings.store.url {
        Some(url) => Location::Postgres { url: url.clone(), connections: settings.store.connections },
        None => Location::Sqlite(settings.data_dir.clone()),
    }
}

/// Describes where the store is, without the URL, since that holds a password.
#[must_use]
pub fn place(settings: &Settings) -> String {
    match &settings.store.url {
        Some(_) => "at [store] url".to_owned(),
        None => format!("in {}", settings.data_dir.display()),
    }
}

/// Returns whether opening the store may succeed later.
#[must_use]
pub fn is_away(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<StoreError>();
    error.is_some_and(|error| error.is_unavailable() && !matches!(error, StoreError::Failed(_)))
}

/// A store that a worker may write to until [`Opened::close`].
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// Held as long as this worker uses the store; `None` for PostgreSQL, which several workers may share.
    _only_worker: Option<WorkerLock>,
}

impl Opened {
    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}

/// Opens the store like [`store`]. For SQLite, this process becomes its only worker.
///
/// # Errors
/// Same as [`store`], and `WrongUsage` when another worker uses the SQLite store.
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
    // No other worker uses this store, so claims that a killed worker left behind can end now instead of with their
    // lease.
    store.end_claims_of_the_dead().await.context("cannot write to the store")?;
    Ok(Opened { store, _only_worker: Some(lock) })
}

/// Warns about a mixed store: earlier versions let `dev` work in the directory of `run`, and nobody can tell which API
/// gave the answers in such a store.
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

/// An exclusive file lock, which the operating system releases however the process ends.
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
