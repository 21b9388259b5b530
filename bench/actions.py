#!/usr/bin/env python3
"""What an action adds to the API server's own time: `scale_deployment` through Edict, and the same requests sent directly."""

import hashlib
import hmac
import http.client
import json
import os
import secrets
import ssl
import statistics
import subprocess
import tempfile
import time
from base64 import b64decode
from urllib.parse import urlsplit

from harness import Connection, Server, encode, percentile, report, unused_cpu

ROUNDS, COUNT = 5, 100
KUBECONFIG = os.environ.get("EDICT_BENCH_KUBECONFIG") or os.environ.get("EDICT_TEST_KUBECONFIG", "")
KEY = secrets.token_hex(32)


def kubectl(*arguments, text=None):
    command = ["kubectl", "--kubeconfig", KUBECONFIG, *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


class Conflict(Exception):
    """The object was changed in between."""


class Cluster:
    """The API server over one connection that is kept, as Edict keeps its own."""

    def __init__(self):
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(b64decode(user[part]) + b"\n")
            pair.flush()
            context.load_cert_chain(pair.name)
        server = urlsplit(cluster["server"])
        self.connection = http.client.HTTPSConnection(server.hostname, server.port, context=context)

    def ask(self, method, path, body=None, content_type="application/json"):
        headers = {"content-type": content_type} if body else {}
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status == 409:
            raise Conflict
        if reply.status != 200:
            raise RuntimeError(f"{method} {path}: {reply.status} {text[:500]}")
        return json.loads(text)

    def scale(self, path, number):
        """What Edict asks for one action: the deployment, and the change of just what was seen. Returns seconds, of a try
        that met no change of the deployment's status."""
        while True:
            try:
                return self.scale_once(path, number)
            except Conflict:
                pass

    def scale_once(self, path, number):
        started = time.perf_counter()
        seen = self.ask("GET", path)
        change = {
            "metadata": {
                "resourceVersion": seen["metadata"]["resourceVersion"],
                "annotations": {"edict.dev/action": str(number)},
            },
            "spec": {"replicas": 0},
        }
        self.ask("PATCH", path, change, "application/merge-patch+json")
        return time.perf_counter() - started


def action(namespace):
    """A signed request that works once."""
    body = {
        "actionType": "scale_deployment",
        "actionParams": {"namespace": namespace, "deploymentName": "bench", "replicas": 0},
        "requestedBy": "bench",
        "timestamp": int(time.time()),
        "nonce": secrets.token_hex(16),
    }
    body["signature"] = hmac.new(KEY.encode(), json.dumps(body).encode(), hashlib.sha256).hexdigest()
    return encode("POST", "/executor/execute", body)


def deployment():
    """No pods, so that nothing but the API server has work with it."""
    labels = {"app": "bench"}
    container = {"name": "work", "image": "localhost/none"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench"}, "spec": spec}


def measure(namespace):
    """Seconds of each action through Edict and of the same requests sent directly, in turn."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/bench"
    settings = {
        "kubeconfig": KUBECONFIG,
        "allowed_namespaces": namespace,
        "jwt_secret": KEY,
        "rate_limit_scale_max": 1_000_000,
    }
    with Server(**settings) as server:
        url = json.loads((server.dir / "ready.json").read_text())["actions"]
        server.address = ("127.0.0.1", urlsplit(url).port)
        connection, cluster = Connection(server), Cluster()
        for number in range(10):
            connection.time(action(namespace))
            cluster.scale(path, number)
        through, direct = [], []
        for number in range(COUNT * ROUNDS):
            direct.append(cluster.scale(path, number))
            through.append(connection.time(action(namespace))[0])
    return through, direct


def main():
    if not KUBECONFIG:
        raise SystemExit("actions.py needs a cluster: EDICT_BENCH_KUBECONFIG names an administrator's kubeconfig")
    quiet = unused_cpu()
    namespace = f"edict-bench-{secrets.token_hex(6)}"
    kubectl("create", "namespace", namespace)
    try:
        kubectl("-n", namespace, "create", "-f", "-", text=json.dumps(deployment()))
        through, direct = measure(namespace)
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")
    rounds = [slice(start, start + COUNT) for start in range(0, COUNT * ROUNDS, COUNT)]
    added = [statistics.median(through[part]) - statistics.median(direct[part]) for part in rounds]
    report(
        "actions",
        unused_cpu=quiet,
        through_edict_p50_ms=statistics.median(through) * 1e3,
        through_edict_p99_ms=percentile(through, 0.99) * 1e3,
        direct_p50_ms=statistics.median(direct) * 1e3,
        direct_p99_ms=percentile(direct, 0.99) * 1e3,
        added_p50_ms=statistics.median(added) * 1e3,
        spread={"added_p50_ms": [one * 1e3 for one in added]},
    )


if __name__ == "__main__":
    main()
