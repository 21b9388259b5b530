"""The context a policy gets: a mapping that outlives a call, shared by all that run the policy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Optional, Union

from .transport import Transport

__all__ = ["Context", "MemoryContext", "RemoteContext"]

Number = Union[int, float]
_MISSING: Any = object()


class Context(MutableMapping[str, Any]):
    """A mutable mapping from strings to JSON values; each operation is atomic.

    Values are copied in and out: to change a list that is in it, store the new one. TypeError for a key that is
    not a string, TypeError or ValueError for a value that JSON cannot hold. Operations are what `_call` takes: the
    policy system's context API, so that both kinds of context behave alike.
    """

    def _call(self, op: str, **arguments: Any) -> Any:
        raise NotImplementedError

    def set(self, key: str, value: Any, ttl: Optional[float] = None) -> None:
        """Store a value; after `ttl` seconds (never, by default) the entry is gone. ValueError unless ttl > 0."""
        if ttl is not None and not ttl > 0:
            raise ValueError(f"ttl is `{ttl}`; it must be a number of seconds above 0")
        timed = {} if ttl is None else {"ttl_seconds": ttl}
        self._call("set", key=_text(key), value=_json(value), **timed)

    def incr(self, key: str, by: Number = 1) -> Number:
        """Add to a number, 0 if there is none, and return the sum; keeps the entry's time to live.

        An error (TypeError here, ValidationFailed from a server) when the entry is not a number.
        """
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            raise TypeError(f"by is `{by!r}`; it must be a number")
        total: Number = self._call("incr", key=_text(key), by=by)
        return total

    def __getitem__(self, key: str) -> Any:
        found = self._call("get", key=_text(key))
        if not found["found"]:
            raise KeyError(key)
        return found["value"]

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self._call("delete", key=_text(key))["found"]:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._call("keys"))

    def __len__(self) -> int:
        length: int = self._call("len")
        return length

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._call("get", key=key)["found"])

    def items(self) -> Any:
        """Every entry at one moment, as a dictionary's items."""
        return self._call("items").items()

    def values(self) -> Any:
        """Every value at one moment, as a dictionary's values."""
        return self._call("items").values()

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove an entry and return its value, or `default`; KeyError without one. One caller only gets it."""
        found = self._call("pop", key=_text(key))
        if found["found"]:
            return found["value"]
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Remove an entry and return it; KeyError when there is none."""
        for key in self:
            value = self.pop(key, _MISSING)
            if value is not _MISSING:
                return key, value
        raise KeyError("the context is empty")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The entry's value, after storing `default` if there was none."""
        return self._call("set_default", key=_text(key), value=_json(default))

    def update(self, other: Any = (), /, **entries: Any) -> None:
        """Store several entries, all at the same moment."""
        merged = {**dict(other), **entries}
        self._call("update", entries={_text(key): _json(value) for key, value in merged.items()})

    def clear(self) -> None:
        """Remove every entry."""
        self._call("clear")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class RemoteContext(Context):
    """The context of a registered policy, kept by the policy system; each operation is one request.

    path: of the policy's context on that server. Operations raise EdictError as the server answers.
    """

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._path = path

    def _call(self, op: str, **arguments: Any) -> Any:
        return self._transport.call("POST", self._path, json_body={"op": op, **arguments})["data"]


class MemoryContext(Context):
    """A context in this process's memory; gone with it. Threads may share it.

    clock: seconds that only ever grow, for times to live.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Reentrant: the garbage collector may run a destructor that uses the context in the middle of an operation.
        self._lock = threading.RLock()
        # JSON text, so that values are copied in and out as they are with a server.
        self._values: dict[str, str] = {}
        self._deadlines: dict[str, float] = {}

    def _call(self, op: str, **arguments: Any) -> Any:
        with self._lock:
            self._drop_expired()
            return getattr(self, f"_{op}")(**arguments)

    def _drop_expired(self) -> None:
        now = self._clock()
        for key in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            self._delete(key)

    def _get(self, key: str) -> Mapping[str, Any]:
        text = self._values.get(key)
        return {"found": text is not None, "value": None if text is None else json.loads(text)}

    def _set(self, key: str, value: Any, ttl_seconds: Optional[float] = None) -> None:
        self._values[key] = json.dumps(value)
        self._deadlines.pop(key, None)
        if ttl_seconds is not None:
            self._deadlines[key] = self._clock() + ttl_seconds

    def _delete(self, key: str) -> Mapping[str, Any]:
        self._deadlines.pop(key, None)
        return {"found": self._values.pop(key, None) is not None}

    def _pop(self, key: str) -> Mapping[str, Any]:
        found = self._get(key)
        self._delete(key)
        return found

    def _set_default(self, key: str, value: Any) -> Any:
        if key not in self._values:
            self._set(key, value)
        return self._get(key)["value"]

    def _incr(self, key: str, by: Number) -> Number:
        old = json.loads(self._values.get(key, "0"))
        if isinstance(old, bool) or not isinstance(old, (int, float)):
            raise TypeError(f"the entry `{key}` is not a number; incr needs one")
        self._values[key] = json.dumps(_json(old + by))
        total: Number = old + by
        return total

    def _keys(self) -> Iterable[str]:
        return sorted(self._values)

    def _items(self) -> Mapping[str, Any]:
        return {key: json.loads(self._values[key]) for key in sorted(self._values)}

    def _len(self) -> int:
        return len(self._values)

    def _clear(self) -> None:
        self._values.clear()
        self._deadlines.clear()

    def _update(self, entries: Mapping[str, Any]) -> None:
        for key, value in entries.items():
            self._set(key, value)


def _text(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key is `{key!r}`; keys of a context are strings")
    return key


def _json(value: Any) -> Any:
    """The value itself, once it is sure that JSON can hold it; TypeError or ValueError otherwise."""
    json.dumps(value, allow_nan=False)
    return value
