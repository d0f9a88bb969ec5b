"""From a run and a folder to the images to label next."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from knowsam_lite.data import Record, SegmentationFolder
from knowsam_lite.errors import UserError
from knowsam_lite.predict import Predictor
from knowsam_lite.runs.provenance import in_order_of
from knowsam_lite.suggest.choose import choose
from knowsam_lite.suggest.drafts import Suggestion
from knowsam_lite.suggest.look import Look, look_at


def open_predictor(run: Path, which: str, device: str) -> Predictor:
    """The run's networks with its SAM, if it has one that can be loaded here; a line says if not."""
    try:
        return Predictor.from_run(run, which, device, with_sam=True)
    except UserError as error:
        predictor = Predictor.from_run(run, which, device)  # raises for what is wrong with the run itself
        print(f"Note: without SAM's score: {error}.", file=sys.stderr)
        return predictor


def suggestions(
    predictor: Predictor, data: SegmentationFolder, run: Path, way: str, n: int, seed: int
) -> tuple[list[Suggestion], SegmentationFolder]:
    """The `n` unlabelled training images to label next, by `choose`, and the data with the run's classes.

    Raises UserError if every image has a mask, or if the run learned other classes.
    """
    ordered = in_order_of(data, predictor.classes.names, run)
    assert isinstance(ordered, SegmentationFolder)
    train = ordered.split("train")
    if not any(record.mask is None for record in train):
        raise UserError(
            f"found a mask for each of the {len(train)} training images of {data.root}, expected images "
            "without one: add images"
        )
    looks = list(_looks(predictor, ordered, train))
    new = [look for look in looks if look.item.mask is None]
    places = choose(
        way,
        [look.scores for look in new],
        _features(new),
        _features([look for look in looks if look.item.mask is not None]),
        n,
        seed,
    )
    return [Suggestion(new[place].item, new[place].scores) for place in places], ordered


def _looks(
    predictor: Predictor, data: SegmentationFolder, records: Sequence[Record]
) -> Iterator[Look[Record]]:
    images = ((record, data.image(record)) for record in records)
    with tqdm(look_at(predictor, images), "look", len(records), dynamic_ncols=True) as bar:
        yield from bar


def _features(looks: Sequence[Look[Record]]) -> np.ndarray | None:
    """(N, D), or None if there are none."""
    found = [look.features for look in looks if look.features is not None]
    return np.stack(found) if found else None
