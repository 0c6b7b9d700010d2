use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::Question;

use crate::helpers::TestStore;

/// Returns which workers have answered, and how many deliveries each holds.
async fn told(store: &Store, question: Question) -> Vec<(String, bool, i64)> {
    let answers = store.answers(question).await.expect("the store answers");
    answers.into_iter().map(|answer| (answer.worker_id, answer.answered, answer.held_history)).collect()
}

#[tokio::test]
async fn a_question_is_answered_by_each_worker_that_is_there() {
    let test = TestStore::new().await;
    let other = test.other().await;
    test.store.heartbeat("a").await.unwrap();
    other.heartbeat("b").await.unwrap();
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
        test.store.heartbeat(worker).await.unwrap();
    }

    test.store.worker_left("left").await.unwrap();
    test.execute("UPDATE workers SET heartbeat_ms = heartbeat_ms - 61000 WHERE worker_id = 'silent'").await;
    test.store.heartbeat("there").await.unwrap();

    let answers = test.store.answers(Question::NONE).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.worker_id.as_str()).collect::<Vec<_>>(), ["there"]);
    assert!(Timestamp::now().since(answers[0].heartbeat_at).as_secs() < 30, "{answers:?}");
}
