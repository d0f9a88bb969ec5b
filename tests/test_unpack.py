"""Hostile archives: nothing is written outside the target, and each gives one line that says why."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.archives import encrypted, tar_entry, tar_of, zip_link, zip_of

from knowsam_lite.data import unpack as module
from knowsam_lite.data.unpack import Limits, unpack
from knowsam_lite.errors import UserError

SMALL = Limits(files=100, size=10**7, ratio=50, ratio_from=10**4)
GOOD = {"set/images/a.png": os.urandom(3000), "set/masks/a.png": os.urandom(500), "set/empty.txt": b""}


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def duplicate(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/a.png", b"one")
        archive.writestr("set/A.PNG", b"two")
    return path


def lying(path: Path) -> Path:
    """A zip whose directory declares fewer bytes than the member has."""
    zip_of(path, {"a.png": b"\0" * 10**6})
    data = path.read_bytes().replace((10**6).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    return path


HOSTILE = {
    "traversal": (lambda p: zip_of(p, {"a/../../outside.png": b"x"}), "paths inside"),
    "traversal with backslashes": (lambda p: zip_of(p, {"..\\outside.png": b"x"}), "paths inside"),
    "traversal in tar": (lambda p: tar_of(p, {"../outside.png": b"x"}), "paths inside"),
    "absolute": (lambda p: zip_of(p, {"/tmp/outside.png": b"x"}), "absolute path"),
    "absolute in tar": (lambda p: tar_of(p, {"/tmp/outside.png": b"x"}), "absolute path"),
    "drive letter": (lambda p: zip_of(p, {"C:/outside.png": b"x"}), "absolute path"),
    "symlink": (lambda p: tar_entry(p, "a", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
    "symlink in zip": (lambda p: zip_link(p, "a", "../.."), "a link"),
    "hard link": (lambda p: tar_entry(p, "a", tarfile.LNKTYPE, "../outside.png"), "a link"),
    "device": (lambda p: tar_entry(p, "a", tarfile.CHRTYPE), "a device"),
    "pipe": (lambda p: tar_entry(p, "a", tarfile.FIFOTYPE), "a device"),
    "bomb by ratio": (lambda p: zip_of(p, {"a.png": b"\0" * 3 * 10**6}), "at most"),
    "bomb by ratio in tar": (lambda p: tar_of(p, {"a.png": b"\0" * 3 * 10**6}), "at most"),
    "bomb that lies about its size": (lying, "broken or truncated"),
    "bomb by count": (lambda p: zip_of(p, {f"{i}.png": b"" for i in range(101)}), "more than 100 files"),
    "nested by name": (lambda p: zip_of(p, {"a/more.tar.gz": b"x"}), "an archive inside it"),
    "nested by content": (lambda p: zip_of(p, {"a.png": b"PK\x03\x04 and more"}), "an archive inside it"),
    "duplicate names": (duplicate, "two files named"),
    "file and folder of one name": (lambda p: zip_of(p, {"a": b"", "a/b": b""}), "a file and a folder"),
    "wrong extension": (lambda p: p.write_bytes(b"7z\xbc\xaf\x27\x1c more") and p, "begins with b'7z"),
    "web page": (lambda p: p.write_bytes(b"\n<!DOCTYPE html><html>") and p, "a web page"),
    "encrypted": (encrypted, "an encrypted file"),
    "truncated zip": (lambda p: cut(zip_of(p, GOOD), 0.7), "broken or truncated"),
    "truncated tar.gz": (lambda p: cut(tar_of(p, GOOD), 0.7), "broken or truncated"),
    "truncated tar": (lambda p: cut(tar_of(p, GOOD, "w"), 0.1), "broken or truncated"),
    "empty file": (lambda p: p.write_bytes(b"") or p, "begins with b''"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line_and_leaves_nothing(tmp_path, name):
    make, words = HOSTILE[name]
    box = tmp_path / "box"
    box.mkdir()
    archive = make(box / "archive.zip")
    outside = sorted(Path("/tmp").glob("outside*"))
    with pytest.raises(UserError, match=words) as caught:
        unpack(archive, box / "a" / "target", SMALL)
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and str(archive) in message
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["archive.zip"]
    assert sorted(Path("/tmp").glob("outside*")) == outside
    assert not (box / "a" / "target").exists()


@pytest.mark.parametrize("make", [zip_of, tar_of], ids=["zip", "tar"])
@pytest.mark.parametrize("name", ["archive.zip", "archive.tar.gz", "download"])
def test_the_content_decides_and_every_byte_arrives(tmp_path, make, name):
    archive = make(tmp_path / name, GOOD)
    target = unpack(archive, tmp_path / "target", SMALL)
    found = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == GOOD


def test_a_missing_archive_and_a_full_disk_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no readable file"):
        unpack(tmp_path / "none.zip", tmp_path / "target")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(UserError, match="No space left"):
        unpack(zip_of(tmp_path / "a.zip", GOOD), tmp_path / "target")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_what_a_killed_run_left_is_replaced(tmp_path):
    (tmp_path / ".target.part").mkdir()
    (tmp_path / ".target.part/half.png").write_bytes(b"half")
    target = unpack(zip_of(tmp_path / "a.zip", GOOD), tmp_path / "target", SMALL)
    assert not (target / "half.png").exists() and sorted(p.name for p in tmp_path.iterdir()) == [
        "a.zip",
        "target",
    ]
