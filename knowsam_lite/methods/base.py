"""What a method is: networks, named loss terms, optimizers, and the map that counts as its prediction."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch


def ramp(progress: float) -> float:
    """exp(-5 (1 - t/t_max)^2): from 0.007 at the start to 1 at the end (Laine and Aila, 2017). `progress` in
    [0, 1].
    """
    return math.exp(-5 * (1 - progress) ** 2)


class Method(nn.Module):
    """The contract with the training loop, which never asks which method it runs.

    A subclass sets `name`, and `uses_unlabeled` if it learns from unlabelled images; it defines `predict` and
    either `losses` or `parts`, from which the other follows; the rest has defaults.
    """

    name: ClassVar[str]
    uses_unlabeled: ClassVar[bool] = True
    prediction_view: str = "fused"  # which of `views` is `predict`

    def __init__(self, config: Config, num_classes: int):
        super().__init__()
        self.config = config
        self.num_classes = num_classes

    def __init_subclass__(cls, **options: Any) -> None:
        """The loop trains on `parts`, others ask for `losses`: both are what the subclass defines."""
        super().__init_subclass__(**options)
        if "parts" in vars(cls) and "losses" not in vars(cls):
            cls.losses = lambda self, batch, step: merged(cls.parts(self, batch, step))  # type: ignore
        elif "losses" in vars(cls) and "parts" not in vars(cls):
            cls.parts = Method.parts  # type: ignore[method-assign]

    @classmethod
    def for_prediction(cls, config: Config, num_classes: int) -> "Method":
        """What `predict` needs, without what only teaches; its weights are then loaded from a checkpoint."""
        return cls(config, num_classes)

    @classmethod
    def with_random_weights(cls, config: Config, num_classes: int) -> "Method":
        """The method with nothing pretrained in it: as fast and as large, and needs no download."""
        return cls(config, num_classes)

    def left_out(self) -> tuple[str, ...]:
        """Beginnings of the names in a checkpoint that `for_prediction` has no use for."""
        return ()

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of this step's loss by name, already weighted; the loop adds them up."""
        raise NotImplementedError

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        """The terms of `losses` in parts that share no graph, by default in one.

        The loop differentiates each part before it asks for the next, which can then have the memory of the
        last. The gradients are those of the sum.
        """
        yield self.losses(batch, step)

    def predict(self, x: Tensor) -> Tensor:
        """What is tested: image (N, 3, H, W) -> logits (N, C, H, W)."""
        raise NotImplementedError

    def views(self, x: Tensor) -> dict[str, Tensor]:
        """Every map worth scoring, by name, each as `predict` gives it; by default the prediction alone."""
        return {self.prediction_view: self.predict(x)}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers; the loop lets the learning rate of each fall linearly to 0."""
        return [students_optimizer(self, self.config)]

    def after_step(self, step: int) -> None:
        """What has to happen after the optimizers' step, such as a moving average."""

    def frozen_names(self) -> set[str]:
        """Names in `state_dict()` that never change and so are not saved with a run."""
        return set()

    def trained_state(self) -> dict[str, Tensor]:
        """What a checkpoint of this method holds: its state without the frozen tensors."""
        frozen = self.frozen_names()
        return {name: tensor for name, tensor in self.state_dict().items() if name not in frozen}

    @property
    def note(self) -> str:
        """What has to stand beside every result of this training, one sentence; "" if nothing."""
        return ""

    def progress(self, step: int) -> float:
        """t / t_max in [0, 1): all ramps and starts are fractions of the run."""
        return step / self.config.steps


def merged(parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """All terms of a step."""
    return {name: term for part in parts for name, term in part.items()}


def students_optimizer(module: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9 as published, over what is trainable in `module`."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if config.optimizer == "published":
        return torch.optim.SGD(
            parameters, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
