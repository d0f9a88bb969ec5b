"""KnowSAM: the students prompt SAM, SAM teaches the students, and uncertain regions are exchanged."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import distillation_loss, supervised_loss
from knowsam_lite.methods.base import ramp, students_optimizer
from knowsam_lite.methods.multi_view import MultiView
from knowsam_lite.methods.with_sam import WithSam
from knowsam_lite.mixing import Mixed, choose_regions, mix, uncertainty_map
from knowsam_lite.sam import SamTeacher
from knowsam_lite.students import StudentOutput

__getattr__ = old_names(__name__)


class KnowSAM(WithSam, MultiView):
    """MC + LPS with adapters + SKD + UGDA (Huang et al., IEEE TMI 2025).

    SAM learns from the labelled images alone, so the unlabelled half passes through it without a graph. z_f
    is detached before it prompts SAM and z_s before it teaches the students, so neither's loss reaches the
    other, and a step's losses come in parts. `net_a`, `net_b`: your own modules for F_a and F_b; `teacher`:
    your own SamTeacher, already loaded.
    """

    name = "knowsam"

    def __init__(
        self,
        config: Config,
        num_classes: int,
        net_a: nn.Module | None = None,
        net_b: nn.Module | None = None,
        teacher: SamTeacher | None = None,
    ):
        super().__init__(config, num_classes, net_a, net_b)
        self.add_teacher(teacher)

    def sam_losses(
        self, batch: Batch, z_s_labeled: Tensor, z_f: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """SAM's loss terms, from the labels alone."""
        return {"sam/supervised": supervised_loss(z_s_labeled, batch.y[: batch.n_labeled])}

    def distillation(self, z: Tensor, z_s: Tensor) -> Tensor:
        """KD of SAM's logits `z_s` into a subnet's logits `z`."""
        return distillation_loss(z, z_s, self.config.temperature)

    def mixed_batch(self, batch: Batch, z_f: Tensor, pseudo: Tensor) -> Mixed:
        """UGDA: exchange the chosen cells; `pseudo` (N_u, H, W) labels the unlabelled half."""
        n, config = batch.n_labeled, self.config
        regions = choose_regions(
            uncertainty_map(z_f.detach(), config.mix_grid), config.mix_count, config.mix_most
        )
        return mix(batch.x[:n], batch.y[:n], batch.x[n:], pseudo, regions[:n], regions[n:])

    def mixed_losses(self, z: StudentOutput, y: Tensor, n: int, progress: float) -> dict[str, Tensor]:
        """The students' terms on the mixed batch, and each subnet's loss against the fused pseudo-labels."""
        w = self.config.consistency_weight * ramp(progress)
        terms = self.pair_losses(z, y, progress)
        own = z.logits_f[n:].argmax(dim=1)
        terms["a/pseudo"] = 0.5 * w * supervised_loss(z.logits_a[n:], own)
        terms["b/pseudo"] = 0.5 * w * supervised_loss(z.logits_b[n:], own)
        return {f"mixed/{name}": term for name, term in terms.items()}

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        """SAM's terms, the students' on the batch and the students' on the mixed batch."""
        progress, n = self.progress(step), batch.n_labeled
        z = self.students(batch.x)
        z_s_labeled, z_s_unlabeled = self.ask_teacher(batch, z.logits_f)
        yield self.sam_losses(batch, z_s_labeled, z.logits_f, progress)
        z_s = torch.cat([z_s_labeled.detach(), z_s_unlabeled])
        terms = self.pair_losses(z, batch.y, progress)
        w = self.config.distillation_weight * (ramp(progress) if self.config.distillation_ramp else 1.0)
        for k, z_k in (("a", z.logits_a), ("b", z.logits_b)):
            terms[f"{k}/distillation"] = 0.5 * w * self.distillation(z_k, z_s)
        yield terms
        if progress >= self.config.mix_start:
            mixed = self.mixed_batch(batch, z.logits_f, z_s_unlabeled.argmax(dim=1))
            yield self.mixed_losses(self.students(mixed.x), mixed.y, n, progress)

    def views(self, x: Tensor) -> dict[str, Tensor]:
        views = super().views(x)
        return self.with_answer(views, x, views["fused"])

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [students_optimizer(self.students, self.config), *self.teacher_optimizers()]
