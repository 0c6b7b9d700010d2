//! The audit trail: what people decided, and when. It never holds a whole phone number.

use hookline_common::time::Timestamp;

use crate::db::dialect::Connection;
use crate::db::error::StoreError;

/// Writes an audit row in the transaction that carries out the decision, so that neither happens without the other.
pub(crate) async fn note(
    connection: &mut Connection,
    action: &str,
    subject: &str,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO audit (at_ms, action, subject, reason) VALUES ($1, $2, $3, $4)")
        .bind(Timestamp::now().as_millis())
        .bind(action)
        .bind(subject)
        .bind(reason)
        .execute(connection)
        .await?;
    Ok(())
}
