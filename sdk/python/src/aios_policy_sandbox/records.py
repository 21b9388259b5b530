"""The records of the API, as typed dictionaries with the field names that travel over the wire.

A server may add fields; dictionaries keep what these types do not name. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional, TypedDict, TypeVar, Union

__all__ = [
    "ActionResult",
    "Asset",
    "AssetFileInfo",
    "AssetVersion",
    "Decision",
    "Execution",
    "ExecutionLimits",
    "LogRecord",
    "Page",
    "PolicyCode",
    "PolicyExecutor",
    "PolicyRule",
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
    error: Any


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
