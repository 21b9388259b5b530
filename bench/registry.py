#!/usr/bin/env python3
"""The registry with 1,000, 10,000 and 100,000 policies, on SQLite and on PostgreSQL.

PostgreSQL: EDICT_BENCH_POSTGRES_URL, the address of an empty database; without it, a server is started from Debian's
package if that is installed. Prints one line for both databases.
"""

import contextlib
import glob
import os
import random
import shutil
import subprocess
import tempfile

from harness import Connection, Server, encode, flood, p50_ms, report, unused_cpu

SIZES = [1_000, 10_000, 100_000]
HITS = 20
SOURCE = """class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.parameters = parameters

    def eval(self, parameters, input_data, context):
        return {"allowed": input_data.get("ip") in parameters["allowlist"]}
"""


def policy(number):
    """A record as people write them, about 1.5 kB; twenty share each release tag.

    Names come in no order: in order, every index would grow at its end only.
    """
    return {
        "name": f"policy_{number * 7_368_787 % 9_999_991:07}",
        "version": f"{number % 7}.{number % 10}",
        "release_tag": f"team-{number // HITS}",
        "code": SOURCE,
        "description": f"Allows a request when its address is on the list of team {number // HITS}.",
        "tags": f"network,ip,team{number // HITS},kind{number % 100}",
        "metadata": {"author_name": f"author {number % 500}", "category": "network", "rank": number},
        "policy_input_schema": {"ip": {"type": "string", "required": True, "length": 45}},
        "policy_output_schema": {"allowed": {"type": "boolean", "required": True}},
        "policy_parameters_schema": {"allowlist": {"type": "array", "items": {"type": "string", "length": 45}}},
        "policy_parameters": {"allowlist": [f"10.0.{number % 256}.{last}" for last in range(4)]},
    }


def uri(number):
    return "{name}:{version}-{release_tag}".format(**policy(number))


def timed(server, path, filter, hits, count):
    """Median of a query, after a look at what it finds."""
    found = Connection(server).ask("POST", path, filter)["data"]
    assert len(found) == hits, f"{filter} found {len(found)}"
    median, p99 = p50_ms(server, encode("POST", path, filter), count)
    return {"p50_ms": median, "p99_ms": p99}


def look_up(server, size):
    """What reading costs at this size. Other addresses and tags each time: the cache of one page would flatter."""
    pick = random.Random(size)
    connection = Connection(server)
    gets = [connection.time(encode("GET", f"/policy/{uri(pick.randrange(size))}"))[0] * 1e3 for _ in range(400)]
    gets = sorted(gets[40:])
    team = pick.randrange(size // HITS)
    return {
        "get_p50_ms": gets[len(gets) // 2],
        "get_p99_ms": gets[int(len(gets) * 0.99)],
        "indexed_20_hits": timed(server, "/policy/query", {"release_tag": f"team-{team}"}, HITS, 200),
        "regex_on_tags": timed(server, "/policy/query", {"tags": {"$regex": f"team{team}(,|$)"}}, HITS, 15),
    }


def fill(**settings):
    """Registers policies up to each size; what the last tenth of each cost is the rate at that size."""
    sizes, there = {}, 0
    with Server(**settings) as server:
        for size in SIZES:
            steps = [size - (size - there) // 10, size]
            done = {"errors": 0, "seconds": 0.0}
            for step in steps:
                part = flood(server, (encode("POST", "/policy", policy(number)) for number in range(there, step)))
                rate = part["count"] / part["seconds"]
                done = {"errors": done["errors"] + part["errors"], "seconds": done["seconds"] + part["seconds"]}
                there = step
            sizes[str(size)] = {
                "register_per_s": rate,
                "register_p50_ms": part["p50_ms"],
                "errors": done["errors"],
                **look_up(server, size),
            }
        return {"sizes": sizes, "server_rss_mib": server.rss_mib()}


@contextlib.contextmanager
def postgres():
    """The address of an empty database; None when there is no PostgreSQL."""
    given = os.environ.get("EDICT_BENCH_POSTGRES_URL")
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if given or not programs:
        yield given
        return
    folder, port = tempfile.mkdtemp(prefix="edict-bench-pg-"), str(random.randrange(20_000, 30_000))
    # It refuses to run as root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")

    def run(program, *arguments):
        subprocess.run(
            [*as_user, f"{programs[-1]}/{program}", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )

    try:
        run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "-E", "UTF8")
        run(
            "pg_ctl",
            "-D",
            f"{folder}/data",
            "-w",
            "-l",
            f"{folder}/log",
            "-o",
            f"-p {port} -k {folder} -h 127.0.0.1",
            "start",
        )
        try:
            yield f"postgres://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    quiet = unused_cpu()
    sqlite = fill()
    with postgres() as url:
        report("registry", unused_cpu=quiet, sqlite=sqlite, postgresql=fill(database_url=url) if url else None)


if __name__ == "__main__":
    main()
