"""Unpacks zip and tar archives to a folder without trusting their metadata."""

import lzma
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Limits on an unpacked archive; the largest public set here has about 15,000 files in 15 GB."""

    files: int = 200_000
    size: int = 100 * 1024**3  # bytes of all files together
    ratio: float = 200.0  # unpacked by packed size: pictures hardly compress, a zip bomb does a thousandfold
    ratio_from: int = 64 * 1024**2  # bytes below which a high ratio does no harm


@dataclass(frozen=True)
class Member:
    """One regular file in an archive: its name there, its declared size in bytes, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


LIMITS = Limits()
# Archives inside the archive: no picture set needs them, and their content would escape the checks.
NESTED = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    NotImplementedError,
)
BLOCK = 1024**2


def unpack(archive: Path, target: Path, limits: Limits = LIMITS) -> Path:
    """Unpack a zip or tar file into the new folder `target`, which appears once complete; return it.

    The format is read from the content, not the name. UserError, and no `target`, if it is neither, if it is
    truncated or encrypted, if it holds links, devices, other archives, two files with the same name or paths
    that lead outside, or if it exceeds `limits`.
    """
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with opened(archive, limits) as members:
            aside.mkdir(parents=True)
            allowed = _allowance(archive, limits)
            for member in members:
                allowed -= _write(archive, member, aside / member.name, allowed)
        os.rename(aside, target)
    except OSError as error:
        raise UserError(
            f"{archive}: found no way to unpack it into {target} ({error.strerror}), expected a folder with "
            "room; choose another or free space"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


@contextmanager
def opened(archive: Path, limits: Limits = LIMITS) -> Iterator[list[Member]]:
    """The regular files of an archive, checked against its directory; UserError as in `unpack`."""
    try:
        kind = _kind(archive)
        if kind == "zip":
            with zipfile.ZipFile(archive) as zipped:
                yield _checked(archive, _zip_members(archive, zipped), limits)
        else:
            with tarfile.open(archive) as tar:
                yield _checked(archive, _tar_members(archive, tar), limits)
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # from the file system; those of the decompressors have no errno
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refusal(
            archive, f"a broken or truncated archive ({reason})", "a whole one", "download it again"
        ) from None


def _refusal(
    archive: Path, found: str, expected: str, fix: str = "do not use it; get it from its publisher"
) -> UserError:
    return UserError(f"{archive}: found {found}, expected {expected}: {fix}")


def _kind(archive: Path) -> str:
    """The format of the content: "zip" or "tar"."""
    try:
        with open(archive, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise _refusal(
            archive, f"no readable file ({error.strerror})", "an archive", "correct the path"
        ) from None
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if tarfile.is_tarfile(archive):
        _check_end(archive, start)
        return "tar"
    if start[:3] == b"\x1f\x8b\x08" or start[:3] == b"BZh" or start[:6] == b"\xfd7zXZ\x00":
        return "tar"  # compressed, but not a valid tar: opening it will say why
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        fix = "the server sent a page, perhaps a log-in: open the address in a browser and save the file"
        raise _refusal(archive, "a web page", "a zip or tar file", fix)
    raise _refusal(
        archive, f"a file that begins with {start[:4]!r}", "a zip or tar file", "download it again"
    )


def _check_end(archive: Path, start: bytes) -> None:
    """An uncompressed tar must end in zeros; otherwise one cut between two files would look complete."""
    if start[257:262] != b"ustar":
        return  # compressed, so protected by a checksum, or in the older format
    with open(archive, "rb") as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(max(0, size - 512))
        if size % 512 or file.read().strip(b"\0"):
            raise EOFError("no end mark")


def _zip_members(archive: Path, zipped: zipfile.ZipFile) -> Iterator[Member]:
    for entry in zipped.infolist():
        if entry.flag_bits & 1:
            fix = "unpack it with its password and give the folder"
            raise _refusal(archive, f"an encrypted file, {entry.filename!r}", "none", fix)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if stat.S_ISLNK(kind):
            raise _refusal(archive, f"a link, {entry.filename!r}", "files and folders only")
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise _refusal(archive, f"a device or pipe, {entry.filename!r}", "files and folders only")
        name = _safe_name(archive, entry.orig_filename)
        if not entry.is_dir():
            yield Member(name, entry.file_size, partial(zipped.open, entry))


def _tar_members(archive: Path, tar: tarfile.TarFile) -> Iterator[Member]:
    for entry in tar:
        if entry.issym() or entry.islnk():
            raise _refusal(archive, f"a link, {entry.name!r}", "files and folders only")
        if not (entry.isreg() or entry.isdir()):
            raise _refusal(archive, f"a device or pipe, {entry.name!r}", "files and folders only")
        name = _safe_name(archive, entry.name)
        try:
            tarfile.data_filter(entry, "unpacked")
        except tarfile.FilterError as error:
            raise _refusal(
                archive, f"{entry.name!r} ({error})", "files inside the archive's folder"
            ) from None
        if entry.isreg():
            yield Member(name, entry.size, cast(Callable[[], IO[bytes]], partial(tar.extractfile, entry)))


def _safe_name(archive: Path, name: str) -> str:
    """The name with forward slashes; UserError if it leads out of the folder on any system."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise _refusal(archive, f"the absolute path {name!r}", "paths inside the archive's folder")
    if ".." in parts or "\0" in name:
        raise _refusal(archive, f"the path {name!r}", "paths inside the archive's folder")
    return "/".join(part for part in parts if part not in ("", "."))


def _checked(archive: Path, members: Iterator[Member], limits: Limits) -> list[Member]:
    """The members, with number, sizes and names checked; raises at the first that exceeds a limit."""
    checked: list[Member] = []
    seen: set[str] = set()
    total, allowed = 0, _allowance(archive, limits)
    for member in members:
        # Two names that differ in case or in how an accent is written are one file on some systems.
        key = unicodedata.normalize("NFC", member.name).casefold()
        if key in seen:
            raise _refusal(archive, f"two files named {member.name!r}", "each name once")
        if key.endswith(NESTED):
            fix = "unpack it by hand, look at it and give the folder"
            raise _refusal(archive, f"an archive inside it, {member.name!r}", "none", fix)
        seen.add(key)
        checked.append(member)
        total += member.size
        if len(checked) > limits.files:
            raise _refusal(archive, f"more than {limits.files} files", f"at most {limits.files}")
        if total > allowed:
            raise _too_large(archive, allowed)
    for key in seen:
        for end in (i for i, letter in enumerate(key) if letter == "/"):
            if key[:end] in seen:
                raise _refusal(archive, f"a file and a folder named {key[:end]!r}", "each name once")
    return checked


def _allowance(archive: Path, limits: Limits) -> int:
    """Bytes that the unpacked files may take together."""
    return min(limits.size, max(limits.ratio_from, int(limits.ratio * archive.stat().st_size)))


def _too_large(archive: Path, allowed: int) -> UserError:
    packed = archive.stat().st_size
    return _refusal(archive, f"more than {allowed} bytes packed in {packed}", f"at most {allowed}")


def _write(archive: Path, member: Member, path: Path, allowed: int) -> int:
    """Writes one file and returns its size; the size declared in the directory is not trusted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with member.open() as source, open(path, "xb") as file:
        while block := source.read(BLOCK):
            if (
                not size
                and block[:4] == b"PK\x03\x04"
                and path.suffix.lower() not in (".xlsx", ".docx", ".npz")
            ):
                fix = "unpack it by hand, look at it and give the folder"
                raise _refusal(archive, f"an archive inside it, {member.name!r}", "none", fix)
            size += len(block)
            if size > allowed:
                raise _too_large(archive, allowed)
            file.write(block)
    if size != member.size:
        raise EOFError(f"{member.name} has {size} of {member.size} bytes")
    return size
