//! The client against a real HTTP server.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod deployments;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod files;
#[cfg(test)]
mod server;
