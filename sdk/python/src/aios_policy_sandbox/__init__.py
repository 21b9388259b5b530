"""Run Edict policies in your own process or on an executor, and use the whole API.

`LocalPolicyEvaluator` runs one policy; `Client` is the API; `sign_action` signs requests to the action executor.
"""

from .client import Client
from .context import Context, MemoryContext
from .errors import (
    AccessDenied,
    CodeInvalid,
    Conflict,
    EdictError,
    ManagementNotSupported,
    NotFound,
    PolicyFailed,
    PolicyNotFound,
    RequirementsFailed,
    ServerUnreachable,
    TooManyRequests,
    ValidationFailed,
)
from .evaluator import LocalPolicyEvaluator
from .records import (
    ActionResult,
    Asset,
    AssetFileInfo,
    AssetVersion,
    Decision,
    Execution,
    ExecutionLimits,
    LogRecord,
    Page,
    PolicyCode,
    PolicyExecutor,
    PolicyRule,
)
from .signing import sign_action

__all__ = [
    "AccessDenied",
    "ActionResult",
    "Asset",
    "AssetFileInfo",
    "AssetVersion",
    "Client",
    "CodeInvalid",
    "Conflict",
    "Context",
    "Decision",
    "EdictError",
    "Execution",
    "ExecutionLimits",
    "LocalPolicyEvaluator",
    "LogRecord",
    "ManagementNotSupported",
    "MemoryContext",
    "NotFound",
    "Page",
    "PolicyCode",
    "PolicyExecutor",
    "PolicyFailed",
    "PolicyNotFound",
    "PolicyRule",
    "RequirementsFailed",
    "ServerUnreachable",
    "TooManyRequests",
    "ValidationFailed",
    "sign_action",
]
