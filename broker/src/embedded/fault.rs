//! What to do about an SQLite error (<https://www.sqlite.org/rescode.html>).

use crate::PublishError;

const READONLY: i64 = 8;
const IOERR: i64 = 10;
const CORRUPT: i64 = 11;
const NOTADB: i64 = 26;
/// I/O errors only by name: they happen before anything is written, because memory was short, or the disk was too full
/// for the index of the log to grow.
const IOERR_NOMEM: i64 = IOERR | 12 << 8;
const IOERR_SHMSIZE: i64 = IOERR | 19 << 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing was changed, and a retry may work (lock held too long, disk full, no descriptor free).
    Passing(String),
    /// Written data may be gone, or nothing can be written any more.
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
        if is_fatal(code) { Self::Fatal(text) } else { Self::Passing(text) }
    }
}

/// Judges an extended result code.
const fn is_fatal(code: i64) -> bool {
    match code {
        IOERR_NOMEM | IOERR_SHMSIZE => false,
        _ => matches!(code & 0xff, IOERR | CORRUPT | NOTADB | READONLY),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_lost_or_can_never_take_a_write_is_fatal() {
        // The numbers are those that https://www.sqlite.org/rescode.html lists.
        let passing = [
            (5, "SQLITE_BUSY"),
            (6, "SQLITE_LOCKED"),
            (7, "SQLITE_NOMEM"),
            (13, "SQLITE_FULL"),
            (14, "SQLITE_CANTOPEN"),
            (517, "SQLITE_BUSY_SNAPSHOT"),
            (3082, "SQLITE_IOERR_NOMEM"),
            (4874, "SQLITE_IOERR_SHMSIZE"),
        ];
        let fatal = [
            (8, "SQLITE_READONLY"),
            (10, "SQLITE_IOERR"),
            (11, "SQLITE_CORRUPT"),
            (26, "SQLITE_NOTADB"),
            (266, "SQLITE_IOERR_READ"),
            (522, "SQLITE_IOERR_SHORT_READ"),
            (778, "SQLITE_IOERR_WRITE"),
            (1034, "SQLITE_IOERR_FSYNC"),
            (1290, "SQLITE_IOERR_DIR_FSYNC"),
        ];
        for (code, name) in passing {
            assert!(!is_fatal(code), "{name}");
        }
        for (code, name) in fatal {
            assert!(is_fatal(code), "{name}");
        }
    }
}
