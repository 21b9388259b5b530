"""The client against a server that says what each test wants to hear."""

import io
import json
import os
import socket
import threading
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from conftest import reply

from aios_policy_sandbox import (
    AccessDenied,
    Client,
    Conflict,
    EdictError,
    LocalPolicyEvaluator,
    NotFound,
    PolicyFailed,
    PolicyNotFound,
    ServerUnreachable,
    TooManyRequests,
    ValidationFailed,
    sign_action,
)


@pytest.fixture
def client(server):
    with Client(server.url, token="secret", engine_url=server.url, actions_url=server.url) as client:
        yield client


def sent(server):
    request = server.requests[-1]
    return request["method"], request["path"], request["query"], json.loads(request["body"] or "null")


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (404, ("policy_not_found", "no policy"), PolicyNotFound),
        (404, ("asset_not_found", "no asset"), NotFound),
        (400, ("unknown_field", "no field"), ValidationFailed),
        (422, ("input_invalid", "no fit", [{"pointer": "/ip"}]), ValidationFailed),
        (413, ("too_large", "too large"), ValidationFailed),
        (401, ("unauthorized", "who?"), AccessDenied),
        (403, ("forbidden", "no"), AccessDenied),
        (409, ("policy_exists", "taken"), Conflict),
        (412, ("revision_moved", "moved"), Conflict),
        (502, ("policy_output_invalid", "bad output"), PolicyFailed),
        (504, ("policy_timed_out", "too slow"), PolicyFailed),
        (502, ("executor_unreachable", "gone"), EdictError),
        (500, ("internal", "broken"), EdictError),
    ],
)
def test_errors_have_their_class_code_and_details(client, server, status, error, kind):
    server.answers["/policy/p:1-a"] = reply(status, error=error, headers={"x-request-id": "r-1"})
    with pytest.raises(EdictError) as caught:
        client.get_policy("p:1-a")
    raised = caught.value
    assert type(raised) is kind
    assert (raised.code, raised.message, raised.status, raised.request_id) == (*error[:2], status, "r-1")
    assert raised.details == (error[2] if len(error) > 2 else None)
    assert str(raised) == f"{error[1]} [{error[0]}]"


def test_a_failed_policy_brings_its_traceback(server):
    details = {"type": "KeyError", "message": "'ip'", "traceback": "Traceback:\n  function.py, line 3\n"}
    server.answers["/executor/local/execute_policy"] = reply(502, error=("policy_failed", "it raised", details))
    with (
        LocalPolicyEvaluator("p:1-a", mode="remote", policy_system_url=server.url) as policy,
        pytest.raises(PolicyFailed, match=r"function\.py, line 3") as caught,
    ):
        policy.execute_policy_rule({})
    assert caught.value.exception_type == "KeyError"


@pytest.mark.parametrize(
    ("header", "seconds"), [({"Retry-After": "7"}, 7), ({"Retry-After": "Mon, 1 Jan"}, None), ({}, None)]
)
def test_retry_after(client, server, header, seconds):
    server.answers["/policy/p:1-a"] = reply(429, error=("too_many_requests", "wait"), headers=header)
    with pytest.raises(TooManyRequests) as caught:
        client.get_policy("p:1-a")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[1]", b'"text"', b'{"error": 5}', b"\xff"])
def test_error_replies_that_are_not_the_servers(client, server, body):
    server.answers["/policy/p:1-a"] = (502, {}, body)
    with pytest.raises(EdictError) as caught:
        client.get_policy("p:1-a")
    assert caught.value.status == 502
    assert caught.value.message


def test_a_page_of_something_else_is_not_taken_for_an_answer(client, server):
    server.answers["/policy/p:1-a"] = (200, {}, b"<html>Welcome</html>")
    with pytest.raises(ServerUnreachable, match="not JSON"):
        client.get_policy("p:1-a")


def test_requests_of_the_registry(client, server):
    anything = reply(200, {"ok": True})
    for path in ("/policy", "/policy/a:1-b", "/executor", "/executor/e 1/é", "/asset", "/asset/a:1-b"):
        server.answers[path] = anything
    client.create_policy({"name": "a"}, verify=True)
    assert sent(server) == ("POST", "/policy", "verify=true", {"name": "a"})
    client.update_policy("a:1-b", {"$set": {"description": "x"}}, revision=3)
    assert sent(server) == ("PUT", "/policy/a:1-b", "", {"$set": {"description": "x"}})
    assert server.requests[-1]["headers"]["If-Match"] == "3"
    client.delete_policy("a:1-b")
    assert sent(server) == ("DELETE", "/policy/a:1-b", "", None)
    client.create_executor({"executor_id": "e"})
    assert sent(server) == ("POST", "/executor", "", {"executor_id": "e"})
    client.get_executor("e 1/é")
    assert server.requests[-1]["path"] == "/executor/e%201%2F%C3%A9", "an id is one segment of the path"
    client.create_asset({"asset_name": "a"})
    assert sent(server) == ("POST", "/asset", "", {"asset_name": "a"})
    client.delete_asset("a:1-b")
    assert sent(server) == ("DELETE", "/asset/a:1-b", "", None)
    assert {request["headers"]["Authorization"] for request in server.requests} == {"Bearer secret"}


@pytest.mark.parametrize("uri", ["", ".", ".."])
def test_a_uri_cannot_become_another_path(client, server, uri):
    with pytest.raises(ValueError, match="names no record"):
        client.delete_policy(uri)
    assert server.requests == []


def test_queries_and_pages(client, server):
    server.answers["/policy/query"] = reply(200, [{"name": "a"}], has_more=True)
    page = client.query_policies({"tags": {"$regex": "x"}}, limit=1, skip=2, sort=["-name", "version"], fields="name")
    assert list(page) == [{"name": "a"}] and page.has_more
    method, path, query, body = sent(server)
    assert (method, path, body) == ("POST", "/policy/query", {"tags": {"$regex": "x"}})
    assert query == "limit=1&skip=2&sort=-name%2Cversion&fields=name"
    server.answers["/assets"] = reply(200, [])
    assert client.query_assets() == [] and not client.query_assets().has_more


def test_all_pages(client, server):
    pages = [reply(200, [{"name": "a"}, {"name": "b"}], has_more=True), reply(200, [{"name": "c"}], has_more=False)]
    server.answers["/policy/query"] = lambda body: pages.pop(0)
    assert [policy["name"] for policy in client.iter_policies(page_size=2)] == ["a", "b", "c"]
    assert [request["query"] for request in server.requests] == [
        "limit=2&sort=policy_rule_uri",
        "limit=2&skip=2&sort=policy_rule_uri",
    ]


def test_remote_mode(server):
    server.answers["/executor/executor-123/execute_policy"] = reply(200, {"allowed": True})
    server.answers["/executor/executor-123/execute_mgmt_command"] = reply(200, {"status": "success"})
    settings, parameters = {"s": 1}, {}
    with LocalPolicyEvaluator("p:1-a", settings, parameters, "remote", "executor-123", None, server.url) as policy:
        assert server.requests == [], "nothing is asked before it is needed"
        assert policy.execute_policy_rule({"ip": "1"}) == {"allowed": True}
        run = {"policy_rule_uri": "p:1-a", "input_data": {"ip": "1"}, "settings": {"s": 1}}
        assert sent(server)[3] == run
        assert policy.execute_mgmt_command("look", {"x": 1}) == {"status": "success"}
        assert sent(server)[3] == {"policy_rule_uri": "p:1-a", "action": "look", "data": {"x": 1}}
        assert policy.instance is None


def test_remote_mode_refuses_what_json_cannot_hold(server):
    with LocalPolicyEvaluator("p:1-a", mode="remote", policy_system_url=server.url) as policy:
        for value in (object(), float("inf"), {"f": print}):
            with pytest.raises(ValidationFailed, match='mode="local"'):
                policy.execute_policy_rule(value)
    assert server.requests == []


def test_runs_with_logs(client, server):
    logs = [{"time": "t", "level": "info", "source": "stdout", "message": "hello"}]
    server.answers["/executor/local/execute_policy"] = reply(200, 5, logs=logs)
    assert client.execute_policy_with_logs("local", "p:1-a", None) == (5, logs)
    assert sent(server)[2] == "logs=true"


@pytest.mark.parametrize("kind", ["path", "bytes", "file"])
def test_uploads(client, server, tmp_path, kind):
    content = os.urandom(200_000) + b"\r\n--"
    path = tmp_path / 'a "quoted" name.zip'
    path.write_bytes(b"skipped" + content if kind == "file" else content)
    server.answers["/upload_asset"] = reply(200, {"asset_id": "1"})
    metadata = {"asset_name": "é", "asset_version": {"version": "1.0", "tag": "beta"}}
    if kind == "file":
        with path.open("rb") as file:
            file.seek(7)
            client.upload_asset(file, metadata)
    else:
        client.upload_asset(path if kind == "path" else content, metadata, file_name=None if kind == "path" else "b")
    request = server.requests[-1]
    head = f"Content-Type: {request['headers']['Content-Type']}\r\n\r\n".encode()
    parts = {
        part.get_param("name", header="content-disposition"): part
        for part in BytesParser(policy=HTTP).parsebytes(head + request["body"]).iter_parts()
    }
    assert json.loads(parts["asset_metadata"].get_payload(decode=True)) == metadata
    assert parts["asset"].get_payload(decode=True) == content
    assert parts["asset"].get_filename() == ("b" if kind == "bytes" else "a %22quoted%22 name.zip")


def test_a_file_shorter_than_announced_is_no_upload(client, server):
    class Shrinking(io.BytesIO):
        def read(self, size=-1):
            return b""

    server.answers["/upload_asset"] = reply(200, {})
    short = Client(server.url, timeout=0.2)
    with pytest.raises(ServerUnreachable):
        short.upload_asset(Shrinking(b"x" * 100), {"asset_name": "a"})
    short.close()


def test_downloads(client, server):
    server.answers["/asset-object/1"] = (200, {"Content-Type": "application/zip"}, b"\0\1")
    assert client.download_asset("1") == b"\0\1"
    server.answers["/asset-object/2"] = reply(404, error=("asset_not_found", "no asset `2`"))
    with pytest.raises(NotFound, match="`2`"):
        client.download_asset("2")


def test_decisions(client, server):
    decision = {"allowed": True, "reason": "r", "appliedPolicies": [], "decisionId": "d"}
    server.answers["/api/v1/policy/evaluate"] = (200, {}, json.dumps(decision).encode())
    assert client.evaluate("restart_pod", "pod:a", {"role": "service"}, explain=True) == decision
    body = {"action": "restart_pod", "resource": "pod:a", "type": "self_healing", "context": {"role": "service"}}
    assert sent(server) == ("POST", "/api/v1/policy/evaluate", "explain=true", body)


def test_actions_are_signed_and_refusals_are_answers(client, server):
    refusal = {"success": False, "auditId": "7", "error": "rate limit"}
    server.answers["/executor/execute"] = (429, {}, json.dumps(refusal).encode())
    params = {"namespace": "default", "podName": "p"}
    answer = client.execute_action("restart_pod", params, "ai-engine", secret="s", policy_decision={"allowed": True})
    assert answer == refusal
    assert sent(server)[3] == {
        "actionType": "restart_pod",
        "actionParams": params,
        "requestedBy": "ai-engine",
        "policyDecision": {"allowed": True},
        "signature": sign_action("s", "restart_pod", params, "ai-engine"),
    }
    nonces = set()
    for _ in range(2):
        client.execute_action("restart_pod", params, "ai-engine", secret="s", fresh=True, dry_run=True)
        body = sent(server)[3]
        extra = {"timestamp": body["timestamp"], "nonce": body["nonce"], "dryRun": True}
        assert body["signature"] == sign_action("s", "restart_pod", params, "ai-engine", **extra)
        assert body["dryRun"] is True
        nonces.add(body["nonce"])
    assert len(nonces) == 2
    client.execute_action("restart_pod", params, "ai-engine", wait="60s")
    assert sent(server)[3]["wait"] == "60s"
    missing = {"success": False, "message": "a token is wanted", "error": {"code": "unauthorized", "details": None}}
    server.answers["/executor/execute"] = (401, {}, json.dumps(missing).encode())
    with pytest.raises(EdictError, match="a token is wanted"):
        client.execute_action("restart_pod", params, "ai-engine")
    server.answers["/executor/execute"] = (503, {}, b"upstream is down")
    with pytest.raises(EdictError, match="upstream is down"):
        client.execute_action("restart_pod", params, "ai-engine")


def test_connections_are_kept_one_per_thread(client, server):
    server.add_policy("p:1-a", "")

    def work():
        for _ in range(5):
            client.get_policy("p:1-a")

    work()
    assert server.connections == 1
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work()
    assert server.connections == 5
    client.close()
    work()
    assert server.connections == 6


def test_a_child_process_does_not_share_the_parents_connection(client, server):
    server.add_policy("p:1-a", "")
    client.get_policy("p:1-a")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            client.get_policy("p:1-a")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    client.get_policy("p:1-a")
    assert server.connections == 2


class OneShot(threading.Thread):
    """A server that treats each connection as the next of `scripts` says, and counts requests."""

    def __init__(self, *scripts):
        super().__init__(daemon=True)
        self.scripts, self.seen = scripts, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self):
        for script in self.scripts:
            peer, _ = self.listener.accept()
            with peer:
                for answer in script:
                    if not peer.recv(65536):
                        break
                    self.seen += 1
                    peer.sendall(answer)
        self.listener.close()


OK = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"data": {"a"}'.replace(b'{"data": {"a"}', b'{"data": null}')


def test_a_server_that_closes_idle_connections_costs_no_error():
    server = OneShot([OK], [OK])
    with Client(server.url) as client:
        client.get_policy("p:1-a")
        # The end of the first connection must have arrived before the next request looks for it.
        kept = client._system._local.kept.connection.sock
        assert kept.recv(1, socket.MSG_PEEK) == b""
        client.create_policy({"name": "p"})
    server.join(5)
    assert server.seen == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"SSH-2.0\r\n"])
def test_a_request_that_may_have_arrived_is_not_sent_again(answer):
    server = OneShot([answer], [OK])
    with Client(server.url) as client:
        with pytest.raises(ServerUnreachable, match="cannot reach"):
            client.create_policy({"name": "p"})
        assert server.seen == 1
        assert client.create_policy({"name": "p"}) is None


def test_silence_ends_with_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        with pytest.raises(ServerUnreachable, match=r"within 0\.2 s") as caught:
            client.get_policy("p:1-a")
        assert caught.value.code == "request_timed_out"
        client.close()


def test_urls(server, monkeypatch):
    for wrong in ("localhost:5000", "ftp://host", "http://", ""):
        with pytest.raises(ValueError, match="write it like") if wrong else pytest.raises(ServerUnreachable):
            Client(wrong or "http://127.0.0.1:9").get_policy("p:1-a")
    server.answers["/behind/a/proxy/policy/p:1-a"] = reply(200, {"name": "p"})
    monkeypatch.setenv("POLICY_DB_URL", f"{server.url}/behind/a/proxy/")
    with Client() as client:
        assert client.get_policy("p:1-a") == {"name": "p"}
