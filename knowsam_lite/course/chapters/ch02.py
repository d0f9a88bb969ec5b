"""Chapter 02, the U-Net: two functions of the chapter, properties, catalogued mistakes, the quiz's key."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite import subnets
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.errors import UserError
from knowsam_lite.losses import UNKNOWN, dice_loss
from knowsam_lite.subnets import STRIDE, ConvBlock, UNet, way_down, way_up

Module = TypeVar("Module", bound=nn.Module)


def filled(net: Module, seed: int = 0) -> Module:
    """The module in evaluation mode, with lively weights and statistics that depend on their order alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                low = 0.5 if tensor.ndim < 2 else -0.5
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
    return net.eval()


def picture(*shape: int, seed: int = 0) -> Tensor:
    """The same image batch every time, values in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- 02.1 receptive field

Network = Callable[[Tensor], Tensor]
Field = Callable[..., tuple[int, int]]


def receptive_field(net: Callable[[Tensor], Tensor], size: int = 256) -> tuple[int, int]:
    """Height and width, in pixels of the image, of the box that the middle pixel of net(x) depends on.

    `net` takes images (N, 3, size, size) and returns maps (N, C, H, W).
    """
    x = torch.rand(8, 3, size, size, requires_grad=True)
    out = net(x)
    middle = out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, x)
    seen = gradient.abs().sum(dim=(0, 1)) > 0  # (8, 3, size, size) -> (size, size)
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def _edges(height: int = 3, width: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution whose weights are -1 but for a strong middle, so that signs matter."""
    net = nn.Conv2d(3, 3, (height, width), padding="same", bias=False, **options)
    nn.init.constant_(net.weight, -1.0)
    with torch.no_grad():
        net.weight[:, :, height // 2, width // 2] = 4.0
    return net


def _known() -> list[tuple[Network, int, tuple[int, int]]]:
    """Networks, a size to try them at, and the field that paper and pencil give."""
    pooled = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2)
    )
    encoder = filled(way_down((3, 4, 4), (0, 0, 0)))
    return [
        (_edges(), 24, (3, 3)),
        (_edges(3, 7), 24, (3, 7)),
        (nn.Sequential(_edges(), _edges(5, 3)), 24, (7, 5)),
        (_edges(dilation=4), 32, (9, 9)),
        (filled(pooled), 32, (10, 10)),
        (lambda x: subnets.descend(encoder, x)[2], 64, (32, 32)),
        (nn.Sequential(_edges(25, 25), nn.MaxPool2d(2)), 16, (16, 16)),  # wider than the image
        (nn.Sequential(_edges(13), nn.AvgPool2d((1, 4))), 16, (13, 6)),  # a map that is not square
    ]


def _traces(f: Field) -> Tensor:
    net = _edges()
    f(net, 16)
    return torch.tensor(float(net.weight.grad is not None))


def _field_probe(f: Field) -> list[Tensor]:
    fields = [torch.tensor([float(n) for n in f(net, size)]) for net, size, _ in _known()]
    whole = torch.tensor(all(type(n) is int for n in f(_edges(), 16)))
    return [*fields, _traces(f), whole]


def _by_hand(f: Field) -> bool:
    return all(tuple(f(net, size)) == field for net, size, field in _known())


def _field(
    of: Callable[[Tensor], Tensor] = lambda out: out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum(),
    box: Callable[[Tensor], int] = lambda at: int(at.max() - at.min()) + 1,
    strength: Callable[[Tensor], Tensor] = torch.abs,
    image: Callable[..., Tensor] = torch.rand,
    backward: bool = False,
) -> Field:
    """A wrong way to measure the field, made by changing one part of the right one."""

    def field(net: Network, size: int = 256) -> tuple[int, int]:
        x = image(8, 3, size, size).requires_grad_()
        middle = of(net(x))
        if backward:
            middle.backward(inputs=[x, *getattr(net, "parameters", list)()])
        gradient = x.grad if x.grad is not None else torch.autograd.grad(middle, x)[0]
        seen = strength(gradient).sum(dim=(0, 1)) > 0
        return box(seen.any(dim=1).nonzero()), box(seen.any(dim=0).nonzero())

    return field


def _middle_of_image(net: Network, size: int = 256) -> tuple[int, int]:
    return _field(of=lambda out: out[:, :, size // 2, size // 2].sum())(net, size)


def _tensors(net: Network, size: int = 256) -> Any:
    return torch.tensor(receptive_field(net, size)).unbind()


FIELD = Exercise(
    "02.1",
    "receptive field",
    _field_probe,
    (
        Property(
            "interface",
            "receptive_field(net, size) returns two whole numbers; size is 256 if left out",
            lambda f: takes(f, 2) and takes(f, 1) and all(isinstance(n, int) for n in f(_edges())),
        ),
        Property("value", "the fields of eight networks that can be worked out by hand", _by_hand),
        Property(
            "repeat",
            "the same field whatever the random image",
            lambda f: len({tuple(f(*_known()[5][:2])) for _ in range(3)}) == 1,
        ),
        Property("no trace", "the network's parameters hold no .grad afterwards", lambda f: not _traces(f)),
    ),
    (
        Mistake(
            "the whole map",
            "you took the gradient of all output pixels, and together they see everything.",
            "hint 2 of exercise 02.1: one output pixel, the middle one.",
            _field(of=lambda out: out.sum()),
        ),
        Mistake(
            "the corner",
            "you asked the first output pixel, and most of its field lies outside the image.",
            "hint 2 of exercise 02.1: half of the height and half of the width.",
            _field(of=lambda out: out[:, :, 0, 0].sum()),
        ),
        Mistake(
            "a fence post",
            "from pixel 3 to pixel 5 there are three pixels, not two.",
            "hint 3 of exercise 02.1: last minus first, plus 1.",
            _field(box=lambda at: int(at.max() - at.min())),
        ),
        Mistake(
            "rows counted",
            "you counted the rows that are touched; a convolution with gaps skips some inside the box.",
            "hint 3 of exercise 02.1: the box reaches from the first to the last.",
            _field(box=len),
        ),
        Mistake(
            "positive only",
            "only positive gradients count for you; a pixel that lowers the output is seen as well.",
            "hint 3 of exercise 02.1: take the absolute value before you sum.",
            _field(strength=lambda g: g),
        ),
        Mistake(
            "a blank image",
            "all pixels were equal; then max-pooling sends the gradient to one of several equals.",
            "hint 1 of exercise 02.1: random images.",
            _field(image=torch.zeros),
        ),
        Mistake(
            "a blank image, gradients left behind",
            "all pixels were equal, so max-pooling hides some; and backward() left gradients in the network.",
            "hints 1 and 2 of exercise 02.1: random images, and torch.autograd.grad.",
            _field(image=torch.ones, backward=True),
        ),
        Mistake(
            "width before height",
            "the two numbers are exchanged: height comes first.",
            "hint 3 of exercise 02.1: rows give the height.",
            lambda net, size=256: receptive_field(net, size)[::-1],
        ),
        Mistake(
            "gradients left behind",
            "the field is right, but backward() left gradients in the network's parameters.",
            "hint 2 of exercise 02.1: torch.autograd.grad gives the gradient back and leaves nothing.",
            _field(backward=True),
        ),
        Mistake(
            "the middle of the image",
            "you took the middle of the image as the output's; a smaller map has no such pixel.",
            "hint 2 of exercise 02.1: half of out.shape[2] and of out.shape[3].",
            _middle_of_image,
        ),
        Mistake(
            "tensors in place of numbers",
            "the field is right, but as two tensors; plain whole numbers are wanted.",
            "hint 3 of exercise 02.1: int(...).",
            _tensors,
        ),
    ),
)


# ---------------------------------------------------------------- 02.2 the block


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    """Name -> shape of every tensor that a module holds."""
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def _block_run(kind: Any, train: bool, dropout: float = 0.3) -> Tensor:
    block = filled(kind(3, 5, dropout)).train(train)
    torch.manual_seed(1)
    return block(picture(2, 3, 9, 7))


def _block_probe(kind: Any) -> list[Tensor]:
    plain = filled(kind(3, 4)).train()(picture(2, 3, 9, 7))
    return [_block_run(kind, False), _block_run(kind, True), _block_run(kind, True, 0.6), plain]


def _block_default(kind: Any) -> bool:
    plain = filled(kind(2, 2)).train()
    x = picture(2, 2, 8, 8)
    return same(plain(x), plain(x)) and same(plain(x), filled(ConvBlock(2, 2)).train()(x))


def _wrong_block(layers: Callable[[int, int, float], Sequence[nn.Module]]) -> type:
    class Wrong(nn.Sequential):
        def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0):
            super().__init__(*layers(in_channels, out_channels, dropout))

    return Wrong


def _half(
    i: int,
    o: int,
    slope: float = 0.01,
    padding: int = 1,
    act: type[nn.Module] | None = None,
    bias: bool = True,
) -> list[nn.Module]:
    """Convolution, BatchNorm, activation."""
    last = act() if act else nn.LeakyReLU(slope)
    return [nn.Conv2d(i, o, 3, padding=padding, bias=bias), nn.BatchNorm2d(o), last]


def _act_first(i: int, o: int, p: float) -> list[nn.Module]:
    (conv, norm, act), (conv_2, norm_2, act_2) = _half(i, o), _half(o, o)
    return [conv, act, norm, nn.Dropout(p), conv_2, act_2, norm_2]


BLOCK = Exercise(
    "02.2",
    "the convolution block",
    _block_probe,
    (
        Property(
            "interface",
            "ConvBlock(in_channels, out_channels, dropout): two convolutions with bias, two BatchNorms",
            lambda k: shapes(k(3, 5, 0.2)) == shapes(ConvBlock(3, 5)),
        ),
        Property(
            "shape",
            "(N, C_in, H, W) -> (N, C_out, H, W): the size stays",
            lambda k: k(3, 5)(picture(2, 3, 9, 7)).shape == (2, 5, 9, 7),
        ),
        Property(
            "value",
            "the seven layers in their order, in evaluation mode",
            lambda k: same(_block_run(k, False), _block_run(ConvBlock, False)),
        ),
        Property(
            "training",
            "and in training mode, with dropout",
            lambda k: all(same(_block_run(k, True, p), _block_run(ConvBlock, True, p)) for p in (0.3, 0.6)),
        ),
        Property("default", "without a third argument nothing is dropped", _block_default),
        Property(
            "gradient",
            "and the image gets their gradient",
            lambda k: same(
                gradients(filled(k(3, 4)), picture(2, 3, 8, 8)),
                gradients(filled(ConvBlock(3, 4)), picture(2, 3, 8, 8)),
            ),
        ),
    ),
    (
        Mistake(
            "no padding",
            "each convolution takes one pixel off every side, so the map shrinks by four.",
            "hint 1 of exercise 02.2: padding=1.",
            _wrong_block(lambda i, o, p: [*_half(i, o, padding=0), nn.Dropout(p), *_half(o, o, padding=0)]),
        ),
        Mistake(
            "no bias",
            "the convolutions have no bias, and weights that were trained with one would not fit.",
            "the text of exercise 02.2: the convolutions have their bias.",
            _wrong_block(lambda i, o, p: [*_half(i, o, bias=False), nn.Dropout(p), *_half(o, o, bias=False)]),
        ),
        Mistake(
            "ReLU",
            "negative values became 0; LeakyReLU keeps a hundredth of them.",
            "hint 2 of exercise 02.2: nn.LeakyReLU(0.01).",
            _wrong_block(
                lambda i, o, p: [*_half(i, o, act=nn.ReLU), nn.Dropout(p), *_half(o, o, act=nn.ReLU)]
            ),
        ),
        Mistake(
            "another slope",
            "negative values are multiplied by 0.1; the block's slope is 0.01.",
            "hint 2 of exercise 02.2: nn.LeakyReLU(0.01).",
            _wrong_block(lambda i, o, p: [*_half(i, o, 0.1), nn.Dropout(p), *_half(o, o, 0.1)]),
        ),
        Mistake(
            "dropout at the end",
            "dropout stands behind the second convolution; it belongs between the two.",
            "hint 3 of exercise 02.2: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), *_half(o, o), nn.Dropout(p)]),
        ),
        Mistake(
            "no dropout",
            "nothing is dropped in training: the third argument is not used.",
            "hint 3 of exercise 02.2: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), *_half(o, o)]),
        ),
        Mistake(
            "whole channels dropped",
            "nn.Dropout2d drops whole channels; the block drops single numbers.",
            "hint 3 of exercise 02.2: nn.Dropout.",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout2d(p), *_half(o, o)]),
        ),
        Mistake(
            "activation before BatchNorm",
            "the activation comes first and BatchNorm after it; here it is the other way round.",
            "hint 3 of exercise 02.2: the order of the seven layers.",
            _wrong_block(_act_first),
        ),
        Mistake(
            "no activation at the end",
            "the block ends with BatchNorm; a LeakyReLU stands behind each of the two.",
            "hint 3 of exercise 02.2: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout(p), *_half(o, o)[:2]]),
        ),
        Mistake(
            "dropout twice",
            "numbers are dropped behind the second convolution, too; only between the two.",
            "hint 3 of exercise 02.2: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout(p), *_half(o, o), nn.Dropout(p)]),
        ),
        Mistake(
            "dropout of one half",
            "one half is dropped whatever the third argument says.",
            "hint 3 of exercise 02.2: nn.Dropout(dropout).",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout(0.5), *_half(o, o)]),
        ),
    ),
)


# ---------------------------------------------------------------- 02.3 the way down

Down = Callable[[nn.ModuleList, Tensor], list[Tensor]]


def _encoder() -> nn.ModuleList:
    return filled(way_down((4, 6, 8), (0, 0, 0)))


def _down_probe(f: Down) -> list[Tensor]:
    return f(_encoder(), picture(2, 3, 32, 48))


def _down_gradient(f: Down) -> bool:
    def arriving(g: Down) -> list[Tensor]:
        x = picture(1, 3, 16, 16)
        return [part for i in range(3) for part in gradients(lambda t, i=i: g(_encoder(), t)[i], x)]

    return same(arriving(f), arriving(subnets.descend))


def _refused(f: Down) -> bool:
    try:
        f(_encoder(), picture(1, 3, 20, 32))
    except UserError:
        return True
    return False


def _walk(
    shrink: Callable[[Tensor], Tensor], first: bool = False, keep_small: bool = False
) -> Callable[[nn.ModuleList, Tensor], list[Tensor]]:
    """A wrong way down: another shrinking, one before the first block, or the shrunken maps kept."""

    def descend(encoder: nn.ModuleList, x: Tensor) -> list[Tensor]:
        kept = []
        for i, block in enumerate(encoder):
            x = block(shrink(x) if first else x)
            small = x if first or i == len(encoder) - 1 else shrink(x)
            kept.append(small if keep_small else x)
            x = small
        return kept

    return descend


def _listed(change: Callable[[list[Tensor], Tensor], list[Tensor]]) -> Down:
    """The right maps and the image, made into another list."""
    return lambda encoder, x: change(subnets.descend(encoder, x), x)


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


DESCEND = Exercise(
    "02.3",
    "the way down",
    _down_probe,
    (
        Property(
            "interface",
            "descend(encoder, x) returns one map per block",
            lambda f: takes(f, 2) and len(f(_encoder(), picture(1, 3, 16, 16))) == 3,
        ),
        Property(
            "shape",
            "full size first, each next one of half the height and width",
            lambda f: (
                [tuple(t.shape) for t in f(_encoder(), picture(2, 3, 32, 48))]
                == [(2, 4, 32, 48), (2, 6, 16, 24), (2, 8, 8, 12)]
            ),
        ),
        Property(
            "value",
            "what each block returns, before it is pooled; the next one gets its largest of four",
            lambda f: all(
                same(
                    f(_encoder(), picture(2, 3, 32, 48, seed=s)),
                    subnets.descend(_encoder(), picture(2, 3, 32, 48, seed=s)),
                )
                for s in (1, 2)
            ),
        ),
        Property(
            "grey",
            "grey images (N, 1, H, W) are taken, too",
            lambda f: same(
                f(_encoder(), picture(1, 1, 16, 16)),
                subnets.descend(_encoder(), picture(1, 1, 16, 16).repeat(1, 3, 1, 1)),
            ),
        ),
        Property("sizes", "an image of 20 × 32 pixels is refused with a UserError", _refused),
        Property("gradient", "the image gets a gradient through every map", _down_gradient),
    ),
    (
        Mistake(
            "shrunk before the first block",
            "the image was halved before the first block: the full size is lost for good.",
            "hint 1 of exercise 02.3: the first block sees the image as it is.",
            _walk(_halved, first=True),
        ),
        Mistake(
            "average-pooling",
            "you took the mean of four pixels; this network takes the largest.",
            "hint 2 of exercise 02.3: F.max_pool2d(features, 2).",
            _walk(lambda x: F.avg_pool2d(x, 2)),
        ),
        Mistake(
            "every second pixel",
            "you kept the first of four pixels; this network takes the largest.",
            "hint 2 of exercise 02.3: F.max_pool2d(features, 2).",
            _walk(lambda x: x[..., ::2, ::2]),
        ),
        Mistake(
            "kept after shrinking",
            "you kept the maps after pooling; a skip needs them before it, at full resolution.",
            "hint 3 of exercise 02.3: keep what a block returns.",
            _walk(_halved, keep_small=True),
        ),
        Mistake(
            "only the deepest",
            "only the last map came back; the skips need all of them.",
            "hint 3 of exercise 02.3: a list, one map per block.",
            lambda encoder, x: subnets.descend(encoder, x)[-1:],
        ),
        Mistake(
            "deepest first",
            "the maps are right, but in the wrong order: full size comes first.",
            "hint 3 of exercise 02.3: append in the order of the blocks.",
            lambda encoder, x: subnets.descend(encoder, x)[::-1],
        ),
        Mistake(
            "never halved",
            "nothing is halved between the blocks: all maps have full size.",
            "hint 1 of exercise 02.3: pooling comes between blocks.",
            _walk(lambda x: x),
        ),
        Mistake(
            "all maps after pooling",
            "each map was kept after it was halved, the last one, too.",
            "hint 3 of exercise 02.3: keep what each block returns.",
            lambda encoder, x: [_halved(e) for e in subnets.descend(encoder, x)],
        ),
        Mistake(
            "the image in the list",
            "the list begins with the image; it should begin with what the first block returns.",
            "hint 3 of exercise 02.3: one map for each block.",
            _listed(lambda maps, x: [x, *maps]),
        ),
    ),
)


# ---------------------------------------------------------------- 02.4 the way up

Up = Callable[[nn.ModuleList, nn.ModuleList, list[Tensor]], list[Tensor]]


def _ladder() -> tuple[nn.ModuleList, nn.ModuleList]:
    up, decoder = way_up((4, 6, 8))
    filled(up, 1), filled(decoder, 2)
    return up, decoder


def _maps(seed: int = 0) -> list[Tensor]:
    sizes = ((4, 16, 24), (6, 8, 12), (8, 4, 6))
    return [noise(2, *size, seed=seed + i) for i, size in enumerate(sizes)]


def _left(f: Up) -> Tensor:
    features = _maps()
    f(*_ladder(), features)
    return torch.tensor([len(features)])


def _up_probe(f: Up) -> list[Tensor]:
    last = lambda *maps: f(*_ladder(), list(maps))[-1]  # noqa: E731
    return [*f(*_ladder(), _maps()), _left(f), *gradients(last, *_maps())]


def _up_gradient(f: Up) -> bool:
    def last(g: Up) -> list[Tensor]:
        return gradients(lambda *maps: g(*_ladder(), list(maps))[-1], *_maps(3))

    return same(last(f), last(subnets.climb))


def _rise(join: Callable[[Tensor, Tensor], Sequence[Tensor]]) -> Up:
    """A wrong way up that joins skip and enlarged map in another way."""

    def climb(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
        *skips, x = features
        found = []
        for enlarge, block in zip(up, decoder, strict=True):
            x = block(torch.cat(list(join(skips.pop(), enlarge(x))), dim=1))
            found.append(x)
        return found

    return climb


def _empties(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    found = subnets.climb(up, decoder, features)
    features.clear()
    return found


def _joined(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    *skips, x = features
    found = []
    for enlarge, block in zip(up, decoder, strict=True):
        found.append(torch.cat([skips.pop(), enlarge(x)], dim=1))
        x = block(found[-1])
    return found


def _added(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    *skips, x = features
    for enlarge, block in zip(up, decoder, strict=True):
        x = block(skips.pop() + enlarge(x))
    return [x]


CLIMB = Exercise(
    "02.4",
    "the way up",
    _up_probe,
    (
        Property(
            "interface",
            "climb(up, decoder, features) returns one map per block",
            lambda f: takes(f, 3) and len(f(*_ladder(), _maps())) == 2,
        ),
        Property(
            "shape",
            "coarsest first, the last one at full size",
            lambda f: [tuple(t.shape) for t in f(*_ladder(), _maps())] == [(2, 6, 8, 12), (2, 4, 16, 24)],
        ),
        Property(
            "value",
            "each block sees its skip and behind it the doubled map",
            lambda f: all(same(f(*_ladder(), _maps(s)), subnets.climb(*_ladder(), _maps(s))) for s in (1, 2)),
        ),
        Property("gradient", "every map of the way down gets its gradient", _up_gradient),
        Property("no trace", "the list that was given keeps its three maps", lambda f: int(_left(f)) == 3),
    ),
    (
        Mistake(
            "the skip behind",
            "the enlarged map stands before the skip; the block's weights expect the skip first.",
            "hint 2 of exercise 02.4: skip, then enlarged map.",
            _rise(lambda skip, x: (x, skip)),
        ),
        Mistake(
            "no skip",
            "the enlarged map stands twice and the skip is not used.",
            "hint 2 of exercise 02.4: skip, then enlarged map.",
            _rise(lambda skip, x: (x, x)),
        ),
        Mistake(
            "a detached skip",
            "the skip is detached: the way down would learn only through the deepest map.",
            "hint 2 of exercise 02.4: the skip goes in as it is.",
            _rise(lambda skip, x: (skip.detach(), x)),
        ),
        Mistake(
            "only the last",
            "only the map at full size came back; one map per block is wanted.",
            "hint 3 of exercise 02.4: a list, one map per block.",
            lambda up, decoder, features: subnets.climb(up, decoder, features)[-1:],
        ),
        Mistake(
            "full size first",
            "the maps are right, but in the wrong order: coarsest first.",
            "hint 3 of exercise 02.4: append in the order of the blocks.",
            lambda up, decoder, features: subnets.climb(up, decoder, features)[::-1],
        ),
        Mistake(
            "the list is used up",
            "the maps are right, but the list that you were given lost its entries.",
            "hint 1 of exercise 02.4: *skips, x = features makes a list of its own.",
            _empties,
        ),
        Mistake(
            "the deepest map in the list",
            "the list begins with the map that you were given; it should hold what the blocks return.",
            "hint 3 of exercise 02.4: what a block returns is kept.",
            lambda up, decoder, features: [features[-1], *subnets.climb(up, decoder, features)],
        ),
        Mistake(
            "kept before the block",
            "the joined maps were kept, before their block had mixed them.",
            "hint 3 of exercise 02.4: what a block returns is kept.",
            _joined,
        ),
        Mistake(
            "the skip added",
            "skip and enlarged map were added; the block expects them side by side, with twice the channels.",
            "hint 2 of exercise 02.4: torch.cat along axis 1.",
            _added,
        ),
    ),
)


# ---------------------------------------------------------------- 02.5 the soft Dice loss

Loss = Callable[..., Tensor]


def _task(classes: int, seed: int = 0, unknown: bool = True) -> tuple[Tensor, Tensor]:
    """Logits (3, C, 6, 5) and labels; the last class is in the first image alone, some pixels unknown."""
    z = noise(3, classes, 6, 5, seed=seed)
    y = noise(3, classes, 6, 5, seed=seed + 50).argmax(dim=1)
    y[1:][y[1:] == classes - 1] = 0
    if unknown:
        y[:, 2, :3], y[0, 4] = UNKNOWN, UNKNOWN
    return z, y


def _absent() -> tuple[Tensor, Tensor]:
    """A class that is neither there nor, to speak of, predicted: the case that `smooth` is for."""
    z = torch.tensor([0.0, -8.0]).view(1, 2, 1, 1).repeat(1, 1, 6, 5)
    return z, torch.zeros(1, 6, 5, dtype=torch.int64)


def _loss_probe(f: Loss) -> list[Tensor]:
    tasks = [_task(3), _task(2, 1, unknown=False), _absent()]
    return [
        *(f(z, y) for z, y in tasks),
        f(*_task(3), 1.0),
        f(_task(2)[0].bfloat16(), _task(2)[1]),
        *(g for z, y in tasks for g in gradients(lambda t, y=y: f(t, y), z)),
    ]


def _loss_value(f: Loss) -> bool:
    return all(same(f(*_task(c, s)), dice_loss(*_task(c, s))) for c, s in ((2, 2), (3, 3), (5, 4)))


def _loss_smooth(f: Loss) -> bool:
    z, y = _absent()
    return same(
        [f(z, y), f(z, y, 0.5), f(*_task(3), 2.0)],
        [dice_loss(z, y), dice_loss(z, y, 0.5), dice_loss(*_task(3), 2.0)],
    )


def _loss_half(f: Loss) -> bool:
    z, y = _task(2)
    return same(f(z.bfloat16(), y), dice_loss(z.bfloat16(), y))


def _loss_unknown(f: Loss) -> bool:
    z, y = _task(3)
    other = torch.where((y == UNKNOWN).unsqueeze(1), noise(*z.shape, seed=8), z)
    return same(f(z, y), f(other, y)) and same(f(z, y), dice_loss(z, y))


def _loss_gradient(f: Loss) -> bool:
    z, y = _task(4, 5)
    return same(gradients(lambda t: f(t, y), z), gradients(lambda t: dice_loss(t, y), z))


def _dice(
    squares: bool = True,
    over: tuple[int, ...] = (0, 2, 3),
    first: int = 0,
    ignore: bool = True,
    probabilities: Callable[[Tensor], Tensor] = lambda z: z.float().softmax(dim=1),
) -> Loss:
    """A wrong soft Dice loss, made by changing one part of the right one."""

    def loss(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
        known = (y != UNKNOWN).unsqueeze(1) | (not ignore)
        p = probabilities(z) * known
        truth = F.one_hot(y.clamp(min=0), z.shape[1]).movedim(-1, 1) * known
        p, truth = p[:, first:], truth[:, first:]
        size = p * p if squares else p
        dice = (2 * (p * truth).sum(over) + smooth) / (size.sum(over) + truth.sum(over) + smooth)
        return 1 - dice.mean()

    return loss


def _winners(z: Tensor) -> Tensor:
    return F.one_hot(z.argmax(dim=1), z.shape[1]).movedim(-1, 1).float() + 0 * z


def _parts_of(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, truth, and what is known."""
    known = (y != UNKNOWN).unsqueeze(1)
    truth = F.one_hot(y.clamp(min=0), z.shape[1]).movedim(-1, 1) * known
    return z.float().softmax(dim=1), truth, known


def _half_known(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
    p, truth, _ = _parts_of(z, y)
    above, below = 2 * (p * truth).sum((0, 2, 3)), (p * p).sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((above + smooth) / (below + smooth)).mean()


def _summed(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
    return z.shape[1] * dice_loss(z, y, smooth)


def _once(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
    p, truth, known = _parts_of(z, y)
    p = p * known
    above, below = (p * truth).sum((0, 2, 3)), (p * p).sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((above + smooth) / (below + smooth)).mean()


LOSS = Exercise(
    "02.5",
    "the soft Dice loss",
    _loss_probe,
    (
        Property(
            "interface",
            "dice_loss(z, y, smooth) takes logits and labels; smooth is 1e-5 if left out",
            lambda f: takes(f, 3) and takes(f, 2) and isinstance(f(*_task(2)), Tensor),
        ),
        Property("shape", "one single number", lambda f: f(*_task(3)).shape == ()),
        Property("dtype", "float32, and computed in it, also from half-precision logits", _loss_half),
        Property("value", "1 minus the mean of the classes' soft Dice, for 2, 3 and 5 classes", _loss_value),
        Property("unknown", "pixels of label -1 change nothing", _loss_unknown),
        Property(
            "smooth",
            "added above and below: right where a class is absent, and for other smooth",
            _loss_smooth,
        ),
        Property("gradient", "the logits get the gradient of that value", _loss_gradient),
    ),
    (
        Mistake(
            "Dice, not 1 minus it",
            "your number grows as the prediction gets better; a loss has to fall.",
            "the equation above exercise 02.5 begins with 1 minus.",
            lambda z, y, smooth=1e-5: 1 - dice_loss(z, y, smooth),
        ),
        Mistake(
            "half precision stays",
            "half-precision logits give a half-precision loss, whose sums have lost all but a few digits.",
            "hint 1 of exercise 02.5: z.float() before the softmax.",
            _dice(probabilities=lambda z: z.softmax(dim=1)),
        ),
        Mistake(
            "float32 at the end",
            "your number is float32, but it was made of half-precision sums, so most digits are wrong.",
            "hint 1 of exercise 02.5: z.float() before the softmax.",
            lambda z, y, smooth=1e-5: _dice(probabilities=lambda z: z.softmax(dim=1))(z, y, smooth).float(),
        ),
        Mistake(
            "float32 behind the softmax",
            "the softmax was made in half precision, and float32 comes too late for its digits.",
            "hint 1 of exercise 02.5: z.float() before the softmax.",
            _dice(probabilities=lambda z: z.softmax(dim=1).float()),
        ),
        Mistake(
            "no squares",
            "the denominator holds the sum of p; here it is the sum of p squared.",
            "hint 3 of exercise 02.5: the denominator.",
            _dice(squares=False),
        ),
        Mistake(
            "image by image",
            "you made one ratio per image and averaged; the sums run over the whole batch.",
            "hint 3 of exercise 02.5: which axes remain?",
            _dice(over=(2, 3)),
        ),
        Mistake(
            "one ratio for all classes",
            "the sums run over the classes as well, so large classes drown the small ones.",
            "hint 3 of exercise 02.5: which axes remain?",
            _dice(over=(0, 1, 2, 3)),
        ),
        Mistake(
            "no background",
            "the mean leaves out class 0; here it runs over all C classes.",
            "hint 3 of exercise 02.5: the mean runs over all classes.",
            _dice(first=1),
        ),
        Mistake(
            "unknown pixels count",
            "pixels of label -1 count as background; they should count for nothing.",
            "hint 2 of exercise 02.5: multiply p and the truth by what is known.",
            _dice(ignore=False),
        ),
        Mistake(
            "winners",
            "you compared winners; argmax has no gradient, so the network would learn nothing.",
            "hint 1 of exercise 02.5: soft means with probabilities.",
            _dice(probabilities=_winners),
        ),
        Mistake(
            "sigmoid",
            "each class got a sigmoid of its own; the classes exclude each other, so softmax.",
            "hint 1 of exercise 02.5: softmax over axis 1.",
            _dice(probabilities=lambda z: z.float().sigmoid()),
        ),
        Mistake(
            "softmax over the width",
            "the softmax runs along the last axis, the width; the classes lie on axis 1.",
            "hint 1 of exercise 02.5: softmax(dim=1).",
            _dice(probabilities=lambda z: z.float().softmax(dim=-1)),
        ),
        Mistake(
            "logits in place of probabilities",
            "you compared the logits themselves, which are no probabilities.",
            "hint 1 of exercise 02.5: softmax over axis 1.",
            _dice(probabilities=lambda z: z.float()),
        ),
        Mistake(
            "unknown pixels in the prediction",
            "unknown pixels are out of the truth, but still in the sum of p squared.",
            "hint 2 of exercise 02.5: multiply both by `known`.",
            _half_known,
        ),
        Mistake(
            "the sum over the classes",
            "you added the classes up; their mean is wanted.",
            "hint 3 of exercise 02.5: the mean comes last.",
            _summed,
        ),
        Mistake(
            "a factor 2 too few",
            "the overlap is counted once above, but twice below: a perfect prediction has no loss of 0.",
            "the equation of exercise 02.5: 2 times the overlap.",
            _once,
        ),
    ),
)


# ---------------------------------------------------------------- 02.6 any size

Predict = Callable[[nn.Module, Tensor], Tensor]


def any_size(net: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, C, H, W) of images (N, 3, H, W) of any size, in evaluation mode and without a graph."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
    net.eval()
    with torch.no_grad():
        return net(padded)[..., :height, :width]


def _small_net() -> nn.Module:
    return filled(UNet(2, (4, 4, 4, 4, 4), (0.3,) * 5)).train()


SIZES = ((50, 39), (16, 48), (23, 80), (17, 33), (28, 21))


def _size_probe(f: Predict) -> list[Tensor]:
    asked = [f(_small_net(), picture(2, 3, h, w)) for h, w in SIZES[:3]]
    return [*asked, torch.tensor(float(_no_graph(f)))]


def _size_value(f: Predict) -> bool:
    return all(
        same(
            f(_small_net(), picture(1, 3, h, w, seed=h)), any_size(_small_net(), picture(1, 3, h, w, seed=h))
        )
        for h, w in SIZES
    )


@contextmanager
def _noted(net: nn.Module) -> Iterator[list[bool]]:
    """Whether gradients were on at each call of the network."""
    seen: list[bool] = []
    handle = net.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    try:
        yield seen
    finally:
        handle.remove()


def _no_graph(f: Predict) -> bool:
    net = _small_net()
    with _noted(net) as seen:
        f(net, picture(1, 3, 20, 20))
    return seen == [False]


def _statistics(f: Predict) -> bool:
    net = _small_net()
    before = [tensor.clone() for tensor in net.buffers()]
    f(net, picture(2, 3, 40, 40))
    return same(before, list(net.buffers()))


def _sized(
    sides: Callable[[int, int], tuple[int, int, int, int]],
    mode: str = "replicate",
    crop: Callable[[Tensor, int, int], Tensor] = lambda z, h, w: z[..., :h, :w],
    train: bool = False,
) -> Predict:
    """A wrong answer that pads, crops or asks in another way; `sides` gives left, right, top and bottom."""

    def predict(net: nn.Module, x: Tensor) -> Tensor:
        net.train(train)
        with torch.no_grad():
            return crop(net(F.pad(x, sides(*x.shape[-2:]), mode=mode)), *x.shape[-2:])

    return predict


def _missing(height: int, width: int) -> tuple[int, int, int, int]:
    return 0, -width % STRIDE, 0, -height % STRIDE


def _always(height: int, width: int) -> tuple[int, int, int, int]:
    return 0, STRIDE - width % STRIDE, 0, STRIDE - height % STRIDE


def _before(height: int, width: int) -> tuple[int, int, int, int]:
    return -width % STRIDE, 0, -height % STRIDE, 0


def _with_graph(net: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return net.eval()(F.pad(x, _missing(height, width), mode="replicate"))[..., :height, :width]


def _resized(net: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    up = (height + -height % STRIDE, width + -width % STRIDE)
    net.eval()
    with torch.no_grad():
        z = net(F.interpolate(x, up, mode="bilinear", align_corners=False))
    return F.interpolate(z, (height, width), mode="bilinear", align_corners=False)


def _centred(net: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    down, right = -height % STRIDE, -width % STRIDE
    top, left = down // 2, right // 2
    net.eval()
    with torch.no_grad():
        z = net(F.pad(x, (left, right - left, top, down - top), mode="replicate"))
    return z[..., top : top + height, left : left + width]


SIZE = Exercise(
    "02.6",
    "any size",
    _size_probe,
    (
        Property(
            "interface",
            "any_size(net, x) returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(_small_net(), picture(1, 3, 32, 32)), Tensor),
        ),
        Property(
            "shape",
            "(N, 3, H, W) -> (N, C, H, W), for five sizes",
            lambda f: all(f(_small_net(), picture(2, 3, h, w)).shape == (2, 2, h, w) for h, w in SIZES),
        ),
        Property(
            "value",
            "the logits of the image with its last column and row repeated, for five sizes",
            _size_value,
        ),
        Property("statistics", "asking does not change the network: BatchNorm's buffers stay", _statistics),
        Property("no graph", "the network is asked once, without a graph", _no_graph),
    ),
    (
        Mistake(
            "asked in training mode",
            "the network was in training mode: dropout is at work, BatchNorm looks at the batch.",
            "hint 2 of exercise 02.6: net.eval() before you ask.",
            _sized(_missing, train=True),
        ),
        Mistake(
            "zeros, in training mode",
            "the new pixels are black, and the network was in training mode.",
            'hint 1 of exercise 02.6: mode="replicate"; and hint 2: net.eval().',
            _sized(_missing, mode="constant", train=True),
        ),
        Mistake(
            "padded with zeros",
            "the new pixels are black; they should repeat the image's last row and column.",
            'hint 1 of exercise 02.6: mode="replicate".',
            _sized(_missing, mode="constant"),
        ),
        Mistake(
            "padded where nothing is missing",
            "a side that is a multiple of 16 already got 16 more pixels.",
            "hint 1 of exercise 02.6: -n % 16 is 0 where nothing is missing.",
            _sized(_always),
        ),
        Mistake(
            "zeros, also where nothing is missing",
            "the new pixels are black, and a side that is a multiple of 16 already got 16 of them.",
            'hint 1 of exercise 02.6: -n % 16, and mode="replicate".',
            _sized(_always, mode="constant"),
        ),
        Mistake(
            "padded left and above",
            "the new pixels stand left and above; they belong right and below.",
            "hint 1 of exercise 02.6: the order is left, right, top, bottom.",
            _sized(_before, crop=lambda z, h, w: z[..., -h:, -w:]),
        ),
        Mistake(
            "not cut back",
            "the logits have the size of the padded image.",
            "hint 3 of exercise 02.6: cut the logits to the image's size.",
            _sized(_missing, crop=lambda z, h, w: z),
        ),
        Mistake(
            "cut at the wrong end",
            "you kept the last rows and columns; the image stands in the first ones.",
            "hint 3 of exercise 02.6: from 0 to height, from 0 to width.",
            _sized(_missing, crop=lambda z, h, w: z[..., -h:, -w:]),
        ),
        Mistake(
            "a graph kept",
            "the logits are right, but every map was kept for a backward pass that never comes.",
            "hint 2 of exercise 02.6: with torch.no_grad() around the call.",
            _with_graph,
        ),
        Mistake(
            "stretched",
            "the image was resized; padding leaves every pixel as sharp as it was.",
            "hint 1 of exercise 02.6: F.pad.",
            _resized,
        ),
        Mistake(
            "mirrored",
            "the new pixels mirror the image; they should repeat its last row and column.",
            'hint 1 of exercise 02.6: mode="replicate".',
            _sized(_missing, mode="reflect"),
        ),
        Mistake(
            "half on each side",
            "the pixels were added on all four sides; they belong at the right and at the bottom.",
            "hint 1 of exercise 02.6: (0, right, 0, bottom).",
            _centred,
        ),
        Mistake(
            "added at the left, cut at the right",
            "the pixels were added at the left and at the top, and the logits cut at the other end.",
            "hint 1 of exercise 02.6: (0, right, 0, bottom).",
            _sized(_before),
        ),
        Mistake(
            "probabilities",
            "these are probabilities; logits are wanted.",
            "the text of exercise 02.6: no softmax.",
            lambda net, x: any_size(net, x).softmax(dim=1),
        ),
        Mistake(
            "classes",
            "these are the winners; logits are wanted.",
            "the text of exercise 02.6: no argmax.",
            lambda net, x: any_size(net, x).argmax(dim=1),
        ),
    ),
)

EXERCISES = (FIELD, BLOCK, DESCEND, CLIMB, LOSS, SIZE)

QUIZ = (
    Answer("c", "both bring the surroundings; the skips bring back where exactly.", "why, and step 4"),
    Answer(
        "a", "it takes the batch's mean and variance, which every pixel has a part in.", "step 6, BatchNorm"
    ),
    Answer(
        "d",
        "twice the channels on both sides of each kernel, but a quarter of the pixels.",
        "step 3, the way down",
    ),
    Answer("b", "nearly all pixels are background, and cross-entropy is their mean.", "step 5, the loss"),
    Answer("a", "25 is odd, so 12 comes back as 24, and the skip of 25 has no partner.", "step 7, sizes"),
)
