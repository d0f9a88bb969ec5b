"""Which images are suggested and why; drafts that are the prediction; the simulation that compares ways."""

import csv
import json
import shutil
from itertools import pairwise
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest
import torch
from helpers.data_folders import change_row, make_folder, picture
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.commands.suggest import Options
from knowsam_lite.config import Config
from knowsam_lite.data import open_dataset
from knowsam_lite.data.masks import Coding
from knowsam_lite.data.prepare.recipe import Item
from knowsam_lite.data.sets import coco as coco_files
from knowsam_lite.data.sets import labelme as labelme_files
from knowsam_lite.errors import UserError
from knowsam_lite.methods import method_named
from knowsam_lite.metrics import iou
from knowsam_lite.predict import Predictor
from knowsam_lite.suggest import simulate
from knowsam_lite.suggest.choose import SHORTLIST, WAYS, choose, k_center, mean_rank
from knowsam_lite.suggest.drafts import Suggestion, unchanged, write_drafts
from knowsam_lite.suggest.look import encoder_features
from knowsam_lite.suggest.polygons import coco, labelme, run_lengths
from knowsam_lite.suggest.scores import Opinions, apart, disagreement, entropy, sam
from knowsam_lite.suggest.take import open_partly_labeled, take_labels
from knowsam_lite.training import Trainer

UNLABELED = range(3, 8)  # rows of the folder that have no mask


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of `knowsam`, whose SAM is the one that ships with the library, on two classes."""
    root = tmp_path_factory.mktemp("knowsam")
    sizes = {"image_size": 32, "steps": 1, "batch_labeled": 2, "batch_unlabeled": 2, "labeled": "4"}
    config = Config(
        data=str(make_folder(root / "data", val=0, test=0)), out=root / "run", device="cpu", **sizes
    )
    trainer = Trainer(open_dataset(config.data), config)
    trainer.start()
    assert trainer.fit(progress=False)
    return trainer.run


@pytest.fixture
def folder(tmp_path):
    """Three labelled and five unlabelled training images, with mask values of their own."""
    root = make_folder(tmp_path / "data")
    for path in (root / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 255 * 7).save(path)
    about = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**about, "mask_values": [0, 7]}))
    for row in UNLABELED:
        change_row(root, row, mask="")
    return root


def blobs(seed: int, classes: int, size: tuple[int, int] = (70, 90)) -> np.ndarray:
    """Classes uint8 (H, W) in smooth regions, some with holes."""
    noise = np.random.default_rng(seed).normal(size=(classes, 7, 9)).astype(np.float32)
    return (
        np.stack([cv2.resize(each, size[::-1], interpolation=cv2.INTER_CUBIC) for each in noise])
        .argmax(0)
        .astype(np.uint8)
    )


def logits(mask: np.ndarray) -> torch.Tensor:
    """Certain logits (2, H, W) of a mask (H, W)."""
    marked = torch.from_numpy(mask.astype(np.float32))
    return torch.stack([-9 * (2 * marked - 1), 9 * (2 * marked - 1)])


def test_disagreement_is_one_minus_iou():
    rng = np.random.default_rng(0)
    a, b, c = rng.random((3, 20, 30)) > 0.6
    assert apart(logits(a), logits(b)) == pytest.approx(1 - iou(a, b), abs=1e-6)
    pairs = [1 - iou(x, y) for x, y in ((a, b), (a, c), (b, c))]
    assert disagreement(Opinions([*map(logits, (a, b, c))], logits(a))) == pytest.approx(
        np.mean(pairs), abs=1e-6
    )
    empty = logits(np.zeros((20, 30)))
    assert apart(empty, empty) == 0 and apart(empty, logits(a)) == 1
    assert disagreement(Opinions([empty], empty)) is None
    assert sam(Opinions([], logits(a))) is None and sam(Opinions([], logits(a), logits(a))) == 0


def test_entropy_is_one_where_nothing_is_known():
    assert entropy(Opinions([], torch.zeros(3, 8, 8))) == pytest.approx(1)
    assert entropy(Opinions([], logits(np.ones((8, 8))))) < 1e-5


def test_k_center_takes_the_farthest_each_time():
    rng = np.random.default_rng(1)
    features, taken = rng.normal(size=(40, 5)), rng.normal(size=(3, 5))
    chosen = k_center(features, taken, 6)
    centers = list(taken)
    for place in chosen:
        gaps = [min(np.linalg.norm(x - center) for center in centers) for x in features]
        assert place == int(np.argmax(gaps))
        centers.append(features[place])
    assert k_center(features, None, 3)[0] == 0 and len(set(k_center(features, None, 40))) == 40


def test_three_kinds_of_image_are_all_seen_and_the_labelled_kind_last():
    kinds = np.eye(3)[np.arange(30) % 3] + np.random.default_rng(0).normal(0, 0.01, (30, 3))
    assert {place % 3 for place in k_center(kinds, None, 3)} == {0, 1, 2}
    assert {place % 3 for place in k_center(kinds, np.eye(3)[:1], 2)} == {1, 2}


def test_ranks_are_shared_and_averaged():
    assert mean_rank([[1, 5, 5, 9]]).tolist() == [0, 0.5, 0.5, 1]
    assert mean_rank([[1, 2], [2, 1]]).tolist() == [0.5, 0.5] and mean_rank([[3.0]]).tolist() == [0]


def test_the_combination_takes_uncertain_images_that_differ():
    rng = np.random.default_rng(2)
    scores = [{"disagreement": float(i), "entropy": float(i)} for i in range(50)]
    features = rng.normal(size=(50, 4))
    chosen = choose("combined", scores, features, None, 5)
    assert chosen[0] == 49 and set(chosen) <= set(range(50 - SHORTLIST * 5, 50)) and len(set(chosen)) == 5
    assert chosen != [49, 48, 47, 46, 45] == choose("entropy", scores, features, None, 5)
    assert choose("combined", scores, None, None, 2) == [49, 48]
    first, again, other = (choose("random", scores, None, None, 9, seed) for seed in (0, 0, 1))
    assert first == again != other and len(set(first)) == 9
    assert len(choose("diversity", scores, features, features[:2], 99)) == 50
    with pytest.raises(UserError, match="'sam'"):
        choose("sam", scores, features, None, 5)
    with pytest.raises(UserError, match="no encoder"):
        choose("diversity", scores, None, None, 5)


def near_edges(mask: np.ndarray) -> np.ndarray:
    """Pixels with another class, or the end of the picture, within two pixels."""
    kernel, framed = np.ones((5, 5), np.uint8), np.pad(mask, 2, constant_values=9)
    return (cv2.dilate(framed, kernel) != cv2.erode(framed, kernel))[2:-2, 2:-2]


@pytest.mark.parametrize("seed", range(4))
def test_polygons_give_back_the_mask_but_for_a_pixel_at_edges(seed, tmp_path):
    names = ("background", "one", "two")
    mask = blobs(seed, 3)
    mask[20:40, 20:50] = 1
    mask[26:32, 30:40] = 0  # a hole
    mask[28:31, 33:37] = 2  # with something in it
    Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(labelme(mask, names, "a.png"))
    (tmp_path / "coco.json").write_text(coco([("a.png", mask)], names))
    item = Item("a", "a", "", tmp_path / "a.png", (tmp_path / "a.json",))
    coco_files.read_annotations.cache_clear()
    drawn = {
        "labelme": next(labelme_files.read(item, names)).mask,
        "coco": next(coco_files.read(item, tmp_path / "coco.json", Coding())).mask,
    }
    for kind, found in drawn.items():
        wrong = found != mask
        assert not wrong[~near_edges(mask)].any() and wrong.mean() < 0.04, kind
        assert (found[27:29, 31] == 0).all() and found[29, 35] == 2, kind


def test_run_lengths_are_pycocotools():
    decode = pytest.importorskip("pycocotools.mask")
    for first in (0, 1):
        mask = np.random.default_rng(first).random((9, 7)) > 0.5
        mask[0, 0] = first
        runs = run_lengths(mask)
        packed = decode.frPyObjects(runs, *mask.shape)
        assert (decode.decode(packed).astype(bool) == mask).all()


def test_drafts_are_the_prediction_with_the_data_sets_values(run, folder, tmp_path, capsys):
    out = tmp_path / "next"
    assert main(["suggest", str(run), str(folder), "-n", "3", "--out", str(out), "--device", "cpu"]) == 0
    with (out / "suggestions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["rank", "name", "id", "image", "disagreement", "entropy", "sam"]
    assert len({row["id"] for row in rows}) == 3 and {row["id"] for row in rows} <= {
        f"i0{i}" for i in UNLABELED
    }
    assert main(["predict", str(run), str(folder / "images"), str(tmp_path / "p"), "--device", "cpu"]) == 0
    for row in rows:
        draft, predicted = (
            np.asarray(Image.open(place / "masks" / f"{row['name']}.png")) for place in (out, tmp_path / "p")
        )
        assert (draft == predicted // 255 * 7).all() and draft.shape == (24, 32)
        shapes = json.loads((out / "images" / f"{row['name']}.json").read_text())
        assert shapes["imagePath"] == f"{row['name']}.png" and (
            shapes["imageHeight"],
            shapes["imageWidth"],
        ) == (24, 32)
        copied = (out / "images" / shapes["imagePath"]).read_bytes()
        assert copied == (folder / row["image"]).read_bytes()
    listed = json.loads((out / "coco.json").read_text())
    assert [image["file_name"] for image in listed["images"]] == [f"{row['name']}.png" for row in rows]
    assert Image.open(out / "sheet.png").width > 5 * 232
    drafts = sorted((out / "masks").iterdir())
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(drafts[0])
    assert list(unchanged(drafts)) == drafts[1:]
    said = capsys.readouterr().out
    assert "import-labels" in said and str(out / "masks") in said


@pytest.mark.parametrize("name", ["supervised_pair", "bcp+skd", "knowsam"])
def test_the_features_of_an_image_are_seen_once(name):
    method = method_named(name).for_prediction(Config(method=name, image_size=32), 2).eval()
    with torch.no_grad(), encoder_features(method) as seen:
        method.views(torch.rand(3, 3, 32, 32))
    assert len(seen) == 3


def test_drafts_do_not_go_among_the_pictures(run, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(picture(i)).save(tmp_path / f"photos/p{i}.png")
    out = tmp_path / "photos/suggested"
    assert main(["suggest", str(run), str(tmp_path / "photos"), "--out", str(out), "-n", "1"]) == 2
    assert "where the images are" in capsys.readouterr().err and not out.exists()


def test_drafts_of_images_whose_names_are_alike_come_back_to_their_own(run, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a", "scan 1", "scan_1"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)).save(
            photos / f"{name}.png"
        )
    data = open_partly_labeled(photos)
    [record] = [record for record in data.records if record.id == "scan 1"]
    write_drafts(Predictor.from_run(run, device="cpu"), data, [Suggestion(record, {})], tmp_path / "next")
    assert take_labels(photos, tmp_path / "next/masks", "train").new == ["scan 1"]


def test_each_way_is_offered(run, folder, tmp_path):
    assert get_args(get_type_hints(Options)["by"]) == WAYS
    for way in ("sam", "diversity"):
        words = ["suggest", str(run), str(folder), "-n", "99", "--by", way, "--out", str(tmp_path / way)]
        assert main([*words, "--device", "cpu"]) == 0
        with (tmp_path / way / "suggestions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(UNLABELED)
        if way in rows[0]:
            assert all(float(a[way]) >= float(b[way]) for a, b in pairwise(rows))


def broken(root):
    (root / "images/i05.png").write_bytes(b"no image")


def labeled(root):
    for row in UNLABELED:
        change_row(root, row, mask=f"masks/i0{row}.png")


def more_classes(root):
    about = {"classes": ["background", "square", "disc"], "mask_values": [0, 7, 8]}
    (root / "dataset.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken, "images/i05.png: found no readable image"),
        (labeled, "found a mask for each of the 8 training images"),
        (more_classes, "found the classes background, square, disc"),
        (shutil.rmtree, "found no folder"),
    ],
)
def test_bad_data_is_one_line_and_nothing_is_written(spoil, words, run, folder, tmp_path, capsys):
    spoil(folder)
    assert main(["suggest", str(run), str(folder), "--out", str(tmp_path / "next"), "--device", "cpu"]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert words in line and not (tmp_path / "next").exists()


def test_a_run_of_another_version_is_one_line(run, folder, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "of_a_later_version": 1}))
    assert main(["suggest", str(other), str(folder)]) == 2
    (other / "config.json").write_text(json.dumps({**config, "method": "mcf"}))
    assert main(["suggest", str(other), str(folder)]) == 2
    assert main(["suggest", str(run), str(folder), "-n", "0"]) == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full/corrected.png").touch()
    assert main(["suggest", str(run), str(folder), "--out", str(tmp_path / "full")]) == 2
    lines = capsys.readouterr().err.splitlines()
    for line, words in zip(
        lines, ("of_a_later_version", "does not fit method", "-n 0", "found files in"), strict=True
    ):
        assert words in line


def test_the_simulation_counts_labels_and_keeps_what_is_done(tmp_path, capsys):
    words = (
        "--data synthetic:shapes:40 --seeds 0 --rounds 3 --labels 3 --steps 1 --more 1 --batch 2 --size 32"
    )
    asked = [
        *words.split(),
        "--pool",
        "20",
        "--test",
        "5",
        "--students",
        "paper",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
    ]
    assert simulate.main(asked) == 0
    said = capsys.readouterr().out
    assert [line.split()[4] for line in said.splitlines()[:4]] == ["6", "9", "6", "9"]
    [path] = tmp_path.glob("synthetic_shapes_40_combined_0_*.json")
    assert np.shape(json.loads(path.read_text())) == (3, 5)
    assert simulate.main(asked) == 0
    assert capsys.readouterr().out.splitlines() == said.splitlines()[4:]
    asked[asked.index("--more") + 1] = "2"  # another setting is another curve
    assert simulate.main(asked) == 0
    assert len(list(tmp_path.glob("synthetic_shapes_40_combined_0_*.json"))) == 2


def test_the_area_is_the_mean_height():
    assert simulate.area(np.array([[[0.0], [1.0], [1.0]]])).tolist() == [[0.75]]


@pytest.mark.parametrize("turn", [3, 6])
def test_drafts_of_turned_photographs_come_back_upright(turn, tmp_path):
    root, out = tmp_path / "data", tmp_path / "out"
    (root / "images").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(root / "images/a.jpg", exif=exif)
    about = {"classes": ["background", "object"], "mask_values": [0, 255], "masks_drawn_on": "stored"}
    (root / "dataset.json").write_text(json.dumps(about))
    (root / "index.csv").write_text("id,image,mask,group,split\na,images/a.jpg,,a,train\n")
    data = open_partly_labeled(root)
    [record] = data.records
    draft = np.zeros(data.image(record).shape[:2], np.uint8)
    draft[:10, :5] = 1
    write_drafts(lambda images: [draft], data, [Suggestion(record, {"entropy": 0.5})], out)
    take_labels(root, out / "masks", "train")
    again = open_partly_labeled(root)
    assert np.array_equal(again.mask(again.records[0]), draft)
