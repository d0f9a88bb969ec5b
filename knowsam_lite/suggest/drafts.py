"""The folder of suggestions: a contact sheet, a table, and drafts as PNG masks and as polygons.

sheet.png          the pictures with their drafts outlined, in the order in which to label them
suggestions.csv    rank, name, id, image, and every score
images/            copies of the pictures, and beside each LabelMe's JSON: open this folder in LabelMe
masks/             PNG, with the data set's own mask values
coco.json          polygons of all pictures, for CVAT, Label Studio and others, by the names in images/
drafts.sha256      what was written: `import-labels` names the drafts that nobody changed
"""

import csv
import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knowsam_lite.data import Record, SegmentationFolder
from knowsam_lite.data.names import distinct
from knowsam_lite.data.placing import as_drawn
from knowsam_lite.data.sheet import draw_sheet, outlined
from knowsam_lite.files import new_folder, write_text, writing
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.pictures import as_picture, save_png
from knowsam_lite.suggest.polygons import coco, labelme

if TYPE_CHECKING:
    from knowsam_lite.predict import Predictor

CELL, COLUMNS = 232, 5  # of the sheet: pixels a side of a picture, and pictures in a row
SUMS = "drafts.sha256"


@dataclass(frozen=True)
class Suggestion:
    """A record to label, and its scores by name."""

    record: Record
    scores: Mapping[str, float]


def write_drafts(
    predictor: "Predictor", data: SegmentationFolder, chosen: Sequence[Suggestion], out: Path
) -> None:
    """Predict the suggested images and write the folder `out`, which must be new or empty."""
    names = distinct(record.id for record in data.records)  # as the import tells them apart
    coding = Classes.of(data)
    cells, drawn, rows = [], [], []
    with new_folder(out) as folder, writing(out):
        for part in ("images", "masks"):
            (folder / part).mkdir()
        for rank, suggestion in enumerate(chosen, start=1):
            record = suggestion.record
            name, ending = names[record.id], record.image.suffix.lower()
            image = data.image(record)
            [labels] = predictor([image])
            shutil.copyfile(record.image, folder / "images" / f"{name}{ending}")
            picture = as_picture(labels, coding)
            save_png(folder / "masks" / f"{name}.png", as_drawn(picture, record.image, data.coding))
            write_text(folder / "images" / f"{name}.json", labelme(labels, data.classes, f"{name}{ending}"))
            drawn.append((f"{name}{ending}", labels))
            scores = {key: f"{value:.3f}" for key, value in suggestion.scores.items()}
            lines = [f"{rank}. {name}", "  ".join(f"{key}: {value}" for key, value in scores.items())]
            cells.append((lines, outlined(image, labels, data.num_classes, CELL)))
            image_path = record.image.relative_to(data.root).as_posix()
            rows.append({"rank": rank, "name": name, "id": record.id, "image": image_path, **scores})
        write_text(folder / "coco.json", coco(drawn, data.classes))
        write_text(folder / "suggestions.csv", as_csv(list(rows[0]), rows))
        draw_sheet(cells, data.classes, folder / "sheet.png", CELL, COLUMNS)
        drafts = [
            *sorted(folder.glob("masks/*")),
            *sorted(folder.glob("images/*.json")),
            folder / "coco.json",
        ]
        sums = (f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in drafts)
        write_text(folder / SUMS, "".join(sums))


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """A table as the text of a CSV file; what a row has beyond the columns is left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def sha256(path: Path) -> str:
    """The SHA-256 sum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unchanged(files: Sequence[Path]) -> Iterator[Path]:
    """Those of the files that are drafts as `write_drafts` wrote them."""
    known: dict[Path, set[str]] = {}
    for path in files:
        folder = next((up for up in path.resolve().parents[:2] if (up / SUMS).is_file()), None)
        if folder is None:
            continue
        if folder not in known:
            known[folder] = {line.split()[0] for line in (folder / SUMS).read_text("utf8").splitlines()}
        if sha256(path) in known[folder]:
            yield path
