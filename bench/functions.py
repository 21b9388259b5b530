#!/usr/bin/env python3
"""Calls of a function over HTTP, with other ways to serve the same class beside them: everything that serves shares one
core, the load comes from another."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from harness import HERE, ROOT, Connection, Server, field_kib, load, percentile, report, unused_cpu

ROUNDS, SECONDS = 5, 4
INPUT = {"ip": "10.0.0.1"}
ANSWER = {"allowed": True, "reason": "allowed"}
PACKAGES = {
    "granian": ["granian==2.*", "uvloop"],
    "fastapi": ["fastapi", "uvicorn[standard]"],
}
COMMANDS = {
    "granian": ["-m", "granian", "--interface", "rsgi", "--workers", "1", "--no-access-log", "granian_app:app"],
    "fastapi": ["-m", "uvicorn", "--no-access-log", "--log-level", "warning", "fastapi_app:app"],
}
CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = CPUS[0], CPUS[-1]


class pinned:
    """What is started inside runs on this CPU."""

    def __init__(self, cpu):
        self.cpu = cpu

    def __enter__(self):
        os.sched_setaffinity(0, {self.cpu})

    def __exit__(self, *_):
        os.sched_setaffinity(0, CPUS)


class Peer:
    """Another server, on the server's CPU."""

    def __init__(self, name, port):
        self.url = f"http://127.0.0.1:{port}"
        python = install(name)
        with pinned(SERVER_CPU):
            command = [python, *COMMANDS[name], "--port", str(port), "--host", "127.0.0.1"]
            self.process = subprocess.Popen(
                command, cwd=HERE / "peers", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self.wait()

    def wait(self):
        request = urllib.request.Request(self.url + "/", json.dumps(INPUT).encode(), {"content-type": "application/json"})
        end = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(request) as reply:
                    answer = json.load(reply)
                    assert answer["data"] == ANSWER, answer
                    return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(f"{self.url} does not start") from None
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def install(name):
    """A virtual environment with the peer, kept in the build folder."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "bench-peers" / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
        (folder / "complete").touch()
    return str(python)


def register(connection):
    """The policy, registered from its source; its URI."""
    record = {
        "name": "bench",
        "version": "1.0",
        "release_tag": "stable",
        "code": (HERE / "peers" / "policy.py").read_text(),
        "policy_parameters": {"local_allowlist": ["10.0.0.1", "10.0.0.2"]},
    }
    return connection.ask("POST", "/policy", record)["data"]["policy_rule_uri"]


def deploy(connection, uri, name, **spec):
    """A function, once all its replicas take calls."""
    body = {"name": name, "policy_rule_uri": uri, **spec}
    connection.ask("POST", "/function/deployments/create/local?wait=60s", body)
    state = connection.ask("GET", f"/function/{name}")["data"]["function_status"]
    assert state["state"] == "ready", state


class Here:
    """A server for `load`: its address is all that it needs."""

    def __init__(self, url):
        self.url = url


def one_core():
    """One replica and its server on one core, against peers on that core."""
    with pinned(SERVER_CPU):
        server = Server()
    peers = {}
    try:
        connection = Connection(server)
        deploy(connection, register(connection), "bench", replicas=1)
        path = "/function/call_function/bench"
        assert connection.ask("POST", path, INPUT)["data"] == ANSWER
        for port, name in enumerate(COMMANDS, 18230):
            peers[name] = Peer(name, port)
        served = {"edict": (server, path), **{name: (Here(peer.url), "/") for name, peer in peers.items()}}
        rounds = []
        for _ in range(ROUNDS):
            done = {}
            for name, (where, at) in served.items():
                with pinned(CLIENT_CPU):
                    done[name] = {
                        "16": load(where, at, INPUT, 16, SECONDS),
                        "1": load(where, at, INPUT, 1, SECONDS // 2),
                    }
            rounds.append(done)
    finally:
        for peer in peers.values():
            peer.stop()
        server.__exit__()

    def median(name, clients, figure):
        return statistics.median(one[name][clients][figure] for one in rounds[1:])

    figures = {
        name: {
            "16_per_s": median(name, "16", "rate"),
            "16_p99_ms": median(name, "16", "p99_ms"),
            "one_p50_ms": median(name, "1", "p50_ms"),
        }
        for name in served
    }
    ratios = {
        name: statistics.median(one["edict"]["16"]["rate"] / one[name]["16"]["rate"] for one in rounds[1:])
        for name in peers
    }
    errors = sum(one["edict"][clients]["errors"] for one in rounds for clients in ("16", "1"))
    return {**figures, "times_the_rate_of": ratios, "errors": errors}


def two_replicas():
    """Calls that take 1 ms of CPU: two replicas on two cores over one replica."""
    with Server() as server:
        connection = Connection(server)
        uri = register(connection)
        rates = {}
        for replicas in (1, 2):
            deploy(connection, uri, f"burn{replicas}", replicas=replicas)
        for replicas in (1, 2):
            path = f"/function/call_function/burn{replicas}"
            load(server, path, {**INPUT, "burn_ms": 1}, 16, 1)
        rounds = []
        for _ in range(ROUNDS):
            rates = [
                load(server, f"/function/call_function/burn{replicas}", {**INPUT, "burn_ms": 1}, 16, 2)["rate"]
                for replicas in (1, 2)
            ]
            rounds.append(rates)
        return {
            "one_per_s": statistics.median(one for one, _ in rounds),
            "two_per_s": statistics.median(two for _, two in rounds),
            "times": statistics.median(two / one for one, two in rounds),
        }


def fifty():
    """Fifty functions of one replica each: until all take calls, and what they take."""
    with Server() as server:
        connection = Connection(server)
        uri = register(connection)
        private, pss = server.private_mib(), server.pss_mib()
        started = time.perf_counter()
        for number in range(50):
            connection.ask("POST", "/function/deployments/create/local", {"name": f"f{number}", "policy_rule_uri": uri})
        for number in range(50):
            state = connection.ask("GET", f"/function/f{number}?wait=60s")["data"]["function_status"]
            assert state["ready"] == 1, state
        seconds = time.perf_counter() - started
        for number in range(50):
            for _ in range(20):
                connection.ask("POST", f"/function/call_function/f{number}", INPUT)
        replicas = [field_kib(pid, "smaps_rollup", "Private_Dirty") / 1024 for pid in server.pids()[1:]]
        return {
            "start_s": seconds,
            "total_pss_mib": server.pss_mib(),
            "private_mib_each": (server.private_mib() - private) / 50,
            "pss_mib_each": (server.pss_mib() - pss) / 50,
            "largest_private_mib": percentile(replicas, 1.0),
        }


def main():
    quiet = unused_cpu()
    report("functions", unused_cpu=quiet, one_core=one_core(), two_replicas=two_replicas(), fifty=fifty())


if __name__ == "__main__":
    main()
