//! RabbitMQ, on private nodes: the suite that every broker passes, and tests of what only this broker promises.

mod isolation;
mod messages;
mod outages;
mod publisher;
mod rights;
mod tls;
mod topology;
mod upgrade;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hookline_broker::conformance::{self, Harness};
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_broker::{Broker, BrokerState, Consume, Publish, Settlement};
use hookline_common::event::EventId;
use hookline_common::names::{HandlerName, Queue};
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::testing::nodes::RabbitNode;

/// The longest that an expected thing may take; a node may be booting on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// A queue that hands out nothing for this long is empty.
const QUIET: Duration = Duration::from_secs(2);

fn options(url: &str, role: RabbitRole) -> RabbitOptions {
    RabbitOptions {
        urls: vec![Secret::new(url)],
        ca_pem: None,
        handlers: HandlerName::ALL.to_vec(),
        role,
        metrics: Arc::new(BrokerMetrics::new(&Metrics::new(Role::Both, &["textus"]))),
    }
}

async fn ready(options: RabbitOptions) -> Arc<RabbitBroker> {
    let broker = RabbitBroker::start(options);
    broker.wait_ready(DEADLINE).await.expect("ready");
    broker
}

async fn worker(url: &str) -> Arc<RabbitBroker> {
    ready(options(url, RabbitRole::Worker)).await
}

async fn state_becomes(broker: &RabbitBroker, is: impl FnMut(&BrokerState) -> bool) -> BrokerState {
    let mut state = broker.state();
    let reached = tokio::time::timeout(DEADLINE, state.wait_for(is)).await.expect("within the deadline");
    reached.expect("the broker is there").clone()
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !is() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes all deliveries out of a handler's work queue.
async fn drain(broker: &Arc<RabbitBroker>, handler: HandlerName) -> BTreeSet<EventId> {
    let mut deliveries = broker.consume(Queue::Work(handler), 256).await.expect("consumed");
    let mut found = BTreeSet::new();
    while let Ok(Some(delivery)) = tokio::time::timeout(QUIET, deliveries.next()).await {
        found.insert(delivery.event.id.clone());
        conformance::settle(delivery, Settlement::Done).await;
    }
    found
}

/// A new virtual host on the shared node.
struct VirtualHost {
    url: String,
    last: Mutex<Option<Arc<RabbitBroker>>>,
}

impl VirtualHost {
    async fn new() -> Self {
        Self { url: RabbitNode::shared().await.vhost().await, last: Mutex::default() }
    }
}

#[async_trait]
impl Harness for VirtualHost {
    async fn open(&self) -> Arc<dyn Broker> {
        let broker = worker(&self.url).await;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&broker));
        broker
    }

    async fn crash(&self, broker: Arc<dyn Broker>) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        last.expect("one was opened").abandon().await;
        drop(broker);
    }
}

macro_rules! conforms {
    ($($property:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $property() {
                conformance::$property(&VirtualHost::new().await).await;
            }
        )+
    };
}

// Some tests are missing: RabbitMQ counts only ready messages, and takes nothing out of the middle of a queue.
conforms! {
    what_was_stored_outlives_a_crash,
    a_repeat_is_called_a_duplicate,
    each_type_reaches_its_handlers_and_no_other,
    what_is_done_never_comes_back,
    a_parked_delivery_waits_for_its_time_and_counts_its_attempts,
    what_is_parked_outlives_a_crash,
    a_dead_letter_arrives_with_its_reason,
    a_released_delivery_comes_back_as_if_never_handed_out,
    no_more_is_out_than_prefetch_allows,
    a_dropped_delivery_comes_again_and_is_counted,
    a_delivery_that_ends_every_process_becomes_a_dead_letter,
    waiting_in_between_does_not_keep_a_delivery_from_its_limit,
    an_attempt_that_ends_by_itself_begins_the_limit_anew,
    a_settlement_from_before_a_crash_changes_nothing,
    publishing_again_changes_nothing_while_it_waits_and_repeats_it_after,
    what_is_published_anew_goes_on_where_it_was,
    rows_are_handed_out_as_they_came,
    one_handlers_backlog_delays_no_other,
    closing_gives_back_what_was_not_taken,
    a_consumer_that_goes_gives_back_what_it_did_not_take,
}
