//! The client against a real HTTP server.

mod calls;
mod failures;
mod files;
mod server;
