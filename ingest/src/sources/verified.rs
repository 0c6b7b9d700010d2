//! The mark of bytes that a signature vouches for, and of what was read from them.

/// Something a source's signature vouches for. Made only inside `sources`, by a signature check or from what one
/// returned; only a `Verified<Event>` can be stored, so leaving the check out does not compile:
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
