//! The worker on a real broker, embedded unless a test says otherwise, and a real store, against a stand-in for the TextUs API that checks what it
//! is asked and answers with the webhooks that the writes raise.

mod contacts;
mod erased;
mod failures;
mod helpers;
mod hostile;
mod keywords;
mod lost;
mod notes;
mod numbers;
mod opt_outs;
mod outages;
mod pauses;
mod presence;
mod receiver;
mod throttling;
