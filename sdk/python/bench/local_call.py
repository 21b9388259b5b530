"""What a local call costs over calling the policy's `eval` itself: prints one JSON line, in nanoseconds.

Run: `python bench/local_call.py`. Each figure is the best of several rounds, so that other work on the machine
counts as little as it can; `over_plain_ns` is the one with a target, under 3000.
"""

from __future__ import annotations

import json
import platform
import timeit
from pathlib import Path

from aios_policy_sandbox import LocalPolicyEvaluator

POLICY = Path(__file__).parents[3] / "policies" / "ip_allowlist"
CALLS, ROUNDS = 100_000, 9


def best_ns(call):
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e9


def main():
    parameters, request = {"local_allowlist": ["10.0.0.1"]}, {"ip": "10.0.0.1"}
    with LocalPolicyEvaluator.from_folder(POLICY, parameters=parameters) as policy:
        instance = policy.instance
        context = object()
        assert policy.execute_policy_rule(request)["allowed"] is True
        plain = best_ns(lambda: instance.eval(parameters, request, context))
        local = best_ns(lambda: policy.execute_policy_rule(request))
    figures = {"plain_ns": round(plain), "local_ns": round(local), "over_plain_ns": round(local - plain)}
    print(json.dumps({"bench": "sdk_local_call", "python": platform.python_version(), **figures}))


if __name__ == "__main__":
    main()
