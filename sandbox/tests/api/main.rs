//! The sandbox and the stand-ins for systems of record as a client sees them: over HTTP, with reqwest.

mod bodies;
mod echoes;
mod faults;
mod helpers;
mod hubspot;
mod integrations;
mod parts;
mod rate_limit;
mod receiver;
mod records;
mod rights;
mod salesforce;
mod samples;
mod seeding;
mod shapes;
mod strictness;
