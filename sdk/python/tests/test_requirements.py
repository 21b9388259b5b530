"""Requirements: installed once per content, offline, from wheels made here."""

import hashlib
import logging
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from aios_policy_sandbox import LocalPolicyEvaluator, RequirementsFailed, requirements

FUNCTION = """
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        import {module}
        return {module}.VERSION
"""


@pytest.fixture(params=["uv", "pip"])
def installer(request, monkeypatch, tmp_path):
    """Each installer in turn; `uv` is found where this Python has it, as the package `uv` puts it there."""
    if request.param == "pip":
        monkeypatch.setenv("PATH", str(tmp_path))
        pytest.importorskip("pip")
    elif not shutil.which("uv"):
        pytest.skip("uv is not on the PATH")
    return request.param


@pytest.fixture
def wheel(tmp_path):
    def wheel(name, version="1.0"):
        path = tmp_path / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        return f"{name} @ {path.as_uri()}"

    return wheel


@pytest.fixture
def policy(tmp_path):
    made = []

    def policy(module, lines):
        code = tmp_path / f"policy{len(made)}" / "code"
        code.mkdir(parents=True)
        (code / "function.py").write_text(FUNCTION.format(module=module))
        (code / "requirements.txt").write_text("\n".join(lines))
        made.append(LocalPolicyEvaluator.from_folder(code.parent))
        return made[-1]

    yield policy
    for evaluator in made:
        evaluator.close()
    for name in [name for name in sys.modules if name.startswith("edict_test_")]:
        del sys.modules[name]


def site_folders(tmp_path):
    return sorted(path for path in (tmp_path / "cache" / "python" / "site").iterdir() if path.is_dir())


def test_they_are_importable_while_the_policy_is_open(installer, policy, wheel, tmp_path):
    before = list(sys.path)
    one = policy("edict_test_dep", [wheel("edict_test_dep")])
    assert one.execute_policy_rule(None) == "1.0"
    two = policy("edict_test_dep", [wheel("edict_test_dep")])
    assert len(site_folders(tmp_path)) == 1
    assert sys.path == [*before, str(site_folders(tmp_path)[0])]
    one.close()
    assert two.execute_policy_rule(None) == "1.0"
    two.close()
    assert sys.path == before


def test_standard_library_names_are_skipped_with_a_warning(policy, caplog, monkeypatch):
    monkeypatch.setattr(requirements.subprocess, "run", lambda *a, **k: pytest.fail("there is nothing to install"))
    with caplog.at_level(logging.WARNING, "aios_policy_sandbox"):
        policy("json", ["logging", "# a comment", "", "json==2.0  # why not", "XML"])
    assert [record.args[0] for record in caplog.records] == ["logging", "json==2.0", "XML"]


def test_names_that_only_look_like_the_standard_librarys_are_not_skipped():
    assert requirements._wanted("jsonschema\nlogging2>=1\nrequests\n") == ["jsonschema", "logging2>=1", "requests"]


def test_a_failed_install_says_why_and_is_tried_again(installer, policy, wheel, tmp_path):
    line = wheel("edict_test_late")
    path = tmp_path / "edict_test_late-1.0-py3-none-any.whl"
    away = path.rename(tmp_path / "away")
    with pytest.raises(RequirementsFailed, match="edict_test_late"):
        policy("edict_test_late", [line])
    assert site_folders(tmp_path) == []
    away.rename(path)
    shutil.rmtree(tmp_path / "policy0")
    assert policy("edict_test_late", [line]).execute_policy_rule(None) == "1.0"


def test_many_at_once_install_once(wheel, tmp_path, monkeypatch):
    installs, run = [], subprocess.run

    def counted(*arguments, **options):
        installs.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr(requirements.subprocess, "run", counted)
    file = tmp_path / "requirements.txt"
    file.write_text(wheel("edict_test_dep"))
    start = threading.Barrier(6)

    def install(_):
        start.wait()
        return requirements.install_requirements(file)

    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(install, range(6)))
    assert len(installs) == len(folders) == 1


def test_processes_wait_for_each_other(tmp_path):
    """Four processes fill one folder; the lock lets one of them do it, and the others see all of it."""
    script = f"""
import pathlib, time
from aios_policy_sandbox.cache import make_once

def fill(folder):
    with open({str(tmp_path / "fills")!r}, "a") as log:
        log.write("x")
    (folder / "a").write_text("1")
    time.sleep(0.3)
    (folder / "b").write_text("2")

made = make_once(pathlib.Path({str(tmp_path / "target")!r}), fill)
assert sorted(path.name for path in made.iterdir()) == ["a", "b"]
"""
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait(30) for process in running] == [0] * 4
    assert (tmp_path / "fills").read_text() == "x"


def test_what_a_killed_installer_left_is_cleared_away(tmp_path, wheel):
    file = tmp_path / "requirements.txt"
    file.write_text(wheel("edict_test_dep"))
    folder = requirements.install_requirements(file)
    abandoned = folder.rename(folder.with_name(f"{folder.name}.tmp-abandoned"))
    assert requirements.install_requirements(file) == folder
    assert not abandoned.exists()


def test_a_policy_prefers_its_own_requirements_to_what_the_application_could_import(
    policy, wheel, tmp_path, monkeypatch
):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "edict_test_dep.py").write_text("VERSION = 'application'")
    monkeypatch.syspath_prepend(str(tmp_path / "app"))
    assert policy("edict_test_dep", [wheel("edict_test_dep")]).execute_policy_rule(None) == "1.0"


def test_a_package_that_is_loaded_already_is_shared_and_the_log_says_so(policy, wheel, caplog):
    old, new = wheel("edict_test_dep", "1.0"), wheel("edict_test_dep", "2.0")
    assert policy("edict_test_dep", [old]).execute_policy_rule(None) == "1.0"
    late = policy("edict_test_dep", [new])
    with caplog.at_level(logging.WARNING, "aios_policy_sandbox"):
        assert [late.execute_policy_rule(None) for _ in range(2)] == ["1.0", "1.0"]
    assert len(caplog.records) == 1
    assert "already loaded" in caplog.text


def test_content_decides_not_comments(tmp_path, wheel):
    line, folders = wheel("edict_test_dep"), set()
    for number, text in enumerate([line, f"# why\n{line}\n\n", f"{line}\r\nlogging\r\n"]):
        file = tmp_path / f"{number}.txt"
        file.write_text(text)
        folders.add(requirements.install_requirements(file))
    assert len(folders) == 1


def test_no_requirements_no_folder(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("\n# nothing\n")
    assert requirements.install_requirements(file) is None


def test_the_digest_is_over_python_and_content(tmp_path, wheel):
    file = tmp_path / "requirements.txt"
    file.write_text(wheel("edict_test_dep"))
    folder = requirements.install_requirements(file)
    assert folder is not None
    assert folder.name != hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(folder.name) == 64
