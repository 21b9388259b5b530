"""Archives, the honest and the hostile ones."""

import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile

import pytest

from aios_policy_sandbox import CodeInvalid, PolicyCode, bundle

FUNCTION = b"class AIOSv1PolicyRule: ..."


def zip_of(*entries):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return packed.getvalue()


def tar_of(*entries, kind=tarfile.REGTYPE, link="", mode="w:xz"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def store(content, code_format):
    return bundle.store_code(PolicyCode(content, code_format, hashlib.sha256(content).hexdigest()))


def refused(content, code_format, tmp_path):
    with pytest.raises(CodeInvalid) as caught:
        store(content, code_format)
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == [], "a refused archive leaves nothing in the cache"
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}, "and nothing beside it"
    return caught.value.message


GOOD = ("code/function.py", FUNCTION)


@pytest.mark.parametrize(
    ("content", "code_format"),
    [
        (FUNCTION, "source"),
        (zip_of((*GOOD, 0o100644)), "zip"),
        (zip_of(("code/", b"", 0o040755), (*GOOD, 0)), "zip"),
        (tar_of(GOOD), "tar.xz"),
        (tar_of(("./function.py", FUNCTION), mode="w:gz"), "tar.gz"),
    ],
)
def test_every_format_unpacks_and_is_kept(content, code_format):
    folder = store(content, code_format)
    assert (bundle.code_root(folder) / "function.py").read_bytes() == FUNCTION
    assert bundle.cached_code(hashlib.sha256(content).hexdigest()) == folder
    assert store(content, code_format) == folder


@pytest.mark.parametrize(
    "name",
    ["../evil.py", "code/../../evil.py", "/tmp/evil.py", "..\\evil.py", "C:/evil.py", "code/C:evil.py", "code/.."],
)
def test_entries_that_climb_out(name, tmp_path):
    assert "points out of it" in refused(zip_of((*GOOD, 0), (name, b"x", 0)), "zip", tmp_path)
    assert "points out of it" in refused(tar_of(GOOD, (name, b"x")), "tar.xz", tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices(kind, tmp_path):
    content = tar_of(("code/function.py", b""), kind=kind, link="/etc/passwd")
    assert "link or a device" in refused(content, "tar.xz", tmp_path)


def test_a_link_in_a_zip(tmp_path):
    assert "link or a device" in refused(zip_of(("code/function.py", b"/etc/passwd", 0o120777)), "zip", tmp_path)


@pytest.mark.parametrize("second", ["code/function.py", "code/./function.py", "code/function.py/inner.py"])
def test_no_entry_replaces_another(second, tmp_path):
    assert "cannot be unpacked" in refused(tar_of(GOOD, (second, b"x")), "tar.xz", tmp_path)


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_UNPACKED", 1 << 20)
    monkeypatch.setattr(bundle, "MAX_FILES", 100)
    large = ("code/large.bin", bytes(2 << 20))
    assert "more than 1 MiB" in refused(zip_of((*GOOD, 0), (*large, 0)), "zip", tmp_path)
    assert "more than 1 MiB" in refused(tar_of(GOOD, large), "tar.xz", tmp_path)
    many = [(f"code/f{number}.py", b"") for number in range(101)]
    assert "more than 100 files" in refused(tar_of(GOOD, *many), "tar.xz", tmp_path)


def test_a_bomb_in_a_tars_own_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_UNPACKED", 1 << 20)
    monkeypatch.setattr(bundle, "MAX_FILES", 100)
    assert "more than 1 MiB" in refused(tar_of(("a" * (4 << 20), b""), mode="w:gz"), "tar.gz", tmp_path)


@pytest.mark.parametrize("code_format", ["zip", "tar.xz", "tar.gz"])
@pytest.mark.parametrize("keep", [0, 1, 20, 0.5, 0.9])
def test_truncated_archives(code_format, keep, tmp_path):
    noise = ("code/noise.bin", hashlib.shake_256(b"x").digest(5000))
    whole = {
        "zip": zip_of((*GOOD, 0), (*noise, 0)),
        "tar.xz": tar_of(GOOD, noise),
        "tar.gz": tar_of(GOOD, noise, mode="w:gz"),
    }[code_format]
    refused(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep], code_format, tmp_path)


@pytest.mark.parametrize("packed", [lzma.compress(b"not a tar" * 100), b"no archive at all", gzip.compress(b"")])
def test_what_is_no_archive(packed, tmp_path):
    for code_format in ("zip", "tar.xz", "tar.gz"):
        refused(packed, code_format, tmp_path)


def test_archives_without_function_py(tmp_path):
    assert "code/function.py" in refused(zip_of(("code/other.py", b"", 0)), "zip", tmp_path)


def test_compiled_code_and_desktop_litter_stay_out():
    litter = ["__MACOSX/code/._function.py", "code/.DS_Store", "code/__pycache__/function.cpython-311.pyc"]
    folder = store(tar_of(GOOD, *[(name, b"x") for name in litter]), "tar.xz")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["function.py"]


def test_a_format_of_the_future(tmp_path):
    assert "`tar.zst` is unknown" in refused(b"x", "tar.zst", tmp_path)
