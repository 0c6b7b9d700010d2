//! Pages of lists: limits, and cursors that are opaque to callers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::db::error::StoreError;

/// A page of a list; `next` is the cursor of the following page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
}

const MOST: u32 = 100_000;

/// How many rows to read: one more than `limit`, which shows whether there is another page.
pub(crate) fn rows_to_read(limit: u32) -> i64 {
    i64::from(limit.clamp(1, MOST)) + 1
}

/// Reads a cursor made by [`page`]; returns `start` if there is none.
pub(crate) fn position<K: DeserializeOwned>(cursor: Option<&str>, start: K) -> Result<K, StoreError> {
    let Some(cursor) = cursor else { return Ok(start) };
    hex::decode(cursor)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| StoreError::Invalid("this cursor is not the `next` of a list".to_owned()))
}

/// Cuts the extra row and makes the next cursor from the key of the last row shown.
pub(crate) fn page<T, K: Serialize>(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> Page<T> {
    let shown = limit.clamp(1, MOST) as usize;
    let more = rows.len() > shown;
    rows.truncate(shown);
    let next =
        if more { rows.last().and_then(|row| serde_json::to_vec(&key(row)).ok()).map(hex::encode) } else { None };
    Page { rows, next }
}
