"""Functions (Type 4): policies deployed as long-lived services."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional, cast

from .api import LONGEST_WAIT, Api, Filter, Names, Update, given, path_of
from .errors import FunctionFailed, WaitTimedOut
from .records import Alloc, Autoscaling, Function, FunctionLog, Managed, Page
from .transport import encode_json, expect_json

__all__ = ["Functions"]

JSON = {"Content-Type": "application/json"}


class Functions(Api):
    """The requests on functions."""

    def deploy_function(
        self,
        name: str,
        policy_rule_uri: str,
        *,
        executor_id: Optional[str] = None,
        parameters: Optional[Mapping[str, Any]] = None,
        settings: Optional[Mapping[str, Any]] = None,
        replicas: Optional[int] = None,
        autoscaling: Optional[Autoscaling] = None,
        node_selector: Optional[Mapping[str, str]] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        tags: Optional[Sequence[str]] = None,
        alloc: Optional[Alloc] = None,
    ) -> Function:
        """Deploy a policy as a function; returns its record, while its replicas still start (see `wait_function`).

        executor_id: where; an allocator chooses unless given. alloc: which one, when not the server's default.
        parameters, settings: override the policy's own, key by key.
        replicas: how many copies; autoscaling: how their number follows the load, not at all unless given.
        node_selector: labels that the executor's node must have. metadata, tags: yours, kept with it.

        Conflict when the name is taken, PolicyNotFound, NotFound for the executor, ValidationFailed.
        """
        body = given(
            name=name,
            policy_rule_uri=policy_rule_uri,
            policy_rule_parameters=parameters,
            policy_rule_settings=settings,
            replicas=replicas,
            autoscaling=autoscaling,
            node_selector=node_selector,
            function_metadata=metadata,
            function_tags=None if tags is None else list(tags),
            alloc=alloc,
        )
        create = ("function", "deployments", "create")
        path = path_of(*create) if executor_id is None else path_of(*create, executor_id)
        return cast(Function, self._data("POST", path, body))

    def update_function(self, name: str, update: Update, *, revision: Optional[int] = None) -> Function:
        """Change a function; returns the record, while its replicas follow one by one, without failing a call.

        update: some fields of a deployment (`{"replicas": 3}`; None takes a field away), or operators on the record
        (`{"$set": {"autoscaling.max_replicas": 5}}`). Naming `policy_rule_uri`, even the present one, takes the policy
        as it is now. revision: only if it is still the one given, else Conflict.
        """
        return cast(Function, self._put(path_of("function", "deployments", name), update, revision))

    def call_function(self, name: str, input_data: Any) -> Any:
        """Have a replica evaluate `input_data`; returns what `eval` returned.

        PolicyFailed when it raises, breaks a limit, or its replica ends in the middle; TooManyRequests when the queue
        is full; Unavailable while no replica is ready; ValidationFailed when the input does not fit the schema.
        """
        path, body = path_of("function", "call_function", name), encode_json(input_data, "the input")
        return expect_json(self._system.request("POST", path, body=body, headers=JSON))["data"]

    def manage_function(self, name: str, action: str, data: Optional[Mapping[str, Any]] = None) -> Managed:
        """Send a management command to every replica; later ones get what it changed too.

        Returns what `management` returned (`data`), and each replica's own answer.
        """
        body = {"action": action, "data": dict(data or {})}
        reply = self._system.call("POST", path_of("function", "management", name), json_body=body)
        return Managed(reply["data"], reply.get("replicas") or [])

    def get_function(self, name: str, *, wait: Optional[float] = None) -> Function:
        """The function's record, `function_status` included; NotFound when there is none.

        wait: seconds to wait until its replicas are as they should be, or fail; the record is what it is then.
        """
        return cast(Function, self._get_waiting(path_of("function", name), wait))

    def wait_function(self, name: str, timeout: float = 60) -> Function:
        """Wait until as many replicas as wanted take calls, all of the current revision; returns the record then.

        FunctionFailed, with the reason, as soon as replicas fail; WaitTimedOut after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while True:
            left = min(LONGEST_WAIT, end - time.monotonic())
            function = self.get_function(name, wait=max(left, 0.0))
            status = function["function_status"]
            # What is told of an earlier revision says nothing about this one.
            if status["observed_revision"] >= function["revision"]:
                if status["state"] == "ready":
                    return function
                error = status.get("error")
                if error:
                    raise FunctionFailed(
                        f"function `{name}` is {status['state']}: {error['message']}",
                        code=error["code"],
                        details=error.get("details"),
                    )
            if time.monotonic() >= end:
                raise WaitTimedOut(f"function `{name}` is still {status['state']} after {timeout:g} s")

    def query_functions(
        self,
        filter: Optional[Filter] = None,
        *,
        limit: Optional[int] = None,
        skip: int = 0,
        sort: Names = None,
        fields: Names = None,
    ) -> Page[Function]:
        """Functions that match, as `query_policies`."""
        return self._query("/function/query", filter, limit, skip, sort, fields)

    def function_logs(self, name: str, *, limit: Optional[int] = None) -> list[FunctionLog]:
        """What the replicas printed and logged last, oldest first; at most `limit` lines."""
        path = path_of("function", name, "logs")
        return cast("list[FunctionLog]", self._data("GET", path, query={"limit": limit}))

    def remove_function(self, name: str) -> None:
        """Remove a function and its replicas; NotFound when there is none."""
        self._data("DELETE", path_of("function", "deployments", "remove", name))
