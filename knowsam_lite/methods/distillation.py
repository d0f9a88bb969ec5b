"""SAM distillation added to any method, without changing its file."""

from collections.abc import Iterator

import torch
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import distillation_loss, supervised_loss
from knowsam_lite.methods.base import Method
from knowsam_lite.methods.with_sam import WithSam
from knowsam_lite.sam import SamTeacher


class SamDistillation(WithSam):
    """A method + SKD: SAM, prompted with the map of the method's nets and LPS, is distilled back into them.

    The method's own terms, optimizers and after-step are unchanged. Two terms are added: CE + Dice of SAM on
    the labelled images, and `distillation_weight` x KD of SAM's output into `method.learner` on all images,
    which costs one more forward pass of these nets. Only they learn from it.
    `teacher`: your own SamTeacher, already loaded.
    """

    def __init__(self, method: Method, teacher: SamTeacher | None = None):
        super().__init__(method.config, method.num_classes)
        self.method = method
        self.prediction_view, self.extra_views = method.prediction_view, method.extra_views
        self.add_teacher(teacher)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        z = self.method.learner(batch.x)
        labeled, unlabeled = self.ask_teacher(batch, z)
        skd = distillation_loss(z, torch.cat([labeled.detach(), unlabeled]), self.config.temperature)
        yield {
            **self.method.losses(batch, step),
            "sam/supervised": supervised_loss(labeled, batch.y[: batch.n_labeled]),
            "distillation": self.config.distillation_weight * skd,
        }

    def predict(self, x: Tensor) -> Tensor:
        return self.method.predict(x)

    def views(self, x: Tensor) -> dict[str, Tensor]:
        views = self.method.views(x)
        return self.with_answer(views, x, views[self.prediction_view])

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [*self.method.optimizers(), *self.teacher_optimizers()]

    def after_step(self, step: int) -> None:
        self.method.after_step(step)

    def frozen_names(self) -> set[str]:
        return super().frozen_names() | {f"method.{name}" for name in self.method.frozen_names()}


def with_distillation(method: type[Method]) -> type[Method]:
    """The class of `method` + SKD, named NAME+skd, for the registry."""

    class Distilled(SamDistillation):
        name = f"{method.name}+skd"
        prediction_view = method.prediction_view
        published_aug = method.published_aug

        def __init__(self, config: Config, num_classes: int, teacher: SamTeacher | None = None):
            super().__init__(method(config, num_classes), teacher)

    Distilled.__name__ = Distilled.__qualname__ = f"{method.__name__}WithSkd"
    return Distilled
