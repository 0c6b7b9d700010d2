//! Informs the sandbox of a webhook's contents before Hookline asks for them. A sample message or contact exists only
//! in its webhook, whereas the real TextUs would have it.

use std::sync::Arc;

use async_trait::async_trait;
use hookline_broker::{BrokerState, Publish, PublishError, Stored};
use hookline_common::event::Event;
use hookline_sandbox::Sandbox;
use tokio::sync::watch;

pub(crate) struct Teaching {
    pub(crate) broker: Arc<dyn Publish>,
    pub(crate) sandbox: Arc<Sandbox>,
}

impl Teaching {
    fn teach(&self, event: &Event) {
        if let Ok(payload) = serde_json::from_slice(&event.body) {
            // A body that the sandbox cannot learn from is no sample; Hookline reports such bodies itself.
            let _ = self.sandbox.learn(&payload);
        }
    }
}

#[async_trait]
impl Publish for Teaching {
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError> {
        self.teach(event);
        self.broker.publish(event).await
    }

    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError> {
        self.teach(event);
        self.broker.publish_patiently(event).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.broker.state()
    }

    fn degraded(&self) -> Vec<String> {
        self.broker.degraded()
    }

    async fn close(&self) {
        self.broker.close().await;
    }
}
