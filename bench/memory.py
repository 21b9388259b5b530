#!/usr/bin/env python3
"""Starting, and memory: idle, per warm policy, and over many runs."""

import statistics
import time

from harness import SAMPLE, Connection, Server, load, publish_sample, report, unused_cpu

STARTS, WARM, RUNS, SAMPLES = 10, 8, 100_000, 10
PATH = "/executor/local/execute_policy"


def starts():
    """Milliseconds from the command to the server being ready, on a data folder that exists and on a new one."""
    again = []
    with Server() as server:
        first = server.ready_ms
        for _ in range(STARTS):
            server.stop()
            server.start()
            again.append(server.ready_ms)
        time.sleep(3)  # until what the start needed has been given back
        idle = server.rss_mib()
        processes = len(server.pids())
    return {"ready_ms": statistics.median(again), "ready_worst_ms": max(again), "new_folder_ms": first}, idle, processes


def warm_policies():
    """Private MiB that each further warm policy takes: its processes, and what the server itself keeps of it."""
    with Server(idle_seconds=600) as server:
        connection = Connection(server)

        def warm(number):
            code = (SAMPLE / "code" / "function.py").read_text() + f"\n# {number}\n"
            record = {"name": f"warm_{number}", "version": "1", "release_tag": "a", "code": code}
            uri = connection.ask("POST", "/policy", record)["data"]["policy_rule_uri"]
            for _ in range(20):
                connection.ask("POST", PATH, {"policy_rule_uri": uri, "input_data": {"ip": "10.0.0.1"}})

        warm(0)
        time.sleep(1)
        private, pss = server.private_mib(), server.pss_mib()
        for number in range(1, WARM + 1):
            warm(number)
        time.sleep(1)
        return {
            "private_mib": (server.private_mib() - private) / WARM,
            "pss_mib": (server.pss_mib() - pss) / WARM,
        }


def endurance():
    """Memory, descriptors, processes and files after each part of the runs."""
    with Server() as server:
        connection = Connection(server)
        uri = publish_sample(connection, server, "sample")
        body = {"policy_rule_uri": uri, "input_data": {"ip": "127.0.0.1"}}
        load(server, PATH, body, 16, 2)
        samples, done, errors, seconds = [], 0, 0, 2
        while done < RUNS:
            part = load(server, PATH, body, 16, seconds)
            done, errors = done + part["count"], errors + part["errors"]
            # So long that there are about as many samples as asked for, whatever the machine.
            seconds = max(1, round(RUNS / SAMPLES / part["rate"]))
            time.sleep(0.5)
            samples.append(
                {
                    "runs": done,
                    "rss_mib": server.rss_mib(),
                    "descriptors": server.descriptors(),
                    "processes": len(server.pids()),
                    "files": server.files(),
                }
            )
    table = {name: [sample[name] for sample in samples] for name in samples[0]}
    return {"errors": errors, **table}


def main():
    quiet = unused_cpu()
    ready, idle, processes = starts()
    report(
        "memory",
        unused_cpu=quiet,
        start=ready,
        idle_rss_mib=idle,
        idle_processes=processes,
        warm_policy=warm_policies(),
        over_runs=endurance(),
    )


if __name__ == "__main__":
    main()
