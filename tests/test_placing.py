"""A mask lies on its image: EXIF turns, and the grids of NIfTI files. Oracles: Pillow and nibabel."""

import itertools
import json
import re

import numpy as np
import pytest
from helpers.pictures import exif, viewed
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.mend import mend
from knowsam_lite.data.pixels import turned
from knowsam_lite.data.slices import read_header
from knowsam_lite.errors import UserError

nib = pytest.importorskip("nibabel")
ROWS = {"wide": (16, 24), "square": (24, 24)}


def corner(size: tuple[int, int]) -> np.ndarray:
    """An object that no turn or mirror leaves in its place."""
    mask = np.zeros(size, np.uint8)
    mask[2:9, 3:6], mask[7:9, 3:12] = 255, 255
    return mask


def make(root, size, turn, mask_turn=1, drawn_on="stored", n=5):
    """Pictures that EXIF turns; the bright object is where the mask is, as stored or as shown."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    mask = corner(size)
    for i in range(n):
        image = np.repeat((mask // 2 + 60 + i)[..., None], 3, 2)
        Image.fromarray(image).save(root / f"images/{i}.png", exif=exif(turn))
        drawn = mask if drawn_on == "stored" else viewed(mask, turn)
        Image.fromarray(drawn).save(root / f"masks/{i}.png", exif=exif(mask_turn))
    return root


def hits(root) -> bool:
    """Whether each mask covers exactly the bright object of its image."""
    data = SegmentationFolder(root)
    return all(((data.image(r)[..., 0] > 150) == (data.mask(r) > 0)).all() for r in data.records)


@pytest.mark.parametrize("turn", range(1, 9))
def test_turns_are_those_of_viewers(turn):
    array = np.arange(24).reshape(4, 6)
    assert np.array_equal(turned(array, turn), viewed(array, turn))
    colors = np.random.default_rng(0).integers(0, 9, (3, 5, 3))
    assert np.array_equal(turned(colors, turn), viewed(colors, turn))


@pytest.mark.parametrize(("shape", "turn"), list(itertools.product(ROWS, range(2, 9))))
def test_a_mask_of_a_turned_image_is_named_and_each_hint_mends_it(tmp_path, shape, turn):
    root = make(tmp_path / "d", ROWS[shape], turn)
    errors = [finding for finding in check_dataset(root) if finding.severity == "error"]
    assert len(errors) == 5 and f"EXIF {turn}" in errors[0].message
    assert "counterclockwise" in errors[0].message or turn != 8
    decided = shape == "wide" and turn >= 5
    assert ("--fix OUT" in errors[0].fix) == decided
    if decided:
        assert main(["check-data", str(root), "--fix", str(tmp_path / "fixed")]) == 0
        assert hits(tmp_path / "fixed")
    else:
        with pytest.raises(UserError, match="sizes fit both ways"):
            mend(root, tmp_path / "fixed")
    (root / "dataset.json").write_text(re.search(r"{.*}", errors[0].fix)[0])
    assert hits(root)


@pytest.mark.parametrize(("shape", "turn"), list(itertools.product(ROWS, range(2, 9))))
def test_a_mask_drawn_on_what_viewers_show(tmp_path, shape, turn):
    root = make(tmp_path / "d", ROWS[shape], turn, drawn_on="shown")
    if shape == "wide" and turn >= 5:
        assert hits(root)  # only so do the sizes fit
        return
    with pytest.raises(UserError, match='"shown" for those drawn'):
        hits(root)
    description = {"classes": ["a", "b"], "mask_values": [0, 255], "masks_drawn_on": "shown"}
    (root / "dataset.json").write_text(json.dumps(description))
    assert hits(root)


@pytest.mark.parametrize("turn", range(2, 9))
def test_both_turned_alike_and_the_mask_alone(tmp_path, turn):
    assert hits(make(tmp_path / "both", ROWS["wide"], turn, turn))
    with pytest.raises(UserError, match=f"found the mask .*EXIF {turn}"):
        hits(make(tmp_path / "alone", ROWS["square"], 1, turn))


def test_own_images_that_exif_turns(tmp_path, capsys):
    root = make(tmp_path / "d", ROWS["square"], 6)
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
    assert "say --drawn-on stored" in capsys.readouterr().err
    for i in range(5):  # JPEG images would be copied with their EXIF, were they not turned
        with Image.open(root / f"images/{i}.png") as picture:
            picture.save(root / f"images/{i}.jpg", quality=98, exif=exif(6))
        (root / f"images/{i}.png").unlink()
    assert main([*given, "--out", str(tmp_path / "out"), "--drawn-on", "stored"]) == 0
    assert hits(tmp_path / "out")


def affine(spacing=(1.5, 2.0, 4.0), origin=(30.0, -25.0, 10.0), flips=(-1, -1, 1)) -> np.ndarray:
    matrix = np.diag([*(s * f for s, f in zip(spacing, flips, strict=True)), 1.0])
    matrix[:3, 3] = origin
    return matrix


def pair(root, image, label):
    """A folder of one kind of image and label, three times."""
    for name, file in (("images", image), ("masks", label)):
        (root / name).mkdir(parents=True)
        for i in range(3):
            nib.save(file, root / name / f"{i}.nii.gz")
    (root / "dataset.json").write_text('{"classes": ["a", "b"], "mask_values": [0, 1]}')
    return root


def volume(shape=(7, 9, 5), matrix=None):
    """An image and its label on one grid; the label is where the image is bright."""
    inside = np.random.default_rng(4).random(shape) < 0.3
    matrix = affine() if matrix is None else matrix
    values = (inside * 800 + 100).astype(np.int16)
    return nib.Nifti1Image(values, matrix), nib.Nifti1Image(inside.astype(np.uint8), matrix)


def covers(root) -> bool:
    data = SegmentationFolder(root)
    return all(((data.image(r)[..., 0] > 128) == (data.mask(r) > 0)).all() for r in data.records)


ORDERS = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*axes)
]


@pytest.mark.parametrize("turn", [0, 25])
def test_labels_in_every_order_of_axes_lie_on_their_image(tmp_path, turn):
    """All 48 orders, of a straight grid and of one turned by 25 degrees."""
    angle = np.deg2rad(turn)
    oblique = np.eye(4)
    oblique[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image, label = volume(matrix=oblique @ affine())
    start = nib.orientations.io_orientation(image.affine)
    for codes in ORDERS:
        wanted = nib.orientations.axcodes2ornt(codes)
        moved = label.as_reoriented(nib.orientations.ornt_transform(start, wanted))
        assert covers(pair(tmp_path / codes, image, moved)), codes


def shifted(label, **changes):
    return nib.Nifti1Image(np.asarray(label.dataobj), affine(**changes))


def test_labels_on_another_grid_are_refused_and_the_hint_mends_them(tmp_path):
    image, label = volume()
    others = {
        "origin": shifted(label, origin=(30.0, -25.0, 12.0)),
        "spacing": shifted(label, spacing=(1.5, 2.0, 4.4)),
        "identity": nib.Nifti1Image(np.asarray(label.dataobj), np.eye(4)),
        "size": nib.Nifti1Image(np.asarray(label.dataobj)[:, :-1], affine()),
    }
    for name, other in others.items():
        root = pair(tmp_path / name, image, other)
        found = [finding for finding in check_dataset(root) if finding.severity == "error"]
        assert found and "expected" in found[0].message and "nearest neighbour" in found[0].fix, name
        if name != "size":  # the hint: it was drawn on this very image
            mended = nib.Nifti1Image(np.asarray(label.dataobj), image.affine)
            assert covers(pair(tmp_path / f"{name} mended", image, mended))
    near = affine()
    near[:3, 3] += 1e-3  # what rounding to 32 bits and to text leaves
    assert covers(pair(tmp_path / "near", image, nib.Nifti1Image(np.asarray(label.dataobj), near)))


def test_a_label_without_a_place_is_refused_beside_an_image_with_one(tmp_path):
    image, label = volume()
    bare = nib.Nifti1Image(np.asarray(label.dataobj), None)
    with pytest.raises(UserError, match="no position and axes in the mask's header"):
        covers(pair(tmp_path / "mask", image, bare))
    with pytest.raises(UserError, match="no position and axes in the image's header"):
        covers(pair(tmp_path / "image", nib.Nifti1Image(np.asarray(image.dataobj), None), label))
    assert covers(pair(tmp_path / "both", nib.Nifti1Image(np.asarray(image.dataobj), None), bare))


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001), ("unknown", None)]
)
def test_units_of_headers(tmp_path, unit, factor):
    image, _ = volume()
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "v.nii.gz")
    found = read_header(tmp_path / "v.nii.gz").spacing_mm
    wanted = None if factor is None else tuple(float(f"{side * factor:.6g}") for side in (4.0, 2.0, 1.5))
    assert found == wanted


@pytest.mark.parametrize("sizes", [(0, 0, 0), (1.5, -2, 4), (np.nan, 2, 4), (np.inf, 2, 4)])
def test_a_voxel_size_that_is_none_is_unknown_unless_the_affine_has_it(tmp_path, sizes):
    image, _ = volume()
    image.header.set_xyzt_units("mm")
    for code, wanted in ((2, (4.0, 2.0, 1.5)), (0, None)):
        raw = bytearray(image.to_bytes())
        raw[80:92] = np.array(sizes, "<f4").tobytes()
        raw[254:256] = np.array([code], "<i2").tobytes()  # sform_code
        (tmp_path / "v.nii").write_bytes(raw)
        assert read_header(tmp_path / "v.nii").spacing_mm == wanted


def test_oblique_axes_have_the_length_of_their_columns(tmp_path):
    matrix = np.eye(4)
    matrix[:3, :3] = [[1.2, 0.9, 0], [-1.6, 1.2, 0], [0, 0, 3]]  # lengths 2, 1.5, 3
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), matrix)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "v.nii")
    assert read_header(tmp_path / "v.nii").spacing_mm == (3.0, 1.5, 2.0)


def test_volumes_without_a_unit_are_named_and_the_hint_mends_them(tmp_path):
    root = pair(tmp_path / "d", *volume())
    [warning] = [finding for finding in check_dataset(root) if "no unit" in finding.message]
    assert warning.severity == "warning" and "px" in warning.message and "spacing_mm" in warning.fix
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"spacing_mm": [4, 2, 1.5]}))
    assert not [finding for finding in check_dataset(root) if "no unit" in finding.message]
    assert SegmentationFolder(root).records[0].spacing_mm == (4, 2, 1.5)
