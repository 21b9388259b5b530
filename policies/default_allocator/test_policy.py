"""The policy alone, in this process; no server is needed."""

from pathlib import Path

import pytest
from aios_policy_sandbox import LocalPolicyEvaluator

FOLDER = Path(__file__).parent


def executor(name, status="healthy", processors=4, memory=8000, load=None, reason=None):
    return {
        "executor_id": name,
        "executor_status": status,
        "executor_metadata": {},
        "executor_hardware_info": {"vcpus": {"count": processors}, "memory": memory},
        "load": {"jobs": 0, "replicas": 0, **(load or {})},
        "fits": reason is None,
        "reason": reason,
    }


def choose(*executors, kind="job", request=None):
    with LocalPolicyEvaluator.from_folder(FOLDER) as policy:
        return policy.execute_policy_rule(
            {"kind": kind, "request": request or {}, "executors": list(executors)}
        )


@pytest.mark.parametrize(
    ("executors", "chosen"),
    [
        ([executor("b"), executor("a")], "a"),
        ([executor("a", memory=1), executor("b")], "b"),
        ([executor("a", processors=2), executor("b", processors=4)], "b"),
        ([executor("a", load={"runs_active": 3}), executor("b", load={"runs_active": 2})], "b"),
        ([executor("a", processors=16, load={"jobs": 3}), executor("b", processors=2, load={"jobs": 1})], "a"),
        ([executor("a", load={"replicas": 2}), executor("b", load={"runs_waiting": 1})], "b"),
        ([executor("a", status="busy"), executor("b", load={"runs_active": 99})], "b"),
        ([executor("a", status="busy"), executor("b", status="unreachable")], "a"),
        ([executor("a", reason="no such label"), executor("b", status="busy")], "b"),
    ],
)
def test_takes_the_one_with_most_room(executors, chosen):
    answer = choose(*executors)
    assert answer["executor_id"] == chosen
    assert [other["executor_id"] for other in answer["passed_over"]] == [
        other["executor_id"] for other in executors if other["executor_id"] != chosen
    ]


def test_says_why_each_was_passed_over():
    answer = choose(
        executor("a", status="unreachable"), executor("b", status="pending"), executor("c", reason="no label")
    )
    assert answer == {
        "executor_id": None,
        "passed_over": [
            {"executor_id": "a", "reason": "it is unreachable"},
            {"executor_id": "b", "reason": "it is pending"},
            {"executor_id": "c", "reason": "no label"},
        ],
    }


def test_without_executors_there_is_no_choice():
    assert choose() == {"executor_id": None, "passed_over": []}


def test_records_that_people_wrote_do_not_stop_it():
    odd = executor("odd", processors="many", memory=None)
    bare = executor("bare")
    bare["executor_hardware_info"] = {}
    assert choose(odd, bare)["executor_id"] == "bare"


@pytest.mark.parametrize(
    ("request_", "chosen"),
    [
        ({}, "full"),
        ({"replicas": 2}, "roomy"),
        ({"replicas": None, "autoscaling": {"min_replicas": 2, "max_replicas": 3}}, "roomy"),
        ({"replicas": 9}, None),
    ],
)
def test_a_function_needs_room_for_its_replicas(request_, chosen):
    full, roomy = executor("full", load={"replicas": 3}), executor("roomy", load={"replicas": 4})
    full["executor_hardware_info"]["max_replicas"] = 4
    roomy["executor_hardware_info"]["max_replicas"] = 8
    answer = choose(full, roomy, kind="function", request=request_)
    assert answer["executor_id"] == chosen
    reasons = {other["executor_id"]: other["reason"] for other in answer["passed_over"]}
    assert chosen == "full" or reasons["full"] == "it runs at most 4 replicas, and 3 of them are taken"
    # Jobs have places of their own.
    assert choose(full, roomy)["executor_id"] == "full"
