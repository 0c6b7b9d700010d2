//! The embedded broker: the suite that every broker passes, and tests of what only this broker promises.

mod alone;
mod beside;
mod erased;
mod held;
mod killed;
mod lost_files;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_broker::conformance::{self, Harness};
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::{Broker, BrokerError};
use hookline_common::names::HandlerName;
use tempfile::TempDir;

struct Directory {
    dir: TempDir,
}

impl Directory {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions::new(self.dir.path(), HandlerName::ALL.to_vec())
    }

    async fn open(&self) -> Arc<EmbeddedBroker> {
        self.open_with(self.options()).await
    }

    /// Opens the broker as soon as the previous owner has released the directory.
    async fn open_with(&self, options: EmbeddedOptions) -> Arc<EmbeddedBroker> {
        let opened = async {
            loop {
                match EmbeddedBroker::open(options.clone()).await {
                    Ok(broker) => return broker,
                    Err(BrokerError::Owned(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), opened).await.expect("the directory is free")
    }
}

#[async_trait]
impl Harness for Directory {
    async fn open(&self) -> Arc<dyn Broker> {
        Directory::open(self).await
    }

    async fn crash(&self, broker: Arc<dyn Broker>) {
        drop(broker);
    }
}

macro_rules! conforms {
    ($($property:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $property() {
                conformance::$property(&Directory::new()).await;
            }
        )+
    };
}

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
    depths_count_what_is_ready_parked_and_out,
    what_is_removed_is_not_handed_out,
}
