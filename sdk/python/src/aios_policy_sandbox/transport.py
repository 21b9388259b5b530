"""HTTP with kept connections, one per thread and server, on the standard library alone."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional, Union
from urllib.parse import urlencode, urlsplit

from .errors import EdictError, ServerUnreachable, ValidationFailed, error_from_reply

__all__ = ["Query", "Reply", "Transport", "encode_json", "expect_json"]

Body = Union[bytes, Iterable[bytes]]
Query = Mapping[str, Optional[Union[str, int, bool]]]


class Reply(NamedTuple):
    """A reply that was read to its end; header names are looked up in any case."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    def json(self) -> Any:
        """The content as JSON; its text when it is not JSON, None when it is empty."""
        if not self.content:
            return None
        try:
            return json.loads(self.content)
        except ValueError:
            return self.content.decode("utf-8", "replace")

    def error(self) -> EdictError:
        """The exception that this reply, one with an error status, stands for."""
        return error_from_reply(
            self.status,
            self.json(),
            request_id=self.headers.get("x-request-id"),
            retry_after=self.headers.get("retry-after"),
        )


def encode_json(value: Any, what: str = "the request") -> bytes:
    """`value` as JSON bytes; ValidationFailed, naming `what`, for what JSON cannot hold (NaN too)."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValidationFailed(
            f'{what} cannot be sent as JSON: {error}; send plain values, or run the policy with mode="local"',
            code="not_json",
        ) from error


class _Kept:
    """A thread's open connection, and the process it was opened in; closed when nothing refers to it."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        self.process = os.getpid()

    def __del__(self) -> None:
        self.connection.close()


class Transport:
    """Requests to one server. Threads may share it: each has its own connection.

    url: `http://host:port`, https and a path in front allowed; ValueError for anything else.
    token: sent as `Authorization: Bearer`, unless None or empty.
    timeout: seconds without any progress before a request is given up.
    """

    def __init__(self, url: str, token: Optional[str] = None, timeout: float = 30) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{url}` is not a server's URL; write it like http://localhost:5000")
        self.url = url.rstrip("/")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._local = threading.local()
        # Weak, so that the connection of a thread that ended is closed with it.
        self._open: weakref.WeakSet[_Kept] = weakref.WeakSet()
        # Reentrant: the garbage collector may close this transport while one of its threads holds the lock.
        self._lock = threading.RLock()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Optional[Query] = None,
        body: Optional[Body] = None,
        headers: Optional[Mapping[str, str]] = None,
        patience: float = 0,
    ) -> Reply:
        """Send a request and read the whole reply, whatever its status.

        patience: seconds on top of the timeout, for requests that are asked to take so long.

        Raises ServerUnreachable when there is no complete reply. A request that may have reached the server is
        never sent again: it could be carried out twice.
        """
        target = self._prefix + path + _query_text(query)
        kept = self._connection(self._timeout + patience)
        connection = kept.connection
        try:
            connection.request(method, target, body=body, headers={**self._headers, **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            self._forget(kept)
            raise self._unreachable(error, self._timeout + patience) from error
        except BaseException:
            # The rest of an interrupted exchange must not be taken for the reply to the next request.
            self._forget(kept)
            raise

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Optional[Query] = None,
        json_body: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        patience: float = 0,
    ) -> Any:
        """Send JSON, return the reply's JSON; raises the EdictError that an error reply stands for."""
        body = None if json_body is None else encode_json(json_body)
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        return expect_json(self.request(method, path, query=query, body=body, headers=sent, patience=patience))

    def close(self) -> None:
        """Close the connections of all threads; a later request opens a new one."""
        with self._lock:
            for kept in list(self._open):
                kept.connection.close()

    def _connection(self, timeout: float) -> _Kept:
        kept: Optional[_Kept] = getattr(self._local, "kept", None)
        if kept is not None:
            # After a fork both processes hold the same socket, and would read each other's replies.
            if kept.process == os.getpid() and not _was_closed(kept.connection):
                _allow(kept.connection, timeout)
                return kept
            self._forget(kept)
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        kept = _Kept(kind(self._host, self._port, timeout=timeout))
        self._local.kept = kept
        with self._lock:
            self._open.add(kept)
        return kept

    def _forget(self, kept: _Kept) -> None:
        self._local.kept = None
        with self._lock:
            self._open.discard(kept)
        kept.connection.close()

    def _unreachable(self, error: Exception, timeout: float) -> ServerUnreachable:
        if isinstance(error, socket.timeout):
            return ServerUnreachable(
                f"no answer from {self.url} within {timeout:g} s; "
                "see whether it is overloaded, or pass a longer timeout",
                code="request_timed_out",
            )
        reason = str(error) or type(error).__name__
        return ServerUnreachable(
            f"cannot reach {self.url}: {reason}; start the server with `edict serve`, "
            "or name the right one with policy_system_url= or POLICY_DB_URL"
        )


def expect_json(reply: Reply) -> Any:
    """The JSON of a reply with a good status; raises its EdictError otherwise."""
    if reply.status >= 300:
        raise reply.error()
    value = reply.json()
    if reply.content and isinstance(value, str):
        raise ServerUnreachable(
            "the answer is not JSON; see whether the URL is that of an Edict server", status=reply.status
        )
    return value


def _query_text(query: Optional[Query]) -> str:
    pairs = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (query or {}).items()
        if value is not None
    }
    return f"?{urlencode(pairs)}" if pairs else ""


def _allow(connection: http.client.HTTPConnection, timeout: float) -> None:
    """Gives a kept connection the patience of its next request."""
    if connection.timeout != timeout:
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)


def _was_closed(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection has something to read: the end of the stream, as nothing was asked.

    Noticing it before sending is what allows never to repeat a request: a server that closes idle
    connections costs no error.
    """
    sock: Optional[socket.socket] = connection.sock
    if sock is None:
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])
