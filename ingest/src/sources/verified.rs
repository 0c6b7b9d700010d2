//! Marks data whose source is proven by a signature.

/// Data that a source's signature vouches for. Only `sources` creates it, by a signature check or from data that passed
/// one. Only a `Verified<Event>` can be stored, so code that leaves the check out does not compile:
///
/// ```compile_fail,E0624
/// let forged = hookline_ingest::sources::Verified::vouched_for(bytes::Bytes::new());
/// ```
#[derive(Debug)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(in crate::sources) fn vouched_for(inner: T) -> Self {
        Self(inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0
    }

    #[must_use]
    pub fn get(&self) -> &T {
        &self.0
    }
}
