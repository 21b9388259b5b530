//! Where a request for a decision comes from.

use crate::http::RequestId;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use edict_engine::Request;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

/// The caller as the server sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) ip: Option<IpAddr>,
    pub(crate) user_agent: Option<String>,
    pub(crate) request_id: String,
}

impl Origin {
    /// Tells the conditions of the caller, where the request itself says nothing: whoever asks for somebody else names
    /// that one's address. Returns what the request did not say.
    pub(super) fn fill_in(&self, request: &mut Request<'_>) -> Filled<'_> {
        let ip = self.ip.filter(|ip| request.fill_in("ipAddress", || ip.to_string()));
        let user_agent = self.user_agent.as_deref();
        let user_agent = user_agent.filter(|agent| request.fill_in("userAgent", || (*agent).to_owned()));
        Filled { ip, user_agent }
    }
}

/// What was filled in.
pub(super) struct Filled<'o> {
    pub(super) ip: Option<IpAddr>,
    pub(super) user_agent: Option<&'o str>,
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let (ip, user_agent) = (peer.map(|peer| peer.0.ip().to_canonical()), user_agent.map(str::to_owned));
        let id = RequestId::from_request_parts(parts, state).await?.value();
        Ok(Self { ip, user_agent, request_id: id.to_str().unwrap_or_default().to_owned() })
    }
}
