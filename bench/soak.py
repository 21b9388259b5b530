#!/usr/bin/env python3
"""Ten minutes of jobs, function calls and graph runs while replicas, executors and the server are killed at random; then
a look at what is left: `soak.py [seconds] [seed]`."""

import contextlib
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter

from harness import Connection, Server, binary, encode, environment, report

JOB = '''
import socket, time
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.parameters = parameters
    def eval(self, parameters, input_data, context):
        # The connection lasts as long as this process: whoever listens sees whether two run at once.
        with socket.create_connection(("127.0.0.1", parameters["port"])) as line:
            line.sendall(input_data["id"].encode() + b"\\n")
            time.sleep(input_data["seconds"])
            line.sendall(b"end\\n")
        return {"id": input_data["id"]}
'''
NODE = '''
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.parameters = parameters
    def eval(self, parameters, input_data, context):
        first = input_data[0] if isinstance(input_data, list) else input_data
        return {"n": first["n"] + 1}
'''
EXECUTORS = ("one", "two")
FINAL = ("completed", "failed", "cancelled")


class Witness:
    """Hears every job's attempts begin and end."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.attempts, self.ends, self.overlaps = Counter(), Counter(), []
        self.running = Counter()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        poll, lines = selectors.DefaultSelector(), {}
        poll.register(self.listener, selectors.EVENT_READ)
        while True:
            for key, _ in sorted(poll.select(), key=lambda event: event[0].fileobj is self.listener):
                if key.fileobj is self.listener:
                    connection, _ = self.listener.accept()
                    poll.register(connection, selectors.EVENT_READ)
                    lines[connection] = [b"", None]
                    continue
                self.hear(key.fileobj, lines, poll)

    def hear(self, connection, lines, poll):
        try:
            data = connection.recv(4096)
        except OSError:
            data = b""
        state = lines[connection]
        state[0] += data
        *complete, state[0] = state[0].split(b"\n")
        for line in complete:
            if line == b"end":
                self.ends[state[1]] += 1
            else:
                state[1] = line.decode()
                self.attempts[state[1]] += 1
                self.running[state[1]] += 1
                if self.running[state[1]] > 1:
                    self.overlaps.append(state[1])
        if not data:
            self.running[state[1]] -= 1
            poll.unregister(connection)
            connection.close()
            del lines[connection]


class Executor:
    """`edict executor`, started again after it was killed."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.start()

    def start(self):
        command = [
            binary(), "executor", f"--executor-id={self.name}", "--executor-port=0", "--log-level=warn",
            f"--server-url={self.server.url}", f"--data-dir={self.server.dir / self.name}",
        ]  # fmt: skip
        with open(self.server.dir / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.server.dir, env=environment(), stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Soak:
    def __init__(self, seconds, seed):
        self.random, self.seconds = random.Random(seed), seconds
        self.lock = threading.Lock()
        self.accepted, self.counts, self.kills = set(), Counter(), Counter()
        self.witness = Witness()
        self.over = threading.Event()

    def run(self):
        with Server() as server:
            # A fixed port, since the executors come back to it after the server was killed.
            server.stop()
            server.settings["system_port"] = server.address[1]
            server.start()
            self.server = server
            self.executors = [Executor(server, name) for name in EXECUTORS]
            try:
                self.prepare()
                workers = [
                    threading.Thread(target=self.repeat, args=(work,))
                    for work in [self.submit] * 3 + [self.call] * 3 + [self.execute]
                ]
                for worker in workers:
                    worker.start()
                self.disturb()
                self.over.set()
                for worker in workers:
                    worker.join()
                return self.settle()
            finally:
                for executor in self.executors:
                    executor.process.terminate()
                    executor.process.wait()

    def prepare(self):
        connection = Connection(self.server)
        self.wait("executors", lambda: all(self.state("executor", name) == "healthy" for name in EXECUTORS))
        for name, code, parameters in (("job", JOB, {"port": self.witness.port}), ("node", NODE, {})):
            record = {"name": name, "version": "1", "release_tag": "a", "code": code, "policy_parameters": parameters}
            connection.ask("POST", "/policy", record)
        self.functions = []
        for number, executor in enumerate(("local", "one", "two", "local")):
            name = "func" + "ABCD"[number]
            body = {"name": name, "policy_rule_uri": "node:1-a", "replicas": 2}
            connection.ask("POST", f"/function/deployments/create/{executor}", body)
            self.functions.append(name)
        self.wait("functions", self.all_ready)
        graph = {
            "graph_name": "diamond", "graph_version": "1", "graph_release_tag": "a", "graph_function_ids": self.functions,
            "graph_connection_data": {"funcA": ["funcB", "funcC"], "funcB": ["funcD"], "funcC": ["funcD"]},
        }  # fmt: skip
        connection.ask("POST", "/graphs", graph)
        self.descriptors = self.server.descriptors()

    def repeat(self, work):
        connection = None
        while not self.over.is_set():
            try:
                connection = connection or Connection(self.server)
                work(connection)
            except (OSError, RuntimeError) as error:
                refused = isinstance(error, RuntimeError) and "the server closed" not in str(error)
                with self.lock:
                    self.counts[f"{work.__name__} refused" if refused else f"{work.__name__} cut off"] += 1
                if not refused:
                    connection = None
                self.over.wait(0.05)

    def submit(self, connection):
        name = uuid.uuid4().hex
        with self.lock:
            executor = self.random.choice(("local", *EXECUTORS))
            seconds = self.random.uniform(0.02, 0.3)
        body = {"name": name, "policy_rule_uri": "job:1-a", "inputs": {"id": name, "seconds": seconds}}
        connection.send(encode("POST", f"/jobs/submit/{executor}", body))
        status, reply = connection.receive()
        if status != 201:
            raise RuntimeError(reply[:300])
        with self.lock:
            self.accepted.add((json.loads(reply)["job_id"], name))
            self.counts["jobs"] += 1
        self.over.wait(0.02)

    def call(self, connection):
        with self.lock:
            name = self.random.choice(self.functions)
        answer = connection.ask("POST", f"/function/call_function/{name}", {"n": 1})
        assert answer["data"] == {"n": 2}, answer
        with self.lock:
            self.counts["calls"] += 1
        self.over.wait(0.002)

    def execute(self, connection):
        answer = connection.ask("POST", "/graph/execute_graph", {"graph_uri": "diamond:1-a", "input_data": {"n": 0}})
        assert answer["data"] == {"n": 3}, answer
        with self.lock:
            self.counts["graph runs"] += 1
        self.over.wait(0.01)

    def disturb(self):
        """Kills something every few seconds."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            time.sleep(self.random.uniform(1, 5))
            what = self.random.choices(("worker", "executor", "server"), (8, 2, 1))[0]
            self.kills[what] += 1
            if what == "worker":
                self.kill_worker()
            elif what == "executor":
                executor = self.random.choice(self.executors)
                executor.kill()
                time.sleep(self.random.choice((0, 1, 15)))
                executor.start()
            else:
                self.server.process.kill()
                self.server.process.wait()
                time.sleep(self.random.choice((0, 2)))
                self.server.start()

    def kill_worker(self):
        pids = set(self.server.pids()[1:])
        for executor in self.executors:
            pids |= set(descendants(executor.process.pid))
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(sorted(pids)), signal.SIGKILL)

    def settle(self):
        """Waits until nothing is under way, and says what became of everything."""
        started = time.monotonic()
        self.wait("functions are not ready", self.all_ready)
        states = {}

        def finished():
            connection = Connection(self.server)
            for job, _ in self.accepted:
                if states.get(job) not in FINAL:
                    states[job] = connection.ask("GET", f"/jobs/{job}")["data"]["job_status"]
            return all(state in FINAL for state in states.values())

        self.wait("jobs are not finished", finished)
        settled = time.monotonic() - started
        completed = {name for job, name in self.accepted if states[job] == "completed"}
        lost = [name for name in completed if not self.witness.ends[name]]
        return {
            "seconds": self.seconds,
            "kills": dict(self.kills),
            "done": dict(self.counts),
            "job_states": dict(Counter(states.values())),
            "attempts_per_job": sum(self.witness.attempts.values()) / max(1, len(self.accepted)),
            "jobs_run_twice_at_once": len(self.witness.overlaps),
            "completed_without_having_run": len(lost),
            "settled_after_s": settled,
            "server_rss_mib": self.server.rss_mib(),
            "server_descriptors": [self.descriptors, self.server.descriptors()],
            "server_processes": len(self.server.pids()),
        }

    def all_ready(self):
        states = [self.state("function", name) for name in self.functions]
        return states == ["ready"] * len(states)

    def state(self, kind, name):
        try:
            record = Connection(self.server).ask("GET", f"/{kind}/{name}")["data"]
        except (OSError, RuntimeError):
            return None
        return record["executor_status"] if kind == "executor" else record["function_status"]["state"]

    def wait(self, what, done, patience=180):
        end = time.monotonic() + patience
        while not done():
            if time.monotonic() > end:
                raise RuntimeError(f"after {patience} s: {what}")
            time.sleep(0.2)


def descendants(pid):
    """All processes under one."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task") if os.path.exists(f"/proc/{pid}/task") else []:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as children:
            for child in children.read().split():
                found += [int(child), *descendants(int(child))]
    return found


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    report("soak", seed=seed, **Soak(seconds, seed).run())


if __name__ == "__main__":
    main()
