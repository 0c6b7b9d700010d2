//! Tests the http connector against the sandbox's receiver, which takes exactly the documented documents, and against
//! bare sockets that show what is on the wire.

mod addresses;
mod answers;
mod documents;
mod examples;
mod helpers;
mod pace;
mod pauses;
mod people;
mod repeats;
mod signatures;
