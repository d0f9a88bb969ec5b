"""Exercise 03.4, the V-Net's forward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch02.e2_the_block import shapes
from knowsam_lite.course.chapters.ch02.shared import picture
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same
from knowsam_lite.errors import UserError
from knowsam_lite.subnets import VNet, as_image

SMALL: tuple[tuple[int, ...], tuple[int, ...]] = ((4, 5, 6, 6, 6), (1, 2, 1, 3, 1))
SHORT: tuple[tuple[int, ...], tuple[int, ...]] = ((3, 4, 5), (2, 1, 2))


def made(kind: Any, classes: int = 3, sizes: tuple[tuple[int, ...], tuple[int, ...]] = SMALL) -> nn.Module:
    """A small network of this kind with the library network's weights."""
    torch.manual_seed(0)
    reference = VNet(classes, *sizes)
    net: nn.Module = kind(classes, *sizes)
    net.load_state_dict(reference.state_dict())
    return net


def _refused(kind: Any) -> bool:
    try:
        made(kind)(picture(1, 3, 20, 32))
    except UserError:
        return True
    except RuntimeError:
        return False
    return False


def _grey(kind: Any) -> Tensor:
    try:
        return made(kind)(picture(1, 1, 32, 16))
    except RuntimeError:
        return torch.zeros(())


def _forward_probe(kind: Any) -> list[Tensor]:
    x = picture(2, 3, 32, 48)
    net = made(kind)
    try:
        return [net(x), *gradients(net, x), _grey(kind), torch.tensor(float(_refused(kind)))]
    except RuntimeError as error:  # shapes do not match: the message says which
        return [torch.tensor([float(ord(letter)) for letter in str(error)])]


def _forward_value(kind: Any) -> bool:
    x = picture(2, 3, 48, 32, seed=5)
    twice = made(kind)
    return all(same(made(kind, 2, s)(x), made(VNet, 2, s)(x)) for s in (SMALL, SHORT)) and same(
        twice(x), twice(x)
    )


def _forward_gradient(kind: Any) -> bool:
    def found(net: nn.Module) -> list[Tensor]:
        x = picture(1, 3, 32, 32, seed=6)
        weights = torch.autograd.grad((net(x) * noise(1, 3, 32, 32)).sum(), list(net.parameters()))
        return [*weights, *gradients(net, x)]

    return same(found(made(kind)), found(made(VNet)))


def _all_shapes(kind: Any) -> bool:
    with torch.device("meta"):  # shapes without numbers
        return shapes(kind()) == shapes(VNet()) and shapes(kind(3, *SMALL)) == shapes(VNet(3, *SMALL))


def _first_weights(kind: Any) -> bool:
    drawn = []
    for each in (kind, VNet):
        torch.manual_seed(1)
        drawn.append(list(each(2, *SMALL).parameters()))
    return same(*drawn)


class _Walk(VNet):
    """The library's forward pass, in parts that a mistake can change."""

    def keep(self, before: Tensor, entered: Tensor, left: Tensor) -> Tensor:
        return entered

    def order(self, kept: list[Tensor]) -> list[Tensor]:
        return kept[:-1]

    def join(self, stage: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = stage(x + skip)
        return out

    def last(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x)
        return out

    def image(self, x: Tensor) -> Tensor:
        return as_image(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](self.image(x))
        kept = [x]
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            before, entered = x, down(x)
            x = stage(entered)
            kept.append(self.keep(before, entered, x))
        skips = self.order(kept)
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = self.join(stage, up(x), skips.pop())
        return self.last(x)


def _walk(**parts: Callable[..., Any]) -> type:
    return type("Wrong", (_Walk,), {name: staticmethod(part) for name, part in parts.items()})


class _Headless(_Walk):
    def last(self, x: Tensor) -> Tensor:
        return self.head(x).relu()


class _Soft(_Walk):
    def last(self, x: Tensor) -> Tensor:
        return self.head(x).softmax(dim=1)


def _added_in_place(stage: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    x += skip
    out: Tensor = stage(x)
    return out


class _NoHead(_Walk):
    def last(self, x: Tensor) -> Tensor:
        return x


class _ImageKept(_Walk):
    def forward(self, x: Tensor) -> Tensor:
        kept = [as_image(x)]
        x = self.encoder[0](kept[0])
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            kept.append(down(x))
            x = stage(kept[-1])
        for up, stage in zip(self.up, self.decoder, strict=True):
            kept.pop()
            x = self.join(stage, up(x), kept[-1])
        return self.last(x)


class _FirstStageTwice(_Walk):
    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](as_image(x))
        for down, stage in zip(self.down, self.encoder, strict=False):
            x = stage(down(x))
        return self.last(x)


FORWARD = Exercise(
    "03.4",
    "the V-Net's forward pass",
    _forward_probe,
    (
        Property(
            "interface",
            "VNet(num_classes, widths, depths): __init__ is as it was given",
            _all_shapes,
        ),
        Property("start", "and starts the Kaiming way, with the same random numbers", _first_weights),
        Property(
            "shape",
            "images (N, 3, H, W) -> logits (N, C, H, W)",
            lambda k: made(k)(picture(2, 3, 32, 48)).shape == (2, 3, 32, 48),
        ),
        Property(
            "value",
            "what enters a stage is added on the way up: two sets of widths, asked twice",
            _forward_value,
        ),
        Property("grey", "grey images (N, 1, H, W) are taken, too", lambda k: same(_grey(k), _grey(VNet))),
        Property("sizes", "an image of 20 × 32 pixels is refused with a UserError", _refused),
        Property("gradient", "the image and every weight get their gradient", _forward_gradient),
    ),
    (
        Mistake(
            "what leaves a stage",
            "your skips carry what leaves a stage, as the U-Net's do; here they carry what enters it.",
            "hint 2: keep the map between `down` and `stage`.",
            _walk(keep=lambda before, entered, left: left),
        ),
        Mistake(
            "added behind the stage",
            "you added the skip behind the stage; the stage should see the sum.",
            "hint 3: first the sum, then the stage.",
            _walk(join=lambda stage, x, skip: stage(x) + skip),
        ),
        Mistake(
            "kept before the way down",
            "you kept the map before `down` halved it, so its size does not fit on the way up.",
            "hint 2: first `down`, then keep.",
            _walk(keep=lambda before, entered, left: before),
        ),
        Mistake(
            "the deepest has no partner",
            "the deepest map is still among the skips, and every skip comes one level too late.",
            "hint 2: skips.pop() once, before the way up.",
            _walk(order=lambda kept: kept),
        ),
        Mistake(
            "the first skip first",
            "the way up began with the skip of full size; it is the last that it needs.",
            "hint 3: skips.pop() takes from the end.",
            _walk(order=lambda kept: kept[-2::-1]),
        ),
        Mistake(
            "concatenated",
            "you put skip and enlarged map side by side, as in the U-Net; here they are added.",
            "hint 3: up(x) plus the skip.",
            _walk(join=lambda stage, x, skip: stage(torch.cat([x, skip], dim=1))),
        ),
        Mistake(
            "no skip",
            "no skip arrives on the way up.",
            "hint 3: up(x) plus the skip.",
            _walk(join=lambda stage, x, skip: stage(x)),
        ),
        Mistake(
            "the mean of both",
            "you took the mean of skip and enlarged map; here they are added.",
            "hint 3: up(x) plus the skip.",
            _walk(join=lambda stage, x, skip: stage((x + skip) / 2)),
        ),
        Mistake(
            "the stage sees the skip alone",
            "the stage saw the skip alone, and the enlarged map was added behind it; it should see the sum.",
            "hint 3: first the sum, then the stage.",
            _walk(join=lambda stage, x, skip: x + stage(skip)),
        ),
        Mistake(
            "added in place",
            "the values are right, but += writes into a map that ReLU still needs for its gradient.",
            "hint 3: up(x) + skips.pop() makes a new tensor.",
            _walk(join=_added_in_place),
        ),
        Mistake(
            "the image as the first skip",
            "the first skip is the image, of three channels; at full size it is what leaves the first stage.",
            "hint 1: the first stage, and only then keep.",
            _ImageKept,
        ),
        Mistake(
            "the first stage twice",
            "on the way down you began again with encoder[0], which expects three channels.",
            "hint 2: self.encoder[1:].",
            _FirstStageTwice,
        ),
        Mistake(
            "no head",
            "the head is missing: you return the channels of the last stage, not one for each class.",
            "hint 3: what `head` returns is the answer.",
            _NoHead,
        ),
        Mistake(
            "a detached skip",
            "the skip is detached: the first stages would learn only through the deepest map.",
            "hint 3: the skip goes in as it is.",
            _walk(join=lambda stage, x, skip: stage(x + skip.detach())),
        ),
        Mistake(
            "as_image forgotten",
            "the values are right, but grey images and odd sizes are not looked after.",
            "hint 1: as_image(x) comes first.",
            _walk(image=lambda x: x),
        ),
        Mistake(
            "probabilities",
            "you return probabilities; the losses take logits and do the softmax themselves.",
            "hint 3: what `head` returns is the answer.",
            _Soft,
        ),
        Mistake(
            "a bend behind the head",
            "a ReLU stands behind the head, so no logit can be negative.",
            "hint 3: what `head` returns is the answer.",
            _Headless,
        ),
    ),
    VNet,
)
