"""What can go wrong: one base class, and a class for each thing a caller may want to catch by itself."""

from __future__ import annotations

from typing import Any, Optional

__all__ = [
    "AccessDenied",
    "CodeInvalid",
    "Conflict",
    "EdictError",
    "FunctionFailed",
    "GraphFailed",
    "ManagementNotSupported",
    "NotFound",
    "PolicyFailed",
    "PolicyNotFound",
    "RequirementsFailed",
    "ServerUnreachable",
    "TooManyRequests",
    "Unavailable",
    "ValidationFailed",
    "WaitTimedOut",
    "error_from_reply",
]


class EdictError(Exception):
    """Base of every error of this package.

    code: stable name of what happened, for programs, for example `policy_not_found`.
    message: what is wrong and what to do, for people.
    details: more about it as JSON values, or None.
    status: HTTP status of the server's reply, None when no reply was involved.
    request_id: the reply's `x-request-id`, which is also in the server's logs, or None.
    """

    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        details: Any = None,
        status: Optional[int] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details = details
        self.status = status
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class ServerUnreachable(EdictError):
    """No usable reply: nothing listens there, the name is unknown, the connection broke, or time ran out."""

    default_code = "server_unreachable"


class NotFound(EdictError):
    """The server has no such record."""

    default_code = "not_found"


class PolicyNotFound(NotFound):
    """No policy is registered under that URI."""

    default_code = "policy_not_found"


class ValidationFailed(EdictError):
    """A request is malformed, or a value does not fit its schema; `details` names each fault."""

    default_code = "validation_failed"


class Conflict(EdictError):
    """The record exists already, or it changed since the revision that was given."""

    default_code = "conflict"


class AccessDenied(EdictError):
    """The token is missing, unknown, or its role does not allow the request."""

    default_code = "access_denied"


class TooManyRequests(EdictError):
    """The server asks for a pause; `retry_after` says how many seconds, or is None when it does not say."""

    default_code = "too_many_requests"
    retry_after: Optional[float] = None


class Unavailable(EdictError):
    """What the request needs is not up right now: no replica of the function is ready, the database is away."""

    default_code = "unavailable"


class WaitTimedOut(EdictError, TimeoutError):
    """What was waited for has not happened in time; it may still happen."""

    default_code = "wait_timed_out"


class FunctionFailed(EdictError):
    """A function's replicas do not start, or end; `code` and `message` say why."""

    default_code = "function_failed"


class GraphFailed(EdictError):
    """A graph's run failed: a node did, time ran out, or the output does not fit. Its nodes are in its record."""

    default_code = "graph_failed"

    @property
    def run_id(self) -> Optional[str]:
        """Finds the run's record."""
        return self._detail("run_id")

    @property
    def node(self) -> Optional[str]:
        """The function at fault, None when it was no single one."""
        return self._detail("node")

    def _detail(self, name: str) -> Optional[str]:
        value = self.details.get(name) if isinstance(self.details, dict) else None
        return None if value is None else str(value)


class PolicyFailed(EdictError):
    """The policy raised, returned something unusable, or ran into a limit on its executor."""

    default_code = "policy_failed"

    @property
    def exception_type(self) -> Optional[str]:
        """Name of the Python exception's class, None when it was not an exception."""
        return self._detail("type")

    @property
    def traceback(self) -> Optional[str]:
        """The remote traceback, limited to the policy's own frames; None when there is none."""
        return self._detail("traceback")

    def _detail(self, name: str) -> Optional[str]:
        value = self.details.get(name) if isinstance(self.details, dict) else None
        if isinstance(value, list):
            return "".join(str(line) for line in value)
        return None if value is None else str(value)

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.traceback.rstrip()}" if self.traceback else super().__str__()


class CodeInvalid(EdictError):
    """A policy's code cannot be used: wrong digest, broken or hostile archive, no `AIOSv1PolicyRule`."""

    default_code = "code_invalid"


class RequirementsFailed(EdictError):
    """A policy's requirements could not be installed; the message ends with the installer's last lines."""

    default_code = "requirements_failed"


class ManagementNotSupported(EdictError):
    """The policy has no `management` method."""

    default_code = "management_not_supported"


_BY_STATUS = {
    400: ValidationFailed,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: ValidationFailed,
    422: ValidationFailed,
    429: TooManyRequests,
    503: Unavailable,
}

_OF_GRAPHS = ("node_failed", "node_timeout", "graph_timeout", "graph_output_invalid")


def error_from_reply(
    status: int, body: Any, *, request_id: Optional[str] = None, retry_after: Optional[str] = None
) -> EdictError:
    """The exception for an error reply.

    body: the reply's JSON, or its text when it was not JSON (a proxy's page, for example).
    """
    fields = body if isinstance(body, dict) else {}
    error = fields.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    kind = _class_for(status, code)
    made = kind(
        _message_of(status, body, fields, error),
        code=code if isinstance(code, str) else None,
        details=details,
        status=status,
        request_id=request_id,
    )
    if isinstance(made, TooManyRequests) and retry_after is not None:
        # The header may also hold a date; then the caller decides how long to wait.
        made.retry_after = float(retry_after) if retry_after.isdigit() else None
    return made


def _class_for(status: int, code: Any) -> type[EdictError]:
    if code == PolicyNotFound.default_code:
        return PolicyNotFound
    if code in _OF_GRAPHS:
        return GraphFailed
    if status in (502, 504) and isinstance(code, str) and code.startswith("policy_"):
        return PolicyFailed
    return _BY_STATUS.get(status, EdictError)


def _message_of(status: int, body: Any, fields: dict[str, Any], error: Any) -> str:
    for candidate in (fields.get("message"), error, fields.get("reason")):
        if isinstance(candidate, str) and candidate:
            return candidate
    text = body.strip()[:200] if isinstance(body, str) else ""
    return text or f"the server answered with status {status} and no message"
