"""A small method and a small SAM to plug into each other."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.chapters.ch12.shared import small_net
from knowsam_lite.data.sampler import Batch
from knowsam_lite.methods.base import Method
from knowsam_lite.methods.with_sam import NoTeacher
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.teacher import TeacherOutput


class InnerMethod(Method):
    """A method whose moving average predicts, with its own optimizer, and a record of its steps."""

    name = "inner"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.net = small_net(num_classes, seed=1)
        self.average = small_net(num_classes, seed=2).requires_grad_(False)
        self.seen: list[int] = []

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n = batch.n_labeled
        yield {
            "own": (1 + step) * self.net(batch.x[n:]).square().mean(),
            "flat": 0 * self.net(batch.x).sum(),
        }

    def predict(self, x: Tensor) -> Tensor:
        return self.average(x)

    def learner(self, x: Tensor) -> Tensor:
        return self.net(x)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.net.parameters(), 0.1)]

    def after_step(self, step: int) -> None:
        self.seen.append(step)


class ToySam(NoTeacher):
    """Answers like SAM, from image and prompt, at almost no cost."""

    def __init__(self, classes: int):
        super().__init__(backbone_named("sam_mini"))
        self.prompts = nn.ModuleList([small_net(classes, 3 + classes, seed=3)])

    def learning_parts(self) -> dict[str, nn.ModuleList]:
        return {"prompts": self.prompts}

    def forward(self, x: Tensor, z_f: Tensor) -> TeacherOutput:
        logits = 3 * self.prompts[0](torch.cat([x, z_f.detach()], dim=1))
        return TeacherOutput(logits, logits, logits, logits)
