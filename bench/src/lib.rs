//! The library of `hookline-bench`: the processes that are measured, the reference programs, the load generator, and
//! the report. The command line is in `main.rs`; no other program of Hookline depends on this crate.
//!
//! ```text
//!  hookline-bench                    hookline-bench process ingest            (IngestApp, as it ships)
//!   load generator ── HTTP ────────▶ hookline-bench process reference-ingest  (bare actix, with or without lapin)
//!   preload, snapshots ── stdin ───▶ hookline-bench process publisher         (bare lapin)
//!   /proc/PID ◀───────────────────── hookline-bench process worker            (WorkerApp, as it ships) ──▶ api
//!                                    hookline-bench process reference-worker  (bare lapin and reqwest) ──▶ api
//! ```
//!
//! - Every measured program is a process of its own, started from this same executable. It ends when its stdin closes,
//!   however the benchmark ended.
//! - Secrets are passed on stdin, never on the command line.
//! - A figure of ours and the reference's are measured one after the other, in alternating order, and compared within
//!   one run. Medians are over runs; ratios are medians of the runs' ratios.
//! - Everything is on loopback and bounded in time. Messages that a measurement published are purged after it.

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
