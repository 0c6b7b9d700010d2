//! What answers the calls that a store tells of: the real API, or the sandbox that stands in for it. Fixed once, by
//! `hookline dev` or by the first answer, so that no answer of the one is ever evidence beside those of the other.

use sqlx::Row;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::{Turn, row};

/// Name in `store_meta`.
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
    /// `None`: nothing has answered yet.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn kind(&self) -> Result<Option<StoreKind>, StoreError> {
        let known = self.db.row(sqlx::query("SELECT value FROM store_meta WHERE name = $1").bind(NAME)).await?;
        known.map(|known| StoreKind::read(&row::text(&known, "value")?)).transpose()
    }

    /// Makes it a store of this kind where nobody has said yet which it is; the kind that it is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn fix_kind(&self, kind: StoreKind) -> Result<StoreKind, StoreError> {
        let fixed: String = self
            .db
            .write(Turn::Alone, kind, |connection, kind| {
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

/// A store of a version that did not fix kinds is real where it holds answers: what was taken for evidence stays so.
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
