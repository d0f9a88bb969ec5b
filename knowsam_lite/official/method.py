"""The authors' training step: the losses of their students and SAM on one batch, and the optimizers."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from knowsam_lite.data.sampler import Batch
from knowsam_lite.mixing import mix
from knowsam_lite.official.losses import (
    as_regions,
    certain_cells,
    consistency_a_from_b,
    consistency_b_from_a,
    consistency_weight,
    distillation_loss,
    entropy_loss,
    supervised_loss,
)
from knowsam_lite.official.students import OfficialStudents
from knowsam_lite.official.teacher import OfficialTeacher
from knowsam_lite.sam.backbones import BACKBONES, Backbone
from knowsam_lite.students import StudentOutput

ENTROPY_WEIGHT = 0.9


class OfficialKnowSAM(nn.Module):
    """The authors' KnowSAM: students, SAM, the losses of a step and both optimizers.

    `max_steps` sets the ramp and the learning-rate decay; mixing (UGDA) starts once the step exceeds
    `ugda_from`.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int = 256,
        max_steps: int = 50_000,
        ugda_from: float = 12_000,
        backbone: Backbone = BACKBONES["sam_vit_b"],
    ):
        super().__init__()
        self.max_steps, self.ugda_from = max_steps, ugda_from
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = []  # with their base learning rates
        self.students = OfficialStudents(num_classes)
        self.teacher = OfficialTeacher(num_classes, image_size, backbone)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        """The weighted terms of one step: "sam"; "subnet_a", "subnet_b" and "fusion"; with UGDA "mixed".

        The parts share no graph, so the backward pass of each may run at once.
        """
        n, w = batch.n_labeled, consistency_weight(step, self.max_steps)
        y = batch.y[:n]
        z = self.students(batch.x)
        z_s = self.teacher(batch.x, z.logits_f).logits
        yield {"sam": supervised_loss(z_s[:n], y)}
        z_s = z_s.detach()
        terms = {}
        consistency = consistencies(z)
        for name, z_k in (("a", z.logits_a), ("b", z.logits_b)):
            unsupervised = (
                distillation_loss(z_k, z_s) + ENTROPY_WEIGHT * entropy_loss(z_k) + w * consistency[name]
            )
            terms[f"subnet_{name}"] = (supervised_loss(z_k[:n], y) + unsupervised) / 2
        terms["fusion"] = supervised_loss(z.logits_f[:n], y)
        yield terms
        if step > self.ugda_from:
            yield {"mixed": self.mixed_loss(batch, z.logits_f, z_s, w)}

    def mixed_loss(self, batch: Batch, z_f: Tensor, z_s: Tensor, w: float) -> Tensor:
        """The students' loss on the mixed batch.

        `z_f`, `z_s`: fused and SAM's logits of the unmixed batch; `w`: the consistency weight.
        """
        n = batch.n_labeled
        labelled, unlabelled = (as_regions(certain_cells(z)) for z in (z_f[:n], z_f[n:]))
        pseudo = z_s[n:].argmax(dim=1)
        mixed = mix(batch.x[:n], batch.y[:n], batch.x[n:], pseudo, labelled, unlabelled)
        z = self.students(mixed.x)
        own = z.logits_f[n:].argmax(dim=1)  # the students' own prediction of the second half
        consistency = consistencies(z)
        total = supervised_loss(z.logits_f, mixed.y)
        for name, z_k in (("a", z.logits_a), ("b", z.logits_b)):
            agreement = consistency[name] + supervised_loss(z_k[n:], own)
            loss = supervised_loss(z_k, mixed.y) + ENTROPY_WEIGHT * entropy_loss(z_k) + w * agreement
            total = total + loss / 2
        return total

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """New optimizers at their base rates: SGD for the students, Adam for SAM's trainable parameters."""
        trainable = [p for p in self.teacher.parameters() if p.requires_grad]
        sgd = torch.optim.SGD(self.students.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        adam = torch.optim.Adam(trainable, lr=1e-4)
        self._optimizers = [(sgd, 0.01), (adam, 1e-4)]
        return [sgd, adam]

    def after_step(self, step: int) -> None:
        """Decay both learning rates linearly: after step t they are base x (1 - t / t_max)."""
        for optimizer, base in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = base * (1 - step / self.max_steps)

    def predict(self, x: Tensor) -> Tensor:
        """The fused logits (N, C, H, W): all that the authors test."""
        return self.students(x).logits_f


def consistencies(z: StudentOutput) -> dict[str, Tensor]:
    """The consistency loss of each subnet, unweighted."""
    return {
        "a": consistency_a_from_b(z.logits_a, z.logits_b),
        "b": consistency_b_from_a(z.logits_b, z.logits_a),
    }
