//! Erased content leaves no readable copy, and a holder of the delivery loses it.

use std::path::Path;

use bytes::Bytes;
use hookline_broker::conformance::{next, nothing_comes, settle};
use hookline_broker::embedded::EmbeddedBroker;
use hookline_broker::{Consume, Publish, QueueAdmin, Settled, Settlement};
use hookline_common::event::Event;
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;

use crate::Directory;

const NOTES: Queue = Queue::Work(HandlerName::LogNote);
const HISTORY: Queue = Queue::Work(HandlerName::RecordHistory);
const SECRET: &[u8] = b"what only this person wrote";

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_body_is_in_no_file_whether_settled_or_waiting() {
    // The sizes cover a body on a page with other rows, and bodies on pages of their own.
    for repeats in [1, 200, 2000] {
        let directory = Directory::new();
        let owner = directory.open().await;
        let guest = EmbeddedBroker::open(directory.options().guest()).await.unwrap();
        let neighbours = [an_inbound_message(), an_inbound_message(), an_inbound_message()];
        let settled = Event { body: Bytes::from(SECRET.repeat(repeats)), ..an_inbound_message() };
        let waiting = Event { body: settled.body.clone(), ..an_inbound_message() };
        for event in [&neighbours[0], &settled, &neighbours[1], &waiting, &neighbours[2]] {
            owner.publish(event).await.unwrap();
        }
        assert!(holds(directory.dir.path(), SECRET), "it can be found at all");
        for queue in [NOTES, HISTORY] {
            let mut deliveries = owner.consume(queue, 1).await.unwrap();
            settle(next(&mut deliveries).await, Settlement::Done).await;
            settle(next(&mut deliveries).await, Settlement::Done).await;
        }

        for handler in [HandlerName::LogNote, HandlerName::RecordHistory] {
            assert!(!guest.remove(&settled.id, handler).await.unwrap(), "it was settled");
            assert!(guest.remove(&waiting.id, handler).await.unwrap());
        }
        assert!(guest.empty_log().await.unwrap(), "nobody reads");

        assert!(!holds(directory.dir.path(), SECRET), "a body of {} bytes is still there", settled.body.len());
        assert!(holds(directory.dir.path(), &neighbours[2].body), "what waits stays");
        guest.close().await;
        owner.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_while_it_is_out_is_lost_to_its_holder() {
    let directory = Directory::new();
    let broker = directory.open().await;
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();
    let mut notes = broker.consume(NOTES, 2).await.unwrap();
    let held = next(&mut notes).await;

    assert!(broker.remove(&event.id, HandlerName::LogNote).await.unwrap());

    let depth = broker.queues().await.unwrap().into_iter().find(|depth| depth.queue == NOTES).unwrap();
    assert_eq!(depth.messages, 0);
    assert_eq!(held.settle(Settlement::Release).await.unwrap(), Settled::Lost);
    nothing_comes(&mut notes).await;
    broker.close().await;
}

fn holds(dir: &Path, text: &[u8]) -> bool {
    ["broker.db", "broker.db-wal"].iter().any(|name| {
        let content = std::fs::read(dir.join(name)).unwrap_or_default();
        content.windows(text.len()).any(|window| window == text)
    })
}
