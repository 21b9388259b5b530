"""Jobs, functions and graphs against a real server; see test_server.py."""

from __future__ import annotations

import contextlib
import threading
import uuid

import pytest

from aios_policy_sandbox import (
    Conflict,
    FunctionFailed,
    GraphFailed,
    NotFound,
    PolicyFailed,
    PolicyNotFound,
    Unavailable,
    ValidationFailed,
    WaitTimedOut,
)

pytestmark = pytest.mark.server

POLICY = """
import time


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.parameters = parameters

    def eval(self, parameters, input_data, context):
        if isinstance(input_data, dict):
            print("asked for", sorted(input_data))
            time.sleep(input_data.get("sleep", 0))
            if "fail" in input_data:
                raise LookupError(input_data["fail"])
        return {"limit": self.parameters.get("limit"), "input": input_data}

    def management(self, action, data):
        self.parameters["limit"] = data["limit"]
        return {"limit": data["limit"]}
"""


@pytest.fixture
def uri(register):
    return register(POLICY, execution_limits={"timeout_ms": 30000})


@pytest.fixture
def deploy(client):
    """Deploys functions under names that no other run of these tests uses; removes them afterwards."""
    names = []

    def deploy(uri, **options):
        names.append(f"sdk-{uuid.uuid4().hex}")
        client.deploy_function(names[-1], uri, **options)
        return names[-1]

    yield deploy
    for name in names:
        with contextlib.suppress(NotFound):
            client.remove_function(name)


def test_a_job(client, uri):
    mark = uuid.uuid4().hex
    options = {"parameters": {"limit": 5}, "name": "n", "timeout": "20s", "backoff_limit": 1}
    accepted = client.submit_job(uri, {"mark": mark}, executor_id="local", **options)
    job = client.wait_job(accepted["job_id"], timeout=30)
    assert (job["job_status"], job["attempts"], job["timeout"], job["backoff_limit"]) == ("completed", 1, 20, 1)
    assert job["job_output_data"] == {"limit": 5, "input": {"mark": mark}}
    assert job["executor_id"] == "local" and job["error"] is None
    assert client.get_job(job["job_id"]) == job
    assert list(client.query_jobs({"inputs.mark": mark, "policy_rule_uri": uri})) == [job]
    (line,) = client.job_logs(job["job_id"])
    assert (line["attempt"], line["source"], line["message"]) == (1, "stdout", "asked for ['mark']")
    assert client.job_logs(job["job_id"], skip=1) == []
    with pytest.raises(Conflict) as caught:
        client.cancel_job(job["job_id"])
    assert caught.value.code == "job_finished"


def test_a_job_somewhere(client, uri):
    job = client.wait_job(client.submit_job(uri, None)["job_id"], timeout=30)
    assert job["job_output_data"] == {"limit": None, "input": None} and job["executor_id"]
    with pytest.raises(ValidationFailed) as caught:
        client.submit_job(uri, {}, node_selector={"zone": "nowhere"})
    assert caught.value.code == "no_executor_fits" and caught.value.details["executors"]


def test_a_job_that_fails(client, uri):
    job = client.submit_job(uri, {"fail": "asked to"}, backoff_limit=1)
    job = client.wait_job(job["job_id"], timeout=30)
    assert (job["job_status"], job["attempts"], job["job_output_data"]) == ("failed", 2, None)
    assert job["error"]["code"] == "policy_failed" and "asked to" in job["error"]["message"]
    assert [line["attempt"] for line in client.job_logs(job["job_id"])] == [1, 2]
    assert [line["attempt"] for line in client.job_logs(job["job_id"], attempt=2)] == [2]


def test_a_job_is_waited_for_and_cancelled(client, uri):
    job_id = client.submit_job(uri, {"sleep": 25})["job_id"]
    with pytest.raises(WaitTimedOut, match="is still"):
        client.wait_job(job_id, timeout=0.2)
    client.cancel_job(job_id)
    assert client.wait_job(job_id, timeout=20)["job_status"] == "cancelled"
    for request in (client.get_job, client.job_logs, client.cancel_job, client.wait_job):
        with pytest.raises(NotFound) as caught:
            request("no-such-job")
        assert caught.value.code == "job_not_found"
    with pytest.raises(PolicyNotFound):
        client.submit_job("sdk_nothing:1.0-beta", {})


def test_a_function(client, uri, deploy):
    name = deploy(uri, executor_id="local", parameters={"limit": 1}, replicas=2, tags=["sdk-test"], metadata={"a": 1})
    function = client.wait_function(name)
    assert function["function_status"]["ready"] == 2 and function["function_policy_rule_uri"] == uri
    assert client.call_function(name, {"ip": "1"}) == {"limit": 1, "input": {"ip": "1"}}
    for value in (None, 0, "text", [1, 2]):
        assert client.call_function(name, value)["input"] == value
    managed = client.manage_function(name, "set", {"limit": 7})
    assert managed.data == {"limit": 7}
    assert [answer["data"] for answer in managed.replicas] == [{"limit": 7}] * 2
    assert client.call_function(name, None)["limit"] == 7
    function = client.get_function(name)
    found = client.query_functions({"function_id": name, "function_tags": "sdk-test"})
    assert [other["function_metadata"] for other in found] == [{"a": 1}]
    client.update_function(name, {"$set": {"replicas": 1}}, revision=function["revision"])
    with pytest.raises(Conflict):
        client.update_function(name, {"$set": {"replicas": 3}}, revision=function["revision"])
    assert client.wait_function(name)["function_status"]["ready"] == 1
    assert client.call_function(name, None)["limit"] == 7
    client.update_function(name, {"policy_rule_uri": uri, "policy_rule_parameters": {"limit": 1}})
    client.wait_function(name)
    assert client.call_function(name, None)["limit"] == 1, "the last writer wins"
    assert client.function_logs(name, limit=1)[0]["message"] == "asked for ['ip']"
    client.remove_function(name)
    for request in (client.get_function, client.function_logs, client.remove_function, client.wait_function):
        with pytest.raises(NotFound) as caught:
            request(name)
        assert caught.value.code == "function_not_found"


def test_a_function_that_fails(client, uri, deploy, register):
    broken = deploy(register("import no_such_module_of_sdk\n" + POLICY))
    with pytest.raises(FunctionFailed, match="no_such_module_of_sdk") as caught:
        client.wait_function(broken)
    assert caught.value.code == "policy_load_failed"
    with pytest.raises(Unavailable):
        client.call_function(broken, None)
    name = deploy(uri, autoscaling={"max_replicas": 2})
    client.wait_function(name)
    with pytest.raises(PolicyFailed) as caught:
        client.call_function(name, {"fail": "asked to"})
    assert caught.value.exception_type == "LookupError"
    with pytest.raises(Conflict):
        client.deploy_function(name, uri)
    with pytest.raises(ValidationFailed) as caught:
        client.update_function(name, {"$set": {"autoscaling": {"min_replicas": 3, "max_replicas": 2}}})
    assert caught.value.code == "invalid_autoscaling"


def test_threads_call_a_function_over_connections_of_their_own(client, uri, deploy):
    name = deploy(uri)
    client.wait_function(name)
    answers = []

    def work(number):
        for _ in range(20):
            answers.append((number, client.call_function(name, number)["input"]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 80 and all(number == answer for number, answer in answers)


def test_a_graph(client, uri, deploy):
    names = [deploy(uri, parameters={"limit": place}) for place in range(4)]
    for name in names:
        client.wait_function(name)
    top, left, right, bottom = names
    graph = {
        "graph_name": f"sdk_{uuid.uuid4().hex}",
        "graph_version": "1.0",
        "graph_release_tag": "beta",
        "graph_function_ids": names,
        "graph_connection_data": {top: [left, right], left: [bottom], right: [bottom]},
        "graph_search_tags": ["sdk-test"],
    }
    plan = client.check_graph(graph)
    assert (plan["stages"], plan["leaves"], plan["exists"]) == ([[top], [left, right], [bottom]], [bottom], False)
    graph_uri = client.create_graph(graph)["graph_uri"]
    try:
        result = client.execute_graph(graph_uri, {"ip": "1"}, trace=True, timeout=20)
        assert result.output["limit"] == 3
        assert [part["limit"] for part in result.output["input"]] == [1, 2]
        assert [node["node"] for node in result.trace["nodes"]] == names
        assert {node["status"] for node in result.trace["nodes"]} == {"completed"}
        assert client.execute_graph(graph_uri, None).trace is None
        run = client.get_graph_run(result.run_id)
        assert (run["run_status"], run["output"]) == ("completed", result.output)
        found = client.query_graph_runs({"graph_uri": graph_uri}, fields="run_id")
        assert result.run_id in [other["run_id"] for other in found]
        with pytest.raises(GraphFailed, match="asked to") as caught:
            client.execute_graph(graph_uri, {"fail": "asked to"})
        assert caught.value.node == top
        assert client.get_graph_run(caught.value.run_id)["run_status"] == "failed"

        assert client.get_graph(graph_uri)["graph_function_ids"] == names
        moved = client.update_graph(graph_uri, {"$set": {"graph_version": "2.0"}}, revision=1)
        assert [other["graph_uri"] for other in client.query_graphs({"graph_name": graph["graph_name"]})] == [
            moved["graph_uri"]
        ]
        graph_uri = moved["graph_uri"]
    finally:
        client.delete_graph(graph_uri)
    with pytest.raises(NotFound):
        client.get_graph(graph_uri)
    graph["graph_connection_data"][bottom] = [top]
    with pytest.raises(ValidationFailed) as caught:
        client.check_graph(graph)
    assert caught.value.code == "invalid_graph" and set(caught.value.details["nodes"]) <= set(names)
