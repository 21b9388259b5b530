#!/usr/bin/env python3
"""Decisions over HTTP with the log of decisions on, the server on one core and `wrk` on the other: 10,000 policies, and
requests that each have a user of their own. Afterwards the log is counted, also after the server was killed under load:
`decisions.py [policies]`. Needs `wrk`."""

import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from functions import CLIENT_CPU, SERVER_CPU, pinned
from harness import HERE, Connection, Server, report, unused_cpu
from registry import postgres

POLICIES = 10_000
CONNECTIONS, ROUNDS, SECONDS = 16, 5, 8
ACTIONS = ["restart_pod", "scale_deployment", "rollback_deployment", "drain_node", "clear_cache"]
# Of the 400 different requests, whatever the number of policies.
SHARE = 90 / 400
EVALUATE = "/api/v1/policy/evaluate"
LOGS = "/api/v1/policy/audit/logs"


def corpus(count):
    """Policy `i` is about one action on `pod:ns-<i / 5>/*`: nine of ten allow what is severe and automated, every tenth
    denies while frozen. A request is about at most one of them."""
    for number in range(count):
        deny = number % 10 == 9
        yield {
            "name": f"gen-{number}",
            "type": "self_healing",
            "effect": "deny" if deny else "allow",
            "priority": 100 + number % 100,
            "conditions": {
                "role": "service",
                "metadata": {"freeze": True} if deny else {"severity": "high", "automated": True},
            },
            "actions": [ACTIONS[number % 5]],
            "resources": [f"pod:ns-{number // 5}/*"],
        }


class Engine(Server):
    """A server, of which `ask` reaches the policy engine; on the first core only."""

    def start(self):
        with pinned(SERVER_CPU):
            super().start()
        self.url = json.loads((self.dir / "ready.json").read_text())["engine"]
        host, port = self.url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self):
        """What its threads have used until now."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def decisions(self):
        """Decisions that it says it has given since it started."""
        with urllib.request.urlopen(self.url + "/metrics") as reply:
            text = reply.read().decode()
        counts = re.findall(r"^edict_decisions_total\{[^}]*\} (\d+)", text, re.M)
        return sum(map(int, counts))


def wrk(url, seconds, run, check=False):
    """The load, started; `finish` returns what came of it."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "decisions.lua"), url + EVALUATE]
    environment = {**os.environ, "RUN": run, "CHECK": "1" if check else "0"}
    with pinned(CLIENT_CPU):
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finish(load):
    out, _ = load.communicate()
    assert load.returncode == 0, out
    return json.loads(out.strip().splitlines()[-1])


def caught_up(server):
    """Seconds until the table has every decision that was recorded."""
    connection, started = Connection(server), time.perf_counter()
    while "pending" in connection.ask("GET", f"{LOGS}?limit=1"):
        pass
    return time.perf_counter() - started


def entries(server, url):
    """Decisions in the table."""
    sql = "SELECT count(*) FROM decision_log"
    if url:
        done = subprocess.run(["psql", "-At", "-c", sql, url], capture_output=True, text=True, check=True)
        return int(done.stdout)
    with sqlite3.connect(f"file:{server.dir}/data/edict.db?mode=ro", uri=True) as database:
        return database.execute(sql).fetchone()[0]


def measure(server):
    """The median of the rounds; the first round warms up and counts what is allowed."""
    first = finish(wrk(server.url, 2, "w", check=True))
    share = first["allowed"] / first["count"]
    assert abs(share - SHARE) < 0.01, f"{share} of the requests are allowed instead of {SHARE}"
    rounds, replies = [], first["count"]
    for number in range(ROUNDS):
        cpu = server.cpu_seconds()
        done = finish(wrk(server.url, SECONDS, str(number)))
        assert done["refused"] == done["lost"] == 0, done
        done["cpu_us"] = (server.cpu_seconds() - cpu) / done["count"] * 1e6
        done["per_s"] = done["count"] / done["seconds"]
        rounds.append(done)
        replies += done["count"]

    def median(name):
        return statistics.median(done[name] for done in rounds)

    return replies, {
        "per_s": median("per_s"),
        "p50_ms": median("p50_ms"),
        "p99_ms": median("p99_ms"),
        "cpu_us_each": median("cpu_us"),
        "per_s_rounds": [done["per_s"] for done in rounds],
        "allowed_share": share,
    }


def database(policies, url=None):
    """The figures for a database, and whether the log is complete."""
    # The starter set would allow more than the corpus does.
    with Engine(decisions_starter="false", **({"database_url": url} if url else {})) as server:
        connection, started = Connection(server), time.perf_counter()
        connection.ask("POST", "/api/v1/policy/import", {"policies": list(corpus(policies))})
        import_s = time.perf_counter() - started
        replies, figures = measure(server)
        made = server.decisions()
        catch_up_s = caught_up(server)
        logged = entries(server, url)
        # What was under way when `wrk` hung up was decided and recorded without a reply that it counted.
        assert logged == made and replies <= made <= replies + CONNECTIONS * (ROUNDS + 1), (logged, made, replies)
        load = wrk(server.url, 4, "k")
        time.sleep(2)
        server.kill()
        received = replies + finish(load)["count"]
        server.start()
        caught_up(server)
        after_kill = entries(server, url)
        most = received + CONNECTIONS * (ROUNDS + 2)
        assert received <= after_kill <= most, (received, after_kill)
        return {
            "import_s": import_s,
            **figures,
            "replies": replies,
            "decisions": made,
            "entries": logged,
            "catch_up_s": catch_up_s,
            "after_kill": {"replies": received, "entries": after_kill},
            "rss_mib": server.rss_mib(),
        }


def main():
    policies = int(sys.argv[1]) if len(sys.argv) > 1 else POLICIES
    quiet = unused_cpu()
    sqlite = database(policies)
    with postgres() as url:
        postgresql = database(policies, url) if url else None
    report("decisions", policies=policies, unused_cpu=quiet, sqlite=sqlite, postgresql=postgresql)


if __name__ == "__main__":
    main()
