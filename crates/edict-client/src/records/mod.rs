//! The records of the API, with exactly the field names that travel over the wire.
//!
//! A record's `known_fields()` is what the server accepts in a payload; anything else is refused there with the
//! nearest name. Times are RFC 3339 in UTC.

mod action;
mod asset;
mod attempt;
mod audit;
mod decision;
mod decision_log;
mod execution;
mod executor;
mod function;
mod graph;
mod infra;
mod job;
mod placement;
mod policy;

pub use action::{ActionReply, ExecuteAction, GeneratedSignature};
pub use asset::{Asset, AssetFileInfo, AssetVersion};
pub use attempt::{
    AttemptBrief, AttemptEnd, AttemptLog, BeginAttempt, ClaimJobs, ClaimedJob, FinishAttempt, HeldJob,
    RenewJobs, Taken, WaitingJob,
};
pub use audit::{
    AuditCount, AuditEntry, AuditFault, AuditHead, AuditLog, AuditStatistics, AuditStatus, AuditVerdict,
};
pub use decision::{
    BatchDecisions, ConsideredPolicy, Decision, DecisionBatch, DecisionError, DecisionFolder,
    DecisionPolicies, DecisionPolicy, DecisionRequest, Effect, ExplainedDecision, ImportDecisionPolicies,
    ImportedDecisionPolicies, PolicySource, StoredDecisionPolicy,
};
pub use decision_log::{ContextCut, LoggedDecision, LoggedDecisions};
pub use execution::{ContextOp, ExecutePolicy, Execution, Heartbeat, Load, LogRecord, Manage, PolicyState};
pub use executor::{Executor, ExecutorStatus};
pub use function::{
    AssignedFunction, Autoscaling, ConfirmChanges, DeployFunction, Function, FunctionChanges, FunctionLog,
    FunctionState, FunctionStatus, FunctionToken, ManageFunction, ManagedReplica, ReplicaAnswer,
    ReplicaState,
};
pub use graph::{ExecuteGraph, Graph, GraphExecution, GraphPlan, GraphRun, NodeRun, RunStatus};
pub use infra::{
    ClusterConfig, CreateInfra, ExecutorInfra, InfraExposure, InfraIngress, InfraOptions, InfraState,
    RemoveInfra, RemovedInfra,
};
pub use job::{Job, JobLogRecord, JobStatus, SubmitJob};
pub use placement::{Alloc, Labels, RunFault, Seconds};
pub use policy::{ExecutionLimits, Isolation, Policy};

/// A JSON object.
pub type Object = serde_json::Map<String, serde_json::Value>;
