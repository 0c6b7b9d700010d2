//! Tests the TextUs client and its gate against the sandbox, which checks its requests, and webhook bodies as fixtures.

mod answers;
mod coalescing;
mod gate;
mod helpers;
mod integrations;
mod payloads;
mod sharing;
mod transport;
mod worlds;
