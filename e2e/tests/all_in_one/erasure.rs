//! Erasure takes the person and leaves the proof; the proof shows when somebody touched it.

use hookline_e2e::{ACCOUNT, AllInOne, Running};
use hookline_sandbox::samples::{SampleFacts, sample};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};

/// An all-in-one Hookline that did an opt-out, a note and a contact of each of two people, and is down.
pub(crate) async fn after_two_people() -> (AllInOne, SampleFacts, SampleFacts) {
    let (all_in_one, running, first, second) = doing_two_people().await;
    assert_eq!(running.stop().await.code, Some(0));
    (all_in_one, first, second)
}

async fn doing_two_people() -> (AllInOne, Running, SampleFacts, SampleFacts) {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    let named = |name: &str, body: &str| SampleFacts {
        contact_name: name.to_owned(),
        body: body.to_owned(),
        ..SampleFacts::random(ACCOUNT)
    };
    let people = [named("Oblivia Forgotten", "please-forget-this-text"), named("Kofi Tazewell", "On my way.")];
    for person in &people {
        for event_type in ["contact.created", "message.received", "contact.opted_out"] {
            let body = sample(event_type, person);
            all_in_one.sandbox.learn(&body).expect("a sample's shape");
            all_in_one.sender.send(&body).await;
        }
    }
    all_in_one.settled().await;
    let [first, second] = people;
    (all_in_one, running, first, second)
}

pub(crate) async fn write_to_store(all_in_one: &AllInOne, statements: &[&str]) {
    let file = all_in_one.dir().join("data/store.db");
    let options = SqliteConnectOptions::new().filename(file);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("the store is a file of SQLite");
    for statement in statements {
        sqlx::query(AssertSqlSafe((*statement).to_owned()))
            .execute(&mut connection)
            .await
            .expect("the store is a file of SQLite");
    }
    connection.close().await.expect("the store is a file of SQLite");
}

/// Who may write the file may drop its triggers: the chain is what shows it.
const UNGUARDED: [&str; 2] = ["DROP TRIGGER opt_ledger_is_never_updated", "DROP TRIGGER opt_ledger_is_never_deleted"];

#[tokio::test(flavor = "multi_thread")]
async fn erasing_a_person_leaves_the_proof_and_the_others() {
    let (all_in_one, running, erased, other) = doing_two_people().await;
    // It has no time to tidy its files up.
    running.process.kill().await;
    let proof = all_in_one.json(&["opt-outs", "prove", &erased.phone]).await;
    let events = all_in_one.rows(&["events", "list"], "events").await.len();

    let unasked = all_in_one.cli(&["erase", &erased.phone]).await;
    let foretold = all_in_one.json(&["erase", &erased.phone, "--dry-run"]).await;
    assert_eq!(unasked.code, Some(2), "nobody can be asked: {unasked:?}");
    assert!(unasked.stderr.contains("--yes") && unasked.stderr.contains("--dry-run"), "{unasked:?}");
    assert_eq!((&foretold["notes"], &foretold["persons"], &foretold["dry_run"]), (&1.into(), &1.into(), &true.into()));
    assert_eq!(all_in_one.rows(&["records", "notes"], "notes").await.len(), 2, "nothing was changed");
    let ours = all_in_one.cli(&["erase", &erased.account_phone, "--yes"]).await;
    assert_eq!(ours.code, Some(1), "{ours:?}");
    assert!(ours.stderr.contains("business number"), "{ours:?}");

    let ran = all_in_one.cli(&["erase", &erased.phone, "--yes"]).await;

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.contains(&erased.phone[2..]), "masked: {}", ran.stdout);
    let notes = all_in_one.rows(&["records", "notes"], "notes").await;
    assert_eq!(
        notes.iter().map(|note| note["phone"].as_str().expect("a text")).collect::<Vec<_>>(),
        [other.phone.as_str()]
    );
    let contacts = all_in_one.rows(&["records", "contacts"], "contacts").await;
    assert_eq!(
        contacts.iter().map(|one| one["phone"].as_str().expect("a text")).collect::<Vec<_>>(),
        [other.phone.as_str()]
    );
    assert_eq!(
        all_in_one.rows(&["events", "list"], "events").await.len(),
        events,
        "what arrived is still accounted for"
    );
    assert_eq!(all_in_one.json(&["opt-outs", "prove", &erased.phone]).await, proof);
    assert_eq!(all_in_one.cli(&["opt-outs", "verify"]).await.code, Some(0));
    assert_eq!(all_in_one.cli(&["erase", &erased.phone, "--yes"]).await.code, Some(0), "once more is no failure");
    nothing_left_in_files(&all_in_one);
}

/// What is erased is in no file of the data directory any more: overwritten, not only unlinked.
fn nothing_left_in_files(all_in_one: &AllInOne) {
    for entry in std::fs::read_dir(all_in_one.dir().join("data")).expect("a readable file") {
        let path = entry.expect("a readable file").path();
        let bytes = std::fs::read(&path).expect("a readable file");
        for erased in ["Oblivia", "Forgotten", "please-forget-this-text"] {
            let found = bytes.windows(erased.len()).any(|window| window == erased.as_bytes());
            assert!(!found, "{} still holds {erased}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_was_changed_is_found_out() {
    let (all_in_one, person, _) = after_two_people().await;
    let whole = all_in_one.json(&["opt-outs", "verify"]).await;
    assert_eq!(whole["ok"], true);
    assert!(whole["entries"].as_u64().expect("a number") >= 6, "{whole}");

    let change =
        format!("UPDATE opt_ledger SET status = 500 WHERE phone = '{}' AND kind = 'put_answered'", person.phone);
    write_to_store(&all_in_one, &[UNGUARDED[0], UNGUARDED[1], &change]).await;

    let ran = all_in_one.cli(&["opt-outs", "verify", "--json"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("\"ok\": false"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_was_taken_out_of_the_middle_is_found_out() {
    let (all_in_one, _, _) = after_two_people().await;
    let taken = "DELETE FROM opt_ledger WHERE seq = (SELECT MIN(seq) + 1 FROM opt_ledger)";
    write_to_store(&all_in_one, &[UNGUARDED[0], UNGUARDED[1], taken]).await;
    assert_eq!(all_in_one.cli(&["opt-outs", "verify"]).await.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_cut_off_is_found_out_against_a_head_exported_before() {
    let (all_in_one, _, _) = after_two_people().await;
    let head = all_in_one.json(&["opt-outs", "verify"]).await["head"].as_str().expect("a text").to_owned();
    assert_eq!(all_in_one.cli(&["opt-outs", "verify", "--head", &head]).await.code, Some(0));

    // The head row is set back as well, so that what is left is a chain of its own.
    write_to_store(
        &all_in_one,
        &[
            UNGUARDED[0],
            UNGUARDED[1],
            "DELETE FROM opt_ledger WHERE seq = (SELECT MAX(seq) FROM opt_ledger)",
            "UPDATE opt_ledger_head SET seq = (SELECT MAX(seq) FROM opt_ledger),
                 hash = (SELECT hash FROM opt_ledger ORDER BY seq DESC LIMIT 1)",
        ],
    )
    .await;

    assert_eq!(all_in_one.cli(&["opt-outs", "verify", "--head", &head]).await.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_cannot_be_changed_by_a_plain_statement() {
    let (all_in_one, _, _) = after_two_people().await;
    let file = all_in_one.dir().join("data/store.db");
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await.unwrap();
    for statement in ["UPDATE opt_ledger SET status = 500", "DELETE FROM opt_ledger"] {
        let refused = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
        assert!(refused.unwrap_err().to_string().contains("append-only"), "{statement}");
    }
}
