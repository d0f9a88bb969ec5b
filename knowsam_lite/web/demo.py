"""A folder with a page that runs an exported model in a browser, without a server and without the network.

A page that is opened as a file may load scripts but fetch nothing; the model and the machine code of
onnxruntime-web therefore lie in scripts, compressed and as base64.
"""

import base64
import gzip
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from knowsam_lite.colors import CLASSES
from knowsam_lite.data.masks import as_rgb
from knowsam_lite.files import new_folder
from knowsam_lite.predict.export import OnnxPredictor
from knowsam_lite.runs.classes import Classes
from knowsam_lite.web.npm import ORT, ORT_LOADER, ORT_SCRIPT, ORT_WASM

PIXELS = 1 << 21  # a larger picture is reduced first: the maps of all views have to fit in the page's memory


def write_demo(model: Path, classes: Classes, title: str, card: str, out: Path) -> None:
    """Write the page for `model`, a file of `export`, into the new folder `out`; `card`: its model card.

    onnxruntime-web is downloaded once, see `NpmPackage`. Raises UserError if that fails, if `model` is none
    of this library's, or if `out` holds files.
    """
    about = OnnxPredictor(model).about
    ort = ORT.read(ORT_SCRIPT, ORT_LOADER, ORT_WASM)
    shown = {
        **about,
        "title": title,
        "paint": paint(classes),
        "colors": [CLASSES[i % len(CLASSES)] for i in range(len(about["classes"]) - 1)],
        "pixels": PIXELS,
    }
    with new_folder(out) as folder:
        for name in ("demo.html", "look.css", "demo.css", "demo.js"):
            page = page_file(name)
            (folder / name.replace("demo.html", "index.html")).write_text(page, encoding="utf-8")
        (folder / "ort.js").write_bytes(ort[ORT_SCRIPT])
        runtime = {"loader": ort[ORT_LOADER].decode(), "wasm": packed(ort[ORT_WASM])}
        (folder / "runtime.js").write_text(script("KNOWSAM_RUNTIME", runtime), encoding="utf-8")
        weights = {**shown, "onnx": packed(model.read_bytes())}
        (folder / "model.js").write_text(script("KNOWSAM_MODEL", weights), encoding="utf-8")
        (folder / "model.md").write_text(card, encoding="utf-8")


def paint(classes: Classes) -> list[list[int]]:
    """Red, green and blue of each class in a saved mask: its value or color; its index where a value is too
    large for the 8 bits that a browser writes.
    """
    if classes.painted:
        return [as_rgb(value) for value in classes.values]
    grays = classes.values if max(classes.values) < 256 else range(len(classes.values))
    return [[gray] * 3 for gray in grays]


def page_file(name: str) -> str:
    """The text of a file of the pages that ship with this package."""
    return (files("knowsam_lite.web") / "pages" / name).read_text(encoding="utf-8")


def packed(content: bytes) -> str:
    """Bytes compressed by gzip, as base64; the same text each time."""
    return base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode()


def script(name: str, value: dict[str, Any]) -> str:
    """A script that sets one global name."""
    return f"globalThis.{name} = {json.dumps(value)};\n"
