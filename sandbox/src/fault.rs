//! Faults that tests order for the next requests of some kind.

use std::time::Duration;

use hyper::Method;

use crate::route::Endpoint;

/// What happens to a request instead of, or besides, its normal answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered at once, nothing carried out. The headers come on top of the usual ones and replace those they name.
    Status { status: u16, headers: Vec<(String, String)>, body: Option<String> },
    /// 429 with this `Retry-After`, word for word; nothing carried out.
    Throttle { retry_after: String },
    /// Nothing carried out and no answer for this long, then the connection is reset.
    Hang(Duration),
    /// Carried out at once, answered this much later.
    Slow(Duration),
    /// The connection is reset without an answer, nothing carried out.
    Reset,
    /// Carried out, then the connection is reset without an answer.
    EffectThenReset,
    /// Carried out, no answer for this long, then the connection is reset.
    EffectThenHang(Duration),
    /// Carried out, then answered with this status and no body.
    EffectThenStatus(u16),
    /// Carried out, answered 200 with something that is not JSON.
    GarbageBody,
    /// Carried out, answered 200 with this many bytes of JSON.
    HugeBody(u64),
    /// Carried out and answered, but the connection is cut in the middle of the body.
    TruncatedBody,
    /// Carried out and answered, one byte of the body after each of these pauses.
    DripBody(Duration),
}

impl Fault {
    /// A bare status: `Fault::status(503)`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: None }
    }

    /// Whether the request has its effect all the same.
    pub(crate) fn carries_out(&self) -> bool {
        match self {
            Self::Status { .. } | Self::Throttle { .. } | Self::Hang(_) | Self::Reset => false,
            Self::Slow(_)
            | Self::EffectThenReset
            | Self::EffectThenHang(_)
            | Self::EffectThenStatus(_)
            | Self::GarbageBody
            | Self::HugeBody(_)
            | Self::TruncatedBody
            | Self::DripBody(_) => true,
        }
    }
}

/// Which requests meet a fault, and how often. Every condition that is set must hold; the first rule that matches
/// is applied.
///
/// ```
/// use hookline_sandbox::{Endpoint, Fault, FaultRule};
/// let burst = FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).times(3);
/// ```
#[derive(Clone, Debug)]
pub struct FaultRule {
    pub method: Option<Method>,
    /// Compared with the path as sent, percent-encoded.
    pub path_prefix: Option<String>,
    pub endpoint: Option<Endpoint>,
    /// Matching requests that are left alone first.
    pub skip: usize,
    /// How many requests meet the fault; `None`: all, until [`crate::Sandbox::clear_faults`].
    pub times: Option<usize>,
    pub fault: Fault,
}

impl FaultRule {
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self { method: None, path_prefix: None, endpoint: None, skip: 0, times: None, fault }
    }

    #[must_use]
    pub fn on(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    #[must_use]
    pub fn path_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.path_prefix = Some(prefix.into());
        self
    }

    #[must_use]
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    fn matches(&self, method: &Method, path: &str, endpoint: Option<Endpoint>) -> bool {
        self.times != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path_prefix.as_deref().is_none_or(|prefix| path.starts_with(prefix))
            && self.endpoint.is_none_or(|wanted| endpoint == Some(wanted))
    }
}

/// Takes the fault that this request meets, and counts it.
pub(crate) fn take(rules: &mut [FaultRule], method: &Method, path: &str, endpoint: Option<Endpoint>) -> Option<Fault> {
    for rule in rules.iter_mut().filter(|rule| rule.matches(method, path, endpoint)) {
        if rule.skip > 0 {
            rule.skip -= 1;
            continue;
        }
        rule.times = rule.times.map(|times| times - 1);
        return Some(rule.fault.clone());
    }
    None
}
