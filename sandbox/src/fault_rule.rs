//! Rules that decide which requests meet a fault, and how several faults combine.

use std::time::Duration;

use hyper::Method;

use crate::fault::Fault;
use crate::hubspot::HubSpotEndpoint;
use crate::receiver::DocumentType;
use crate::route::Endpoint;
use crate::salesforce::SalesforceEndpoint;
use crate::subject::Subject;

/// Which requests meet a fault, and how often. All conditions that are set must hold.
///
/// Of the rules that match a request, the first decides how it is answered. Rules of [`Fault::Delay`] and
/// [`Fault::Gzip`] all act in addition. A rule counts the requests that match it and that no earlier rule decided.
///
/// ```
/// use hookline_sandbox::{Endpoint, Fault, FaultRule};
/// let burst = FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).times(3);
/// let lame = FaultRule::new(Fault::status(423)).path("/acme/*/+4*").calls(3..=5).share(0.5, 7);
/// ```
#[derive(Clone, Debug)]
pub struct FaultRule {
    method: Option<Method>,
    path_prefix: Option<String>,
    path: Option<String>,
    phone: Option<String>,
    account: Option<String>,
    endpoint: Option<AnyEndpoint>,
    body: Option<String>,
    skip: usize,
    /// The number of the last request that can meet the fault.
    last: Option<usize>,
    times: Option<usize>,
    share: Option<(f64, u64)>,
    seen: usize,
    fault: Fault,
}

impl FaultRule {
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            method: None,
            path_prefix: None,
            path: None,
            phone: None,
            account: None,
            endpoint: None,
            body: None,
            skip: 0,
            last: None,
            times: None,
            share: None,
            seen: 0,
            fault,
        }
    }

    #[must_use]
    pub fn on(mut self, endpoint: impl Into<AnyEndpoint>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Matches requests whose body, as it was sent, contains this text.
    #[must_use]
    pub fn body_contains(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }

    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Matches paths with this prefix. The path is compared as it was sent: percent-encoded, with the query.
    #[must_use]
    pub fn path_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.path_prefix = Some(prefix.into());
        self
    }

    /// Matches the whole path as it was sent, with the query. In the pattern `*` stands for any number of any
    /// characters, slashes included.
    #[must_use]
    pub fn path(mut self, pattern: impl Into<String>) -> Self {
        self.path = Some(pattern.into());
        self
    }

    /// Matches requests to the TextUs sandbox about this number (E.164), in whatever form they name it: in the path, in `q` or `exact[]`, in
    /// a contact's body, or by the id of a message, conversation or contact.
    #[must_use]
    pub fn phone(mut self, e164: impl Into<String>) -> Self {
        self.phone = Some(e164.into());
        self
    }

    /// Matches requests to this account of the TextUs sandbox, or for a message, conversation or contact of it.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Leaves the first so many matching requests alone.
    #[must_use]
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Limits how many requests meet the fault. Without a limit all do, until [`crate::Sandbox::clear_faults`].
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Limits the fault to a range of matching requests, counted from 1, both ends included.
    #[must_use]
    pub fn calls(mut self, numbers: std::ops::RangeInclusive<usize>) -> Self {
        self.skip = numbers.start().saturating_sub(1);
        self.last = Some(*numbers.end());
        self
    }

    /// Limits the fault to this share of the matching requests, from 0 to 1. Only the seed and a request's number
    /// decide, so the same seed picks the same numbers.
    #[must_use]
    pub fn share(mut self, share: f64, seed: u64) -> Self {
        self.share = Some((share, seed));
        self
    }

    fn matches(&self, asked: &Asked<'_>, subject: &Subject) -> bool {
        let Asked { method, path, endpoint, body } = *asked;
        self.times != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path_prefix.as_deref().is_none_or(|prefix| path.starts_with(prefix))
            && self.path.as_deref().is_none_or(|pattern| fits(pattern, path))
            && self.endpoint.is_none_or(|wanted| endpoint == Some(wanted))
            && self.body.as_deref().is_none_or(|text| contains(body, text.as_bytes()))
            && self.phone.as_ref().is_none_or(|wanted| subject.phones.contains(wanted))
            && self.account.as_ref().is_none_or(|wanted| subject.account.as_ref() == Some(wanted))
    }

    /// Counts a matching request and returns whether it meets the fault.
    fn hits(&mut self) -> bool {
        self.seen += 1;
        let hit = self.seen > self.skip
            && self.last.is_none_or(|last| self.seen <= last)
            && self.share.is_none_or(|(share, seed)| fraction(seed, self.seen) < share);
        if hit {
            self.times = self.times.map(|times| times - 1);
        }
        hit
    }
}

/// An endpoint of any stand-in, for [`FaultRule::on`]. A rule for an endpoint of another stand-in matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnyEndpoint {
    TextUs(Endpoint),
    HubSpot(HubSpotEndpoint),
    Salesforce(SalesforceEndpoint),
    Receiver(DocumentType),
}

impl From<Endpoint> for AnyEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self::TextUs(endpoint)
    }
}

impl From<HubSpotEndpoint> for AnyEndpoint {
    fn from(endpoint: HubSpotEndpoint) -> Self {
        Self::HubSpot(endpoint)
    }
}

impl From<SalesforceEndpoint> for AnyEndpoint {
    fn from(endpoint: SalesforceEndpoint) -> Self {
        Self::Salesforce(endpoint)
    }
}

impl From<DocumentType> for AnyEndpoint {
    fn from(kind: DocumentType) -> Self {
        Self::Receiver(kind)
    }
}

/// A request, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    /// The path as it was sent, with the query.
    pub(crate) path: &'a str,
    pub(crate) endpoint: Option<AnyEndpoint>,
    pub(crate) body: &'a [u8],
}

/// All faults that one request meets.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// The fault that decides the answer.
    pub(crate) fault: Option<Fault>,
    pub(crate) delay: Duration,
    pub(crate) gzip: bool,
}

impl Met {
    pub(crate) fn carries_out(&self) -> bool {
        self.fault.as_ref().is_none_or(Fault::carries_out)
    }

    /// Returns whether the API's own answer is sent complete.
    pub(crate) fn leaves_answer(&self) -> bool {
        !self.gzip && self.fault.as_ref().is_none_or(Fault::leaves_answer)
    }
}

/// Counts this request and returns the faults that it meets.
pub(crate) fn take<'a>(rules: impl Iterator<Item = &'a mut FaultRule>, asked: &Asked<'_>, subject: &Subject) -> Met {
    let mut met = Met::default();
    for rule in rules {
        let is_open = met.fault.is_none() || rule.fault.comes_besides();
        if !is_open || !rule.matches(asked, subject) || !rule.hits() {
            continue;
        }
        if let Fault::Delay(time) = &rule.fault {
            met.delay += *time;
        } else if matches!(rule.fault, Fault::Gzip) {
            met.gzip = true;
        } else {
            met.fault = Some(rule.fault.clone());
        }
    }
    met
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|bytes| bytes == text)
}

/// Returns whether a pattern with `*` matches the whole text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .any(|at| text.get(at..).is_some_and(|text| fits(rest, text)))
}

/// Returns a pseudo-random number from 0 to 1 (splitmix64), the same for the same seed and count.
#[expect(clippy::cast_precision_loss, reason = "53 bits are a double's own precision")]
fn fraction(seed: u64, count: usize) -> f64 {
    let mut z = seed.wrapping_add((count as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("/acme/opt_outs/*", "/acme/opt_outs/2025550147", true),
            ("*/opt_outs/*", "/acme/opt_outs/%2B6561234567", true),
            ("*/opt_outs/%2B*", "/acme/opt_outs/2025550147", false),
            ("/messages/*", "/acme/messages/a", false),
            ("/messages/a", "/messages/ab", false),
            ("*b", "/messages/ab", true),
            ("*?q=*", "/acme/contact_phones?q=0", true),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_share_is_kept_and_the_same_for_the_same_seed() {
        let hits = |seed| -> Vec<bool> {
            let mut rule = FaultRule::new(Fault::Reset).share(0.3, seed);
            (0..10_000).map(|_| rule.hits()).collect()
        };
        assert_eq!(hits(7), hits(7));
        assert_ne!(hits(7), hits(8));
        let count = hits(7).into_iter().filter(|hit| *hit).count();
        assert!((2_800..3_200).contains(&count), "{count}");
    }
}
