//! PostgreSQL: many processes write side by side under READ COMMITTED, so we lock rows, and names that have no row.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use hookline_common::secret::Secret;
use hookline_common::time::Timestamp;
use sqlx::any::AnyConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor, Row};

use super::{Begin, Connection, Judgement};
use crate::db::error::StoreError;

/// A database that does not answer within this time is away. Together with connecting, the limit stays under ten
/// seconds.
const DEADLINE: Duration = Duration::from_secs(8);
pub(super) const READ_DEADLINE: Duration = Duration::from_secs(8);
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// The limit for clean-ups and erasure, which read every row.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// The advisory lock that lets one process migrate at a time.
const MIGRATION_LOCK: i64 = 0x686f_6f6b_6c69_6e65;
/// Not 0 if migrations were applied.
pub(super) const MADE: &str = "SELECT CAST(to_regclass('_sqlx_migrations') IS NOT NULL AS INT)::BIGINT";
const MIGRATE_WITHIN: Duration = Duration::from_secs(60);

/// URL parameters of other PostgreSQL clients. They mean nothing to us, or ask for what we do anyway.
const IGNORED: [&str; 14] = [
    "connect_timeout",
    "channel_binding",
    "target_session_attrs",
    "load_balance_hosts",
    "gssencmode",
    "krbsrvname",
    "sslnegotiation",
    "sslcompression",
    "sslsni",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The connection options of a server.
#[derive(Clone)]
pub(crate) struct Postgres {
    options: AnyConnectOptions,
    connections: usize,
}

impl Postgres {
    /// Reads the URL without connecting. No error quotes the URL.
    pub(super) fn new(url: &Secret, connections: usize) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let invalid = |what: &str| StoreError::Invalid(format!("[store] url {what}"));
        let mut options = url
            .expose()
            .parse::<AnyConnectOptions>()
            .map_err(|_| invalid("cannot be read; write postgres://user:password@host:5432/database"))?
            .disable_statement_logging();
        if !["postgres", "postgresql"].contains(&options.database_url.scheme()) {
            return Err(invalid("must begin with postgres://; for SQLite leave it out"));
        }
        let mut kept = Vec::new();
        for (key, value) in options.database_url.query_pairs() {
            if KNOWN.contains(&key.as_ref()) || key.starts_with("options[") {
                kept.push((key.into_owned(), value.into_owned()));
            } else if !IGNORED.contains(&key.as_ref()) {
                let key: String = key.chars().filter(char::is_ascii_graphic).take(40).collect();
                return Err(invalid(&format!("has a parameter that is not known: {key}")));
            }
        }
        // The driver would log unknown parameters with their values at each connection.
        options.database_url.set_query(None);
        if !kept.iter().any(|(key, _)| key == "application_name") {
            kept.push(("application_name".to_owned(), "hookline".to_owned()));
        }
        options.database_url.query_pairs_mut().extend_pairs(kept);
        Ok(Self { options, connections: connections.max(1) })
    }

    pub(super) const fn connections(&self) -> usize {
        self.connections
    }

    pub(super) async fn connect_writer(&self) -> Result<Connection, StoreError> {
        self.connect(session()).await
    }

    pub(super) async fn connect_reader(&self) -> Result<Connection, StoreError> {
        let settings = format!("{}; SET default_transaction_read_only = on", session());
        self.connect(settings).await
    }

    async fn connect(&self, settings: String) -> Result<Connection, StoreError> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            connection.execute(AssertSqlSafe(settings)).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(connecting_failed),
            Err(_) => Err(StoreError::Unavailable(format!("no connection within {} s", CONNECT.as_secs()))),
        }
    }
}

/// Session settings. We set them by statements because some proxies refuse them in the start-up message.
/// `idle_in_transaction_session_timeout` keeps a process that was stopped mid-transaction from holding its locks for
/// ever. A commit must be on the disk when it returns, so we overrule a server default that promises less. Compiling a
/// statement (`jit`) takes longer than any of ours.
fn session() -> String {
    format!(
        "SET statement_timeout = {}; SET lock_timeout = 250; SET idle_in_transaction_session_timeout = 10000; \
         SET client_min_messages = warning; SET standard_conforming_strings = on; \
         SET default_transaction_isolation = 'read committed'; SET jit = off; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local')",
        LONG.as_millis()
    )
}

/// Short writes use indexes alone: otherwise the server might keep a plan that it made while a table was small.
pub(super) const fn begin(begin: Begin) -> &'static str {
    match begin {
        Begin::Write => {
            "BEGIN; SET LOCAL lock_timeout = 3000; SET LOCAL statement_timeout = 6000; SET LOCAL enable_seqscan = off; \
             SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
        }
        Begin::Batch => {
            "BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
        }
        Begin::Long => "BEGIN; SET LOCAL lock_timeout = 3000",
        Begin::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    }
}

pub(super) const fn deadline(begin: Begin) -> Duration {
    match begin {
        Begin::Write | Begin::Batch | Begin::Snapshot => DEADLINE,
        Begin::Long => LONG,
    }
}

pub(super) async fn clock_ahead(connection: &mut Connection) -> Result<i64, StoreError> {
    let asked = Timestamp::now().as_millis();
    let clock = Instant::now();
    let theirs: i64 = sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
        .fetch_one(connection)
        .await?
        .try_get(0)?;
    let halfway = i64::try_from(clock.elapsed().as_millis() / 2).unwrap_or(0);
    Ok(theirs - (asked + halfway))
}

/// # Errors
/// `Incompatible` if the database cannot hold every text.
pub(super) async fn check_encoding(connection: &mut Connection) -> Result<(), StoreError> {
    let encoding: String =
        sqlx::query("SELECT current_setting('server_encoding') AS encoding").fetch_one(connection).await?.try_get(0)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Incompatible(format!(
        "the database's encoding is {encoding}, which cannot hold every text; make another database with \
         CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    )))
}

/// The most connections that the server, the database and the role allow, all clients together.
pub(super) async fn connections_allowed(connection: &mut Connection) -> Result<i64, StoreError> {
    // -1 stands for no limit (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>).
    let select = "SELECT LEAST(
            CAST(current_setting('max_connections') AS BIGINT)
                - CAST(current_setting('superuser_reserved_connections') AS BIGINT),
            (SELECT CAST(NULLIF(rolconnlimit, -1) AS BIGINT) FROM pg_roles WHERE rolname = current_user),
            (SELECT CAST(NULLIF(datconnlimit, -1) AS BIGINT) FROM pg_database WHERE datname = current_database())
        ) AS allowed";
    Ok(sqlx::query(select).fetch_one(connection).await?.try_get(0)?)
}

/// Migrates the tables. Waits for any other process that is migrating; then there is usually nothing left to do.
pub(super) async fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let read = async {
        if is_up_to_date(connection).await? { super::check_version(connection).await.map(|()| true) } else { Ok(false) }
    };
    let is_done = tokio::time::timeout(READ_DEADLINE, read).await;
    if is_done.map_err(|_| StoreError::Unavailable("the database did not answer in time".to_owned()))?? {
        return Ok(());
    }
    let deadline = Instant::now() + MIGRATE_WITHIN;
    loop {
        // ALTER TABLE waits for the table's readers, and everybody else queues behind it. So we give up after 2 s and
        // retry.
        let mut transaction = connection.begin_with("BEGIN; SET LOCAL lock_timeout = 2000").await?;
        let locked =
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await;
        let done = match locked {
            Ok(_) => super::apply(migrator(), &mut transaction).await,
            Err(error) => Err(error.into()),
        };
        match done {
            Ok(()) => return Ok(transaction.commit().await?),
            Err(StoreError::Contended(_)) if Instant::now() < deadline => transaction.rollback().await?,
            Err(error) => {
                // The first error is the one that matters. The caller that gets it closes the connection.
                let _ = transaction.rollback().await;
                return Err(error);
            }
        }
    }
}

/// Whether all our migrations are applied. If so, the process needs no right to create tables.
async fn is_up_to_date(connection: &mut Connection) -> Result<bool, StoreError> {
    let made: i64 = sqlx::query(MADE).fetch_one(&mut *connection).await?.try_get(0)?;
    if made == 0 { Ok(false) } else { super::are_applied(&migrator(), connection).await }
}

pub(super) fn migrator() -> Migrator {
    sqlx::migrate!("migrations/postgres")
}

/// How the standard library begins the error of a name resolution, which has no kind of its own
/// (`library/std/src/sys/net/connection/socket.rs`).
const NAME_NOT_RESOLVED: &str = "failed to lookup address information";

/// Makes every connection error `Unavailable`: no request was made yet that could be wrong, and people fix credentials,
/// certificates and databases.
fn connecting_failed(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Io(cause) = &error {
        let words = if cause.kind() == ErrorKind::InvalidData {
            "the server's certificate is not trusted, or not one of this host; see sslrootcert".to_owned()
        } else if cause.kind() == ErrorKind::NotFound {
            "its host, or a file that sslrootcert, sslcert or sslkey names, is not there".to_owned()
        } else if cause.to_string().starts_with(NAME_NOT_RESOLVED) {
            "its host's name cannot be resolved".to_owned()
        } else {
            format!("connecting failed: {}", cause.kind())
        };
        return StoreError::Unavailable(words);
    }
    match StoreError::from(error) {
        StoreError::Invalid(words) | StoreError::Incompatible(words) => StoreError::Unavailable(words),
        error @ (StoreError::Unavailable(_) | StoreError::Contended(_) | StoreError::Failed(_)) => error,
    }
}

/// Classifies an error by its SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>). Only a wrong
/// statement or wrong values are final; anything that time or a person can fix is not.
pub(super) fn judge(code: &str) -> Judgement {
    match code {
        // Serialisation failure, deadlock, lock time-out.
        "40001" | "40P01" | "55P03" => Judgement::Contended,
        // 42501: a missing right, which a person can grant. 0A000: a plan that a migration outdated; a new connection
        // makes a new plan.
        "42501" | "0A000" => Judgement::Later,
        _ => match code.get(..2) {
            // Wrong values, violated constraints, wrong statements, and exceptions raised by our own triggers.
            Some("22" | "23" | "42" | "P0" | "21" | "44") => Judgement::Final,
            // Connection, resources, an operator's action, disk, configuration, internal errors, and unknown codes.
            _ => Judgement::Later,
        },
    }
}

/// The server's message without values. Messages of class 22 quote the rejected value, so we replace them. No other
/// message that can occur here quotes a value, and we leave out details.
pub(super) fn words(error: &PgDatabaseError) -> String {
    let code = error.code();
    if code.starts_with("22") {
        format!("a value cannot be stored (SQLSTATE {code})")
    } else {
        format!("{} (SQLSTATE {code})", error.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_time_or_a_person_mends_is_not_final() {
        for code in [
            "08006", "08001", "53300", "53100", "53200", "57P01", "57P02", "57P03", "57014", "25006", "28P01", "3D000",
            "42501", "58030", "XX001", "25P03", "0A000", "99999", "",
        ] {
            assert_eq!(judge(code), Judgement::Later, "{code}");
        }
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(judge(code), Judgement::Contended, "{code}");
        }
        for code in ["42601", "42P01", "42703", "23505", "22021", "22003", "P0001", "21000"] {
            assert_eq!(judge(code), Judgement::Final, "{code}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_being_quoted() {
        for url in [
            "mysql://u:s3cret-w0rd@h/db",
            "postgres://u:s3cret-w0rd@h:notaport/db",
            "s3cret-w0rd",
            "postgres://u:s3cret-w0rd@h/db?sslpasswort=s3cret-w0rd",
        ] {
            let refused = Postgres::new(&Secret::new(url), 1).err().expect(url).to_string();
            assert!(!refused.contains("s3cret-w0rd"), "{refused}");
        }
    }

    #[test]
    fn parameters_of_other_clients_are_left_out_and_ours_are_kept() {
        let url = "postgres://u@h/db?sslmode=verify-full&channel_binding=require&connect_timeout=10";
        let read = Postgres::new(&Secret::new(url), 1).expect("a URL");
        let pairs: Vec<_> = read.options.database_url.query_pairs().map(|(key, _)| key.into_owned()).collect();
        assert_eq!(pairs, ["sslmode", "application_name"]);
    }
}
