//! What a server refuses or allows, told before it is met.

use hookline_common::secret::Secret;
use hookline_store::{Location, StoreError};
use sqlx::Executor as _;

use crate::database::{KEY, TestStore, open};

/// Makes a database with another encoding beside an existing one, and returns its URL.
async fn with_encoding(encoding: &str) -> String {
    let home = TestStore::nowhere().await;
    let name = format!("of_{}", encoding.to_ascii_lowercase());
    let create = format!("CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    let mut connection = <sqlx::postgres::PgConnection as sqlx::Connection>::connect(&home).await.expect("connected");
    connection.execute(sqlx::AssertSqlSafe(create)).await.expect("made");
    let mut url = url::Url::parse(&home).expect("a URL");
    url.set_path(&name);
    url.into()
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused_with_what_to_do() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let home = with_encoding(encoding).await;

        let opened = open(&home, KEY).await.map(|_| ());
        let looked = TestStore::look_at(&home, Some(KEY)).await.map(|_| ());

        for refused in [opened, looked] {
            let Err(StoreError::Incompatible(why)) = refused else { panic!("{encoding}: {refused:?}") };
            assert!(why.contains(encoding) && why.contains("ENCODING 'UTF8'"), "{why}");
        }
    }
}

#[tokio::test]
async fn the_lowest_limit_on_connections_is_told() {
    let test = TestStore::new().await;
    let location = Location::Postgres { url: Secret::new(test.home.as_str()), connections: 5 };
    let of_server = hookline_store::connections_allowed(&location).await.expect("asked").expect("a server");
    assert!(of_server > 5, "{of_server}");

    let name = url::Url::parse(&test.home).expect("a URL").path().trim_start_matches('/').to_owned();
    let limit = format!("ALTER DATABASE \"{name}\" CONNECTION LIMIT 7");
    test.sql().await.execute(sqlx::AssertSqlSafe(limit)).await.expect("limited");

    assert_eq!(hookline_store::connections_allowed(&location).await.expect("asked"), Some(7));
}
