"""What the annotator's page asks for: pictures, masks, drafts and SAM's answers; nothing here is HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from knowsam_lite.colors import CLASSES
from knowsam_lite.errors import UserError
from knowsam_lite.predict import Predictor
from knowsam_lite.runs.run import choose_device
from knowsam_lite.sam import BACKBONES
from knowsam_lite.web.clicks import Clicks, Prompt, Recent, plain_sam
from knowsam_lite.web.masks import MaskFolder

RECENT = 4  # pictures and drafts kept


@dataclass(frozen=True)
class Wanted:
    """Who helps: the SAM that answers clicks, and the run that drafts."""

    teacher: str | None = None  # a name in BACKBONES; default: mobile_sam, or sam_mini where it is not here
    teacher_size: int | None = None  # pixels a side at which it looks; default: that of its pretraining
    checkpoint: Path | None = None  # a file with its weights instead of the published ones
    run: Path | None = None  # whose prediction is the draft
    which: str = "last"  # checkpoint of the run: "last" or "best"
    device: str = "auto"


@dataclass
class Annotator:
    """A folder, the SAM that answers clicks on it, and the run that drafts; see `open_annotator`."""

    folder: MaskFolder
    clicks: Clicks
    teacher: str  # what the page calls the SAM
    drafts: Predictor | None = None
    _images: Recent = field(default_factory=lambda: Recent(RECENT))
    _drafts: Recent = field(default_factory=lambda: Recent(RECENT))

    def about(self) -> dict[str, Any]:
        """What the page shows at once: the pictures in their order, the classes and their colors."""
        data = self.folder.data
        names = list(self.folder.records)
        return {
            "title": data.name,
            "classes": list(data.classes),
            "colors": [CLASSES[i % len(CLASSES)] for i in range(data.num_classes - 1)],
            "unknown": data.coding.ignore is not None,
            "teacher": self.teacher,
            "drafts": self.drafts is not None,
            "images": [{"name": name, "mask": self.folder.has_mask(name)} for name in names],
        }

    def image(self, name: str) -> np.ndarray:
        """A picture, uint8 (H, W, 3)."""
        return self._images.get_or(name, lambda: self.folder.image(name))

    def picture(self, name: str) -> bytes:
        """A picture as PNG, with the very pixels that networks see."""
        done, png = cv2.imencode(".png", self.image(name)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert done
        return png.tobytes()

    def draft(self, name: str) -> np.ndarray:
        """The run's prediction for a picture: class indices uint8 (H, W)."""
        assert self.drafts is not None
        predictor = self.drafts
        return self._drafts.get_or(name, lambda: predictor([self.image(name)])[0])

    def prepare(self, name: str) -> None:
        """Embed a picture unless that was done, so that the first click on it is answered at once."""
        self.clicks.embed(name, self.image(name))

    def answer(self, name: str, prompts: Sequence[Prompt]) -> np.ndarray:
        """SAM's mask bool (H, W), see `Clicks.answer`."""
        return self.clicks.answer(name, self.image(name), prompts)


def open_annotator(place: Path, wanted: Wanted) -> Annotator:
    """Open a folder with its helpers. Raises UserError for a folder, a run or weights that cannot be used."""
    device = choose_device(wanted.device)
    drafts = None
    if wanted.run is not None:
        drafts = Predictor.from_run(wanted.run, wanted.which, wanted.device)
        folder = MaskFolder(place, drafts.classes.names, wanted.run)
    else:
        folder = MaskFolder(place)
    teacher = wanted.teacher or best_teacher(wanted.checkpoint)
    sam = plain_sam(teacher, wanted.teacher_size, wanted.checkpoint)
    return Annotator(folder, Clicks(sam.to(device).eval(), device), teacher, drafts)


def best_teacher(checkpoint: Path | None) -> str:
    """mobile_sam if its weights are on this machine or given, else sam_mini, with a line that says why."""
    if checkpoint is None:
        source = BACKBONES["mobile_sam"].weights
        assert source is not None
        try:
            source.find("mobile_sam")
        except UserError as error:
            why = str(error).removeprefix("found ")
            print(f"Note: sam_mini answers, which has seen drawn shapes only, for {why}.")
            return "sam_mini"
    return "mobile_sam"
