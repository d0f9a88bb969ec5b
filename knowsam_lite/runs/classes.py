"""The classes that a run learned, and their values in mask files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, open_dataset
from knowsam_lite.data.description import Layout, read_description
from knowsam_lite.data.images import as_rgb
from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Classes:
    """The classes of a data set and the value of each in a mask file, so that predictions look like masks.

    With `painted` masks a value is 65536 red + 256 green + blue.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    painted: bool = False

    @classmethod
    def of(cls, dataset: SegmentationData) -> "Classes":
        """Those of a data set; without declared values 0 and 255, or 0, 1, 2, ... for more classes."""
        n = dataset.num_classes
        plain = (0, 255) if n == 2 else tuple(range(n))
        values = tuple(getattr(dataset, "mask_values", plain))
        return cls(tuple(dataset.classes), values, bool(getattr(dataset, "painted", False)))

    def __str__(self) -> str:
        """ "background 0, polyp 255", the values as they are in dataset.json."""
        about = self.description("")
        return ", ".join(map("{} {}".format, about["classes"], about["mask_values"]))

    def description(self, name: str) -> dict[str, Any]:
        """What dataset.json says of them: names, and values as numbers or [red, green, blue]."""
        values = [as_rgb(value) for value in self.values] if self.painted else list(self.values)
        return {"name": name, "classes": list(self.names), "mask_values": values}

    def to_json(self, name: str) -> str:
        """The text of a dataset.json."""
        return json.dumps(self.description(name), indent=1)


def read_classes(run: Path, config: Config) -> Classes:
    """The classes that a run learned, from its dataset.json; where it has none, from its data set.

    Raises UserError if the file is damaged.
    """
    if not (run / "dataset.json").is_file():
        return Classes.of(open_dataset(config.data, config.image_size, config.val, config.test))
    layout = Layout(run.name)
    read_description(run, layout)
    if layout.findings:
        raise UserError(f"{run}: {layout.findings[0]}")
    return Classes(layout.classes, layout.mask_values, layout.painted)
