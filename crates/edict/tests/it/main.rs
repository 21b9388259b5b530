//! Edict from the outside: real servers, real databases, real Python.

mod support;

mod cli;
mod context;
mod execute;
mod executors;
mod hostile;
mod management;
mod requirements;
mod sdk;
mod smoke;
