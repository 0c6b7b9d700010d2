//! The sandbox as a client sees it: over HTTP, with reqwest.

mod bodies;
mod echoes;
mod faults;
mod helpers;
mod integrations;
mod parts;
mod rate_limit;
mod records;
mod rights;
mod samples;
mod seeding;
mod shapes;
mod strictness;
