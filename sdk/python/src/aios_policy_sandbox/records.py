"""The records of the API, as typed dictionaries with the field names that travel over the wire.

A server may add fields; dictionaries keep what these types do not name. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional, TypedDict, TypeVar, Union

__all__ = [
    "ActionResult",
    "Alloc",
    "Asset",
    "AssetFileInfo",
    "AssetVersion",
    "Autoscaling",
    "Decision",
    "Execution",
    "ExecutionLimits",
    "Function",
    "FunctionLog",
    "FunctionStatus",
    "Graph",
    "GraphPlan",
    "GraphResult",
    "GraphRun",
    "Job",
    "JobLog",
    "LogRecord",
    "Managed",
    "NodeRun",
    "Page",
    "PolicyCode",
    "PolicyExecutor",
    "PolicyRule",
    "ReplicaAnswer",
    "RunFault",
]

Record = TypeVar("Record")


class ExecutionLimits(TypedDict, total=False):
    """What one run may use; an executor's own settings cap each value."""

    timeout_ms: int
    memory_mb: int
    cpu_seconds: int
    processes: int
    network: bool
    isolation: str


class PolicyRule(TypedDict, total=False):
    """A registered policy. The server sets `policy_rule_uri`, `code_digest`, `revision` and the times."""

    policy_rule_uri: str
    name: str
    version: str
    release_tag: str
    metadata: dict[str, Any]
    tags: Union[str, list[str]]
    code: str
    type: str
    policy_input_schema: dict[str, Any]
    policy_output_schema: dict[str, Any]
    policy_settings_schema: dict[str, Any]
    policy_parameters_schema: dict[str, Any]
    policy_settings: dict[str, Any]
    policy_parameters: dict[str, Any]
    management_commands_schema: list[Any]
    description: str
    execution_limits: ExecutionLimits
    code_digest: Optional[str]
    created_at: str
    updated_at: str
    revision: int


class PolicyExecutor(TypedDict, total=False):
    """A process that runs policies. `executor_status`: healthy, busy, unreachable or pending."""

    executor_id: str
    executor_host_uri: Optional[str]
    executor_metadata: dict[str, Any]
    executor_hardware_info: dict[str, Any]
    executor_status: str
    created_at: str
    updated_at: str
    revision: int


class AssetVersion(TypedDict):
    """Version and tag of an asset, for example `1.0` and `beta`."""

    version: str
    tag: str


class AssetFileInfo(TypedDict, total=False):
    """What the server knows of a stored file: size in bytes, SHA-256 in hex, MIME type, name as uploaded."""

    size: int
    sha256: str
    content_type: str
    file_name: str


class Asset(TypedDict, total=False):
    """A stored file, or a file elsewhere that is known by its URL (`asset_file_info` is None then)."""

    asset_uri: str
    asset_id: str
    asset_name: str
    asset_version: AssetVersion
    asset_metadata: dict[str, Any]
    asset_tags: list[str]
    asset_public_url: str
    asset_file_info: Optional[AssetFileInfo]
    created_at: str
    updated_at: str
    revision: int


class LogRecord(TypedDict, total=False):
    """One line a run printed or logged. `source`: stdout, stderr, or the Python logger's name."""

    time: str
    level: str
    source: str
    message: str


class Decision(TypedDict, total=False):
    """What the policy engine decided."""

    allowed: bool
    reason: str
    appliedPolicies: list[Any]
    decisionId: str


class ActionResult(TypedDict, total=False):
    """What the action executor did: `result` when `success` is true, else `error`."""

    success: bool
    auditId: str
    result: Any
    error: str
    code: str
    details: Any


class RunFault(TypedDict, total=False):
    """Why a job, a replica or a node failed: what a caller of the policy would have got."""

    code: str
    message: str
    details: Any


class Alloc(TypedDict, total=False):
    """Who chooses the executor: an allocator policy, with overrides of its settings and parameters."""

    resource_allocator_policy_uri: str
    settings: dict[str, Any]
    parameters: dict[str, Any]


class Job(TypedDict, total=False):
    """A run that was accepted. `job_status`: pending, running, completed, failed or cancelled."""

    job_id: str
    name: str
    job_status: str
    executor_id: str
    policy_rule_uri: str
    policy_rule_parameters: dict[str, Any]
    policy_rule_settings: dict[str, Any]
    node_selector: dict[str, str]
    node_id: Optional[str]
    waiting_for: Optional[str]
    inputs: Any
    timeout: Optional[float]
    backoff_limit: int
    attempts: int
    job_output_data: Any
    error: Optional[RunFault]
    created_at: str
    started_at: Optional[str]
    finished_at: Optional[str]


class JobLog(LogRecord, total=False):
    """One line that an attempt of a job printed or logged."""

    attempt: int


class Autoscaling(TypedDict, total=False):
    """How the number of replicas follows the load. CPU in percent of one core."""

    enabled: bool
    min_replicas: int
    max_replicas: int
    target_cpu_utilization_percentage: int
    scale_up_stabilization_seconds: int
    scale_down_stabilization_seconds: int


class FunctionStatus(TypedDict, total=False):
    """What a function's replicas do. `state`: pending, ready, updating, degraded or failed.

    `revision` is what every ready replica has, `observed_revision` the one that this status tells about.
    """

    state: str
    revision: int
    observed_revision: int
    desired: int
    ready: int
    restarts: int
    cpu_utilization_percentage: Optional[int]
    error: Optional[RunFault]


class Function(TypedDict, total=False):
    """A deployed policy; `function_id` is its name. The executor sets `function_status`."""

    function_id: str
    function_executor_id: str
    function_executor_uri: Optional[str]
    function_metadata: dict[str, Any]
    function_tags: list[str]
    function_policy_rule_uri: str
    function_policy_data: dict[str, Any]
    policy_rule_parameters: dict[str, Any]
    policy_rule_settings: dict[str, Any]
    replicas: int
    autoscaling: Optional[Autoscaling]
    node_selector: dict[str, str]
    function_status: FunctionStatus
    created_at: str
    updated_at: str
    revision: int


class ReplicaAnswer(TypedDict, total=False):
    """What one replica answered to a management command; with an `error` it is replaced."""

    replica: int
    data: Any
    error: Optional[RunFault]


class FunctionLog(LogRecord, total=False):
    """One line that a replica printed or logged."""

    replica: int


class Graph(TypedDict, total=False):
    """Functions that feed each other. `graph_connection_data`: for each node, those that get its output."""

    graph_uri: str
    graph_name: str
    graph_version: str
    graph_release_tag: str
    graph_metadata: Any
    graph_function_ids: list[str]
    graph_connection_data: dict[str, list[str]]
    graph_search_tags: list[str]
    graph_description: str
    graph_input_schema: dict[str, Any]
    graph_output_schema: dict[str, Any]
    created_at: str
    updated_at: str
    revision: int


class GraphPlan(TypedDict, total=False):
    """How a graph would run. Nodes of one stage can run at the same time; `exists`: its URI is taken."""

    graph_uri: str
    exists: bool
    roots: list[str]
    leaves: list[str]
    stages: list[list[str]]


class NodeRun(TypedDict, total=False):
    """What one node did in a run. `status`: completed, failed, cancelled or skipped. Times in milliseconds."""

    node: str
    status: str
    started_ms: Optional[float]
    duration_ms: Optional[float]
    input: Any
    output: Any
    error: Optional[RunFault]


class GraphRun(TypedDict, total=False):
    """A recorded run of a graph; its nodes in the order of `graph_function_ids`."""

    run_id: str
    graph_uri: str
    graph_revision: int
    run_status: str
    input_data: Any
    output: Any
    error: Optional[RunFault]
    started_at: str
    duration_ms: float
    nodes: list[NodeRun]


class Managed(NamedTuple):
    """What a management command to a function gave: one answer for all, and each replica's own."""

    data: Any
    replicas: list[ReplicaAnswer]


class GraphResult(NamedTuple):
    """A run's output; `trace` has its record, with what each node took, got and gave, when that was asked for."""

    output: Any
    run_id: str
    trace: Optional[GraphRun]


class Execution(NamedTuple):
    """A run's output (what `eval` returned) with the lines it printed and logged."""

    output: Any
    logs: list[LogRecord]


class PolicyCode(NamedTuple):
    """A policy's code as registered. `format`: source (text of function.py), zip, tar.xz or tar.gz."""

    content: bytes
    format: str
    digest: str


class Page(list[Record]):
    """Part of a query's results, in order; `has_more` says whether a larger `skip` would find others."""

    def __init__(self, records: Iterable[Record] = (), has_more: bool = False) -> None:
        super().__init__(records)
        self.has_more = has_more
