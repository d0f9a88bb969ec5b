"""All settings of a run in one frozen dataclass, and the recipes by name."""

import json
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from knowsam_lite.errors import UserError

LEAST_TILE = 16  # pixels a side


@dataclass(frozen=True)
class Config:
    """One training run. The defaults are the recipe `lesson`: short, small, for a CPU."""

    # Data and method
    data: str = "synthetic:dermoscopy"  # a folder, see docs/own_data.md, or synthetic:KIND[:N[:SEED]]
    method: str = "knowsam"  # a name in METHODS, or your own package.module:Class
    labeled: str = "8"  # labelled training images: "15" images, "10%" or "3groups"
    image_size: int = 64  # pixels a side for training; a multiple of 16
    tile: int = 0  # larger images are cut into squares of so many pixels a side; 0: each is taken as a whole
    students: Literal["paper", "pretrained"] = "paper"  # U-Net and V-Net, or encoders with a start
    encoder_a: str = "efficientnet_lite0"  # of pretrained students: a name in ENCODERS, or any of timm's
    decoder_a: str = "unet"  # a name in DECODERS
    encoder_b: str = "efficientnet_lite1"
    decoder_b: str = "fpn"
    encoder_weights: Literal["imagenet", "none"] = "imagenet"  # "none": at random
    val: float = 0.2  # fraction of images for validation, where the folder has no index.csv
    test: float = 0.2  # fraction for the test, likewise
    seed: int = 0  # choice of labelled images, initial weights, order, augmentation

    # Training
    steps: int = 300  # optimizer steps, t_max
    batch_labeled: int = 4  # labelled images per batch
    batch_unlabeled: int = 4  # unlabelled images per batch
    optimizer: Literal["adamw", "published"] = "adamw"  # "published": SGD for the students, Adam for SAM
    learning_rate: float = 1e-3  # of the students; decays linearly to 0
    encoder_rate: float = 0.25  # learning rate of a pretrained encoder, as a fraction of the above
    warm_up: float = 0.0  # fraction of the run in which the learning rates rise from 0
    teacher_learning_rate: float = 1e-3  # of SAM's adapters and prompts; decays linearly to 0
    weight_decay: float = 1e-2  # of the students
    labeled_aug: Literal["none", "weak", "strong"] = "weak"  # augmentation of the labelled half
    unlabeled_aug: Literal["none", "weak", "strong"] = "strong"  # and of the unlabelled half

    # Settings of the method
    teacher: str = "sam_mini"  # a name in BACKBONES
    teacher_size: int | None = None  # pixels a side at which it looks; default: image_size
    checkpoint: Path | None = None  # a file with its pretrained weights instead of the published ones
    teacher_learns: tuple[Literal["adapters", "prompts"], ...] = ("adapters", "prompts")  # the rest is frozen
    consistency_weight: float = 1.0  # final weight; the weight is this times the ramp w(t)
    entropy_weight: float = 0.9
    distillation_weight: float = 1.0
    distillation_ramp: bool = False  # of knowsam: whether SKD's weight rises with the ramp w(t), too
    temperature: float = 10.0  # T of the distillation
    mix_start: float = 0.24  # fraction of the run after which UGDA starts (12,000 of 50,000 steps)
    mix_grid: int = 4  # UGDA divides each image into grid x grid cells
    mix_count: int = 5  # cells that are exchanged
    mix_most: Literal["uncertain", "certain"] = "uncertain"  # which cells
    threshold: float = 0.95  # confidence from which a pseudo-label counts in fixmatch, unimatch, knowsam_plus
    labels_first: float = 0.15  # of knowsam_plus: fraction of the run that learns from labels alone
    pseudo: Literal["soft", "hard"] = "soft"  # of knowsam_plus: KL, or labels above threshold
    target_temperature: float = 1.0  # of knowsam_plus, soft: T of its KL
    target: Literal["sam", "ema", "both"] = "both"  # of knowsam_plus: whose answer is learned
    trust: Literal["alike", "agreement"] = "alike"  # of knowsam_plus, soft: an unlabelled image's weight
    cutmix: bool = True  # of knowsam_plus, fixmatch, unimatch: paste a rectangle between images
    mix_too: bool = False  # of knowsam_plus: UGDA as well, from mix_start on
    largest_component: bool = True  # BCP's pseudo-labels: keep one component a class; off for many objects

    # Output and hardware
    out: Path = Path("runs/knowsam")  # run folder
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps ...
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 only if the GPU supports it
    workers: int | None = None  # processes that prepare equal batches; default: up to 4 for a GPU, else none
    log_every: int = 20  # steps between rows of log.jsonl
    val_every: int = 100  # steps between validations, each followed by a save
    deterministic: bool = False  # on CUDA only operations that give the same bits each time; slower
    compile: bool = False  # torch.compile for the students; the first step then takes a minute
    logger: Literal["none", "tensorboard"] = "none"  # also there, besides log.jsonl

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            value, words = getattr(self, f.name), get_args(hints[f.name])
            if get_origin(hints[f.name]) is Literal and value not in words:
                raise UserError(
                    f"found {f.name} {value!r}, expected one of {', '.join(words)}: change --{f.name}"
                )
            if isinstance(value, float) and not isfinite(value):
                raise UserError(f"found {f.name} {value}, expected a number: change --{f.name}")
        for name in (
            "image_size",
            "steps",
            "batch_labeled",
            "mix_grid",
            "mix_count",
            "log_every",
            "val_every",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"found {name} {getattr(self, name)}, expected at least 1: change --{name}")
        for name in (
            "seed",
            "workers",
            "learning_rate",
            "encoder_rate",
            "teacher_learning_rate",
            "weight_decay",
            "consistency_weight",
            "entropy_weight",
            "distillation_weight",
        ):
            if (value := getattr(self, name)) is not None and value < 0:
                raise UserError(f"found {name} {value}, expected 0 or more: change --{name}")
        for name in ("warm_up", "mix_start", "threshold", "labels_first"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"found {name} {getattr(self, name)}, expected 0 to 1: change --{name}")
        if self.seed >= 2**32:
            raise UserError(f"found seed {self.seed}, expected less than {2**32}: change --seed")
        for name in ("temperature", "target_temperature"):
            if getattr(self, name) <= 0:
                raise UserError(f"found {name} {getattr(self, name)}, expected above 0: change --{name}")
        if self.tile != 0 and self.tile < LEAST_TILE:
            raise UserError(
                f"found tile {self.tile}, expected {LEAST_TILE} or more, or 0 for whole ones: change --tile"
            )
        if self.mix_count > self.mix_grid**2:
            raise UserError(
                f"found {self.mix_count} regions of {self.mix_grid**2}, expected at most all: lower mix_count"
            )

    def to_json(self) -> str:
        """The configuration as JSON text; `from_json` reads it back."""
        return json.dumps(
            {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}, indent=1
        )

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read what `to_json` wrote. A field that older versions did not have
        gets its default, which is what they did. Raises UserError for an unknown name."""
        try:
            values: dict[str, Any] = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError(type(values).__name__)
        except ValueError as error:
            raise UserError(
                f"found invalid JSON in a configuration ({error}), expected config.json of a run"
            ) from None
        names = {f.name for f in fields(cls)}
        odd = sorted(set(values) - names)
        if odd:
            raise UserError(
                f"found a configuration with unknown fields {odd}, expected those of this version: a newer "
                "one may have written it, so update knowsam_lite"
            )
        hints = get_type_hints(cls)
        for name, value in values.items():
            if value is not None and hints[name] in (Path, Path | None):
                values[name] = Path(value)
            elif isinstance(value, list):  # JSON has no tuples
                values[name] = tuple(value)
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(
                f"found a configuration with a value of another kind ({error}), expected config.json of a run"
            ) from None


# What the lessons and the embedded images are made for; older versions called it `laptop`.
LESSON = Config()
# A useful model from few labels in an hour on two cores: pretrained students and a real SAM.
LAPTOP = replace(
    LESSON,
    method="knowsam_plus",
    students="pretrained",
    teacher="mobile_sam",
    teacher_size=224,  # what TinyViT's windows divide; 256 pads a third of its tokens
    image_size=128,
    steps=1000,
    warm_up=0.05,
    labeled="15",
    val_every=100,
)
OVERNIGHT = replace(LAPTOP, image_size=256, teacher_size=256, steps=3000, val_every=200)
PAPER = replace(
    LESSON,
    image_size=256,
    steps=50_000,
    batch_labeled=12,
    batch_unlabeled=12,
    optimizer="published",
    learning_rate=0.01,
    teacher_learning_rate=1e-4,
    weight_decay=1e-4,
    teacher="sam_vit_b",
    labeled="10%",
    log_every=50,
    val_every=200,
)
RECIPES = {"lesson": LESSON, "laptop": LAPTOP, "overnight": OVERNIGHT, "paper": PAPER}

# Base configurations of a grid of runs: a trial, an overnight run on two cores, and the paper's.
BUDGETS = {
    "ci": replace(LESSON, image_size=32, steps=20, log_every=5, val_every=10),
    "lesson": replace(LESSON, steps=400),
    "pretrained": LAPTOP,
    "gpu": PAPER,
}
