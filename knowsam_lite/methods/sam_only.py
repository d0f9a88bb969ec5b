"""SAM alone: the adapted teacher trained on the labels, without students and without mask prompts."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.base import Method
from knowsam_lite.methods.with_sam import WithSam
from knowsam_lite.sam import SamTeacher


class SamOnly(WithSam):
    """The teacher of KnowSAM, CE + Dice on labelled images: SAM by itself, prompted by LPS alone.

    Without students there is no map to prompt it with: SAM's own embedding of "no mask" is used instead.
    `teacher`: your own SamTeacher, already loaded.
    """

    name = "sam_only"
    uses_unlabeled = False
    prediction_view = "SAM"

    def __init__(self, config: Config, num_classes: int, teacher: SamTeacher | None = None):
        super().__init__(config, num_classes)
        self.add_teacher(teacher)

    @classmethod
    def for_prediction(cls, config: Config, num_classes: int) -> Method:
        return cls(config, num_classes)  # SAM itself predicts

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n = batch.n_labeled
        yield {"sam/supervised": supervised_loss(self.predict(batch.x[:n]), batch.y[:n])}

    def predict(self, x: Tensor) -> Tensor:
        embedding = self.teacher.encode(x)
        tokens = self.teacher.learnable_prompts(embedding)  # (N, C, 2, D)
        no_mask = self.teacher.prompt_encoder.no_mask_embed.weight.view(1, 1, -1, 1, 1)
        dense = no_mask.expand(*tokens.shape[:2], -1, *embedding.shape[-2:])
        low_res = self.teacher.decode(embedding, tokens, dense)
        return F.interpolate(low_res, x.shape[-2:], mode="bilinear", align_corners=False)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.teacher_optimizers()
