"""Exercise 13.1, normalization inside the net."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes

MEAN, STD = (0.5, 0.3, 0.7), (0.25, 0.2, 0.1)
Forward = Callable[[Any, Tensor], Tensor]


def small_encoder() -> nn.Module:
    """A convolution that sees each channel differently; always the same."""
    net = nn.Conv2d(3, 4, 3, padding=1)
    net.load_state_dict({"weight": noise(4, 3, 3, 3, seed=1), "bias": noise(4, seed=2)})
    return net


def images(channels: int = 3) -> Tensor:
    return noise(2, channels, 6, 5, seed=channels).sigmoid()


def _normalized(self: Any, x: Tensor) -> Tensor:
    return self.encoder((x.expand(-1, 3, -1, -1) - self.mean) / self.std)


def _made(forward: Forward = _normalized, keep: str = "buffers") -> type[nn.Module]:
    """The class, built from its forward pass and how it keeps mean and std; each mistake changes one."""

    class Made(nn.Module):
        def __init__(self, encoder: nn.Module, mean: Sequence[float], std: Sequence[float]):
            super().__init__()
            self.encoder = encoder
            for name, values in (("mean", mean), ("std", std)):
                tensor = torch.tensor(values).view(3, 1, 1)
                if keep == "buffers":
                    self.register_buffer(name, tensor, persistent=False)
                else:
                    setattr(self, name, nn.Parameter(tensor) if keep == "parameters" else tensor)

        def forward(self, x: Tensor) -> Tensor:
            return forward(self, x)

    return Made


RIGHT = _made()


def _zeros_beside(self: Any, x: Tensor) -> Tensor:
    wide = x if x.shape[1] == 3 else torch.cat([x, torch.zeros_like(x), torch.zeros_like(x)], dim=1)
    return self.encoder((wide - self.mean) / self.std)


def _grey_by_red(self: Any, x: Tensor) -> Tensor:
    k = x.shape[1]
    return self.encoder(((x - self.mean[:k]) / self.std[:k]).expand(-1, 3, -1, -1))


def _own_statistics(self: Any, x: Tensor) -> Tensor:
    x = x.expand(-1, 3, -1, -1)
    return self.encoder((x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True))


def _in_place(self: Any, x: Tensor) -> Tensor:
    if x.shape[1] == 3:
        return self.encoder(x.data.sub_(self.mean).div_(self.std))
    return _normalized(self, x)


def _turned(change: Callable[[Any, Tensor], Tensor]) -> type[nn.Module]:
    return _made(lambda self, x: self.encoder(change(self, x.expand(-1, 3, -1, -1))))


def _net(kind: Any) -> nn.Module:
    return kind(small_encoder(), MEAN, STD)


def _answers(kind: Any, channels: int) -> Tensor:
    return _net(kind)(images(channels))


def _untouched(kind: Any) -> bool:
    return all(
        same(given, images(k)) for k in (1, 3) for given in [images(k)] if _net(kind)(given) is not None
    )


def _kept(kind: Any) -> bool:
    """Both triples are buffers, and the only parameters are the encoder's."""
    net = _net(kind)
    held = [b.flatten().tolist() for b in net.buffers()]
    return all(torch.tensor(v).tolist() in held for v in (MEAN, STD)) and len(list(net.parameters())) == 2


def _probe(kind: Any) -> list[Tensor]:
    found = [_answers(kind, k) for k in (1, 3)]
    found += gradients(lambda x: _net(kind)(x), images())
    return [*found, torch.tensor([len(list(_net(kind).parameters())), _kept(kind), _untouched(kind)])]


NORMALIZED = Exercise(
    "13.1",
    "normalization in the net",
    _probe,
    (
        Property(
            "interface",
            "Normalized(encoder, mean, std) is a module that takes a batch of images",
            lambda k: takes(k, 3) and isinstance(_net(k), nn.Module) and takes(_net(k), 1),
        ),
        Property(
            "value",
            "the encoder gets each channel minus its mean, over its standard deviation",
            lambda k: same(_answers(k, 3), _answers(RIGHT, 3)),
        ),
        Property(
            "grey",
            "a grey image is shown in all three channels",
            lambda k: same(_answers(k, 1), _answers(RIGHT, 1)),
        ),
        Property("kept", "mean and std are buffers of the net, and nothing new is trained", _kept),
        Property("input", "the images stay as they are", _untouched),
        Property(
            "gradient",
            "it reaches the image, divided by std",
            lambda k: same(gradients(_net(k), images()), gradients(_net(RIGHT), images())),
        ),
    ),
    (
        Mistake(
            "no normalization",
            "the images reach the encoder as they are; it was pretrained on others.",
            "the equation above: subtract the mean, divide by std.",
            _turned(lambda self, x: x),
        ),
        Mistake(
            "0 to 255",
            "the images were brought to 0 ... 255 first; here they, mean and std are on the scale of 0 to 1.",
            "hint 2: x is in [0, 1] already.",
            _turned(lambda self, x: (255 * x - self.mean) / self.std),
        ),
        Mistake(
            "multiplied",
            "you multiplied by std; what spreads widely has to be brought closer.",
            "hint 2: divide by std.",
            _turned(lambda self, x: (x - self.mean) * self.std),
        ),
        Mistake(
            "divided first",
            "the image was divided by std before the mean was taken off, so the mean stays too small.",
            "hint 2: the brackets around the difference.",
            _turned(lambda self, x: x / self.std - self.mean),
        ),
        Mistake(
            "mean added",
            "the mean was added; it has to be taken off.",
            "hint 2: x minus mean.",
            _turned(lambda self, x: (x + self.mean) / self.std),
        ),
        Mistake(
            "one number for all channels",
            "all channels got the same mean and std; each has its own.",
            "hint 1: three numbers, seen as (3, 1, 1).",
            _turned(lambda self, x: (x - self.mean.mean()) / self.std.mean()),
        ),
        Mistake(
            "along the width",
            "the three numbers lie along the last axis, the width; they belong to the channels.",
            "hint 1: view(3, 1, 1).",
            _turned(lambda self, x: (x - self.mean.flatten()) / self.std.flatten()),
        ),
        Mistake(
            "the batch's own statistics",
            "you took mean and std of this batch: the same image then means something else in other company.",
            "the text: the numbers given, those of the images that the encoder was pretrained on.",
            _made(_own_statistics),
        ),
        Mistake(
            "zeros beside grey",
            "a grey image fills the first channel and the others are 0: that is a red image.",
            "hint 3: expand the one channel to three.",
            _made(_zeros_beside),
        ),
        Mistake(
            "grey by the numbers of red",
            "a grey image was normalized with the first mean and std, and then shown in three channels.",
            "hint 3: first three channels, then normalize.",
            _made(_grey_by_red),
        ),
        Mistake(
            "changed in place",
            "the caller's images were changed: whoever looks at them next sees something else.",
            "hint 2: make a new tensor, no sub_ or div_.",
            _made(_in_place),
        ),
        Mistake(
            "parameters",
            "mean and std are parameters: the optimizer would train them.",
            "hint 1: register_buffer.",
            _made(keep="parameters"),
        ),
        Mistake(
            "plain attributes",
            "mean and std are plain attributes: net.to(device) leaves them behind.",
            "hint 1: register_buffer.",
            _made(keep="attributes"),
        ),
        Mistake(
            "divided by the variance",
            "you divided by std squared.",
            "hint 2: divide by std itself.",
            _turned(lambda self, x: (x - self.mean) / self.std**2),
        ),
        Mistake(
            "mean and std exchanged",
            "std was taken off and the mean divided by.",
            "hint 2: minus mean, over std.",
            _turned(lambda self, x: (x - self.std) / self.mean),
        ),
        Mistake(
            "divided by 255",
            "the images were divided by 255; they are in [0, 1] already.",
            "hint 2: x is in [0, 1] already.",
            _turned(lambda self, x: (x / 255 - self.mean) / self.std),
        ),
        Mistake(
            "the encoder not asked",
            "you return the normalized image; the encoder was never called.",
            "hint 2: a new tensor, and then the encoder.",
            _made(lambda self, x: (x.expand(-1, 3, -1, -1) - self.mean) / self.std),
        ),
    ),
    RIGHT,
)
