"""What all methods with a SAM share: building, prompting, training and saving it."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.methods.base import Method
from knowsam_lite.sam import Backbone, SamTeacher, load_pretrained
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.prompts import roughen
from knowsam_lite.sam.weights import pretrained_names


class NoTeacher(SamTeacher):
    """Placeholder for the teacher in a method that only predicts: it has no weights and computes nothing."""

    def __init__(self, backbone: Backbone):
        nn.Module.__init__(self)
        self.backbone = backbone

    def learning_parts(self) -> dict[str, nn.ModuleList]:
        return {}


class WithSam(Method):
    """A method with a `teacher`, a SAM whose adapters and prompts are trained; the rest is frozen."""

    teacher: SamTeacher

    @classmethod
    def for_prediction(cls, config: Config, num_classes: int) -> Method:
        nobody = NoTeacher(backbone_named(config.teacher))
        config = replace(config, encoder_weights="none")
        return cls(config, num_classes, teacher=nobody)  # type: ignore[call-arg]  # each subclass takes one

    @classmethod
    def with_random_weights(cls, config: Config, num_classes: int) -> Method:
        teacher = SamTeacher(config.teacher, num_classes, config.teacher_size or config.image_size)
        config = replace(config, encoder_weights="none")
        return cls(config, num_classes, teacher=teacher)  # type: ignore[call-arg]

    def left_out(self) -> tuple[str, ...]:
        return ("teacher.",) if isinstance(self.teacher, NoTeacher) else ()

    def add_teacher(self, teacher: SamTeacher | None) -> None:
        """Use this teacher, already loaded, or build and load the one that the configuration names."""
        if teacher is None:
            teacher = SamTeacher(
                self.config.teacher, self.num_classes, self.config.teacher_size or self.config.image_size
            )
            load_pretrained(teacher, self.config.checkpoint)
        for part, modules in teacher.learning_parts().items():
            modules.requires_grad_(part in self.config.teacher_learns)
        self.teacher = teacher

    def ask_teacher(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        """SAM's logits, prompted with z: for the labelled half with roughened prompts and a graph; for the
        other half without a graph, because SAM learns from the labels alone.
        """
        n = batch.n_labeled
        labeled = self.teacher(batch.x[:n], roughen(z[:n])).logits
        with torch.no_grad():
            unlabeled = self.teacher(batch.x[n:], z[n:]).logits
        return labeled, unlabeled

    def with_answer(self, views: dict[str, Tensor], x: Tensor, z: Tensor) -> dict[str, Tensor]:
        """`views` and "SAM", its answer to the prompt z; without it in a method that only predicts."""
        if isinstance(self.teacher, NoTeacher):
            return views
        return {**views, "SAM": self.teacher(x, z).logits}

    def teacher_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam, as published, for the trainable parameters of SAM; no optimizer if there are none."""
        trained = [p for p in self.teacher.parameters() if p.requires_grad]
        return [torch.optim.Adam(trained, self.config.teacher_learning_rate)] if trained else []

    @property
    def note(self) -> str:
        return self.teacher.backbone.note

    def frozen_names(self) -> set[str]:
        return {f"teacher.{name}" for name in pretrained_names(self.teacher)}
