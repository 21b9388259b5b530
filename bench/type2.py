#!/usr/bin/env python3
"""Stateless runs of the sample policy through the policy system over HTTP, against a bare loop that forks."""

import json
import os
import statistics
import subprocess
import sys

from harness import HERE, Connection, Server, load, publish_sample, report, unused_cpu

ROUNDS, SECONDS = 5, 2
INPUT = {"ip": "127.0.0.1"}
PATH = "/executor/local/execute_policy"


def bare_loop(cpus):
    """The bare loop, in one process on each of these CPUs."""
    loops = [
        subprocess.Popen([sys.executable, HERE / "bare_loop.py", str(SECONDS), str(cpu)], stdout=subprocess.PIPE)
        for cpu in cpus
    ]
    done = [json.loads(loop.communicate()[0]) for loop in loops]
    return {
        "rate": sum(one["count"] / one["seconds"] for one in done),
        "p50_ms": statistics.mean(one["p50_ms"] for one in done),
    }


def main():
    quiet = unused_cpu()
    cpus = sorted(os.sched_getaffinity(0))
    with Server() as server:
        connection = Connection(server)
        bodies = {}
        for isolation in ("process", "instance"):
            uri = publish_sample(connection, server, f"sample_{isolation}", execution_limits={"isolation": isolation})
            bodies[isolation] = {"policy_rule_uri": uri, "input_data": INPUT}
            answer = connection.ask("POST", PATH, bodies[isolation])
            assert answer["data"] == {"allowed": True, "reason": "allowed", "input_data": INPUT}, answer
            load(server, PATH, bodies[isolation], 16, 1)
        rounds = []
        for _ in range(ROUNDS):
            # Side by side in every round: what else the machine does then weighs on all of them alike.
            rounds.append(
                {
                    "loop1": bare_loop(cpus[:1]),
                    "process1": load(server, PATH, bodies["process"], 1, SECONDS),
                    "loops": bare_loop(cpus),
                    "process16": load(server, PATH, bodies["process"], 16, SECONDS),
                    "instance1": load(server, PATH, bodies["instance"], 1, SECONDS),
                    "instance16": load(server, PATH, bodies["instance"], 16, SECONDS),
                }
            )

    def median(part, name):
        return statistics.median(one[part][name] for one in rounds)

    def ratio(part, over, name):
        return statistics.median(one[part][name] / one[over][name] for one in rounds)

    report(
        "type2",
        unused_cpu=quiet,
        bare_loop={"one_p50_ms": median("loop1", "p50_ms"), "all_cores_per_s": median("loops", "rate")},
        process={
            "one_p50_ms": median("process1", "p50_ms"),
            "one_p50_of_bare_loop": ratio("process1", "loop1", "p50_ms"),
            "16_per_s": median("process16", "rate"),
            "16_of_bare_loops": ratio("process16", "loops", "rate"),
            "16_p99_ms": median("process16", "p99_ms"),
        },
        instance={
            "one_p50_ms": median("instance1", "p50_ms"),
            "16_per_s": median("instance16", "rate"),
            "16_p99_ms": median("instance16", "p99_ms"),
        },
        spread={
            "bare_loops_per_s": [one["loops"]["rate"] for one in rounds],
            "process_16_per_s": [one["process16"]["rate"] for one in rounds],
            "instance_16_per_s": [one["instance16"]["rate"] for one in rounds],
        },
        errors=sum(one[part]["errors"] for one in rounds for part in one if "errors" in one[part]),
    )


if __name__ == "__main__":
    main()
