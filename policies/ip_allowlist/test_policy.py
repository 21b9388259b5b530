"""The policy alone, in this process; no server is needed."""

import http.server
import json
import threading
from pathlib import Path

import pytest
from aios_policy_sandbox import LocalPolicyEvaluator

FOLDER = Path(__file__).parent


def load(settings=None, parameters=None):
    return LocalPolicyEvaluator.from_folder(FOLDER, settings=settings, parameters=parameters)


@pytest.fixture
def allowlist_api():
    """Serves a JSON document, counts the requests: `api.document`, `api.requests`, `api.url`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests += 1
            body = self.server.document
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.document = 0, json.dumps({"allowlist": ["10.9.9.9"]}).encode()
    server.url = f"http://127.0.0.1:{server.server_port}/allowlist"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("input_data", "allowed", "reason"),
    [
        ({"ip": "10.0.0.1"}, True, "allowed"),
        ({"ip": "fd00::1"}, True, "allowed"),
        ({"ip": "10.0.0.2"}, False, "denied"),
        ({"ip": ""}, False, "the input holds no ip"),
        ({}, False, "the input holds no ip"),
    ],
)
def test_decides_by_the_local_list(input_data, allowed, reason):
    with load(parameters={"local_allowlist": ["10.0.0.1", "fd00::1"]}) as policy:
        assert policy.execute_policy_rule(input_data) == {
            "allowed": allowed,
            "reason": reason,
            "input_data": input_data,
        }


def test_without_lists_nothing_is_allowed():
    with load() as policy:
        assert policy.execute_policy_rule({"ip": "127.0.0.1"})["allowed"] is False


def test_a_new_local_list_counts_at_once():
    with load(parameters={"local_allowlist": ["10.0.0.1"]}) as policy:
        reply = policy.execute_mgmt_command("update_local_allowlist", {"ips": ["10.0.0.2"]})
        assert reply == {"status": "success", "updated_allowlist": ["10.0.0.2"]}
        assert policy.execute_policy_rule({"ip": "10.0.0.2"})["allowed"] is True
        assert policy.execute_policy_rule({"ip": "10.0.0.1"})["allowed"] is False
        assert policy.execute_mgmt_command("get_state", {})["local_allowlist"] == ["10.0.0.2"]


def test_management_refuses_what_it_does_not_know():
    with load() as policy:
        assert policy.execute_mgmt_command("update_local_allowlist", {"ips": "10.0.0.1"})["status"] == "error"
        assert policy.execute_mgmt_command("drop_everything", {})["status"] == "error"


def test_the_remote_list_is_fetched_once_and_again_on_command(allowlist_api):
    with load(settings={"allowlist_api": allowlist_api.url}) as policy:
        assert policy.execute_policy_rule({"ip": "10.9.9.9"})["allowed"] is True
        assert policy.execute_policy_rule({"ip": "10.8.8.8"})["allowed"] is False
        assert allowlist_api.requests == 1
        allowlist_api.document = json.dumps({"allowlist": ["10.8.8.8"]}).encode()
        reply = policy.execute_mgmt_command("fetch_remote_allowlist", {})
        assert reply == {"status": "success", "remote_allowlist": ["10.8.8.8"]}
        assert policy.execute_policy_rule({"ip": "10.8.8.8"})["allowed"] is True


def test_the_local_list_alone_asks_nobody(allowlist_api):
    settings, parameters = {"allowlist_api": allowlist_api.url}, {"local_allowlist": ["10.0.0.1"]}
    with load(settings, parameters) as policy:
        assert policy.execute_policy_rule({"ip": "10.0.0.1"})["allowed"] is True
    assert allowlist_api.requests == 0


@pytest.mark.parametrize("document", [b"not json", b"[]", b'{"allowlist": "10.9.9.9"}', b"{}"])
def test_an_api_that_talks_nonsense_allows_nothing(allowlist_api, document):
    allowlist_api.document = document
    with load(settings={"allowlist_api": allowlist_api.url}) as policy:
        assert policy.execute_policy_rule({"ip": "10.9.9.9"})["allowed"] is False


def test_an_api_that_is_down_leaves_the_local_list_working():
    settings, parameters = {"allowlist_api": "http://127.0.0.1:9/"}, {"local_allowlist": ["10.0.0.1"]}
    with load(settings, parameters) as policy:
        assert policy.execute_policy_rule({"ip": "10.9.9.9"})["allowed"] is False
        assert policy.execute_policy_rule({"ip": "10.0.0.1"})["allowed"] is True
