//! The machinery of `hookline-bench`: the processes that are measured, the programs they are measured beside, the
//! load generator, and the report. The command line is `main.rs`; no other program of Hookline knows of it.
//!
//! ```text
//!  hookline-bench                    hookline-bench process ingest            (IngestApp, as it ships)
//!   load generator ── HTTP ────────▶ hookline-bench process reference-ingest  (bare actix, with or without lapin)
//!   preload, snapshots ── stdin ───▶ hookline-bench process publisher         (bare lapin)
//!   /proc/PID ◀───────────────────── hookline-bench process worker            (WorkerApp, as it ships) ──▶ api
//!                                    hookline-bench process reference-worker  (bare lapin and reqwest) ──▶ api
//! ```
//!
//! - Every measured program is a process of its own, made from this same executable; it lives on its stdin and ends
//!   when that closes, however the benchmark ended.
//! - Secrets go by stdin, never by the command line.
//! - A figure of ours and its reference's are taken one after the other, in turn first and last, and compared inside
//!   one run. Medians are over runs; ratios are medians of the runs' ratios.
//! - Everything is on loopback, and bounded in time: what a measurement published is purged after it.

mod child;
mod clock;
mod cost;
mod figures;
mod ingest;
mod isolation;
mod load;
mod machine;
mod open_files;
mod opt_outs;
mod options;
mod pacing;
mod postgresql;
pub mod process;
mod quota;
mod rabbitmq;
pub mod report;
mod run;
mod samples;
mod stage;
mod targets;
mod worker;

pub use figures::Figures;
pub use options::{Options, Part, Progress};
pub use run::{Refused, run};
