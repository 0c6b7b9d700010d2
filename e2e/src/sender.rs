//! Posts webhooks as TextUs does: signed, and again where no 2xx came.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookline_sandbox::samples::{self, SIGNATURE_HEADER, sign};
use serde_json::Value;

use crate::house::SECRET;
use crate::wait::DEADLINE;

const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A receiver's answer to one post.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// # Panics
    /// Where it is no acknowledgement.
    #[must_use]
    pub fn event_id(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["event_id"].as_str().expect("an acknowledgement names the event").to_owned()
    }
}

/// Clones share where they post to and what was accepted.
#[derive(Clone)]
pub struct Sender {
    client: reqwest::Client,
    url: Arc<Mutex<String>>,
    accepted: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Default for Sender {
    fn default() -> Self {
        let client = samples::client().expect("a client");
        Self { client, url: Arc::default(), accepted: Arc::default() }
    }
}

impl Sender {
    /// Posts go there from now on: a restarted receiver has another port.
    pub fn goes_to(&self, url: &str) {
        url.clone_into(&mut self.url.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Posts once.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn post(&self, bytes: &[u8]) -> Result<Answer, reqwest::Error> {
        self.post_signed(bytes, &sign(SECRET, bytes)).await
    }

    /// Posts once, with this signature.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn post_signed(&self, bytes: &[u8], signature: &str) -> Result<Answer, reqwest::Error> {
        let url = self.url.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request = self.client.post(url).header(SIGNATURE_HEADER, signature).body(bytes.to_vec());
        let answer = request.header("Content-Type", "application/json").send().await?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await?;
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
    }

    /// Posts until a 2xx comes, and remembers the event's id with the type that the body names.
    ///
    /// # Panics
    /// Where none comes, or a signed webhook is refused: only 503 and no answer at all are worth another post.
    pub async fn send(&self, body: &Value) -> String {
        let event_type = body["action"].as_str().unwrap_or("unparsed").replace('-', "_");
        let id = self.send_bytes(body.to_string().as_bytes()).await;
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), event_type);
        id
    }

    async fn send_bytes(&self, bytes: &[u8]) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.post(bytes).await {
                Ok(answer) if answer.status == 200 => return answer.event_id(),
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                Err(_) => {}
            }
            assert!(Instant::now() < deadline, "never accepted");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Event ids that were answered 200, with their types.
    #[must_use]
    pub fn accepted(&self) -> BTreeMap<String, String> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
