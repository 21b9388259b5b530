//! Who may call what.
//!
//! With `auth_tokens`, every route but health, metrics and the API description wants `Authorization: Bearer <token>`.
//! Without, the server listens on loopback only and is open to it; then requests that a web page could have caused
//! are refused (see [`open_request_is_local`]).

mod scope;

pub(crate) use scope::{Scope, Scopes};

use crate::error::{ApiError, Code};
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// What a token allows; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Viewer,
    Operator,
    Admin,
}

impl Role {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "viewer" => Some(Self::Viewer),
            "operator" => Some(Self::Operator),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// The configured tokens, kept as digests: neither a dump of memory nor a log shows them, and comparing takes the
/// same time whatever is presented.
#[derive(Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct Tokens {
    known: Vec<([u8; 32], Role)>,
    /// Tokens that Edict gives out itself, where they are taken.
    scopes: Option<Arc<Scopes>>,
}

impl Tokens {
    const SHORTEST: usize = 12;

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn role(&self, token: &str) -> Option<Role> {
        let presented = Sha256::digest(token.as_bytes());
        let mut found = None;
        for (digest, role) in &self.known {
            if bool::from(digest.as_slice().ct_eq(presented.as_slice())) {
                found = found.max(Some(*role));
            }
        }
        found
    }

    /// What the request's token is good for, if Edict gave it out itself. An open server asks for none.
    fn scope(&self, headers: &HeaderMap) -> Option<(Arc<Scopes>, Scope)> {
        let scopes = self.scopes.as_ref().filter(|_| !self.is_empty())?;
        scopes.read(presented(headers)?).map(|scope| (Arc::clone(scopes), scope))
    }

    /// Also accepts `token` with `role`.
    pub(crate) fn with(mut self, token: &str, role: Role) -> Self {
        self.known.push((Sha256::digest(token.as_bytes()).into(), role));
        self
    }

    /// Also accepts tokens that these scopes have made.
    pub(crate) fn with_scopes(mut self, scopes: Arc<Scopes>) -> Self {
        self.scopes = Some(scopes);
        self
    }
}

impl TryFrom<Vec<String>> for Tokens {
    type Error = String;

    fn try_from(entries: Vec<String>) -> Result<Self, String> {
        let mut tokens = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            // Only the entry's number is named: its text may be a secret without the role in front.
            let place = format!("entry {}", index + 1);
            let (role, token) = entry.split_once(':').ok_or(format!("{place} must be `role:token`"))?;
            let role = Role::parse(role.trim())
                .ok_or(format!("{place} must start with `admin:`, `operator:` or `viewer:`"))?;
            let token = token.trim();
            if token.len() < Self::SHORTEST {
                return Err(format!("the token of {place} must have at least {} characters", Self::SHORTEST));
            }
            tokens.insert(<[u8; 32]>::from(Sha256::digest(token.as_bytes())), role);
        }
        Ok(Self { known: tokens.into_iter().collect(), scopes: None })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} configured)", self.known.len())
    }
}

/// Extractor for routes that only read.
pub(crate) struct Viewer;

/// Extractor for routes that execute, call or submit.
pub(crate) struct Operator;

/// Extractor for routes that change the registry.
pub(crate) struct Admin;

macro_rules! role_extractor {
    ($($name:ident),*) => {$(
        impl<S: Sync> FromRequestParts<S> for $name
        where
            Arc<Tokens>: FromRef<S>,
        {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
                let tokens: Arc<Tokens> = Arc::from_ref(state);
                if let Some((scopes, scope)) = tokens.scope(&parts.headers) {
                    return scopes.admit(&scope, parts, Role::$name).await.map(|()| Self);
                }
                authorize(&tokens, &parts.headers, Role::$name).map(|()| Self)
            }
        }
    )*};
}

role_extractor!(Viewer, Operator, Admin);

/// Checks that the caller has at least the role `needed`.
///
/// # Errors
/// 401 without a valid token, 403 when the token's role is not enough or an open server is called from a web page.
pub(crate) fn authorize(tokens: &Tokens, headers: &HeaderMap, needed: Role) -> Result<(), ApiError> {
    if tokens.is_empty() {
        return open_request_is_local(headers);
    }
    let Some(token) = presented(headers) else {
        return Err(ApiError::new(
            Code::Unauthorized,
            "this server wants a token: send the header `Authorization: Bearer <token>`",
        ));
    };
    match tokens.role(token) {
        None => Err(ApiError::new(Code::Unauthorized, "the token is not known to this server")),
        Some(role) if role < needed => Err(ApiError::new(
            Code::Forbidden,
            format!("this needs the role `{}`, the token has `{}`", needed.as_str(), role.as_str()),
        )),
        Some(_) => Ok(()),
    }
}

/// The token that a request carries.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Keeps web pages out of an open server: a browser on this machine can reach loopback, so a page from elsewhere
/// could send requests (they carry its `Origin`) or rebind its own name to 127.0.0.1 (then `Host` is that name).
fn open_request_is_local(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
    let origin_host = origin.map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    let foreign = host.into_iter().chain(origin_host).find(|authority| !is_loopback(authority));
    match foreign {
        None => Ok(()),
        Some(authority) => Err(ApiError::new(
            Code::Forbidden,
            format!(
                "without tokens this server answers requests to and from this machine only, and this one is for or \
                 from `{authority}`: configure `auth_tokens`, or use 127.0.0.1 or localhost"
            ),
        )),
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn tokens() -> Tokens {
        Tokens::try_from(vec!["viewer:look-look-look".to_owned(), "admin:master-of-all".to_owned()]).unwrap()
    }

    #[test]
    fn roles_include_the_ones_below() {
        let admin = headers(&[("authorization", "Bearer master-of-all")]);
        let viewer = headers(&[("authorization", "bearer look-look-look")]);
        assert!(authorize(&tokens(), &admin, Role::Viewer).is_ok());
        assert!(authorize(&tokens(), &viewer, Role::Viewer).is_ok());
        assert_eq!(authorize(&tokens(), &viewer, Role::Operator).unwrap_err().code(), Code::Forbidden);
    }

    #[test]
    fn no_token_or_a_wrong_one_stays_out() {
        for pairs in
            [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "Basic master-of-all")]]
        {
            let error = authorize(&tokens(), &headers(pairs), Role::Viewer).unwrap_err();
            assert_eq!(error.code(), Code::Unauthorized);
        }
    }

    #[test]
    fn an_open_server_refuses_web_pages_and_foreign_names() {
        let open = Tokens::default();
        for good in [
            &[("host", "127.0.0.1:5000")][..],
            &[("host", "localhost:5000"), ("origin", "http://localhost:5000")],
            &[("host", "[::1]:5000")],
            &[("host", "localhost")],
        ] {
            assert!(authorize(&open, &headers(good), Role::Admin).is_ok(), "{good:?}");
        }
        for bad in [
            &[("host", "evil.example:5000")][..],
            &[("host", "127.0.0.1:5000"), ("origin", "https://evil.example")],
            &[("host", "127.0.0.1:5000"), ("origin", "null")],
            &[("host", "127.0.0.1.evil.example")],
        ] {
            assert_eq!(authorize(&open, &headers(bad), Role::Viewer).unwrap_err().code(), Code::Forbidden);
        }
    }

    #[test]
    fn bad_token_entries_are_refused_without_being_shown() {
        for entry in ["sesame-open-now", "root:sesame-open-now", "admin:sesame"] {
            let error = Tokens::try_from(vec![entry.to_owned()]).unwrap_err();
            assert!(error.contains("entry 1") && !error.contains("sesame"), "{error}");
        }
    }
}
