//! Shares one request among all callers that ask for the same thing at the same time.
//!
//! A caller joins a request only while it runs, and only if no write has ended since it began: an answer from before a
//! write must not pass for a look at what the write did.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

type Running<T> = Shared<BoxFuture<'static, Option<T>>>;

/// Requests in flight, by what they ask for. Clones share them.
#[derive(Clone)]
pub(crate) struct InFlight<T: Clone> {
    running: Arc<Mutex<HashMap<String, Running<T>>>>,
}

impl<T: Clone> Default for InFlight<T> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> InFlight<T> {
    /// Joins the running request for `key`, or starts one. Returns `None` if the request panicked. The request runs in
    /// its own task, so that a caller that goes away doesn't end it for the others.
    pub(crate) async fn join<F>(&self, key: &str, request: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let running = {
            let mut map = self.lock();
            match map.get(key) {
                Some(running) => running.clone(),
                None => {
                    let task = tokio::spawn(request());
                    let running: Running<T> = async move { task.await.ok() }.boxed().shared();
                    map.insert(key.to_owned(), running.clone());
                    tokio::spawn(self.clone().forget_when_done(key.to_owned(), running.clone()));
                    running
                }
            }
        };
        running.await
    }

    /// Keeps new callers from joining the requests in flight, because a write has ended and their answers may be older.
    pub(crate) fn write_ended(&self) {
        self.lock().clear();
    }

    async fn forget_when_done(self, key: String, running: Running<T>) {
        let _ = running.clone().await;
        let mut map = self.lock();
        // After a write, the key may belong to a younger request.
        if map.get(&key).is_some_and(|current| current.ptr_eq(&running)) {
            map.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Running<T>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn counted(
        calls: &Arc<AtomicU32>,
        finish: oneshot::Receiver<()>,
    ) -> impl FnOnce() -> BoxFuture<'static, u32> + 'static {
        let calls = Arc::clone(calls);
        move || {
            let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                let _ = finish.await;
                call
            }
            .boxed()
        }
    }

    fn never() -> BoxFuture<'static, u32> {
        panic!("a second request was started");
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_takes_nothing_from_the_others() {
        let in_flight = InFlight::<u32>::default();
        let calls = Arc::new(AtomicU32::new(0));
        let (finish, finished) = oneshot::channel();
        let first = in_flight.clone();
        let request = counted(&calls, finished);
        let leader = tokio::spawn(async move { first.join("k", request).await });
        while calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let follower = in_flight.join("k", never);
        tokio::pin!(follower);
        assert!(futures::poll!(&mut follower).is_pending());

        leader.abort();
        finish.send(()).unwrap();

        assert_eq!(follower.await, Some(1));
    }

    #[tokio::test]
    async fn nobody_joins_a_request_that_began_before_a_write_ended() {
        let in_flight = InFlight::<u32>::default();
        let calls = Arc::new(AtomicU32::new(0));
        let (finish_old, old_finished) = oneshot::channel();
        let (finish_new, new_finished) = oneshot::channel();
        let old = in_flight.join("k", counted(&calls, old_finished));
        tokio::pin!(old);
        assert!(futures::poll!(&mut old).is_pending());

        in_flight.write_ended();
        let new = in_flight.join("k", counted(&calls, new_finished));
        tokio::pin!(new);
        assert!(futures::poll!(&mut new).is_pending());
        finish_new.send(()).unwrap();
        finish_old.send(()).unwrap();

        assert_eq!((old.await, new.await), (Some(1), Some(2)));
    }

    #[tokio::test]
    async fn what_has_been_answered_is_asked_anew() {
        let in_flight = InFlight::<u32>::default();
        for call in 1..=2 {
            assert_eq!(in_flight.join("k", || async move { call }).await, Some(call));
            while !in_flight.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }
}
