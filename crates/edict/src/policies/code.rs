//! Where a policy's code comes from, and that it is what it must be before anyone can run it.

use super::POLICIES;
use super::registry::{Registry, store_bundle};
use crate::error::{ApiError, Code};
use crate::store::documents::to_document;
use bytes::Bytes;
use edict_client::records::Policy;
use edict_runtime::SourceFault;
use edict_runtime::bundle::{self, Bundle, FetchError, FetchOptions};
use serde_json::json;
use std::time::Duration;

/// Longest time to fetch an archive.
const FETCH_LIMIT: Duration = Duration::from_secs(20);

/// What the field `code` of a policy says.
enum Reference<'a> {
    Url(&'a str),
    Asset(&'a str),
    Source(&'a str),
}

fn classify(code: &str) -> Reference<'_> {
    let trimmed = code.trim();
    let address = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':');
    if trimmed.starts_with("http://") || trimmed.starts_with("https://") {
        Reference::Url(trimmed)
    } else if trimmed.contains(':') && trimmed.bytes().all(address) {
        Reference::Asset(trimmed)
    } else {
        Reference::Source(code)
    }
}

/// Code that was found, or why it could not be reached yet.
pub(crate) enum Found {
    Bundle(Box<Bundle>),
    Unreachable { url: String, problem: String },
}

/// Fetches and checks the code that a record names.
///
/// # Errors
/// 422 when it is there but not usable: a broken archive, no `function.py`, no class `AIOSv1PolicyRule`.
pub(crate) async fn resolve(registry: &Registry, code: &str) -> Result<Found, ApiError> {
    let bundle = match classify(code) {
        Reference::Source(text) => Bundle::from_source(text, &registry.limits).map_err(invalid_bundle)?,
        Reference::Asset(uri) => unpack(registry, asset(registry, uri).await?).await?,
        Reference::Url(url) => match fetch(registry, url).await? {
            Ok(bytes) => unpack(registry, bytes).await?,
            Err(problem) => return Ok(Found::Unreachable { url: url.to_owned(), problem }),
        },
    };
    if !registry.has_bundle(&bundle.digest).await? {
        check_class(registry, &bundle).await?;
    }
    Ok(Found::Bundle(Box::new(bundle)))
}

/// Fetches a URL; the inner error says why it cannot be reached.
async fn fetch(registry: &Registry, url: &str) -> Result<Result<Bytes, String>, ApiError> {
    // Our own assets are read without a detour over the network, and without needing a token for ourselves.
    let own = registry
        .own_urls
        .iter()
        .find_map(|own| url.strip_prefix(own.as_str())?.strip_prefix("/asset-object/"));
    if let Some(asset_id) = own {
        return Ok(Ok(registry.storage.read(asset_id).await?));
    }
    let options =
        FetchOptions { limits: registry.limits, timeout: FETCH_LIMIT, client: registry.http.clone() };
    match bundle::fetch(url, &options).await {
        Ok(bytes) => Ok(Ok(bytes)),
        // A refusal counts as not there yet: who has published a name has not always published the file.
        Err(error @ (FetchError::Unreachable { .. } | FetchError::Refused { .. })) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(ApiError::new(Code::InvalidCode, format!("field `code`: {error}"))),
    }
}

async fn asset(registry: &Registry, uri: &str) -> Result<Bytes, ApiError> {
    let document = crate::assets::ASSETS.find(&registry.store, uri).await?.ok_or_else(|| {
        ApiError::new(
            Code::InvalidCode,
            format!(
                "field `code`: there is no asset `{}`: upload it first, or give a URL or the source of `function.py`",
                crate::shorten(uri)
            ),
        )
    })?;
    let asset: edict_client::records::Asset =
        serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    match asset.asset_file_info {
        Some(_) => Ok(registry.storage.read(&asset.asset_id).await?),
        None => fetch(registry, &asset.asset_public_url)
            .await?
            .map_err(|problem| ApiError::new(Code::CodeUnreachable, format!("field `code`: {problem}"))),
    }
}

async fn unpack(registry: &Registry, bytes: Bytes) -> Result<Bundle, ApiError> {
    let limits = registry.limits;
    tokio::task::spawn_blocking(move || Bundle::from_archive(bytes, &limits))
        .await
        .map_err(ApiError::internal)?
        .map_err(invalid_bundle)
}

fn invalid_bundle(error: bundle::BundleError) -> ApiError {
    ApiError::new(Code::InvalidCode, format!("field `code`: {error}"))
        .details(json!({"reason": error.code()}))
}

/// Looks for the class that a policy must define, by parsing.
///
/// # Errors
/// 422 `invalid_code`.
pub(crate) async fn check_class(registry: &Registry, bundle: &Bundle) -> Result<(), ApiError> {
    match registry.runtime.check_source(&bundle.source).await {
        Ok(_) => Ok(()),
        Err(SourceFault::Unchecked(fault)) => Err(ApiError::internal(fault)),
        Err(fault) => Err(ApiError::new(Code::InvalidCode, format!("field `code`: {fault}"))
            .details(json!({"reason": fault.code()}))),
    }
}

/// The digest of a policy's code, fetched and pinned first if its URL could not be reached until now.
///
/// # Errors
/// 422 `code_unreachable` when it still cannot.
pub(crate) async fn pin(registry: &Registry, uri: &str) -> Result<String, ApiError> {
    loop {
        let (policy, revision) = registry.policy(uri).await?;
        if let Some(digest) = policy.code_digest {
            return Ok(digest);
        }
        let bundle = match resolve(registry, &policy.code).await? {
            Found::Bundle(bundle) => bundle,
            Found::Unreachable { url, problem } => return Err(unreachable(&url, &problem)),
        };
        let pinned = Policy { code_digest: Some(bundle.digest.clone()), revision: revision + 1, ..policy };
        let document = to_document(&pinned)?;
        let dialect = registry.store.dialect();
        let mut tx = registry.store.begin().await?;
        store_bundle(&mut tx, &bundle).await?;
        // When another request has changed the policy meanwhile, its code may be another, too: look again.
        if POLICIES.replace(&mut tx, dialect, (uri, revision), (uri, &document)).await? {
            tx.commit().await?;
            registry.forget(uri);
            return Ok(bundle.digest);
        }
    }
}

/// The error for code that cannot be reached.
pub(crate) fn unreachable(url: &str, problem: &str) -> ApiError {
    ApiError::new(
        Code::CodeUnreachable,
        format!(
            "the code at `{}` cannot be reached: {problem}; make it reachable and try again",
            crate::shorten(url)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_apart() {
        assert!(matches!(classify("https://example.com/a.zip"), Reference::Url(_)));
        assert!(matches!(classify(" IP-allow-list:1.0-beta "), Reference::Asset(_)));
        assert!(matches!(classify("class AIOSv1PolicyRule:\n    pass\n"), Reference::Source(_)));
        assert!(matches!(classify("class A: pass"), Reference::Source(_)));
    }
}
