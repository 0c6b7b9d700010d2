//! The stand-in as a client sees it: over HTTP, with reqwest.

mod echoes;
mod faults;
mod helpers;
mod rate_limit;
mod samples;
mod seeding;
mod shapes;
mod strictness;
