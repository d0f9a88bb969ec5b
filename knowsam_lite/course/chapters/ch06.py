"""Chapter 06, SAM and its adapter: properties, catalogued mistakes, and the quiz's key."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.decoder import PromptDecoder
from knowsam_lite.sam.encoder import AdapterBlock
from knowsam_lite.sam.modeling import Block, PositionEmbeddingRandom


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with every weight random: behind adapters that start at zero, mistakes cannot be seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return module.eval()


# ---------------------------------------------------------------- 06.1 where a point is

Encode = Callable[[Tensor, int, Tensor], Tensor]


def _clicks() -> Tensor:
    """Four points, new ones each time: an answer may move what it is given."""
    return torch.tensor([[0.0, 0.0], [5.0, 40.0], [40.0, 5.0], [63.0, 31.0]])


def _waves(d: int = 8, seed: int = 0) -> Tensor:
    return noise(2, d // 2, seed=seed, scale=1.0)


def _encode(points: Tensor, size: int, waves: Tensor) -> Tensor:
    """The oracle, which is segment_anything's."""
    layer = PositionEmbeddingRandom(waves.shape[1])
    layer.positional_encoding_gaussian_matrix = waves
    return layer.forward_with_coords(points[None] + 0.5, (size, size))[0]


def _by_hand(
    points: Tensor,
    size: int,
    waves: Tensor,
    half: float = 0.5,
    turns: float = 2 * math.pi,
    centred: bool = True,
) -> Tensor:
    u = (points + half) / size
    angle = turns * (2 * u - 1 if centred else u) @ waves
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def _encode_probe(f: Encode) -> list[Tensor]:
    given = _clicks()
    first = f(given, 64, _waves())
    return [first, f(_clicks()[:1], 128, _waves(16, 1)), *gradients(_for_waves(f), _waves()), given]


def _for_waves(f: Encode) -> Callable[[Tensor], Tensor]:
    return lambda waves: f(_clicks(), 64, waves)


def _encode_scale(f: Encode) -> bool:
    """The middle of a pixel of a small image is a corner between four pixels of one twice as large."""
    return same(f(_clicks(), 64, _waves()), f(2 * _clicks() + 0.5, 128, _waves()))


def _encode_unharmed(f: Encode) -> bool:
    given = _clicks()
    f(given, 64, _waves())
    return same(given, _clicks())


def _woven(points: Tensor, size: int, waves: Tensor) -> Tensor:
    sines, cosines = _by_hand(points, size, waves).chunk(2, dim=-1)
    return torch.stack([sines, cosines], dim=-1).flatten(1)


def _moves_points(points: Tensor, size: int, waves: Tensor) -> Tensor:
    code = _by_hand(points, size, waves)
    points += 0.5
    return code


POINT = Exercise(
    "06.1",
    "where a point is",
    _encode_probe,
    (
        Property(
            "interface",
            "encode_points(points, size, waves) returns one tensor",
            lambda f: takes(f, 3) and isinstance(f(_clicks(), 64, _waves()), Tensor),
        ),
        Property("shape", "(P, 2) -> (P, D)", lambda f: f(_clicks(), 64, _waves(12)).shape == (4, 12)),
        Property("range", "between -1 and 1", lambda f: bool(f(_clicks(), 64, _waves()).abs().max() <= 1)),
        Property(
            "value",
            "the sines, then the cosines, of 2 pi u G, at 64 and at 96 pixels",
            lambda f: all(
                same(f(_clicks(), s, _waves(16, s)), _encode(_clicks(), s, _waves(16, s))) for s in (64, 96)
            ),
        ),
        Property("invariance", "the same place in a larger image gets the same code", _encode_scale),
        Property("unharmed", "the points that were given stay as they are", _encode_unharmed),
    ),
    (
        Mistake(
            "corner of the pixel",
            "you encoded the corner of each pixel, not its middle.",
            "hint 1 of exercise 06.1: one half is added before the division.",
            lambda points, size, waves: _by_hand(points, size, waves, half=0.0),
        ),
        Mistake(
            "not centred",
            "your places run from 0 to 1; SAM's run from -1 to 1.",
            "hint 1 of exercise 06.1: times two, minus one.",
            lambda points, size, waves: _by_hand(points, size, waves, centred=False),
        ),
        Mistake(
            "places from 0 to 1, by their corners",
            "two things: your places run from 0 to 1 and not from -1 to 1, and they are the pixels' corners.",
            "hint 1 of exercise 06.1: one half is added, and after the division times two, minus one.",
            lambda points, size, waves: _by_hand(points, size, waves, half=0.0, centred=False),
        ),
        Mistake(
            "no full turn",
            "the factor 2 pi is missing, so every wave is about six times too long.",
            "hint 2 of exercise 06.1: the angle is 2 pi times u G.",
            lambda points, size, waves: _by_hand(points, size, waves, turns=1.0),
        ),
        Mistake(
            "rows and columns exchanged",
            "x and y change places: the first number is the column.",
            "hint 2 of exercise 06.1: points come as (x, y) and the rows of G expect them so.",
            lambda points, size, waves: _encode(points.flip(-1), size, waves),
        ),
        Mistake(
            "cosine first",
            "the halves are exchanged: SAM's weights expect the sines first.",
            "hint 3 of exercise 06.1: sin, then cos.",
            lambda points, size, waves: _encode(points, size, waves).roll(waves.shape[1], dims=-1),
        ),
        Mistake(
            "pixels, not shares",
            "the places were not divided by the size of the image.",
            "hint 1 of exercise 06.1: divide by size, so that the image runs from 0 to 1.",
            lambda points, size, waves: _encode(points, 1, waves),
        ),
        Mistake(
            "half a turn",
            "the angle has the factor pi; a whole turn is 2 pi.",
            "hint 2 of exercise 06.1: the angle is 2 pi times u G.",
            lambda points, size, waves: _by_hand(points, size, waves, turns=math.pi),
        ),
        Mistake(
            "divided by the last pixel's number",
            "you divided by size - 1; pixels have an extent, and the square ends at the last one's far edge.",
            "hint 1 of exercise 06.1: (points + 0.5) / size.",
            lambda points, size, waves: _by_hand(points, size - 1, waves, half=0.0),
        ),
        Mistake(
            "sines and cosines by turns",
            "sine and cosine of each wave stand side by side; all sines come first.",
            "hint 3 of exercise 06.1: torch.cat joins the two halves.",
            _woven,
        ),
        Mistake(
            "stacked below each other",
            "the codes of all points are (2 P, D/2): they were joined along the wrong axis.",
            "hint 3 of exercise 06.1: dim=-1.",
            lambda points, size, waves: torch.cat(_by_hand(points, size, waves).chunk(2, dim=-1), dim=0),
        ),
        Mistake(
            "points changed in place",
            "the codes are right, but the points that you were given have moved.",
            "hint 1 of exercise 06.1: points + 0.5 makes a new tensor, points += 0.5 does not.",
            _moves_points,
        ),
    ),
)


# ---------------------------------------------------------------- 06.2 freezing

Freeze = Callable[[nn.Module], list[nn.Parameter]]


class _Adapted(nn.Module):
    """A small stand-in: adapters under any name, and pretrained weights whose names mislead."""

    def __init__(self) -> None:
        super().__init__()
        self.adapter_norm = nn.LayerNorm(8)  # pretrained, whatever its name says
        self.first, self.side = nn.Linear(8, 8), Adapter(8, skip=True)
        self.inner = nn.Sequential(nn.Linear(8, 8), Adapter(8, skip=False))
        self.table = nn.Parameter(torch.zeros(8))
        stirred(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.side(self.first(self.adapter_norm(x + self.table)))
        return x + self.inner(x)


def _frozen(f: Freeze, before: bool = True) -> tuple[_Adapted, list[nn.Parameter]]:
    net = _Adapted().requires_grad_(before).train()
    return net, list(f(net))


def _pretrained(net: _Adapted) -> list[nn.Parameter]:
    adapters = {id(p) for m in net.modules() if isinstance(m, Adapter) for p in m.parameters()}
    return [p for p in net.parameters() if id(p) not in adapters]


def _adapters(net: nn.Module) -> list[nn.Parameter]:
    return [p for m in net.modules() if isinstance(m, Adapter) for p in m.parameters()]


def _freeze_probe(f: Freeze) -> list[Tensor]:
    made = []
    for before in (True, False):
        net, given = _frozen(f, before)
        ids = [id(p) for p in given]
        made.append(torch.tensor([p.requires_grad for p in net.parameters()]))
        made.append(torch.tensor([ids.count(id(p)) for p in net.parameters()]))
        made.append(torch.tensor([net.training, len(given)]))
    return made


def _freeze_step(f: Freeze) -> bool:
    """After a step the pretrained weights are what they were, and every adapter has moved."""
    net, given = _frozen(f)
    before = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(given, lr=0.1, weight_decay=0.5)
    net(noise(3, 8)).square().sum().backward()
    optimizer.step()
    stays = zip(_pretrained(net), _pretrained(before), strict=True)
    moves = zip(_adapters(net), _adapters(before), strict=True)
    return all(torch.equal(p, q) for p, q in stays) and not any(torch.equal(p, q) for p, q in moves)


def only_adapters(net: nn.Module) -> list[nn.Parameter]:
    """Stop the gradients of all but the adapters; returns the adapters' parameters."""
    net.requires_grad_(False)
    for weight in _adapters(net):
        weight.requires_grad_(True)
    return _adapters(net)


def _wake(net: nn.Module, wanted: Callable[[str, nn.Module], bool]) -> list[nn.Parameter]:
    net.requires_grad_(False)
    for name, module in net.named_modules():
        if wanted(name, module):
            module.requires_grad_(True)
    return [p for p in net.parameters() if p.requires_grad]


def _as_attribute(net: nn.Module) -> list[nn.Parameter]:
    for module in net.modules():
        if not isinstance(module, Adapter):
            module.requires_grad = False  # type: ignore[assignment]  # an attribute that nobody reads
    return _adapters(net)


def _listed_only(net: nn.Module) -> list[nn.Parameter]:
    return _adapters(net)


def _all_off(net: nn.Module) -> list[nn.Parameter]:
    net.requires_grad_(False)
    return _adapters(net)


def _all_listed(net: nn.Module) -> list[nn.Parameter]:
    only_adapters(net)
    return list(net.parameters())


def _eval_only(net: nn.Module) -> list[nn.Parameter]:
    net.eval()
    return _adapters(net)


def _only_woken(net: nn.Module) -> list[nn.Parameter]:
    for weight in _adapters(net):
        weight.requires_grad_(True)
    return _adapters(net)


FREEZE = Exercise(
    "06.2",
    "freezing",
    _freeze_probe,
    (
        Property(
            "interface",
            "freeze(net) returns a list of parameters",
            lambda f: takes(f, 1) and all(isinstance(p, nn.Parameter) for p in _frozen(f)[1]),
        ),
        Property(
            "frozen",
            "what is pretrained takes no gradient, whatever its name",
            lambda f: not any(p.requires_grad for p in _pretrained(_frozen(f)[0])),
        ),
        Property(
            "awake",
            "every adapter takes one, also in a net that came frozen",
            lambda f: all(p.requires_grad for b in (True, False) for p in _adapters(_frozen(f, b)[0])),
        ),
        Property(
            "listed",
            "the list holds each parameter of an adapter once, and no other",
            lambda f: all(
                sorted(map(id, given)) == sorted(map(id, _adapters(net))) for net, given in [_frozen(f)]
            ),
        ),
        Property("step", "an optimizer's step moves the adapters and nothing else", _freeze_step),
        Property("mode", "training mode is left alone", lambda f: _frozen(f)[0].training),
    ),
    (
        Mistake(
            "an attribute of the module",
            "nothing was frozen: module.requires_grad = False only makes an attribute that nobody reads.",
            "hint 1 of exercise 06.2: the method requires_grad_(False), with an underscore at its end.",
            _as_attribute,
        ),
        Mistake(
            "eval() for frozen",
            "eval() switches dropout and BatchNorm; it stops no gradient.",
            "hint 1 of exercise 06.2: requires_grad_(False).",
            _eval_only,
        ),
        Mistake(
            "everything frozen",
            "the adapters are frozen, too: nothing is left that could learn.",
            "hint 2 of exercise 06.2: after all is frozen, the adapters are woken again.",
            _all_off,
        ),
        Mistake(
            "chosen by name",
            "the choice was made by names; here a pretrained layer has 'adapter' in its name.",
            "hint 2 of exercise 06.2: isinstance(module, Adapter) asks what a module is.",
            lambda net: _wake(net, lambda name, _: "adapter" in name),
        ),
        Mistake(
            "every parameter listed",
            "the list holds the frozen parameters, too.",
            "hint 3 of exercise 06.2: only the adapters' parameters go to the optimizer.",
            _all_listed,
        ),
        Mistake(
            "only the outermost modules",
            "an adapter that sits inside another module was overlooked.",
            "hint 2 of exercise 06.2: net.modules() walks through all levels, net.children() through one.",
            lambda net: _wake(net, lambda name, m: "." not in name and isinstance(m, Adapter)),
        ),
        Mistake(
            "the pretrained weights still learn",
            "the adapters are awake and listed, but what is pretrained still takes gradients.",
            "hint 1 of exercise 06.2: first requires_grad_(False) for the whole net.",
            _only_woken,
        ),
    ),
)


# ---------------------------------------------------------------- 06.3 the adapter

Kind = Any


def _loaded(kind: Kind, skip: bool, seed: int = 0) -> nn.Module:
    """The learner's adapter with the weights of the library's."""
    made = kind(8, skip)
    made.load_state_dict(stirred(Adapter(8, skip), seed).state_dict())
    return made


def _adapter_probe(kind: Kind) -> list[Tensor]:
    made = [torch.tensor([p.numel() for p in kind(16, True).parameters()])]
    for skip in (True, False):
        fresh, x = kind(8, skip), noise(2, 3, 8)
        made += [  # a start at random is known by what it is not
            torch.tensor([same(fresh(x), x), same(fresh(x), torch.zeros_like(x))]),
            torch.tensor([bool(p.any()) for p in fresh.parameters()]),
        ]
        made += [torch.tensor([bool(g.any()) for g in _weights(fresh, x)])]
        stirred(fresh)
        made += [fresh(x), *gradients(fresh, x), fresh(x[0, 0])]
    return made


def _weights(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Gradients of a net's parameters."""
    out = (net(x) * noise(*x.shape, seed=9)).sum()
    found = torch.autograd.grad(out, list(net.parameters()), allow_unused=True)
    return [torch.zeros(()) if g is None else g for g in found]


def _adapter_value(kind: Kind) -> bool:
    x = noise(2, 3, 5, 8)
    return all(
        same(_loaded(kind, skip, seed)(x), stirred(Adapter(8, skip), seed)(x))
        for skip in (True, False)
        for seed in (0, 1)
    )


def _adapter_start(kind: Kind) -> bool:
    x = noise(2, 3, 8)
    return same(kind(8, True)(x), x) and same(kind(8, False)(x), torch.zeros_like(x))


def _adapter_learns(kind: Kind) -> bool:
    """The weights of both layers have moved after two steps."""
    net, x = kind(8, True), noise(6, 8)
    start = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (net(x) - x.roll(1, dims=-1)).square().mean().backward()
        optimizer.step()
    return not any(torch.equal(p, q) for p, q in zip(net.parameters(), start, strict=True))


def _adapter(start: Callable[[Any], Any], forward: Callable[[Any, Tensor], Tensor] | None = None) -> Kind:
    """An adapter whose layers are changed by `start` and whose forward pass may be another."""

    class Other(Adapter):
        def __init__(self, dim: int, skip: bool):
            super().__init__(dim, skip)
            self.dim = dim
            start(self)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if forward is None else forward(self, x)

    return Other


def _as_is(net: Any) -> None:
    pass


def _random_start(net: Any) -> None:
    net.up.reset_parameters()


def _bias_left(net: Any) -> None:
    nn.init.constant_(net.up.bias, 0.1)


def _both_zero(net: Any) -> None:
    nn.init.zeros_(net.down.weight)
    nn.init.zeros_(net.down.bias)


def _zero_down(net: Any) -> None:
    net.up.reset_parameters()
    _both_zero(net)


def _full_width(net: Any) -> None:
    net.down, net.up = nn.Linear(net.dim, net.dim), nn.Linear(net.dim, net.dim)
    nn.init.zeros_(net.up.weight)
    nn.init.zeros_(net.up.bias)


def _bent(net: Any, x: Tensor) -> Tensor:
    out: Tensor = net.up(F.gelu(net.down(x)))
    return out


ADAPTER = Exercise(
    "06.3",
    "the adapter",
    _adapter_probe,
    (
        Property(
            "interface",
            "Adapter(dim, skip) has the layers down and up",
            lambda k: sorted(k(8, True).state_dict()) == ["down.bias", "down.weight", "up.bias", "up.weight"],
        ),
        Property(
            "size",
            "dim -> dim / 4 -> dim",
            lambda k: (
                [tuple(p.shape) for p in (k(16, True).down.weight, k(16, True).up.weight)]
                == [(4, 16), (16, 4)]
            ),
        ),
        Property(
            "shape",
            "(..., D) -> (..., D), with any number of axes",
            lambda k: all(
                k(8, s)(torch.ones(*a, 8)).shape == (*a, 8) for s in (True, False) for a in ((), (2, 3))
            ),
        ),
        Property("start", "with a skip the identity, without one zero", _adapter_start),
        Property(
            "zero",
            "up starts at zero, weight and bias, and down does not",
            lambda k: (
                [bool(p.any()) for p in (*k(8, True).up.parameters(), *k(8, True).down.parameters())]
                == [False, False, True, True]
            ),
        ),
        Property("value", "up of GELU of down of x, and x itself added only with a skip", _adapter_value),
        Property("learning", "both layers have moved after two steps", _adapter_learns),
    ),
    (
        Mistake(
            "random start",
            "the last layer starts at random, so SAM is disturbed before anything is learned.",
            "hint 2 of exercise 06.3: up.weight and up.bias start at zero.",
            _adapter(_random_start),
        ),
        Mistake(
            "the bias forgotten",
            "up.bias does not start at zero: the adapter adds a constant from the first step on.",
            "hint 2 of exercise 06.3: the bias, too.",
            _adapter(_bias_left),
        ),
        Mistake(
            "both layers at zero",
            "both layers start at zero: then neither weight gets a gradient, and only up.bias can learn.",
            "hint 2 of exercise 06.3: zero is the last layer alone.",
            _adapter(_both_zero),
        ),
        Mistake(
            "the first layer at zero",
            "the wrong layer starts at zero: it is the last one that must, and the first starts at random.",
            "hint 2 of exercise 06.3: up, the last layer.",
            _adapter(_zero_down),
        ),
        Mistake(
            "no bottleneck",
            "the inner layer is as wide as the outer ones: four times the parameters.",
            "hint 1 of exercise 06.3: dim // 4.",
            _adapter(_full_width),
        ),
        Mistake(
            "ReLU",
            "the values are those of a ReLU; the adapter uses GELU.",
            "hint 3 of exercise 06.3: F.gelu.",
            _adapter(
                _as_is,
                lambda net, x: (x if net.skip else 0) + net.up(F.relu(net.down(x))),
            ),
        ),
        Mistake(
            "always a skip",
            "the skip is added even if skip is False: an MLP adapter would then add its input once more.",
            "hint 3 of exercise 06.3: x is added only if self.skip.",
            _adapter(_as_is, lambda net, x: x + net.up(F.gelu(net.down(x)))),
        ),
        Mistake(
            "random start, always a skip",
            "two things: the last layer starts at random, and the skip is added even if skip is False.",
            "hints 2 and 3 of exercise 06.3: up starts at zero, and x is added only if self.skip.",
            _adapter(_random_start, lambda a, x: x + _bent(a, x)),
        ),
        Mistake(
            "never a skip",
            "the skip is never added: with a fresh adapter the attention's answer would vanish.",
            "hint 3 of exercise 06.3: x is added if self.skip.",
            _adapter(_as_is, lambda net, x: net.up(F.gelu(net.down(x)))),
        ),
        Mistake(
            "the skip the wrong way round",
            "x is added where skip is False and left out where it is True.",
            "hint 3 of exercise 06.3: x is added if self.skip.",
            _adapter(_as_is, lambda a, x: _bent(a, x) if a.skip else x + _bent(a, x)),
        ),
        Mistake(
            "GELU at the end",
            "GELU bends the adapter's answer; it stands between the two layers.",
            "hint 3 of exercise 06.3: down, GELU, up.",
            _adapter(_as_is, lambda a, x: a.skip * x + F.gelu(a.up(a.down(x)))),
        ),
        Mistake(
            "GELU on the input",
            "GELU bends the token before it is squeezed; it stands between the two layers.",
            "hint 3 of exercise 06.3: down, GELU, up.",
            _adapter(_as_is, lambda a, x: a.skip * x + a.up(a.down(F.gelu(x)))),
        ),
        Mistake(
            "no GELU",
            "nothing bends between the layers, so both together are one linear map.",
            "hint 3 of exercise 06.3: F.gelu.",
            _adapter(_as_is, lambda a, x: a.skip * x + a.up(a.down(x))),
        ),
    ),
)


# ---------------------------------------------------------------- 06.4 the block


def _block(kind: Kind, seed: int = 0, window: int = 0) -> Any:
    made = kind(16, 2, window, (5, 5), True)
    made.load_state_dict(stirred(AdapterBlock(16, 2, window, (5, 5), True), seed).state_dict())
    return made


TOKENS = (2, 5, 5, 16)


def _block_probe(kind: Kind) -> list[Tensor]:
    fresh = kind(16, 2, 0, (5, 5), True)
    return [
        fresh(noise(*TOKENS)).sum() * 0,
        _block(kind)(noise(*TOKENS)),
        *gradients(_block(kind), noise(*TOKENS)),
    ]


def _block_start(kind: Kind) -> bool:
    plain = Block(16, 2, norm_layer=lambda d: nn.LayerNorm(d, eps=1e-6), use_rel_pos=True, input_size=(5, 5))
    stirred(plain)
    made = kind(16, 2, 0, (5, 5), True)
    made.load_state_dict(plain.state_dict(), strict=False)
    return same(made(noise(*TOKENS)), plain(noise(*TOKENS)))


def _block_adapters(kind: Kind) -> bool:
    """Both adapters of the block learn from its answer."""
    made = _block(kind)
    made(noise(*TOKENS)).square().sum().backward()
    return all(bool(p.grad is not None and p.grad.any()) for p in _adapters(made))


def _otherwise(forward: Callable[[Any, Tensor], Tensor]) -> Kind:
    return type("Other", (AdapterBlock,), {"forward": forward})


def _mlp(b: Any, x: Tensor, share: float = 0.5) -> Tensor:
    normed = b.norm2(x)
    return x + b.mlp(normed) + share * b.mlp_adapter(normed)


def _unnormed(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    return x + b.mlp(b.norm2(x)) + 0.5 * b.mlp_adapter(x)


def _behind_mlp(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    inner = b.mlp(b.norm2(x))
    return x + inner + 0.5 * b.mlp_adapter(inner)


def _old_tokens(b: Any, x: Tensor) -> Tensor:
    y = x + b.space_adapter(b.attend(x))
    normed = b.norm2(x)
    return y + b.mlp(normed) + 0.5 * b.mlp_adapter(normed)


def _half_mlp(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    normed = b.norm2(x)
    return x + 0.5 * (b.mlp(normed) + b.mlp_adapter(normed))


def _no_residual(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    return _mlp(b, x) - x


def _plain_mlp(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    return x + b.mlp(x) + 0.5 * b.mlp_adapter(x)


def _exchanged(b: Any, x: Tensor) -> Tensor:
    x = x + b.mlp_adapter(b.attend(x))
    normed = b.norm2(x)
    return x + b.mlp(normed) + 0.5 * b.space_adapter(normed)


BLOCK = Exercise(
    "06.4",
    "a block with adapters",
    _block_probe,
    (
        Property(
            "interface",
            "AdapterBlock(16, 2, 0, (5, 5), True) takes tokens and returns tokens",
            lambda k: isinstance(_block(k)(noise(*TOKENS)), Tensor),
        ),
        Property(
            "shape", "(N, g, g, D) -> (N, g, g, D)", lambda k: _block(k)(noise(*TOKENS)).shape == TOKENS
        ),
        Property("start", "with fresh adapters it is segment_anything's block", _block_start),
        Property(
            "value",
            "both lines of the equation, with adapters that have learned, with and without windows",
            lambda k: all(
                same(_block(k, 1, w)(noise(*TOKENS)), _block(AdapterBlock, 1, w)(noise(*TOKENS)))
                for w in (0, 3)
            ),
        ),
        Property(
            "gradient",
            "and so is its gradient: every branch carries it",
            lambda k: same(
                gradients(_block(k), noise(*TOKENS)), gradients(_block(AdapterBlock), noise(*TOKENS))
            ),
        ),
        Property("learning", "both adapters learn from its answer", _block_adapters),
    ),
    (
        Mistake(
            "the MLP adapter at full strength",
            "the factor one half before the MLP adapter is missing.",
            "the equation above exercise 06.4: one half of A'.",
            _otherwise(lambda b, x: _mlp(b, x + b.space_adapter(b.attend(x)), 1.0)),
        ),
        Mistake(
            "space adapter behind the residual",
            "the space adapter was given the sum; it belongs to the attention's answer alone.",
            "hint 1 of exercise 06.4: first attend, then adapt, then add to x.",
            _otherwise(lambda b, x: _mlp(b, b.space_adapter(x + b.attend(x)))),
        ),
        Mistake(
            "no residual around the attention",
            "the tokens themselves are lost: x is not added to the attention's answer.",
            "hint 1 of exercise 06.4: x + ...",
            _otherwise(lambda b, x: _mlp(b, b.space_adapter(b.attend(x)))),
        ),
        Mistake(
            "space adapter left out",
            "the attention's answer goes past the space adapter, which can never learn.",
            "hint 1 of exercise 06.4: self.space_adapter takes what self.attend gives.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x))),
        ),
        Mistake(
            "MLP adapter on unnormalized tokens",
            "the MLP adapter reads x itself, not norm2 of it.",
            "hint 2 of exercise 06.4: MLP and MLP adapter read the same normed tokens.",
            _otherwise(_unnormed),
        ),
        Mistake(
            "MLP adapter behind the MLP",
            "the MLP adapter reads the MLP's answer; it stands beside it, not behind it.",
            "hint 2 of exercise 06.4: MLP and MLP adapter read the same normed tokens.",
            _otherwise(_behind_mlp),
        ),
        Mistake(
            "norm2 of the old tokens",
            "norm2 was given the tokens from before the attention.",
            "hint 2 of exercise 06.4: the second line uses the x that the first one made.",
            _otherwise(_old_tokens),
        ),
        Mistake(
            "the attention's answer twice",
            "the attention's answer is added once by itself and once more in its adapter's skip.",
            "hint 1 of exercise 06.4: only what the space adapter returns is added to x.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x) + b.space_adapter(b.attend(x)))),
        ),
        Mistake(
            "the space adapter beside the attention",
            "the space adapter reads x; it stands behind the attention and reads its answer.",
            "hint 1 of exercise 06.4: self.space_adapter takes what self.attend gives.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x) + b.space_adapter(x))),
        ),
        Mistake(
            "the space adapter before the attention",
            "the tokens go through the space adapter before they attend.",
            "hint 1 of exercise 06.4: first attend, then adapt.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(b.space_adapter(x)))),
        ),
        Mistake(
            "normalized twice",
            "norm1 was applied before `attend`, which applies it itself.",
            "hint 1 of exercise 06.4: self.attend(x).",
            _otherwise(lambda b, x: _mlp(b, x + b.space_adapter(b.attend(b.norm1(x))))),
        ),
        Mistake(
            "half of the MLP",
            "the factor one half stands before the MLP's answer, too.",
            "the equation above exercise 06.4: one half of A' alone.",
            _otherwise(_half_mlp),
        ),
        Mistake(
            "no residual around the MLP",
            "the tokens are lost in the second half: x is not added.",
            "hint 2 of exercise 06.4: both answers are added to x.",
            _otherwise(_no_residual),
        ),
        Mistake(
            "the MLP on unnormalized tokens",
            "the MLP and its adapter read x itself, not norm2 of it.",
            "hint 2 of exercise 06.4: normalize the new x once.",
            _otherwise(_plain_mlp),
        ),
        Mistake(
            "the adapters exchanged",
            "the MLP's adapter stands behind the attention and the space adapter beside the MLP.",
            "the text above exercise 06.4: which one stands where.",
            _otherwise(_exchanged),
        ),
        Mistake(
            "the MLP adapter left out",
            "the MLP adapter takes no part, so it can never learn.",
            "hint 2 of exercise 06.4: both answers are added.",
            _otherwise(lambda b, x: _mlp(b, x + b.space_adapter(b.attend(x)), 0.0)),
        ),
        Mistake(
            "no adapters at all",
            "this is the plain block: neither adapter takes part.",
            "the equation above exercise 06.4.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x), 0.0)),
        ),
    ),
)


# ---------------------------------------------------------------- 06.5 one key for all padding

Merged = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def _heads(m: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (4, 6), keys and values (m, 6)."""
    return noise(4, 6, seed=seed), noise(m, 6, seed=seed + 10), noise(m, 6, seed=seed + 20)


def _spelled_out(q: Tensor, k: Tensor, v: Tensor, n: int) -> Tensor:
    """The oracle: the first key and value written down n times, through PyTorch's attention."""
    many_k, many_v = (torch.cat([t[:1].expand(n, -1), t[1:]])[None] for t in (k, v))
    return F.scaled_dot_product_attention(q[None], many_k, many_v)[0]


def _merge(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    change: Callable[[Tensor], Tensor],
    scale: float | None = None,
    dim: int = -1,
) -> Tensor:
    scores = q @ k.T * (k.shape[-1] ** -0.5 if scale is None else scale)
    scores = torch.cat([change(scores[:, :1]), scores[:, 1:]], dim=1)
    return scores.softmax(dim=dim) @ v


def _merged_probe(f: Merged) -> list[Tensor]:
    return [
        f(*_heads(), 1),
        f(*_heads(), 3),
        f(*_heads(7, 1), 588),
        *gradients(lambda q, k, v: f(q, k, v, 4), *_heads()),
    ]


MERGED = Exercise(
    "06.5",
    "one key for many",
    _merged_probe,
    (
        Property(
            "interface",
            "merged_attention(q, k, v, n) returns one tensor",
            lambda f: takes(f, 4) and isinstance(f(*_heads(), 2), Tensor),
        ),
        Property("shape", "(L, D) -> (L, D)", lambda f: f(*_heads(7), 2).shape == (4, 6)),
        Property(
            "one",
            "with n = 1 it is plain attention",
            lambda f: same(f(*_heads(), 1), _spelled_out(*_heads(), 1)),
        ),
        Property(
            "value",
            "with n = 2, 5 and 588 it is attention to keys written down n times",
            lambda f: all(same(f(*_heads(6, n), n), _spelled_out(*_heads(6, n), n)) for n in (2, 5, 588)),
        ),
        Property(
            "gradient",
            "and so is its gradient",
            lambda f: same(
                gradients(lambda q, k, v: f(q, k, v, 5), *_heads()),
                gradients(lambda q, k, v: _spelled_out(q, k, v, 5), *_heads()),
            ),
        ),
    ),
    (
        Mistake(
            "the score times n",
            "the score is multiplied by n; the softmax multiplies by n only what is added as a logarithm.",
            "hint 2 of exercise 06.5: e to the power of (score + log n) is n times e to the score.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s * n),
        ),
        Mistake(
            "n added",
            "n itself is added to the score, not its logarithm.",
            "hint 2 of exercise 06.5: math.log(n).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + n),
        ),
        Mistake(
            "added before the scaling",
            "log n is divided by the root of D, too: it was added too early.",
            "hint 1 of exercise 06.5: first scale the scores, then add log n.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n) * k.shape[-1] ** -0.5),
        ),
        Mistake(
            "the value times n",
            "the value is multiplied by n after the softmax, so the weights no longer sum to 1.",
            "hint 2 of exercise 06.5: the count enters before the softmax.",
            lambda q, k, v, n: _merge(q, k, torch.cat([n * v[:1], v[1:]]), lambda s: s),
        ),
        Mistake(
            "not scaled",
            "the scores are not divided by the root of D.",
            "hint 1 of exercise 06.5: attention divides the products by the root of D.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), scale=1.0),
        ),
        Mistake(
            "counted once",
            "n makes no difference: unused, or added to all keys of a query, which the softmax undoes.",
            "hint 2 of exercise 06.5: log n is added to the first column of the scores.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s),
        ),
        Mistake(
            "softmax over the queries",
            "the softmax runs over the queries; each query shares its attention among the keys.",
            "hint 3 of exercise 06.5: the keys lie on the last axis.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), dim=0),
        ),
        Mistake(
            "base 2",
            "the logarithm is that to the base 2; the softmax works with e.",
            "hint 2 of exercise 06.5: math.log(n).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log2(n)),
        ),
        Mistake(
            "base 10",
            "the logarithm is that to the base 10; the softmax works with e.",
            "hint 2 of exercise 06.5: math.log(n).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log10(n)),
        ),
        Mistake(
            "scores and values",
            "the first value is multiplied by n, too; it counts n times already through its score.",
            "hint 2 of exercise 06.5: the value stays as it is.",
            lambda q, k, v, n: _merge(q, k, torch.cat([n * v[:1], v[1:]]), lambda s: s + math.log(n)),
        ),
        Mistake(
            "the last key",
            "the last key was raised; the first one stands for n.",
            "hint 2 of exercise 06.5: column 0.",
            lambda q, k, v, n: _merge(q, k.roll(1, 0), v.roll(1, 0), lambda s: s + math.log(n)),
        ),
        Mistake(
            "the number of queries as D",
            "the scores are divided by the root of the number of queries; D is the length of a query.",
            "hint 1 of exercise 06.5: q.shape[-1].",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), scale=q.shape[0] ** -0.5),
        ),
        Mistake(
            "divided by D",
            "the scores are divided by D; attention divides by its root.",
            "hint 1 of exercise 06.5: math.sqrt(d).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), scale=1 / q.shape[-1]),
        ),
    ),
)


# ---------------------------------------------------------------- 06.6 all prompts at once


def _decoder(kind: Kind, seed: int = 0) -> Any:
    made = kind(16, 24, num_heads=2)
    made.load_state_dict(stirred(PromptDecoder(16, 24, num_heads=2), seed).state_dict())
    return made


def _asked(n: int = 2, k: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embedding, positions, sparse and dense prompts of k prompts on each of n images."""
    sizes = ((n, 16, 4, 4), (1, 16, 4, 4), (n, k, 2, 16), (n, k, 16, 4, 4))
    e, pe, sparse, dense = (noise(*size, seed=seed + i, scale=1.0) for i, size in enumerate(sizes))
    return e, pe, sparse, dense


def _decoder_probe(kind: Kind) -> list[Tensor]:
    return [_decoder(kind)(*_asked()), *gradients(_decoder(kind), *_asked(3, 2, 5))]


def _one_by_one(kind: Kind) -> bool:
    """All at once is the same as one prompt on one image after another."""
    made, (e, pe, sparse, dense) = _decoder(kind), _asked()
    alone = [
        [
            made(e[i : i + 1], pe, sparse[i : i + 1, j : j + 1], dense[i : i + 1, j : j + 1])[0, 0]
            for j in range(3)
        ]
        for i in range(2)
    ]
    return same(made(e, pe, sparse, dense), torch.stack([torch.stack(row) for row in alone]))


def _decode(
    self: Any,
    embedding: Tensor,
    pe: Tensor,
    sparse: Tensor,
    dense: Tensor,
    image: Callable[[Tensor, Tensor], Tensor] = lambda e, d: (e[:, None] + d).flatten(0, 1),
    back: Callable[[Tensor, Tensor], Tensor] = lambda p, i: p.transpose(1, 2).reshape(i.shape),
    which: int = 1,
    own_first: bool = True,
    own_tokens: Callable[[Any], Tensor] = lambda s: torch.cat([s.iou_token.weight, s.mask_tokens.weight]),
    mlp: int = 0,
    end: Callable[[Tensor, int, int], Tensor] = lambda z, n, k: z.unflatten(0, (n, k)),
) -> Tensor:
    """The right answer, with one piece replaced."""
    n, k = sparse.shape[:2]
    own = own_tokens(self).expand(n * k, -1, -1)
    asked = [own, sparse.flatten(0, 1)]
    tokens = torch.cat(asked if own_first else asked[::-1], dim=1)
    src = image(embedding, dense)
    tokens, pixels = self.transformer(src, pe, tokens)
    upscaled = self.output_upscaling(back(pixels, src))
    weights = self.output_hypernetworks_mlps[mlp](tokens[:, which])
    return end(torch.einsum("md,mdhw->mhw", weights, upscaled), n, k)


def _decoding(**changed: Any) -> Kind:
    return type("Other", (PromptDecoder,), {"forward": lambda self, *given: _decode(self, *given, **changed)})


DECODER = Exercise(
    "06.6",
    "all prompts at once",
    _decoder_probe,
    (
        Property(
            "interface",
            "forward(embedding, image_pe, sparse, dense) returns one tensor",
            lambda k: isinstance(_decoder(k)(*_asked()), Tensor),
        ),
        Property(
            "shape",
            "K masks for each of N images: (N, K, 4g, 4g)",
            lambda k: all(
                _decoder(k)(*_asked(n, m)).shape == (n, m, 16, 16) for n, m in ((2, 3), (3, 2), (1, 1))
            ),
        ),
        Property(
            "value",
            "token 1, through the first MLP, times the upscaled pixels",
            lambda k: same(_decoder(k, 1)(*_asked(seed=7)), _decoder(PromptDecoder, 1)(*_asked(seed=7))),
        ),
        Property("pairing", "the same as one prompt on one image after another", _one_by_one),
        Property(
            "gradient",
            "and so is its gradient: to embedding, positions and both kinds of prompts",
            lambda k: same(gradients(_decoder(k), *_asked()), gradients(_decoder(PromptDecoder), *_asked())),
        ),
    ),
    (
        Mistake(
            "images tiled",
            "images and prompts are paired crosswise: prompts of one image are answered on another.",
            "hint 2 of exercise 06.6: row i K + j needs image i, so each image stands K times in a row.",
            _decoding(image=lambda e, d: e.repeat(d.shape[1], 1, 1, 1) + d.flatten(0, 1)),
        ),
        Mistake(
            "every image with every prompt",
            "the images were repeated once for each of all N K prompts: N N K rows do not fit N K prompts.",
            "hint 2 of exercise 06.6: each image meets only its own K prompts.",
            _decoding(image=lambda e, d: e.repeat_interleave(len(d) * d.shape[1], dim=0) + d.flatten(0, 1)),
        ),
        Mistake(
            "dense prompts left out",
            "the dense prompts are not added: a mask prompt would never be heard.",
            "hint 2 of exercise 06.6: embedding + dense.",
            _decoding(image=lambda e, d: (e[:, None] + 0 * d).flatten(0, 1)),
        ),
        Mistake(
            "pixels not transposed",
            "positions and channels are mixed: (M, HW, D) was reshaped without a transpose.",
            "hint 3 of exercise 06.6: transpose(1, 2) comes before reshape.",
            _decoding(back=lambda p, i: p.reshape(i.shape)),
        ),
        Mistake(
            "the IoU token",
            "the mask was made from token 0, which is there to judge masks.",
            "the table of exercise 06.6: the first mask token is number 1.",
            _decoding(which=0),
        ),
        Mistake(
            "prompts before SAM's own tokens",
            "the mask comes from a prompt's token: the prompts stand in front, or you took the last token.",
            "the table of exercise 06.6: SAM's own five come first, and number 1 makes the mask.",
            _decoding(own_first=False),
        ),
        Mistake(
            "answers in the wrong order",
            "the rows were unfolded as K times N: masks land at other prompts' places.",
            "hint 4 of exercise 06.6: unflatten(0, (n, k)).",
            _decoding(end=lambda z, n, k: z.reshape(k, n, *z.shape[1:]).transpose(0, 1)),
        ),
        Mistake(
            "mask tokens before the IoU token",
            "the mask tokens come before the one that judges masks, so token 1 is the second mask.",
            "the table of exercise 06.6: iou_token first, then mask_tokens.",
            _decoding(own_tokens=lambda s: torch.cat([s.mask_tokens.weight, s.iou_token.weight])),
        ),
        Mistake(
            "the IoU token left out",
            "the token that judges masks is missing; SAM's weights know five tokens.",
            "the table of exercise 06.6: iou_token and mask_tokens.",
            _decoding(own_tokens=lambda s: s.mask_tokens.weight),
        ),
        Mistake(
            "the second mask",
            "this is SAM's second mask: token 2 with its own MLP.",
            "the table of exercise 06.6: token 1 and output_hypernetworks_mlps[0].",
            _decoding(which=2, mlp=1),
        ),
        Mistake(
            "another mask's MLP",
            "token 1 went through the MLP of the second mask.",
            "the table of exercise 06.6: output_hypernetworks_mlps[0].",
            _decoding(mlp=1),
        ),
        Mistake(
            "probabilities",
            "these are probabilities; logits are wanted.",
            "the text of exercise 06.6: it returns logits, so no sigmoid.",
            _decoding(end=lambda z, n, k: z.unflatten(0, (n, k)).sigmoid()),
        ),
        Mistake(
            "rows left as rows",
            "the masks are right, but in one list of N K rows.",
            "hint 4 of exercise 06.6: unflatten(0, (n, k)).",
            _decoding(end=lambda z, n, k: z),
        ),
    ),
)

EXERCISES = (POINT, FREEZE, ADAPTER, BLOCK, MERGED, DECODER)

QUIZ = (
    Answer("a", "the image is encoded once; only prompt encoder and decoder run again.", "step 1, prompts"),
    Answer("d", "no gradient passes through no_grad; the decoder lies behind it.", "step 2, freezing"),
    Answer("c", "the skip adds its input, the normed tokens, and the factor halves it.", "step 4, the block"),
    Answer("b", "the merged key counts 192 times among 196, the padding's share.", "step 5, windows"),
    Answer("d", "the stock one repeats 4 images for all 12 prompts; ours pairs.", "step 6, the decoder"),
)


def saved_bytes(net: nn.Module, run: Callable[[], object]) -> int:
    """Bytes of activations that autograd keeps for the backward pass of `run()`; weights are not counted."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = run()  # as long as this lives, no memory is used twice
    del made
    return sum(kept.values())
