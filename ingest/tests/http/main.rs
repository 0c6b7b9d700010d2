//! The webhook edge from outside: real sockets, a real embedded broker in a folder of its own per test. Each test
//! asserts both what the sender is told and what was stored.

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
