//! What every route shares: bodies in, replies out, the layer that gives each request its id, and the way to other processes.

mod body;
mod if_match;
mod layer;
mod link;
mod path;
mod peer;
mod reply;

pub(crate) use body::{Body, LargeBody, Parameters, RawBody, decode, document};
pub(crate) use if_match::IfMatch;
pub(crate) use layer::{RequestId, track};
pub(crate) use path::Path;
pub(crate) use peer::{Lost, Peer, Peers};
pub(crate) use reply::{Data, Page, Reply};
