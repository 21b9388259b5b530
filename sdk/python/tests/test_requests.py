"""What is sent for jobs, functions and graphs, and what becomes of each reply."""

import json
import time

import pytest
from conftest import reply

from aios_policy_sandbox import (
    Client,
    EdictError,
    FunctionFailed,
    GraphFailed,
    Unavailable,
    ValidationFailed,
    WaitTimedOut,
)


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


def sent(server):
    request = server.requests[-1]
    return request["method"], request["path"], request["query"], json.loads(request["body"] or "null")


def test_a_job_is_sent_with_what_was_given_only(client, server):
    for path in ("/jobs/submit", "/jobs/submit/executor-001"):
        server.answers[path] = reply(201, {"job_id": "j", "job_status": "pending"}, job_id="j")
    assert client.submit_job("p:1-a", None)["job_id"] == "j"
    assert sent(server) == ("POST", "/jobs/submit", "", {"policy_rule_uri": "p:1-a", "inputs": None})
    client.submit_job(
        "p:1-a",
        {"ip": "1"},
        executor_id="executor-001",
        name="n",
        parameters={"a": 1},
        settings={},
        node_selector={"zone": "a"},
        timeout="5m",
        backoff_limit=0,
        alloc={"resource_allocator_policy_uri": "c:1-a"},
    )
    assert sent(server)[1] == "/jobs/submit/executor-001"
    assert sent(server)[3] == {
        "policy_rule_uri": "p:1-a",
        "inputs": {"ip": "1"},
        "name": "n",
        "policy_rule_parameters": {"a": 1},
        "policy_rule_settings": {},
        "node_selector": {"zone": "a"},
        "timeout": "5m",
        "backoff_limit": 0,
        "alloc": {"resource_allocator_policy_uri": "c:1-a"},
    }
    with pytest.raises(ValidationFailed, match="cannot be sent as JSON"):
        client.submit_job("p:1-a", object())


def test_a_job_is_waited_for_until_its_final_state(client, server):
    states = ["pending", "running", "failed"]
    server.answers["/jobs/j"] = lambda body: reply(200, {"job_id": "j", "job_status": states.pop(0)})
    assert client.wait_job("j")["job_status"] == "failed"
    assert [request["query"] for request in server.requests] == ["wait=30s"] * 3


def test_waiting_for_a_job_ends_with_its_timeout(client, server):
    server.answers["/jobs/j"] = reply(200, {"job_id": "j", "job_status": "running"})
    with pytest.raises(WaitTimedOut, match=r"job `j` is still running after 0\.05 s") as caught:
        client.wait_job("j", timeout=0.05)
    assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, EdictError)
    assert server.requests[0]["query"].startswith("wait=0.0")
    with pytest.raises(WaitTimedOut):
        client.wait_job("j", timeout=0)
    assert server.requests[-1]["query"] == "", "a look is enough"


def test_a_long_wait_gets_more_patience_than_other_requests(server):
    def slow(body):
        time.sleep(0.5)
        return reply(200, {"job_id": "j", "job_status": "completed"})

    server.answers["/jobs/j"] = slow
    with Client(server.url, timeout=0.2) as client:
        assert client.get_job("j", wait=20)["job_status"] == "completed"
        assert sent(server)[2] == "wait=20s"
        with pytest.raises(EdictError, match=r"within 0\.2 s"):
            client.get_job("j")


def test_the_other_requests_on_jobs(client, server):
    server.answers["/jobs/query"] = reply(200, [{"job_id": "j"}], has_more=True)
    page = client.query_jobs({"inputs.ip": "1"}, limit=1, sort="-created_at")
    assert list(page) == [{"job_id": "j"}] and page.has_more
    assert sent(server) == ("POST", "/jobs/query", "limit=1&sort=-created_at", {"inputs.ip": "1"})
    server.answers["/jobs/j/logs"] = reply(200, [{"message": "hello"}])
    assert client.job_logs("j") == [{"message": "hello"}]
    assert sent(server) == ("GET", "/jobs/j/logs", "", None)
    client.job_logs("j", attempt=2, skip=7)
    assert sent(server)[2] == "attempt=2&skip=7"
    server.answers["/jobs/j"] = reply(200, {"job_status": "cancelled"})
    assert client.cancel_job("j") == {"job_status": "cancelled"}
    assert sent(server) == ("DELETE", "/jobs/j", "", None)


def test_a_function_is_deployed_with_what_was_given_only(client, server):
    for path in ("/function/deployments/create", "/function/deployments/create/e"):
        server.answers[path] = reply(201, {"function_id": "f"})
    client.deploy_function("f", "p:1-a")
    create = "/function/deployments/create"
    assert sent(server) == ("POST", create, "", {"name": "f", "policy_rule_uri": "p:1-a"})
    scaling = {"min_replicas": 1, "max_replicas": 5, "target_cpu_utilization_percentage": 10}
    client.deploy_function(
        "f",
        "p:1-a",
        executor_id="e",
        parameters={"a": 1},
        settings={"b": 2},
        replicas=2,
        autoscaling=scaling,
        node_selector={"zone": "a"},
        metadata={"maintainer": "m"},
        tags=("x", "y"),
        alloc={},
    )
    assert sent(server)[1] == create + "/e"
    assert sent(server)[3] == {
        "name": "f",
        "policy_rule_uri": "p:1-a",
        "policy_rule_parameters": {"a": 1},
        "policy_rule_settings": {"b": 2},
        "replicas": 2,
        "autoscaling": scaling,
        "node_selector": {"zone": "a"},
        "function_metadata": {"maintainer": "m"},
        "function_tags": ["x", "y"],
        "alloc": {},
    }


@pytest.mark.parametrize("value", [None, 0, "text", [1], {"ip": "1"}])
def test_a_function_is_called_with_any_json(client, server, value):
    server.answers["/function/call_function/f"] = reply(200, {"allowed": True})
    assert client.call_function("f", value) == {"allowed": True}
    assert sent(server) == ("POST", "/function/call_function/f", "", value)
    assert server.requests[-1]["body"] == json.dumps(value, separators=(",", ":")).encode()
    assert server.requests[-1]["headers"]["Content-Type"] == "application/json"


def test_a_function_without_replicas_is_unavailable(client, server):
    refusal = ("function_unavailable", "no replica of `f` is ready")
    server.answers["/function/call_function/f"] = reply(503, error=refusal)
    with pytest.raises(Unavailable, match="no replica"):
        client.call_function("f", {})


def function(state, error=None, observed=2):
    status = {"state": state, "error": error, "observed_revision": observed}
    return {"function_id": "f", "revision": 2, "function_status": status}


def test_waiting_for_a_function(client, server):
    load_failed = {"code": "policy_load_failed", "message": "no module", "details": {"a": 1}}
    replies = [function("pending", observed=0), function("ready", observed=1), function("failed", load_failed, 1)]
    replies += [function("updating"), function("degraded"), function("ready")]
    server.answers["/function/f"] = lambda body: reply(200, replies.pop(0))
    assert client.wait_function("f") == function("ready")
    assert [request["query"] for request in server.requests] == ["wait=30s"] * 6
    replies += [function("pending"), function("failed", load_failed)]
    with pytest.raises(FunctionFailed, match="function `f` is failed: no module") as caught:
        client.wait_function("f")
    assert (caught.value.code, caught.value.details) == ("policy_load_failed", {"a": 1})
    server.answers["/function/f"] = reply(200, function("updating"))
    with pytest.raises(WaitTimedOut, match="still updating after 0 s"):
        client.wait_function("f", timeout=0)


def test_the_other_requests_on_functions(client, server):
    answers = [{"replica": 1, "data": {"ok": True}}, {"replica": 2, "data": None, "error": {"code": "policy_failed"}}]
    server.answers["/function/management/f"] = reply(200, {"ok": True}, replicas=answers)
    managed = client.manage_function("f", "set", {"x": 1})
    assert (managed.data, managed.replicas) == ({"ok": True}, answers)
    assert sent(server) == ("POST", "/function/management/f", "", {"action": "set", "data": {"x": 1}})
    server.answers["/function/deployments/f"] = reply(200, {"replicas": 3})
    assert client.update_function("f", {"$set": {"replicas": 3}}, revision=2) == {"replicas": 3}
    assert sent(server) == ("PUT", "/function/deployments/f", "", {"$set": {"replicas": 3}})
    assert server.requests[-1]["headers"]["If-Match"] == "2"
    server.answers["/function/query"] = reply(200, [])
    assert client.query_functions({"function_tags": "x"}, fields=["function_id"]) == []
    assert sent(server) == ("POST", "/function/query", "fields=function_id", {"function_tags": "x"})
    server.answers["/function/f/logs"] = reply(200, [{"replica": 1, "message": "m"}])
    assert client.function_logs("f", limit=5) == [{"replica": 1, "message": "m"}]
    assert sent(server)[:3] == ("GET", "/function/f/logs", "limit=5")
    server.answers["/function/deployments/remove/f"] = reply(200, None)
    client.remove_function("f")
    assert sent(server) == ("DELETE", "/function/deployments/remove/f", "", None)


def test_requests_on_graphs(client, server):
    graph = {"graph_name": "g", "graph_version": "1", "graph_release_tag": "a", "graph_function_ids": ["f"]}
    stored = {**graph, "graph_uri": "g:1-a"}
    for path in ("/graphs", "/graphs/check", "/graphs/g:1-a"):
        server.answers[path] = reply(200, stored)
    assert client.create_graph(graph) == stored
    assert sent(server) == ("POST", "/graphs", "", graph)
    client.check_graph(graph)
    assert sent(server) == ("POST", "/graphs/check", "", graph)
    assert client.get_graph("g:1-a") == stored
    client.update_graph("g:1-a", {"$set": {"graph_version": "2"}}, revision=1)
    assert sent(server) == ("PUT", "/graphs/g:1-a", "", {"$set": {"graph_version": "2"}})
    client.delete_graph("g:1-a")
    assert sent(server) == ("DELETE", "/graphs/g:1-a", "", None)
    server.answers["/graphs/query"] = server.answers["/graph/runs/query"] = reply(200, [stored])
    assert list(client.query_graphs({"graph_version": "1"})) == [stored]
    assert list(client.query_graph_runs({"run_status": "failed"}, limit=2)) == [stored]
    assert sent(server) == ("POST", "/graph/runs/query", "limit=2", {"run_status": "failed"})
    server.answers["/graph/runs/r"] = reply(200, {"run_id": "r"})
    assert client.get_graph_run("r") == {"run_id": "r"}


def test_a_graph_is_run(client, server):
    run = {"run_id": "r", "nodes": [{"node": "f", "status": "completed"}]}
    server.answers["/graph/execute_graph"] = reply(200, 5, run_id="r", trace=run)
    assert client.execute_graph("g:1-a", None, trace=True, timeout=2, node_timeout=0.5) == (5, "r", run)
    body = {"graph_uri": "g:1-a", "input_data": None, "timeout": 2, "node_timeout": 0.5}
    assert sent(server) == ("POST", "/graph/execute_graph", "trace=true", body)
    server.answers["/graph/execute_graph"] = reply(200, 5, run_id="r")
    assert client.execute_graph("g:1-a", {"ip": "1"}) == (5, "r", None)
    assert sent(server)[2:] == ("", {"graph_uri": "g:1-a", "input_data": {"ip": "1"}, "timeout": 60})


@pytest.mark.parametrize(
    ("status", "code"),
    [(502, "node_failed"), (502, "graph_output_invalid"), (504, "node_timeout"), (504, "graph_timeout")],
)
def test_a_graph_that_fails_says_where(client, server, status, code):
    details = {"node": "f", "run_id": "r", "error": {"code": "policy_failed"}}
    server.answers["/graph/execute_graph"] = reply(status, error=(code, "`f` failed", details))
    with pytest.raises(GraphFailed) as caught:
        client.execute_graph("g:1-a", {})
    assert (caught.value.node, caught.value.run_id, caught.value.code) == ("f", "r", code)
    server.answers["/graph/execute_graph"] = reply(status, error=(code, "late", None))
    with pytest.raises(GraphFailed) as caught:
        client.execute_graph("g:1-a", {})
    assert caught.value.node is None and caught.value.run_id is None
