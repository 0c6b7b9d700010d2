//! Builds paths of the TextUs API, each in two forms: as it is sent, and as it may be shown. Every piece from outside
//! becomes one percent-encoded segment, so that no payload steers a call.

use hookline_common::phone::Phone;
use url::Url;

use crate::calls::http::unreadable;
use crate::destinations::error::DestinationError;
use crate::destinations::redact::redact;
use crate::destinations::segment::{Segment, encode};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Path and query, encoded.
    pub(super) sent: String,
    /// The same with phone numbers masked.
    pub(super) shown: String,
}

impl Path {
    /// Starts a path with `/{account}`.
    pub(super) fn of_account(account: &str) -> Result<Self, DestinationError> {
        match Segment::new(account) {
            Some(account) => Ok(Self::root().segment(&account)),
            None => Err(DestinationError::Rejected {
                status: 0,
                detail: "the account's name is not one segment of a path".to_owned(),
            }),
        }
    }

    pub(super) fn root() -> Self {
        Self { sent: String::new(), shown: String::new() }
    }

    /// Adds a fixed word.
    pub(super) fn word(mut self, word: &'static str) -> Self {
        for text in [&mut self.sent, &mut self.shown] {
            text.push('/');
            text.push_str(word);
        }
        self
    }

    pub(super) fn segment(mut self, segment: &Segment) -> Self {
        for text in [&mut self.sent, &mut self.shown] {
            text.push('/');
            text.push_str(&segment.encoded());
        }
        self
    }

    /// Adds a phone; `form` is the phone as this path takes it.
    pub(super) fn phone(mut self, form: &str, phone: &Phone) -> Self {
        self.sent = format!("{}/{}", self.sent, encode(form));
        self.shown = format!("{}/{}", self.shown, phone.masked());
        self
    }

    pub(super) fn query(mut self, name: &'static str, sent: &str, shown: &str) -> Self {
        self.sent = format!("{}?{name}={}", self.sent, encode(sent));
        self.shown = format!("{}?{name}={shown}", self.shown);
        self
    }

    /// Reads `view.next` of a collection. It is a path to follow as it is
    /// (<https://apidocs.next.textus.com/overview/collections/>), but only on the host that we call: it must not send
    /// our token elsewhere.
    ///
    /// # Errors
    /// `NoAnswer` if the link leaves the host or isn't a link.
    pub(super) fn of_next(next: &str, base: &Url) -> Result<Self, DestinationError> {
        let elsewhere = || unreadable("the link to its next page leads elsewhere");
        let url = base.join(next).map_err(|_no_url| elsewhere())?;
        let is_path = next.starts_with('/') || next.starts_with("http://") || next.starts_with("https://");
        if !is_path || url.origin() != base.origin() || !url.username().is_empty() || url.password().is_some() {
            return Err(elsewhere());
        }
        // Site-relative paths leave out the path that the base URL begins with.
        let below = url.path().strip_prefix(base.path().trim_end_matches('/')).filter(|rest| rest.starts_with('/'));
        let path = below.unwrap_or(url.path());
        let sent = url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        Ok(Self { shown: redact(&sent), sent })
    }

    pub(super) fn url(&self, base: &Url) -> Result<Url, DestinationError> {
        let text = format!("{}{}", base.as_str().trim_end_matches('/'), self.sent);
        Url::parse(&text).map_err(|_no_url| DestinationError::NotSent { detail: "the URL cannot be built".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("https://api.example/textus").unwrap()
    }

    #[test]
    fn every_piece_is_one_segment_and_no_phone_is_shown() {
        let phone = Phone::parse("+12025550147").unwrap();
        let account = || Path::of_account("sanford.llc").unwrap();

        let conversation = account().word("conversations").phone(phone.as_e164(), &phone);
        assert_eq!(
            conversation.url(&base()).unwrap().as_str(),
            "https://api.example/textus/sanford.llc/conversations/%2B12025550147"
        );
        assert_eq!(conversation.shown, "/sanford.llc/conversations/+1********47");

        let search = account().word("contact_phones").query("q", phone.search_digits(), &phone.masked());
        assert_eq!(search.sent, "/sanford.llc/contact_phones?q=2025550147");
        assert_eq!(search.shown, "/sanford.llc/contact_phones?q=+1********47");
    }

    #[test]
    fn an_account_that_could_steer_a_call_is_refused_before_it_is_made() {
        for account in ["", "..", "a/b", "a?b"] {
            assert!(
                matches!(Path::of_account(account), Err(DestinationError::Rejected { status: 0, .. })),
                "{account}"
            );
        }
    }

    #[test]
    fn the_next_page_is_on_the_same_host_or_nowhere() {
        for (next, sent) in [
            ("/acme/contact_phones?q=2025550147&page=2", Some("/acme/contact_phones?q=2025550147&page=2")),
            ("/textus/acme/contact_phones?page=2", Some("/acme/contact_phones?page=2")),
            ("https://api.example/textus/acme/x?page=2", Some("/acme/x?page=2")),
            ("https://api.example/acme/x", Some("/acme/x")),
            ("/acme/x?a=b%26c", Some("/acme/x?a=b%26c")),
            ("https://evil.example/acme/x", None),
            ("http://api.example/acme/x", None),
            ("https://api.example:8443/acme/x", None),
            ("https://user@api.example/acme/x", None),
            ("//evil.example/acme/x", None),
            ("\\\\evil.example/acme/x", None),
            ("acme/x", None),
            ("?page=2", None),
            ("javascript:alert(1)", None),
        ] {
            let read = Path::of_next(next, &base());
            assert_eq!(read.as_ref().ok().map(|path| path.sent.as_str()), sent, "{next}");
        }
        let shown = Path::of_next("/acme/contact_phones?q=2025550147&page=2", &base()).unwrap().shown;
        assert!(!shown.contains("5550147"), "{shown}");
    }
}
