"""Two-stream batches, one item per training step, and whole cases for evaluation."""

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from knowsam_lite.data.records import Record, SegmentationData
from knowsam_lite.data.tiles import Tile, Tiles
from knowsam_lite.data.transforms import Augment, resize, resize_mask, to_tensor
from knowsam_lite.errors import UserError
from knowsam_lite.interrupt import ignore

SHARED = Path("/dev/shm")  # of Linux: here processes hand batches over
ROOM = 2**30  # bytes of it for a few batches; a container has 64 MB unless it is told otherwise
CACHE_BYTES = 2 * 1024**3  # resized pictures kept in memory, per process, and at most one more


@dataclass(frozen=True)
class Batch:
    """One step's images, the labelled ones first.

    x (N, 3, H, W) float32 in [0, 1]; y (N, H, W) int64, -1 where the label is unknown; `n_labeled` images are
    labelled. `weak`, `strong` (N_u, 3, H, W): the unlabelled images again, moved as in x, without changes of
    color and with others; None unless the method asks for `extra_views`.
    """

    x: torch.Tensor
    y: torch.Tensor
    n_labeled: int
    ids: list[str]
    weak: torch.Tensor | None = None
    strong: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device; the copy from pinned memory is asynchronous."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in pinned memory; the DataLoader calls this for a CUDA device."""
        return self._changed(torch.Tensor.pin_memory)

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        weak, strong = (None if view is None else change(view) for view in (self.weak, self.strong))
        return replace(self, x=change(self.x), y=change(self.y), weak=weak, strong=strong)


class Stream:
    """An endless walk through records: one seeded shuffle after another, each without replacement."""

    def __init__(self, records: list[Record], seed: int, name: int) -> None:
        self.records, self.seed, self.name = records, seed, name

    def __getitem__(self, position: int) -> Record:
        """The record at any position from 0, a pure function of seed and position."""
        epoch, place = divmod(position, len(self.records))
        order = np.random.default_rng([self.seed, self.name, epoch]).permutation(len(self.records))
        return self.records[order[place]]


class StepBatches(Dataset):
    """Item `step` is the whole batch of that training step, a pure function of (seed, step).

    `labeled_ids` are the training images whose masks are read; the other training images are the unlabelled
    stream, and their masks are never opened. `size` is in pixels; `labeled_aug` and `unlabeled_aug` name
    kinds of `Augment`. `extra_views` of the unlabelled images: 1 adds the weak view, 2 also a second strong
    one. `share` (r, n): only part r of n equal parts of each half, for process r of n. `read_ahead` yields
    the batches of several steps.
    UserError if nothing is labelled, an id is not a training image with a mask, or there are too few images.
    """

    def __init__(
        self,
        dataset: SegmentationData,
        labeled_ids: Collection[str],
        *,
        seed: int,
        batch_labeled: int,
        batch_unlabeled: int,
        size: int,
        labeled_aug: str = "weak",
        unlabeled_aug: str = "weak",
        extra_views: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        train = dataset.split("train")
        labeled = [record for record in train if record.id in labeled_ids]
        unlabeled = [record for record in train if record.id not in labeled_ids]
        _check_streams(labeled, unlabeled, labeled_ids, batch_labeled, batch_unlabeled)
        self.dataset, self.seed, self.size = dataset, seed, size
        self.batch_labeled, self.batch_unlabeled = batch_labeled, batch_unlabeled
        self.streams = Stream(labeled, seed, 0), Stream(unlabeled, seed, 1)
        self.augments = Augment(labeled_aug, size), Augment(unlabeled_aug, size)
        if extra_views and unlabeled_aug == "none":
            raise UserError(
                "found unlabelled images without augmentation, expected a weak one at least for a method "
                "that compares two views: give --unlabeled-aug weak or strong, or another method"
            )
        self.extra_views = extra_views
        self.places = part_of(batch_labeled, *share), part_of(batch_unlabeled, *share, first=batch_labeled)
        self.weaken, self.recolor = Augment("weak", size), Augment("color", size)
        self._cache: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self._cached_bytes = 0

    def __getitem__(self, step: int) -> Batch:
        images, labels, ids = [], [], []
        extra: list[list[torch.Tensor]] = [[] for _ in range(self.extra_views)]
        for place in chain(*self.places):
            labeled = place < self.batch_labeled
            if labeled:
                record = self.streams[0][step * self.batch_labeled + place]
            else:
                record = self.streams[1][step * self.batch_unlabeled + place - self.batch_labeled]
            image, mask = self._load(record, labeled)
            seed = int(np.random.SeedSequence([self.seed, step, place]).generate_state(1)[0])
            x, y = self.augments[0 if labeled else 1](image, mask, seed)
            if not labeled and extra:  # "strong" begins with what "weak" does, so the same seed moves alike
                moved, _ = self.weaken.changed(image, None, seed)
                views = (moved, self.recolor.changed(moved, None, seed + 1)[0])
                for found, view in zip(extra, views, strict=False):
                    found.append(to_tensor(view))
            images.append(x)
            labels.append(torch.full((self.size, self.size), -1) if y is None else y)
            ids.append(record.id)
        seen = [torch.stack(found) for found in extra]
        return Batch(torch.stack(images), torch.stack(labels), len(self.places[0]), ids, *seen)

    def _load(self, record: Record, labeled: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Image and, only if labelled, mask at `size`, decoded once as long as the cache has room.

        All squares of a large picture are kept when it is read for one of them.
        """
        if record.id in self._cache:
            return self._cache[record.id]
        for read, picture, labels in self._pictures(record, labeled):
            wanted, full = read.id == record.id, self._cached_bytes >= CACHE_BYTES
            if full and not wanted:
                continue
            mask = None if labels is None else resize_mask(labels, self.size)
            pair = resize(picture, self.size), mask
            if not full:
                self._cache[read.id] = pair
                self._cached_bytes += pair[0].nbytes + (0 if mask is None else mask.nbytes)
            if wanted:
                found = pair
        return found

    def _pictures(
        self, record: Record, labeled: bool
    ) -> Iterable[tuple[Record, np.ndarray, np.ndarray | None]]:
        """The picture, and if labelled the mask, of a record and of all that are read with it."""
        if isinstance(self.dataset, Tiles) and isinstance(record, Tile):
            return self.dataset.squares(record.of, labeled)
        return [(record, self.dataset.image(record), self.dataset.mask(record) if labeled else None)]


def part_of(count: int, number: int, of: int, first: int = 0) -> range:
    """The places of part `number` of `of` equal parts of `count` images, which begin at `first`."""
    if count % of:
        raise UserError(
            f"found {count} images in one half of the batch for {of} processes, expected a multiple of {of}: "
            "change --batch-labeled and --batch-unlabeled, or the number of processes"
        )
    size = count // of
    return range(first + number * size, first + (number + 1) * size)


class _Handed(Dataset):
    """Batches in which an error is an item: raised in a helper process, it would come as a traceback."""

    def __init__(self, batches: StepBatches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | UserError | OSError:
        try:
            return self.batches[step]
        except (UserError, OSError) as error:
            return error


def preparing(asked: int | None, cuda: bool) -> int:
    """How many processes prepare batches: as many as are asked for; by default up to 4 beside a GPU, which
    would wait for one, and none beside a CPU, whose cores compute, or where they could not hand them over.
    """
    if asked is not None:
        return asked
    if not cuda or not SHARED.is_dir() or shutil.disk_usage(SHARED).free < ROOM:
        return 0
    trainings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # that torchrun started on this machine
    return min(4, (os.cpu_count() or 1) // trainings)


def read_ahead(batches: StepBatches, steps: range, workers: int, pin: bool) -> Iterator[Batch]:
    """The batch of each step, prepared by `workers` processes (0: by this one); `pin` for a CUDA device.

    Use it within `all_alive`.
    """
    loader = DataLoader(
        _Handed(batches),
        batch_size=None,  # an item is a whole batch
        sampler=steps,
        num_workers=workers,
        generator=torch.Generator(),  # else it would draw from the global state, which resuming restores
        pin_memory=pin,
        worker_init_fn=ignore,
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


@contextmanager
def all_alive(workers: int) -> Iterator[None]:
    """UserError if a process of `read_ahead` ended, which is what a full /dev/shm or too little memory does
    to it: PyTorch raises that anywhere, in the middle of a step, too.
    """
    try:
        yield
    except RuntimeError as error:
        if not workers or "DataLoader worker" not in str(error):  # PyTorch has no class of its own for it
            raise
        raise UserError(
            f"found one of {workers} processes that prepare batches ended, expected all to last: go on with "
            "--resume; use fewer --workers (0 needs none), or give the container more shared memory (docker "
            "run --shm-size=2g)"
        ) from None


def _check_streams(
    labeled: list[Record],
    unlabeled: list[Record],
    labeled_ids: Collection[str],
    batch_labeled: int,
    batch_unlabeled: int,
) -> None:
    strangers = sorted(set(labeled_ids) - {record.id for record in labeled if record.mask is not None})
    if strangers:
        raise UserError(
            f"found labelled id {strangers[0]!r}, expected a training image with a mask; use choose_labeled"
        )
    if not labeled or batch_labeled < 1:
        raise UserError(
            f"found {len(labeled)} labelled images and {batch_labeled} of them per batch, "
            "expected at least 1 each; ask for more labelled images"
        )
    images, needed = len(labeled) + len(unlabeled), batch_labeled + batch_unlabeled
    if images < needed:
        raise UserError(
            f"found {images} training images, expected at least one batch of {batch_labeled} labelled and "
            f"{batch_unlabeled} unlabelled; make the batch smaller or add images"
        )
    if batch_unlabeled and not unlabeled:
        raise UserError(
            f"found no unlabelled image among {images} training images, expected some for "
            f"{batch_unlabeled} per batch; label fewer, or choose a method that learns from labels alone"
        )


def load_case(dataset: SegmentationData, record: Record, size: int) -> tuple[torch.Tensor, np.ndarray]:
    """One image for evaluation: x float32 (3, size, size) in [0, 1], and its mask (H, W) at native size."""
    return to_tensor(resize(dataset.image(record), size)), dataset.mask(record)
