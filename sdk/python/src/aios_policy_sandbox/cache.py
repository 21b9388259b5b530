"""The folder on this machine that keeps policy code and installed requirements, by content."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

__all__ = ["cache_folder", "make_once"]


def cache_folder(kind: str) -> Path:
    """The folder for one kind of content, made if needed, for this user only.

    Under `EDICT_CACHE_DIR`, else under the platform's user cache folder. OSError when it cannot be made.
    """
    given = os.environ.get("EDICT_CACHE_DIR")
    folder = Path(given) if given else _user_cache() / "edict"
    folder = folder.absolute() / "python" / kind
    # What lies here is run later: others on this machine must not be able to write it.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def make_once(target: Path, fill: Callable[[Path], None]) -> Path:
    """`target`, a folder that `fill` has filled completely, by whichever process came first.

    `fill` gets an empty folder that becomes `target` in one step, so that nobody ever sees half of it. When it
    raises, nothing is left and the next caller tries again.
    """
    if target.is_dir():
        return target
    with _locked(target.with_name(target.name + ".lock")):
        if target.is_dir():
            return target
        for abandoned in target.parent.glob(f"{target.name}.tmp-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp-", dir=target.parent))
        try:
            fill(fresh)
            fresh.rename(target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    return target


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that all processes respect, and that the system releases should this one die."""
    with path.open("a+b") as file:
        _lock(file)
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        while True:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return
            except OSError:
                time.sleep(0.1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
