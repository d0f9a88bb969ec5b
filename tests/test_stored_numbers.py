"""Masks hold the numbers that were written, in every format; images all their bits."""

import json
import re
import shlex

import numpy as np
import pytest
from helpers.data_folders import make_folder, picture, square
from helpers.pictures import GRAY, GRAY_ALPHA, PALETTE, RGB, RGBA, write_png
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.images import read_image, scaled_to_bytes
from knowsam_lite.data.masks import Coding, read_mask, values_of
from knowsam_lite.data.mend import mend
from knowsam_lite.data.stored import read_frame, read_stored
from knowsam_lite.errors import UserError

tifffile = pytest.importorskip("tifffile")
THREE = square(1)
THREE[15:18, 20:28] = 2
TIFFS = {
    "bool": ({}, bool),
    "white is zero": ({"photometric": "miniswhite"}, np.uint8),
    "tiles of a BigTIFF": ({"tile": (16, 16), "bigtiff": True, "compression": "zlib"}, np.uint8),
    "LZW and predictor": ({"compression": "lzw", "predictor": 2}, np.uint16),
    "PackBits": ({"compression": "packbits"}, np.uint8),
    "strips of Zstandard": ({"compression": "zstd", "rowsperstrip": 5}, np.uint8),
    "4 bits": ({"bitspersample": 4}, np.uint8),
    "int8": ({}, np.int8),
    "uint32": ({}, np.uint32),
    "float64": ({}, np.float64),
    "big-endian": ({"byteorder": ">"}, np.uint16),
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiff_masks_hold_their_numbers(tmp_path, name):
    options, kind = TIFFS[name]
    numbers = (THREE > 0 if kind is bool else THREE).astype(kind)
    tifffile.imwrite(tmp_path / "m.tif", numbers, **options)
    stored = read_stored(tmp_path / "m.tif")
    assert np.array_equal(values_of(tmp_path, stored), numbers) and not stored.lossy
    coding = Coding(("a", "b", "c"), (0, 1, 2))
    assert np.array_equal(read_mask(tmp_path / "m.tif", coding).classes, numbers)


@pytest.mark.parametrize(
    ("color", "depth"), [(GRAY, depth) for depth in (1, 2, 4, 8, 16)] + [(PALETTE, d) for d in (1, 2, 4, 8)]
)
def test_png_masks_hold_their_numbers_at_every_depth(tmp_path, color, depth):
    top = 2**depth - 1
    numbers = np.random.default_rng(1).integers(0, top + 1, (13, 19))
    palette = picture(1).reshape(-1, 3)[: top + 1] if color == PALETTE else None
    more = {b"gAMA": (45455).to_bytes(4, "big"), b"tRNS": bytes(2 if color == GRAY else 1)}
    write_png(tmp_path / "m.png", numbers, depth, color, palette, more=more)
    assert np.array_equal(values_of(tmp_path, read_stored(tmp_path / "m.png")), numbers)


def test_numbers_beyond_31_bits_are_exact_in_the_message(tmp_path):
    for numbers in (np.uint32(3_000_000_000), np.uint64(2**63), np.int16(-7), np.float64(1e300)):
        tifffile.imwrite(tmp_path / "m.tif", np.full((8, 8), numbers))
        shown = str(int(numbers)) if numbers < 2**62 else str(2**62)
        with pytest.raises(UserError, match=f"found mask values {shown}, expected only 0, 255"):
            read_mask(tmp_path / "m.tif", Coding())
    for numbers in (np.nan, np.inf, 0.5):
        tifffile.imwrite(tmp_path / "m.tif", np.full((8, 8), numbers))
        with pytest.raises(UserError, match="fractional values"):
            read_mask(tmp_path / "m.tif", Coding())


@pytest.mark.parametrize(
    ("values", "depth", "numbers", "classes"),
    [
        ((0, 255), 1, [0, 1], [0, 1]),  # what viewers show, for 1 is not declared
        ((0, 1), 1, [0, 1], [0, 1]),
        ((0, 85, 170, 255), 2, [0, 1, 2, 3], [0, 1, 2, 3]),
        ((3, 0), 2, [0, 3], [1, 0]),
        ((0, 1, 85), 2, [0, 1], None),  # 1 is shown as 85: both are declared
        ((0, 255), 2, [0, 1], None),
        ((0, 17), 4, [0, 1], [0, 1]),
    ],
)
def test_few_bits_are_numbers_or_what_viewers_show(tmp_path, values, depth, numbers, classes):
    write_png(tmp_path / "m.png", np.array([numbers] * 3), depth)
    coding = Coding(tuple(map(str, values)), values)
    if classes is None:
        with pytest.raises(UserError, match="found"):
            read_mask(tmp_path / "m.png", coding)
    else:
        assert read_mask(tmp_path / "m.png", coding).classes[0].tolist() == classes


def test_alpha_that_says_what_the_values_do_not_is_refused_and_the_hint_mends_it(tmp_path):
    alpha = square()
    for color in ((255, 255, 255), (0, 0, 0), (255, 0, 0)):
        root = make_folder(tmp_path / str(color))
        rgba = np.dstack([np.full((24, 32, 3), color, np.uint8), alpha])
        for path in (root / "masks").iterdir():
            Image.fromarray(rgba).save(path)
        errors = [finding for finding in check_dataset(root) if finding.severity == "error"]
        assert len(errors) == 12 and all("transparency" in finding.message for finding in errors)
        given = ["--images", str(root / "images"), "--masks", str(root / "masks"), "--workers", "1"]
        assert main(["data", "own", *given, "--out", str(tmp_path / "out")]) == 2
        for f in map(str, (root / "masks").iterdir()):
            exec(errors[0].fix.split("mask: ")[1], {"Image": Image, "f": f})  # the hint, as it stands
        data = SegmentationFolder(root)
        assert all(np.array_equal(data.mask(record), square(1)) for record in data.records)


def test_alpha_that_follows_the_values_is_no_matter(tmp_path):
    gray = np.dstack([square(), np.where(square(), 255, 40)])
    write_png(tmp_path / "m.png", gray, 8, GRAY_ALPHA)
    assert np.array_equal(read_mask(tmp_path / "m.png", Coding()).classes, square(1))
    gray[0, 0, 1] = 0  # one background pixel is transparent, others are not
    write_png(tmp_path / "m.png", gray, 8, GRAY_ALPHA)
    with pytest.raises(UserError, match="transparency"):
        read_mask(tmp_path / "m.png", Coding())
    red = np.zeros((24, 32, 4), np.uint8)
    red[square() > 0] = 255, 0, 0, 255
    write_png(tmp_path / "m.png", red, 8, RGBA)
    coding = Coding(values=(0, 0xFF0000), painted=True)
    assert np.array_equal(read_mask(tmp_path / "m.png", coding).classes, square(1))


def palette_folder(root, colors):
    """Masks of indices 0 and 1, each with its own palette."""
    make_folder(root)
    (root / "dataset.json").write_text('{"classes": ["a", "b"], "mask_values": [0, 1]}')
    for i, path in enumerate(sorted((root / "masks").iterdir())):
        write_png(path, square(1), 1, PALETTE, np.array(colors[i % len(colors)]))
    return root


def test_an_index_with_two_colors_is_refused(tmp_path, capsys):
    black, red = [0, 0, 0], [255, 0, 0]
    assert not [
        f for f in check_dataset(palette_folder(tmp_path / "one", [[black, red]])) if f.severity != "info"
    ]
    root = palette_folder(tmp_path / "two", [[black, red], [red, black]])
    errors = [finding for finding in check_dataset(root) if finding.severity == "error"]
    assert len(errors) == 6 and "found color [255, 0, 0] for 0" in errors[0].message
    values = {"classes": ["a", "b"], "mask_values": [black, red]}  # the hint
    (root / "dataset.json").write_text(json.dumps(values))
    data = SegmentationFolder(root)
    assert [int(data.mask(record)[7, 9]) for record in data.records[:2]] == [1, 0]
    given = ["--images", str(root / "images"), "--masks", str(root / "masks"), "--workers", "1"]
    out = ["data", "own", *given, "--values", "0", "1", "--out", str(tmp_path / "out")]
    assert main(out) == 2 and "give the colors with --values" in capsys.readouterr().err


def test_zero_shown_bright_is_said_and_the_numbers_count(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "index.csv").unlink()
    for path in (root / "masks").iterdir():
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), square(), photometric="miniswhite")
    [warning] = [finding for finding in check_dataset(root) if finding.severity != "info"]
    assert "12 masks" in warning.message and "viewers show 0" in warning.message
    data = SegmentationFolder(root)
    assert np.array_equal(data.mask(data.records[0]), square(1))


def test_lossless_masks_are_never_thresholded(tmp_path, capsys):
    """Soft edges and numbered objects: the same refusal from every command, and the hints mend them."""
    soft = np.asarray(Image.fromarray(square()).resize((64, 48), Image.Resampling.BILINEAR))
    numbered = np.kron(np.arange(16).reshape(4, 4), np.ones((12, 16), int)).astype(np.uint16)
    for name, mask, level in (("soft", soft, 127), ("numbered", numbered, 0)):
        root = make_folder(tmp_path / name)
        for path in (root / "images").iterdir():
            Image.fromarray(picture(3, (48, 64))).save(path)
        for path in (root / "masks").iterdir():
            Image.fromarray(mask).save(path)
        [error, *_] = [finding for finding in check_dataset(root) if finding.severity == "error"]
        hint = f"np.where(mask > {level}, 255, 0)"
        assert hint in error.fix
        given = ["--images", str(root / "images"), "--masks", str(root / "masks"), "--workers", "1"]
        assert main(["data", "own", *given, "--out", str(tmp_path / f"{name} out")]) == 2
        assert hint in capsys.readouterr().err
        mended = eval(hint, {"np": np, "mask": mask}).astype(np.uint8)
        for path in (root / "masks").iterdir():
            Image.fromarray(mended).save(path)
        data = SegmentationFolder(root)
        assert np.array_equal(data.mask(data.records[0]), mask > level)


@pytest.mark.parametrize("kind", ["renamed JPEG", "WebP", "WebP of colors"])
def test_lossy_masks_are_known_by_their_content(tmp_path, kind):
    path = tmp_path / ("m.png" if kind == "renamed JPEG" else "m.webp")
    mask = Image.fromarray(np.kron(square(), np.ones((3, 3), np.uint8)))
    if kind == "renamed JPEG":
        mask.save(path, "JPEG", quality=60)
    else:
        mask.convert("RGB" if "colors" in kind else "L").save(path, quality=70)
    found = read_mask(path, Coding())
    assert np.array_equal(found.classes, np.asarray(mask) > 0) and found.changed > 0
    with pytest.raises(UserError, match="save the mask as PNG"):
        read_mask(path, Coding(("a", "b", "c"), (0, 255, 128)))


def test_a_lossy_picture_or_a_third_level_is_no_mask(tmp_path):
    smooth = np.asarray(Image.fromarray(picture(5, (6, 8))).resize((128, 96), Image.Resampling.BICUBIC))[
        ..., 0
    ]
    levels = np.kron(np.array([[0, 128], [255, 60]], np.uint8), np.ones((48, 64), np.uint8))
    for array in (smooth, levels):
        Image.fromarray(array).save(tmp_path / "m.jpg", quality=80)
        with pytest.raises(UserError, match="found mask values"):
            read_mask(tmp_path / "m.jpg", Coding())
    red = np.zeros((64, 64, 3), np.uint8)
    red[16:48, 16:48, 0] = 255
    Image.fromarray(red).save(tmp_path / "m.jpg", quality=95)
    with pytest.raises(UserError, match="colour picture"):
        read_mask(tmp_path / "m.jpg", Coding())


DEEP = (picture(2).astype(np.uint16) << 4) + 5  # 12 bits of 16


@pytest.mark.parametrize("ending", ["png", "tif", "planar", "float"])
def test_deep_colors_are_scaled_by_all_their_bits(tmp_path, ending):
    path = tmp_path / ("i.png" if ending == "png" else "i.tif")
    if ending == "png":
        write_png(path, DEEP, 16, RGB)
    elif ending == "planar":
        tifffile.imwrite(path, DEEP.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    else:
        tifffile.imwrite(path, DEEP.astype(np.float32 if ending == "float" else np.uint16), photometric="rgb")
    found, wanted = read_image(path), (DEEP - DEEP.min()) * 255.0 / (DEEP.max() - DEEP.min())
    assert np.abs(found - wanted).max() <= 0.51 and len(np.unique(found)) > 200


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.int16, np.float32])
@pytest.mark.parametrize("tone", ["minisblack", "miniswhite"])
def test_gray_tiff_images_are_what_viewers_show(tmp_path, kind, tone):
    gray = picture(4)[..., 0].astype(kind)
    tifffile.imwrite(tmp_path / "i.tif", gray * (1 if kind == np.uint8 else 16), photometric=tone)
    wanted = gray.astype(float) if kind == np.uint8 else scaled_to_bytes(gray)
    wanted = 255 - wanted if tone == "miniswhite" else wanted
    assert np.array_equal(read_image(tmp_path / "i.tif"), np.repeat(wanted[..., None], 3, 2))


def test_a_preview_before_the_picture_is_not_the_picture(tmp_path):
    whole = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    with tifffile.TiffWriter(tmp_path / "i.tif") as file:
        file.write(whole[::8, ::8], subfiletype=1, metadata=None)
        file.write(whole, metadata=None)
    assert np.array_equal(read_image(tmp_path / "i.tif")[..., 0], whole)
    assert read_frame(tmp_path / "i.tif").shown == (64, 64)


def test_several_channels_and_stacks_are_refused(tmp_path):
    stack = np.stack([picture(1)[..., 0]] * 5)
    many = {
        "pages": {"photometric": "minisblack"},
        "hidden behind one page": {"photometric": "minisblack", "truncate": True},
        "ImageJ": {"imagej": True},
        "channels": {"photometric": "minisblack", "planarconfig": "separate"},
    }
    for options in many.values():
        tifffile.imwrite(tmp_path / "i.tif", stack.astype(np.uint8), **options)
        with pytest.raises(UserError, match=r"found 5 (pictures|channels)"):
            read_image(tmp_path / "i.tif")


def test_other_files_under_a_picture_name_are_not_decoded(tmp_path):
    """Only the declared formats are: no PostScript, whose reader runs a program."""
    (tmp_path / "i.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(UserError, match="no readable image"):
        read_image(tmp_path / "i.png")
    Image.fromarray(picture(1)).save(tmp_path / "i.ppm")
    (tmp_path / "i.ppm").rename(tmp_path / "i.png")
    with pytest.raises(UserError, match="no readable image"):
        read_image(tmp_path / "i.png")


def test_few_colors_are_offered_and_the_hint_mends_them(tmp_path, capsys):
    colors = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
    root = make_folder(tmp_path / "d")
    (root / "dataset.json").unlink()
    for path in (root / "masks").iterdir():
        Image.fromarray(colors[square(1)]).save(path)
    [error, *_] = [finding for finding in check_dataset(root) if finding.severity == "error"]
    given = [
        "data",
        "own",
        "--images",
        str(root / "images"),
        "--masks",
        str(root / "masks"),
        "--workers",
        "1",
    ]
    assert main([*given, "--out", str(tmp_path / "no")]) == 2
    shown = capsys.readouterr().err.split("such as ")[1].split(",")[0]
    assert main([*given, "--out", str(tmp_path / "out"), "--values", *shlex.split(shown)]) == 0
    (root / "dataset.json").write_text(re.search(r"{.*}", error.fix)[0])
    for place in (root, tmp_path / "out"):
        data = SegmentationFolder(place)
        assert all(np.array_equal(data.mask(record), square(1)) for record in data.records)


def test_the_values_that_a_mask_holds_are_offered(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "dataset.json").unlink()
    for path in (root / "masks").iterdir():
        Image.fromarray(THREE).save(path)
    [error, *_] = [finding for finding in check_dataset(root) if finding.severity == "error"]
    (root / "dataset.json").write_text(re.search(r"{.*}", error.fix)[0])
    data = SegmentationFolder(root)
    assert all(np.array_equal(data.mask(record), THREE) for record in data.records)


def test_a_message_is_one_line_whatever_a_file_is_called(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "index.csv").unlink()
    (root / "masks/i00.png").rename(root / "masks/i\n\x1b[31m0.png")
    assert all(str(finding).isprintable() for finding in check_dataset(root))


def test_a_palette_with_white_first_is_never_read_the_wrong_way_round(tmp_path, capsys):
    """Its indices say nothing of which is the object: the hint, --fix and data own go by the colors."""
    root = make_folder(tmp_path / "d")
    (root / "dataset.json").unlink()
    for path in (root / "masks").iterdir():
        write_png(path, 1 - square(1), 1, PALETTE, np.array([[255, 255, 255], [0, 0, 0]]))
    [error, *_] = [finding for finding in check_dataset(root) if finding.severity == "error"]
    mend(root, tmp_path / "mended")
    given = [
        "data",
        "own",
        "--images",
        str(root / "images"),
        "--masks",
        str(root / "masks"),
        "--workers",
        "1",
    ]
    assert main([*given, "--out", str(tmp_path / "no")]) == 2
    shown = capsys.readouterr().err.split("such as ")[1].split(",")[0]
    assert main([*given, "--out", str(tmp_path / "out"), "--values", *shlex.split(shown)]) == 0
    (root / "dataset.json").write_text(re.search(r"{.*}", error.fix)[0])
    for place in (root, tmp_path / "mended", tmp_path / "out"):
        data = SegmentationFolder(place)
        assert all(np.array_equal(data.mask(record), square(1)) for record in data.records)
