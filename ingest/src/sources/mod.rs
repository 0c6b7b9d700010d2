//! The services that post webhooks, one folder per kind. A source takes header values and bytes and returns an event;
//! it knows neither actix nor the broker.

pub mod textus;
mod verified;

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use hookline_common::event::{Event, SourceName};
use hookline_common::keywords::Keywords;
use hookline_common::settings::{Settings, SourceKind, SourceSettings};
use hookline_common::time::Timestamp;

pub use verified::Verified;

/// A configured source: its name, the secrets that check its signatures, and the texts that count as keywords.
pub struct Source {
    name: SourceName,
    secrets: textus::signature::Secrets,
    keywords: Arc<Keywords>,
}

/// The currently configured sources.
#[derive(Clone)]
pub struct Sources(Arc<RwLock<Arc<[Source]>>>);

impl Sources {
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(Arc::new(RwLock::new(configured(settings))))
    }

    #[must_use]
    pub fn now(&self) -> Arc<[Source]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the sources. Requests already under way are checked with the previous ones.
    pub fn take(&self, settings: &Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = configured(settings);
    }
}

fn configured(settings: &Settings) -> Arc<[Source]> {
    let keywords = Arc::new(Keywords::new(&settings.handlers.record_opt_out.keywords));
    settings.sources.iter().map(|source| Source::new(source, Arc::clone(&keywords))).collect()
}

/// Facts about a request other than its body. None of them is signed, so none of them influences processing.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    pub received_at: Timestamp,
    pub content_type: Option<String>,
    pub request_id: Option<String>,
    pub traceparent: Option<String>,
}

/// Why a body is not accepted as the source's. The answer tells a stranger no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the signature header is missing")]
    Missing,
    #[error("the signature does not match the body")]
    Mismatch,
}

impl Source {
    #[must_use]
    pub fn new(settings: &SourceSettings, keywords: Arc<Keywords>) -> Self {
        match settings.kind {
            SourceKind::TextUs => {
                let secrets = textus::signature::Secrets::new(&settings.secrets);
                Self { name: settings.name.clone(), secrets, keywords }
            }
        }
    }

    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Returns the name of the header that carries the signature, in lower case.
    #[must_use]
    pub fn signature_header(&self) -> &'static str {
        textus::signature::HEADER
    }

    /// Checks the signature and reads the event. `signatures` holds all values of the signature header.
    ///
    /// # Errors
    /// Fails when no valid signature shows that the body is the source's. A body with a valid signature is never
    /// refused.
    pub fn accept<'h>(
        &self,
        signatures: impl Iterator<Item = &'h [u8]>,
        body: Bytes,
        facts: RequestFacts,
    ) -> Result<Verified<Event>, Refused> {
        let body = self.secrets.verify(signatures, body)?;
        Ok(textus::payload::read(&self.name, &self.keywords, body, facts))
    }
}
