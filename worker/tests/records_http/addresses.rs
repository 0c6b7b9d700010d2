//! Which addresses are connected to. The unit tests of the resolver cover names that lead to private addresses.

use std::sync::Arc;

use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_worker::records::SystemOfRecord as _;
use hookline_worker::records::http::HttpRecords;

use crate::helpers::{TestRecords, http_settings};

#[tokio::test]
async fn a_private_address_in_the_url_is_refused_unless_it_is_allowed() {
    let records = TestRecords::start().await;
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    for (url, is_allowed) in [
        ("https://10.0.0.1/in", false),
        ("https://169.254.169.254/latest/meta-data", false),
        ("https://100.64.0.1/in", false),
        ("https://0.0.0.0/in", false),
        ("https://224.0.0.1/in", false),
        ("https://[fd00::1]/in", false),
        ("https://[fe80::1]/in", false),
        ("https://[::ffff:192.168.0.1]/in", false),
        ("https://3232235521/in", false),
        ("https://0xa9.0xfe.0xa9.0xfe/in", false),
        ("https://1.1.1.1/in", true),
        ("https://crm.example.com/in", true),
        ("http://127.0.0.1:9/in", true),
        ("http://[::1]:9/in", true),
        ("http://localhost:9/in", true),
    ] {
        let mut settings = http_settings(url);
        let opened = HttpRecords::new(&settings, &records.connector.store, &metrics);
        assert_eq!(opened.is_ok(), is_allowed, "{url}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("allow_private_addresses is false"), "{error}");
        }
        settings.allow_private_addresses = true;
        let opened = HttpRecords::new(&settings, &records.connector.store, &metrics).expect(url);
        assert_eq!(opened.name(), format!("http {}", settings.url.as_ref().expect("a URL")));
    }
}

#[tokio::test]
async fn localhost_is_reached_by_its_name() {
    let by_name = |settings: &mut hookline_common::settings::HttpRecordSettings| {
        let url = settings.url.as_mut().expect("a URL");
        url.set_host(Some("localhost")).expect("a host");
    };
    let records = TestRecords::with(|_| {}, by_name).await;

    records.connector.note().await.unwrap();

    records.assert_proper();
}
