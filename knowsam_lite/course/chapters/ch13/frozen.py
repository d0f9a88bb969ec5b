"""A method for the recorded runs of chapter 13: labels alone, with the pretrained encoder frozen."""

from torch import nn

from knowsam_lite.config import Config
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.methods.supervised import Supervised


class FrozenEncoder(Supervised):
    """`supervised` whose encoder takes no gradient and whose BatchNorms keep ImageNet's statistics.

    For `--method knowsam_lite.course.chapters.ch13.frozen:FrozenEncoder --students pretrained`.
    """

    name = "frozen_encoder"

    def __init__(self, config: Config, num_classes: int, net: nn.Module | None = None):
        super().__init__(config, num_classes, net)
        assert isinstance(self.net, PretrainedNet)
        self.net.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenEncoder":
        super().train(mode)
        assert isinstance(self.net, PretrainedNet)
        self.net.encoder.eval()  # after each change of mode: BatchNorm's statistics are no parameters
        return self
