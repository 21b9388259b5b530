"""Both kinds of context behave alike: the same tests over the one in memory and the one behind the API."""

import threading

import pytest

from aios_policy_sandbox import Client, Context, MemoryContext, NotFound


@pytest.fixture(params=["memory", "remote"])
def context(request, server):
    if request.param == "memory":
        yield MemoryContext()
        return
    server.add_policy("p:1-a", "")
    with Client(server.url) as client:
        yield client.context("p:1-a")


def test_it_is_a_mapping(context):
    assert isinstance(context, Context)
    assert len(context) == 0 and not context
    context["b"] = [1, {"x": None}]
    context["a"] = "text"
    assert list(context) == ["a", "b"]
    assert context["b"] == [1, {"x": None}]
    assert "a" in context and "c" not in context and 3 not in context
    assert context.get("c") is None and context.get("c", 5) == 5
    assert dict(context) == {"a": "text", "b": [1, {"x": None}]}
    assert dict(context.items()) == dict(context)
    assert list(context.values()) == ["text", [1, {"x": None}]]
    assert list(context.keys()) == ["a", "b"]
    del context["a"]
    with pytest.raises(KeyError):
        del context["a"]
    with pytest.raises(KeyError):
        context["a"]
    context.update({"c": 1}, d=2)
    context.update([("e", 3)])
    assert context.pop("c") == 1
    assert context.pop("c", "gone") == "gone"
    with pytest.raises(KeyError):
        context.pop("c")
    assert context.popitem() == ("b", [1, {"x": None}])
    assert context.setdefault("d", 9) == 2
    assert context.setdefault("f") is None
    context.clear()
    assert len(context) == 0
    with pytest.raises(KeyError):
        context.popitem()


def test_none_is_a_value_like_any_other(context):
    context["n"] = None
    assert "n" in context
    assert context["n"] is None
    assert context.get("n", 1) is None
    assert context.pop("n", 1) is None


def test_incr(context):
    assert context.incr("n") == 1
    assert context.incr("n", 4) == 5
    assert context.incr("n", by=-0.5) == 4.5
    with pytest.raises(TypeError):
        context.incr("n", "1")
    with pytest.raises(TypeError):
        context.incr("n", True)


def test_values_are_copied_in_and_out(context):
    given = [1]
    context["list"] = given
    given.append(2)
    context["list"].append(3)
    assert context["list"] == [1]


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", lambda: 1])
def test_what_json_cannot_hold(context, value):
    for store in (context.__setitem__, context.setdefault, lambda key, value: context.update({key: value})):
        with pytest.raises(TypeError):
            store("key", value)
    with pytest.raises(ValueError):
        context["key"] = float("nan")
    assert len(context) == 0


def test_keys_are_strings(context):
    for operation in (context.__getitem__, context.__delitem__, context.pop, context.incr, context.setdefault):
        with pytest.raises(TypeError, match="keys of a context are strings"):
            operation(1)


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_a_time_to_live_is_above_zero(context, ttl):
    with pytest.raises(ValueError, match="above 0"):
        context.set("key", 1, ttl=ttl)


def test_entries_end_with_their_time_to_live():
    now = [100.0]
    context = MemoryContext(clock=lambda: now[0])
    context.set("short", 1, ttl=10)
    context.set("long", 1, ttl=20.5)
    context["ever"] = 1
    context.set("renewed", 1, ttl=5)
    context["renewed"] = 2
    now[0] = 109.9
    assert context.incr("short") == 2
    now[0] = 110.0
    assert list(context) == ["ever", "long", "renewed"]
    assert context.incr("short") == 1, "a new entry, without the old one's end"
    now[0] = 1e9
    assert list(context) == ["ever", "renewed", "short"]


def test_threads_lose_no_increment():
    context = MemoryContext()
    threads = [threading.Thread(target=lambda: [context.incr("n") for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert context["n"] == 4000


def test_an_entry_that_is_no_number_cannot_be_counted_up():
    context = MemoryContext()
    context["n"] = "text"
    with pytest.raises(TypeError, match="`n` is not a number"):
        context.incr("n")


def test_what_goes_over_the_wire(server):
    import json

    server.add_policy("p:1-a", "")
    with Client(server.url) as client:
        context = client.context("p:1-a")
        context.set("k", 1, ttl=1.5)
        context["k"] = 1
        context.incr("k", 2)
    bodies = [json.loads(request["body"]) for request in server.requests]
    assert bodies == [
        {"op": "set", "key": "k", "value": 1, "ttl_seconds": 1.5},
        {"op": "set", "key": "k", "value": 1},
        {"op": "incr", "key": "k", "by": 2},
    ]


def test_the_context_of_a_policy_that_is_gone(server):
    with Client(server.url) as client, pytest.raises(NotFound):
        client.context("gone:1-a").get("key")
