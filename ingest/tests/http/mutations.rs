//! Thousands of damaged payloads, each with a valid signature. A signed body is never refused and never lost, whatever
//! it contains.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::helpers::{TestIngest, fixtures};

const CASES: usize = 3000;
const AT_ONCE: usize = 32;

/// Generates fixtures with some bytes replaced, removed, repeated or cut off.
fn mutated() -> impl Strategy<Value = Bytes> {
    let bodies: Vec<Vec<u8>> = fixtures().into_iter().map(|fixture| fixture.body.to_vec()).collect();
    let edit = (any::<prop::sample::Index>(), 0..5_u8, any::<u8>(), 1..40_usize);
    (prop::sample::select(bodies), prop::collection::vec(edit, 1..6)).prop_map(|(mut body, edits)| {
        for (at, kind, byte, length) in edits {
            let at = at.index(body.len() + 1).min(body.len().saturating_sub(1));
            let end = (at + length).min(body.len());
            match kind {
                0 if at < body.len() => body[at] = byte,
                1 => body.insert(at, byte),
                2 => drop(body.drain(at..end)),
                3 => {
                    let repeated = body[at..end].to_vec();
                    body.splice(at..at, repeated);
                }
                _ => body.truncate(at),
            }
        }
        Bytes::from(body)
    })
}

#[tokio::test]
async fn every_signed_body_is_acknowledged_and_stored_once_by_its_id() {
    let ingest = TestIngest::start().await;
    // A fixed seed makes failures reproducible.
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = mutated();
    let bodies: Vec<Bytes> = (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();

    let ids: BTreeSet<String> = futures::stream::iter(&bodies)
        .map(|body| async {
            let answer = ingest.send_signed(body).await;
            assert_eq!(answer.status, 200, "{answer:?} for {:?}", String::from_utf8_lossy(body));
            answer.event_id()
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    let stored = ingest.stored().await;
    let stored_ids: BTreeSet<String> = stored.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(stored.len(), stored_ids.len(), "each id once");
    assert_eq!(stored_ids, ids);
    let sent: BTreeSet<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
    assert!(stored.iter().all(|event| sent.contains(&event.body[..])), "what is stored was sent");
    let counted = ["accepted", "unparsed", "duplicate_seen"].map(|result| ingest.count(result));
    assert_eq!(counted.iter().sum::<u64>(), CASES as u64);
    assert_eq!(counted[0] + counted[1], ids.len() as u64);
    assert!(counted.iter().all(|count| *count > 0), "the cases are of every kind: {counted:?}");
}
