//! Filters, updates, sorting and projection through the public interface.

mod databases;
mod errors;
mod filters;
mod hostile;
mod measure;
mod patterns;
mod random;
mod sorting;
mod updates;
