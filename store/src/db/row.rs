//! Conversion of columns into types: closed sets, ids, times and events.

use std::borrow::Cow;
use std::str::FromStr;

use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, Keyword, SourceName};
use hookline_common::time::Timestamp;
use sqlx::Row;

use crate::db::dialect::DbRow;
use crate::db::error::StoreError;

/// Makes a payload's text storable in every database: PostgreSQL texts hold no NUL. The original payload is kept as
/// bytes.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

pub(crate) fn maybe_clean(text: Option<&str>) -> Option<String> {
    text.map(|text| clean(text).into_owned())
}

pub(crate) fn text(row: &DbRow, column: &str) -> Result<String, StoreError> {
    Ok(row.try_get(column)?)
}

pub(crate) fn maybe_text(row: &DbRow, column: &str) -> Result<Option<String>, StoreError> {
    Ok(row.try_get(column)?)
}

pub(crate) fn number(row: &DbRow, column: &str) -> Result<i64, StoreError> {
    Ok(row.try_get(column)?)
}

pub(crate) fn maybe_number(row: &DbRow, column: &str) -> Result<Option<i64>, StoreError> {
    Ok(row.try_get(column)?)
}

pub(crate) fn flag(row: &DbRow, column: &str) -> Result<bool, StoreError> {
    Ok(number(row, column)? != 0)
}

pub(crate) fn time(row: &DbRow, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_millis(number(row, column)?))
}

pub(crate) fn maybe_time(row: &DbRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(maybe_number(row, column)?.map(Timestamp::from_millis))
}

/// Reads a count or an attempt number, which is never negative.
pub(crate) fn count(row: &DbRow, column: &str) -> Result<u64, StoreError> {
    u64::try_from(number(row, column)?).map_err(|_| StoreError::unreadable(column))
}

pub(crate) fn small<N: TryFrom<i64>>(row: &DbRow, column: &str) -> Result<N, StoreError> {
    N::try_from(number(row, column)?).map_err(|_| StoreError::unreadable(column))
}

/// Reads a member of a closed set of names.
pub(crate) fn name<N: FromStr>(row: &DbRow, column: &str) -> Result<N, StoreError> {
    text(row, column)?.parse().map_err(|_| StoreError::unreadable(column))
}

pub(crate) fn event_id(row: &DbRow) -> Result<EventId, StoreError> {
    parse_event_id(&text(row, "event_id")?)
}

pub(crate) fn parse_event_id(id: &str) -> Result<EventId, StoreError> {
    EventId::parse(id).map_err(|_| StoreError::unreadable("event id"))
}

pub(crate) fn source(row: &DbRow) -> Result<SourceName, StoreError> {
    SourceName::new(&text(row, "source")?).ok_or_else(|| StoreError::unreadable("source"))
}

/// Reads an event type from the columns `event_type` and `keyword`.
pub(crate) fn event_type(row: &DbRow) -> Result<EventType, StoreError> {
    let keyword = maybe_text(row, "keyword")?.as_deref().and_then(Keyword::parse);
    Ok(EventType::new(&text(row, "event_type")?).with_keyword(keyword))
}

/// Reads the event from a row of `events` or `dead_letters`; `None` if its body is gone.
pub(crate) fn event(row: &DbRow) -> Result<Option<Event>, StoreError> {
    let Some(body) = row.try_get::<Option<Vec<u8>>, _>("body")? else { return Ok(None) };
    Ok(Some(Event {
        id: event_id(row)?,
        source: source(row)?,
        source_event_id: maybe_text(row, "source_event_id")?,
        event_type: event_type(row)?,
        received_at: time(row, "received_ms")?,
        content_type: maybe_text(row, "content_type")?,
        request_id: maybe_text(row, "request_id")?,
        traceparent: maybe_text(row, "traceparent")?,
        body: Bytes::from(body),
    }))
}
