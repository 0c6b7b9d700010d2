//! What an SQLite error asks for (<https://www.sqlite.org/rescode.html>).

use crate::broker::PublishError;

const READONLY: i64 = 8;
const IOERR: i64 = 10;
const CORRUPT: i64 = 11;
const NOTADB: i64 = 26;
/// An I/O error only by name: memory was short.
const IOERR_NOMEM: i64 = 10 | 12 << 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing was changed; it may work later (lock held too long, disk full, no descriptor free).
    Passing(String),
    /// What was written may be gone, or nothing can be written any more.
    Fatal(String),
}

impl Fault {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let text = error.to_string();
        let sqlx::Error::Database(database) = error else {
            let gone = matches!(error, sqlx::Error::WorkerCrashed | sqlx::Error::Io(_));
            return if gone { Self::Fatal(text) } else { Self::Passing(text) };
        };
        let code = database.code().and_then(|code| code.parse::<i64>().ok()).unwrap_or_default();
        match code & 0xff {
            IOERR if code == IOERR_NOMEM => Self::Passing(text),
            IOERR | CORRUPT | NOTADB | READONLY => Self::Fatal(text),
            _ => Self::Passing(text),
        }
    }
}

impl From<Fault> for PublishError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Passing(text) => Self::Unavailable(text),
            Fault::Fatal(text) => Self::Fatal(text),
        }
    }
}
