//! The bodies to post: a new event each time or, for the requested share, an earlier one byte for byte.

use std::collections::VecDeque;
use std::sync::{Mutex, Once, PoisonError};

use bytes::Bytes;
use hookline_common::secret::Secret;
use hookline_sandbox::samples::{self, SampleFacts};
use serde_json::Value;

use super::set::Set;
use super::target::Target;
use crate::output;

/// Number of recent posts from which repeats are taken: enough to repeat originals in every state, and few enough to
/// keep in memory.
const REMEMBERED: usize = 64;

#[derive(Clone)]
pub(super) struct Post {
    pub(super) body: Bytes,
    pub(super) signature: String,
    /// Whether the same bytes were posted before.
    pub(super) repeat: bool,
}

pub(super) enum Bodies {
    /// The same bytes every time.
    Fixed(Post),
    Samples(Samples),
}

pub(super) struct Samples {
    event_type: String,
    account: String,
    sets: Vec<Set>,
    secret: Secret,
    count: u64,
    repeats: u64,
    recent: Mutex<VecDeque<Post>>,
}

impl Bodies {
    /// Makes posts of this body.
    ///
    /// # Errors
    /// Fails with a description if a change cannot be made.
    pub(super) fn fixed(body: Vec<u8>, sets: &[Set], secret: &Secret) -> Result<Self, String> {
        let body = if sets.is_empty() {
            body
        } else {
            let mut value = serde_json::from_slice(&body)
                .map_err(|error| format!("--set needs a JSON body, and this file is none: {error}"))?;
            changed(&mut value, sets)?;
            value.to_string().into_bytes()
        };
        let signature = samples::sign(secret.expose(), &body);
        Ok(Self::Fixed(Post { body: body.into(), signature, repeat: false }))
    }

    /// Makes `count` posts in total, `repeats` of which are repeats.
    ///
    /// # Errors
    /// Fails with a description if a change cannot be made.
    pub(super) fn sample(
        event_type: &str,
        sets: Vec<Set>,
        target: &Target,
        count: u64,
        repeats: u64,
    ) -> Result<Self, String> {
        let samples = Samples {
            event_type: event_type.to_owned(),
            account: target.account.clone(),
            sets,
            secret: target.secret.clone(),
            count,
            repeats,
            recent: Mutex::default(),
        };
        changed(&mut samples.body(), &samples.sets)?;
        // The first post is made now, because a repeat may be requested before a worker has made another post.
        samples.remember(samples.build());
        Ok(Self::Samples(samples))
    }

    /// Returns the post with this index, counted from 0.
    pub(super) fn post(&self, index: u64) -> Post {
        match self {
            Self::Fixed(post) => Post { repeat: index > 0, ..post.clone() },
            Self::Samples(samples) => samples.post(index),
        }
    }
}

impl Samples {
    fn post(&self, index: u64) -> Post {
        let repeat = is_repeat(index, self.count, self.repeats);
        if index == 0 || repeat {
            let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let position = usize::try_from(index).unwrap_or(0) % recent.len().max(1);
            if let Some(earlier) = recent.get(position) {
                return Post { repeat, ..earlier.clone() };
            }
        }
        let post = self.build();
        if self.repeats > 0 {
            self.remember(post.clone());
        }
        post
    }

    /// Makes a sample body; each is about a different person.
    fn body(&self) -> Value {
        samples::sample(&self.event_type, &SampleFacts::random(&self.account))
    }

    fn build(&self) -> Post {
        let mut body = self.body();
        // `sample` already tried the changes on one body, and all samples of a type have the same shape.
        let _ = changed(&mut body, &self.sets);
        let body = Bytes::from(body.to_string());
        let signature = samples::sign(self.secret.expose(), &body);
        Post { body, signature, repeat: false }
    }

    fn remember(&self, post: Post) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(post);
    }
}

fn changed(body: &mut Value, sets: &[Set]) -> Result<(), String> {
    static TOLD: Once = Once::new();
    for set in sets {
        if let Some(note) = set.adds_to(body) {
            TOLD.call_once(|| output::hint(&note));
        }
        set.apply(body)?;
    }
    Ok(())
}

/// Returns whether this post is a repeat; the repeats are spread evenly over the posts after the first.
fn is_repeat(index: u64, count: u64, repeats: u64) -> bool {
    if index == 0 || count < 2 {
        return false;
    }
    let due = |index: u64| u128::from(index) * u128::from(repeats) / u128::from(count - 1);
    due(index) > due(index - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn secret() -> Secret {
        Secret::new("textus-secret")
    }

    fn target() -> Target {
        let url = "http://127.0.0.1:8080/webhooks/textus".parse().expect("a URL");
        Target { url, secret: secret(), account: "acme".to_owned() }
    }

    #[test]
    fn exactly_the_share_that_was_asked_for_repeats_earlier_bytes() {
        let bodies = Bodies::sample("message.received", Vec::new(), &target(), 200, 50).expect("no changes");

        let posts: Vec<Post> = (0..200).map(|index| bodies.post(index)).collect();

        let distinct: HashSet<&Bytes> = posts.iter().map(|post| &post.body).collect();
        assert_eq!(distinct.len(), 150);
        assert_eq!(posts.iter().filter(|post| post.repeat).count(), 50);
    }

    #[test]
    fn a_change_is_in_every_body_and_under_the_signature() {
        let sets = vec!["/message/body=Hello".parse().expect("a change")];
        let bodies = Bodies::sample("message.received", sets, &target(), 2, 0).expect("the pointer is right");

        for index in 0..2 {
            let post = bodies.post(index);
            let body: Value = serde_json::from_slice(&post.body).expect("JSON");
            assert_eq!(body["message"]["body"], "Hello");
            assert_eq!(post.signature, samples::sign("textus-secret", &post.body));
        }
    }

    #[test]
    fn a_file_is_sent_byte_for_byte_unless_it_is_changed() {
        let body = b"{\n  \"a\": 1 }".to_vec();

        let Bodies::Fixed(untouched) = Bodies::fixed(body.clone(), &[], &secret()).expect("any bytes") else {
            panic!("a file is fixed");
        };
        assert_eq!(untouched.body, body);

        let sets = ["/a=2".parse::<Set>().expect("a change")];
        let Bodies::Fixed(changed) = Bodies::fixed(body, &sets, &secret()).expect("JSON") else {
            panic!("a file is fixed");
        };
        assert_eq!(changed.body, "{\"a\":2}");
        assert!(Bodies::fixed(b"no JSON".to_vec(), &sets, &secret()).is_err());
    }
}
