"""Chapter 07, learnable prompts: properties, catalogued mistakes, and the quiz's key."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.sam.backbones import VitBackbone
from knowsam_lite.sam.prompts import ClassPrompt, LearnablePrompts, add_noise
from knowsam_lite.sam.teacher import PromptedSam, SamTeacher


def stirred(module: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """The module with every weight random: what starts at zero hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return module.eval()


def counted(sam: PromptedSam, run: Callable[[], object]) -> dict[str, int]:
    """What `run()` asks of a SAM: images through the encoder, passes of the decoder, and their rows."""
    counts = {"images": 0, "passes": 0, "rows": 0}

    def encoded(_module: nn.Module, given: tuple[Tensor, ...], _made: object) -> None:
        counts["images"] += len(given[0])

    def decoded(_module: nn.Module, given: tuple[Tensor, ...], _made: object) -> None:
        counts["passes"] += 1
        counts["rows"] += len(given[0])

    hooks = [
        sam.image_encoder.register_forward_hook(encoded),
        sam.mask_decoder.transformer.register_forward_hook(decoded),
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return counts


# ---------------------------------------------------------------- 07.1 mask prompts

MaskPrompts = Callable[[Tensor, tuple[int, int]], Tensor]
SMALL = (3, 4)
HARD = torch.tensor([[0.0, 60.0], [-200.0, 0.0], [0.0, 5000.0]]).view(3, 2, 1, 1)  # a very sure student


def _resized(z: Tensor, size: tuple[int, int], mode: str = "bilinear", **options: Any) -> Tensor:
    options = options or ({"align_corners": False} if mode == "bilinear" else {})
    return F.interpolate(z, size, mode=mode, **options)


def _odds(z: Tensor) -> Tensor:
    """The oracle: each class against all others, one after another; z in float."""
    rest = [torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in range(z.shape[1])]
    return z - torch.stack(rest, dim=1)


def _prompted(z_f: Tensor, size: tuple[int, int]) -> Tensor:
    return _odds(_resized(z_f.detach().float(), size))


def _mask_probe(f: MaskPrompts) -> list[Tensor]:
    made = [f(noise(2, c, 8, 6, seed=c), SMALL) for c in (2, 3, 5)]
    leaf = noise(2, 3, 8, 6).requires_grad_()
    made.append(torch.tensor(f(leaf, SMALL).requires_grad))
    return [*made, f(HARD, (1, 1)), f(noise(1, 2, 8, 8).bfloat16(), (4, 4))]


def _mask_larger(f: MaskPrompts) -> bool:
    z = noise(2, 3, 4, 4)
    return same(f(z, (12, 9)), _prompted(z, (12, 9)))


MASKS = Exercise(
    "07.1",
    "mask prompts",
    _mask_probe,
    (
        Property(
            "interface",
            "mask_prompts(z_f, size) returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(noise(1, 2, 8, 8), SMALL), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) -> (N, C, *size)",
            lambda f: all(f(noise(2, c, 8, 6), SMALL).shape == (2, c, *SMALL) for c in (2, 4)),
        ),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(noise(1, 2, 8, 8).bfloat16(), (4, 4)).dtype == torch.float32,
        ),
        Property(
            "value",
            "the resized logit of each class against all others, for 2, 3 and 5 classes",
            lambda f: all(
                same(f(noise(2, c, 8, 6, seed=c), SMALL), _prompted(noise(2, c, 8, 6, seed=c), SMALL))
                for c in (2, 3, 5)
            ),
        ),
        Property("size", "also where the prompt is larger than the map", _mask_larger),
        Property(
            "sure",
            "finite, and right, where a class has all the probability",
            lambda f: same(f(HARD, (1, 1)), _prompted(HARD, (1, 1))),
        ),
        Property(
            "invariance",
            "adding a number to all logits of a pixel changes nothing",
            lambda f: same(f(noise(2, 3, 8, 6) + 7.0, SMALL), f(noise(2, 3, 8, 6), SMALL)),
        ),
        Property(
            "detached",
            "no gradient reaches the students",
            lambda f: not f(noise(2, 3, 8, 6).requires_grad_(), SMALL).requires_grad,
        ),
    ),
    (
        Mistake(
            "the raw channel",
            "you hand over the logits themselves, which mean nothing without the other classes.",
            "hint 2 of exercise 07.1: subtract what all other classes have together.",
            lambda z_f, size: _resized(z_f.detach().float(), size),
        ),
        Mistake(
            "log-probabilities",
            "the class itself is among the others: you have log p, which is never above 0.",
            "hint 2 of exercise 07.1: the sum runs over the other classes alone.",
            lambda z_f, size: _resized(z_f.detach().float(), size).log_softmax(dim=1),
        ),
        Mistake(
            "probabilities",
            "you hand over probabilities; SAM reads 0 as undecided and all of yours as inside.",
            "the equation above exercise 07.1: logits, from minus to plus infinity.",
            lambda z_f, size: _resized(z_f.detach().float(), size).softmax(dim=1),
        ),
        Mistake(
            "by way of the probabilities",
            "a probability that has been rounded to 0 or 1 makes an infinite prompt.",
            "hint 2 of exercise 07.1: logsumexp stays with the logits.",
            lambda z_f, size: _resized(z_f.detach().float(), size).softmax(dim=1).logit(),
        ),
        Mistake(
            "clamped probabilities",
            "the prompt is finite, but the clamp makes all sure students equally sure.",
            "hint 2 of exercise 07.1: logsumexp stays with the logits and needs no clamp.",
            lambda z_f, size: _resized(z_f.detach().float(), size).softmax(dim=1).logit(eps=1e-6),
        ),
        Mistake(
            "the exponentials written out",
            "the formula is right, but the exponential of a large logit is infinite.",
            "hint 2 of exercise 07.1: torch.logsumexp does it without large numbers.",
            lambda z_f, size: _against(z_f, size, lambda others: others.exp().sum(dim=2).log()),
        ),
        Mistake(
            "no logarithm",
            "you hand over the odds p / (1 - p), which are never below 0: no pixel is outside.",
            "the equation above exercise 07.1: the logarithm of the odds.",
            lambda z_f, size: _odds(_resized(z_f.detach().float(), size)).exp(),
        ),
        Mistake(
            "the sign exchanged",
            "the class was subtracted from the others: inside and outside change places.",
            "hint 2 of exercise 07.1: the class minus the others.",
            lambda z_f, size: -_odds(_resized(z_f.detach().float(), size)),
        ),
        Mistake(
            "summed along the class itself",
            "the sum ran along the wrong one of the two class axes, and all prompts are the same number.",
            "hint 3 of exercise 07.1: logsumexp(dim=2).",
            lambda z_f, size: _against(z_f, size, lambda others: others.logsumexp(dim=1)),
        ),
        Mistake(
            "not detached",
            "the value is right, but SAM's loss reaches the students.",
            "hint 1 of exercise 07.1: detach comes first.",
            lambda z_f, size: _odds(_resized(z_f.float(), size)),
        ),
        Mistake(
            "the raw channel, not detached",
            "two things are missing: the other classes, and the detach that keeps the students out.",
            "hints 1 and 2 of exercise 07.1: detach first, then subtract what all others have together.",
            lambda z_f, size: _resized(z_f.float(), size),
        ),
        Mistake(
            "probabilities resized, not detached",
            "you resized probabilities and kept their graph; a sure student's prompt is infinite besides.",
            "hints 1 and 2 of exercise 07.1: detach, resize the logits, and stay with logits.",
            lambda z_f, size: _resized(z_f.float().softmax(dim=1), size).logit(),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision prompt.",
            "hint 1 of exercise 07.1: .float() makes float32 of any tensor.",
            lambda z_f, size: _odds(_resized(z_f.detach(), size)),
        ),
        Mistake(
            "resized last",
            "the log-odds were resized; the logits are.",
            "hint 1 of exercise 07.1: first resize, then compare the classes.",
            lambda z_f, size: _resized(_odds(z_f.detach().float()), size),
        ),
        Mistake(
            "the best rival alone",
            "you subtract the largest of the others; two half-likely rivals count for more than one.",
            "hint 2 of exercise 07.1: logsumexp adds up the others' shares, max does not.",
            lambda z_f, size: _against(z_f, size, lambda others: others.amax(dim=2)),
        ),
        Mistake(
            "the others' mean",
            "you subtract the mean of the other logits, not the logarithm of their summed exponentials.",
            "hint 2 of exercise 07.1: logsumexp.",
            lambda z_f, size: _rivals_mean(_resized(z_f.detach().float(), size)),
        ),
        Mistake(
            "corners aligned",
            "the resize aligns corners, which stretches the map against SAM's grid.",
            "hint 1 of exercise 07.1: align_corners=False.",
            lambda z_f, size: _odds(_resized(z_f.detach().float(), size, align_corners=True)),
        ),
        Mistake(
            "nearest pixel",
            "the resize takes the nearest pixel, the default of F.interpolate.",
            'hint 1 of exercise 07.1: mode="bilinear".',
            lambda z_f, size: _odds(_resized(z_f.detach().float(), size, mode="nearest")),
        ),
    ),
)


def _against(z_f: Tensor, size: tuple[int, int], join: Callable[[Tensor], Tensor]) -> Tensor:
    z = _resized(z_f.detach().float(), size)
    itself = torch.eye(z.shape[1], dtype=torch.bool)[:, :, None, None]
    return z - join(z.unsqueeze(1).masked_fill(itself, -torch.inf))


def _rivals_mean(z: Tensor) -> Tensor:
    return z - (z.sum(dim=1, keepdim=True) - z) / (z.shape[1] - 1)


# ---------------------------------------------------------------- 07.2 learnable prompts

Kind = Callable[..., Any]
EMBEDDING = (3, 8, 4, 4)


def _prompts(kind: Kind, classes: int = 3, tokens: int = 2) -> Any:
    """The module with random weights, the same ones for the same class, however they are kept."""
    made = kind(classes, 8, tokens)
    for position, prompt in enumerate(made.classes):
        stirred(prompt, seed=position)
    return made.eval()


def _fresh(kind: Kind) -> Any:
    torch.manual_seed(0)
    return kind(3, 8).eval()


def _prompts_probe(kind: Kind) -> list[Tensor]:
    fresh = _fresh(kind)
    counts = torch.tensor([sum(p.numel() for p in fresh.parameters()), len(fresh.classes)])
    start = [torch.tensor([bool(p.any()) for p in prompt.parameters()]) for prompt in fresh.classes]
    return [
        counts,
        *start,
        fresh(noise(*EMBEDDING)),
        _prompts(kind)(noise(*EMBEDDING)),
        _prompts(kind, 2, 3)(noise(*EMBEDDING, seed=1)),
        *gradients(_prompts(kind), noise(*EMBEDDING)),
    ]


def _prompts_registered(kind: Kind) -> bool:
    one = sum(p.numel() for p in ClassPrompt(8, 2).parameters())
    return sum(p.numel() for p in kind(3, 8).parameters()) == 3 * one


def _prompts_own(kind: Kind) -> bool:
    """The tokens of a class depend on the network of that class alone."""
    made = _prompts(kind)
    made(noise(*EMBEDDING))[:, 1].sum().backward()
    reached = [any(p.grad is not None and p.grad.any() for p in net.parameters()) for net in made.classes]
    return reached == [False, True, False]


def _prompts_learn(kind: Kind) -> bool:
    """At the start the last layer of every class gets a gradient, so that learning can begin."""
    made = _fresh(kind)
    (made(noise(*EMBEDDING)) * noise(3, 3, 2, 8)).sum().backward()
    return all(
        prompt.last.weight.grad is not None and prompt.last.weight.grad.any() for prompt in made.classes
    )


class _Lps(nn.Module):
    """The right answer in pieces, for mistakes to replace."""

    fixed: ClassVar[dict[str, int]] = {}

    def __init__(self, num_classes: int, dim: int = 256, tokens: int = 2):
        super().__init__()
        tokens = self.fixed.get("tokens", tokens)
        networks = [ClassPrompt(dim, tokens) for _ in range(self.fixed.get("classes", num_classes))]
        for prompt in networks:
            self.start(prompt)
        self.keep(networks)

    def start(self, prompt: ClassPrompt) -> None:
        nn.init.zeros_(prompt.last.weight)
        nn.init.zeros_(prompt.last.bias)

    def keep(self, networks: list[ClassPrompt]) -> None:
        self.classes: Any = nn.ModuleList(networks)

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.stack([prompt(embedding) for prompt in self.classes], dim=1)


def _lps(**methods: Any) -> Kind:
    return type("Other", (_Lps,), methods)


def _all_zero(self: Any, prompt: nn.Module) -> None:
    for weight in prompt.parameters():
        nn.init.zeros_(weight)


def _keep_one(self: Any, networks: list[ClassPrompt]) -> None:
    self.classes = nn.ModuleList([networks[0]] * len(networks))


def _keep_plainly(self: Any, networks: list[ClassPrompt]) -> None:
    self.classes = networks


PROMPTS = Exercise(
    "07.2",
    "learnable prompts",
    _prompts_probe,
    (
        Property(
            "interface",
            "LearnablePrompts(3, 8) keeps its three networks in self.classes",
            lambda k: len(k(3, 8).classes) == 3,
        ),
        Property(
            "registered",
            "parameters() finds three networks of their own",
            _prompts_registered,
        ),
        Property(
            "shape",
            "embedding (N, D, g, g) -> tokens (N, C, tokens, D)",
            lambda k: all(
                _prompts(k, c, t)(noise(*EMBEDDING)).shape == (3, c, t, 8) for c, t in ((3, 2), (2, 3))
            ),
        ),
        Property(
            "start",
            "fresh tokens are zero",
            lambda k: not _fresh(k)(noise(*EMBEDDING)).any(),
        ),
        Property("learning", "and learning can begin: each last layer gets a gradient", _prompts_learn),
        Property("own", "tokens of a class come from the network of that class", _prompts_own),
        Property(
            "value",
            "row c holds what the network of class c writes, also once it has learned",
            lambda k: all(
                same(
                    _prompts(k, c, t)(noise(*EMBEDDING)), _prompts(LearnablePrompts, c, t)(noise(*EMBEDDING))
                )
                for c, t in ((3, 2), (2, 3))
            ),
        ),
        Property(
            "gradient",
            "the embedding gets the gradients of all classes, added up",
            lambda k: same(
                gradients(_prompts(k), noise(*EMBEDDING)),
                gradients(_prompts(LearnablePrompts), noise(*EMBEDDING)),
            ),
        ),
    ),
    (
        Mistake(
            "one network for all",
            "the list holds the same network C times, so every class gets the same tokens.",
            "hint 1 of exercise 07.2: make each network anew, inside the list comprehension.",
            _lps(keep=_keep_one),
        ),
        Mistake(
            "a plain list",
            "a plain list hides the networks from parameters(): no optimizer would ever find them.",
            "hint 1 of exercise 07.2: nn.ModuleList.",
            _lps(keep=_keep_plainly),
        ),
        Mistake(
            "always two tokens",
            "each network writes two tokens, whatever `tokens` says.",
            "hint 1 of exercise 07.2: ClassPrompt(dim, tokens).",
            _lps(fixed={"tokens": 2}),
        ),
        Mistake(
            "always two classes",
            "there are two networks, whatever `num_classes` says.",
            "hint 1 of exercise 07.2: range(num_classes).",
            _lps(fixed={"classes": 2}),
        ),
        Mistake(
            "random start",
            "the last layers start at random, so step 0 is not SAM with its mask prompt.",
            "hint 2 of exercise 07.2: weight and bias of each last layer are set to zero.",
            _lps(start=lambda self, prompt: None),
        ),
        Mistake(
            "the bias forgotten",
            "the bias of the last layer is still random, and the tokens with it.",
            "hint 2 of exercise 07.2: weight and bias.",
            _lps(start=lambda self, prompt: nn.init.zeros_(prompt.last.weight)),
        ),
        Mistake(
            "the weight forgotten",
            "the weight of the last layer is still random, and the tokens with it.",
            "hint 2 of exercise 07.2: weight and bias.",
            _lps(start=lambda self, prompt: nn.init.zeros_(prompt.last.bias)),
        ),
        Mistake(
            "everything at zero",
            "all layers start at zero: then no gradient gets past the first factor, and nothing learns.",
            "hint 2 of exercise 07.2: only the last layer.",
            _lps(start=_all_zero),
        ),
        Mistake(
            "stacked in front",
            "the classes come first; the images do.",
            "hint 3 of exercise 07.2: dim=1.",
            _lps(forward=lambda self, e: torch.stack([prompt(e) for prompt in self.classes])),
        ),
        Mistake(
            "joined",
            "the tokens of all classes were joined in one list: SAM could not tell whose they are.",
            "hint 3 of exercise 07.2: stack makes a new axis, cat does not.",
            _lps(forward=lambda self, e: torch.cat([prompt(e) for prompt in self.classes], dim=1)),
        ),
        Mistake(
            "a list of answers",
            "you return a list, one tensor for each class; one tensor is wanted.",
            "hint 3 of exercise 07.2: torch.stack makes one of them.",
            _lps(forward=lambda self, e: [prompt(e) for prompt in self.classes]),
        ),
        Mistake(
            "the first network alone",
            "every class is asked of the first network; the others write nothing.",
            "hint 3 of exercise 07.2: each network in turn.",
            _lps(forward=lambda self, e: torch.stack([self.classes[0](e) for _ in self.classes], dim=1)),
        ),
        Mistake(
            "axes exchanged",
            "tokens and classes change places.",
            "hint 3 of exercise 07.2: dim=1, before the tokens.",
            _lps(forward=lambda self, e: torch.stack([prompt(e) for prompt in self.classes], dim=2)),
        ),
        Mistake(
            "without gradient",
            "the embedding is detached: SAM's encoder could not learn from its prompts.",
            "the text of exercise 07.2: the embedding is used as it comes.",
            _lps(forward=lambda self, e: torch.stack([prompt(e.detach()) for prompt in self.classes], dim=1)),
        ),
    ),
)


# ---------------------------------------------------------------- 07.3 SAM's answer

Asked = Callable[[Any, Tensor, Tensor], Tensor]
TINY = VitBackbone(
    embed_dim=16,
    depth=1,
    num_heads=2,
    global_blocks=(0,),
    window_size=0,
    patch_size=8,
    prompt_dim=16,
    mlp_dim=16,
    pretrained_size=32,
)


@cache
def _sam(classes: int = 3) -> SamTeacher:
    """A tiny SAM with random weights, the same every time."""
    made = SamTeacher(TINY, classes, 32)
    stirred(made, seed=classes)
    return made


def _given(classes: int = 3, size: int = 32, n: int = 2) -> tuple[Tensor, Tensor]:
    return noise(n, 3, size, size, seed=size).sigmoid(), noise(n, classes, size, size, seed=classes)


def _answer_probe(f: Asked) -> list[Tensor]:
    sam = _sam()
    x, z_f = _given()
    made = [f(sam, x, z_f), f(sam, *_given(size=48, n=3)), f(_sam(2), *_given(2))]
    counts = counted(sam, lambda: f(sam, x, z_f))
    made += [torch.tensor(list(counts.values())), torch.tensor(_reached(f))]
    return [*made, *gradients(lambda x, z: f(sam, x, z), x, z_f)]


def _answer_once(f: Asked) -> bool:
    def once(classes: int) -> bool:
        sam, given = _sam(classes), _given(classes)
        return counted(sam, lambda: f(sam, *given)) == {"images": 2, "passes": 1, "rows": 2 * classes}

    return once(2) and once(3)


def _reached(f: Asked) -> list[bool]:
    """Whether a gradient comes to the students' map, and to each weight that learns."""
    sam, (x, z_f) = _sam(), _given()
    leaf = z_f.clone().requires_grad_()
    leaves = [leaf, *(p for p in sam.parameters() if p.requires_grad)]
    made = f(sam, x, leaf)
    if not made.requires_grad:
        return [False] * len(leaves)
    return [g is not None for g in torch.autograd.grad(made.square().sum(), leaves, allow_unused=True)]


def _answer_learns(f: Asked) -> bool:
    """SAM's loss reaches adapters and prompts, and not the students' map."""
    students, *own = _reached(f)
    return all(own) and not students


def _answered(
    sam: Any,
    x: Tensor,
    z_f: Tensor,
    tokens: Callable[[Any, Tensor], Tensor] = lambda sam, e: sam.learnable_prompts(e),
    masks: Callable[[Any, Tensor], Tensor] = lambda sam, z: sam.mask_prompts(z),
    decode: Callable[[Any, Tensor, Tensor, Tensor], Tensor] = lambda sam, e, t, d: sam.decode(e, t, d),
    end: Callable[[Tensor, Tensor], Tensor] = lambda low, x: _resized(low, (x.shape[-2], x.shape[-1])),
) -> Tensor:
    """The right answer, with one piece replaced."""
    embedding = sam.encode(x)
    dense = sam.embed_masks(masks(sam, z_f))
    return end(decode(sam, embedding, tokens(sam, embedding), dense), x)


def _answering(**changed: Any) -> Asked:
    return lambda sam, x, z_f: _answered(sam, x, z_f, **changed)


def _class_by_class(sam: Any, e: Tensor, t: Tensor, d: Tensor) -> Tensor:
    return torch.cat([sam.decode(e, t[:, c : c + 1], d[:, c : c + 1]) for c in range(t.shape[1])], dim=1)


def _encoded_again(sam: Any, x: Tensor, z_f: Tensor) -> Tensor:
    made = []
    for c in range(z_f.shape[1]):
        e = sam.encode(x)
        t, d = sam.learnable_prompts(e), sam.embed_masks(sam.mask_prompts(z_f))
        made.append(sam.decode(e, t[:, c : c + 1], d[:, c : c + 1]))
    return _resized(torch.cat(made, dim=1), (x.shape[-2], x.shape[-1]))


def _image_by_image(sam: Any, x: Tensor, z_f: Tensor) -> Tensor:
    return torch.cat([_answered(sam, x[i : i + 1], z_f[i : i + 1]) for i in range(len(x))])


def _unembedded(sam: Any, x: Tensor, z_f: Tensor) -> Tensor:
    embedding = sam.encode(x)
    low = sam.decode(embedding, sam.learnable_prompts(embedding), sam.mask_prompts(z_f))
    return _resized(low, (x.shape[-2], x.shape[-1]))


ANSWER = Exercise(
    "07.3",
    "all classes in one pass",
    _answer_probe,
    (
        Property(
            "interface",
            "sam_answer(sam, x, z_f) returns one tensor",
            lambda f: takes(f, 3) and isinstance(f(_sam(), *_given()), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W), whatever the image's size",
            lambda f: all(f(_sam(), *_given(size=s)).shape == (2, 3, s, s) for s in (32, 48)),
        ),
        Property(
            "value",
            "decoded from embedding, tokens and embedded mask prompts; 2 and 3 classes, two sizes",
            lambda f: all(
                same(f(_sam(c), *_given(c, s)), _sam(c)(*_given(c, s)).logits)
                for c, s in ((2, 32), (3, 32), (3, 48))
            ),
        ),
        Property("once", "each image passes the encoder once, the decoder runs once", _answer_once),
        Property(
            "learners", "adapters and prompts get a gradient, the students' map gets none", _answer_learns
        ),
        Property(
            "invariance",
            "an image's answer does not depend on its neighbours in the batch",
            lambda f: same(f(_sam(), *_given()), _image_by_image(_sam(), *_given())),
        ),
    ),
    (
        Mistake(
            "not resized",
            "SAM's low-resolution masks came back; the students' logits have the image's size.",
            "hint 3 of exercise 07.3: F.interpolate to x.shape[-2:].",
            _answering(end=lambda low, x: low),
        ),
        Mistake(
            "one pass per class, not resized",
            "the decoder ran once for each class, and its low-resolution masks came back as they are.",
            "hints 2 and 3 of exercise 07.3: one call of sam.decode, then F.interpolate.",
            _answering(decode=_class_by_class, end=lambda low, x: low),
        ),
        Mistake(
            "one pass per class",
            "the values are right, but the decoder ran once for each class.",
            "hint 2 of exercise 07.3: sam.decode takes all classes at once.",
            _answering(decode=_class_by_class),
        ),
        Mistake(
            "encoded for each class",
            "the values are right, but the encoder, the expensive part, ran once for each class.",
            "hint 1 of exercise 07.3: one embedding serves all questions.",
            _encoded_again,
        ),
        Mistake(
            "image by image",
            "the values are right, but the batch was taken apart: one pass for each image.",
            "hint 2 of exercise 07.3: no loop is needed.",
            _image_by_image,
        ),
        Mistake(
            "the raw map as mask",
            "the students' logits went in as they are, without sam.mask_prompts.",
            "hint 1 of exercise 07.3: sam.mask_prompts makes yes-or-no questions of them.",
            _answering(masks=lambda sam, z: _resized(z.detach(), (4 * sam.grid[0], 4 * sam.grid[1]))),
        ),
        Mistake(
            "the mask not embedded",
            "the mask prompts went into the decoder as they are; sam.embed_masks comes between.",
            "hint 1 of exercise 07.3: sam.embed_masks(sam.mask_prompts(z_f)).",
            _unembedded,
        ),
        Mistake(
            "probabilities as the question",
            "sam.mask_prompts was given probabilities; it wants the students' logits.",
            "the text of exercise 07.3: sam.mask_prompts(z_f), z_f as it comes.",
            _answering(masks=lambda sam, z: sam.mask_prompts(z.softmax(dim=1))),
        ),
        Mistake(
            "tokens left out",
            "the learned tokens have no say: SAM was asked with zeros.",
            "hint 1 of exercise 07.3: the tokens are sam.learnable_prompts(embedding).",
            _answering(tokens=lambda sam, e: 0 * sam.learnable_prompts(e)),
        ),
        Mistake(
            "masks left out",
            "the students' map has no say.",
            "hint 1 of exercise 07.3: sam.embed_masks(sam.mask_prompts(z_f)).",
            _answering(masks=lambda sam, z: 0 * sam.mask_prompts(z)),
        ),
        Mistake(
            "probabilities",
            "the answer was put through a softmax; z_s are logits.",
            "hint 3 of exercise 07.3: nothing comes after the resize.",
            _answering(end=lambda low, x: _resized(low, (x.shape[-2], x.shape[-1])).softmax(dim=1)),
        ),
        Mistake(
            "nearest pixel",
            "the resize takes the nearest pixel, the default of F.interpolate.",
            'hint 3 of exercise 07.3: mode="bilinear".',
            _answering(end=lambda low, x: F.interpolate(low, x.shape[-2:])),
        ),
        Mistake(
            "corners aligned",
            "the resize aligns corners, which stretches SAM's grid against the image.",
            "hint 3 of exercise 07.3: align_corners=False.",
            _answering(
                end=lambda low, x: _resized(
                    low, (x.shape[-2], x.shape[-1]), mode="bilinear", align_corners=True
                )
            ),
        ),
        Mistake(
            "a class map",
            "you return the winning class of each pixel; z_s are the logits of all classes.",
            "hint 3 of exercise 07.3: nothing comes after the resize.",
            _answering(end=lambda low, x: _resized(low, (x.shape[-2], x.shape[-1])).argmax(dim=1)),
        ),
        Mistake(
            "without a graph",
            "no gradient is left: SAM's adapters and prompts could not learn.",
            "the text of exercise 07.3: only the students' map is cut off, and sam.mask_prompts does that.",
            lambda sam, x, z_f: _answered(sam, x, z_f).detach(),
        ),
        Mistake(
            "the encoder cut off",
            "the embedding was detached: the encoder's adapters could not learn.",
            "the text of exercise 07.3: only the students' map is cut off, and sam.mask_prompts does that.",
            _answering(
                tokens=lambda sam, e: sam.learnable_prompts(e.detach()),
                decode=lambda sam, e, t, d: sam.decode(e.detach(), t, d),
            ),
        ),
    ),
)


# ---------------------------------------------------------------- 07.4 mended and broken

Scores = Callable[[Tensor, Tensor, Tensor], tuple[float, float]]


def _maps(classes: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Class maps of the question, the answer and the truth, which mostly agree: (3, 5, 6) each."""
    y = noise(3, classes, 5, 6, seed=seed).argmax(dim=1)
    other = noise(2, 3, classes, 5, 6, seed=seed + 1).argmax(dim=2)
    swap = noise(2, 3, 5, 6, seed=seed + 2) > torch.tensor([-0.5, 1.5]).view(2, 1, 1, 1)
    asked = torch.where(swap[0], other[0], y)
    return asked, torch.where(swap[1], other[1], asked), y


def _share(part: Tensor, whole: Tensor) -> float:
    return (part & whole).sum().item() / max(whole.sum().item(), 1)


def _scored(asked: Tensor, answer: Tensor, y: Tensor) -> tuple[float, float]:
    wrong = asked != y
    return _share(answer == y, wrong), _share(answer != y, ~wrong)


def _numbers(f: Scores, *given: Tensor) -> Tensor:
    return torch.tensor([float(value) for value in f(*given)])


def _is(f: Scores, given: Sequence[Tensor], expected: tuple[float, float]) -> bool:
    made = _numbers(f, *given)
    return len(made) == 2 and same(made, torch.tensor(expected))


def _scores_probe(f: Scores) -> list[Tensor]:
    asked, _, y = _maps(3)
    made = [_numbers(f, *_maps(c, s)) for c, s in ((2, 0), (3, 5), (4, 9))]
    return [*made, _numbers(f, y, asked, y), _numbers(f, (y + 1) % 3, y, y)]


def _scores_ends(f: Scores) -> bool:
    asked, _, y = _maps(3)
    return _is(f, (asked, asked, y), (0.0, 0.0)) and _is(f, (asked, y, y), (1.0, 0.0))


def _scores_empty(f: Scores) -> bool:
    asked, _, y = _maps(3)
    share = (asked != y).float().mean().item()
    return _is(f, (y, asked, y), (0.0, share)) and _is(f, ((y + 1) % 3, y, y), (1.0, 0.0))


SCORES = Exercise(
    "07.4",
    "mended and broken",
    _scores_probe,
    (
        Property(
            "interface",
            "mended_and_broken(asked, answer, y) returns two numbers",
            lambda f: takes(f, 3) and len(_numbers(f, *_maps())) == 2,
        ),
        Property(
            "range",
            "between 0 and 1",
            lambda f: all(0 <= value <= 1 for value in f(*_maps(3))),
        ),
        Property("ends", "who copies gets (0, 0), who always knows better gets (1, 0)", _scores_ends),
        Property(
            "value",
            "the mended part of the wrong pixels, the broken part of the right ones; 2, 3 and 4 classes",
            lambda f: all(
                _is(f, _maps(c, s), _scored(*_maps(c, s))) for c, s in ((2, 0), (3, 5), (4, 9), (2, 13))
            ),
        ),
        Property("empty", "where nothing could be mended, or broken, the share is 0", _scores_empty),
    ),
    (
        Mistake(
            "shares of all pixels",
            "you divide by all pixels; each share has its own: the wrong ones, and the right ones.",
            "hint 2 of exercise 07.4: divide by wrong.sum() and by (~wrong).sum().",
            lambda a, b, y: (
                ((a != y) & (b == y)).float().mean().item(),
                ((a == y) & (b != y)).float().mean().item(),
            ),
        ),
        Mistake(
            "exchanged",
            "the two numbers change places.",
            "the text of exercise 07.4: mended first.",
            lambda a, b, y: _scored(a, b, y)[::-1],
        ),
        Mistake(
            "kept, not mended",
            "you count the errors that were kept; the mended ones are the rest.",
            "hint 1 of exercise 07.4: wrong before, right after.",
            lambda a, b, y: (_share(b != y, a != y), _share(b != y, a == y)),
        ),
        Mistake(
            "changed, not mended",
            "a wrong class replaced by another wrong class counts as mended.",
            "hint 1 of exercise 07.4: the answer must equal the truth.",
            lambda a, b, y: (_share(b != a, a != y), _share(b != y, a == y)),
        ),
        Mistake(
            "question and answer exchanged",
            "the question was taken for the answer.",
            "hint 1 of exercise 07.4: wrong is where asked differs from the truth.",
            lambda a, b, y: _scored(b, a, y),
        ),
        Mistake(
            "errors left over",
            "the second share counts all wrong pixels of the answer; broken are those that were right.",
            "hint 2 of exercise 07.4: broken looks at ~wrong alone.",
            lambda a, b, y: (_share(b == y, a != y), (b != y).float().mean().item()),
        ),
        Mistake(
            "one divisor for both",
            "both shares were divided by the question's wrong pixels; the broken ones were right.",
            "hint 2 of exercise 07.4: divide by wrong.sum() and by (~wrong).sum().",
            lambda a, b, y: (
                _share(b == y, a != y),
                ((a == y) & (b != y)).sum().item() / max((a != y).sum().item(), 1),
            ),
        ),
        Mistake(
            "kept, not broken",
            "the second share counts the right pixels that stayed right; the broken ones are the rest.",
            "hint 2 of exercise 07.4: right before, wrong after.",
            lambda a, b, y: (_share(b == y, a != y), _share(b == y, a == y)),
        ),
        Mistake(
            "counts, not shares",
            "you return numbers of pixels; each is to be divided by those that could be mended, or broken.",
            "hint 2 of exercise 07.4: each share has its own divisor.",
            lambda a, b, y: (
                ((a != y) & (b == y)).sum().item(),
                ((a == y) & (b != y)).sum().item(),
            ),
        ),
        Mistake(
            "image by image",
            "you took the mean of one share per image; the pixels of all images are counted together.",
            "the text of exercise 07.4: over all images together.",
            lambda a, b, y: tuple(
                sum(shares) / len(y) for shares in zip(*map(_scored, a, b, y), strict=True)
            ),
        ),
        Mistake(
            "0 / 0 of Python numbers",
            "where nothing was wrong, or nothing right, Python refuses to divide by 0.",
            "hint 3 of exercise 07.4: divide by max(count, 1).",
            lambda a, b, y: (
                ((a != y) & (b == y)).sum().item() / (a != y).sum().item(),
                ((a == y) & (b != y)).sum().item() / (a == y).sum().item(),
            ),
        ),
        Mistake(
            "divided by nothing",
            "0 / 0: where nothing was wrong, or nothing right, your share is not a number.",
            "hint 3 of exercise 07.4: divide by at least 1.",
            lambda a, b, y: (
                (((a != y) & (b == y)).sum() / (a != y).sum()).item(),
                (((a == y) & (b != y)).sum() / (a == y).sum()).item(),
            ),
        ),
    ),
)


# ---------------------------------------------------------------- 07.5 noise

Noise = Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]


def _grids(n: int = 3, c: int = 2, sizes: Sequence[int] = (5, 2, 3)) -> list[Tensor]:
    return [noise(n, c, k, k, seed=k, scale=1.0) for k in sizes]


def _strength(n: int = 3) -> Tensor:
    return torch.linspace(0.5, 2.0, n).view(n, 1, 1, 1)


def _noise_given(n: int = 3, c: int = 2) -> tuple[Tensor, list[Tensor], Tensor]:
    images = torch.linspace(0.2, 2.0, n).view(n, 1, 1, 1)  # some images are surer than others
    return images * noise(n, c, 9, 12, seed=c), _grids(n, c), _strength(n)


def _noisy(
    z_f: Tensor,
    grids: Sequence[Tensor],
    strength: Tensor,
    start: Callable[[Tensor], Tensor] = lambda z: z.detach(),
    stretch: Callable[[Tensor, tuple[int, int]], Tensor] = _resized,
    join: Callable[[list[Tensor]], Tensor] = lambda parts: torch.stack(parts).sum(dim=0),
    spread: Callable[[Tensor], Any] = lambda z: z.std(),
) -> Tensor:
    """The right answer, with one piece replaced."""
    z = start(z_f)
    parts = [stretch(grid, (z.shape[-2], z.shape[-1])) for grid in grids]
    return z + strength * spread(z) * join(parts)


def _noising(**changed: Any) -> Noise:
    return lambda z_f, grids, strength: _noisy(z_f, grids, strength, **changed)


def _noise_probe(f: Noise) -> list[Tensor]:
    z, grids, strength = _noise_given()
    leaf = z.clone().requires_grad_()
    made = f(leaf, grids, strength)
    given = z.clone()
    f(given, grids, strength)
    return [
        made.detach(),
        torch.tensor(made.requires_grad),
        f(*_noise_given(2, 3)),
        f(z, grids[:1], strength),
        given,
        z,
    ]


def _noise_unharmed(f: Noise) -> bool:
    z, grids, strength = _noise_given()
    f(z, grids, strength)
    return same([z, *grids, strength], [_noise_given()[0], *_grids(), _strength()])


NOISE = Exercise(
    "07.5",
    "a rougher map",
    _noise_probe,
    (
        Property(
            "interface",
            "add_noise(z_f, grids, strength) returns one tensor",
            lambda f: takes(f, 3) and isinstance(f(*_noise_given()), Tensor),
        ),
        Property(
            "shape", "(N, C, H, W) -> (N, C, H, W)", lambda f: f(*_noise_given()).shape == (3, 2, 9, 12)
        ),
        Property(
            "zero",
            "strength 0 changes nothing",
            lambda f: same(f(*_noise_given()[:2], 0 * _strength()), _noise_given()[0]),
        ),
        Property(
            "value",
            "the logits plus strength times spread times the sum of the grids, one or several",
            lambda f: (
                same(f(*_noise_given()), add_noise(*_noise_given()))
                and same(
                    f(_noise_given()[0], _grids()[:1], _strength()),
                    add_noise(_noise_given()[0], _grids()[:1], _strength()),
                )
                and same(f(*_noise_given(2, 3)), add_noise(*_noise_given(2, 3)))
            ),
        ),
        Property(
            "scale",
            "logits ten times as large get ten times the noise",
            lambda f: same(f(10 * _noise_given()[0], _grids(), _strength()), 10 * f(*_noise_given())),
        ),
        Property(
            "detached",
            "no gradient reaches the students",
            lambda f: not f(_noise_given()[0].requires_grad_(), *_noise_given()[1:]).requires_grad,
        ),
        Property("unharmed", "what was given stays as it is", _noise_unharmed),
    ),
    (
        Mistake(
            "not scaled",
            "the noise does not know how large the logits are: the factor of their spread is missing.",
            "hint 3 of exercise 07.5: strength times z.std() times the noise.",
            _noising(spread=lambda z: 1.0),
        ),
        Mistake(
            "strength left out",
            "every image gets the same amount of noise: the strength has no say.",
            "hint 3 of exercise 07.5: strength times z.std() times the noise.",
            lambda z_f, grids, strength: _noisy(z_f, grids, torch.ones_like(strength)),
        ),
        Mistake(
            "scaled image by image",
            "each image has its own spread; one number of the whole batch is wanted.",
            "hint 3 of exercise 07.5: z.std() without an axis.",
            _noising(spread=lambda z: z.std(dim=(1, 2, 3), keepdim=True)),
        ),
        Mistake(
            "scaled map by map",
            "each channel of each image has its own spread; one number of the whole batch is wanted.",
            "hint 3 of exercise 07.5: z.std() without an axis.",
            _noising(spread=lambda z: z.std(dim=(2, 3), keepdim=True)),
        ),
        Mistake(
            "the noise alone",
            "you return the noise without the logits to which it is added.",
            "hint 3 of exercise 07.5: z + strength * z.std() * noise.",
            lambda z_f, grids, strength: _noisy(z_f, grids, strength) - z_f.detach(),
        ),
        Mistake(
            "the logits times the noise",
            "the noise was multiplied by the logits; it is added, so that even a logit of 0 feels it.",
            "hint 3 of exercise 07.5: z + strength * z.std() * noise.",
            _noising(spread=lambda z: z),
        ),
        Mistake(
            "the noise brought to size",
            "the noise was divided by its own spread; only that of the logits counts.",
            "hint 3 of exercise 07.5: z + strength * z.std() * noise.",
            _noising(join=lambda parts: torch.stack(parts).sum(dim=0) / torch.stack(parts).sum(dim=0).std()),
        ),
        Mistake(
            "the variance",
            "the noise is scaled with the variance; the standard deviation is its root.",
            "hint 3 of exercise 07.5: z.std().",
            _noising(spread=lambda z: z.var()),
        ),
        Mistake(
            "the last grid alone",
            "every grid overwrites the one before; they are added up.",
            "hint 2 of exercise 07.5: begin with zeros and add each stretched grid.",
            _noising(join=lambda parts: parts[-1]),
        ),
        Mistake(
            "the mean of the grids",
            "the grids were averaged; they are summed.",
            "hint 2 of exercise 07.5: a sum, not a mean.",
            _noising(join=lambda parts: torch.stack(parts).mean(dim=0)),
        ),
        Mistake(
            "nearest pixel",
            "the grids were stretched in blocks, the default of F.interpolate.",
            'hint 1 of exercise 07.5: mode="bilinear".',
            _noising(stretch=lambda grid, size: F.interpolate(grid, size)),
        ),
        Mistake(
            "corners aligned",
            "the stretch aligns corners.",
            "hint 1 of exercise 07.5: align_corners=False.",
            _noising(stretch=lambda grid, size: _resized(grid, size, align_corners=True)),
        ),
        Mistake(
            "not detached",
            "the value is right, but the students' map keeps its graph.",
            "hint 1 of exercise 07.5: z = z_f.detach().",
            _noising(start=lambda z: z),
        ),
        Mistake(
            "added in place",
            "the students' own logits were changed: += writes into what was given.",
            "hint 3 of exercise 07.5: return z + ..., which makes a new tensor.",
            lambda z_f, grids, strength: z_f.data.copy_(_noisy(z_f, grids, strength)),
        ),
    ),
)

EXERCISES = (MASKS, PROMPTS, ANSWER, SCORES, NOISE)

QUIZ = (
    Answer("d", "the log-odds are above 0 from one half on, and no class has that much.", "step 1"),
    Answer("b", "a zero last layer gives zero tokens, and gets a gradient itself.", "step 2"),
    Answer("a", "each image meets its own four prompts: 3 times 4 rows.", "step 3"),
    Answer("c", "the mask prompt is detached, so nothing flows back into the students.", "step 4"),
    Answer("d", "a prompt that is nearly the truth makes copying the best answer.", "step 5"),
)
