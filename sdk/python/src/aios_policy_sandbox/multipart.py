"""A file and its metadata as one `multipart/form-data` body, streamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Optional, Union

__all__ = ["AssetSource", "multipart_body"]

AssetSource = Union[str, "os.PathLike[str]", bytes, BinaryIO]

_CHUNK = 1 << 16


@contextmanager
def multipart_body(
    asset: AssetSource, file_name: Optional[str], metadata: bytes
) -> Iterator[tuple[dict[str, str], Iterator[bytes]]]:
    """Headers, `Content-Length` among them, and the body in pieces, while the file is open.

    OSError when the file cannot be read.
    """
    if isinstance(asset, bytes):
        yield _parts(iter([asset]), len(asset), file_name or "asset", metadata)
    elif isinstance(asset, (str, os.PathLike)):
        path = Path(asset)
        with path.open("rb") as file:
            yield _parts(_pieces(file), path.stat().st_size, file_name or path.name, metadata)
    else:
        name = getattr(asset, "name", None)
        given = file_name or (Path(name).name if isinstance(name, str) else "asset")
        yield _parts(_pieces(asset), _length_left(asset), given, metadata)


def _parts(
    content: Iterator[bytes], length: int, file_name: str, metadata: bytes
) -> tuple[dict[str, str], Iterator[bytes]]:
    boundary = secrets.token_hex(16)
    # A quote or a line end in the name would end its header.
    name = file_name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="asset_metadata"\r\n'
        "Content-Type: application/json\r\n\r\n"
    ).encode() + metadata
    head += (
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="asset"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + length + len(tail)),
    }

    def pieces() -> Iterator[bytes]:
        yield head
        yield from content
        yield tail

    return headers, pieces()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece


def _length_left(file: BinaryIO) -> int:
    start = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    return end - start
