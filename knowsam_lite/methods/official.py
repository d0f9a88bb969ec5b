"""`official`: the authors' own behaviour as a method, to compare with the mended one."""

import torch
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.methods.base import Method
from knowsam_lite.official.method import OfficialKnowSAM
from knowsam_lite.official.teacher import load_sam, never_loaded
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.weights import pretrained_names, pretrained_tensors


class Official(Method):
    """KnowSAM as its authors ran it, bug for bug; the list of differences is in `knowsam_lite.official`.

    Optimizers and rates are the authors' own (SGD 0.01, Adam 1e-4). UGDA starts after the configured
    fraction of the run, which for their 50,000 steps is their step 12,000.
    """

    name = "official"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        backbone = backbone_named(config.teacher)
        start = config.mix_start * config.steps
        self.knowsam = OfficialKnowSAM(num_classes, config.image_size, config.steps, start, backbone)
        load_sam(self.knowsam.teacher, pretrained_tensors(backbone, config.checkpoint))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return self.knowsam.losses(batch, step)

    def predict(self, x: Tensor) -> Tensor:
        return self.knowsam.predict(x)

    def views(self, x: Tensor) -> dict[str, Tensor]:
        z = self.knowsam.students(x)
        views = {"U-Net": z.logits_a, "V-Net": z.logits_b, "fused": z.logits_f}
        return {**views, "SAM": self.knowsam.teacher(x, z.logits_f).logits}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.knowsam.optimizers()

    def frozen_names(self) -> set[str]:
        # The decoder's MLPs, which no checkpoint fills, stay at their random start: they have to be saved.
        names = pretrained_names(self.knowsam.teacher)
        return {f"knowsam.teacher.{name}" for name in names if not never_loaded(name)}
