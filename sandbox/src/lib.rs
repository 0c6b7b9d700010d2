//! A stand-in for the TextUs API, for tests and for `hookline dev`. It is strict about what it is asked (method,
//! path, media type, token, body) and answers with the shapes of the vendor's pages: rate-limit headers and 429,
//! webhooks about the writes it was asked for, and faults on demand.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use hookline_sandbox::{Endpoint, Fault, FaultRule, Sandbox, SandboxOptions};
//!
//! let textus = Sandbox::start(SandboxOptions::default()).await?;
//! textus.fault(FaultRule::new(Fault::EffectThenReset).on(Endpoint::CreateContact).times(1));
//! // ... point a client at textus.base_url() ...
//! assert!(textus.violations().is_empty());
//! textus.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Where the vendor documents nothing, the answer is the one that is hardest on a client; each such choice says so
//! where it is made. State is in memory only and lost with the [`Sandbox`].

mod answer;
mod echo;
mod endpoints;
mod fault;
mod fault_rule;
mod gzip;
mod integration;
mod learn;
mod ledger;
mod model;
mod options;
mod phone;
mod post;
pub mod rate_limit;
mod raw;
mod reply;
mod route;
pub mod samples;
mod sandbox;
mod server;
mod shapes;
mod state;
mod subject;
mod webhooks;
mod world;

pub use echo::EchoCounts;
pub use fault::Fault;
pub use fault_rule::FaultRule;
pub use hyper::Method;
pub use ledger::{Effect, EffectKind, RecordedRequest, Violation};
pub use model::Direction;
pub use options::{
    DOCUMENTED_RATE_LIMIT, EchoTiming, IntegrationUpdates, MessageForm, Related, RetryAfterForm, Rights,
    SandboxOptions, WebhookTarget,
};
pub use route::Endpoint;
pub use samples::SampleFacts;
pub use sandbox::{FaultId, MessageIds, Sandbox};
