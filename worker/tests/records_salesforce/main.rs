//! The connector for Salesforce against its stand-in, call by call.

mod failures;
mod helpers;
mod notes;
mod opt_outs;
mod package;
mod people;
mod set_up;
mod tokens;
