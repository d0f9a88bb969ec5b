"""Folders drawn at random: what is read is what was written, or it is refused; nothing differs silently.

KNOWSAM_LITE_EXAMPLES sets their number, `--hypothesis-seed` the draw. Oracle: the numbers that were written.
"""

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from helpers.pictures import GRAY, GRAY_ALPHA, PALETTE, RGB, RGBA, exif, viewed, write_png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.mend import mend
from knowsam_lite.data.prepare import Request, prepare
from knowsam_lite.data.sets.own import Own, recipe
from knowsam_lite.errors import UserError

tifffile = pytest.importorskip("tifffile")
MORE = os.environ.get("KNOWSAM_LITE_EXAMPLES")
TALLY: Counter[str] = Counter()  # what became of the masks
NAMES = ["a", "b 2", "slice10", "x.y", "UPPER", "50%", "p 1/s1", "q/deep/er/s2"]
OTHER_NAMES = ["ärzte", "é", "名前", "β_γ"]
JUNK = [".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "@eaDir/a.png", "__MACOSX/._a.png", ".git/x.png"]
COLORS = np.random.default_rng(3).permutation(256 * 3).reshape(256, 3).astype(np.uint8)  # of palettes
COLORS[:3] = [[0, 0, 0], [255, 0, 0], [0, 128, 255]]


@dataclass
class Written:
    """How a mask was stored: gray numbers of `bits`, or indices or colors; whether it must be refused."""

    numbers: np.ndarray
    bits: int = 8
    gray: bool = True
    lossy: bool = False
    refused: bool = False


def tiff(path: Path, numbers: np.ndarray, draw, **options) -> None:
    if draw(st.booleans()) and numbers.dtype != bool:
        options |= {"compression": draw(st.sampled_from(["zlib", "lzw", "packbits", "zstd"]))}
    if draw(st.booleans()) and numbers.dtype != bool:
        options |= {"tile": (16, 16)}
    options |= {"bigtiff": draw(st.booleans()), "byteorder": draw(st.sampled_from("<>"))}
    tifffile.imwrite(path, numbers, **options)


def write_mask(draw, path: Path, numbers: np.ndarray, turn: int, form: str) -> tuple[Path, Written]:
    """Writes `numbers` (H, W), or colors (H, W, 3), in one of the forms that can hold them."""
    top, tags = int(numbers.max()), {} if turn == 1 else {"extratags": [(274, "H", 1, turn, True)]}
    if form.startswith("png gray"):
        depth = int(form.split()[-1])
        more = (
            {b"gAMA": (100000 // draw(st.integers(1, 3))).to_bytes(4, "big")} if draw(st.booleans()) else {}
        )
        write_png(path.with_name(path.name + ".png"), numbers, depth, GRAY, turn=turn, more=more)
        return path.with_name(path.name + ".png"), Written(numbers, depth)
    if form.startswith("png palette"):
        depth = int(form.split()[-1])
        path = path.with_name(path.name + ".PNG")
        alpha = {b"tRNS": bytes([0, 128])} if draw(st.booleans()) else {}
        write_png(path, numbers, depth, PALETTE, COLORS[: 2**depth], turn, alpha)
        return path, Written(numbers, gray=False)
    if form in ("png rgb 8", "png rgb 16", "png alpha", "png rgba", "png hole"):
        path, depth = path.with_name(path.name + ".png"), 16 if form.endswith("16") else 8
        channels = numbers if numbers.ndim == 3 else np.repeat(numbers[..., None], 3, axis=2)
        alpha = np.full((*channels.shape[:2], 1), 255)
        if form == "png hole":  # the same values, transparent and not
            alpha[0, 0], alpha[-1, -1] = 0, 0
            same = (channels == channels[0, 0]).all(axis=2).sum()
            refused = bool(same > 1)
        if form == "png alpha":
            write_png(path, np.concatenate([channels[..., :1], alpha], 2), 8, GRAY_ALPHA, turn=turn)
        elif form.startswith("png rgb "):
            write_png(
                path, channels * (257 if numbers.ndim == 3 and depth == 16 else 1), depth, RGB, turn=turn
            )
        else:
            write_png(path, np.concatenate([channels, alpha], 2), 8, RGBA, turn=turn)
        return path, Written(numbers, gray=False, refused=form == "png hole" and refused)
    if form.startswith("tiff "):
        path, kind = path.with_name(path.name + ".tif"), form.split()[1]
        if kind == "rgb":
            planar = draw(st.booleans())
            numbers = numbers.astype(np.uint8)
            stored = numbers.transpose(2, 0, 1) if planar else numbers
            tiff(
                path, stored, draw, photometric="rgb", planarconfig="separate" if planar else "contig", **tags
            )
            return path, Written(numbers)
        if kind == "palette":
            colors = COLORS.T.astype(np.uint16) * 257
            tiff(path, numbers.astype(np.uint8), draw, photometric="palette", colormap=colors, **tags)
            return path, Written(numbers, gray=False)
        tone = draw(st.sampled_from(["minisblack", "miniswhite"]))
        tiff(path, numbers.astype(bool if kind == "bool" else kind), draw, photometric=tone, **tags)
        return path, Written(numbers, 1 if kind == "bool" else 8)
    if form == "jpeg":
        path = path.with_name(path.name + ".jpg")
        Image.fromarray(numbers.astype(np.uint8)).save(path, quality=90, exif=exif(turn))
        with Image.open(path) as found:
            return path, Written(np.where(np.asarray(found) > 127, 255, 0), lossy=True)
    picture = Image.fromarray(numbers.astype(np.uint8))
    if form == "webp":
        path = path.with_name(path.name + ".webp")
        picture.convert("RGB").save(path, lossless=True, exif=exif(turn))
        return path, Written(numbers)
    path = path.with_name(f"{path.name}.{form}")
    assert turn == 1 and top < 256
    if form == "gif":
        picture.putpalette(COLORS.ravel().tolist())
        picture.save(path, optimize=False)
        return path, Written(numbers, gray=False)
    picture.save(path)
    return path, Written(numbers)


def forms_for(numbers_top: int, painted: bool, turned: bool) -> list[str]:
    """The forms that can hold values up to `numbers_top`, or colors."""
    if painted:
        forms = ["png rgb 8", "png rgb 16", "png rgba", "png hole", "tiff rgb"]
        return forms if turned else [*forms, "bmp"]
    forms = [f"png gray {depth}" for depth in (1, 2, 4, 8, 16) if numbers_top < 2**depth]
    forms += [f"png palette {depth}" for depth in (1, 2, 4, 8) if numbers_top < 2**depth]
    forms += ["png rgb 16", "tiff u2", "tiff u4", "tiff i4", "tiff f4", "tiff f8"]
    forms += ["tiff i2"] * (numbers_top < 2**15) + ["tiff i1"] * (numbers_top < 128)
    forms += ["tiff bool", "tiff bool"] * (numbers_top == 1)
    if numbers_top < 256:
        forms += ["png rgb 8", "png rgba", "png alpha", "png hole", "tiff u1", "tiff palette", "webp"]
        forms += [] if turned else ["bmp", "gif"]
    return forms


def expected(written: Written, values: list, ignore, painted: bool) -> np.ndarray | None:
    """The classes by this test's own reading, -1 where ignored; None if the mask must be refused."""
    known = [*values, *([] if ignore is None else [ignore])]
    if painted:
        known = [(r << 16) + (g << 8) + b for r, g, b in known]
        numbers = written.numbers.astype(np.int64) @ [65536, 256, 1]
    else:
        numbers = written.numbers.astype(np.int64)
    if written.refused:
        return None
    readings = [numbers]
    if written.gray and written.bits < 8 and not painted:
        readings.append(numbers * (255 // (2**written.bits - 1)))
    fitting = [reading for reading in readings if np.isin(reading, known).all()]
    if len(fitting) == 2 and (fitting[0] != fitting[1]).any() and fitting[0].any():
        return None
    if not fitting:
        return None
    classes = np.argmax(fitting[0][..., None] == np.array(known), axis=-1)
    return np.where(classes == len(values), -1, classes)


def write_image(
    draw, path: Path, rng: np.random.Generator, size: tuple[int, int], turn: int
) -> tuple[Path, np.ndarray]:
    """Writes a picture; returns what a network should see of it, float (H, W, 3), before any turn."""
    form = draw(
        st.sampled_from(["png 8", "png 16", "png gray 16", "png 4", "tiff u2", "tiff white", "tiff f4"])
    )
    color = rng.integers(0, 256, (*size, 3))
    tags = {} if turn == 1 else {"extratags": [(274, "H", 1, turn, True)]}
    if form == "png 8":
        write_png(path.with_suffix(".png"), color, 8, RGB, turn=turn)
        return path.with_suffix(".png"), color.astype(float)
    if form == "png 4":
        write_png(path.with_suffix(".png"), color[..., 0] % 16, 4, GRAY, turn=turn)
        return path.with_suffix(".png"), np.repeat(color[..., :1] % 16, 3, 2) * 17.0
    deep = color * 16 + rng.integers(0, 16, color.shape)  # 12 bits of 16
    if form != "png 16":
        deep = np.repeat(deep[..., :1], 3, 2)
    seen = (deep - deep.min()) * 255.0 / (deep.max() - deep.min())
    if form == "png 16":
        write_png(path.with_suffix(".png"), deep, 16, RGB, turn=turn)
        return path.with_suffix(".png"), seen
    if form == "png gray 16":
        write_png(path.with_suffix(".png"), deep[..., 0], 16, GRAY, turn=turn)
        return path.with_suffix(".png"), seen
    kind = np.float32 if form == "tiff f4" else np.uint16
    tone = "miniswhite" if form == "tiff white" else "minisblack"
    tiff(path.with_suffix(".tif"), deep[..., 0].astype(kind), draw, photometric=tone, **tags)
    return path.with_suffix(".tif"), 255 - seen if form == "tiff white" else seen


def draw_values(draw) -> tuple[list, list | int | None, bool]:
    """mask_values, `ignore` and whether they are colors."""
    count = draw(st.integers(2, 4))
    if draw(st.integers(0, 4)) == 0:
        values = [[0, 0, 0], [255, 0, 0], [0, 128, 255], [255, 255, 0]][:count]
        return values, draw(st.sampled_from([None, [255, 255, 255]])), True
    pool = draw(
        st.sampled_from([[0, 255, 128, 64], [0, 1, 2, 3], [0, 7, 300, 65535], [0, 1, 85, 255], [3, 0, 9, 1]])
    )
    return pool[:count], draw(st.sampled_from([None, None, 250, 4])), False


@st.composite
def folders(draw):
    """A function that writes a folder and returns its layout, the truth of each pair and the description."""
    values, ignore, painted = draw_values(draw)
    layout = draw(st.sampled_from(["pair", "pair", "index", "own"]))
    said = draw(st.sampled_from(["", "shown", "stored"]))
    seed = draw(st.integers(0, 2**32 - 1))
    names = NAMES if layout == "own" else NAMES + OTHER_NAMES
    names = draw(st.lists(st.sampled_from(names), min_size=3, max_size=4, unique=True))

    def write(root: Path):
        rng = np.random.default_rng(seed)
        truth, rows = {}, []
        for place, name in enumerate(names):
            size = draw(st.sampled_from([(8, 8), (8, 11), (11, 8), (16, 24)]))
            turn, mask_turn = draw(
                st.sampled_from([(1, 1), (1, 1), (6, 6), (3, 1), (6, 1), (1, 8), (2, 5), (8, 1)])
            )
            drawn_on = said or draw(st.sampled_from(["shown", "stored"]))
            for folder in ("images", "masks"):
                (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            image, seen = write_image(draw, root / "images" / name.replace(".", "_"), rng, size, turn)
            stem = str(image.relative_to(root / "images").with_suffix(""))
            # The mask's stored size: that of the stored image, or one that viewers show like the image.
            shown = viewed(np.zeros(size), turn).shape
            area = size if drawn_on == "stored" else shown if mask_turn < 5 else shown[::-1]
            stored = [*values, *([] if ignore is None else [ignore])]
            stray = draw(st.integers(0, 15)) == 0
            if stray:
                stored = [*stored, [9, 9, 9] if painted else draw(st.sampled_from([5, 77, 254]))]
            picked = (
                rng.integers(0, len(stored), area)
                if stray or draw(st.booleans())
                else rng.integers(0, 2, area)
            )
            numbers = np.array(stored)[picked]
            lossy = (
                not painted
                and values == [0, 255]
                and ignore is None
                and not stray
                and draw(st.integers(0, 5)) == 0
            )
            if lossy:
                numbers = (
                    np.kron(rng.integers(0, 2, (-(-area[0] // 8), -(-area[1] // 8))), np.ones((8, 8), int))
                    * 255
                )
                numbers = numbers[: area[0], : area[1]]
            forms = ["jpeg"] if lossy else forms_for(int(numbers.max()), painted, mask_turn != 1)
            ending = (
                draw(st.sampled_from(["", "_mask", "_MASK", "_Segmentation"])) if layout != "index" else ""
            )
            path, written = write_mask(
                draw, root / "masks" / f"{stem}{ending}", numbers, mask_turn, draw(st.sampled_from(forms))
            )
            classes = expected(written, values, ignore, painted)
            how = turn if drawn_on == "stored" else mask_turn
            truth[stem] = (
                None if classes is None else viewed(classes, how),
                viewed(seen, turn),
                written.lossy,
            )
            rows.append([stem, image, path, f"g{place}", ("train", "val", "test", "train")[place]])
        for junk in draw(st.lists(st.sampled_from(JUNK), max_size=3)):
            for folder in ("images", "masks"):
                (root / folder / junk).parent.mkdir(parents=True, exist_ok=True)
                (root / folder / junk).write_bytes(b"\0\1\2")
        description = {
            "classes": [f"c{i}" for i in range(len(values))],
            "mask_values": values,
            "ignore": ignore,
        }
        (root / "dataset.json").write_text(json.dumps(description | {"masks_drawn_on": said or None}))
        if layout == "index":
            separator, slash = draw(st.sampled_from([",", ";", "\t"])), draw(st.sampled_from(["/", "\\"]))
            lines = [["id", "Image", "mask", "group", "split"]]
            for stem, image, mask, group, split in rows:
                paths = [str(path.relative_to(root)).replace("/", slash) for path in (image, mask)]
                lines.append([stem, *paths, group, split.capitalize()])
            text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(separator.join(line) for line in lines)
            (root / "index.csv").write_bytes(
                text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
            )
        return (
            layout,
            truth,
            Own(
                "_mask",
                tuple(description["classes"]),
                _texts(values, painted),
                "",
                *_texts([ignore], painted),
                said,
            ),
        )

    return write


def _texts(values: list, painted: bool) -> tuple[str, ...]:
    if painted:
        return tuple("" if value is None else "#{:02x}{:02x}{:02x}".format(*value) for value in values)
    return tuple("" if value is None else str(value) for value in values)


def compare(what: str, found: np.ndarray, truth: np.ndarray | None, lossy: bool) -> None:
    """The mask that was read is the true one; a mask that must be refused was not read at all."""
    assert truth is not None, f"{what} was read, expected a refusal"
    assert found.shape == truth.shape and (found == truth).all(), what
    TALLY["thresholded" if lossy else "read exactly"] += 1


def read_all(write) -> None:
    """Reads a folder by the library and by the check, and copies it; compares all with the truth."""
    with TemporaryDirectory() as place:
        root = Path(place, "d")
        layout, truth, own = write(root)
        data = SegmentationFolder(root, val=0.3, test=0.3)
        assert {record.id for record in data.records} == set(truth)
        refused = set()
        for record in data.records:
            mask, seen, lossy = truth[record.id]
            assert np.abs(data.image(record) - seen).max() <= 1, record.image
            try:
                compare(record.id, data.mask(record), mask, lossy)
            except UserError as error:
                assert "found" in str(error) and "expected" in str(error) and "\n" not in str(error)
                refused.add(record.id)
                assert mask is None or "EXIF" in str(error), error  # only what cannot be known
                TALLY["refused, as it must" if mask is None else "refused though readable"] += 1
        errors = [f for f in check_dataset(root) if f.severity == "error"]
        assert {f.file for f in errors} == {
            str(r.mask.relative_to(root)) for r in data.records if r.id in refused
        }
        if layout == "own":
            prepared(root, own, truth, bool(refused))
        elif not refused:
            with suppress(UserError):
                mend(root, root.with_name("mended"))
                copied(SegmentationFolder(root.with_name("mended")), truth)


def prepared(root: Path, own: Own, truth: dict, refused: bool) -> None:
    """`data own` writes the same masks, or refuses the folder if check-data does."""
    given = (root / "images", root / "masks")
    request = Request(root.with_name("own"), given, workers=1, val=0.3, test=0.3)
    try:
        prepare(recipe(own, "own", given), request)
    except UserError:
        TALLY["own: refused"] += 1
        assert refused or not request.out.exists()
        return
    assert not refused
    stems = {
        "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in stem).strip("_."): stem
        for stem in truth
    }
    copied(SegmentationFolder(request.out), {short: truth[stem] for short, stem in stems.items()})
    TALLY["own: written"] += 1


def copied(data: SegmentationFolder, truth: dict) -> None:
    """A copy holds the same masks and images."""
    for record in data.records:
        mask, seen, _ = truth[record.id]
        if record.mask is not None:
            assert (data.mask(record) == mask).all(), record.id
            TALLY["copied"] += 1
        assert np.abs(data.image(record) - seen).max() <= 1


def test_nothing_differs_silently():
    how = settings(max_examples=int(MORE or 12), deadline=None, derandomize=MORE is None, database=None)
    how(given(folders())(read_all))()
    print(dict(TALLY))
    assert TALLY["read exactly"] > 10 and TALLY["refused, as it must"] > 0
