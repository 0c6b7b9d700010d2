//! One segment of a path, from a payload or an answer. A stranger's text must never choose which resource is called. So
//! a `/`, a `..` or a `?` in an id is refused here, and everything else is percent-encoded on use.

use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters to encode: all except RFC 3986's unreserved ones. `+` is encoded too, because some servers read it as a
/// space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longest id accepted. TextUs's examples have 6 or 7 characters; the length isn't documented.
const MAX_BYTES: usize = 128;

/// A slug that is safe to put between two slashes of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(Arc<str>);

impl Segment {
    /// Returns `None` for a text that is empty, `.`, `..`, longer than 128 bytes, or holds `/`, `\`, `?`, `#` or a
    /// control character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let forbidden = |c: char| c.is_control() || matches!(c, '/' | '\\' | '?' | '#');
        let usable =
            !text.is_empty() && text.len() <= MAX_BYTES && text != "." && text != ".." && !text.contains(forbidden);
        usable.then(|| Self(text.into()))
    }

    /// Reads `/contacts/Bn3RkQ8` (with `prefix` = `/contacts/`) or the bare slug.
    #[must_use]
    pub fn from_path(prefix: &str, text: &str) -> Option<Self> {
        Self::new(text.strip_prefix(prefix).unwrap_or(text))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the resource's path as TextUs writes ids: `/contacts/Bn3RkQ8` for `prefix` = `/contacts/`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.0)
    }

    /// Returns the segment as it appears in a URL.
    #[must_use]
    pub fn encoded(&self) -> String {
        encode(&self.0)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Percent-encodes a text for a path segment or a query value.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_and_a_bare_slug_are_the_same_segment() {
        for text in ["/contacts/Bn3RkQ8", "Bn3RkQ8"] {
            assert_eq!(Segment::from_path("/contacts/", text).unwrap().as_str(), "Bn3RkQ8", "{text}");
        }
        assert_eq!(Segment::new("sanford.llc").unwrap().encoded(), "sanford.llc");
        assert_eq!(Segment::new("a b+c%2Fd").unwrap().encoded(), "a%20b%2Bc%252Fd");
    }

    #[test]
    fn what_could_steer_a_call_is_no_segment() {
        let long = "x".repeat(129);
        for text in [
            "",
            ".",
            "..",
            "/contacts/",
            "/contacts/..",
            "/contacts/a/b",
            "/contacts/a?x=1",
            "/contacts/a#b",
            "/users/Bn3RkQ8",
            "https://example.com/contacts/a",
            "a\\b",
            "a\nb",
            "a\0b",
            &long,
        ] {
            assert_eq!(Segment::from_path("/contacts/", text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_segment_stays_one_segment_of_the_url(text in ".{1,40}") {
            if let Some(segment) = Segment::new(&text) {
                let url = url::Url::parse(&format!("https://api.example/a/{}/end", segment.encoded())).unwrap();
                let parts: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!(parts.len(), 3);
                prop_assert_eq!(url.query(), None);
                prop_assert_eq!(url.host_str(), Some("api.example"));
            }
        }
    }
}
