#!/usr/bin/env python3
"""Jobs from their submission to their final state, each in a process of its own and on disk before it is accepted, on
SQLite and on PostgreSQL; again after 100,000 of them: `jobs.py [jobs]`."""

import select
import statistics
import sys
import time
from itertools import count

from harness import PATIENCE, Connection, Server, encode, percentile, publish_sample, report, unused_cpu
from registry import postgres

INPUT = {"ip": "127.0.0.1"}
JOBS = 100_000
ROUNDS, SECONDS = 5, 3


def job_id(reply):
    """The id in an accepted job's reply, without reading all of it."""
    return reply.split(b'"job_id":"', 1)[1].split(b'"', 1)[0].decode()


def run_jobs(server, submit, in_flight, go_on):
    """Keeps so many jobs under way while `go_on(number)` says so: each is submitted, then waited for, on a connection of
    its own. Returns `rate`, `count`, and the time from submission to the final state, `p50_ms` and `p99_ms`."""
    poll, connections, began, waiting, times, numbers = select.epoll(), {}, {}, {}, [], count()

    def start(number):
        if not go_on(next(numbers)):
            del connections[number]
            return
        began[number], waiting[number] = time.perf_counter(), False
        connections[number].send(submit)

    started = time.perf_counter()
    for _ in range(in_flight):
        connection = Connection(server)
        number = connection.socket.fileno()
        connections[number] = connection
        poll.register(number, select.EPOLLIN)
        start(number)
    kept = list(connections.values())
    while connections:
        for number, _ in poll.poll(PATIENCE):
            status, reply = connections[number].receive()
            if not waiting[number]:
                assert status == 201, reply
                waiting[number] = True
                connections[number].send(encode("GET", f"/jobs/{job_id(reply)}?wait=60s"))
            else:
                assert status == 200 and b'"job_status":"completed"' in reply.replace(b'": "', b'":"'), reply
                times.append(time.perf_counter() - began[number])
                start(number)
    seconds = time.perf_counter() - started
    for connection in kept:
        connection.socket.close()
    return {
        "count": len(times),
        "rate": len(times) / seconds,
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": percentile(times, 0.99) * 1e3,
    }


def measure(server, submit):
    """One client, then 16 jobs in flight: the median of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        end = time.perf_counter() + SECONDS
        one = run_jobs(server, submit, 1, lambda _: time.perf_counter() < end)
        end += SECONDS
        many = run_jobs(server, submit, 16, lambda _: time.perf_counter() < end)
        rounds.append((one, many))

    def median(part, name):
        return statistics.median(pair[part][name] for pair in rounds)

    return {
        "one_p50_ms": median(0, "p50_ms"),
        "one_p99_ms": median(0, "p99_ms"),
        "16_per_s": median(1, "rate"),
        "16_p50_ms": median(1, "p50_ms"),
        "16_p99_ms": median(1, "p99_ms"),
        "16_per_s_rounds": [many["rate"] for _, many in rounds],
    }


def database(jobs, **settings):
    """The figures for a database: at first, and when so many jobs have ended in it."""
    with Server(**settings) as server:
        connection = Connection(server)
        uri = publish_sample(connection, server, "sample")
        submit = encode("POST", "/jobs/submit/local", {"policy_rule_uri": uri, "inputs": INPUT})
        run_jobs(server, submit, 16, lambda number: number < 500)
        first = measure(server, submit)
        if not jobs:
            return {"first": first}
        before = len(server.pids()), server.rss_mib()
        filled = run_jobs(server, submit, 16, lambda number: number < jobs)
        query = encode("POST", "/jobs/query?limit=20&sort=-created_at", {"policy_rule_uri": uri})
        times = [connection.time(query)[0] for _ in range(20)]
        return {
            "first": first,
            "filling_per_s": filled["rate"],
            "then": measure(server, submit),
            "newest_20_p50_ms": statistics.median(times) * 1e3,
            "processes_and_rss_mib": [before, (len(server.pids()), server.rss_mib())],
        }


def main():
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    quiet = unused_cpu()
    sqlite = database(jobs)
    with postgres() as url:
        report("jobs", jobs=jobs, unused_cpu=quiet, sqlite=sqlite, postgresql=database(jobs, database_url=url) if url else None)


if __name__ == "__main__":
    main()
