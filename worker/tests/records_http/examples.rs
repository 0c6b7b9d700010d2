//! The example receivers of the documentation, run for real: `cargo test -p hookline-worker --test records_http -- \
//! --ignored examples`.

use std::process::Stdio;
use std::time::Duration;

use hookline_common::secret::Secret;
use hookline_sandbox::receiver::SECRET;
use hookline_worker::destinations::error::DestinationError;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};

use crate::helpers::{CONTACT, Connector, TEXT, a_message, a_thread, at, eventually, http_settings, phone, sam};

struct Example {
    _process: Child,
    printed: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Example {
    async fn start(program: &str, file: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut process = Command::new(program)
            .arg(format!("{}/../docs/systems-of-record/examples/{file}", env!("CARGO_MANIFEST_DIR")))
            .env("HTTP_RECORD_SECRET", SECRET)
            .env("PORT", address.port().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect(program);
        let printed = BufReader::new(process.stdout.take().expect("its output")).lines();
        eventually(program, || async { TcpStream::connect(address).await.is_ok() }).await;
        let mut example = Self { _process: process, printed, url: format!("http://{address}/hookline") };
        assert_eq!(example.prints().await, format!("listening on http://{address}"), "{file}");
        example
    }

    async fn prints(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(10), self.printed.next_line()).await;
        line.expect("it prints a line").expect("text").expect("a line")
    }
}

#[tokio::test]
#[ignore = "needs python3 and node"]
async fn the_example_receivers_take_every_document_and_nothing_else() {
    for (program, file) in [("python3", "receiver.py"), ("node", "receiver.mjs")] {
        let mut example = Example::start(program, file).await;
        let dir = tempfile::tempdir().expect("a directory");
        let mut settings = http_settings(&example.url);
        settings.timeout = Duration::from_secs(10);
        let connector = Connector::start(&settings, &dir).await;
        let mut longer = a_thread();
        let mut second = a_message("/messages/b");
        second.occurred_at = at("2026-11-02T15:09:00Z");
        longer.messages.push(second);

        connector.write(&sam(), &longer, TEXT).await.expect(file);
        assert_eq!(example.prints().await, "thread_0011 2 messages", "{file}");
        // An older document that comes late replaces nothing.
        connector.note().await.expect(file);
        connector.opt_out().await.expect(file);
        assert_eq!(example.prints().await, "opted out +12025550147", "{file}");
        assert_eq!(connector.upsert().await.expect(file), (String::new(), true));
        let people = connector.find(Some(CONTACT), Some(&phone())).await.unwrap_or_default();
        assert_eq!((people.len(), people[0].id.0.as_str()), (1, ""), "{file}");

        let another = tempfile::tempdir().expect("a directory");
        settings.secrets = vec![Secret::new("whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=")];
        let stranger = Connector::start(&settings, &another).await;
        let error = stranger.opt_out().await.expect_err(file);
        assert!(matches!(error, DestinationError::CredentialsRefused { status: 401, .. }), "{file}: {error:?}");
        settings.secrets.push(Secret::new(SECRET));
        let rotating = tempfile::tempdir().expect("a directory");
        assert!(Connector::start(&settings, &rotating).await.opt_out().await.expect(file));
        assert_eq!(example.prints().await, "opted out +12025550147", "{file}");
    }
}
