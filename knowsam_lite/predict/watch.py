"""A folder that fills: each image is predicted once it is complete, until the user stops it."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from knowsam_lite.data.findings import Fault
from knowsam_lite.data.layout import ENDINGS
from knowsam_lite.data.names import folded
from knowsam_lite.data.walk import walk
from knowsam_lite.errors import UserError
from knowsam_lite.files import ignores_case
from knowsam_lite.predict.files import (
    LARGE_ENDING,
    ImageFile,
    Wanted,
    mask_path,
    refuse_drawn,
    refuse_inside,
    refuse_labels,
    stem,
    write_predictions,
)
from knowsam_lite.predict.predictor import Predictor

SECONDS = 1.0  # between two looks: polling sees files on every disk, network drives too
Stamp = tuple[int, int]  # size in bytes and time of change in ns


def pause() -> bool:
    """Wait for the next look, which always comes."""
    time.sleep(SECONDS)
    return True


def arrivals(folder: Path, done: Callable[[Path], bool], go_on: Callable[[], bool]) -> Iterator[Path]:
    """Each image below `folder`, once its size and time are those of the look before.

    `done(path)`: whether an image of the first look needs nothing. `go_on` waits between two looks, and
    ends it with False. A file that changes later counts as another image. UserError if the folder is gone.
    """
    before = stamps(folder)
    given = {path: stamp for path, stamp in before.items() if done(path)}
    while go_on():
        now = stamps(folder)
        for path, stamp in now.items():
            if before.get(path) == stamp != given.get(path):
                given[path] = stamp
                yield path
        before = now


def stamps(folder: Path) -> dict[Path, Stamp]:
    """The images that are in a folder now, in natural order, without empty files."""
    found = {}
    for path in walk(folder, ENDINGS).files:
        try:
            state = path.stat()
        except FileNotFoundError:  # it went between two calls
            continue
        if state.st_size:
            found[path] = (state.st_size, state.st_mtime_ns)
    return found


def watch(predictor: Predictor, folder: Path, out: Path, wanted: Wanted, go_on: Callable[[], bool]) -> None:
    """Predict what arrives in `folder` into `out`, a line for each image.

    `go_on` waits between two looks, and ends it with False. An image that cannot be read is a line, and the
    rest goes on. Images with a newer mask in `out` are left as they are. Raises UserError if `folder` is no
    folder, holds `out` or goes away, and if `out` cannot be written.
    """
    if not folder.is_dir():
        raise UserError(
            f"found no folder {folder}, expected the one that fills: make it, or correct the path"
        )
    refuse_inside(out, folder)
    refuse_labels(out)
    refuse_drawn(out, folder)
    one_case = ignores_case(out)

    def key(path: Path) -> str:
        name = str(stem(path.relative_to(folder)))
        return folded(name) if one_case else name

    owners: dict[str, Path] = {}
    for path in stamps(folder):
        owners.setdefault(key(path), path)

    def is_done(path: Path) -> bool:
        mask = mask_path(ImageFile(path, stem(path.relative_to(folder))), out)
        masks = (mask, mask.with_suffix(LARGE_ENDING))  # the second of pictures too large for memory
        return any(m.exists() and m.stat().st_mtime_ns >= path.stat().st_mtime_ns for m in masks)

    for path in arrivals(folder, is_done, go_on):
        file = ImageFile(path, stem(path.relative_to(folder)))
        name = key(path)
        owner = owners.setdefault(name, path)
        if owner != path and owner.exists():
            print(f"left out {path}: found {owner.name} with the same name, rename one", file=sys.stderr)
            continue
        owners[name] = path
        began = time.perf_counter()
        try:
            for _ in write_predictions(predictor, [file], out, wanted):
                print(f"{path}: {time.perf_counter() - began:.1f} s", flush=True)
        except Fault as error:
            print(f"left out {error}", file=sys.stderr, flush=True)
