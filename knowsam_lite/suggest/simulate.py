"""Suggested labels against random ones, by simulation: masks that exist are given out round by round.

`python -m knowsam_lite.suggest.simulate --data polyp isic2018 --out FOLDER` trains a pair of students on a
few labels, lets each way choose the next ones, goes on training, and compares the areas under the curves of
Dice over labels. Finished parts are kept in FOLDER: the same command goes on where it was stopped.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from knowsam_lite.config import Config
from knowsam_lite.data import Record, SegmentationData, open_dataset
from knowsam_lite.data.records import records_of
from knowsam_lite.data.transforms import resize, resize_mask
from knowsam_lite.errors import UserError, exit_code
from knowsam_lite.evaluation import case_dice, score_split
from knowsam_lite.files import write_text
from knowsam_lite.methods import Method
from knowsam_lite.metrics import crossed
from knowsam_lite.predict import Predictor
from knowsam_lite.runs.classes import Classes
from knowsam_lite.suggest.choose import WAYS, choose
from knowsam_lite.suggest.look import look_at
from knowsam_lite.training import Trainer


@dataclass(frozen=True)
class Options:
    """Compare ways to choose the next labels on data whose masks exist."""

    data: tuple[str, ...]  # data sets with masks
    out: Path  # folder for the results
    ways: tuple[str, ...] = ("random", "combined")  # of suggest.choose.WAYS; the first is the control
    seeds: tuple[int, ...] = (0, 1, 2)  # of the pool, the first labels, the weights and the order
    rounds: int = 5
    labels: int = 10  # in each round; the first are drawn at random for every way
    steps: int = 60  # of training in the first round
    more: int = 30  # of training in each later round, from the weights of the last
    batch: int = 4
    size: int = 64  # pixels a side, for training and for scoring
    pool: int = 300  # training images among which to choose
    test: int = 150  # test images, the same for every seed
    students: str = "pretrained"
    device: str = "auto"


@dataclass
class Held:
    """Pictures and masks kept in memory at one size, as a data set."""

    source: SegmentationData
    size: int
    records: list[Record]
    spacing_mm: tuple[float, float] | None = None
    _pairs: dict[str, tuple[NDArray[np.uint8], NDArray[np.int16]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def num_classes(self) -> int:
        return self.source.num_classes

    def split(self, name: str) -> list[Record]:
        return records_of(self.records, name)

    def image(self, record: Record) -> np.ndarray:
        return self._pair(record)[0]

    def mask(self, record: Record) -> np.ndarray:
        return self._pair(record)[1]

    def _pair(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        if record.id not in self._pairs:
            image = resize(self.source.image(record), self.size)
            self._pairs[record.id] = image, resize_mask(self.source.mask(record), self.size)
        return self._pairs[record.id]

    def labelling(self, ids: set[str]) -> "Held":
        """The same data with masks for these training images alone, and the test images."""
        kept = [record for record in self.records if record.split == "test" or record.id in ids]
        return replace(self, records=kept)


def subset(data: SegmentationData, options: Options, seed: int) -> Held:
    """The pool of this seed, which has masks to give out, and the test images."""
    masked = [record for record in data.split("train") if record.mask is not None]
    chosen = np.random.default_rng(seed).permutation(len(masked))[: options.pool]
    test = data.split("test")
    shown = np.random.default_rng(0).permutation(len(test))[: options.test]
    return Held(data, options.size, [masked[i] for i in chosen] + [test[i] for i in sorted(shown)])


def config_of(options: Options, seed: int, labels: int, steps: int) -> Config:
    """How a round is trained."""
    return Config.from_json(
        json.dumps(
            {
                "method": "supervised_pair",
                "students": options.students,
                "labeled": str(labels),
                "image_size": options.size,
                "batch_labeled": options.batch,
                "steps": steps,
                "seed": seed,
                "device": options.device,
                "out": str(options.out),
            }
        )
    )


def trained(data: Held, config: Config, method: Method | None = None) -> tuple[Method, list[float]]:
    """Train on the labelled images, from `method` on if given; also the Dice of each test image."""
    trainer = Trainer(data, config, method)
    torch.manual_seed(config.seed)
    trainer.method.train()
    for step in range(config.steps):
        trainer.train_step(trainer.batches[step])
    scores = score_split(
        trainer.method, data, "test", config.image_size, trainer.device, trainer.bf16, distances=False
    )
    return trainer.method, case_dice(scores[trainer.method.prediction_view]).tolist()


def next_labels(
    method: Method, data: Held, ids: Sequence[str], way: str, options: Options, seed: int
) -> list[str]:
    """The ids of the pool's images that this way labels next."""
    device = next(method.parameters()).device
    predictor = Predictor(deepcopy(method).eval(), options.size, Classes.of(data), device)
    looks = list(look_at(predictor, ((r.id, data.image(r)) for r in data.split("train"))))
    features = np.stack([look.features for look in looks if look.features is not None])
    old = np.array([look.item in ids for look in looks])
    new = [look for look in looks if look.item not in ids]
    drawn = choose(way, [look.scores for look in new], features[~old], features[old], options.labels, seed)
    return [new[place].item for place in drawn]


def simulate(address: str, seed: int, options: Options) -> Iterator[tuple[str, list[list[float]]]]:
    """For each way, the Dice of the test images after each round: (rounds, images)."""
    data = subset(open_dataset(address, options.size), options, seed)
    pool = sorted(record.id for record in data.split("train"))
    first = [pool[i] for i in np.random.default_rng(seed).permutation(len(pool))[: options.labels]]
    config = config_of(options, seed, len(first), options.steps)
    start, score = trained(data.labelling(set(first)), config)
    for way in options.ways:
        method, ids, curve = deepcopy(start), list(first), [score]
        for number in range(1, options.rounds):
            ids += next_labels(method, data, ids, way, options, 1000 * seed + number)
            config = config_of(options, seed + 100 * number, len(ids), options.more)
            method, found = trained(data.labelling(set(ids)), config, method)
            curve.append(found)
            print(f"{address} seed {seed} {way}: {len(ids)} labels, Dice {np.mean(found):.3f}", flush=True)
        yield way, curve


def area(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean height of curves (..., rounds, images) by the trapezoid rule: (..., images)."""
    return (curve[..., 1:, :] + curve[..., :-1, :]).mean(axis=-2) / 2


def table(options: Options) -> str:
    """What is finished, as text: Dice by labels, the area, and its difference from the control's."""
    lines = []
    for address in options.data:
        found = {way: kept(options, address, way) for way in options.ways}
        control = found[options.ways[0]]
        for way, curves in found.items():
            seeds = [seed for seed in curves if seed in control]
            if not seeds:
                continue
            own, other = (np.array([each[seed] for seed in seeds]) for each in (curves, control))
            dice = " ".join(f"{value:.3f}" for value in own.mean(axis=(0, 2)))
            line = f"{address} {way:12} {len(seeds)} seeds  {dice}  area {area(own).mean():.3f}"
            if way != options.ways[0]:
                d = crossed(area(own) - area(other))
                line += f"  {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
            lines.append(line)
    return "\n".join(lines)


def place(options: Options, address: str, seed: int, way: str) -> Path:
    """The file of one curve; its name tells the settings and the address from others."""
    same = replace(options, data=(address,), ways=(way,), seeds=(seed,), out=Path())
    told = hashlib.sha256(repr(same).encode()).hexdigest()[:8]
    return options.out / f"{Path(address).name.replace(':', '_')}_{way}_{seed}_{told}.json"


def kept(options: Options, address: str, way: str) -> dict[int, list[list[float]]]:
    """The finished curves of a way by seed."""
    paths = {seed: place(options, address, seed, way) for seed in options.seeds}
    return {seed: json.loads(path.read_text("utf8")) for seed, path in paths.items() if path.is_file()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, seed by seed, and print the table."""
    return exit_code(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = tyro.cli(Options, args=arguments, prog="python -m knowsam_lite.suggest.simulate")
    if strange := set(options.ways) - set(WAYS):
        raise UserError(f"found way {strange.pop()!r}, expected some of {', '.join(WAYS)}: correct it")
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for address in options.data:
            missing = [way for way in options.ways if not place(options, address, seed, way).is_file()]
            if missing:
                for way, curve in simulate(address, seed, replace(options, ways=tuple(missing))):
                    write_text(place(options, address, seed, way), json.dumps(curve))
    print(table(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
