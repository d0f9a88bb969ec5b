"""LPS, the learnable prompt strategy: prompts for SAM from its own features and the students' map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.errors import UserError
from knowsam_lite.subnets import ConvBlock

PROMPT_NOISE = 2.0  # largest strength of `roughen`, in standard deviations of the logits


class ClassPrompt(nn.Sequential):
    """The prompt tokens of one class: embedding (N, D, g, g) -> (N, tokens, D); g at least 4.

    Raises UserError for a single image of fewer than 8 x 8 tokens in training.
    """

    def __init__(self, dim: int, tokens: int):
        super().__init__(
            ConvBlock(dim, dim, 0.1),
            nn.MaxPool2d(2),
            ConvBlock(dim, dim, 0.1),
            ConvBlock(dim, dim, 0.1),
            nn.MaxPool2d(2),
            ConvBlock(dim, dim, 0.1),
            nn.Conv2d(dim, dim, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(4 * dim, tokens * dim),
            nn.Dropout(0.1),
            nn.Unflatten(1, (tokens, dim)),
        )

    @property
    def last(self) -> nn.Linear:
        """The layer that outputs the tokens."""
        layer = self[-3]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, embedding: Tensor) -> Tensor:
        if self.training and len(embedding) == 1 and max(embedding.shape[-2:]) < 8:
            raise UserError(  # two poolings leave one pixel, of which BatchNorm cannot compute a variance
                f"found one image of {' x '.join(map(str, embedding.shape[-2:]))} tokens in a batch, "
                "expected two images or 8 x 8 tokens: make the batch or the image size larger"
            )
        return super().forward(embedding)


class LearnablePrompts(nn.Module):
    """psi: one network per class maps SAM's embedding (N, D, g, g) to prompt tokens (N, C, tokens, D).

    They replace a clicked point or a drawn box: no user is needed in training. The tokens start at zero, so
    that no random prompt disturbs SAM's output at step 0; the authors' start at random.

    Raises UserError for a single image of fewer than 8 x 8 tokens in training.
    """

    def __init__(self, num_classes: int, dim: int = 256, tokens: int = 2):
        super().__init__()
        prompts = [ClassPrompt(dim, tokens) for _ in range(num_classes)]
        for prompt in prompts:
            nn.init.zeros_(prompt.last.weight)
            nn.init.zeros_(prompt.last.bias)
        self.classes = nn.ModuleList(prompts)

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.stack([prompt(embedding) for prompt in self.classes], dim=1)


def mask_prompts(z_f: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn the fused logits into one mask prompt per class: log p_c / (1 - p_c), without gradient.

    `z_f` (N, C, H, W) -> (N, C, *size). SAM expects the logits of a binary mask; one softmax logit alone has
    no meaning (adding a constant to all channels changes it), its log-odds against all other classes have.
    The authors pass the raw channel.
    """
    z = F.interpolate(z_f.detach().float(), size, mode="bilinear", align_corners=False)
    itself = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)[:, :, None, None]
    others = (
        z.unsqueeze(1).masked_fill(itself, -torch.inf).logsumexp(dim=2)
    )  # (N, C, C, h, w) -> (N, C, h, w)
    return z - others


def add_noise(z_f: Tensor, grids: Sequence[Tensor], strength: Tensor) -> Tensor:
    """Logits (N, C, H, W) plus smooth noise, without gradient.

    `grids` (N, C, k, k) of random numbers, of one or more k, are upsampled to the image and summed: few
    numbers give large blobs, many give small ones. `strength` (N, 1, 1, 1): in standard deviations of the
    logits of the batch.
    """
    z = z_f.detach()
    noise = torch.zeros_like(z)
    for grid in grids:
        noise = noise + F.interpolate(grid, z.shape[-2:], mode="bilinear", align_corners=False)
    return z + strength * z.std() * noise


def roughen(z_f: Tensor) -> Tensor:
    """Add smooth noise of random strength to logits (N, C, H, W), without gradient.

    The students soon memorize the labelled images: there their map is nearly the ground truth, and a SAM that
    is prompted with it learns to copy, which does not help on the unlabelled images. A rough map has to be
    corrected from the image. The noise is ours: features of 1/16, 1/8 and 1/4 of the image.
    """
    n, c = z_f.shape[:2]

    def uniform() -> Tensor:
        return torch.rand(n, 1, 1, 1, device=z_f.device)

    grids = []
    for part in (16, 8, 4):
        grid = torch.randn(n, c, part + 1, part + 1, device=z_f.device, dtype=z_f.dtype)
        grids.append(uniform() * grid)
    return add_noise(z_f, grids, PROMPT_NOISE * uniform())
