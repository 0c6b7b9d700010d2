//! Reads a request's body with limits on its size, its duration and its rate. actix has no timeout for bodies; without
//! one, a few senders of one byte a minute would hold every place.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::error::IngestError;

/// Maximum bytes allocated before any part of the body has arrived. A stranger's declared length is no reason to
/// reserve memory.
const MAX_INITIAL_CAPACITY: usize = 64 * 1024;
/// Time that every body gets before the minimum rate applies.
const RATE_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) max_bytes: usize,
    /// Maximum time for reading the body.
    pub(crate) timeout: Duration,
    /// Minimum bytes per second; 0 means no limit.
    pub(crate) min_rate: usize,
}

impl BodyLimits {
    /// Returns the declared length, or `None` if the sender declared none.
    ///
    /// # Errors
    /// Fails when the declared length is over the limit; then nothing needs to be read.
    pub(crate) fn check_declared(&self, headers: &HeaderMap) -> Result<Option<usize>, IngestError> {
        let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let Some(declared) = declared else { return Ok(None) };
        match usize::try_from(declared) {
            Ok(length) if length <= self.max_bytes => Ok(Some(length)),
            Ok(_) | Err(_) => Err(IngestError::BodyTooLarge { limit: self.max_bytes }),
        }
    }

    /// Reads the body to its end.
    pub(crate) async fn read(&self, payload: &mut Payload, declared: Option<usize>) -> Result<Bytes, IngestError> {
        let started = Instant::now();
        let mut body = BytesMut::with_capacity(declared.unwrap_or(0).min(MAX_INITIAL_CAPACITY));
        loop {
            let deadline = started + self.allowed(body.len());
            match timeout_at(deadline, payload.next()).await {
                Ok(Some(Ok(chunk))) if chunk.len() > self.max_bytes - body.len() => {
                    return Err(IngestError::BodyTooLarge { limit: self.max_bytes });
                }
                Ok(Some(Ok(chunk))) => body.extend_from_slice(&chunk),
                Ok(Some(Err(_))) => return Err(IngestError::BodyUnreadable),
                Ok(None) => return Ok(body.freeze()),
                Err(_) => return Err(IngestError::RequestTimeout),
            }
        }
    }

    /// Returns how long the body may take in total until its next chunk, given that `received` bytes have arrived.
    fn allowed(&self, received: usize) -> Duration {
        if self.min_rate == 0 {
            return self.timeout;
        }
        let at_min_rate = Duration::from_secs_f64(received as f64 / self.min_rate as f64);
        self.timeout.min(at_min_rate.max(RATE_GRACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_take_as_long_as_its_bytes_at_the_lowest_rate_and_never_over_the_timeout() {
        let limits = BodyLimits { max_bytes: 1 << 20, timeout: Duration::from_secs(10), min_rate: 1000 };
        let table = [(0, 1.0), (500, 1.0), (2500, 2.5), (9999, 9.999), (50_000, 10.0)];
        for (received, seconds) in table {
            assert_eq!(limits.allowed(received), Duration::from_secs_f64(seconds), "{received}");
        }

        let any_rate = BodyLimits { min_rate: 0, ..limits };
        assert_eq!(any_rate.allowed(0), Duration::from_secs(10));
        let short = BodyLimits { timeout: Duration::from_millis(300), ..limits };
        assert_eq!(short.allowed(0), Duration::from_millis(300));
    }
}
