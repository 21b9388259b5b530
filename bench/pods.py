#!/usr/bin/env python3
"""An executor in a cluster: what a call adds to a direct call of the pod, deploying a function until its first answer, and jobs
beside bare Kubernetes Jobs of the same image."""

import http.client
import json
import os
import secrets
import statistics
import subprocess
import time
from base64 import b64decode

from harness import HERE, Connection, Server, encode, percentile, report, unused_cpu

KUBECONFIG = os.environ.get("EDICT_BENCH_KUBECONFIG", "")
IMAGE = os.environ.get("EDICT_BENCH_IMAGE", "edict:0.1.0")
EXECUTOR = "bench"
NAMESPACE = f"edict-bench-{secrets.token_hex(6)}"
DEPLOYMENTS, ROUNDS, CALLS, JOBS = 5, 7, 500, 50
INPUT = {"ip": "10.0.0.1"}
# What a bare Job does: the same class, called once, by the same Python.
BARE = "import sys; exec(sys.argv[1]); print(AIOSv1PolicyRule('bare', {}, {'local_allowlist': []}).eval({'local_allowlist': []}, {'ip': '10.0.0.1'}, {}))"


def kubectl(*arguments, text=None):
    command = ["kubectl", "--kubeconfig", KUBECONFIG, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


def get(*what):
    return json.loads(kubectl("-n", NAMESPACE, "get", *what, "-o", "json"))


def node_address():
    """An address of this machine that pods reach: the cluster runs here."""
    addresses = json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["status"]["addresses"]
    return next(address["address"] for address in addresses if address["type"] == "InternalIP")


def source():
    return (HERE / "peers" / "policy.py").read_text()


def until(what, holds, patience=300):
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {patience} s")
        time.sleep(0.02)


class Pod:
    """One replica, called as its executor calls it."""

    def __init__(self):
        pod = next(pod for pod in get("pods")["items"] if "edict.dev/function" in json.dumps(pod["metadata"]))
        names = [source["secretRef"]["name"] for source in pod["spec"]["containers"][0]["envFrom"]]
        self.token = b64decode(get("secret", names[0])["data"]["EDICT_CALL_TOKEN"]).decode()
        self.address = (pod["status"]["podIP"], 8080)


def deploy(connection, uri, name):
    """Seconds from the request to the first answer, and the function's name."""
    started = time.perf_counter()
    connection.ask("POST", f"/function/deployments/create/{EXECUTOR}", {"name": name, "policy_rule_uri": uri})
    request = encode("POST", f"/function/call_function/{name}", INPUT, token=connection.token)
    while True:
        connection.send(request)
        status, _ = connection.receive()
        if status == 200:
            return time.perf_counter() - started
        time.sleep(0.02)


def deployments(connection, uri):
    times = []
    for number in range(DEPLOYMENTS):
        times.append(deploy(connection, uri, f"first{number}"))
        connection.ask("DELETE", f"/function/deployments/remove/first{number}")
        until("its pods are gone", lambda: not [p for p in get("pods")["items"] if "function" in str(p["metadata"]["labels"])])
    return times


def calls(server, connection, uri):
    """Rounds of calls through the policy system and of the pod itself, in turn: pairs of medians, in seconds."""
    deploy(connection, uri, "called")
    pod = Pod()
    ways = {
        "through": (Connection(server), encode("POST", "/function/call_function/called", INPUT, token=server.token)),
        "direct": (Connection(pod), encode("POST", "/call", INPUT, token=pod.token)),
    }
    rounds = []
    for _ in range(ROUNDS):
        medians = {}
        for name, (way, request) in ways.items():
            medians[name] = statistics.median(way.time(request)[0] for _ in range(CALLS))
        rounds.append(medians)
    connection.ask("DELETE", "/function/deployments/remove/called")
    until("its pods are gone", lambda: not [p for p in get("pods")["items"] if "function" in str(p["metadata"]["labels"])])
    return rounds[1:]


def jobs_of_edict(server, uri):
    """Seconds until 50 jobs that are submitted at once are completed."""
    connection = Connection(server)
    started = time.perf_counter()
    ids = []
    for _ in range(JOBS):
        connection.send(encode("POST", f"/jobs/submit/{EXECUTOR}", {"policy_rule_uri": uri, "inputs": INPUT}, token=server.token))
        status, reply = connection.receive()
        assert status == 201, reply
        ids.append(json.loads(reply)["job_id"])
    for job in ids:
        while True:
            record = connection.ask("GET", f"/jobs/{job}?wait=30s")["data"]
            if record["job_status"] == "completed":
                break
            assert record["job_status"] in ("pending", "running"), record
    return time.perf_counter() - started


def bare_jobs(number):
    """Seconds until 50 Kubernetes Jobs of the same image, made at once, are complete."""
    def job(index):
        container = {
            "name": "work", "image": IMAGE, "command": ["python3", "-c", BARE, source()],
            "resources": {"requests": {"cpu": "100m"}},
        }
        template = {"spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}}
        return {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"bare-{number}-{index}", "labels": {"bare": str(number)}},
            "spec": {"backoffLimit": 0, "template": template},
        }
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": [job(index) for index in range(JOBS)]})
    started = time.perf_counter()
    kubectl("-n", NAMESPACE, "create", "--validate=false", "-f", "-", text=manifest)
    kubectl("-n", NAMESPACE, "wait", "--for=condition=complete", "--timeout=600s", "job", "-l", f"bare={number}")
    seconds = time.perf_counter() - started
    kubectl("-n", NAMESPACE, "delete", "job", "-l", f"bare={number}", "--wait=true")
    return seconds


def quiet_again():
    """Waits until no pod of the round before is left."""
    until("the namespace has the executor only", lambda: len([p for p in get("pods")["items"] if "job-name" in p["metadata"]["labels"] and p["status"]["phase"] in ("Pending", "Running")]) == 0)
    time.sleep(5)


def main():
    if not KUBECONFIG:
        raise SystemExit("pods.py needs a cluster on this machine: EDICT_BENCH_KUBECONFIG names an administrator's kubeconfig")
    quiet, token = unused_cpu(), secrets.token_hex(16)
    with Server(bind=node_address(), token=token) as server:
        connection = Connection(server)
        record = {"name": "bench", "version": "1.0", "release_tag": "stable", "code": source(), "policy_parameters": {"local_allowlist": ["10.0.0.1"]}}
        uri = connection.ask("POST", "/policy", record)["data"]["policy_rule_uri"]
        started = time.perf_counter()
        server.edict("executor", "add-infra", EXECUTOR, "--kubeconfig", KUBECONFIG, "--namespace", NAMESPACE, "--image", IMAGE, "--server-url", server.url)
        added = time.perf_counter() - started
        try:
            # First, while the node has nothing to clean up.
            rounds = calls(server, connection, uri)
            first = deployments(connection, uri)
            pairs = []
            for number in range(3):
                bare = bare_jobs(number)
                quiet_again()
                pairs.append((jobs_of_edict(server, uri), bare))
                quiet_again()
        finally:
            started = time.perf_counter()
            server.edict("executor", "remove-infra", EXECUTOR, "--kubeconfig", KUBECONFIG)
            removed = time.perf_counter() - started
    report(
        "pods",
        unused_cpu=quiet,
        add_infra_s=added,
        remove_infra_s=removed,
        deploy_to_first_answer_s={"median": statistics.median(first), "worst": max(first)},
        call={
            "through_p50_ms": statistics.median(pair["through"] for pair in rounds) * 1e3,
            "direct_p50_ms": statistics.median(pair["direct"] for pair in rounds) * 1e3,
            "added_p50_ms": statistics.median(pair["through"] - pair["direct"] for pair in rounds) * 1e3,
        },
        jobs_50={
            "edict_s": [edict for edict, _ in pairs],
            "bare_s": [bare for _, bare in pairs],
            "ratio": statistics.median(edict / bare for edict, bare in pairs),
        },
    )


if __name__ == "__main__":
    main()
