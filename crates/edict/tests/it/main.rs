//! Edict from the outside: real servers, real databases, real Python.

mod support;

mod documents;
mod smoke;
