//! What a process cannot go on without: files of `data_dir`, and tasks that serve the others. It says what is wrong and
//! ends, so that whoever watches it can tell, and nothing is acknowledged into nowhere.

use std::time::Duration;

use hookline_e2e::{ACCOUNT, AllInOne};
use hookline_sandbox::samples::{SampleFacts, sample};

const ENDED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_data_dir_that_is_removed_ends_the_process_with_its_name_and_the_remedy() {
    for name in ["store.db", "store.db-wal", "broker.db"] {
        let all_in_one = AllInOne::start().await;
        let running = all_in_one.run().await;
        all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
        all_in_one.settled().await;

        std::fs::remove_file(all_in_one.dir().join("data").join(name)).expect("it was there");

        // Without any traffic: the process looks by itself.
        let ended = running.process.ended(ENDED_WITHIN).await;
        assert_eq!(ended.code, Some(1), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(name) && ended.stderr.contains("was removed"), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("docs/runbooks.md"), "{name}: {}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_panics_ends_the_process_and_a_restart_has_everything() {
    for point in ["store.committing:12", "spool.committing:5"] {
        let mut all_in_one = AllInOne::start().await;
        all_in_one.set("HOOKLINE_TEST_PANIC_AT", point);
        let running = all_in_one.run().await;
        let people: Vec<SampleFacts> = (0..30).map(|_| SampleFacts::random(ACCOUNT)).collect();
        let bodies: Vec<_> = people.iter().map(|person| sample("contact.opted_out", person)).collect();
        let sender = all_in_one.sender.clone();
        let sending = tokio::spawn(async move {
            for body in &bodies {
                sender.send(body).await;
            }
        });

        let ended = running.process.ended(ENDED_WITHIN).await;

        assert_eq!(ended.code, Some(1), "{point}: {}", ended.stderr);
        assert!(ended.stderr.contains("panicked: the test asked for a panic"), "{point}: {}", ended.stderr);
        all_in_one.set("HOOKLINE_TEST_PANIC_AT", "");
        let running = all_in_one.run().await;
        sending.await.expect("all are accepted in the end");
        let accounts = all_in_one.settled().await;
        accounts.hold(&all_in_one.sender.accepted(), all_in_one.sandbox.echoes_sent());
        assert_eq!(running.stop().await.code, Some(0));
    }
}
