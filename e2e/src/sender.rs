//! Posts webhooks as TextUs does: signed, and again after a 503 or no answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_sandbox::samples::{self, SIGNATURE_HEADER, sign};
use serde_json::Value;

use crate::all_in_one::SECRET;
use crate::wait::DEADLINE;

const AGAIN_FIRST: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_millis(300);

/// A receiver's answer to one post.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// Returns the event id of an acknowledgement.
    ///
    /// # Panics
    /// If the answer is no acknowledgement.
    #[must_use]
    pub fn event_id(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["event_id"].as_str().expect("an acknowledgement names the event").to_owned()
    }
}

/// A sender of webhooks. Clones share the receivers' URLs and the record of accepted events.
#[derive(Clone)]
pub struct Sender {
    client: reqwest::Client,
    shared: Arc<SenderState>,
}

#[derive(Default)]
struct SenderState {
    urls: Mutex<Vec<String>>,
    /// Counts the posts, which go to each receiver in turn.
    turn: AtomicUsize,
    accepted: Mutex<BTreeMap<String, String>>,
    answers: Mutex<BTreeMap<u16, u64>>,
    /// The codes of errors that were answered.
    codes: Mutex<BTreeSet<String>>,
    unanswered: AtomicUsize,
}

impl Default for Sender {
    fn default() -> Self {
        Self { client: samples::client().expect("a client"), shared: Arc::default() }
    }
}

impl Sender {
    /// Directs posts to this URL from now on; a restarted receiver has another port.
    pub fn goes_to(&self, url: &str) {
        self.goes_to_all(&[url.to_owned()]);
    }

    /// Directs posts to these URLs in turn.
    pub fn goes_to_all(&self, urls: &[String]) {
        *held(&self.shared.urls) = urls.to_vec();
    }

    /// Posts once.
    ///
    /// # Errors
    /// Fails when no answer came.
    pub async fn post(&self, bytes: &[u8]) -> Result<Answer, reqwest::Error> {
        self.post_signed(bytes, &sign(SECRET, bytes)).await
    }

    /// Posts once, with this signature.
    ///
    /// # Errors
    /// Fails when no answer came.
    pub async fn post_signed(&self, bytes: &[u8], signature: &str) -> Result<Answer, reqwest::Error> {
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let url = {
            let urls = held(&self.shared.urls);
            urls.get(turn % urls.len().max(1)).cloned().unwrap_or_default()
        };
        let request = self.client.post(url).header(SIGNATURE_HEADER, signature).body(bytes.to_vec());
        let answered = async {
            let answer = request.header("Content-Type", "application/json").send().await?;
            let status = answer.status().as_u16();
            Ok(Answer { status, body: serde_json::from_slice(&answer.bytes().await?).unwrap_or_default() })
        };
        let answered = answered.await;
        match &answered {
            Ok(answer) => {
                *held(&self.shared.answers).entry(answer.status).or_default() += 1;
                held(&self.shared.codes).extend(answer.body["error"]["code"].as_str().map(str::to_owned));
            }
            Err(_) => drop(self.shared.unanswered.fetch_add(1, Ordering::Relaxed)),
        }
        answered
    }

    /// Posts until a 200 comes, and remembers the event's id with the type that the body names.
    ///
    /// # Panics
    /// If none comes, or a signed webhook is refused. Only a 503 or no answer at all is worth another post.
    pub async fn send(&self, body: &Value) -> String {
        let event_type = body["action"].as_str().unwrap_or("unparsed").replace('-', "_");
        let id = self.send_bytes(body.to_string().as_bytes()).await;
        held(&self.shared.accepted).insert(id.clone(), event_type);
        id
    }

    async fn send_bytes(&self, bytes: &[u8]) -> String {
        let deadline = Instant::now() + 2 * DEADLINE;
        let mut pause = AGAIN_FIRST;
        loop {
            match self.post(bytes).await {
                Ok(answer) if answer.status == 200 => return answer.event_id(),
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                Err(_) => {}
            }
            assert!(Instant::now() < deadline, "never accepted");
            tokio::time::sleep(pause).await;
            pause = AGAIN_MAX.min(pause * 2);
        }
    }

    /// Returns the event ids that were answered 200, with their types.
    #[must_use]
    pub fn accepted(&self) -> BTreeMap<String, String> {
        held(&self.shared.accepted).clone()
    }

    /// Returns how many posts got each status.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<u16, u64> {
        held(&self.shared.answers).clone()
    }

    /// Returns the statuses that occurred.
    #[must_use]
    pub fn statuses(&self) -> BTreeSet<u16> {
        held(&self.shared.answers).keys().copied().collect()
    }

    /// Returns the codes of errors that were answered.
    #[must_use]
    pub fn codes(&self) -> BTreeSet<String> {
        held(&self.shared.codes).clone()
    }

    /// Returns how many posts got no answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.shared.unanswered.load(Ordering::Relaxed)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
