//! A request for an action, read in a way that keeps what was signed.

use super::json::{Json, Members, invalid};
use super::signature::Field;
use crate::error::{ApiError, Code};
use crate::http::decode;
use edict_client::records::Seconds;
use serde_json::json;
use serde_json::value::RawValue;
use std::time::Duration;

/// The fields of a request.
const KNOWN: [&str; 9] = [
    "actionType",
    "actionParams",
    "requestedBy",
    "policyDecision",
    "signature",
    "timestamp",
    "nonce",
    "dryRun",
    "wait",
];

/// Those that are signed if they are there, in the order in which they are signed unless the request has another.
const SIGNED: [&str; 6] = ["actionType", "actionParams", "requestedBy", "timestamp", "nonce", DRY_RUN];

/// Signed or not as the caller likes: it belongs to no sample of the spec. Once it is signed, taking it away makes the
/// signature wrong, so that a dry run that somebody has seen does not become a real one.
const DRY_RUN: &str = "dryRun";

/// Largest parameters in bytes: every form in which they may have been signed is looked at, before it is known who asks.
const LARGEST: usize = 16 << 10;

/// Longest text of a field.
const LONGEST: usize = 256;

/// Longest wait for a workload to come back healthy.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// From here on a timestamp counts milliseconds, as JavaScript's `Date.now()` does: as seconds it would be the year 5138.
const MILLISECONDS: f64 = 1e11;

/// A request for an action.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) action_type: String,
    pub(super) params: Vec<(String, Json)>,
    /// The same as it was sent.
    pub(super) params_text: Box<RawValue>,
    pub(super) requested_by: String,
    pub(super) policy_decision: Option<Box<RawValue>>,
    /// What the decision that came with the request says.
    pub(super) claimed: Option<bool>,
    pub(super) signature: Option<String>,
    /// Seconds since 1970.
    pub(super) timestamp: Option<f64>,
    pub(super) nonce: Option<String>,
    pub(super) dry_run: bool,
    pub(super) wait: Option<Duration>,
    /// What may be signed, in the order in which it was sent.
    signed: Vec<(String, Json)>,
}

/// The fields that were given, null being the same as left out.
struct Given<'a>(Vec<(String, &'a RawValue)>);

impl Request {
    /// Reads the JSON text of a request.
    ///
    /// # Errors
    /// 400 for what is no JSON, for unknown fields, and for fields that are missing or of another type than they should
    /// be. What `actionParams` holds is looked at later, when it is known who asks.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let raw: Box<RawValue> = decode(body)?;
        let given = Given::read(&raw)?;
        let params_text = given.required("actionParams")?;
        if params_text.get().len() > LARGEST {
            return Err(invalid("actionParams", &format!("is larger than {} KiB", LARGEST >> 10)));
        }
        let Json::Object(params) = Json::read(params_text, "actionParams")? else {
            return Err(invalid(
                "actionParams",
                "must be an object, for example `{\"namespace\": \"default\", …}`",
            ));
        };
        let decision = given.get("policyDecision");
        let nonce = given.text("nonce")?;
        if nonce.as_ref().is_some_and(|nonce| !(8..=128).contains(&nonce.len())) {
            return Err(invalid(
                "nonce",
                "must have 8 to 128 characters; take new random ones for each request",
            ));
        }
        let timestamp = given.timestamp()?;
        if nonce.is_some() && timestamp.is_none() {
            let why = "needs a `timestamp` beside it: alone it would be taken again once the server has forgotten it";
            return Err(invalid("nonce", why));
        }
        let (dry_run, wait) = (given.flag(DRY_RUN)?, given.wait()?);
        if dry_run && wait.is_some() {
            return Err(invalid(
                "wait",
                "has no meaning in a dry run, which changes nothing; leave one of them out",
            ));
        }
        Ok(Self {
            action_type: given.required_text("actionType")?,
            params,
            params_text: params_text.to_owned(),
            requested_by: given.required_text("requestedBy")?,
            policy_decision: decision.map(ToOwned::to_owned),
            claimed: decision.map(claimed).transpose()?,
            signature: given.text("signature")?,
            timestamp,
            nonce,
            dry_run,
            wait,
            signed: given.signed()?,
        })
    }

    /// The objects of which one must have been signed: with the fields as they were sent, or in the usual order; with
    /// `dryRun`, or without.
    pub(super) fn versions(&self) -> Vec<Vec<Field<'_>>> {
        let as_sent: Vec<Field<'_>> =
            self.signed.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let mut usual = as_sent.clone();
        usual.sort_by_key(|(name, _)| SIGNED.iter().position(|signed| signed == name));
        let (as_sent_without, usual_without) = (without_dry_run(&as_sent), without_dry_run(&usual));
        vec![usual, as_sent, usual_without, as_sent_without]
    }

    /// The fields as the server itself signs them.
    pub(super) fn usual(&self) -> Vec<Field<'_>> {
        self.versions().swap_remove(0)
    }
}

impl<'a> Given<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, ApiError> {
        let Members(members) = Members::read(raw, "")?;
        if let Some((unknown, _)) = members.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
            let nearest = crate::nearest(unknown, KNOWN.into_iter());
            let hint = nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            let unknown = crate::shorten(unknown);
            return Err(ApiError::new(Code::UnknownField, format!("unknown field `{unknown}`{hint}"))
                .details(json!({"field": unknown, "nearest": nearest, "known": KNOWN})));
        }
        Ok(Self(members.into_iter().filter(|(_, value)| value.get() != "null").collect()))
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| *value)
    }

    fn required(&self, name: &str) -> Result<&'a RawValue, ApiError> {
        self.get(name).ok_or_else(|| {
            invalid(name, "is missing; a request has `actionType`, `actionParams` and `requestedBy`")
        })
    }

    fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        match Json::read(raw, name)? {
            Json::Text(text) if text.trim().is_empty() => Err(invalid(name, "is empty")),
            Json::Text(text) if text.len() > LONGEST => {
                Err(invalid(name, &format!("is longer than {LONGEST} bytes")))
            }
            Json::Text(text) => Ok(Some(text)),
            other => Err(invalid(name, &format!("must be a string, not {}", other.kind()))),
        }
    }

    fn required_text(&self, name: &str) -> Result<String, ApiError> {
        self.required(name)?;
        Ok(self.text(name)?.unwrap_or_default())
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name).map(|raw| Json::read(raw, name)).transpose()? {
            None => Ok(false),
            Some(Json::Bool(value)) => Ok(value),
            Some(other) => Err(invalid(name, &format!("must be true or false, not {}", other.shown()))),
        }
    }

    fn timestamp(&self) -> Result<Option<f64>, ApiError> {
        let name = "timestamp";
        let Some(raw) = self.get(name) else { return Ok(None) };
        match Json::read(raw, name)? {
            Json::Number(text) => {
                let seconds: f64 = text.parse().unwrap_or_default();
                Ok(Some(if seconds.abs() >= MILLISECONDS { seconds / 1000.0 } else { seconds }))
            }
            other => {
                Err(invalid(name, &format!("must be a number of seconds since 1970, not {}", other.shown())))
            }
        }
    }

    fn wait(&self) -> Result<Option<Duration>, ApiError> {
        let Some(raw) = self.get("wait") else { return Ok(None) };
        let wait: Result<Seconds, _> = serde_json::from_str(raw.get());
        match wait.map(Seconds::duration) {
            Ok(wait) if wait <= LONGEST_WAIT => Ok(Some(wait)),
            _ => {
                let shown = crate::shorten(raw.get());
                let problem = format!(
                    "must be a duration of at most {} s, such as `\"60s\"`, not `{shown}`",
                    LONGEST_WAIT.as_secs()
                );
                Err(invalid("wait", &problem))
            }
        }
    }

    fn signed(&self) -> Result<Vec<(String, Json)>, ApiError> {
        let signed = self.0.iter().filter(|(name, _)| SIGNED.contains(&name.as_str()));
        signed.map(|(name, raw)| Ok((name.clone(), Json::read(raw, name)?))).collect()
    }
}

fn without_dry_run<'a>(fields: &[Field<'a>]) -> Vec<Field<'a>> {
    fields.iter().copied().filter(|(name, _)| *name != DRY_RUN).collect()
}

/// What a policy engine's decision says, which only counts when it is a no.
fn claimed(raw: &RawValue) -> Result<bool, ApiError> {
    let name = "policyDecision";
    let decision = Json::read(raw, name)?;
    let Json::Object(members) = &decision else {
        return Err(invalid(name, &format!("must be the policy engine's reply, not {}", decision.shown())));
    };
    match members.iter().find(|(member, _)| member == "allowed") {
        Some((_, Json::Bool(allowed))) => Ok(*allowed),
        Some((_, other)) => {
            Err(invalid("policyDecision.allowed", &format!("must be true or false, not {}", other.shown())))
        }
        None => {
            Err(invalid(name, "has no `allowed`; send the policy engine's reply as it came, or leave it out"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(more: &str) -> Result<Request, ApiError> {
        let text = format!(
            r#"{{"actionType": "restart_pod", "actionParams": {{"namespace": "default"}}, "requestedBy": "me"{more}}}"#
        );
        Request::read(text.as_bytes())
    }

    #[test]
    fn requests_are_read_and_null_is_the_same_as_left_out() {
        let request =
            with(r#", "policyDecision": null, "signature": null, "dryRun": null, "wait": null"#).unwrap();
        assert_eq!((request.action_type.as_str(), request.requested_by.as_str()), ("restart_pod", "me"));
        assert_eq!(
            (request.claimed, request.signature, request.dry_run, request.wait),
            (None, None, false, None)
        );
        assert!(with(r#", "dryRun": true"#).unwrap().dry_run);
        let more = r#", "policyDecision": {"allowed": true, "reason": "x"}, "wait": "1m", "timestamp": 1.5"#;
        let request = with(more).unwrap();
        assert_eq!(request.claimed, Some(true));
        assert_eq!((request.wait, request.timestamp), (Some(Duration::from_secs(60)), Some(1.5)));
        assert_eq!(with(r#", "timestamp": 1700000000123"#).unwrap().timestamp, Some(1_700_000_000.123));
    }

    #[test]
    fn malformed_requests_are_refused_with_the_field_named() {
        for (more, said) in [
            (r#", "policyDecision": true"#, "`policyDecision` must be the policy engine's reply, not `true`"),
            (r#", "policyDecision": {"allow": true}"#, "has no `allowed`"),
            (r#", "policyDecision": {"allowed": "true"}"#, "`policyDecision.allowed` must be true or false"),
            (r#", "policyDecision": {"allowed": false, "allowed": true}"#, "member `allowed` twice"),
            (r#", "dryrun": true"#, "did you mean `dryRun`"),
            (r#", "dryRun": "true"#, "not complete JSON"),
            (r#", "dryRun": "true""#, "not the string `true`"),
            (r#", "dryRun": 1"#, "not `1`"),
            (r#", "actionType": "delete_pod""#, "the body has the member `actionType` twice"),
            (r#", "timestamp": "now""#, "seconds since 1970"),
            (r#", "nonce": "12345678""#, "needs a `timestamp`"),
            (r#", "timestamp": 1, "nonce": "1234567""#, "8 to 128"),
            (r#", "wait": "11m""#, "at most 600 s"),
            (r#", "wait": -1"#, "not `-1`"),
            (r#", "signature": 5"#, "`signature` must be a string"),
            (r#", "dryRun": true, "wait": 5"#, "`wait` has no meaning in a dry run"),
        ] {
            let error = with(more).unwrap_err();
            assert_eq!(error.code().status(), 400);
            assert!(error.message().contains(said), "{more}: {}", error.message());
        }
        for (text, said) in [
            ("", "not complete JSON"),
            ("[]", "the body cannot be read"),
            (r#"{"actionType": "a", "actionParams": {}}"#, "`requestedBy` is missing"),
            (r#"{"actionType": "a", "actionParams": {}, "requestedBy": " "}"#, "`requestedBy` is empty"),
            (
                r#"{"actionType": 1, "actionParams": {}, "requestedBy": "x"}"#,
                "must be a string, not a number",
            ),
            (r#"{"actionType": "a", "actionParams": [], "requestedBy": "x"}"#, "must be an object"),
        ] {
            let error = Request::read(text.as_bytes()).unwrap_err();
            assert!(error.message().contains(said), "{text}: {}", error.message());
        }
        let large = format!(r#"{{"actionParams": {{"x": "{}"}}}}"#, "x".repeat(LARGEST));
        assert!(Request::read(large.as_bytes()).unwrap_err().message().contains("larger than 16 KiB"));
    }

    #[test]
    fn what_is_signed_is_what_was_sent() {
        let names =
            |fields: &[Field<'_>]| fields.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        let text = r#"{"nonce": "12345678", "requestedBy": "a", "actionParams": {}, "dryRun": false, "wait": 1,
            "actionType": "b", "timestamp": 5, "signature": "c"}"#;
        let request = Request::read(text.as_bytes()).unwrap();
        let usual = ["actionType", "actionParams", "requestedBy", "timestamp", "nonce"];
        assert_eq!(names(&request.usual()), [&usual[..], &["dryRun"]].concat());
        let versions: Vec<_> = request.versions().iter().map(|fields| names(fields)).collect();
        let sent = ["nonce", "requestedBy", "actionParams", "dryRun", "actionType", "timestamp"];
        assert_eq!(versions[1], sent);
        assert_eq!(versions[2], usual);
        assert_eq!(versions[3], sent.into_iter().filter(|name| *name != "dryRun").collect::<Vec<_>>());
    }
}
