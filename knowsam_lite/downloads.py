"""Downloads that end with the right file or one clear error, never with half a file.

What `fetch` guarantees: the file appears under its name only when it is complete and its SHA-256 is right
(until then it is NAME.part); an interrupted download resumes where it stopped, in this process or a later one
(HTTP Range); network and server errors are retried after growing pauses; two processes that want the same
file wait for each other (NAME.lock). If no checksum is published, that of the first download is recorded in
NAME.sha256 and enforced from then on.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm.auto import tqdm

from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text

PAUSE = 1.0  # seconds before the second attempt; each later one waits twice as long
TIMEOUT = (10, 60)  # seconds: to connect, and between two chunks of data
CHUNK = 1 << 16  # bytes; if the connection breaks, an incomplete last chunk is lost
BUSY = {408, 425, 429, 500, 502, 503, 504}  # HTTP status codes worth a retry


def cache_folder() -> Path:
    """Where downloads are kept: KNOWSAM_LITE_CACHE, or the user's cache folder. Raises UserError without one,
    as where no home folder is set.
    """
    if chosen := os.environ.get("KNOWSAM_LITE_CACHE"):
        return Path(chosen)
    import pooch

    try:
        return Path(pooch.os_cache("knowsam_lite"))
    except RuntimeError as error:
        raise UserError(
            f"found no folder for downloads ({error}), expected one: set KNOWSAM_LITE_CACHE to a folder"
        ) from None


class Resuming:
    """A downloader for pooch that keeps partial data in `part` and requests only the rest.

    Without a checksum, pieces of two versions of a file must not be joined: the rest is requested with
    If-Range and the version (ETag or date) stored in PART.version; without one, the whole file is.
    """

    def __init__(self, part: Path, checked: bool):
        self.part, self.checked = part, checked
        self.version = part.with_name(f"{part.name}.version")
        self.resumed = False  # whether the file was put together from pieces

    def __call__(self, url: str, output_file: str, pooch: object = None) -> None:
        """Download `url` and move it to `output_file`. Raises what requests raises, and UserError."""
        import requests

        have = self.part.stat().st_size if self.part.is_file() else 0
        headers = {"Accept-Encoding": "identity"}  # else lengths would be those of compressed data
        known = self.version.read_text(encoding="utf-8") if self.version.is_file() else ""
        if have and (self.checked or known):
            headers["Range"] = f"bytes={have}-"
            headers |= {} if self.checked else {"If-Range": known}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            complete = answer.headers.get("Content-Range") == f"bytes */{have}"
            if answer.status_code == 416:  # nothing left to send, or `part` is not a beginning of the file
                if not complete:
                    self.forget()
                    raise requests.ConnectionError("the server has less data than was already downloaded")
            else:
                self.store(answer, have)
        self.part.replace(output_file)
        self.version.unlink(missing_ok=True)

    def store(self, answer: Any, have: int) -> None:
        """Append the response to the partial file, or start it again if the server sends everything."""
        import requests

        answer.raise_for_status()
        if not self.checked and "text/html" in answer.headers.get("Content-Type", ""):
            raise UserError(
                f"found a web page at {answer.url} instead of a file, expected a download: "
                "open the address in a browser and put the file into place by hand"
            )
        goes_on = answer.status_code == 206
        self.resumed = self.resumed or goes_on
        have = have if goes_on else 0
        version = answer.headers.get("ETag", answer.headers.get("Last-Modified", ""))
        write_text(self.version, "" if version.startswith("W/") else version)  # weak: no proof
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        label = self.part.name.removesuffix(".part")
        with (
            self.part.open("ab" if goes_on else "wb") as file,
            tqdm(desc=label, total=total, initial=have, unit="B", unit_scale=True, leave=False) as bar,
        ):
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and self.part.stat().st_size < total:  # urllib3 before 2 does not complain
            raise requests.ConnectionError("the connection was closed early")

    def forget(self) -> None:
        """Delete the partial file."""
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    import pooch

    return str(pooch.file_hash(str(path), alg="sha256"))


def _attempt(url: str, path: Path, sha256: str | None, downloader: Resuming) -> None:
    """Download once. Raises UserError for errors that a retry cannot fix."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(url, sha256, path.name, path.parent, downloader=downloader)
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code in BUSY:
            raise
        found = f"found HTTP {error.response.status_code} ({error.response.reason}) at {url}"
        raise UserError(f"{found}, expected {path.name}: check the address or fetch it by hand") from None
    except ValueError as error:  # what pooch raises for a wrong checksum
        if isinstance(error, requests.RequestException):
            reason = "found no usable address"
            raise UserError(f"{reason} in {url!r}, expected http(s)://...: correct it") from None
        if downloader.resumed:  # the pieces did not belong together
            downloader.resumed = False
            raise requests.ConnectionError("the joined pieces have a wrong checksum") from None
        raise UserError(
            f"found the wrong file at {url} (its checksum is wrong), expected SHA-256 {sha256}: nothing was "
            f"kept; try again later, or put the right file at {path}"
        ) from None


def _with_retries(attempt: Callable[[], None], url: str, path: Path, retries: int) -> None:
    """Run `attempt` up to 1 + `retries` times, with pauses of 1, 2, 4, ... times PAUSE."""
    import requests

    for number in range(retries + 1):
        try:
            return attempt()
        except (requests.RequestException, ConnectionError) as error:
            reason = " ".join(str(error).split())[:160]
            if number == retries:
                raise UserError(
                    f"found {url} not reachable after {retries + 1} attempts ({reason}), expected a "
                    f"download: try again later (it resumes where it stopped), or put the file at {path}"
                ) from None
            time.sleep(PAUSE * 2**number)


def fetch(url: str, sha256: str | None, name: str, folder: Path, retries: int = 4) -> Path:
    """Path of the file `name` in `folder`, downloaded from `url` unless it is there and correct.

    `sha256`: None if no checksum is published; then the one in the sidecar file NAME.sha256 is used, which
    the first download writes. Raises UserError if there is no such file at `url`, if its checksum is wrong,
    if the network still fails after `retries` retries, or if `folder` cannot be written.
    """
    path, record = folder / name, folder / f"{name}.sha256"
    if sha256 is not None and path.is_file() and file_sha256(path) == sha256:
        return path  # also from a folder that only others may write to
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            published = sha256
            if published is None and record.is_file():
                sha256 = record.read_text(encoding="utf-8").split()[0]
            downloader = Resuming(folder / f"{name}.part", checked=sha256 is not None)
            _with_retries(lambda: _attempt(url, path, sha256, downloader), url, path, retries)
            if published is None:
                write_text(record, f"{sha256 or file_sha256(path)}  {name}\n")  # as sha256sum writes it
    except OSError as error:
        found = f"found {folder} not writable ({error.strerror})"
        raise UserError(f"{found}, expected a folder with room for {name}: choose another") from None
    return path
