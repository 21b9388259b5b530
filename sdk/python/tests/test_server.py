"""Against a real Edict server, named by EDICT_TEST_URL (with EDICT_TEST_TOKEN when it asks for one).

In CI a missing server is an error: otherwise everything here would pass by not running.
"""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from pathlib import Path

import pytest
from test_readme import BLOCKS, SAMPLE

from aios_policy_sandbox import (
    Client,
    Conflict,
    LocalPolicyEvaluator,
    NotFound,
    PolicyFailed,
    PolicyNotFound,
    ServerUnreachable,
    ValidationFailed,
)

pytestmark = pytest.mark.server

ALLOWLIST = (Path(__file__).parents[3] / "policies/ip_allowlist/code/function.py").read_text()

CONTEXT = """
import logging


class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        if input_data.get("fail"):
            raise LookupError("asked to fail")
        logging.getLogger("counter").warning("told %s", sorted(input_data))
        context["last"] = input_data
        return {"calls": context.incr("calls", by=2)}
"""


@pytest.fixture
def allowlist(register):
    return register(
        ALLOWLIST,
        tags="network,sdk-test",
        policy_input_schema={"ip": {"type": "string", "pattern": "^[0-9.]+$", "required": True}},
        policy_parameters={"local_allowlist": ["127.0.0.1", "192.168.0.1"]},
    )


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def test_the_documented_local_sample(allowlist):
    settings = {}
    parameters = {}

    executor = LocalPolicyEvaluator(policy_rule_uri=allowlist, parameters=parameters, settings=settings, mode="local")
    assert executor.execute_policy_rule({"ip": "192.168.0.109"})["allowed"] is False
    assert executor.execute_policy_rule({"ip": "192.168.0.1"})["allowed"] is True
    executor.execute_mgmt_command("update_local_allowlist", {"ips": ["192.168.0.109"]})
    assert executor.execute_policy_rule({"ip": "192.168.0.109"})["allowed"] is True
    executor.close()


def test_the_documented_remote_sample(allowlist):
    settings = {}
    parameters = {}

    executor = LocalPolicyEvaluator(
        policy_rule_uri=allowlist, parameters=parameters, settings=settings, mode="remote", executor_id="local"
    )
    assert executor.execute_policy_rule({"ip": "192.168.0.109"})["allowed"] is False
    output = executor.execute_mgmt_command("update_local_allowlist", {"ips": ["192.168.0.100", "192.168.0.109"]})
    assert output == {"status": "success", "updated_allowlist": ["192.168.0.100", "192.168.0.109"]}
    assert executor.execute_policy_rule({"ip": "192.168.0.109"})["allowed"] is True
    executor.close()


@pytest.mark.parametrize("block", [block for block in BLOCKS if SAMPLE in block])
def test_the_readmes_examples(allowlist, block):
    exec(compile(block.replace(SAMPLE, allowlist), "README.md", "exec"), {})


@pytest.mark.parametrize("mode", ["local", "remote"])
def test_parameters_given_count_in_both_modes(allowlist, mode):
    with LocalPolicyEvaluator(allowlist, parameters={"local_allowlist": ["10.0.0.1"]}, mode=mode) as policy:
        assert policy.execute_policy_rule({"ip": "10.0.0.1"})["allowed"] is True
        assert policy.execute_policy_rule({"ip": "127.0.0.1"})["allowed"] is False


def test_context_is_one_for_local_remote_and_client(client, register):
    uri = register(CONTEXT)
    with LocalPolicyEvaluator(uri) as near, LocalPolicyEvaluator(uri, mode="remote") as far:
        assert near.execute_policy_rule({"from": "near"}) == {"calls": 2}
        assert far.execute_policy_rule({"from": "far"}) == {"calls": 4}
    context = client.context(uri)
    assert dict(context) == {"calls": 4, "last": {"from": "far"}}
    assert list(context) == ["calls", "last"] and len(context) == 2 and "calls" in context
    assert context.pop("last") == {"from": "far"} and context.pop("last", None) is None
    assert context.setdefault("n", 1.5) == 1.5 and context.setdefault("n", 2) == 1.5
    context.update(x=None, y=[1])
    assert context["x"] is None and context["y"] == [1]
    with pytest.raises(KeyError):
        context["never"]
    with pytest.raises(KeyError):
        del context["never"]
    context.set("soon gone", 1, ttl=3600)
    assert context["soon gone"] == 1
    with pytest.raises(ValidationFailed):
        context.incr("y")
    context.clear()
    assert len(context) == 0


def test_code_comes_as_registered_and_has_its_digest(client, allowlist):
    code = client.get_policy_code(allowlist)
    assert (code.format, code.content.decode()) == ("source", ALLOWLIST)
    assert code.digest == hashlib.sha256(code.content).hexdigest()
    assert code.digest == client.get_policy(allowlist)["code_digest"]


def test_logs(client, register):
    output, logs = client.execute_policy_with_logs("local", register(CONTEXT), {"a": 1})
    assert output == {"calls": 2}
    told = [(line["level"], line["source"]) for line in logs if line["message"] == "told ['a']"]
    assert told == [("warning", "counter")]


def test_a_policy_that_raises(register):
    with LocalPolicyEvaluator(register(CONTEXT), mode="remote") as policy, pytest.raises(PolicyFailed) as caught:
        policy.execute_policy_rule({"fail": True})
    error = caught.value
    assert (error.code, error.status, error.exception_type) == ("policy_failed", 502, "LookupError")
    assert "asked to fail" in str(error)
    assert error.traceback is not None and "function.py" in error.traceback
    assert error.request_id


def test_input_that_does_not_fit(allowlist):
    with LocalPolicyEvaluator(allowlist, mode="remote") as policy:
        for bad in ({"ip": 5}, {}, {"ip": "not an address"}):
            with pytest.raises(ValidationFailed) as caught:
                policy.execute_policy_rule(bad)
            assert caught.value.status == 422
            assert "/ip" in str(caught.value.details) or "ip" in caught.value.message


def test_what_is_not_there(client, allowlist):
    with pytest.raises(PolicyNotFound):
        LocalPolicyEvaluator("sdk_nothing:1.0-beta")
    with LocalPolicyEvaluator("sdk_nothing:1.0-beta", mode="remote") as policy, pytest.raises(PolicyNotFound):
        policy.execute_policy_rule({})
    with (
        LocalPolicyEvaluator(allowlist, mode="remote", executor_id="nowhere") as policy,
        pytest.raises(NotFound) as caught,
    ):
        policy.execute_policy_rule({"ip": "1"})
    assert not isinstance(caught.value, PolicyNotFound)
    with pytest.raises(ServerUnreachable):
        Client("http://127.0.0.1:9").get_policy(allowlist)


def test_registry(client, register, allowlist):
    record = client.get_policy(allowlist)
    with pytest.raises(Conflict):
        register(ALLOWLIST, name=record["name"])
    changed = client.update_policy(allowlist, {"$set": {"description": "new"}}, revision=record["revision"])
    assert (changed["description"], changed["revision"]) == ("new", record["revision"] + 1)
    with pytest.raises(Conflict):
        client.update_policy(allowlist, {"$set": {"description": "lost"}}, revision=record["revision"])
    with pytest.raises(ValidationFailed, match="descriptoin"):
        register(ALLOWLIST, descriptoin="a slip")
    with pytest.raises(ValidationFailed, match=r"\$nope"):
        client.query_policies({"name": {"$nope": 1}})
    client.delete_policy(allowlist)
    with pytest.raises(PolicyNotFound):
        client.get_policy(allowlist)


def test_queries(client, register):
    tag = uuid.uuid4().hex
    uris = sorted(register(ALLOWLIST, tags=f"{tag},x", version=f"{number}.0") for number in range(5))
    found = client.query_policies({"tags": {"$regex": tag}}, sort="policy_rule_uri", limit=3)
    assert [policy["policy_rule_uri"] for policy in found] == uris[:3] and found.has_more
    rest = client.query_policies({"tags": {"$regex": tag}}, sort="policy_rule_uri", limit=3, skip=3)
    assert [policy["policy_rule_uri"] for policy in rest] == uris[3:] and not rest.has_more
    everything = client.iter_policies({"tags": {"$regex": tag}}, page_size=2)
    assert [policy["policy_rule_uri"] for policy in everything] == uris


def test_a_policy_from_an_uploaded_archive(client, register):
    name = f"sdk-{uuid.uuid4().hex}"
    content = zipped({"code/function.py": "from helper import AIOSv1PolicyRule", "code/helper.py": CONTEXT})
    metadata = {"asset_name": name, "asset_version": {"version": "1.0", "tag": "beta"}, "asset_tags": ["sdk-test"]}
    asset = client.upload_asset(content, metadata, file_name="code.zip")
    try:
        assert asset["asset_uri"] == f"{name}:1.0-beta"
        assert asset["asset_file_info"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert client.download_asset(asset["asset_id"]) == content
        assert client.get_asset(asset["asset_uri"])["asset_id"] == asset["asset_id"]
        assert [found["asset_uri"] for found in client.query_assets({"asset_name": name})] == [asset["asset_uri"]]
        uri = register(asset["asset_uri"])
        for mode, calls in (("local", 2), ("remote", 4)):
            with LocalPolicyEvaluator(uri, mode=mode) as policy:
                assert policy.execute_policy_rule({"mode": mode}) == {"calls": calls}
    finally:
        client.delete_asset(asset["asset_uri"])
    with pytest.raises(NotFound):
        client.get_asset(asset["asset_uri"])


def test_executors(client):
    executor_id = f"sdk-{uuid.uuid4().hex}"
    client.create_executor({"executor_id": executor_id, "executor_metadata": {"tags": ["sdk-test"]}})
    try:
        changed = client.update_executor(executor_id, {"$set": {"metadata.description": "mine"}})
        assert changed["executor_metadata"]["description"] == "mine"
        assert client.get_executor(executor_id)["executor_metadata"]["tags"] == ["sdk-test"]
        found = client.query_executors({"executor_id": executor_id})
        assert [executor["executor_id"] for executor in found] == [executor_id]
    finally:
        client.delete_executor(executor_id)
    with pytest.raises(NotFound):
        client.get_executor(executor_id)
    assert client.get_executor("local")["executor_status"] in ("healthy", "busy")
