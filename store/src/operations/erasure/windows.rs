//! Walks a whole table in windows of a bounded number of rows. A statement that looks through millions of rows for a text
//! would exceed the database's deadline, however few of them have the text.

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
}

impl Key {
    /// As one text.
    pub(super) fn selected(self) -> String {
        match self {
            Self::Text(column) => column.to_owned(),
            Self::Number(column) => format!("CAST({column} AS TEXT)"),
            Self::Delivery => "event_id || ' ' || handler".to_owned(),
        }
    }

    fn columns(self) -> &'static str {
        match self {
            Self::Text(column) | Self::Number(column) => column,
            Self::Delivery => "event_id, handler",
        }
    }

    /// How many parameters name one row.
    const fn parameters(self) -> usize {
        match self {
            Self::Text(_) | Self::Number(_) => 1,
            Self::Delivery => 2,
        }
    }

    /// Compares the key with the parameters from `$n` on.
    pub(super) fn compared(self, operator: &str, n: usize) -> String {
        match self {
            Self::Text(column) | Self::Number(column) => format!("{column} {operator} ${n}"),
            Self::Delivery => format!("(event_id, handler) {operator} (${n}, ${})", n + 1),
        }
    }

    /// A key before all others, as one text.
    fn before_all(self) -> String {
        match self {
            Self::Text(_) => String::new(),
            Self::Number(_) => i64::MIN.to_string(),
            Self::Delivery => " ".to_owned(),
        }
    }

    /// Binds a key that [`Key::selected`] returned.
    pub(super) fn bind<'q>(
        self,
        query: Query<'q, Any, AnyArguments>,
        key: &str,
    ) -> Result<Query<'q, Any, AnyArguments>, StoreError> {
        let unreadable = || StoreError::unreadable("row_key");
        match self {
            Self::Text(_) => Ok(query.bind(key.to_owned())),
            Self::Number(_) => Ok(query.bind(key.parse::<i64>().map_err(|_| unreadable())?)),
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

/// The windows of one table, in the order of its key.
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
