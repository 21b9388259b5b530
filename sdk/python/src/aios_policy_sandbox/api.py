"""What the rooms of the client share: sending requests to the policy system, pages, paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union
from urllib.parse import quote

from .records import Page
from .transport import Query, Transport

__all__ = ["LONGEST_WAIT", "Api", "Filter", "Names", "Update", "given", "path_of", "seconds"]

Filter = Mapping[str, Any]
Update = Mapping[str, Any]
Names = Union[str, Sequence[str], None]

LONGEST_WAIT = 30.0
"""Seconds that one request waits for a record: short enough for proxies that cut what is silent for a minute."""


class Api:
    """Requests to one policy system."""

    _system: Transport

    def _data(self, method: str, path: str, body: Any = None, *, query: Optional[Query] = None) -> Any:
        reply = self._system.call(method, path, query=query, json_body=body)
        return reply.get("data") if isinstance(reply, dict) else None

    def _put(self, path: str, update: Any, revision: Optional[int]) -> Any:
        headers = {} if revision is None else {"If-Match": str(revision)}
        return self._system.call("PUT", path, json_body=update, headers=headers)["data"]

    def _query(
        self, path: str, filter: Optional[Filter], limit: Optional[int], skip: int, sort: Names, fields: Names
    ) -> Page[Any]:
        query = {"limit": limit, "skip": skip or None, "sort": _joined(sort), "fields": _joined(fields)}
        reply = self._system.call("POST", path, query=query, json_body=dict(filter or {}))
        return Page(reply["data"], bool(reply.get("has_more")))

    def _get_waiting(self, path: str, wait: Optional[float]) -> Any:
        """Reads a record; the server may take `wait` seconds for it, on top of the transport's patience."""
        query = {"wait": seconds(wait)} if wait else None
        return self._system.call("GET", path, query=query, patience=wait or 0)["data"]


def path_of(*segments: str) -> str:
    """The path of a record; ValueError for a name that would make it another path."""
    for segment in segments:
        if not segment or segment in (".", ".."):
            raise ValueError(f"`{segment}` names no record; give its full URI or id")
    return "".join("/" + quote(segment, safe=":@") for segment in segments)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def seconds(number: float) -> str:
    """A duration as the API writes it, never in the exponential form of small floats."""
    return f"{number:.3f}".rstrip("0").rstrip(".") + "s"


def _joined(names: Names) -> Optional[str]:
    return names if names is None or isinstance(names, str) else ",".join(names)
