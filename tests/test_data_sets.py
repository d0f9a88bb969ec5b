"""Each data set from an archive in its published layout, by its script; one's own images in every form."""

import csv
import hashlib
import json
import re
import runpy
import shlex
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import archives
from helpers.archive_server import ArchiveServer
from helpers.archives import encoded, image, mask, nifti, zip_of
from PIL import Image

from knowsam_lite import downloads
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.sets import SETS, find_recipe
from knowsam_lite.data.sets.bcss import CLASSES, GROUPS

ROOT = Path(__file__).resolve().parents[1]


def script(monkeypatch, capsys, name: str, *options: object) -> tuple[int, str, str]:
    """Runs data_scripts/NAME.py; its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / f"data_scripts/{name}.py"), run_name="__main__")
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out, printed.err


def splits(root: Path) -> dict[str, dict[str, str]]:
    """Rows of index.csv by id."""
    with open(root / "index.csv", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def counts(root: Path) -> dict[str, int]:
    return dict(Counter(row["split"] for row in splits(root).values()))


def faultless(root: Path) -> SegmentationFolder:
    assert [f for f in check_dataset(root) if f.severity == "error"] == []
    return SegmentationFolder(root)


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """A function that puts archives on a server and lets a set's recipe fetch them, checksums enforced."""
    monkeypatch.setattr(downloads, "PAUSE", 0.01)
    monkeypatch.setenv("KNOWSAM_LITE_CACHE", str(tmp_path / "cache"))
    server = ArchiveServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def put(name: str, variant: str, *contents: dict[str, bytes]) -> ArchiveServer:
        recipe, sources = SETS[name][variant], []
        assert len(contents) == len(recipe.sources)
        for source, files in zip(recipe.sources, contents, strict=True):
            kept = source.name.replace(" ", "_")
            body = zip_of(tmp_path / "made" / kept, files).read_bytes()
            server.files[kept] = body
            digest = hashlib.sha256(body).hexdigest()
            sources.append(replace(source, name=kept, drive="", url=server.address(kept), sha256=digest))
        changed = {**SETS[name], variant: replace(recipe, sources=tuple(sources))}
        monkeypatch.setitem(SETS, name, changed)
        return server

    yield put
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """A function that runs a script with --out and returns the folder and what was printed."""

    def go(name: str, *options: object) -> tuple[Path, str]:
        out = tmp_path / f"out-{name}"
        code, text, err = script(monkeypatch, capsys, name, "--out", out, "--workers", 1, *options)
        assert code == 0, err
        return out, text

    return go


def test_polyp_kvasir(serve, run):
    server = serve("polyp", "kvasir", archives.kvasir())
    server.faults = ["500", "redirect"]
    out, text = run("polyp", "--labeled", "10%")
    assert faultless(out).classes == ("background", "polyp") and counts(out) == {
        "train": 10,
        "val": 1,
        "test": 1,
    }
    assert "pixels were decided by a threshold" in text and "--labeled 10% --seed 0" in text


def test_polyp_benchmark_and_its_test_sets(serve, run, tmp_path):
    serve("polyp", "benchmark", archives.polyp_train(16), archives.polyp_test())
    out, text = run("polyp", "--variant", "benchmark", "--labeled", "1%")
    assert counts(out) == {"train": 16, "test": 10} and "--labeled 15 " in text
    tests = Counter(row["id"].rsplit("_", 1)[0] for row in splits(out).values() if row["split"] == "test")
    assert dict(tests) == dict.fromkeys(
        ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir"), 2
    )
    faultless(out)
    given = zip_of(tmp_path / "given.zip", archives.polyp_test())
    alone = tmp_path / "alone"
    run("polyp", "--variant", "etis-laribpolypdb", "--archive", given, "--out", alone)
    assert counts(alone) == {"test": 2} and set(splits(alone)) == {
        "ETIS-LaribPolypDB_0",
        "ETIS-LaribPolypDB_1",
    }


def test_isic2018_official_and_paper(serve, run, tmp_path):
    parts = [
        archives.isic(part, number) for part, number in (("Training", 10), ("Validation", 2), ("Test", 3))
    ]
    serve("isic2018", "official", *(files for pair in parts for files in pair))
    out, _ = run("isic2018", "--size", 32, "--fit", "squash")
    assert counts(out) == {"train": 10, "val": 2, "test": 3}
    assert faultless(out).image(faultless(out).records[0]).shape == (32, 32, 3)
    given = [zip_of(tmp_path / f"{i}.zip", files) for i, files in enumerate(parts[0])]
    out, text = run("isic2018", "--variant", "paper", "--archive", *given, "--out", tmp_path / "paper")
    assert counts(tmp_path / "paper") == {"train": 8, "val": 1, "test": 1} and "10% = 207, 30% = 622" in text


def test_thyroid_and_its_variants(serve, run, tmp_path):
    serve("thyroid", "tn3k", archives.thyroid())
    out, text = run("thyroid")
    assert counts(out) == {"train": 7, "val": 1, "test": 3} and "threshold" in text
    faultless(out)
    given = zip_of(tmp_path / "given.zip", archives.thyroid())
    for variant, expected in (
        ("tg3k", {"train": 4, "val": 2}),
        ("ddti", {"test": 3}),
        ("paper", {"train": 11, "val": 3, "test": 6}),
    ):
        run("thyroid", "--variant", variant, "--archive", given, "--out", tmp_path / variant)
        assert counts(tmp_path / variant) == expected
        faultless(tmp_path / variant)
    assert splits(tmp_path / "tg3k")["tg3k_0004"]["split"] == "val"


def test_busi_unites_the_masks_of_an_image(serve, run, tmp_path):
    serve("busi", "lesions", archives.busi())
    out, text = run("busi")
    data = faultless(out)
    assert len(data.records) == 16 and "the published set has 647" in text
    united = next(data.mask(record) for record in data.records if record.id == "benign_1")
    single = np.asarray(Image.open(out / "masks/benign_2.png")) > 0
    assert united[0:2, 30:38].all() and united[4:8, 6:12].all() and not single[0:2, 30:38].any()
    given = zip_of(tmp_path / "given.zip", archives.busi())
    run("busi", "--variant", "all", "--archive", given, "--out", tmp_path / "all")
    data = faultless(tmp_path / "all")
    normal = [record for record in data.records if record.id.startswith("normal")]
    assert len(normal) == 8 and not any(data.mask(record).any() for record in normal)


def test_acdc_nifti(serve, run, tmp_path):
    serve("acdc", "official", archives.acdc())
    out, text = run("acdc", "--labeled", "3patients")
    data, rows = faultless(out), splits(out)
    assert counts(out) == {"train": 54, "val": 2, "test": 4} and data.spacing_mm == (1.25, 1.5)
    assert len(data.split("test")) == 12 and {record.spacing_mm for record in data.split("test")} == {
        (10, 1.25, 1.5)
    }
    assert "--labeled 3groups" in text and "labeled: 18 images" in text
    assert {row["group"] for row in rows.values() if row["split"] == "test"} == {"patient011", "patient012"}
    for case in ("patient004_frame12", "patient011_frame01"):  # pictures to train on, a volume to score
        volume, labels = archives.heart(int(case[7:10]), int(case[-2:]))
        record = next(r for r in data.records if r.volume == case and int(r.id.split("_slice")[1]) == 1)
        assert np.array_equal(data.mask(record), labels[:, :, 1].T)
        wanted = (volume[:, :, 1].T - float(volume.min())) / float(volume.max() - volume.min()) * 255
        assert np.abs(data.image(record)[..., 0] - wanted).max() <= 0.5001
    given = zip_of(tmp_path / "given.zip", archives.acdc())
    run(
        "acdc",
        "--variant",
        "paper",
        "--archive",
        given,
        "--out",
        tmp_path / "paper",
        "--size",
        16,
        "--fit",
        "pad",
    )
    assert not list((tmp_path / "paper").rglob("*.nii.gz")) and counts(tmp_path / "paper")["test"] == 12
    groups = {row["group"]: row["split"] for row in splits(tmp_path / "paper").values()}
    assert Counter(groups.values()) == {"train": 7, "val": 1, "test": 2}


def test_acdc_h5(run, tmp_path):
    given = archives.acdc_h5(tmp_path / "ACDC")
    out, _ = run("acdc", "--variant", "h5", "--archive", given)
    data = faultless(out)
    assert counts(out) == {"train": 6, "val": 3, "test": 3}
    _, labels = archives.heart(4, 1)
    record = next(record for record in data.records if record.id == "patient004_frame01_slice_02")
    assert record.volume == "patient004_frame01"
    assert np.array_equal(data.mask(record), labels[:, :, 1].T)


def test_acdc_h5_names_what_is_missing(monkeypatch, capsys, tmp_path):
    given = archives.acdc_h5(tmp_path / "ACDC")
    (given / "data/patient004_frame01.h5").write_bytes(b"no h5")
    wanted = ("acdc", "--variant", "h5", "--archive", given, "--out", tmp_path / "out")
    assert "patient004_frame01.h5: found no readable volume" in script(monkeypatch, capsys, *wanted)[2]
    (given / "data/patient004_frame01.h5").unlink()
    assert "test.list names it" in script(monkeypatch, capsys, *wanted)[2]
    (given / "val.list").unlink()
    assert "2 of the lists" in script(monkeypatch, capsys, *wanted)[2] and not (tmp_path / "out").exists()


def test_real_h5_slices_are_those_of_the_real_pictures(run, real_data):
    if not (real_data / "acdc_h5").is_dir() or not (real_data / "acdc").is_dir():
        pytest.skip(f"no {real_data}/acdc_h5 and acdc")
    out, _ = run("acdc", "--variant", "h5", "--archive", real_data / "acdc_h5")
    found, known = faultless(out), SegmentationFolder(real_data / "acdc")
    slices = {record.id: record for record in found.records}
    pictures = [record for record in known.records if record.group == "patient003"]
    assert len(pictures) > 5
    for record in pictures:
        twin = slices[f"patient003_frame01_slice_{int(record.id[-2:]) + 1}"]
        assert np.array_equal(found.mask(twin), known.mask(record))
        assert np.abs(found.image(twin).astype(int) - known.image(record)).max() <= 1


@pytest.mark.parametrize("side", [256, 512])
def test_bcss_tiles_and_groups_of_codes(run, tmp_path, side):
    given = zip_of(tmp_path / "rgbs-001.zip", archives.bcss())
    out, text = run("bcss", "--variant", side, "--archive", given)
    data, rows = faultless(out), splits(out)
    assert data.classes == CLASSES and len(data.records) == (14 if side == 256 else 7)
    assert {row["group"][5:7] for row in rows.values() if row["split"] == "test"} == {"OL", "GM"}
    if side == 256:
        first, last = (
            next(data.mask(r) for r in data.records if r.id.endswith(end))
            for end in ("y00000_x00000", "y00256_x00256")
        )
        assert (first == CLASSES.index("tumor")).all()
        assert set(np.unique(last)) == {CLASSES.index("inflammatory"), CLASSES.index("other")}
        assert (last == CLASSES.index("other")).sum() == 16
    assert "the published set has 151" in text


def test_bcss_grouping_covers_each_published_code_once():
    listed = [code for group in GROUPS.values() for code in group]
    assert len(listed) == len(set(listed)) and set(listed) <= set(range(22)) and 0 in GROUPS["outside"]


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def two_folders(root: Path, count: int = 10) -> tuple[Path, Path]:
    write(root / "x", {f"p{i // 2}-{i} é.PNG": image(i) for i in range(count)})
    write(root / "y", {f"p{i // 2}-{i} é.png": mask(i) for i in range(count)})
    return root / "x", root / "y"


def test_own_two_folders_with_groups(run, tmp_path):
    images, masks = two_folders(tmp_path)
    out, _ = run("own", "--images", images, "--masks", masks, "--group", r"^p\d+", "--title", "mine")
    data, rows = faultless(out), splits(out)
    assert data.name == "mine" and counts(out) == {"train": 6, "val": 2, "test": 2}
    assert {row["group"] for row in rows.values()} == {f"p{i}" for i in range(5)}


def test_own_one_folder_with_suffixes(run, tmp_path):
    files = {f"a/i{i}.png": image(i) for i in range(5)} | {f"a/i{i}_seg.png": mask(i) for i in range(5)}
    out, _ = run("own", "--images", write(tmp_path / "x", files), "--mask-suffix", "_seg")
    assert set(splits(out)) == {f"a_i{i}" for i in range(5)}
    faultless(out)


def coded(seed: int, form: str) -> bytes:
    """A mask of three classes, coded 0, 7, 300 (16 bits), by a palette, or painted black, red, green."""
    classes = np.zeros((24, 32), np.uint8)
    classes[4:12, seed : seed + 9], classes[14:20, seed : seed + 9] = 1, 2
    if form == "16 bits":
        return encoded(np.array([0, 7, 300], np.uint16)[classes])
    painted = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[classes]
    if form == "painted":
        return encoded(painted)
    import io

    picture = Image.fromarray(classes, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


FORMS = {
    "16 bits": ("0", "7", "300"),
    "palette": ("0", "1", "2"),
    "painted": ("#000000", "#ff0000", "#00FF00"),
}


@pytest.mark.parametrize("form", FORMS)
def test_own_masks_of_several_classes(run, tmp_path, form):
    write(tmp_path / "x", {f"{i}.png": image(i) for i in range(5)})
    write(tmp_path / "y", {f"{i}.png": coded(i, form) for i in range(5)})
    given = ("--images", tmp_path / "x", "--masks", tmp_path / "y")
    out, _ = run("own", *given, "--classes", "none", "a", "b", "--values", *FORMS[form])
    data = faultless(out)
    for record in data.records:
        found, seed = data.mask(record), int(record.id)
        assert data.classes == ("none", "a", "b") and (found[4:12, seed : seed + 9] == 1).all()
        assert (found[14:20, seed : seed + 9] == 2).all() and (found > 0).sum() == 9 * 14


def test_own_volumes(run, tmp_path):
    for i in range(1, 6):
        volume, labels = archives.heart(i, 1)
        write(tmp_path / "x", {f"case{i}.nii.gz": nifti(volume), f"case{i}_mask.nii.gz": nifti(labels)})
    names = ("--classes", "none", "right", "wall", "left", "--values", 0, 1, 2, 3)
    out, _ = run("own", "--images", tmp_path / "x", *names)
    data = faultless(out)
    assert len(data.records) == 15 and data.spacing_mm == (1.25, 1.5)
    assert {record.group for record in data.records} == {f"case{i}" for i in range(1, 6)}


OWN_MISTAKES = {
    "no folder": (("--images", "nowhere"), "found no nowhere"),
    "no images": ((), "found no --images"),
    "group": (("--group", "q+"), "found no 'q+'"),
    "expression": (("--group", "("), "expected a regular expression"),
    "classes without values": (("--classes", "a", "b", "c"), "give --values"),
    "values": (("--values", "1"), "a different one for each"),
    "value": (("--values", "1", "red"), "found mask value 'red'"),
    "other values": (("--values", "0", "1"), "found mask values 255"),
    "one class": (("--classes", "a"), "two or more"),
    "size": (("--size", "3"), "expected 8 to 8192"),
    "labels": (("--labeled", "99%x"), "found labelled set"),
}


@pytest.mark.parametrize("name", OWN_MISTAKES)
def test_own_mistakes_are_one_line_and_leave_nothing(monkeypatch, capsys, tmp_path, name):
    images, masks = two_folders(tmp_path)
    options, words = OWN_MISTAKES[name]
    start = () if name in ("no folder", "no images") else ("--images", images, "--masks", masks)
    code, _, err = script(monkeypatch, capsys, "own", "--out", tmp_path / "out", *start, *options)
    assert code == 2 and words in err and err.count("\n") == 1 and "expected" in err, err
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.part").exists()


def missing_mask(images: Path, masks: Path) -> None:
    next(masks.iterdir()).unlink()


def missing_image(images: Path, masks: Path) -> None:
    next(images.iterdir()).unlink()


def two_of_one_name(images: Path, masks: Path) -> None:
    path = next(images.iterdir())
    path.with_suffix(".jpg").write_bytes(image(1, form="JPEG"))


def coded_as_one(images: Path, masks: Path) -> None:
    next(masks.iterdir()).write_bytes(mask(1, value=1))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (missing_mask, "found no mask for"),
        (missing_image, "found no image for"),
        (two_of_one_name, "with the same name"),
        (coded_as_one, "found mask values 1, expected only 0, 255"),
    ],
)
def test_own_folders_with_a_fault_are_named(monkeypatch, capsys, tmp_path, fault, words):
    images, masks = two_folders(tmp_path)
    fault(images, masks)
    options = ("--images", images, "--masks", masks, "--out", tmp_path / "out")
    code, _, err = script(monkeypatch, capsys, "own", *options)
    assert code == 2 and words in err and err.count("\n") == 1, err


def test_a_dry_run_fetches_and_writes_nothing(monkeypatch, capsys, tmp_path, serve):
    server = serve("busi", "lesions", archives.busi())
    options = ("--out", tmp_path / "out", "--dry-run")
    code, text, _ = script(monkeypatch, capsys, "busi", *options)
    assert code == 0 and not server.requests and not (tmp_path / "out").exists()
    for words in (
        server.address("Dataset_BUSI.zip"),
        "nothing is resized",
        "terms: ",
        "10% of the groups val",
    ):
        assert words in text
    given = zip_of(tmp_path / "given.zip", archives.busi())
    assert "49 files" in script(monkeypatch, capsys, "busi", *options, "--archive", given)[1]
    assert script(monkeypatch, capsys, "busi", *options, "--archive", tmp_path / "none.zip")[0] == 2


def test_json_is_the_last_line(run, tmp_path):
    given = zip_of(tmp_path / "given.zip", archives.busi())
    _, text = run("busi", "--archive", given, "--json")
    assert json.loads(text.splitlines()[-1])["counts"] == {"train": 11, "val": 2, "test": 3}


def test_unknown_names_list_what_there_is(monkeypatch, capsys):
    from knowsam_lite.cli import main

    assert main(["data", "nothing"]) == 2 and "polyp, isic2018" in capsys.readouterr().err
    assert main(["data"]) == 0 and "variants: official, paper, h5" in capsys.readouterr().out
    assert "expected one of lesions, all" in script(monkeypatch, capsys, "busi", "--variant", "x")[2]


@pytest.mark.parametrize("name", [*SETS, "own"])
def test_each_set_has_a_script_and_a_page_with_its_command_and_terms(name):
    assert (ROOT / f"data_scripts/{name}.py").is_file()
    page = (ROOT / f"docs/data/{name}.md").read_text(encoding="utf-8")
    assert f"knowsam-lite data {name}" in page
    for variant, recipe in SETS.get(name, {}).items():
        assert f"`{variant}`" in page
        assert all(str(number) in page for number in recipe.expected.values())
        assert all(source.url in page or source.drive in page for source in recipe.sources)
    assert "**Terms.**" in page


def after(options: list[str], name: str) -> str:
    """The value of an option, "" if it is not there."""
    return options[options.index(name) + 1] if name in options else ""


@pytest.mark.parametrize("name", SETS)
def test_the_commands_of_a_page_are_understood(monkeypatch, capsys, tmp_path, name):
    page = (ROOT / f"docs/data/{name}.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(rf"^knowsam-lite data {name} (.*)", page, re.MULTILINE)
    for command in commands:
        options = shlex.split(command)
        for path in (path for path in options if path.endswith(".zip")):
            zip_of(tmp_path / path, {})
        (tmp_path / "path/to/ACDC").mkdir(parents=True, exist_ok=True)
        code, text, err = script(monkeypatch, capsys, name, *options, "--dry-run")
        assert code == 0 and "dry run" in text, err
        recipe = find_recipe(name, after(options, "--variant"))
        preset = after(options, "--labeled")
        assert not preset or preset in recipe.labeled
    assert commands


def test_published_checksums_are_whole():
    recipes = [recipe for variants in SETS.values() for recipe in variants.values()]
    sums = {source.sha256 for recipe in recipes for source in recipe.sources if source.sha256}
    assert len(sums) == 10 and all(re.fullmatch("[0-9a-f]{64}", text) for text in sums)
