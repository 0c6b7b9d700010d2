//! The built binaries as their users meet them, and as a machine that fails meets them.

mod back_fill;
mod backup;
mod bench;
mod chain;
mod commands;
mod configuration;
mod dead_letters;
mod dev;
mod erasure;
mod fatal;
mod kill;
mod ledger;
mod logs;
mod memory;
mod metrics;
mod mutation;
mod reload;
mod salesforce;
mod sandbox;
mod secrecy;
mod shutdown;
mod trigger;
mod webhooks;
mod worlds;
