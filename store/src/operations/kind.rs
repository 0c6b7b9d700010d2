//! Who answered the calls that a store records: the real API, or the sandbox that replaces it. `hookline dev` or the
//! first answer fixes the kind once, so that answers of the two are never evidence side by side.

use sqlx::Row;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::row;

/// The kind's name in `store_meta`.
const NAME: &str = "kind";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Sandbox,
    Real,
}

impl StoreKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Real => "real",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        [Self::Sandbox, Self::Real]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| StoreError::unreadable("kind of the store"))
    }
}

impl Store {
    /// Returns the store's kind; `None` if nothing has answered yet.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn kind(&self) -> Result<Option<StoreKind>, StoreError> {
        let known = self.db.row(sqlx::query("SELECT value FROM store_meta WHERE name = $1").bind(NAME)).await?;
        known.map(|known| StoreKind::read(&row::text(&known, "value")?)).transpose()
    }

    /// Fixes the kind of the store, unless it is already fixed. Returns the kind that is then fixed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn fix_kind(&self, kind: StoreKind) -> Result<StoreKind, StoreError> {
        let fixed: String = self
            .db
            .write(kind, |connection, kind| {
                Box::pin(async move {
                    let fixed = sqlx::query(
                        "INSERT INTO store_meta (name, value) VALUES ($1, $2)
                         ON CONFLICT (name) DO UPDATE SET value = store_meta.value RETURNING value",
                    )
                    .bind(NAME)
                    .bind(kind.as_str())
                    .fetch_one(connection)
                    .await?;
                    row::text(&fixed, "value")
                })
            })
            .await?;
        StoreKind::read(&fixed)
    }
}

/// Marks a store as real if a version that did not fix kinds left answers in it: what counted as evidence stays
/// evidence.
pub(crate) async fn settle_old(connection: &mut Connection) -> Result<(), StoreError> {
    let known: i64 = sqlx::query("SELECT COUNT(*) FROM store_meta WHERE name = $1")
        .bind(NAME)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    if known == 0 {
        sqlx::query(
            "INSERT INTO store_meta (name, value) SELECT $1, $2
             WHERE EXISTS (SELECT 1 FROM opt_ledger WHERE kind IN ('put_answered', 'read_back') AND status IS NOT NULL)
                OR EXISTS (SELECT 1 FROM attempts WHERE requests LIKE '%\"status\":2%' OR requests LIKE '%\"status\":3%'
                           OR requests LIKE '%\"status\":4%' OR requests LIKE '%\"status\":5%')
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(NAME)
        .bind(StoreKind::Real.as_str())
        .execute(connection)
        .await?;
    }
    Ok(())
}
