//! Walks a whole table in windows of a bounded number of rows. A statement that looks through millions of rows for a text
//! would exceed the database's deadline, however few of them have the text.
//!
//! A large table is walked in the order of its rows' times, because its rows lie in that order. In the order of event ids,
//! which are hashes, each row is a page of its own that is read anew: on ten million events, 440 ms for 2,000 rows in place
//! of 14 (docs/benchmarks.md, "Erasing a person").

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use crate::db::Db;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::row;

/// The rows of one window. PostgreSQL looks through so many within a second, also on a slow disk.
const ROWS: usize = 2_000;

/// A table's primary key. A row is found by the key as the index has it: by an expression of it, each statement would look
/// through the whole table.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Text(&'static str),
    Number(&'static str),
    /// Event and handler.
    Delivery,
    /// A time, and a text that tells apart what came at the same time.
    Time(&'static str, &'static str),
    /// The same for a delivery.
    DeliveryTime,
}

impl Key {
    /// As one text.
    pub(super) fn selected(self) -> String {
        match self {
            Self::Text(column) => column.to_owned(),
            Self::Number(column) => format!("CAST({column} AS TEXT)"),
            Self::Delivery => "event_id || ' ' || handler".to_owned(),
            Self::Time(time, column) => format!("CAST({time} AS TEXT) || ' ' || {column}"),
            Self::DeliveryTime => "CAST(created_ms AS TEXT) || ' ' || event_id || ' ' || handler".to_owned(),
        }
    }

    pub(super) fn columns(self) -> String {
        match self {
            Self::Text(column) | Self::Number(column) => column.to_owned(),
            Self::Delivery => "event_id, handler".to_owned(),
            Self::Time(time, column) => format!("{time}, {column}"),
            Self::DeliveryTime => "created_ms, event_id, handler".to_owned(),
        }
    }

    /// How many parameters name one row.
    const fn parameters(self) -> usize {
        match self {
            Self::Text(_) | Self::Number(_) => 1,
            Self::Delivery | Self::Time(..) => 2,
            Self::DeliveryTime => 3,
        }
    }

    /// Compares the key with the parameters from `$n` on.
    pub(super) fn compared(self, operator: &str, n: usize) -> String {
        match self {
            Self::Text(column) | Self::Number(column) => format!("{column} {operator} ${n}"),
            Self::Delivery | Self::Time(..) => format!("({}) {operator} (${n}, ${})", self.columns(), n + 1),
            Self::DeliveryTime => format!("({}) {operator} (${n}, ${}, ${})", self.columns(), n + 1, n + 2),
        }
    }

    /// A key before all others, as one text.
    fn before_all(self) -> String {
        match self {
            Self::Text(_) => String::new(),
            Self::Number(_) => i64::MIN.to_string(),
            Self::Delivery => " ".to_owned(),
            Self::Time(..) => format!("{} ", i64::MIN),
            Self::DeliveryTime => format!("{}  ", i64::MIN),
        }
    }

    /// Binds a key that [`Key::selected`] returned.
    pub(super) fn bind<'q>(
        self,
        query: Query<'q, Any, AnyArguments>,
        key: &str,
    ) -> Result<Query<'q, Any, AnyArguments>, StoreError> {
        let unreadable = || StoreError::unreadable("row_key");
        let number = |text: &str| text.parse::<i64>().map_err(|_| unreadable());
        match self {
            Self::Text(_) => Ok(query.bind(key.to_owned())),
            Self::Number(_) => Ok(query.bind(number(key)?)),
            Self::Time(..) => {
                let (time, text) = key.split_once(' ').ok_or_else(unreadable)?;
                Ok(query.bind(number(time)?).bind(text.to_owned()))
            }
            Self::DeliveryTime => {
                let (time, delivery) = key.split_once(' ').ok_or_else(unreadable)?;
                Self::Delivery.bind(query.bind(number(time)?), delivery)
            }
            Self::Delivery => {
                let (event_id, handler) = key.rsplit_once(' ').ok_or_else(unreadable)?;
                Ok(query.bind(event_id.to_owned()).bind(handler.to_owned()))
            }
        }
    }

    /// Runs a statement that sets `$1` in the row with this key, which is `$2` and, for a delivery, `$3`.
    pub(super) async fn change(
        self,
        connection: &mut Connection,
        statement: &str,
        key: &str,
        words: &str,
    ) -> Result<(), StoreError> {
        let update = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(words.to_owned());
        self.bind(update, key)?.execute(connection).await?;
        Ok(())
    }
}

/// The windows of one table, in the order of a key that an index has, or begins with.
pub(super) struct Windows {
    table: &'static str,
    key: Key,
    /// The last key of the window before; `None` after the last window.
    after: Option<String>,
}

/// Rows after one key, up to and with another or the end of the table.
pub(super) struct Window {
    key: Key,
    after: String,
    last: Option<String>,
}

impl Windows {
    pub(super) fn of(table: &'static str, key: Key) -> Self {
        Self { table, key, after: Some(key.before_all()) }
    }

    /// How many parameters a window's condition takes at most; a statement's own follow them.
    pub(super) const fn parameters(&self) -> usize {
        2 * self.key.parameters()
    }

    pub(super) async fn next(&mut self, db: &Db) -> Result<Option<Window>, StoreError> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let Self { table, key, .. } = *self;
        let statement = format!(
            "SELECT {} AS row_key FROM {table} WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
            key.selected(),
            key.compared(">", 1),
            key.columns(),
            ROWS - 1
        );
        let rows = db.rows_long(key.bind(sqlx::query(AssertSqlSafe(statement)), &after)?).await?;
        let last = rows.first().map(|row| row::text(row, "row_key")).transpose()?;
        self.after.clone_from(&last);
        Ok(Some(Window { key, after, last }))
    }
}

impl Window {
    /// The condition on the rows of this window, with the parameters from `$1` on.
    pub(super) fn condition(&self) -> String {
        let n = self.key.parameters();
        let after = self.key.compared(">", 1);
        // Both forms use all parameters, so that those of a statement have the same numbers with either.
        match self.last {
            Some(_) => format!("{after} AND {}", self.key.compared("<=", 1 + n)),
            None => format!("{after} AND {}", self.key.compared(">=", 1 + n)),
        }
    }

    pub(super) fn bind<'q>(
        &self,
        query: Query<'q, Any, AnyArguments>,
    ) -> Result<Query<'q, Any, AnyArguments>, StoreError> {
        let query = self.key.bind(query, &self.after)?;
        self.key.bind(query, self.last.as_deref().unwrap_or(&self.after))
    }

    /// Leaves out the rows up to and with this key.
    pub(super) fn go_on_after(&mut self, key: String) {
        self.after = key;
    }
}
