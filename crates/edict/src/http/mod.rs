//! What every route shares: bodies in, replies out, and the layer that gives each request its id.

mod body;
mod if_match;
mod layer;
mod path;
mod reply;

pub(crate) use body::{Body, LargeBody, Parameters, RawBody, decode, document};
pub(crate) use if_match::IfMatch;
pub(crate) use layer::{RequestId, track};
pub(crate) use path::Path;
pub(crate) use reply::{Data, Page, Reply};
