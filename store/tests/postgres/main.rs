//! The suite of `tests/store` against a real PostgreSQL, and tests of what only a server has: many writers, crashes,
//! networks.

mod database;
mod limits;
mod many_writers;
mod outages;
mod statistics;

#[path = "../store/back_fill.rs"]
mod back_fill;
#[path = "../store/contacts.rs"]
mod contacts;
#[path = "../store/dead_letters.rs"]
mod dead_letters;
#[path = "../store/deliveries.rs"]
mod deliveries;
#[path = "../store/effects.rs"]
mod effects;
#[path = "../store/erasure.rs"]
mod erasure;
#[path = "../store/gates.rs"]
mod gates;
#[path = "../store/helpers.rs"]
mod helpers;
#[path = "../store/history.rs"]
mod history;
#[path = "../store/kind.rs"]
mod kind;
#[path = "../store/ledger.rs"]
mod ledger;
#[path = "../store/opening.rs"]
mod opening;
#[path = "../store/opt_out_properties.rs"]
mod opt_out_properties;
#[path = "../store/opt_outs.rs"]
mod opt_outs;
#[path = "../store/records.rs"]
mod records;
#[path = "../store/threads.rs"]
mod threads;
#[path = "../store/together.rs"]
mod together;
#[path = "../store/unsent.rs"]
mod unsent;
#[path = "../store/upgrade.rs"]
mod upgrade;
#[path = "../store/workers.rs"]
mod workers;
