//! Errors of the store. Their texts hold no value from a row, because rows hold phones and payloads.

use crate::db::dialect::{self, Judgement};

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Busy, out of space, an I/O error, no connection. The request may succeed later, so the caller holds its
    /// delivery.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Another process held a lock for too long, or a deadlock was resolved against us. Callers treat this as
    /// `Unavailable`.
    #[error("the store is busy: {0}")]
    Contended(String),
    /// The store's file is gone or damaged, its disk fails, or a part of this process is gone. Only a restart helps, and
    /// often only after a person has put things in order. The caller holds its delivery.
    #[error("the store has failed: {0}")]
    Failed(String),
    /// This program must not write to these tables, or the ledger's key is not the right one.
    #[error("the store cannot be used: {0}")]
    Incompatible(String),
    /// The request cannot be carried out, or a row cannot be read.
    #[error("the store could not do that: {0}")]
    Invalid(String),
}

impl StoreError {
    /// Whether the same request may succeed later, perhaps only after a restart.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.is_away() || matches!(self, Self::Contended(_))
    }

    /// Whether no request can succeed now.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Failed(_))
    }

    pub(crate) fn unreadable(what: &str) -> Self {
        Self::Invalid(format!("a stored {what} cannot be read"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // We pass on only texts that quote no value and no connection URL.
        if let Some(database) = error.as_database_error() {
            let words = dialect::words(database);
            return match dialect::judge(database) {
                Judgement::Later => Self::Unavailable(words),
                Judgement::Failed => {
                    Self::Failed(format!("{words}; see docs/runbooks.md, \"A file of data_dir is gone or damaged\""))
                }
                Judgement::Contended => Self::Contended(words),
                Judgement::Final => Self::Invalid(words),
            };
        }
        if let sqlx::Error::Io(cause) = &error {
            return Self::Unavailable(cause.kind().to_string());
        }
        if let sqlx::Error::ColumnDecode { index, .. } = &error {
            return Self::Invalid(format!("column {index} cannot be read"));
        }
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::Unavailable("no connection became free in time".to_owned());
        }
        if matches!(error, sqlx::Error::Tls(_)) {
            return Self::Unavailable("the server could not be reached by TLS; see sslmode and sslrootcert".to_owned());
        }
        let connection_is_lost = matches!(
            error,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed
        );
        if connection_is_lost {
            Self::Unavailable("its connection is closed".to_owned())
        } else {
            Self::Invalid("a query failed".to_owned())
        }
    }
}
