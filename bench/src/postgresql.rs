//! The database of the measurements. It is checked before it is used.

use anyhow::Context as _;
use hookline_common::secret::Secret;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::run::Refused;

/// Marks a database as the benchmark's, so that a later benchmark may use it again.
const MARK: &str = "CREATE TABLE IF NOT EXISTS hookline_bench ()";
const TABLES: &str = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()";
const HAS_GATES: &str = "SELECT to_regclass('gates') IS NOT NULL";
const FORGET: &str = "TRUNCATE gates, records_people, records_notes, records_opt_flags, contact_links";

/// Checks that the database belongs to the benchmark, and marks it. Thousands of invented opt-outs do not belong in
/// anyone's ledger.
///
/// # Errors
/// [`Refused`] if the database has tables that no benchmark created.
pub(crate) async fn claim(url: &Secret) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url.expose()).await.context("cannot connect to PostgreSQL")?;
    let tables: Vec<String> =
        sqlx::query_scalar(TABLES).fetch_all(&mut connection).await.context("looking at the database")?;
    let ours = tables.iter().any(|table| table == "hookline_bench");
    if !tables.is_empty() && !ours {
        return Err(Refused(format!(
            "the database of the store has {} tables: it is in use; make one of its own (`createdb hookline_bench`) \
             and give it with --store-url",
            tables.len()
        ))
        .into());
    }
    sqlx::query(MARK).execute(&mut connection).await.context("marking the database as the benchmark's")?;
    connection.close().await.context("leaving the database")
}

/// Deletes what workers learned of destinations and people. The next workers call another API, with another limit and
/// state. People that several measurements created share the few phone numbers, which makes a note's person ambiguous.
///
/// # Errors
/// Fails when the database does not answer.
pub(crate) async fn forget(url: &Secret) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url.expose()).await.context("cannot connect to PostgreSQL")?;
    let has_gates: bool =
        sqlx::query_scalar(HAS_GATES).fetch_one(&mut connection).await.context("looking at the database")?;
    // The first worker creates these tables.
    if has_gates {
        sqlx::query(FORGET).execute(&mut connection).await.context("forgetting destinations and people")?;
    }
    connection.close().await.context("leaving the database")
}
