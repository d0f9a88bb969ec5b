"""Preparing a data set: all or nothing, whatever the network, the archive or a kill does to it."""

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.archive_server import ArchiveServer
from helpers.archives import encoded, image, kvasir, mask, zip_of
from PIL import Image

from knowsam_lite import downloads
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.prepare import Recipe, Request, Size, Source, prepare
from knowsam_lite.data.prepare.obtain import download
from knowsam_lite.data.sets.polyp import VARIANTS
from knowsam_lite.errors import UserError

KVASIR = VARIANTS["kvasir"]


def archive(folder: Path, count: int = 12) -> Path:
    return zip_of(folder / "given.zip", kvasir(count))


def request(tmp_path: Path, **more) -> Request:
    return Request(tmp_path / "out", workers=1, cache=tmp_path / "cache", **more)


def visible(folder: Path) -> list[str]:
    """What is in a folder, but for the lock, which stays where nothing was made."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def errors(folder: Path) -> list[str]:
    return [str(finding) for finding in check_dataset(folder) if finding.severity == "error"]


def test_a_folder_with_all_that_belongs_to_it(tmp_path):
    result = prepare(KVASIR, request(tmp_path, archives=(archive(tmp_path),), labeled="10%"))
    out = result.out
    names = [
        "CITATION.txt",
        "LICENCE.txt",
        "contact_sheet.png",
        "dataset.json",
        "images",
        "index.csv",
        "masks",
    ]
    assert visible(out) == names and not errors(out)
    assert result.counts == {"train": 10, "val": 1, "test": 1} and (result.labeled, result.chosen) == (
        "10%",
        1,
    )
    assert "arXiv:1911.07069" in (out / "CITATION.txt").read_text()
    assert "commercial" in (out / "LICENCE.txt").read_text()
    description = json.loads((out / "dataset.json").read_text())
    assert description["labeled"] == {"value": "10%", "seed": 0}
    assert (out / "images/cju0003.jpg").read_bytes() == kvasir()["Kvasir-SEG/images/cju0003.jpg"]
    with Image.open(out / "contact_sheet.png") as sheet:
        assert np.asarray(sheet).std() > 20 and sheet.width > 900
    assert visible(tmp_path) == ["given.zip", "out"]


def test_jpeg_masks_are_thresholded_and_the_pixels_counted(tmp_path):
    result = prepare(KVASIR, request(tmp_path, archives=(archive(tmp_path),)))
    files, changed = kvasir(), 0
    for i in range(12):
        values = np.asarray(Image.open(io.BytesIO(files[f"Kvasir-SEG/masks/cju{i:04d}.jpg"])))
        changed += int(((values > 0) & (values < 255)).sum())
        stored = np.asarray(Image.open(result.out / f"masks/cju{i:04d}.png"))
        assert np.array_equal(stored, np.where(values > 127, 255, 0))
    assert changed > 0 and any(f"{changed} pixels" in warning for warning in result.warnings)
    assert any("12 images (all), the published set has 1000" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("fit", "shape", "words"),
    [("keep", (12, 16), "shape is kept"), ("pad", (16, 16), "black"), ("squash", (16, 16), "not kept")],
)
def test_sizes_say_what_they_do_and_do_it(tmp_path, fit, shape, words):
    size = Size(16, fit)
    assert words in str(size)
    out = prepare(KVASIR, request(tmp_path, archives=(archive(tmp_path),), size=size)).out
    data = SegmentationFolder(out)
    for record in data.records:
        picture, truth = data.image(record), data.mask(record)
        assert picture.shape[:2] == truth.shape == shape and set(np.unique(truth)) <= {0, 1} and truth.any()
        if fit == "pad":
            assert not picture[:2].any() and not truth[:2].any() and picture[2:14].any()


def test_a_size_of_no_use_is_refused():
    with pytest.raises(UserError, match="expected 8 to 8192"):
        Size(4)


def test_more_processes_give_the_same_files(tmp_path):
    given = (archive(tmp_path, 70),)
    digests = []
    for workers in (1, 2):
        out = prepare(
            KVASIR, replace(request(tmp_path, archives=given), out=tmp_path / str(workers), workers=workers)
        ).out
        files = sorted(path for path in out.rglob("*") if path.is_file())
        digests.append([(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files])
    assert digests[0] == digests[1] and len(digests[0]) == 145


def test_splits_are_drawn_by_group_from_the_seed(tmp_path):
    given = (archive(tmp_path, 40),)
    index = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        wanted = replace(
            request(tmp_path, archives=given, seed=seed, val=0.25, test=0.25), out=tmp_path / name
        )
        assert prepare(KVASIR, wanted).counts == {"train": 20, "val": 10, "test": 10}
        with open(tmp_path / name / "index.csv", newline="") as file:
            index.append([(row["id"], row["split"]) for row in csv.DictReader(file)])
    assert index[0] == index[1] != index[2]


def rough(seed: int) -> np.ndarray:
    """A picture with detail for a perceptual hash to hold on to."""
    grains = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return grains.repeat(4, 0).repeat(4, 1)


def test_pictures_that_look_alike_stay_in_one_split(tmp_path):
    files = {}
    for i in range(30):  # every picture three times, the copies as JPEG of another quality
        files[f"Kvasir-SEG/images/i{i:02d}.jpg"] = encoded(rough(i // 3), "JPEG", quality=95 - 20 * (i % 3))
        files[f"Kvasir-SEG/masks/i{i:02d}.jpg"] = mask(i, (64, 64), "JPEG")
    wanted = request(tmp_path, archives=(zip_of(tmp_path / "given.zip", files),), val=0.2, test=0.2)
    for find in (False, True):
        out = tmp_path / f"find-{find}"
        prepare(KVASIR, replace(wanted, out=out, find_duplicates=find))
        with open(out / "index.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        together = [{row["split"] for row in rows if int(row["id"][1:]) // 3 == i} for i in range(10)]
        assert all(len(splits) == 1 for splits in together) == find
        assert len({row["group"] for row in rows}) == (10 if find else 30)


def test_what_is_there_is_kept(tmp_path):
    wanted = request(tmp_path, archives=(archive(tmp_path),))
    prepare(KVASIR, wanted)
    before = (wanted.out / "index.csv").stat().st_mtime_ns
    again = prepare(KVASIR, replace(wanted, labeled="30%"))
    assert not again.new and again.chosen == 3 and (wanted.out / "index.csv").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="this command did not make"):
        prepare(KVASIR, replace(wanted, seed=1))
    foreign = tmp_path / "foreign"
    (foreign / "sub").mkdir(parents=True)
    with pytest.raises(UserError, match="new or empty folder"):
        prepare(KVASIR, replace(wanted, out=foreign))
    (tmp_path / "empty").mkdir()
    assert prepare(KVASIR, replace(wanted, out=tmp_path / "empty")).new


def bad_files() -> dict[str, dict[str, bytes]]:
    whole = kvasir()
    return {
        "no mask": {n: b for n, b in whole.items() if n != "Kvasir-SEG/masks/cju0003.jpg"},
        "no readable image": whole | {"Kvasir-SEG/images/cju0003.jpg": b"no image"},
        "expected equal sizes": whole | {"Kvasir-SEG/masks/cju0003.jpg": mask(1, (9, 9), "JPEG")},
        "archives hold": {"other/a.png": b"x"},
        "the labelled": whole,
    }


@pytest.mark.parametrize("words", bad_files())
def test_what_is_wrong_in_an_archive_is_named_and_nothing_is_left(tmp_path, words):
    given = zip_of(tmp_path / "given.zip", bad_files()[words])
    wanted = request(tmp_path, archives=(given,), labeled="99" if words == "the labelled" else "")
    with pytest.raises(
        UserError, match="expected at most the" if words == "the labelled" else words
    ) as caught:
        prepare(KVASIR, wanted)
    assert "\n" not in str(caught.value) and visible(tmp_path) == ["given.zip"]
    if words in ("no readable image", "no mask", "expected equal sizes"):
        assert "cju0003" in str(caught.value)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.01)
    server = ArchiveServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def served(server: ArchiveServer, tmp_path: Path, known: bool = True) -> Recipe:
    """Kvasir-SEG from the server, with the checksum of what it has."""
    content = archive(tmp_path / "made").read_bytes()
    server.files = {"kvasir-seg.zip": content}
    digest = hashlib.sha256(content).hexdigest() if known else None
    return replace(
        KVASIR, sources=(Source("kvasir-seg.zip", url=server.address("kvasir-seg.zip"), sha256=digest),)
    )


@pytest.mark.parametrize("fault", ["", "500", "truncated", "slow", "redirect"])
def test_a_download_that_can_be_saved_is(server, tmp_path, fault):
    server.faults = [fault]
    out = prepare(served(server, tmp_path), request(tmp_path)).out
    assert not errors(out) and len(server.requests) == (2 if fault in ("500", "truncated", "redirect") else 1)
    prepare(served(server, tmp_path), replace(request(tmp_path), out=tmp_path / "again"))
    assert len(server.requests) <= 2  # kept from the first time


FAULTS = {
    "404": (["404"], "HTTP 404"),
    "always 500": (["500"] * 9, "try again later"),
    "always truncated": (["truncated"] * 9, "try again later"),
    "wrong bytes": (["wrong bytes"] * 9, "checksum is wrong"),
    "closed port": ([], "try again later"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("there", [False, True])
def test_a_download_that_fails_leaves_the_folder_as_it_was_and_says_what_to_do(
    server, tmp_path, fault, there
):
    faults, words = FAULTS[fault]
    server.faults = list(faults)
    recipe = served(server, tmp_path)
    if fault == "closed port":
        source = replace(recipe.sources[0], url="http://127.0.0.1:9/kvasir-seg.zip")
        recipe = replace(recipe, sources=(source,))
    wanted = request(tmp_path)
    if there:
        wanted.out.mkdir()
    with pytest.raises(UserError, match=words) as caught:
        prepare(recipe, wanted)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)
    assert wanted.out.exists() == there and not (there and any(wanted.out.iterdir()))
    assert [name for name in visible(tmp_path) if name not in ("cache", "made", "out")] == []
    server.faults = []
    assert prepare(served(server, tmp_path), wanted).new  # and the next run completes


def test_an_unpublished_checksum_is_recorded_and_then_enforced(server, tmp_path):
    recipe = served(server, tmp_path, known=False)
    prepare(recipe, request(tmp_path))
    kept = tmp_path / "cache/kvasir-seg.zip"
    kept.write_bytes(zip_of(tmp_path / "other.zip", kvasir(5)).read_bytes())
    server.files["kvasir-seg.zip"] = kept.read_bytes()
    with pytest.raises(UserError, match="checksum"):
        prepare(recipe, replace(request(tmp_path), out=tmp_path / "again"))


def test_a_given_archive_of_a_published_name_must_have_its_checksum(tmp_path):
    given = zip_of(tmp_path / "kvasir-seg.zip", kvasir())
    with pytest.raises(UserError, match="found sha256"):
        prepare(KVASIR, request(tmp_path, archives=(given,)))
    with pytest.raises(UserError, match="found no"):
        prepare(KVASIR, request(tmp_path, archives=(tmp_path / "none.zip",)))
    with pytest.raises(UserError, match="found 2 archives, expected 1"):
        prepare(KVASIR, request(tmp_path, archives=(given, given)))


DRIVE = Source("set.zip", drive="ABC")


def test_google_drive_without_gdown_says_which_file_goes_where(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(UserError) as caught:
        download(DRIVE, tmp_path)
    for words in ("file/d/ABC/view", str(tmp_path / "set.zip"), "knowsam-lite[drive]"):
        assert words in str(caught.value)
    (tmp_path / "set.zip").write_bytes(b"by hand")
    assert download(DRIVE, tmp_path) == tmp_path / "set.zip"
    (tmp_path / "set.zip").write_bytes(b"another")
    with pytest.raises(UserError, match="found sha256"):
        download(DRIVE, tmp_path)


@pytest.mark.parametrize("result", ["done", "nothing", "error"])
def test_google_drive_with_gdown(tmp_path, monkeypatch, result):
    def fake(id, output, resume):
        assert id == "ABC"
        if result == "error":
            raise OSError("too many users")
        if result == "done":
            Path(output).write_bytes(b"content")
        return output if result == "done" else None

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=fake))
    if result == "done":
        assert download(DRIVE, tmp_path).read_bytes() == b"content"
    else:
        with pytest.raises(UserError, match="file/d/ABC/view in a browser"):
            download(DRIVE, tmp_path)
        assert not (tmp_path / "set.zip").exists()


def test_a_file_that_no_program_can_fetch_is_asked_for(tmp_path):
    with pytest.raises(UserError, match="ask the publisher, then give it with --archive"):
        download(Source("set.zip", by_hand="ask the publisher"), tmp_path)


def test_two_at_once_make_one_folder(tmp_path):
    wanted = request(tmp_path, archives=(archive(tmp_path, 40),))
    results = []
    threads = [threading.Thread(target=lambda: results.append(prepare(KVASIR, wanted))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.new for result in results) == [False, False, True] and not errors(wanted.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.zip", "out"]


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="not writable"):
        prepare(KVASIR, replace(request(tmp_path, archives=(archive(tmp_path),)), out=tmp_path / "file/out"))


@pytest.mark.slow
def test_kills_at_random_moments_leave_nothing_half_made(tmp_path):
    wanted = request(tmp_path, archives=(archive(tmp_path, 10),))
    started = time.perf_counter()
    prepare(KVASIR, replace(wanted, out=tmp_path / "first"))
    duration = time.perf_counter() - started
    moments = np.random.default_rng(0).uniform(0, 1.1 * duration, 30)
    halves = whole = 0
    for moment in moments:
        child = os.fork()
        if child == 0:
            try:
                prepare(KVASIR, wanted)
            finally:
                os._exit(0)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        halves += (tmp_path / ".out.part").exists()
        if wanted.out.exists():  # then it is whole
            whole += 1
            assert len(SegmentationFolder(wanted.out).records) == 10 and not errors(wanted.out)
            os.rename(wanted.out, tmp_path / f"whole{whole}")
    assert halves > 5  # the kills did hit
    assert prepare(KVASIR, wanted).counts == {"train": 8, "val": 1, "test": 1} and not errors(wanted.out)
    assert not (tmp_path / ".out.part").exists()


@pytest.mark.slow
def test_the_processes_of_a_killed_run_end_with_it(tmp_path):
    import psutil

    given = archive(tmp_path, 400)
    code = (
        "from pathlib import Path\n"
        "from knowsam_lite.data.prepare import Request, prepare\n"
        "from knowsam_lite.data.sets.polyp import VARIANTS\n"
        f"if __name__ == '__main__': prepare(VARIANTS['kvasir'], Request(Path({str(tmp_path / 'out')!r}), "
        f"(Path({str(given)!r}),), workers=2))\n"
    )
    (tmp_path / "run.py").write_text(code)
    run = subprocess.Popen([sys.executable, tmp_path / "run.py"])
    deadline = time.time() + 60
    while not any((tmp_path / ".out.part/whole/masks").glob("*")) and time.time() < deadline:
        time.sleep(0.02)
    children = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive and not (tmp_path / "out").exists()


def test_exif_rotation_of_an_image_is_kept_beside_an_upright_mask(tmp_path):
    picture = Image.open(io.BytesIO(image(1, (32, 24))))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    files = kvasir() | {"Kvasir-SEG/images/cju0000.jpg": buffer.getvalue()}
    out = prepare(KVASIR, request(tmp_path, archives=(zip_of(tmp_path / "given.zip", files),))).out
    assert not errors(out)
