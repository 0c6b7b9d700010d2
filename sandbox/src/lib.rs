//! A sandbox that stands in for the TextUs API, for tests and for `hookline dev`. It is strict about requests (method,
//! path, media type, token, body) and answers in the shapes of the vendor's pages. It sends rate-limit headers and 429,
//! webhooks about the writes it carried out, and faults on demand.
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
//! Three further servers stand in for systems of record: [`hubspot`] for HubSpot, [`salesforce`] for Salesforce, and
//! [`receiver`] for a user's own endpoint that takes the documents of the http connector. [`FaultRule`] works for all
//! four.
//!
//! Where the vendor documents nothing, the sandbox behaves in the way that is hardest on a client, and a comment at the
//! place says so. State is kept in memory only and lost with the [`Sandbox`].

mod answer;
mod connection;
mod echo;
mod endpoints;
mod fault;
mod fault_rule;
mod faulted;
mod gzip;
pub mod hubspot;
mod integration;
mod learn;
mod ledger;
mod model;
mod options;
mod phone;
mod post;
pub mod rate_limit;
mod raw;
pub mod receiver;
mod reply;
mod route;
pub mod salesforce;
pub mod samples;
mod sandbox;
mod server;
mod shapes;
mod stand_in;
mod state;
mod subject;
mod webhooks;
mod world;

pub use echo::EchoCounts;
pub use fault::Fault;
pub use fault_rule::{AnyEndpoint, FaultRule};
pub use hubspot::{HubSpot, HubSpotEndpoint, HubSpotObject, HubSpotOptions, HubSpotRecord, MergedIds};
pub use hyper::Method;
pub use ledger::{Effect, EffectKind, RecordedRequest, Violation};
pub use model::Direction;
pub use options::{
    DOCUMENTED_RATE_LIMIT, EchoTiming, IntegrationUpdates, MessageForm, Related, RetryAfterForm, Rights,
    SandboxOptions, WebhookTarget,
};
pub use receiver::{Document, DocumentType, Receiver, ReceiverOptions};
pub use route::Endpoint;
pub use salesforce::{
    CustomField, Salesforce, SalesforceEndpoint, SalesforceObject, SalesforceOptions, SalesforceRecord,
};
pub use samples::SampleFacts;
pub use sandbox::{FaultId, MessageIds, Sandbox};
pub use stand_in::ApiRequest;
