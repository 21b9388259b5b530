"""A policy's requirements, installed once per content into a cached folder of their own."""

from __future__ import annotations

import hashlib
import logging
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Optional

from .cache import cache_folder, make_once
from .errors import RequirementsFailed

__all__ = ["install_requirements", "standard_library_names"]

logger = logging.getLogger("aios_policy_sandbox")

INSTALL_TIMEOUT = 900
"""Seconds after which an installer is given up."""

_LAST_LINES = 15
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def install_requirements(file: Path) -> Optional[Path]:
    """The folder with everything `file` (a requirements.txt) asks for; None when that is nothing.

    Names of standard-library modules are skipped with a warning. Installs with `uv` when there is one, else with
    pip; processes that want the same content wait for the one that installs it. Raises RequirementsFailed, and
    the next call tries again.
    """
    wanted = _wanted(file.read_text(encoding="utf-8-sig"))
    if not wanted:
        return None
    text = "\n".join(wanted) + "\n"
    # Installed files differ from one Python and platform to another.
    platform = f"{sys.implementation.cache_tag} {sysconfig.get_platform()}"
    digest = hashlib.sha256(f"{platform}\n{text}".encode()).hexdigest()
    return make_once(cache_folder("site") / digest, lambda folder: _install(text, folder))


def standard_library_names() -> frozenset[str]:
    """Names of the standard library's top-level modules in this Python."""
    if sys.version_info >= (3, 10):
        return frozenset(sys.stdlib_module_names)
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    folders += [str(Path(folder) / "lib-dynload") for folder in folders]
    found = (module.name for module in pkgutil.iter_modules(folders))
    return frozenset(sys.builtin_module_names).union(found) - {"pip", "setuptools", "site-packages"}


def _wanted(text: str) -> list[str]:
    standard = {name.lower() for name in standard_library_names()}
    wanted = []
    # A backslash at its end continues a line.
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        name = _NAME.match(line)
        if name and name.group().lower().replace("-", "_") in standard:
            logger.warning("requirement `%s` is part of Python; skipped, remove it from requirements.txt", line)
        elif line:
            wanted.append(line)
    return wanted


def _install(text: str, folder: Path) -> None:
    list_file = folder / "requirements.txt"
    list_file.write_text(text, encoding="utf-8")
    command = [*_installer(), "--target", str(folder), "-r", str(list_file)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_TIMEOUT,
            # An installer run for one policy must not pick up the environment the application works in.
            env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
        )
    except subprocess.TimeoutExpired as error:
        raise RequirementsFailed(
            f"the requirements were not installed within {INSTALL_TIMEOUT} s; see whether the package index is slow"
        ) from error
    except OSError as error:
        raise RequirementsFailed(f"cannot run `{command[0]}`: {error}; install uv or pip") from error
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
        raise RequirementsFailed(
            "the requirements cannot be installed; fix requirements.txt or the access to the package index:\n"
            + "\n".join(lines),
            details={"requirements": text.splitlines()},
        )


def _installer() -> list[str]:
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
