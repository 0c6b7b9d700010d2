//! Lets the sandbox know what a webhook announces before Hookline asks for it: a sample message or contact exists
//! nowhere but in its webhook, and the real TextUs would have it.

use std::sync::Arc;

use async_trait::async_trait;
use hookline_broker::{Again, Broker, BrokerError, BrokerState, Deliveries, PublishError, QueueDepth, Resumed, Stored};
use hookline_common::event::{Event, EventId};
use hookline_common::names::{HandlerName, Queue};
use hookline_sandbox::Sandbox;
use tokio::sync::watch;

pub(crate) struct Teaching {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) sandbox: Arc<Sandbox>,
}

#[async_trait]
impl Broker for Teaching {
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError> {
        if let Ok(payload) = serde_json::from_slice(&event.body) {
            // What it cannot learn from is no sample; Hookline says itself what it makes of it.
            let _ = self.sandbox.learn(&payload);
        }
        self.broker.publish(event).await
    }

    async fn publish_again(&self, handler: HandlerName, event: &Event, why: Again) -> Result<(), PublishError> {
        self.broker.publish_again(handler, event, why).await
    }

    async fn publish_anew(&self, handler: HandlerName, event: &Event, from: Resumed) -> Result<(), PublishError> {
        self.broker.publish_anew(handler, event, from).await
    }

    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Deliveries, BrokerError> {
        self.broker.consume(queue, prefetch).await
    }

    async fn queues(&self) -> Result<Vec<QueueDepth>, BrokerError> {
        self.broker.queues().await
    }

    async fn remove(&self, event_id: &EventId, handler: HandlerName) -> Result<bool, BrokerError> {
        self.broker.remove(event_id, handler).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.broker.state()
    }

    async fn close(&self) {
        self.broker.close().await;
    }
}
