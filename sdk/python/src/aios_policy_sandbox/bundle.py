"""A policy's code: checked against its digest, unpacked where nothing in it can climb out, cached."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, Optional

from .cache import cache_folder, make_once
from .errors import CodeInvalid
from .records import PolicyCode

__all__ = ["MAX_FILES", "MAX_UNPACKED", "cached_code", "code_root", "store_code"]

MAX_FILES = 10_000
"""Files and folders in one archive."""

MAX_UNPACKED = 256 * 1024 * 1024
"""Bytes that an archive may unpack to."""

_CHUNK = 1 << 16

# What desktops and interpreters leave behind. Compiled code in an archive could run in place of the source beside it.
_IGNORED = {"__MACOSX", "__pycache__", ".DS_Store"}
_TAR_FORMATS: dict[str, Callable[[io.BytesIO], io.BufferedIOBase]] = {
    "tar.xz": lzma.LZMAFile,
    "tar.gz": lambda packed: gzip.GzipFile(fileobj=packed),
}
_BROKEN_ARCHIVE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,
    # Two entries with one name, or a file where another entry needs a folder.
    FileExistsError,
    NotADirectoryError,
)


def cached_code(digest: str) -> Optional[Path]:
    """The folder with the code of that digest (SHA-256 in hex), None when it isn't here yet."""
    folder = _folder_for(digest)
    return folder if folder.is_dir() else None


def store_code(code: PolicyCode) -> Path:
    """Check and unpack code into the cache; returns its folder.

    Raises CodeInvalid when the content does not have the digest, or the archive is broken or hostile.
    """
    found = hashlib.sha256(code.content).hexdigest()
    if found != code.digest.lower():
        raise CodeInvalid(
            f"the code has the digest `{found}`, not `{code.digest}` as announced; "
            "something on the way changed it: load the policy again, see what sits between here and the server",
            code="code_digest_mismatch",
        )
    return make_once(_folder_for(code.digest), lambda folder: _unpack(code, folder))


def code_root(folder: Path) -> Path:
    """The folder that holds `function.py`: `code` in it, or itself; CodeInvalid when neither has it."""
    for root in (folder / "code", folder):
        if (root / "function.py").is_file():
            return root
    raise CodeInvalid("there is no `code/function.py`; put the class AIOSv1PolicyRule into a file of that name")


def _folder_for(digest: str) -> Path:
    digest = digest.lower()
    # The digest comes from a server and becomes a path.
    if len(digest) != 64 or any(letter not in "0123456789abcdef" for letter in digest):
        raise CodeInvalid(
            f"`{digest[:80]}` is not a SHA-256 digest in hex; see whether the URL is that of an Edict server"
        )
    return cache_folder("code") / digest


def _unpack(code: PolicyCode, folder: Path) -> None:
    if code.format == "source":
        (folder / "function.py").write_bytes(code.content)
        return
    try:
        if code.format == "zip":
            _write_all(_zip_entries(code.content), folder)
        elif code.format in _TAR_FORMATS:
            with _TAR_FORMATS[code.format](io.BytesIO(code.content)) as plain:
                _write_all(_tar_entries(_Bounded(plain)), folder)
        else:
            raise CodeInvalid(
                f"the code's format `{code.format}` is unknown; a newer version of this package may know it"
            )
    except _BROKEN_ARCHIVE as error:
        raise CodeInvalid(f"the archive cannot be unpacked: {error}; pack it again") from error
    code_root(folder)


class _Entry(NamedTuple):
    """One file or folder of an archive; `open` gives a file's bytes."""

    name: str
    is_folder: bool
    open: Callable[[], IO[bytes]]


class _Bounded(io.RawIOBase):
    """A stream that stops once it has given more than an archive may unpack to.

    Without it a bomb could hide where no file's size shows it, in a tar's own headers.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._left = MAX_UNPACKED + MAX_FILES * 2048

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large()
        return data


def _write_all(entries: Iterator[_Entry], folder: Path) -> None:
    left = MAX_UNPACKED
    for number, entry in enumerate(entries):
        if number >= MAX_FILES:
            raise CodeInvalid(f"the archive holds more than {MAX_FILES} files; pack the policy's code only")
        parts = _safe_parts(entry.name)
        if not _IGNORED.isdisjoint(parts):
            continue
        target = folder.joinpath(*parts)
        if entry.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # What is written counts, not the size an archive claims. Exclusive creation: no entry replaces another.
        with entry.open() as source, target.open("xb") as out:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise _too_large()
                out.write(chunk)


def _safe_parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    # On Windows a backslash separates folders, and a drive's letter in front of any part starts from that drive.
    drive = any(part[1:2] == ":" for part in path.parts)
    if path.is_absolute() or ".." in path.parts or drive or "\\" in name or "\0" in name:
        raise CodeInvalid(f"the archive's entry `{name[:200]}` points out of it; pack relative paths only")
    return path.parts


def _zip_entries(content: bytes) -> Iterator[_Entry]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            kind = (info.external_attr >> 16) & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                raise _not_a_file(info.filename)
            if info.flag_bits & 1:
                raise CodeInvalid(f"the archive's entry `{info.filename}` is encrypted; pack it without a password")
            yield _Entry(info.filename, info.is_dir(), partial(archive.open, info))


def _tar_entries(stream: _Bounded) -> Iterator[_Entry]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            if not (info.isreg() or info.isdir()):
                raise _not_a_file(info.name)
            yield _Entry(info.name, info.isdir(), partial(_extract, archive, info))


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise _not_a_file(info.name)
    return file


def _not_a_file(name: str) -> CodeInvalid:
    return CodeInvalid(f"the archive's entry `{name[:200]}` is a link or a device; pack files and folders only")


def _too_large() -> CodeInvalid:
    return CodeInvalid(f"the archive unpacks to more than {MAX_UNPACKED >> 20} MiB; pack the policy's code only")
