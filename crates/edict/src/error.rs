//! Errors of the API. Each code is declared once, here, with its status; `docs/errors.md` explains each, and a test
//! holds the two together.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use edict_client::records::RunFault;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;
use utoipa::ToSchema;

macro_rules! codes {
    ($($name:ident $text:literal $status:ident,)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(clippy::enum_variant_names, reason = "they are named like the codes, and one is `invalid_code`")]
        pub(crate) enum Code { $($name,)* }

        impl Code {
            /// Every code, for the test that compares them with the documentation.
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it travels over the wire.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The code that is spelt like this.
            pub(crate) fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }

            /// The HTTP status that goes with it.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    MalformedJson "malformed_json" BAD_REQUEST,
    InvalidField "invalid_field" BAD_REQUEST,
    UnknownField "unknown_field" BAD_REQUEST,
    InvalidName "invalid_name" BAD_REQUEST,
    InvalidParameter "invalid_parameter" BAD_REQUEST,
    InvalidQuery "invalid_query" BAD_REQUEST,
    InvalidUpdate "invalid_update" BAD_REQUEST,
    InvalidUpload "invalid_upload" BAD_REQUEST,
    Unauthorized "unauthorized" UNAUTHORIZED,
    SignatureMissing "signature_missing" UNAUTHORIZED,
    Forbidden "forbidden" FORBIDDEN,
    SignatureInvalid "signature_invalid" FORBIDDEN,
    SignatureStale "signature_stale" FORBIDDEN,
    SignatureReplayed "signature_replayed" FORBIDDEN,
    NamespaceNotAllowed "namespace_not_allowed" FORBIDDEN,
    ActionNotAllowed "action_not_allowed" FORBIDDEN,
    RouteNotFound "route_not_found" NOT_FOUND,
    PolicyNotFound "policy_not_found" NOT_FOUND,
    ExecutorNotFound "executor_not_found" NOT_FOUND,
    InfraNotFound "infra_not_found" NOT_FOUND,
    AssetNotFound "asset_not_found" NOT_FOUND,
    JobNotFound "job_not_found" NOT_FOUND,
    FunctionNotFound "function_not_found" NOT_FOUND,
    GraphNotFound "graph_not_found" NOT_FOUND,
    RunNotFound "run_not_found" NOT_FOUND,
    DecisionPolicyNotFound "decision_policy_not_found" NOT_FOUND,
    DecisionNotFound "decision_not_found" NOT_FOUND,
    AuditEntryNotFound "audit_entry_not_found" NOT_FOUND,
    TargetNotFound "target_not_found" NOT_FOUND,
    RevisionNotFound "revision_not_found" NOT_FOUND,
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED,
    PolicyExists "policy_exists" CONFLICT,
    ExecutorExists "executor_exists" CONFLICT,
    AssetExists "asset_exists" CONFLICT,
    FunctionExists "function_exists" CONFLICT,
    GraphExists "graph_exists" CONFLICT,
    DecisionPolicyExists "decision_policy_exists" CONFLICT,
    DecisionPolicyReadOnly "decision_policy_read_only" CONFLICT,
    TargetConflict "target_conflict" CONFLICT,
    JobFinished "job_finished" CONFLICT,
    ExecutorBuiltin "executor_builtin" CONFLICT,
    ExecutorTaken "executor_taken" CONFLICT,
    InfraExists "infra_exists" CONFLICT,
    InfraBusy "infra_busy" CONFLICT,
    InfraConflict "infra_conflict" CONFLICT,
    RevisionConflict "revision_conflict" PRECONDITION_FAILED,
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE,
    InvalidSchema "invalid_schema" UNPROCESSABLE_ENTITY,
    InvalidCode "invalid_code" UNPROCESSABLE_ENTITY,
    CodeUnreachable "code_unreachable" UNPROCESSABLE_ENTITY,
    InputInvalid "input_invalid" UNPROCESSABLE_ENTITY,
    SettingsInvalid "settings_invalid" UNPROCESSABLE_ENTITY,
    ParametersInvalid "parameters_invalid" UNPROCESSABLE_ENTITY,
    CommandInvalid "command_invalid" UNPROCESSABLE_ENTITY,
    ContextInvalid "context_invalid" UNPROCESSABLE_ENTITY,
    InvalidGraph "invalid_graph" UNPROCESSABLE_ENTITY,
    InvalidAutoscaling "invalid_autoscaling" UNPROCESSABLE_ENTITY,
    NoExecutorFits "no_executor_fits" UNPROCESSABLE_ENTITY,
    InvalidDecisionPolicy "invalid_decision_policy" UNPROCESSABLE_ENTITY,
    InvalidAction "invalid_action" UNPROCESSABLE_ENTITY,
    RateLimited "rate_limited" TOO_MANY_REQUESTS,
    Overloaded "overloaded" TOO_MANY_REQUESTS,
    Internal "internal_error" INTERNAL_SERVER_ERROR,
    PolicyFailed "policy_failed" BAD_GATEWAY,
    PolicyCrashed "policy_crashed" BAD_GATEWAY,
    PolicyLimitExceeded "policy_limit_exceeded" BAD_GATEWAY,
    PolicyOutputInvalid "policy_output_invalid" BAD_GATEWAY,
    PolicyLoadFailed "policy_load_failed" BAD_GATEWAY,
    EnvironmentFailed "environment_failed" BAD_GATEWAY,
    AllocatorFailed "allocator_failed" BAD_GATEWAY,
    NodeFailed "node_failed" BAD_GATEWAY,
    GraphOutputInvalid "graph_output_invalid" BAD_GATEWAY,
    ExecutorUnreachable "executor_unreachable" BAD_GATEWAY,
    PodFailed "pod_failed" BAD_GATEWAY,
    InfraFailed "infra_failed" BAD_GATEWAY,
    ClusterRefused "cluster_refused" BAD_GATEWAY,
    ActionFailed "action_failed" BAD_GATEWAY,
    ActionInterrupted "action_interrupted" BAD_GATEWAY,
    EngineUnavailable "engine_unavailable" SERVICE_UNAVAILABLE,
    ClusterUnavailable "cluster_unavailable" SERVICE_UNAVAILABLE,
    StorageUnavailable "storage_unavailable" SERVICE_UNAVAILABLE,
    FunctionUnavailable "function_unavailable" SERVICE_UNAVAILABLE,
    ShuttingDown "shutting_down" SERVICE_UNAVAILABLE,
    ClusterTimeout "cluster_timeout" GATEWAY_TIMEOUT,
    PolicyTimeout "policy_timeout" GATEWAY_TIMEOUT,
    NodeTimeout "node_timeout" GATEWAY_TIMEOUT,
    GraphTimeout "graph_timeout" GATEWAY_TIMEOUT,
    QueryTimeout "query_timeout" GATEWAY_TIMEOUT,
}

/// What a failed request is answered with.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    code: Code,
    message: String,
    details: Value,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// `message` says what is wrong and what to do.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Value::Null, retry_after: None }
    }

    /// Adds facts for programs.
    pub(crate) fn details(mut self, details: impl Serialize) -> Self {
        self.details = serde_json::to_value(details).unwrap_or_default();
        self
    }

    /// Tells the caller when to try again.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A fault of our own: the cause goes to the log, the caller learns only that there was one.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(Code::Internal, "the server made a mistake; the request id leads to the cause in its log")
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The reason that the details hold, if they hold one.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.details.get("reason")?.as_str()
    }

    pub(crate) fn into_details(self) -> Value {
        self.details
    }

    /// The shape of every error reply.
    pub(crate) fn body(&self) -> Value {
        json!({
            "success": false,
            "message": self.message,
            "error": {"code": self.code.as_str(), "details": self.details},
        })
    }
}

impl From<ApiError> for RunFault {
    /// The error as records keep it: what a caller would have been told.
    fn from(error: ApiError) -> Self {
        Self { code: error.code.as_str().to_owned(), message: error.message, details: error.details }
    }
}

/// Shape of every error reply.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// Always false.
    #[schema(example = false)]
    success: bool,
    /// What is wrong and what to do.
    message: String,
    error: ErrorInfo,
}

/// The part of an error reply that is for programs.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorInfo {
    /// A stable code; `docs/errors.md` has cause and fix of each.
    #[schema(example = "policy_not_found")]
    code: String,
    /// Facts that belong to the code.
    #[schema(value_type = Object)]
    details: Value,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.code.status(), axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.code);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_with_its_status() {
        let page = include_str!("../../../docs/errors.md");
        for code in Code::ALL {
            let heading = format!("### `{}` ({})", code.as_str(), code.status().as_u16());
            assert!(page.contains(&heading), "docs/errors.md lacks the heading {heading:?}");
        }
        let documented = page.lines().filter(|line| line.starts_with("### `")).count();
        assert_eq!(documented, Code::ALL.len(), "docs/errors.md explains codes that do not exist");
    }
}
