use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Question, WorkerProcess};

use crate::helpers::TestStore;

fn process(id: &str) -> WorkerProcess {
    let now = Timestamp::now();
    WorkerProcess {
        id: id.to_owned(),
        kind: Some("worker".to_owned()),
        version: Some("1.2.3".to_owned()),
        since: Some(now),
        heartbeat_at: now,
    }
}

/// Returns which workers have answered, and how many deliveries each holds.
async fn told(store: &Store, question: Question) -> Vec<(String, bool, i64)> {
    let answers = store.answers(question).await.expect("the store answers");
    answers.into_iter().map(|answer| (answer.worker_id, answer.answered, answer.held_history)).collect()
}

#[tokio::test]
async fn a_question_is_answered_by_each_worker_that_is_there() {
    let test = TestStore::new().await;
    let other = test.other().await;
    test.store.heartbeat(&process("a")).await.unwrap();
    other.heartbeat(&process("b")).await.unwrap();
    assert_eq!(told(&other, Question::NONE).await, [("a".to_owned(), true, 0), ("b".to_owned(), true, 0)]);

    let question = test.store.ask_workers().await.unwrap();
    assert_eq!(other.latest_question().await.unwrap(), question);
    other.answer("b", question, 7).await.unwrap();

    assert_eq!(told(&test.store, question).await, [("a".to_owned(), false, 0), ("b".to_owned(), true, 7)]);
    let later = other.ask_workers().await.unwrap();
    assert!(later > question);
    test.store.answer("a", later, 1).await.unwrap();
    test.store.answer("a", question, 2).await.unwrap();
    assert_eq!(told(&test.store, question).await, [("a".to_owned(), true, 1), ("b".to_owned(), true, 7)]);
}

#[tokio::test]
async fn who_left_or_was_silent_for_over_a_minute_is_not_waited_for() {
    let test = TestStore::new().await;
    for worker in ["left", "silent", "there"] {
        test.store.heartbeat(&process(worker)).await.unwrap();
    }

    test.store.worker_left("left").await.unwrap();
    test.execute("UPDATE workers SET heartbeat_ms = heartbeat_ms - 61000 WHERE worker_id = 'silent'").await;
    test.store.heartbeat(&process("there")).await.unwrap();

    let answers = test.store.answers(Question::NONE).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.worker_id.as_str()).collect::<Vec<_>>(), ["there"]);
    assert!(Timestamp::now().since(answers[0].heartbeat_at).as_secs() < 30, "{answers:?}");
}

#[tokio::test]
async fn what_runs_is_listed_with_its_version_also_of_a_version_that_does_not_tell() {
    let test = TestStore::new().await;
    let told = process("a");
    test.store.heartbeat(&told).await.unwrap();
    test.execute("INSERT INTO workers (worker_id, heartbeat_ms) VALUES ('b', 9000000000000)").await;

    let processes = test.other().await.worker_processes().await.unwrap();

    assert_eq!(processes[0], WorkerProcess { heartbeat_at: processes[0].heartbeat_at, ..told });
    assert_eq!((processes[1].id.as_str(), &processes[1].version, processes[1].since), ("b", &None, None));
    assert!(!test.store.database_version().await.unwrap().is_empty());
}
