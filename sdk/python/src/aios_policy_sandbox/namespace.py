"""Modules of one policy, kept apart from those of every other policy and of the application.

Each policy is a package of its own, named `_aios_policy_<n>`, so that many policies may have a module `function`
and helpers of the same names. INVARIANT (own helpers): an absolute import written in a policy's code finds the
policy's own module first, whenever and in whichever thread it runs. The interpreter looks `__import__` up in the
`__builtins__` of the module that an import stands in; a policy's modules get `__builtins__` of their own with an
`__import__` that knows the policy. Nothing global is replaced, so no other import in the process pays for it.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.machinery
import itertools
import logging
import sys
import threading
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Optional

from .requirements import standard_library_names

__all__ = ["PolicyNamespace"]

logger = logging.getLogger("aios_policy_sandbox")

_numbers = itertools.count(1)
# Reentrant: the garbage collector may close one namespace in the middle of making another.
_lock = threading.RLock()
_namespaces: dict[str, PolicyNamespace] = {}
_path_users: Counter[str] = Counter()
_preferred = threading.local()


class PolicyNamespace:
    """The modules in `folder`, and the installed requirements they may import (None: there are none).

    The requirements' folder is at the end of `sys.path` until `close`. Third-party packages exist once per
    process: the first copy that is imported serves everybody, and a policy that brings another is told in the log.
    """

    def __init__(self, folder: Path, requirements: Optional[Path] = None) -> None:
        self.package = f"_aios_policy_{next(_numbers)}"
        self._own = frozenset(_module_names(folder, packages_only=True))
        self._requirements = requirements
        offered = set(_module_names(requirements)) if requirements else set()
        self._offered = offered - standard_library_names() - self._own
        self._unchecked = set(self._offered)
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._importlib = self._view_of_importlib()
        self._closed = False
        root = types.ModuleType(self.package)
        root.__path__ = [str(folder)]
        with _lock:
            _install_finder()
            _namespaces[self.package] = self
            sys.modules[self.package] = root
            self._share_requirements(1)

    def load(self, name: str) -> types.ModuleType:
        """Import one of the policy's own modules; exceptions of its code propagate as they are."""
        return importlib.import_module(f"{self.package}.{name}")

    def close(self) -> None:
        """Forget the modules. What still runs of the policy works on, but can import nothing of its own."""
        with _lock:
            if self._closed:
                return
            self._closed = True
            del _namespaces[self.package]
            self._share_requirements(-1)
            for name in [name for name in list(sys.modules) if name.partition(".")[0] == self.package]:
                del sys.modules[name]

    def find_spec(self, fullname: str, path: Sequence[str]) -> Optional[importlib.machinery.ModuleSpec]:
        """Where the import system finds one of the policy's modules; None when it isn't there."""
        loaders = (
            (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
            (partial(_Loader, self._builtins), importlib.machinery.SOURCE_SUFFIXES),
        )
        for folder in path:
            spec = importlib.machinery.FileFinder(folder, *loaders).find_spec(fullname)  # type: ignore[arg-type]
            if spec is not None:
                return spec
        return None

    def prefers(self, fullname: str) -> bool:
        """Whether the requirements hold that top-level module."""
        return fullname in self._offered

    @property
    def requirements(self) -> Optional[Path]:
        """The folder of the installed requirements."""
        return self._requirements

    def _import(
        self,
        name: str,
        globals: Optional[Mapping[str, Any]] = None,
        locals: Optional[Mapping[str, Any]] = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> types.ModuleType:
        """`__import__` of the policy's modules; upholds INVARIANT (own helpers)."""
        top = name.partition(".")[0]
        if level == 0 and top in self._own:
            self._refuse_if_closed(name)
            module = builtins.__import__(f"{self.package}.{name}", globals, locals, fromlist, 0)
            return module if fromlist else sys.modules[f"{self.package}.{top}"]
        if level == 0 and top in self._offered:
            with self._preferring_requirements():
                module = builtins.__import__(name, globals, locals, fromlist, 0)
            self._tell_if_foreign(top)
            return module
        module = builtins.__import__(name, globals, locals, fromlist, level)
        return self._importlib if module is importlib else module

    def _import_module(self, name: str, package: Optional[str] = None) -> types.ModuleType:
        """`importlib.import_module` as the policy sees it; upholds INVARIANT (own helpers)."""
        if name.partition(".")[0] in self._own:
            self._refuse_if_closed(name)
            return importlib.import_module(f"{self.package}.{name}")
        with self._preferring_requirements():
            return importlib.import_module(name, package)

    def _view_of_importlib(self) -> types.ModuleType:
        view = types.ModuleType("importlib", importlib.__doc__)
        view.__dict__.update(vars(importlib))
        view.import_module = self._import_module  # type: ignore[attr-defined]
        # Submodules such as importlib.util may be imported later.
        view.__getattr__ = partial(getattr, importlib)  # type: ignore[method-assign]
        return view

    def _refuse_if_closed(self, name: str) -> None:
        if self._closed:
            raise ImportError(f"cannot import `{name}`: the policy it belongs to was closed", name=name)

    @contextmanager
    def _preferring_requirements(self) -> Iterator[None]:
        """Let the policy's requirements come before the application's packages, in this thread."""
        before: Optional[PolicyNamespace] = getattr(_preferred, "namespace", None)
        _preferred.namespace = self
        try:
            yield
        finally:
            _preferred.namespace = before

    def _tell_if_foreign(self, top: str) -> None:
        if top not in self._unchecked:
            return
        self._unchecked.discard(top)
        spec = getattr(sys.modules.get(top), "__spec__", None)
        places = [getattr(spec, "origin", None), *(getattr(spec, "submodule_search_locations", None) or ())]
        if not any(place and Path(place).is_relative_to(str(self._requirements)) for place in places):
            logger.warning(
                "the policy's requirement `%s` was already loaded from %s, which is used; "
                "run the policy remotely if it needs its own version",
                top,
                next(filter(None, places), "elsewhere"),
            )

    def _share_requirements(self, change: int) -> None:
        if self._requirements is None:
            return
        folder = str(self._requirements)
        _path_users[folder] += change
        if _path_users[folder] > 0 and folder not in sys.path:
            sys.path.append(folder)
        elif _path_users[folder] <= 0 and folder in sys.path:
            sys.path.remove(folder)


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs a module with the `__builtins__` of its policy."""

    def __init__(self, private: dict[str, Any], fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._private = private

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__builtins__"] = self._private
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of all policies; for anything else it has one dictionary look-up's cost."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],
        target: Optional[types.ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if path is not None:
            namespace = _namespaces.get(fullname.partition(".")[0])
            return namespace.find_spec(fullname, path) if namespace else None
        preferred: Optional[PolicyNamespace] = getattr(_preferred, "namespace", None)
        if preferred is not None and preferred.prefers(fullname):
            return importlib.machinery.PathFinder.find_spec(fullname, [str(preferred.requirements)])
        return None


_finder = _Finder()


def _install_finder() -> None:
    # Again with every policy: test runners and tools are known to restore sys.meta_path.
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def _module_names(folder: Path, packages_only: bool = False) -> Iterator[str]:
    """Names that can be imported from a folder.

    packages_only: leave folders without any Python file out. Those hold data, and one that is called `json`, say,
    must not hide the standard library's module.
    """
    suffixes = (*importlib.machinery.SOURCE_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES)
    for entry in folder.iterdir():
        name = entry.name.partition(".")[0]
        if not name.isidentifier():
            continue
        if entry.is_dir():
            if "." not in entry.name and not (packages_only and next(entry.rglob("*.py"), None) is None):
                yield name
        elif entry.name.endswith(suffixes):
            yield name
