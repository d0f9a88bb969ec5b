"""The base class of methods: networks, named loss terms, optimizers and the prediction."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.encoders import DECODERS, PretrainedNet
from knowsam_lite.errors import UserError
from knowsam_lite.subnets import UNet


def ramp(progress: float) -> float:
    """exp(-5 (1 - t/t_max)^2): from 0.007 at the start to 1 at the end (Laine and Aila, 2017). `progress` in
    [0, 1].
    """
    return math.exp(-5 * (1 - progress) ** 2)


def rate_factor(step: int, steps: int, warm_up: float) -> float:
    """What the learning rates are multiplied by in step t = 0, 1, ...: (1 - max(t - 1, 0) / t_max), as the
    authors have it, times min(1, (t + 1) / (w t_max)) for a warm-up over the fraction w = `warm_up`.
    """
    return (1 - max(step - 1, 0) / steps) * min(1.0, (step + 1) / max(warm_up * steps, 1))


class Method(nn.Module):
    """The interface to the training loop, which is the same for all methods.

    A subclass sets `name`, and `uses_unlabeled` if it learns from labels alone, and defines `parts` and
    `predict`; the rest has defaults.
    """

    name: ClassVar[str]
    uses_unlabeled: ClassVar[bool] = True
    published_aug: ClassVar[Literal["weak", "strong"]] = "strong"  # of the unlabelled images, see `Augment`
    partners: bool = False  # whether it pastes images of one half of a batch into each other
    extra_views: int = 0  # of unlabelled images: 1 for `Batch.weak`, 2 for `Batch.strong`, too
    prediction_view: str = "fused"  # which of `views` is `predict`

    def __init__(self, config: Config, num_classes: int):
        super().__init__()
        self.config = config
        self.num_classes = num_classes

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises TypeError if a subclass overrides `losses`, which the loop does not call."""
        super().__init_subclass__(**options)
        if "losses" in vars(cls):
            raise TypeError(
                f"found {cls.__name__}.losses, expected {cls.__name__}.parts: rename it, and yield the terms "
                "instead of returning them"
            )

    @classmethod
    def for_prediction(cls, config: Config, num_classes: int) -> "Method":
        """What `predict` needs, without what only teaches; its weights are then loaded from a checkpoint."""
        return cls(replace(config, encoder_weights="none"), num_classes)

    @classmethod
    def with_random_weights(cls, config: Config, num_classes: int) -> "Method":
        """The method with nothing pretrained in it: as fast and as large, and needs no download."""
        return cls(replace(config, encoder_weights="none"), num_classes)

    def make_net(self, view: Literal["a", "b"] = "a", paper: type[nn.Module] = UNet) -> nn.Module:
        """A new F_a or F_b as `config.students` asks for: the paper's, or one with a pretrained encoder."""
        config = self.config
        if config.students == "paper":
            return paper(self.num_classes)
        a = view == "a"
        encoder, decoder = (config.encoder_a, config.decoder_a) if a else (config.encoder_b, config.decoder_b)
        return PretrainedNet(encoder, decoder, self.num_classes, config.encoder_weights == "imagenet")

    def net_names(self) -> tuple[str, str]:
        """What figures and tables call F_a and F_b."""
        if self.config.students == "paper":
            return "U-Net", "V-Net"
        a, b = (DECODERS[decoder][1] for decoder in (self.config.decoder_a, self.config.decoder_b))
        return a, f"{b} 2" if a == b else b

    def require_paper(self) -> None:
        """Raise UserError unless the students are the paper's, whose layers this method divides."""
        if self.config.students != "paper":
            raise UserError(
                f"found {self.config.students} students, expected the paper's for {self.name}, which has "
                "several decoders on one U-Net: use --students paper, or another method"
            )

    def require_batch(self, labeled: int, unlabeled: int) -> None:
        """Raise UserError unless so many images of each half of a batch are enough for a process."""
        if self.uses_unlabeled and unlabeled < 1:
            raise UserError(
                f"found {unlabeled} unlabelled images per batch, expected at least 1 for {self.name}: give "
                "more, or choose a method that learns from labels alone"
            )
        methods = [part for part in self.modules() if isinstance(part, Method)]  # and what is plugged in
        if any(method.partners for method in methods) and min(labeled, unlabeled) < 2:
            raise UserError(
                f"found {labeled} labelled and {unlabeled} unlabelled images per batch and process, expected "
                f"at least 2 of each for {self.name}, which pastes images of one half into each other: raise "
                "--batch-labeled and --batch-unlabeled"
            )

    def left_out(self) -> tuple[str, ...]:
        """Prefixes of the names in a checkpoint that `for_prediction` does not need."""
        return ()

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        """Yield the terms of this step's loss by name, already weighted, in parts that share no graph.

        Often there is one part. The loop runs the backward pass of each before it requests the next, which
        can then reuse its memory; the gradients are those of the sum.
        """
        raise NotImplementedError(f"{type(self).__name__} has no parts(batch, step), expected its loss terms")

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """All terms of `parts` in one dictionary."""
        return merged(self.parts(batch, step))

    def predict(self, x: Tensor) -> Tensor:
        """The prediction that is tested: image (N, 3, H, W) -> logits (N, C, H, W)."""
        raise NotImplementedError

    def learner(self, x: Tensor) -> Tensor:
        """The map of the nets that learn, in the form of `predict`, which it mostly is, for a teacher that is
        added to this method. Where a moving average predicts, it is that of the nets which it follows.
        """
        return self.predict(x)

    def views(self, x: Tensor) -> dict[str, Tensor]:
        """Every map to be scored, by name, in the form of `predict`; by default the prediction alone."""
        return {self.prediction_view: self.predict(x)}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers; the loop decays the learning rate of each linearly to 0."""
        return [students_optimizer(self, self.config)]

    def after_step(self, step: int) -> None:
        """Called after the optimizers' step, for instance to update a moving average."""

    def frozen_names(self) -> set[str]:
        """Names in `state_dict()` that never change and so are not saved with a run."""
        return set()

    def trained_state(self) -> dict[str, Tensor]:
        """What a checkpoint of this method holds: its state without the frozen tensors."""
        frozen = self.frozen_names()
        return {name: tensor for name, tensor in self.state_dict().items() if name not in frozen}

    @property
    def note(self) -> str:
        """One sentence to print with every result of this training; "" if there is none."""
        return ""

    def progress(self, step: int) -> float:
        """t / t_max in [0, 1): all ramps and starts are fractions of the run."""
        return step / self.config.steps


def merged(parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """All terms of a step."""
    return {name: term for part in parts for name, term in part.items()}


def students_optimizer(module: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9 as published, over what is trainable in `module`.

    Pretrained encoders learn at `encoder_rate` times the learning rate.
    """
    encoders = {p for m in module.modules() if isinstance(m, PretrainedNet) for p in m.encoder.parameters()}
    trained = [p for p in module.parameters() if p.requires_grad]
    parameters: list[dict[str, Any]] = [{"params": [p for p in trained if p not in encoders]}]
    if encoders:
        slow = [p for p in trained if p in encoders]
        parameters.append({"params": slow, "lr": config.encoder_rate * config.learning_rate})
    if config.optimizer == "published":
        return torch.optim.SGD(
            parameters, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
