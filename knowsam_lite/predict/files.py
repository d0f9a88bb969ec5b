"""Prediction from files to files: finds the images, writes a mask, an overlay and probabilities for each."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from torch import Tensor

from knowsam_lite.colors import overlay
from knowsam_lite.data.images import read_image
from knowsam_lite.data.large import is_large
from knowsam_lite.data.layout import ENDINGS, image_folder, read_layout
from knowsam_lite.data.lists import has_lists
from knowsam_lite.data.names import folded
from knowsam_lite.data.slices import SUFFIXES as VOLUME_SUFFIXES
from knowsam_lite.data.slices import Slices, is_volume, read_header
from knowsam_lite.data.volumes import write_labels
from knowsam_lite.data.walk import walk
from knowsam_lite.errors import UserError
from knowsam_lite.files import ignores_case, in_shell, write_aside, writing
from knowsam_lite.predict.large import write_large
from knowsam_lite.predict.predictor import Predictor, as_labels, as_probabilities
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.pictures import as_numbers, as_picture, save_png

LARGE_ENDING = ".tif"  # of the masks of pictures too large for memory


@dataclass(frozen=True)
class ImageFile:
    """A picture or a volume, and the path of its mask, without ending, relative to the output folder."""

    path: Path
    name: Path


@dataclass(frozen=True)
class Wanted:
    """What is written besides the masks."""

    overlay: bool = False
    probabilities: bool = False


@dataclass(frozen=True)
class Plane:
    """What is kept of a predicted picture or slice until its file is written: what is wanted, no logits."""

    labels: np.ndarray  # class indices uint8 (H, W)
    image: np.ndarray  # uint8 (H, W, 3), empty unless overlays are wanted
    probabilities: np.ndarray  # float16 (C, H, W), empty unless wanted

    @classmethod
    def of(cls, image: np.ndarray, z: Tensor, wanted: Wanted) -> "Plane":
        """The plane of an image (H, W, 3) and its logits (C, H, W)."""
        none = np.empty(0)
        kept = as_probabilities(z) if wanted.probabilities else none
        return cls(as_labels(z), image if wanted.overlay else none, kept)


def find_images(place: Path, out: Path, split: str | None = None) -> list[ImageFile]:
    """The images of a file, a folder of files or a data set; `split` selects a part of a data set.

    Raises UserError if there are none, if two would share one mask, if the data set's layout has faults or if
    `out`, where the masks will go, is among the images, holds the masks that were drawn for them, or is
    itself a data set with masks.
    """
    refuse_labels(out)
    if place.is_dir() and ((place / "index.csv").exists() or has_lists(place)):
        paths, root = _of_dataset(place, split), place
    elif split is not None:
        raise UserError(f"found --split {split} but no data set in {place}: leave it out, or write index.csv")
    elif place.is_dir():
        root = image_folder(place)
        paths = [path for path in _walked(root) if root != place or not path.is_relative_to(root / "masks")]
        refuse_inside(out, root)
        refuse_drawn(out, root)
    elif place.is_file():
        paths, root = [place], place.parent
        refuse_drawn(out, root)
    else:
        raise UserError(f"found nothing at {place}, expected a picture, a volume or a folder: check the path")
    if not paths:
        raise UserError(
            f"found no image in {place}, expected files ending in {' '.join(ENDINGS)}: check the path"
        )
    found = [ImageFile(path, stem(path.relative_to(root))) for path in paths]
    _require_distinct(found, out)
    return found


def _require_distinct(files: Sequence[ImageFile], out: Path) -> None:
    """UserError if two images would share one mask in the file system of `out`."""
    taken: dict[str, ImageFile] = {}
    for file in files:
        other = taken.setdefault(folded(str(file.name)), file)
        if other is not file and (other.name == file.name or ignores_case(out)):
            both = f"{other.path.name} and {file.path.name}"
            raise UserError(f"found {both} in one folder, expected different names: rename one")


def _of_dataset(root: Path, split: str | None) -> list[Path]:
    layout = read_layout(root, 0.2, 0.2, 0)
    if layout.findings:
        raise UserError(f"{layout.findings[0]} (knowsam-lite check-data {in_shell(root)} lists all faults)")
    return list(dict.fromkeys(r.image for r in layout.records if split is None or r.split == split))


def _walked(root: Path) -> list[Path]:
    """The images below a folder; files of other kinds are named on stderr. UserError for a lost link."""
    found = walk(root, ENDINGS)
    found.require()
    if left_out := found.left_out():
        print(f"warning: {left_out}", file=sys.stderr)
    return list(found.files)


def refuse_inside(out: Path, root: Path) -> None:
    """UserError if the output folder lies among the images: masks would be taken for images."""
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"found {out} in {root}, where the images are: choose an output folder elsewhere")


def refuse_drawn(out: Path, root: Path) -> None:
    """UserError if the masks would go where `annotate` keeps those drawn for a folder of pictures."""
    if out.resolve() == root.resolve().parent:
        raise UserError(
            f"found {out / 'masks'} as the place of the masks, where those drawn for {root} are kept and "
            "predictions would be taken for them: choose another output folder"
        )


def refuse_labels(out: Path) -> None:
    """UserError if the output folder is a data set, or the beginning of one: predictions would overwrite its
    masks, or be taken for them.
    """
    if (out / "index.csv").exists() or has_lists(out) or (out / "images").is_dir():
        raise UserError(
            f"found a data set in {out}, whose own masks predictions would replace, or become: choose "
            "another output folder"
        )


def stem(path: Path) -> Path:
    """A path without its ending; .nii.gz counts as one."""
    ending = next((end for end in ENDINGS if path.name.lower().endswith(end)), path.suffix)
    return path.with_name(path.name[: len(path.name) - len(ending)])


def write_predictions(
    predictor: Predictor, files: Sequence[ImageFile], out: Path, wanted: Wanted
) -> Iterator[ImageFile]:
    """Predict in batches across files, write what is wanted for each, and yield it once written.

    Each file is written aside and renamed. TIFFs that are too large for memory come last, with a TIFF as
    mask and nothing besides. Raises UserError for an unreadable image or an output folder that cannot be
    written.
    """
    large = [file for file in files if predictor.tile and not is_volume(file.path) and is_large(file.path)]
    pictures = _pictures([file for file in files if file not in large])
    shown: list[tuple[ImageFile, np.ndarray]] = []  # read, but not yet predicted

    def images() -> Iterator[np.ndarray]:
        for file, image in pictures:
            shown.append((file, image))
            yield image

    answers = ((*shown.pop(0), z) for z in predictor.native_logits(images()))
    for file, planes in groupby(answers, key=lambda answer: answer[0]):
        _write(file, [Plane.of(image, z, wanted) for _, image, z in planes], predictor.classes, out, wanted)
        yield file
    for file in large:
        write_large(predictor, file.path, _place(out / "masks", file, LARGE_ENDING))
        yield file


def _pictures(files: Sequence[ImageFile]) -> Iterator[tuple[ImageFile, np.ndarray]]:
    """Each picture, and each slice of each volume, uint8 (H, W, 3)."""
    slices = Slices()
    for file in files:
        if is_volume(file.path):
            for index in range(read_header(file.path).shape[0]):
                yield file, slices.image(file.path, index)
        else:
            yield file, read_image(file.path)


def _write(
    file: ImageFile,
    planes: Sequence[Plane],
    classes: Classes,
    out: Path,
    wanted: Wanted,
) -> None:
    """Write the mask of one file, last, as it says that the file is done; before it what else is wanted."""
    volume, path = is_volume(file.path), mask_path(file, out)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if wanted.probabilities:
        p = np.stack([plane.probabilities for plane in planes], axis=1)  # (C, D, H, W)
        save = partial(
            np.savez_compressed, probabilities=p if volume else p[:, 0], classes=np.array(classes.names)
        )
        write_aside(_place(out / "probabilities", file, ".npz"), save)
    if wanted.overlay:
        digits, kind = len(str(len(planes))), path.name.removeprefix(file.name.name)
        for i, plane in enumerate(planes):  # the slices of a volume lie in a folder of its whole name
            ending = f"{kind}/{i:0{digits}d}.png" if volume else ".png"
            save_png(_place(out / "overlays", file, ending), overlay(plane.image, plane.labels))
    if volume:
        write_labels(path, as_numbers(np.stack([plane.labels for plane in planes]), classes), file.path)
    else:
        save_png(path, as_picture(planes[0].labels, classes))


def mask_path(file: ImageFile, out: Path) -> Path:
    """Where an image's mask is written: that of a volume as the same kind of file, others as PNG."""
    ending = next((end for end in VOLUME_SUFFIXES if file.path.name.lower().endswith(end)), ".png")
    return out / "masks" / file.name.with_name(file.name.name + ending)


def _place(folder: Path, file: ImageFile, ending: str) -> Path:
    """The path of an output file, whose folder is created."""
    path = folder / file.name.parent / (file.name.name + ending)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path
