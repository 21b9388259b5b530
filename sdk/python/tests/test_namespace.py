"""Policies with modules of the same names live side by side, whatever they import, whenever, from any thread."""

import gc
import importlib
import pickle
import sys
import textwrap
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from aios_policy_sandbox import LocalPolicyEvaluator, namespace

CLASS = """
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
{body}
"""


@pytest.fixture
def make(tmp_path):
    """Makes a policy from its files and what `eval` does; closed after the test."""
    made = []

    def make(body, head="", **files):
        folder = tmp_path / f"policy{len(made)}"
        code = folder / "code"
        code.mkdir(parents=True)
        source = textwrap.dedent(head) + CLASS.format(body=textwrap.indent(textwrap.dedent(body), " " * 8))
        (code / "function.py").write_text(source)
        for name, text in files.items():
            target = code / (name.replace("__in__", "/") + ".py")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(textwrap.dedent(text))
        made.append(LocalPolicyEvaluator.from_folder(folder))
        return made[-1]

    yield make
    for policy in made:
        policy.close()


@pytest.mark.parametrize(
    "body",
    [
        "import helper; return helper.NAME",
        "from helper import NAME; return NAME",
        "import helper as h; return h.NAME",
        "return __import__('helper').NAME",
        "import importlib; return importlib.import_module('helper').NAME",
        "from importlib import import_module; return import_module('helper').NAME",
        "import importlib.util, importlib; return importlib.import_module('helper').NAME",
        "space = {}; exec('from helper import NAME', space); return space['NAME']",
        "import pkg.part; return pkg.part.NAME",
        "import pkg.part as p; return p.NAME",
        "from pkg import part; return part.NAME",
        "from pkg.part import NAME; return NAME",
        "import pkg; return pkg.RELATIVE",
        "import pkg.lazy; return pkg.lazy.get()",
        "import importlib; return importlib.import_module('pkg.part').NAME",
        "from plain.inner import NAME; return NAME",
    ],
)
def test_every_kind_of_lazy_import_finds_the_policys_own(make, body):
    policies = {}
    for name in ("one", "two"):
        policies[name] = make(
            body,
            helper=f"NAME = {name!r}",
            pkg__in____init__="from .part import NAME as RELATIVE",
            pkg__in__part=f"NAME = {name!r}",
            pkg__in__lazy="""
            def get():
                import helper
                from . import part

                assert part.NAME == helper.NAME
                return helper.NAME
            """,
            plain__in__inner=f"NAME = {name!r}",
        )
    for _ in range(2):
        for name, policy in policies.items():
            assert policy.execute_policy_rule(None) == name


def test_an_import_at_the_top_of_the_module_and_of_a_helper(make):
    for name in ("one", "two"):
        policy = make(
            "return deeper.NAME", "from helper import deeper", helper="import deeper", deeper=f"NAME = {name!r}"
        )
        assert policy.execute_policy_rule(None) == name


def test_the_applications_modules_of_the_same_name_stay_its_own(make, monkeypatch):
    theirs = types.ModuleType("helper")
    monkeypatch.setitem(sys.modules, "helper", theirs)
    policy = make("import helper; return helper.NAME", helper="NAME = 'policy'")
    assert policy.execute_policy_rule(None) == "policy"
    assert importlib.import_module("helper") is theirs


def test_an_own_module_hides_the_standard_librarys_for_the_policy_only(make):
    policy = make("import colorsys; return colorsys.NAME", colorsys="NAME = 'own'")
    assert policy.execute_policy_rule(None) == "own"
    import colorsys

    assert hasattr(colorsys, "rgb_to_hsv")


def test_a_folder_of_data_hides_nothing(tmp_path):
    code = tmp_path / "policy" / "code"
    (code / "json").mkdir(parents=True)
    (code / "json" / "table.txt").write_text("1")
    (code / "function.py").write_text(CLASS.format(body="        import json; return json.dumps(1)"))
    with LocalPolicyEvaluator.from_folder(tmp_path / "policy") as policy:
        assert policy.execute_policy_rule(None) == "1"


def test_a_helper_is_loaded_once_and_keeps_its_state(make):
    policy = make("import helper; helper.COUNT += 1; return helper.COUNT", helper="COUNT = 0")
    assert [policy.execute_policy_rule(None) for _ in range(3)] == [1, 2, 3]


def test_lazy_imports_from_many_threads_at_once(make):
    """Threads of several policies meet in their first imports, with the interpreter switching all the time."""
    slow = "import time\ntime.sleep(0.02)\nNAME = {!r}\n"
    policies = {name: make("import helper; return helper.NAME", helper=slow.format(name)) for name in "abcdef"}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        start = threading.Barrier(24)

        def run(name):
            start.wait()
            return name, {policies[name].execute_policy_rule(None) for _ in range(50)}

        with ThreadPoolExecutor(24) as pool:
            for name, seen in pool.map(run, list(policies) * 4):
                assert seen == {name}
    finally:
        sys.setswitchinterval(interval)


def test_a_thread_that_the_policy_starts_itself(make):
    body = """
    import threading
    found = []
    def work():
        import helper
        found.append(helper.NAME)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found
    """
    assert [make(body, helper=f"NAME = {n}").execute_policy_rule(None) for n in (1, 2)] == [[1], [2]]


def test_what_looks_modules_up_by_name_works(make):
    head = """
    import enum, pickle, typing
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: 'int'
        y: 'typing.ClassVar[int]' = 2

    class Color(enum.Enum):
        RED = 1
    """
    policy = make("return pickle.loads(pickle.dumps((Point(1), Color.RED))), typing.get_type_hints(Point)", head)
    (point, color), hints = policy.execute_policy_rule(None)
    assert (point.x, color.name, hints["x"]) == (1, "RED", int)
    assert pickle.loads(pickle.dumps(point)) == point, "the application can handle the policy's objects too"


def test_missing_modules_are_reported_as_ever(make):
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        make("import not_there_at_all").execute_policy_rule(None)
    with pytest.raises(ImportError, match="NOPE"):
        make("from helper import NOPE", helper="").execute_policy_rule(None)


def test_a_traceback_shows_the_policys_lines(make):
    policy = make("import helper; helper.fail()", helper="def fail():\n    raise RuntimeError('here')")
    with pytest.raises(RuntimeError, match="here") as caught:
        policy.execute_policy_rule(None)
    assert caught.traceback[-1].path.name == "helper.py"


def test_a_closed_policys_leftovers_cannot_import_another_policys_modules(make):
    policy = make("import helper; return helper.NAME", helper="NAME = 1")
    instance = policy.instance
    policy.close()
    with pytest.raises(ImportError, match="was closed"):
        instance.eval({}, None, None)


def test_nothing_global_is_replaced_but_one_finder(make):
    import builtins

    before = (builtins.__import__, importlib.import_module, dict(vars(builtins)))
    make("import helper", helper="").execute_policy_rule(None)
    assert (builtins.__import__, importlib.import_module, dict(vars(builtins))) == before
    assert len([finder for finder in sys.meta_path if type(finder).__module__.startswith("aios_policy")]) == 1


def test_the_garbage_collector_may_close_one_policy_while_another_is_made(tmp_path, monkeypatch):
    """A policy in a reference cycle is closed by the collector, in whatever that thread is doing just then."""
    (tmp_path / "function.py").write_text(CLASS.format(body="        return 1"))
    install_finder, results = namespace._install_finder, []

    def collecting():
        gc.collect()
        install_finder()

    def work():
        cycle = {"policy": LocalPolicyEvaluator.from_folder(tmp_path)}
        cycle["self"] = cycle
        del cycle
        monkeypatch.setattr(namespace, "_install_finder", collecting)
        with LocalPolicyEvaluator.from_folder(tmp_path) as policy:
            results.append(policy.execute_policy_rule(None))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for a lock that it holds itself"
    assert results == [1]
    assert not [name for name in sys.modules if name.startswith("_aios_policy_")]
