"""Exercise 03.1, the stage."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch03.shared import alike_filled
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.subnets import conv_stage

Stage = Callable[..., nn.Sequential]
CASES: tuple[tuple[int, ...], ...] = ((4, 1), (4, 3), (5, 1, 3), (5, 2, 3), (3, 4, 6))


def _entering(case: tuple[int, ...], seed: int = 0) -> Tensor:
    return noise(2, case[-1] if len(case) == 3 else case[0], 7, 6, seed=seed)


def _run(f: Stage, case: tuple[int, ...], seed: int = 0) -> Tensor:
    return alike_filled(f(*case), seed)(_entering(case, seed))


def _sizes(net: nn.Module) -> Tensor:
    """Shapes of all convolution weights, one per row."""
    return torch.tensor([list(p.shape) for p in net.parameters() if p.ndim == 4])


def _stage_probe(f: Stage) -> list[Tensor]:
    found = []
    for case in CASES:
        net = f(*case)
        found.append(_sizes(net))
        try:
            found.append(alike_filled(net)(_entering(case)))
        except RuntimeError:  # channels do not match
            found.append(torch.zeros(()))
    return found


def _convolutions(f: Stage) -> bool:
    return all(same(_sizes(f(*case)).float(), _sizes(conv_stage(*case)).float()) for case in CASES)


def _alone(f: Stage) -> bool:
    net, x = alike_filled(f(4, 2)), noise(3, 4, 6, 6)
    return same(net(x)[:1], net(x[:1]))


def _stage_gradient(f: Stage) -> bool:
    case = (5, 3, 3)
    return same(
        *(gradients(alike_filled(g(*case)), _entering(case, 4)) for g in (f, conv_stage)),
    )


def _wrong_stage(layers: Callable[[int, int, int], Sequence[nn.Module]]) -> Stage:
    """A wrong stage built from `layers(channels, depth, in_channels)`."""
    return lambda channels, depth, in_channels=None: nn.Sequential(
        *layers(channels, depth, in_channels or channels)
    )


def _stack(
    c: int,
    depth: int,
    i: int,
    act: Callable[[], nn.Module] = nn.ReLU,
    behind: Callable[[int], list[nn.Module]] = lambda c: [],
    padding: int = 1,
) -> list[nn.Module]:
    """Convolution, `behind`, activation, repeated `depth` times."""
    inputs = [i, *[c] * (depth - 1)]
    rows = [[nn.Conv2d(n, c, 3, padding=padding), *behind(c), act()] for n in inputs]
    return [layer for row in rows for layer in row]


def _one_bend(c: int, depth: int, i: int) -> list[nn.Module]:
    return [layer for layer in _stack(c, depth, i) if isinstance(layer, nn.Conv2d)] + [nn.ReLU()]


def _bend_first(c: int, depth: int, i: int) -> list[nn.Module]:
    convolutions = [layer for layer in _stack(c, depth, i) if isinstance(layer, nn.Conv2d)]
    return [layer for convolution in convolutions for layer in (nn.ReLU(), convolution)]


def _repeated(c: int, depth: int, i: int) -> list[nn.Module]:
    return [*_stack(c, 1, i), *_stack(c, 1, c) * (depth - 1)]


def _no_bias(c: int, depth: int, i: int) -> list[nn.Module]:
    layers = _stack(c, depth, i)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
    return layers


STAGE = Exercise(
    "03.1",
    "the stage",
    _stage_probe,
    (
        Property(
            "interface",
            "conv_stage(channels, depth, in_channels) returns a nn.Sequential; the third may be left out",
            lambda f: takes(f, 3) and takes(f, 2) and isinstance(f(3, 1), nn.Sequential),
        ),
        Property("layers", "`depth` convolutions of 3 × 3, with channels that fit together", _convolutions),
        Property(
            "shape",
            "(N, C_in, H, W) -> (N, channels, H, W): the size stays",
            lambda f: all(_run(f, case).shape == (2, case[0], 7, 6) for case in CASES),
        ),
        Property(
            "value",
            "convolution, ReLU, again and again, with the same weights",
            lambda f: all(
                same(_run(f, case, s), _run(conv_stage, case, s)) for case in CASES for s in (1, 2)
            ),
        ),
        Property("alone", "an image gets the same answer alone and in a batch", _alone),
        Property("gradient", "the image gets their gradient", _stage_gradient),
    ),
    (
        Mistake(
            "no bend at the end",
            "the last convolution has no ReLU behind it; here each one has.",
            "hint 2: two layers in every round.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i)[:-1]),
        ),
        Mistake(
            "one ReLU for all",
            "there is one ReLU at the end; without one between them, two convolutions are one larger one.",
            "hint 2: two layers in every round.",
            _wrong_stage(_one_bend),
        ),
        Mistake(
            "ReLU first",
            "each ReLU stands in front of its convolution; here it stands behind.",
            "hint 2: convolution, then ReLU.",
            _wrong_stage(_bend_first),
        ),
        Mistake(
            "BatchNorm",
            "a BatchNorm stands behind each convolution, as in the U-Net's block; the V-Net has none.",
            "hint 2: convolution and ReLU, nothing else.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i, behind=lambda c: [nn.BatchNorm2d(c)])),
        ),
        Mistake(
            "LeakyReLU",
            "that is the U-Net's bend, LeakyReLU; the V-Net's makes all negative numbers 0.",
            "hint 2: nn.ReLU.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i, act=lambda: nn.LeakyReLU(0.01))),
        ),
        Mistake(
            "no padding",
            "each convolution takes one pixel off every side.",
            "hint 2: padding=1.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i, padding=0)),
        ),
        Mistake(
            "in_channels not used",
            "the first convolution expects `channels`, also where another number comes in.",
            "hint 1: which convolutions see in_channels?",
            _wrong_stage(lambda c, d, i: _stack(c, d, c)),
        ),
        Mistake(
            "in_channels everywhere",
            "every convolution expects in_channels; behind the first there are `channels`.",
            "hint 1: which convolutions see in_channels?",
            _wrong_stage(lambda c, d, i: [layer for _ in range(d) for layer in _stack(c, 1, i)]),
        ),
        Mistake(
            "one convolution too many",
            "`depth` counts all convolutions, the first one included.",
            "hint 1: depth - 1 convolutions follow the first.",
            _wrong_stage(lambda c, d, i: _stack(c, d + 1, i)),
        ),
        Mistake(
            "the same convolution again",
            "the later convolutions are one and the same: multiplying a list repeats its layers.",
            "hint 2: make both layers anew in every round.",
            _wrong_stage(_repeated),
        ),
        Mistake(
            "None as a number of channels",
            "in_channels was handed on where it is None; the first convolution then takes `channels`.",
            "hint 1: in_channels or channels.",
            lambda channels, depth, in_channels=None: nn.Sequential(*_stack(channels, depth, in_channels)),
        ),
        Mistake(
            "a plain list",
            "you return a list of layers, which is no network: it cannot be called and has no parameters.",
            "hint 2: nn.Sequential(*layers) unpacks it.",
            lambda channels, depth, in_channels=None: list(conv_stage(channels, depth, in_channels)),
        ),
        Mistake(
            "no bias",
            "the convolutions have no bias; that is right in front of a BatchNorm, and there is none here.",
            "hint 2: nn.Conv2d as it is, with its bias.",
            _wrong_stage(_no_bias),
        ),
    ),
    conv_stage,
)
