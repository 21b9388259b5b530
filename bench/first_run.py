#!/usr/bin/env python3
"""From a newly registered policy to its first answer: code that this server has never run."""

import shutil
import statistics

from harness import SAMPLE, Connection, Server, encode, report, unused_cpu

COUNT = 20
REQUIREMENTS = "iniconfig==2.0.0\n"
PATH = "/executor/local/execute_policy"


def new_policy(server, name, requirements=None):
    """The sample policy as nobody has seen it before: a comment makes its digest new."""
    folder = server.dir / name
    shutil.copytree(SAMPLE, folder)
    card, code = folder / "policy.yaml", folder / "code" / "function.py"
    card.write_text(card.read_text().replace("name: ip_allowlist", f"name: {name}", 1))
    code.write_text(code.read_text() + f"\n# {name}\n")
    if requirements:
        (folder / "code" / "requirements.txt").write_text(requirements)
    return server.edict("policy", "push", str(folder))["policy_rule_uri"]


def first_runs(server, connection, name, requirements=None):
    times = []
    for number in range(COUNT):
        uri = new_policy(server, f"{name}_{number}", requirements)
        request = encode("POST", PATH, {"policy_rule_uri": uri, "input_data": {"ip": "127.0.0.1"}})
        times.append(connection.time(request)[0] * 1e3)
    return {"median_ms": statistics.median(times), "worst_ms": max(times)}


def main():
    quiet = unused_cpu()
    with Server() as server:
        connection = Connection(server)
        plain = first_runs(server, connection, "plain")
        # The first one installs what the others find in the cache.
        uri = new_policy(server, "installs", REQUIREMENTS)
        request = encode("POST", PATH, {"policy_rule_uri": uri, "input_data": {"ip": "127.0.0.1"}})
        installing, _ = connection.time(request)
        cached = first_runs(server, connection, "cached", REQUIREMENTS)
    report(
        "first_run",
        unused_cpu=quiet,
        without_requirements=plain,
        with_cached_requirements=cached,
        installing_requirements_s=installing,
    )


if __name__ == "__main__":
    main()
