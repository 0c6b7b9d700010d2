//! The store's public functions against real SQLite files, with two handles in place of two processes. `tests/postgres`
//! runs the same tests against a real server.

mod back_fill;
mod contacts;
mod database;
mod dead_letters;
mod deliveries;
mod effects;
mod erasure;
mod gates;
mod helpers;
mod history;
mod kind;
mod ledger;
mod opening;
mod opt_out_properties;
mod opt_outs;
mod overtaking;
mod records;
mod sqlite_only;
mod threads;
mod together;
mod unsent;
mod upgrade;
mod workers;
