#!/usr/bin/env python3
"""Graphs of functions: the spec's diamond beside single calls, with nodes that sleep, and chains of 10 and 100."""

import os
import statistics

from harness import Connection, Server, encode, p50_ms, report, unused_cpu

ROUNDS, COUNT = 5, 2000
CPUS = sorted(os.sched_getaffinity(0))
SOURCE = """class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        return {body}
"""
CHAIN = 100


def deploy(connection, name, body):
    """One replica of a function whose `eval` returns this."""
    policy = {"name": name, "version": "1.0", "release_tag": "bench", "code": SOURCE.format(body=body)}
    uri = connection.ask("POST", "/policy", policy)["data"]["policy_rule_uri"]
    function = {"name": name, "policy_rule_uri": uri}
    done = connection.ask("POST", "/function/deployments/create/local?wait=60s", function)
    assert done["data"]["function_status"]["state"] == "ready", done


def graph(connection, name, nodes, edges):
    """Registers a graph; returns the request that runs it."""
    record = {"graph_name": name, "graph_version": "1.0", "graph_release_tag": "bench"}
    record |= {"graph_function_ids": nodes, "graph_connection_data": edges}
    uri = connection.ask("POST", "/graphs", record)["data"]["graph_uri"]
    return encode("POST", "/graph/execute_graph", {"graph_uri": uri, "input_data": {"ip": "10.0.0.1"}})


def diamond(connection, name, nodes):
    a, b, c, d = nodes
    return graph(connection, name, nodes, {a: [b, c], b: [d], c: [d]})


def chain(connection, name, nodes):
    return graph(connection, name, nodes, {one: [other] for one, other in zip(nodes, nodes[1:])})


def in_turn_ms(connection, requests, rounds):
    """Median of single calls that go to a different function each time, as those of a chain do: a process that has not
    run for a while starts with cold caches, which is not the chain's doing."""
    times = [connection.time(request)[0] for _ in range(rounds) for request in requests]
    return statistics.median(times) * 1e3


def main():
    quiet = unused_cpu()
    # The server and all its workers on one core, the client on the other.
    os.sched_setaffinity(0, CPUS[:1])
    with Server(max_replicas=CHAIN + 8, max_warm=CHAIN + 8) as server:
        os.sched_setaffinity(0, CPUS[-1:])
        connection = Connection(server)
        quick = [f"n{number}" for number in range(CHAIN)]
        slow = [f"slow{number}" for number in range(4)]
        for name in quick:
            deploy(connection, name, "{'allowed': True}")
        for name in slow:
            deploy(connection, name, "__import__('time').sleep(0.02)")
        requests = {
            "single": (encode("POST", "/function/call_function/n0", {"ip": "10.0.0.1"}), COUNT),
            "diamond": (diamond(connection, "diamond", quick[:4]), COUNT),
            "sleeping": (diamond(connection, "sleeping", slow), 30),
            "chain10": (chain(connection, "chain10", quick[:10]), COUNT // 4),
            "chain100": (chain(connection, "chain100", quick), COUNT // 20),
        }
        calls = [encode("POST", f"/function/call_function/{name}", {"ip": "10.0.0.1"}) for name in quick]
        rounds = []
        for _ in range(ROUNDS):
            times = {name: p50_ms(server, request, count)[0] for name, (request, count) in requests.items()}
            times["in_turn10"] = in_turn_ms(connection, calls[:10], COUNT // 20)
            times["in_turn100"] = in_turn_ms(connection, calls, COUNT // 100)
            rounds.append(times)

    def median(of):
        return statistics.median(of(one) for one in rounds)

    report(
        "graphs",
        unused_cpu=quiet,
        single_p50_ms=median(lambda one: one["single"]),
        diamond_p50_ms=median(lambda one: one["diamond"]),
        diamond_over_three_calls_ms=median(lambda one: one["diamond"] - 3 * one["single"]),
        diamond_sleeping_20_p50_ms=median(lambda one: one["sleeping"]),
        chain_10_ms_per_node=median(lambda one: one["chain10"] / 10),
        chain_100_ms_per_node=median(lambda one: one["chain100"] / 100),
        calls_to_10_in_turn_p50_ms=median(lambda one: one["in_turn10"]),
        calls_to_100_in_turn_p50_ms=median(lambda one: one["in_turn100"]),
        spread={"diamond_p50_ms": [one["diamond"] for one in rounds]},
    )


if __name__ == "__main__":
    main()
