"""Gets the published files: given by the user, cached, downloaded, or requested by hand."""

import os
from collections.abc import Sequence
from pathlib import Path

from knowsam_lite.data.prepare.recipe import Source
from knowsam_lite.deprecated import old_names
from knowsam_lite.downloads import fetch, file_sha256
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text

__getattr__ = old_names(__name__)


def obtain(sources: Sequence[Source], given: Sequence[Path], cache: Path) -> list[Path]:
    """The paths of all sources: those `given` (archives or unpacked folders), else downloaded into `cache`.

    UserError if the number given is wrong, if one is missing or its checksum differs from the published one,
    or if a download fails.
    """
    if not given:
        return [download(source, cache) for source in sources]
    published = all(source.url or source.drive for source in sources)
    if sources and published and len(given) != len(sources):
        names = ", ".join(source.name for source in sources)
        raise UserError(
            f"found {len(given)} archives, expected {len(sources)} ({names}): give all with --archive"
        )
    by_name = {source.name: source for source in sources}
    for path in given:
        require(path)
        source = by_name.get(path.name)
        if source and source.sha256 and path.is_file():
            check(path, source.sha256)
    return list(given)


def require(path: Path) -> Path:
    """The path; UserError if it does not exist."""
    if not path.exists():
        raise UserError(f"found no {path}, expected an archive or an unpacked folder: correct the path")
    return path


def download(source: Source, cache: Path) -> Path:
    """The file of one source in the folder `cache`, verified; a UserError says how to get it by hand."""
    path = cache / source.name
    if source.url:
        return fetch(source.url, source.sha256, source.name, cache)
    if not path.is_file() and source.drive:
        _from_drive(source, cache)
    if not path.is_file():
        raise UserError(f"found no {path}, expected it: {source.by_hand}, then give it with --archive")
    record = cache / f"{source.name}.sha256"
    known = source.sha256 or (record.read_text(encoding="utf-8").split()[0] if record.is_file() else None)
    found = check(path, known)
    if known is None:
        write_text(record, f"{found}  {source.name}\n")
    return path


def check(path: Path, sha256: str | None) -> str:
    """The file's checksum; UserError if it is not `sha256`."""
    found = file_sha256(path)
    if sha256 and found != sha256:
        raise UserError(f"{path}: found sha256 {found}, expected {sha256}: delete the file and get it again")
    return found


def _from_drive(source: Source, cache: Path) -> None:
    """Downloads with gdown: Google Drive asks to confirm large files, which blocks plain downloads."""
    page = f"https://drive.google.com/file/d/{source.drive}/view"
    by_hand = f"open {page} in a browser and save the file as {cache / source.name}"
    try:
        import gdown
    except ImportError:
        raise UserError(
            f"found no package gdown, expected it for Google Drive: "
            f"pip install 'knowsam-lite[drive]', or {by_hand}"
        ) from None
    cache.mkdir(parents=True, exist_ok=True)
    aside = cache / f"{source.name}.part"
    try:
        done = gdown.download(id=source.drive, output=str(aside), resume=True)
    except Exception as error:  # gdown lets through whatever its network library raises
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"found {page} unavailable ({reason}), expected {source.name}: {by_hand}") from None
    if not done or not aside.is_file():
        raise UserError(f"found no file at {page}, expected {source.name}: {by_hand}")
    os.replace(aside, cache / source.name)
