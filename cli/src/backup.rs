//! `hookline backup`: one file with everything that a machine with an SQLite store needs to go on: the queues, the spool,
//! the store and the key of its ledger.
//!
//! The queues are copied before the store. A delivery is settled only after the store knows its end, so what left a queue
//! before its copy is in the store's copy, and what the store's copy knows in addition is found done when it comes again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use hookline_broker::Publish as _;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_common::settings::Settings;
use hookline_ingest::spool;
use serde_json::json;

use crate::open::{self, Place, wrong_usage};
use crate::output;

/// Phone numbers and payloads are in the copy.
const PRIVATE: u32 = 0o600;
const STORE: &str = "store.db";
const LEDGER_KEY: &str = "ledger.key";

#[derive(Args, Clone, Debug)]
pub(crate) struct BackupArgs {
    /// The tar file to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// One file of the backup.
struct Copy {
    name: String,
    path: PathBuf,
    bytes: u64,
}

pub(crate) async fn run(place: Place<'_>, args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    if settings.store.url.is_some() {
        return Err(wrong_usage(
            "the store is in PostgreSQL, and its own tools back it up (pg_dump, or archiving of its log); see \
             docs/runbooks.md, \"Restore\"",
        ));
    }
    let store = open::store(&settings).await?;
    let file = std::path::absolute(&args.file).context("the working directory cannot be read")?;
    if file.symlink_metadata().is_ok() {
        bail!("{} exists already; name a file that does not", file.display());
    }
    let dir = file.parent().filter(|dir| dir.is_dir()).ok_or_else(|| {
        anyhow!("{} cannot be written: its directory is not there; make the directory first", file.display())
    })?;
    // In the directory of the file, so that the copies need no room elsewhere and the last step is a rename.
    let work = tempfile::Builder::new().prefix(".hookline-backup-").tempdir_in(dir);
    let work = work.with_context(|| format!("cannot write to {}", dir.display()))?;

    let mut copies = Vec::new();
    for options in [open::queue_files(&settings), spool::options(&settings)] {
        copies.extend(copy_queues(options, work.path()).await?);
    }
    let path = work.path().join(STORE);
    store.copy_to(&path).await.context("cannot copy the store")?;
    store.close().await;
    copies.push(copied(STORE, path)?);
    copies.extend(copy_ledger_key(&settings)?);

    let packed = work.path().join("packed.tar");
    pack(&copies, &packed).with_context(|| format!("cannot write {}", file.display()))?;
    // Unlike a rename, a hard link replaces nothing that another process has made meanwhile. Some file systems have none.
    std::fs::hard_link(&packed, &file)
        .or_else(|error| {
            let is_there = error.kind() == io::ErrorKind::AlreadyExists;
            if is_there { Err(error) } else { std::fs::rename(&packed, &file) }
        })
        .and_then(|()| File::open(dir)?.sync_all())
        .with_context(|| format!("cannot write {}", file.display()))?;
    report(&settings, &file, &copies, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Copies one file of queues; `None` if there is none.
async fn copy_queues(options: EmbeddedOptions, into: &Path) -> anyhow::Result<Option<Copy>> {
    if !options.exists() {
        return Ok(None);
    }
    let name = format!("{}.db", options.name);
    let path = into.join(&name);
    let broker = EmbeddedBroker::open(options.guest()).await.with_context(|| format!("cannot open {name}"))?;
    let done = broker.copy_to(&path).await;
    broker.close().await;
    done.with_context(|| format!("cannot copy {name}"))?;
    copied(&name, path).map(Some)
}

/// The key is in `data_dir` unless the configuration has it.
fn copy_ledger_key(settings: &Settings) -> anyhow::Result<Option<Copy>> {
    let path = settings.data_dir.join(LEDGER_KEY);
    if settings.store.ledger_key.is_some() || !path.exists() {
        return Ok(None);
    }
    copied(LEDGER_KEY, path).map(Some)
}

fn copied(name: &str, path: PathBuf) -> anyhow::Result<Copy> {
    let bytes = path.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(Copy { name: name.to_owned(), path, bytes })
}

fn pack(copies: &[Copy], into: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(into)?;
    let mut archive = tar::Builder::new(file);
    for copy in copies {
        let mut header = tar::Header::new_gnu();
        header.set_size(copy.bytes);
        header.set_mode(PRIVATE);
        header.set_mtime(jiff::Timestamp::now().as_second().unsigned_abs());
        archive.append_data(&mut header, &copy.name, File::open(&copy.path)?)?;
    }
    archive.into_inner()?.sync_all()
}

fn report(settings: &Settings, file: &Path, copies: &[Copy], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let files: Vec<_> = copies.iter().map(|copy| json!({ "name": copy.name, "bytes": copy.bytes })).collect();
        output::print_json(&json!({ "file": file, "files": files }))?;
    } else {
        output::print_line(&format!("{} holds:", file.display()))?;
        for copy in copies {
            output::print_line(&format!("  {:<12} {} bytes", copy.name, copy.bytes))?;
        }
    }
    if settings.store.ledger_key.is_some() {
        output::hint("The ledger's key is in the configuration, not in this file: keep it too.");
    }
    if !settings.broker.url.is_empty() {
        output::hint("The queues are in RabbitMQ, whose own data you back up separately.");
    }
    output::hint("It holds phone numbers and texts. To restore it: docs/runbooks.md, \"Restore one machine\".");
    Ok(())
}
