//! Tests the worker with a real broker, embedded unless a test says otherwise, and a real store. The sandbox stands in
//! for the TextUs API: it checks its requests, and sends the webhooks that the writes trigger.

mod authors;
mod back_fill;
mod contacts;
mod crm;
mod erased;
mod failures;
mod helpers;
mod hostile;
mod http_records;
mod hubspot;
mod hubspot_doubts;
mod keywords;
mod lost;
mod notes;
mod numbers;
mod opt_outs;
mod outages;
mod pauses;
mod presence;
mod receiver;
mod salesforce;
mod threads;
mod throttling;
