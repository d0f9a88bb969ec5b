"""Small data folders for tests."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = ["id", "image", "mask", "group", "split"]


def picture(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A random image uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def square(value: int = 255, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A mask uint8 (H, W) with a square of `value` on 0."""
    mask = np.zeros(size, np.uint8)
    mask[6:14, 8:16] = value
    return mask


def make_folder(root: Path, train: int = 8, val: int = 2, test: int = 2) -> Path:
    """A faultless folder of two classes; every image is its own group."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = []
    for index, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        Image.fromarray(picture(index)).save(root / f"images/i{index:02d}.png")
        Image.fromarray(square()).save(root / f"masks/i{index:02d}.png")
        rows.append(
            [f"i{index:02d}", f"images/i{index:02d}.png", f"masks/i{index:02d}.png", f"g{index:02d}", split]
        )
    write_index(root, rows)
    description = {
        "name": "squares",
        "classes": ["background", "square"],
        "mask_values": [0, 255],
        "spacing_mm": None,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def read_index(root: Path) -> list[list[str]]:
    with open(root / "index.csv", newline="") as file:
        return list(csv.reader(file))[1:]


def write_index(root: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> None:
    with open(root / "index.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def change_row(root: Path, number: int, **cells: str) -> None:
    """Changes cells of one row of index.csv."""
    rows = read_index(root)
    for column, text in cells.items():
        rows[number][COLUMNS.index(column)] = text
    write_index(root, rows)
