"""`official`: the authors' behaviour as a method, and KnowSAM with one of their defects at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.methods.base import Method, ramp
from knowsam_lite.methods.knowsam import KnowSAM
from knowsam_lite.official import losses
from knowsam_lite.official.method import OfficialKnowSAM
from knowsam_lite.official.students import OfficialHybridAggregation
from knowsam_lite.official.teacher import OfficialTeacher, load_sam, never_loaded
from knowsam_lite.sam import SamTeacher
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.weights import pretrained_names, pretrained_tensors
from knowsam_lite.students import StudentOutput


class Official(Method):
    """KnowSAM as its authors ran it, bug for bug; the list of differences is in `knowsam_lite.official`.

    Optimizers and rates are the authors' own (SGD 0.01, Adam 1e-4). UGDA starts after the configured
    fraction of the run, which for their 50,000 steps is their step 12,000.
    """

    name = "official"

    def __init__(self, config: Config, num_classes: int, pretrained: bool = True):
        super().__init__(config, num_classes)
        backbone = backbone_named(config.teacher)
        start = config.mix_start * config.steps
        self.knowsam = OfficialKnowSAM(num_classes, config.image_size, config.steps, start, backbone)
        if pretrained:
            load_sam(self.knowsam.teacher, pretrained_tensors(backbone, config.checkpoint))

    @classmethod
    def with_random_weights(cls, config: Config, num_classes: int) -> Method:
        return cls(config, num_classes, pretrained=False)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        return self.knowsam.parts(batch, step)

    def predict(self, x: Tensor) -> Tensor:
        return self.knowsam.predict(x)

    def views(self, x: Tensor) -> dict[str, Tensor]:
        z = self.knowsam.students(x)
        views = {"U-Net": z.logits_a, "V-Net": z.logits_b, "fused": z.logits_f}
        return {**views, "SAM": self.knowsam.teacher(x, z.logits_f).logits}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.knowsam.optimizers()

    def frozen_names(self) -> set[str]:
        # The decoder's MLPs keep their random initial weights, which no checkpoint has: they must be saved.
        names = pretrained_names(self.knowsam.teacher)
        return {f"knowsam.teacher.{name}" for name in names if not never_loaded(name)}


class UnmendedConsistency(KnowSAM):
    """KnowSAM, but consistency covers the last class only, and subnet B learns nothing from A."""

    name = "unmended_consistency"

    def pair_losses(self, z: StudentOutput, y: Tensor, progress: float) -> dict[str, Tensor]:
        terms = super().pair_losses(z, y, progress)
        half = 0.5 * self.config.consistency_weight * ramp(progress)
        with torch.autocast(z.logits_a.device.type, enabled=False):
            z_a, z_b = z.logits_a.float(), z.logits_b.float()
            terms["a/consistency"] = half * losses.consistency_a_from_b(z_a, z_b)
            terms["b/consistency"] = half * losses.consistency_b_from_a(z_b, z_a)
        return terms


class UnmendedDistillation(KnowSAM):
    """KnowSAM, but KD compares rows of two numbers, whatever C is; for two classes this is correct."""

    name = "unmended_distillation"

    def distillation(self, z: Tensor, z_s: Tensor) -> Tensor:
        return losses.distillation_loss(z.float(), z_s.float(), self.config.temperature)


class UnmendedAggregation(KnowSAM):
    """KnowSAM, but HAM ends in BatchNorm and LeakyReLU, which keep the fused logits near unit scale."""

    name = "unmended_aggregation"

    def __init__(self, config: Config, num_classes: int, teacher: SamTeacher | None = None):
        super().__init__(config, num_classes, teacher=teacher)
        self.students.ham = OfficialHybridAggregation(num_classes)


class UnmendedSam(KnowSAM):
    """KnowSAM, but with the authors' SAM: 32 of 314 tensors dropped, no mean and standard deviation, randomly
    initialized adapters and prompts, raw mask prompts.
    """

    name = "unmended_sam"

    def __init__(self, config: Config, num_classes: int, teacher: SamTeacher | None = None):
        if teacher is None:
            backbone = backbone_named(config.teacher)
            teacher = OfficialTeacher(num_classes, config.image_size, backbone)
            load_sam(teacher, pretrained_tensors(backbone, config.checkpoint))
        super().__init__(config, num_classes, teacher=teacher)

    def frozen_names(self) -> set[str]:
        return {name for name in super().frozen_names() if not never_loaded(name.removeprefix("teacher."))}


UNMENDED: tuple[type[Method], ...] = (
    UnmendedConsistency,
    UnmendedDistillation,
    UnmendedAggregation,
    UnmendedSam,
)
