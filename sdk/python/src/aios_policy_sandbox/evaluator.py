"""Running a policy from Python: in this process, or on an executor."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, Protocol, Union

from .bundle import cached_code, code_root, store_code
from .client import Client
from .context import Context, MemoryContext
from .errors import CodeInvalid, EdictError, ManagementNotSupported
from .namespace import PolicyNamespace
from .records import PolicyRule
from .requirements import install_requirements

__all__ = ["LocalPolicyEvaluator"]

Values = Mapping[str, Any]

_CLASS = "AIOSv1PolicyRule"


class LocalPolicyEvaluator:
    """A policy ready to run, in this process (`mode="local"`) or on an executor (`mode="remote"`).

    policy_rule_uri: the registered policy, for example `ip_allowlist:1.0-beta`; with `custom_class` only a name.
    settings, parameters: override the policy's own, key by key at the top level. Any Python objects in local mode,
        JSON values in remote mode.
    executor_id: which executor runs it in remote mode; `local`, the server's own, unless given.
    custom_class: run this class in local mode instead of a registered one; no server is contacted.
    policy_system_url: the server; `POLICY_DB_URL`, else http://localhost:5000, unless given.
    token: for a server that asks for one; `EDICT_TOKEN` unless given.
    timeout: seconds to wait for the server without any progress, 60 unless given; longer for policies that may
        run longer remotely. A local run has no limit.

    Local mode loads the policy here, at once, and keeps one instance: its state lasts from call to call. Nothing is
    validated against the policy's schemas, and the exceptions of its code propagate as they are. Calls from several
    threads run at the same time, in the one instance.

    Raises ValueError for arguments that make no sense; in local mode PolicyNotFound, CodeInvalid,
    RequirementsFailed, ServerUnreachable and what the policy's own module and constructor raise.
    """

    _backend: _Backend
    _run: Callable[[Any], Any]
    _finish: weakref.finalize[Any, Any]

    def __init__(
        self,
        policy_rule_uri: Optional[str] = None,
        settings: Optional[Values] = None,
        parameters: Optional[Values] = None,
        mode: str = "local",
        executor_id: Optional[str] = None,
        custom_class: Optional[Callable[..., Any]] = None,
        policy_system_url: Optional[str] = None,
        token: Optional[str] = None,
        timeout: float = 60,
    ) -> None:
        if mode not in ("local", "remote"):
            raise ValueError(f'mode is `{mode}`; it must be "local" or "remote"')
        if custom_class is not None and mode == "remote":
            raise ValueError('custom_class runs in this process only; use mode="local", or register the policy')
        if policy_rule_uri is None and custom_class is None:
            raise ValueError("name a registered policy with policy_rule_uri=, or give a class with custom_class=")
        if custom_class is not None:
            name = policy_rule_uri or str(getattr(custom_class, "__name__", "custom"))
            self._use(_Instance(custom_class, name, settings, parameters, MemoryContext()))
            return
        client = Client(policy_system_url, token, timeout)
        uri = str(policy_rule_uri)
        if mode == "remote":
            self._use(_Remote(client, executor_id or "local", uri, settings, parameters))
        else:
            self._use(_registered(client, uri, settings, parameters))

    @classmethod
    def from_folder(
        cls,
        folder: Union[str, Path],
        settings: Optional[Values] = None,
        parameters: Optional[Values] = None,
        rule_id: Optional[str] = None,
    ) -> LocalPolicyEvaluator:
        """Load a policy from `folder/code/function.py` (or `folder/function.py`), as its tests do; no server.

        settings, parameters: all there are; a `policy.yaml` is not read. rule_id: the folder's name unless given.
        Requirements are installed as for a registered policy. Raises CodeInvalid, RequirementsFailed.
        """
        folder = Path(folder).resolve()
        evaluator = cls.__new__(cls)
        evaluator._use(_loaded(folder, rule_id or folder.name, settings, parameters, MemoryContext()))
        return evaluator

    def execute_policy_rule(self, input_data: Any) -> Any:
        """What the policy's `eval` returns for this input: any Python object in local mode, JSON in remote mode.

        In remote mode PolicyFailed when it raised, ValidationFailed when the input does not fit the policy's
        schema or JSON, and the other errors of `Client.execute_policy`.
        """
        return self._run(input_data)

    def execute_mgmt_command(self, action: str, data: Optional[Values] = None) -> Any:
        """What the policy's `management` returns for this action and data (empty unless given).

        In local mode it reaches this evaluator's instance; in remote mode what it changes in `self.parameters` or
        `self.settings` is kept for that executor. ManagementNotSupported when a local policy has no `management`.
        """
        return self._backend.manage(action, {} if data is None else data)

    @property
    def instance(self) -> Any:
        """The policy's live object in local mode; None in remote mode, and when closed."""
        return getattr(self._backend, "instance", None)

    def close(self) -> None:
        """Let go of the instance, its modules and connections; calls raise afterwards. Closing twice is fine."""
        self._finish()
        self._backend = _Closed()
        self._run = self._backend.run

    def __enter__(self) -> LocalPolicyEvaluator:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def _use(self, backend: _Backend) -> None:
        self._backend = backend
        # Bound once: this is the whole of what a local call costs over calling `eval` itself.
        self._run = backend.run
        # An evaluator that is dropped without `close` must not leave its modules behind.
        self._finish = weakref.finalize(self, backend.close)
        self._finish.atexit = False


class _Backend(Protocol):
    """Where a policy runs."""

    def run(self, input_data: Any) -> Any: ...

    def manage(self, action: str, data: Values) -> Any: ...

    def close(self) -> None: ...


class _Instance:
    """A live object of a policy class in this process."""

    def __init__(
        self,
        policy_class: Callable[..., Any],
        rule_id: str,
        settings: Optional[Values],
        parameters: Optional[Values],
        context: Context,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        # Copies: management commands change them, and must not reach into the caller's own.
        self._parameters = dict(parameters or {})
        self._context = context
        self.close = close
        self.instance = policy_class(rule_id, dict(settings or {}), self._parameters)

    def run(self, input_data: Any) -> Any:
        # A management command may have put a new dictionary into `self.parameters`; from then on that one counts.
        instance = self.instance
        live = getattr(instance, "parameters", None)
        parameters = live if isinstance(live, dict) else self._parameters
        return instance.eval(parameters, input_data, self._context)

    def manage(self, action: str, data: Values) -> Any:
        management = getattr(self.instance, "management", None)
        if management is None:
            raise ManagementNotSupported(
                f"the policy takes no management command, so not `{action}` either; "
                "define management(self, action, data) in its class"
            )
        return management(action, data)


class _Remote:
    """A policy on an executor."""

    def __init__(
        self,
        client: Client,
        executor_id: str,
        uri: str,
        settings: Optional[Values],
        parameters: Optional[Values],
    ) -> None:
        self._client = client
        self._executor_id = executor_id
        self._uri = uri
        self._settings = settings or None
        self._parameters = parameters or None
        self.close = client.close

    def run(self, input_data: Any) -> Any:
        return self._client.execute_policy(
            self._executor_id, self._uri, input_data, parameters=self._parameters, settings=self._settings
        )

    def manage(self, action: str, data: Values) -> Any:
        return self._client.execute_mgmt_command(self._executor_id, self._uri, action, data)


class _Closed:
    """What an evaluator is after `close`."""

    def run(self, input_data: Any) -> Any:
        raise EdictError("the evaluator was closed; make a new one", code="evaluator_closed")

    def manage(self, action: str, data: Values) -> Any:
        return self.run(None)

    def close(self) -> None:
        pass


def _registered(client: Client, uri: str, settings: Optional[Values], parameters: Optional[Values]) -> _Instance:
    try:
        policy, folder = _fetch(client, uri)
        return _loaded(
            folder,
            policy.get("policy_rule_uri") or uri,
            {**(policy.get("policy_settings") or {}), **(settings or {})},
            {**(policy.get("policy_parameters") or {}), **(parameters or {})},
            client.context(uri),
            client.close,
        )
    except BaseException:
        client.close()
        raise


def _fetch(client: Client, uri: str) -> tuple[PolicyRule, Path]:
    """The policy's record, and the folder with the code that belongs to it."""
    for _ in range(3):
        policy = client.get_policy(uri)
        digest = policy.get("code_digest")
        folder = cached_code(digest) if digest else None
        if folder is not None:
            return policy, folder
        code = client.get_policy_code(uri)
        # The policy may have been updated between the two requests: its settings are for that other code then.
        if digest is None or digest == code.digest:
            return policy, store_code(code)
    raise CodeInvalid(f"the code of `{uri}` does not match its record; see whether something keeps updating it")


def _loaded(
    folder: Path,
    rule_id: str,
    settings: Optional[Values],
    parameters: Optional[Values],
    context: Context,
    close: Callable[[], None] = lambda: None,
) -> _Instance:
    root = code_root(folder)
    requirements = root / "requirements.txt"
    installed = install_requirements(requirements) if requirements.is_file() else None
    namespace = PolicyNamespace(root, installed)

    def close_all() -> None:
        namespace.close()
        close()

    try:
        policy_class = getattr(namespace.load("function"), _CLASS, None)
        if policy_class is None:
            raise CodeInvalid(f"function.py of `{rule_id}` defines no class `{_CLASS}`; name the policy's class so")
        return _Instance(policy_class, rule_id, settings, parameters, context, close_all)
    except BaseException:
        namespace.close()
        raise
