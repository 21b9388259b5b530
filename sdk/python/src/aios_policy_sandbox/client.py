"""A typed client for the whole API. Here: policies, executors and runs, assets, decisions and actions.

Jobs, functions and graphs have rooms of their own, which `Client` joins.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union, cast

from .api import Filter, Names, Update, path_of
from .context import Context, RemoteContext
from .errors import EdictError
from .functions import Functions
from .graphs import Graphs
from .jobs import Jobs
from .multipart import AssetSource, multipart_body
from .records import (
    ActionResult,
    Asset,
    Decision,
    Execution,
    Page,
    PolicyCode,
    PolicyExecutor,
    PolicyRule,
)
from .signing import sign_action
from .transport import Transport, encode_json, expect_json

__all__ = ["Client"]

DEFAULT_URL = "http://localhost:5000"
DEFAULT_ENGINE_URL = "http://localhost:3000"
DEFAULT_ACTIONS_URL = "http://localhost:4000"


class Client(Jobs, Functions, Graphs):
    """The API of one Edict server. Threads may share a client; each thread has its own kept connection.

    url: the policy system; `POLICY_DB_URL`, else http://localhost:5000, unless given.
    token: sent as a bearer token; `EDICT_TOKEN` unless given.
    timeout: seconds to wait without any progress, 30 unless given.
    actions_url: the action executor, http://localhost:4000 unless given.
    engine_url: the policy engine; `POLICY_ENGINE_URL`, else http://localhost:3000, unless given.

    Every method may raise ServerUnreachable (no usable reply), AccessDenied (token or role), ValidationFailed (the
    request, or a value in it, is malformed) and other EdictErrors; further ones are named where they matter.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        timeout: float = 30,
        actions_url: Optional[str] = None,
        engine_url: Optional[str] = None,
    ) -> None:
        environment = os.environ
        token = token or environment.get("EDICT_TOKEN")
        engine_url = engine_url or environment.get("POLICY_ENGINE_URL") or DEFAULT_ENGINE_URL
        self._system = Transport(url or environment.get("POLICY_DB_URL") or DEFAULT_URL, token, timeout)
        self._engine = Transport(engine_url, token, timeout)
        self._actions = Transport(actions_url or DEFAULT_ACTIONS_URL, token, timeout)

    def close(self) -> None:
        """Close all connections."""
        for transport in (self._system, self._engine, self._actions):
            transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Policies

    def create_policy(self, policy: PolicyRule, *, verify: bool = False) -> PolicyRule:
        """Register a policy; returns the record with its URI.

        verify: refuse code behind a URL that cannot be reached now. Conflict when the URI is taken.
        """
        query = {"verify": True} if verify else None
        return cast(PolicyRule, self._data("POST", "/policy", policy, query=query))

    def get_policy(self, policy_rule_uri: str) -> PolicyRule:
        """The policy's record; PolicyNotFound when there is none."""
        return cast(PolicyRule, self._data("GET", path_of("policy", policy_rule_uri)))

    def update_policy(
        self, policy_rule_uri: str, update: Union[PolicyRule, Update], *, revision: Optional[int] = None
    ) -> PolicyRule:
        """Replace a policy by a full record, or change it with operators (`{"$set": {...}}`); returns the record.

        revision: only if it is still the one given, else Conflict.
        """
        return cast(PolicyRule, self._put(path_of("policy", policy_rule_uri), update, revision))

    def delete_policy(self, policy_rule_uri: str) -> None:
        """Remove a policy; PolicyNotFound when there is none."""
        self._data("DELETE", path_of("policy", policy_rule_uri))

    def query_policies(
        self,
        filter: Optional[Filter] = None,
        *,
        limit: Optional[int] = None,
        skip: int = 0,
        sort: Names = None,
        fields: Names = None,
    ) -> Page[PolicyRule]:
        """Policies that match a Mongo-style filter (all, unless given).

        limit: at most so many, the server's default unless given. skip: leave out the first ones. sort: fields, with
        `-` in front for descending. fields: return only these.
        """
        return self._query("/policy/query", filter, limit, skip, sort, fields)

    def iter_policies(
        self, filter: Optional[Filter] = None, *, page_size: int = 100, sort: Names = "policy_rule_uri"
    ) -> Iterator[PolicyRule]:
        """All policies that match, fetched `page_size` at a time."""
        skip, more = 0, True
        while more:
            page = self.query_policies(filter, limit=page_size, skip=skip, sort=sort)
            yield from page
            skip, more = skip + len(page), page.has_more and bool(page)

    def get_policy_code(self, policy_rule_uri: str) -> PolicyCode:
        """A policy's code, as registered; not yet checked against its digest."""
        reply = self._system.request("GET", path_of("policy", policy_rule_uri, "code"))
        if reply.status != 200:
            raise reply.error()
        code_format = reply.headers.get("x-edict-code-format")
        digest = reply.headers.get("x-edict-code-digest")
        if not code_format or not digest:
            raise EdictError(
                f"{self._system.url} does not say what the code of `{policy_rule_uri}` is; "
                "see whether something on the way removes the headers x-edict-code-*",
                code="code_unlabelled",
                status=reply.status,
            )
        return PolicyCode(reply.content, code_format, digest)

    def context(self, policy_rule_uri: str) -> Context:
        """The context that the policy sees on every executor; a mapping, each operation one request."""
        return RemoteContext(self._system, path_of("policy", policy_rule_uri, "context"))

    # Executors and runs

    def create_executor(self, executor: PolicyExecutor) -> PolicyExecutor:
        """Register an executor; Conflict when its id is taken."""
        return cast(PolicyExecutor, self._data("POST", "/executor", executor))

    def get_executor(self, executor_id: str) -> PolicyExecutor:
        """The executor's record; NotFound when there is none."""
        return cast(PolicyExecutor, self._data("GET", path_of("executor", executor_id)))

    def update_executor(
        self, executor_id: str, update: Union[PolicyExecutor, Update], *, revision: Optional[int] = None
    ) -> PolicyExecutor:
        """Replace or change an executor, as `update_policy` does a policy."""
        return cast(PolicyExecutor, self._put(path_of("executor", executor_id), update, revision))

    def delete_executor(self, executor_id: str) -> None:
        """Remove an executor's record; NotFound when there is none."""
        self._data("DELETE", path_of("executor", executor_id))

    def query_executors(
        self,
        filter: Optional[Filter] = None,
        *,
        limit: Optional[int] = None,
        skip: int = 0,
        sort: Names = None,
        fields: Names = None,
    ) -> Page[PolicyExecutor]:
        """Executors that match, as `query_policies`."""
        return self._query("/executor/query", filter, limit, skip, sort, fields)

    def execute_policy(
        self,
        executor_id: str,
        policy_rule_uri: str,
        input_data: Any,
        *,
        parameters: Optional[Mapping[str, Any]] = None,
        settings: Optional[Mapping[str, Any]] = None,
    ) -> Any:
        """Run a policy statelessly on an executor (`local` is the server's own); returns what `eval` returned.

        parameters, settings: override the policy's own, key by key. PolicyFailed when it raises or breaks a limit,
        PolicyNotFound, NotFound for the executor, ValidationFailed when a value does not fit the policy's schema.
        """
        body = _run_body(policy_rule_uri, input_data, parameters, settings)
        return self._data("POST", path_of("executor", executor_id, "execute_policy"), body)

    def execute_policy_with_logs(
        self,
        executor_id: str,
        policy_rule_uri: str,
        input_data: Any,
        *,
        parameters: Optional[Mapping[str, Any]] = None,
        settings: Optional[Mapping[str, Any]] = None,
    ) -> Execution:
        """`execute_policy`, and what the run printed and logged."""
        body = _run_body(policy_rule_uri, input_data, parameters, settings)
        path = path_of("executor", executor_id, "execute_policy")
        reply = self._system.call("POST", path, query={"logs": True}, json_body=body)
        return Execution(reply["data"], reply.get("logs") or [])

    def execute_mgmt_command(
        self, executor_id: str, policy_rule_uri: str, action: str, data: Optional[Mapping[str, Any]] = None
    ) -> Any:
        """Send a management command to a policy on an executor; returns what `management` returned.

        What it changes in `self.parameters` and `self.settings` is kept for that executor. Errors as `execute_policy`.
        """
        body = {"policy_rule_uri": policy_rule_uri, "action": action, "data": dict(data or {})}
        return self._data("POST", path_of("executor", executor_id, "execute_mgmt_command"), body)

    # Assets

    def upload_asset(self, asset: AssetSource, metadata: Asset, *, file_name: Optional[str] = None) -> Asset:
        """Store a file as an asset; returns the record with its `asset_public_url`.

        asset: a path, the bytes themselves, or an open binary file (sent from where it stands).
        metadata: `asset_name`, `asset_version`, and optional `asset_metadata` and `asset_tags`.
        file_name: as stored; the path's or file's own name, else `asset`, unless given.
        Conflict when the asset's URI is taken, OSError when the file cannot be read.
        """
        with multipart_body(asset, file_name, encode_json(metadata, "metadata")) as (headers, body):
            reply = self._system.request("POST", "/upload_asset", body=body, headers=headers)
        return cast(Asset, expect_json(reply)["data"])

    def create_asset(self, asset: Asset) -> Asset:
        """Register a file that is already at a URL (`asset_public_url`)."""
        return cast(Asset, self._data("POST", "/asset", asset))

    def get_asset(self, asset_uri: str) -> Asset:
        """The asset's record; NotFound when there is none."""
        return cast(Asset, self._data("GET", path_of("asset", asset_uri)))

    def update_asset(self, asset_uri: str, update: Union[Asset, Update], *, revision: Optional[int] = None) -> Asset:
        """Replace or change an asset's record, as `update_policy` does a policy."""
        return cast(Asset, self._put(path_of("asset", asset_uri), update, revision))

    def delete_asset(self, asset_uri: str) -> None:
        """Remove an asset; NotFound when there is none."""
        self._data("DELETE", path_of("asset", asset_uri))

    def query_assets(
        self,
        filter: Optional[Filter] = None,
        *,
        limit: Optional[int] = None,
        skip: int = 0,
        sort: Names = None,
        fields: Names = None,
    ) -> Page[Asset]:
        """Assets that match, as `query_policies`."""
        return self._query("/assets", filter, limit, skip, sort, fields)

    def download_asset(self, asset_id: str) -> bytes:
        """An asset's content; NotFound when there is none."""
        reply = self._system.request("GET", path_of("asset-object", asset_id))
        if reply.status != 200:
            raise reply.error()
        return reply.content

    # Decisions and actions

    def evaluate(
        self,
        action: str,
        resource: str,
        context: Optional[Mapping[str, Any]] = None,
        *,
        type: str = "self_healing",
        explain: bool = False,
    ) -> Decision:
        """Ask the policy engine whether an action is allowed.

        context: `userId`, `role`, `roles`, `ipAddress`, `userAgent`, `metadata`, each optional.
        explain: also show every policy that was considered.
        """
        body = {"action": action, "resource": resource, "type": type, "context": dict(context or {})}
        query = {"explain": True} if explain else None
        return cast(Decision, self._engine.call("POST", "/api/v1/policy/evaluate", query=query, json_body=body))

    def execute_action(
        self,
        action_type: str,
        action_params: Mapping[str, Any],
        requested_by: str,
        *,
        policy_decision: Optional[Union[Decision, Mapping[str, Any]]] = None,
        secret: Optional[str] = None,
        fresh: bool = False,
        dry_run: bool = False,
        wait: Optional[str] = None,
    ) -> ActionResult:
        """Ask the action executor for an action; returns its answer, refusals (`success` false) included.

        secret: the server's JWT_SECRET, to sign the request with; unsigned unless given.
        fresh: sign a time (`timestamp`, seconds since 1970) and a `nonce` too, so that it works once and soon only.
        dry_run: have the cluster check the action without carrying it out; there is nothing to wait for then.
        wait: until the workload is healthy again, at most so long, for example `60s`.
        ServerUnreachable or another EdictError only when there is no answer of the action executor at all.
        """
        extra: dict[str, Any] = {}
        if fresh:
            extra = {"timestamp": int(time.time()), "nonce": secrets.token_hex(16)}
        if dry_run:
            # Signed too: whoever sees the request must not be able to make a real one of it.
            extra["dryRun"] = True
        body: dict[str, Any] = {
            "actionType": action_type,
            "actionParams": dict(action_params),
            "requestedBy": requested_by,
            **extra,
        }
        if policy_decision is not None:
            body["policyDecision"] = dict(policy_decision)
        if secret is not None:
            body["signature"] = sign_action(secret, action_type, action_params, requested_by, **extra)
        if wait is not None:
            body["wait"] = wait
        headers = {"Content-Type": "application/json"}
        reply = self._actions.request("POST", "/executor/execute", body=encode_json(body), headers=headers)
        answer = reply.json()
        # What is refused before it comes to actions (a missing token, say) has its code in an object.
        if isinstance(answer, dict) and "success" in answer and not isinstance(answer.get("error"), dict):
            return cast(ActionResult, answer)
        return cast(ActionResult, expect_json(reply))


def _run_body(
    policy_rule_uri: str,
    input_data: Any,
    parameters: Optional[Mapping[str, Any]],
    settings: Optional[Mapping[str, Any]],
) -> dict[str, Any]:
    body: dict[str, Any] = {"policy_rule_uri": policy_rule_uri, "input_data": input_data}
    if parameters:
        body["parameters"] = dict(parameters)
    if settings:
        body["settings"] = dict(settings)
    return body
