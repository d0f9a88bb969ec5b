"""Damaged files of every kind: one line that says so, no other exception, and bounded memory.

KNOWSAM_LITE_SECONDS sets how long each reader is tried (default: a moment), KNOWSAM_LITE_SEED the draw.
"""

import itertools
import os
import resource
import struct
import time
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from helpers.data_folders import make_folder, picture, square
from helpers.pictures import PALETTE, write_png
from helpers.volume_folders import save_h5, save_nifti, volume
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.images import read_image, read_size
from knowsam_lite.data.masks import Coding, read_mask
from knowsam_lite.data.slices import Slices, read_header, read_labels_size
from knowsam_lite.errors import UserError

tifffile = pytest.importorskip("tifffile")
SECONDS = float(os.environ.get("KNOWSAM_LITE_SECONDS", 0))
FIRST = int(os.environ.get("KNOWSAM_LITE_SEED", 0))
ROUND = 300 if SECONDS else 25  # files before the clock is looked at
BOUND = 2 * 1024**3  # bytes
TALLY: dict[str, Counter[str]] = {}


def pictures(root: Path) -> list[Path]:
    """A valid mask in every format."""
    paths = []
    for ending in ("png", "jpg", "bmp", "gif", "webp"):
        paths.append(root / f"a.{ending}")
        Image.fromarray(square()).save(paths[-1])
    write_png(root / "p.png", square(3), 2, PALETTE, picture(1)[0, :4])
    write_png(root / "deep.png", picture(1).astype(int) * 257, 16, 2, turn=6)
    paths += [root / "p.png", root / "deep.png"]
    for i, options in enumerate(({}, {"compression": "lzw"}, {"tile": (16, 16), "compression": "zlib"})):
        paths.append(root / f"t{i}.tif")
        tifffile.imwrite(paths[-1], square().astype(np.uint16), bigtiff=i == 1, **options)
    paths.append(root / "rgb.tif")
    tifffile.imwrite(paths[-1], picture(2), photometric="rgb", compression="jpeg")
    return paths


def try_picture(path: Path) -> None:
    read_size(path)
    read_image(path)
    read_mask(path, Coding())


def niftis(root: Path) -> list[Path]:
    paths = [root / "v.nii", root / "v.nii.gz"]
    for path in paths:
        save_nifti(path, volume(0, (2, 8, 9))[1])
    return paths


def h5s(root: Path) -> list[Path]:
    save_h5(root / "v.h5", *volume(0, (2, 8, 9)))
    return [root / "v.h5"]


def try_volume(path: Path) -> None:
    read_header(path)
    read_labels_size(path, path)
    Slices().image(path, 0)
    Slices().values(path, 0, path)


def tables(root: Path) -> list[Path]:
    return [make_folder(root / "d", 2, 1, 1) / "index.csv"]


def try_table(path: Path) -> None:
    SegmentationFolder(path.parent)


def descriptions(root: Path) -> list[Path]:
    return [make_folder(root / "d", 2, 1, 1) / "dataset.json"]


READERS = {
    "picture": (pictures, try_picture),
    "NIfTI": (niftis, try_volume),
    "h5": (h5s, try_volume),
    "index.csv": (tables, try_table),
    "dataset.json": (descriptions, try_table),
}
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "cut", "drop", "copy", "word"]),
        st.floats(0, 1),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=6,
)


def damaged(content: bytes, edits: list[tuple[str, float, int]]) -> bytes:
    """The content with bytes set, cut off, dropped, repeated, or four set at once, early ones more often.

    The checksums of a PNG are made valid again, so that the damage gets behind them.
    """
    data = bytearray(content)
    for how, where, value in edits:
        if not data:
            break
        place = int(where ** (1 + value % 3) * (len(data) - 1))
        if how == "set":
            data[place] = value % 256
        elif how == "cut":
            del data[place:]
        elif how == "drop":
            del data[place : place + value % 16]
        elif how == "copy":
            data[place:place] = data[place : place + value % 64]
        else:
            data[place : place + 4] = struct.pack("<I", value)
    place = 8
    while content[:4] == b"\x89PNG" and place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_get_one_line(name):
    make, reader = READERS[name]
    count = TALLY.setdefault(name, Counter())
    with TemporaryDirectory() as place:
        wholes = {path: path.read_bytes() for path in make(Path(place))}
        for path in wholes:
            read_image(path) if name == "picture" else reader(path)

        def attack(path, edits):
            path.write_bytes(damaged(wholes[path], edits))
            try:
                reader(path)
                count["read"] += 1
            except UserError as error:
                assert "\n" not in str(error) and "found" in str(error) and "expected" in str(error)
                count["refused"] += 1
            finally:
                path.write_bytes(wholes[path])

        before, stop = peak(), time.monotonic() + SECONDS
        for number in itertools.count(FIRST):
            attacks = given(st.sampled_from(sorted(wholes)), EDITS)(attack)
            seed(number)(settings(max_examples=ROUND, deadline=None, database=None)(attacks))()
            if time.monotonic() >= stop:
                break
    assert peak() - before < BOUND
    print(name, dict(count), f"{peak() - before >> 20} MiB")


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_headers_that_claim_too_much_are_refused_in_little_memory(tmp_path):
    """A size of which the file holds nothing: 2 GB and more must not be reserved for it."""
    png = bytearray((write_png(tmp_path / "a.png", square()), (tmp_path / "a.png").read_bytes())[1])
    png[16:24] = struct.pack(">II", 2**30, 2**30)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (tmp_path / "a.png").write_bytes(png)
    tifffile.imwrite(tmp_path / "a.tif", square())
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(2**31)
    save_nifti(tmp_path / "v.nii.gz", volume(0)[1])
    save_nifti(tmp_path / "w.nii", volume(0)[1])
    raw = bytearray((tmp_path / "w.nii").read_bytes())
    raw[42:48] = struct.pack("<3h", 32000, 32000, 32000)
    (tmp_path / "w.nii").write_bytes(raw)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        for key in ("image", "label"):
            file.create_dataset(key, (100_000, 10_000, 10_000), np.uint8, chunks=(1, 100, 100))
    tracemalloc.start()
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        with pytest.raises(UserError, match=r"million pixels|no readable"):
            read_mask(path, Coding())
    for path in (tmp_path / "w.nii", tmp_path / "v.h5"):
        with pytest.raises(UserError, match="cannot hold"):
            try_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_pages_in_a_circle_are_refused_at_once(tmp_path):
    path = tmp_path / "circle.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    tags = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)  # the next page is this one
    path.write_bytes(content)
    with pytest.raises(UserError, match="in a circle"):
        read_image(path)
