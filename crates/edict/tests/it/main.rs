//! Edict from the outside: real servers, real databases, real Python.

mod support;

mod assets;
mod auth;
mod bad_input;
mod code;
mod context;
mod documents;
mod durability;
mod listeners;
mod queries;
mod settings;
mod smoke;
mod spec;
mod updates;
