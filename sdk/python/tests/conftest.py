from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import threading
import uuid
from urllib.parse import unquote, urlsplit

import pytest

from aios_policy_sandbox import Client, PolicyNotFound

URL = os.environ.get("EDICT_TEST_URL")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """No test sees the machine's cache, servers or tokens."""
    monkeypatch.setenv("EDICT_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("POLICY_DB_URL", "POLICY_ENGINE_URL", "EDICT_TOKEN"):
        monkeypatch.delenv(name, raising=False)


class FakeServer(http.server.ThreadingHTTPServer):
    """Speaks as much of the policy system as local mode needs; `answers` overrides any path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = []
        self.connections = 0
        self.policies = {}
        self.codes = {}
        self.contexts = {}
        self.answers = {}

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        """A client that goes away in the middle of a request is what some tests are about."""

    def add_policy(self, uri, content, code_format="source", *, digest=None, **record):
        content = content.encode() if isinstance(content, str) else content
        digest = digest or hashlib.sha256(content).hexdigest()
        self.policies[uri] = {"policy_rule_uri": uri, "code_digest": digest, **record}
        self.codes[uri] = (content, {"x-edict-code-format": code_format, "x-edict-code-digest": digest})
        return uri

    def paths(self):
        return [f"{request['method']} {request['path']}" for request in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.server.requests.append(
            {"method": self.command, "path": parts.path, "query": parts.query, "headers": self.headers, "body": body}
        )
        status, headers, content = self.answer(unquote(parts.path), body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def answer(self, path, body):
        if path in self.server.answers:
            answer = self.server.answers[path]
            return answer(body) if callable(answer) else answer
        _, room, uri, *rest = path.split("/")
        if room != "policy" or uri not in self.server.policies:
            return reply(404, error=("policy_not_found", f"there is no policy `{uri}`"))
        if rest == ["code"]:
            content, headers = self.server.codes[uri]
            return 200, headers, content
        if rest == ["context"]:
            return reply(200, context_operation(self.server.contexts.setdefault(uri, {}), json.loads(body)))
        return reply(200, self.server.policies[uri])

    def log_message(self, *args):
        pass


def reply(status, data=None, error=None, headers=None, **more):
    if error:
        code, message, *details = error
        value = {"success": False, "message": message}
        value["error"] = {"code": code, "details": details[0] if details else None}
    else:
        value = {"success": True, "data": data, **more}
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode()


def context_operation(entries, request):
    op, key = request["op"], request.get("key")
    if op == "get":
        return {"found": key in entries, "value": entries.get(key)}
    if op == "set":
        entries[key] = request["value"]
    elif op == "delete":
        return {"found": entries.pop(key, None) is not None}
    elif op == "pop":
        return {"found": key in entries, "value": entries.pop(key, None)}
    elif op == "set_default":
        return entries.setdefault(key, request["value"])
    elif op == "incr":
        entries[key] = entries.get(key, 0) + request["by"]
        return entries[key]
    elif op == "keys":
        return sorted(entries)
    elif op == "items":
        return dict(sorted(entries.items()))
    elif op == "len":
        return len(entries)
    elif op == "clear":
        entries.clear()
    elif op == "update":
        entries.update(request["entries"])
    return None


@pytest.fixture
def server():
    fake = FakeServer()
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield fake
    fake.shutdown()
    fake.server_close()


# Of tests marked `server`: against a real one, named by EDICT_TEST_URL (with EDICT_TEST_TOKEN when it asks for one).


@pytest.fixture(scope="session")
def url():
    if URL is None:
        if os.environ.get("CI"):
            pytest.fail("EDICT_TEST_URL is not set; start `edict serve` and name its URL")
        pytest.skip("EDICT_TEST_URL is not set")
    return URL


@pytest.fixture
def client(url, monkeypatch):
    monkeypatch.setenv("POLICY_DB_URL", url)
    if os.environ.get("EDICT_TEST_TOKEN"):
        monkeypatch.setenv("EDICT_TOKEN", os.environ["EDICT_TEST_TOKEN"])
    with Client() as client:
        yield client


@pytest.fixture
def register(client):
    """Registers policies under names that no other run of these tests uses; removes them afterwards."""
    uris = []

    def register(code, **fields):
        record = {"name": f"sdk_{uuid.uuid4().hex}", "version": "1.0", "release_tag": "beta", "code": code, **fields}
        uris.append(client.create_policy(record)["policy_rule_uri"])
        return uris[-1]

    yield register
    for uri in uris:
        with contextlib.suppress(PolicyNotFound):
            client.delete_policy(uri)
