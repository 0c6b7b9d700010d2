//! Tests of the webhook server from outside, with real sockets and, per test, a real embedded broker in its own folder.
//! Each test asserts both the sender's answer and what was stored.

mod bodies;
mod health;
mod helpers;
mod mutations;
mod outages;
mod program;
mod protocol;
mod shutdown;
mod signatures;
mod spool;
mod spool_rabbitmq;
mod tls;
mod webhooks;
