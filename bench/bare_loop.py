"""The floor for stateless runs in Python: a warm interpreter forks, the child evaluates and pipes the result back.

`bare_loop.py SECONDS [CPU]` prints how many runs it did, its seconds, and the median and 99th percentile of one run
in milliseconds. No limits, no sandbox, no HTTP, no checks.
"""

import gc
import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "policies" / "ip_allowlist" / "code" / "function.py"
PARAMETERS, INPUT = {"local_allowlist": ["127.0.0.1", "192.168.0.1"]}, '{"ip": "127.0.0.1"}'


def load_policy():
    spec = importlib.util.spec_from_file_location("function", SAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AIOSv1PolicyRule


def run_once(policy):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = policy("bare", {}, PARAMETERS).eval(PARAMETERS, json.loads(INPUT), None)
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    text = b""
    while part := os.read(reading, 65536):
        text += part
    os.close(reading)
    os.waitpid(child, 0)
    return json.loads(text)


def main():
    seconds = float(sys.argv[1])
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    policy = load_policy()
    assert run_once(policy)["allowed"] is True
    gc.freeze()
    times, start = [], time.perf_counter()
    end = start + seconds
    while (begin := time.perf_counter()) < end:
        run_once(policy)
        times.append(time.perf_counter() - begin)
    times.sort()
    figures = {
        "count": len(times),
        "seconds": time.perf_counter() - start,
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": times[int(len(times) * 0.99)] * 1e3,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
