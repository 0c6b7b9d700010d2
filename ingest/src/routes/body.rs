//! Reads a request's body with limits on its size and its time, and on the memory of all bodies together. actix has no
//! timeout for bodies.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::buffered::{BufferedBytes, Reservation};
use crate::connection::Busy;
use crate::error::IngestError;

/// Maximum bytes allocated before any part of the body has arrived. A stranger's declared length is no reason to
/// reserve memory.
const MAX_INITIAL_CAPACITY: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) max_bytes: usize,
    /// Maximum time for reading the body.
    pub(crate) timeout: Duration,
    pub(crate) buffered: Arc<BufferedBytes>,
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

    /// Reads the body to its end, and tells the connection whenever there is room for more. The body's bytes count as buffered until the reservation is dropped.
    pub(crate) async fn read(
        &self,
        payload: &mut Payload,
        declared: Option<usize>,
        connection: &Busy,
    ) -> Result<(Bytes, Reservation), IngestError> {
        let deadline = Instant::now() + self.timeout;
        let mut reservation = self.buffered.reservation(declared.unwrap_or(0)).ok_or(IngestError::Overloaded)?;
        let mut body = BytesMut::with_capacity(declared.unwrap_or(0).min(MAX_INITIAL_CAPACITY));
        loop {
            match timeout_at(deadline, payload.next()).await {
                Ok(Some(Ok(chunk))) if chunk.len() > self.max_bytes - body.len() => {
                    return Err(IngestError::BodyTooLarge { limit: self.max_bytes });
                }
                Ok(Some(Ok(chunk))) => {
                    reservation.grow(chunk.len()).ok_or(IngestError::Overloaded)?;
                    body.extend_from_slice(&chunk);
                    connection.took_bytes();
                }
                Ok(Some(Err(_))) => return Err(IngestError::BodyUnreadable),
                Ok(None) => return Ok((body.freeze(), reservation)),
                Err(_) => return Err(IngestError::RequestTimeout),
            }
        }
    }
}
