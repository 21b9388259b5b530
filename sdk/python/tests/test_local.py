"""Local mode: registered policies, classes and folders in this process."""

import gc
import hashlib
import io
import sys
import threading
import zipfile

import pytest
from conftest import reply

from aios_policy_sandbox import (
    CodeInvalid,
    EdictError,
    LocalPolicyEvaluator,
    ManagementNotSupported,
    PolicyNotFound,
    ServerUnreachable,
)

ECHO = """
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters, self.calls = rule_id, settings, parameters, 0

    def eval(self, parameters, input_data, context):
        self.calls += 1
        return {"rule_id": self.rule_id, "settings": self.settings, "parameters": parameters,
                "input": input_data, "calls": self.calls}

    def management(self, action, data):
        if action == "replace":
            self.parameters = data
        return {"action": action, "data": data}
"""

COUNTER = """
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        return context.incr("calls")
"""


class Policy:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters

    def eval(self, parameters, input_data, context):
        return parameters["change"](input_data, context)


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def modules_of_policies():
    return {name for name in sys.modules if name.startswith("_aios_policy_")}


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    path, modules = list(sys.path), modules_of_policies()
    yield
    gc.collect()
    assert modules_of_policies() == modules
    assert sys.path == path


def test_what_is_given_overrides_the_policys_own_key_by_key(server):
    own = {"policy_settings": {"a": 1, "deep": {"x": 1, "y": 1}}, "policy_parameters": {"p": 1, "q": 1}}
    uri = server.add_policy("echo:1.0-beta", ECHO, **own)
    given = {"p": 2}
    with LocalPolicyEvaluator(uri, {"deep": {"x": 2}}, given, policy_system_url=server.url) as policy:
        result = policy.execute_policy_rule("in")
        policy.instance.parameters["p"] = 3
    assert result["rule_id"] == uri
    assert result["settings"] == {"a": 1, "deep": {"x": 2}}
    assert result["input"] == "in"
    assert given == {"p": 2}, "the caller's own dictionary is not the policy's"


def test_state_lasts_from_call_to_call_and_is_each_evaluators_own(server):
    uri = server.add_policy("echo:1.0-beta", ECHO)
    with LocalPolicyEvaluator(uri, policy_system_url=server.url) as first:
        assert [first.execute_policy_rule(None)["calls"] for _ in range(3)] == [1, 2, 3]
        with LocalPolicyEvaluator(uri, policy_system_url=server.url) as second:
            assert second.execute_policy_rule(None)["calls"] == 1


def test_code_is_downloaded_once_per_content(server):
    uri = server.add_policy("echo:1.0-beta", ECHO)
    for _ in range(2):
        LocalPolicyEvaluator(uri, policy_system_url=server.url).close()
    assert server.paths().count(f"GET /policy/{uri}/code") == 1
    server.add_policy(uri, ECHO + "\nNEW = True\n")
    LocalPolicyEvaluator(uri, policy_system_url=server.url).close()
    assert server.paths().count(f"GET /policy/{uri}/code") == 2


@pytest.mark.parametrize("prefix", ["code/", "", "./code/"])
def test_archives_hold_the_code_in_a_folder_or_at_the_top(server, prefix):
    files = {f"{prefix}function.py": "from helper import PolicyClass as AIOSv1PolicyRule"}
    files[f"{prefix}helper.py"] = ECHO.replace("AIOSv1PolicyRule", "PolicyClass")
    uri = server.add_policy("packed:1.0-beta", zipped(files), "zip")
    with LocalPolicyEvaluator(uri, policy_system_url=server.url) as policy:
        assert policy.execute_policy_rule(7)["input"] == 7


def test_code_that_is_not_what_its_digest_says_never_runs(server):
    uri = server.add_policy("echo:1.0-beta", "raise SystemExit('ran')", digest=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(CodeInvalid) as caught:
        LocalPolicyEvaluator(uri, policy_system_url=server.url)
    assert caught.value.code == "code_digest_mismatch"


@pytest.mark.parametrize("digest", ["../../../../etc", "0" * 63, "g" * 64])
def test_a_digest_cannot_name_another_folder(server, digest):
    uri = server.add_policy("echo:1.0-beta", ECHO, digest=digest)
    with pytest.raises(CodeInvalid, match="not a SHA-256 digest"):
        LocalPolicyEvaluator(uri, policy_system_url=server.url)


def test_a_policy_updated_between_record_and_code_is_read_again(server):
    uri = server.add_policy("echo:1.0-beta", ECHO, policy_parameters={"generation": 1})
    old = server.policies[uri]
    server.add_policy(uri, ECHO + "\n# new\n", policy_parameters={"generation": 2})
    new, answers = server.policies[uri], [old]

    def record(body):
        return reply(200, answers.pop() if answers else new)

    server.answers[f"/policy/{uri}"] = record
    with LocalPolicyEvaluator(uri, policy_system_url=server.url) as policy:
        assert policy.execute_policy_rule(None)["parameters"] == {"generation": 2}


def test_code_without_the_class_is_refused(server):
    uri = server.add_policy("empty:1.0-beta", "x = 1")
    with pytest.raises(CodeInvalid, match="AIOSv1PolicyRule"):
        LocalPolicyEvaluator(uri, policy_system_url=server.url)


def test_the_policys_own_exceptions_propagate(server):
    broken = server.add_policy("broken:1.0-beta", "raise KeyError('at import')")
    with pytest.raises(KeyError, match="at import"):
        LocalPolicyEvaluator(broken, policy_system_url=server.url)

    def change(input_data, context):
        raise LookupError(input_data)

    with (
        LocalPolicyEvaluator(custom_class=Policy, parameters={"change": change}) as policy,
        pytest.raises(LookupError, match="mine"),
    ):
        policy.execute_policy_rule("mine")


def test_unknown_policies_and_servers_that_are_down_say_so(server, monkeypatch):
    monkeypatch.setenv("POLICY_DB_URL", server.url)
    with pytest.raises(PolicyNotFound, match=r"no policy `nope:1-a`") as caught:
        LocalPolicyEvaluator("nope:1-a")
    assert (caught.value.code, caught.value.status) == ("policy_not_found", 404)
    with pytest.raises(ServerUnreachable, match="edict serve"):
        LocalPolicyEvaluator("nope:1-a", policy_system_url="http://127.0.0.1:9")


def test_the_token_is_sent(server, monkeypatch):
    monkeypatch.setenv("EDICT_TOKEN", "from-environment")
    uri = server.add_policy("echo:1.0-beta", ECHO)
    LocalPolicyEvaluator(uri, policy_system_url=server.url).close()
    LocalPolicyEvaluator(uri, policy_system_url=server.url, token="given").close()
    sent = [request["headers"]["Authorization"] for request in server.requests]
    assert sent == ["Bearer from-environment", "Bearer from-environment", "Bearer given"]


def test_any_python_object_goes_in_and_out_of_a_class():
    marker = object()
    with LocalPolicyEvaluator(custom_class=Policy, parameters={"change": lambda value, context: [value]}) as policy:
        assert policy.execute_policy_rule(marker) == [marker]
        assert policy.instance.rule_id == "Policy"


def test_management_reaches_the_live_instance(server):
    uri = server.add_policy("echo:1.0-beta", ECHO, policy_parameters={"p": 1})
    with LocalPolicyEvaluator(uri, policy_system_url=server.url) as policy:
        assert policy.execute_mgmt_command("look") == {"action": "look", "data": {}}
        policy.execute_mgmt_command("replace", {"p": 9})
        assert policy.execute_policy_rule(None)["parameters"] == {"p": 9}


def test_a_policy_without_management_says_so():
    with (
        LocalPolicyEvaluator(custom_class=Policy) as policy,
        pytest.raises(ManagementNotSupported, match="`stop`"),
    ):
        policy.execute_mgmt_command("stop", {})


def test_the_context_of_a_registered_policy_is_the_policy_systems(server):
    uri = server.add_policy("counter:1.0-beta", COUNTER)
    quiet = server.add_policy("echo:1.0-beta", ECHO)
    for expected in (1, 2):
        with LocalPolicyEvaluator(uri, policy_system_url=server.url) as policy:
            assert policy.execute_policy_rule(None) == expected
    assert server.contexts[uri] == {"calls": 2}
    with LocalPolicyEvaluator(quiet, policy_system_url=server.url) as policy:
        before = len(server.requests)
        policy.execute_policy_rule(None)
        assert len(server.requests) == before, "a policy that leaves the context alone costs no request"


def test_the_context_of_a_class_is_its_evaluators_own():
    def change(input_data, context):
        return context.incr("calls")

    for _ in range(2):
        with LocalPolicyEvaluator(custom_class=Policy, parameters={"change": change}) as policy:
            assert [policy.execute_policy_rule(None) for _ in range(3)] == [1, 2, 3]


def test_threads_share_the_instance():
    def change(input_data, context):
        return context.incr("calls")

    with LocalPolicyEvaluator(custom_class=Policy, parameters={"change": change}) as policy:
        work = [threading.Thread(target=lambda: [policy.execute_policy_rule(0) for _ in range(50)]) for _ in range(8)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert policy.execute_policy_rule(0) == 401


def test_a_closed_evaluator_says_so(server):
    uri = server.add_policy("echo:1.0-beta", ECHO)
    policy = LocalPolicyEvaluator(uri, policy_system_url=server.url)
    policy.close()
    policy.close()
    assert policy.instance is None
    for call in (lambda: policy.execute_policy_rule(1), lambda: policy.execute_mgmt_command("a", {})):
        with pytest.raises(EdictError, match="was closed"):
            call()


def test_an_evaluator_that_is_dropped_takes_its_modules_along(server):
    uri = server.add_policy("echo:1.0-beta", ECHO)
    policy = LocalPolicyEvaluator(uri, policy_system_url=server.url)
    assert modules_of_policies()
    del policy
    gc.collect()
    assert not modules_of_policies()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "policy_rule_uri="),
        ({"policy_rule_uri": "a:1-b", "mode": "far"}, "mode is `far`"),
        ({"custom_class": Policy, "mode": "remote"}, "this process only"),
        ({"policy_rule_uri": "a:1-b", "policy_system_url": "localhost:5000"}, "write it like http"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalPolicyEvaluator(**arguments)
