"""The demo's folder is whole, and what is in its scripts is what was put there, to the byte."""

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile

import numpy as np
import pytest
from helpers.data_folders import make_folder

from knowsam_lite.cli import main
from knowsam_lite.errors import UserError
from knowsam_lite.runs.classes import Classes

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from knowsam_lite.predict import export  # noqa: E402, what it needs is there
from knowsam_lite.web import demo  # noqa: E402
from knowsam_lite.web.npm import ORT_LOADER, ORT_SCRIPT, ORT_WASM, NpmPackage  # noqa: E402

FILES = {ORT_SCRIPT: b"ort = 1;", ORT_LOADER: b"export default 1;", ORT_WASM: bytes(range(256)) * 40}
TWO = Classes(("background", "polyp"), (0, 255))
ABOUT = {
    "method": "supervised_pair",
    "image_size": 32,
    "classes": ["background", "polyp"],
    "mask_values": [0, 255],
    "views": {"probabilities": "fused", "u_net": "U-Net"},
    "note": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small archive in the cache in place of onnxruntime-web: nothing is downloaded."""
    folder = tmp_path / "cache/web"
    folder.mkdir(parents=True)
    path = folder / "ort-1.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    monkeypatch.setenv("KNOWSAM_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "ORT", NpmPackage("ort", "1", hashlib.sha256(path.read_bytes()).hexdigest()))
    return path


def graph(path, about=ABOUT) -> None:
    """A model that gives back what it is given, with what `export` writes down."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", ["image"], ["classes"])
    kind = onnx.TensorProto.UINT8
    body = onnx.helper.make_graph([node], "g", [value("image", kind, [1])], [value("classes", kind, [1])])
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.helper.set_model_props(model, {export.KEY: json.dumps(about)})
    onnx.save(model, path)


def value_of(text: str, name: str) -> dict:
    [found] = re.fullmatch(rf"globalThis\.{name} = (.*);\n", text).groups()
    return json.loads(found)


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def test_the_folder_holds_the_model_and_the_runtime_to_the_byte(package, tmp_path):
    model, out = tmp_path / "model.onnx", tmp_path / "out"
    graph(model)
    demo.write_demo(model, TWO, "Find polyps", "# card", out)
    names = {"index.html", "look.css", "demo.css", "demo.js", "ort.js", "runtime.js", "model.js", "model.md"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "ort.js").read_bytes() == FILES[ORT_SCRIPT]
    runtime = value_of((out / "runtime.js").read_text(), "KNOWSAM_RUNTIME")
    assert runtime["loader"].encode() == FILES[ORT_LOADER] and unpacked(runtime["wasm"]) == FILES[ORT_WASM]
    about = value_of((out / "model.js").read_text(), "KNOWSAM_MODEL")
    assert unpacked(about.pop("onnx")) == model.read_bytes()
    assert about["title"] == "Find polyps" and about["paint"] == [[0, 0, 0], [255, 255, 255]]
    assert ABOUT.items() <= about.items() and len(about["colors"]) == 1
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    demo.write_demo(model, TWO, "Find polyps", "# card", tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == first


def test_the_page_names_only_files_that_are_beside_it(package, tmp_path):
    graph(tmp_path / "model.onnx")
    demo.write_demo(tmp_path / "model.onnx", TWO, "t", "c", tmp_path / "out")
    page, script = ((tmp_path / "out" / name).read_text() for name in ("index.html", "demo.js"))
    named = re.findall(r'(?:src|href)="([^"]+)"', page) + re.findall(r'"(\w+\.js)"', script)
    assert {"demo.js", "ort.js", "runtime.js", "model.js", "look.css"} <= set(named)
    assert [name for name in named if name != "data:," and not (tmp_path / "out" / name).is_file()] == []
    assert "http" not in page + script and "fetch(" not in script  # a page opened as a file may fetch nothing


def test_saved_masks_have_the_data_sets_values_or_the_indices():
    names = ("background", "a", "b")
    assert demo.paint(Classes(names, (0, 7, 255))) == [[0] * 3, [7] * 3, [255] * 3]
    assert demo.paint(Classes(names, (0, 7, 300))) == [[0] * 3, [1] * 3, [2] * 3]
    assert demo.paint(Classes(names, (0, 0xFF0000, 0x0180FF), True)) == [[0] * 3, [255, 0, 0], [1, 128, 255]]


def test_what_cannot_become_a_page_is_one_line(package, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no model")
    with pytest.raises(UserError, match="found no model of this library"):
        demo.write_demo(model, TWO, "t", "c", tmp_path / "out")
    graph(model)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="found files in"):
        demo.write_demo(model, TWO, "t", "c", tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name or path.name == "out"] == []


def test_the_command_writes_a_page_for_a_run(package, tmp_path, monkeypatch, capsys):
    root, run = make_folder(tmp_path / "data"), tmp_path / "run"
    words = "--method supervised --students paper --image-size 16 --steps 1 --labeled 2 --batch-labeled 2"
    assert main(["train", *words.split(), "--device", "cpu", "--data", str(root), "--out", str(run)]) == 0
    monkeypatch.setattr(export, "export", lambda predictor, path: graph(path))  # tests/test_export.py has it
    assert main(["demo", str(run), str(tmp_path / "page")]) == 0
    about = value_of((tmp_path / "page/model.js").read_text(), "KNOWSAM_MODEL")
    assert about["title"] == "Find square" and "wrote" in capsys.readouterr().out
    assert "What it is not for" in (tmp_path / "page/model.md").read_text()
    assert main(["demo", str(run), str(tmp_path / "page")]) == 2
    assert main(["demo", str(tmp_path / "no run"), str(tmp_path / "other")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error")] == lines and len(lines) == 2


def test_every_byte_of_what_is_packed_comes_back():
    content = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8).tobytes()
    assert unpacked(demo.packed(content)) == content == unpacked(demo.packed(content))
