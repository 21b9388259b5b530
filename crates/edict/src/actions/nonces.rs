//! Signed requests that work once and soon only.

use super::request::Request;
use crate::error::{ApiError, Code};
use crate::settings::Settings;
use crate::store::{Statement, Store, StoreError};
use std::time::Duration;

/// By how much the clocks of servers on one database may differ.
const CLOCKS: Duration = Duration::from_secs(60);

/// What was signed and taken lately.
pub(super) struct Nonces {
    store: Store,
    max_age: Duration,
    demanded: bool,
}

impl Nonces {
    pub(super) fn new(store: Store, settings: &Settings) -> Self {
        let max_age = Duration::from_secs(settings.signature_max_age_seconds);
        Self { store, max_age, demanded: settings.require_fresh_signature }
    }

    /// Takes a request whose signature is right, if it is neither old nor repeated.
    ///
    /// INVARIANT (one-use): a nonce is written by one server only, by the database's word, and it stays for longer than
    /// its timestamp can be young on any server.
    ///
    /// # Errors
    /// 403 for a stale or repeated one, and for one without `timestamp` and `nonce` where they are demanded.
    pub(super) async fn take(&self, request: &Request) -> Result<(), ApiError> {
        if self.demanded && (request.timestamp.is_none() || request.nonce.is_none()) {
            return Err(ApiError::new(
                Code::SignatureStale,
                "this server takes fresh signatures only: sign `timestamp` (seconds since 1970) and a new random \
                 `nonce` with the request",
            ));
        }
        let Some(timestamp) = request.timestamp else { return Ok(()) };
        let age = seconds_now() - timestamp;
        if age.abs() > self.max_age.as_secs_f64() {
            let side = if age > 0.0 { "behind" } else { "ahead of" };
            return Err(ApiError::new(
                Code::SignatureStale,
                format!(
                    "the signed `timestamp` is {:.0} s {side} this server's clock, more than the {} s that are allowed; \
                     sign anew, and compare the clocks if that does not help",
                    age.abs(),
                    self.max_age.as_secs()
                ),
            ));
        }
        let Some(nonce) = &request.nonce else { return Ok(()) };
        let sql = "INSERT INTO action_nonces (nonce, seen_at) VALUES ($1, $2)";
        let statement = Statement::new(sql).bind(nonce.as_str()).bind(crate::now_micros());
        match self.store.execute(statement).await {
            Ok(_) => Ok(()),
            Err(StoreError::Exists) => Err(ApiError::new(
                Code::SignatureReplayed,
                format!(
                    "a request with the nonce `{}` was taken before, and nothing is done twice; sign anew to repeat it",
                    crate::shorten(nonce)
                ),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes nonces whose timestamps are old by now. A timestamp may have been ahead by the longest age when it was
    /// taken, and is young for as long again.
    pub(super) async fn sweep(&self) -> Result<(), ApiError> {
        let before = crate::now_micros() - crate::micros(self.max_age * 2 + CLOCKS);
        let statement = Statement::new("DELETE FROM action_nonces WHERE seen_at < $1").bind(before);
        self.store.execute(statement).await?;
        Ok(())
    }
}

fn seconds_now() -> f64 {
    time::OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e9
}
