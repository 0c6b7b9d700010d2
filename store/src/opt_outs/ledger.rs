//! The opt-out ledger: append-only; each entry's hash is keyed with `ledger_key` and chained to the entry before.
//!
//! Appends happen in a short transaction that first locks the one head row, so entries have one order and the chain
//! never forks. Triggers refuse updates and deletes. Bypassing them breaks the chain; cutting the chain's tail and
//! adjusting the head row shows by a head exported earlier. Without the key nobody can forge an entry.

use hmac::{Hmac, KeyInit, Mac};
use hookline_common::secret::Secret;
use hookline_common::time::Timestamp;
use sha2::Sha256;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::{row, statements};
use crate::opt_outs::Opt;
use crate::opt_outs::model::LedgerKind;

/// The previous hash of the first entry.
pub(crate) const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The version of entries that state no version. Their hash covers fewer fields.
const FIRST_VERSION: i64 = 1;
/// The version of new entries.
const VERSION: i64 = 2;

impl LedgerKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::PutSent => "put_sent",
            Self::PutAnswered => "put_answered",
            Self::ReadBack => "read_back",
            Self::OptedIn => "opted_in",
            Self::Skipped => "skipped",
        }
    }
}

impl std::str::FromStr for LedgerKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Received, Self::PutSent, Self::PutAnswered, Self::ReadBack, Self::OptedIn, Self::Skipped]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

pub(crate) struct LedgerKey(Hmac<Sha256>);

impl LedgerKey {
    pub(crate) fn new(key: &Secret) -> Result<Self, StoreError> {
        if key.expose().is_empty() {
            return Err(StoreError::Invalid("[store] ledger_key is empty".to_owned()));
        }
        Hmac::new_from_slice(key.expose().as_bytes())
            .map(Self)
            .map_err(|_| StoreError::Invalid("[store] ledger_key cannot be used as a key".to_owned()))
    }

    fn fingerprint(&self) -> String {
        let mut mac = self.0.clone();
        mac.update(b"hookline ledger key");
        hex::encode(&mac.finalize().into_bytes()[..8])
    }

    /// Returns the entry's hash by the rules of the entry's own version, so that old entries still verify.
    pub(crate) fn hash(&self, seq: i64, previous_hash: &str, entry: &Entry) -> String {
        let mut mac = self.0.clone();
        mac.update(previous_hash.as_bytes());
        // A length precedes each field, so that no two entries have the same bytes.
        let mut field = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => {
                mac.update(&(bytes.len() as u64).to_be_bytes());
                mac.update(bytes);
            }
            None => mac.update(&u64::MAX.to_be_bytes()),
        };
        field(Some(&seq.to_be_bytes()));
        field(Some(entry.kind.as_str().as_bytes()));
        field(Some(&entry.at_ms.to_be_bytes()));
        field(Some(entry.event_id.as_bytes()));
        field(Some(entry.account.as_bytes()));
        field(Some(entry.phone.as_bytes()));
        field(entry.status.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        field(entry.event_time_ms.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        field(entry.reason.as_deref().map(str::as_bytes));
        if entry.hash_version != FIRST_VERSION {
            field(Some(&entry.hash_version.to_be_bytes()));
            field(entry.received_ms.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
            field(entry.method.as_deref().map(str::as_bytes));
            field(entry.source_event_id.as_deref().map(str::as_bytes));
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

/// The fields that an entry's hash covers, besides its place in the chain.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: LedgerKind,
    pub(crate) at_ms: i64,
    pub(crate) event_id: String,
    pub(crate) account: String,
    pub(crate) phone: String,
    pub(crate) status: Option<i64>,
    /// The event time as the sender stated it.
    pub(crate) event_time_ms: Option<i64>,
    pub(crate) reason: Option<String>,
    pub(crate) received_ms: Option<i64>,
    pub(crate) method: Option<String>,
    pub(crate) source_event_id: Option<String>,
    pub(crate) hash_version: i64,
}

impl Entry {
    /// The columns that [`Entry::read`] needs.
    pub(crate) const COLUMNS: &str = "kind, at_ms, event_id, account, phone, status, event_time_ms, reason, \
                                      received_ms, method, source_event_id, hash_version";

    pub(crate) fn new(kind: LedgerKind, event_id: &str, account: &str, phone: &str) -> Self {
        Self {
            kind,
            at_ms: Timestamp::now().as_millis(),
            event_id: event_id.to_owned(),
            account: account.to_owned(),
            phone: phone.to_owned(),
            status: None,
            event_time_ms: None,
            reason: None,
            received_ms: None,
            method: None,
            source_event_id: None,
            hash_version: VERSION,
        }
    }

    /// Makes an entry about an event, with all known fields.
    pub(crate) fn of(kind: LedgerKind, opt: &Opt, account: &str) -> Self {
        Self {
            event_time_ms: opt.event_time,
            received_ms: Some(opt.received_at),
            method: Some(opt.method.as_str().to_owned()),
            source_event_id: opt.source_event_id.clone(),
            ..Self::new(kind, &opt.event_id, account, &opt.phone)
        }
    }

    pub(crate) fn read(row: &DbRow) -> Result<Self, StoreError> {
        Ok(Self {
            kind: row::name(row, "kind")?,
            at_ms: row::number(row, "at_ms")?,
            event_id: row::text(row, "event_id")?,
            account: row::text(row, "account")?,
            phone: row::text(row, "phone")?,
            status: row::maybe_number(row, "status")?,
            event_time_ms: row::maybe_number(row, "event_time_ms")?,
            reason: row::maybe_text(row, "reason")?,
            received_ms: row::maybe_number(row, "received_ms")?,
            method: row::maybe_text(row, "method")?,
            source_event_id: row::maybe_text(row, "source_event_id")?,
            hash_version: row::maybe_number(row, "hash_version")?.unwrap_or(FIRST_VERSION),
        })
    }

    /// Whether the entry proves that a PUT was made; see [`proves_put`].
    pub(crate) fn proves_put(&self) -> bool {
        let accepted = self.status.is_some_and(|status| (200..300).contains(&status)) && self.reason.is_none();
        self.kind == LedgerKind::ReadBack || (self.kind == LedgerKind::PutAnswered && accepted)
    }

    /// Whether the entry's version records the sender's own event id.
    pub(crate) fn names_source_event(&self) -> bool {
        self.hash_version != FIRST_VERSION
    }

    /// Whether the entry has fields that its hash does not cover, which somebody must have added later.
    pub(crate) fn holds_more_than_its_hash(&self) -> bool {
        let more = self.received_ms.is_some() || self.method.is_some() || self.source_event_id.is_some();
        self.hash_version == FIRST_VERSION && more
    }
}

/// An SQL condition for the rows of `opt_ledger`, named `ledger`, that prove a PUT: a GET showed the opt-out, or the
/// PUT was answered 2xx and no `reason` contradicts the answer. [`Entry::proves_put`] is the same rule in Rust.
pub(crate) fn proves_put(ledger: &str) -> String {
    format!(
        "({ledger}.kind = 'read_back' OR ({ledger}.kind = 'put_answered' AND {ledger}.reason IS NULL \
         AND {ledger}.status >= 200 AND {ledger}.status < 300))"
    )
}

/// The end of the chain, locked until the transaction ends: no other process decides or appends meanwhile.
pub(crate) struct Head {
    seq: i64,
    hash: String,
}

pub(crate) async fn lock(connection: &mut Connection) -> Result<Head, StoreError> {
    let statement = format!("SELECT seq, hash FROM opt_ledger_head WHERE id = 1 {}", dialect::for_update(connection));
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(connection).await?;
    Ok(Head { seq: row::number(&row, "seq")?, hash: row::text(&row, "hash")? })
}

/// Appends the entries in their order.
pub(crate) async fn append(
    connection: &mut Connection,
    key: &LedgerKey,
    mut head: Head,
    entries: &[Entry],
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    for chunk in statements::chunks(entries) {
        let statement = format!(
            "INSERT INTO opt_ledger (seq, {columns}, previous_hash, hash) VALUES {values}",
            columns = Entry::COLUMNS,
            values = statements::values(chunk.len(), 15)
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for entry in chunk {
            let seq = head.seq + 1;
            let hash = key.hash(seq, &head.hash, entry);
            insert = insert
                .bind(seq)
                .bind(entry.kind.as_str())
                .bind(entry.at_ms)
                .bind(entry.event_id.as_str())
                .bind(entry.account.as_str())
                .bind(entry.phone.as_str())
                .bind(entry.status)
                .bind(entry.event_time_ms)
                .bind(entry.reason.as_deref())
                .bind(entry.received_ms)
                .bind(entry.method.as_deref())
                .bind(entry.source_event_id.as_deref())
                .bind(entry.hash_version)
                .bind(head.hash)
                .bind(hash.clone());
            head = Head { seq, hash };
        }
        insert.execute(&mut *connection).await?;
    }
    sqlx::query("UPDATE opt_ledger_head SET seq = $1, hash = $2 WHERE id = 1")
        .bind(head.seq)
        .bind(head.hash)
        .execute(connection)
        .await?;
    Ok(())
}

impl Store {
    /// Refuses a key other than the one the ledger was begun with: it would break the chain from the next entry on.
    pub(crate) async fn check_ledger_key(&self) -> Result<(), StoreError> {
        let ours = self.ledger_key.fingerprint();
        let known: String = self
            .db
            .write(ours.clone(), |connection, ours| {
                Box::pin(async move {
                    let row = sqlx::query(
                        "INSERT INTO store_meta (name, value) VALUES ('ledger_key_fingerprint', $1)
                         ON CONFLICT (name) DO UPDATE SET value = store_meta.value RETURNING value",
                    )
                    .bind(ours.as_str())
                    .fetch_one(connection)
                    .await?;
                    row::text(&row, "value")
                })
            })
            .await?;
        self.is_ledger_key(&known)
    }

    /// As [`Store::check_ledger_key`], without writing. A ledger that nobody has begun accepts any key.
    pub(crate) async fn compare_ledger_key(&self) -> Result<(), StoreError> {
        let known = sqlx::query("SELECT value FROM store_meta WHERE name = 'ledger_key_fingerprint'");
        match self.db.row(known).await? {
            Some(known) => self.is_ledger_key(&row::text(&known, "value")?),
            None => Ok(()),
        }
    }

    fn is_ledger_key(&self, known: &str) -> Result<(), StoreError> {
        if known == self.ledger_key.fingerprint() {
            Ok(())
        } else {
            Err(StoreError::Incompatible(
                "its opt-out ledger was begun with another key; give that one as [store] ledger_key, or restore \
                 ledger.key in data_dir"
                    .to_owned(),
            ))
        }
    }
}
