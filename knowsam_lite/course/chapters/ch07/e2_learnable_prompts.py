"""Exercise 07.2, learnable prompts."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch07.shared import stirred
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same
from knowsam_lite.sam.prompts import ClassPrompt, LearnablePrompts

Kind = Callable[..., Any]
EMBEDDING = (3, 8, 4, 4)


def _prompts(kind: Kind, classes: int = 3, tokens: int = 2) -> Any:
    """The module with random weights, the same for the same class however they are stored."""
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
    """The tokens of a class depend only on that class's network."""
    made = _prompts(kind)
    made(noise(*EMBEDDING))[:, 1].sum().backward()
    reached = [any(p.grad is not None and p.grad.any() for p in net.parameters()) for net in made.classes]
    return reached == [False, True, False]


def _prompts_learn(kind: Kind) -> bool:
    """At the start the last layer of every class gets a gradient, so it can learn."""
    made = _fresh(kind)
    (made(noise(*EMBEDDING)) * noise(3, 3, 2, 8)).sum().backward()
    return all(
        prompt.last.weight.grad is not None and prompt.last.weight.grad.any() for prompt in made.classes
    )


class _Lps(nn.Module):
    """The right answer in pieces that mistakes can replace."""

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


class _Unready(nn.Module):
    def __init__(self, num_classes: int, dim: int = 256, tokens: int = 2):
        self.classes = nn.ModuleList(ClassPrompt(dim, tokens) for _ in range(num_classes))


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
            "hint 1: make each network anew, inside the list comprehension.",
            _lps(keep=_keep_one),
        ),
        Mistake(
            "super().__init__() forgotten",
            "the module was given networks before nn.Module had made itself ready to hold any.",
            "hint 1: after super().__init__().",
            _Unready,
        ),
        Mistake(
            "a plain list",
            "a plain list hides the networks from parameters(): no optimizer would ever find them.",
            "hint 1: nn.ModuleList.",
            _lps(keep=_keep_plainly),
        ),
        Mistake(
            "always two tokens",
            "each network writes two tokens, whatever `tokens` says.",
            "hint 1: ClassPrompt(dim, tokens).",
            _lps(fixed={"tokens": 2}),
        ),
        Mistake(
            "always two classes",
            "there are two networks, whatever `num_classes` says.",
            "hint 1: range(num_classes).",
            _lps(fixed={"classes": 2}),
        ),
        Mistake(
            "random start",
            "the last layers start at random, so step 0 is not SAM with its mask prompt.",
            "hint 2: weight and bias of each last layer are set to zero.",
            _lps(start=lambda self, prompt: None),
        ),
        Mistake(
            "the bias forgotten",
            "the bias of the last layer is still random, and the tokens with it.",
            "hint 2: weight and bias.",
            _lps(start=lambda self, prompt: nn.init.zeros_(prompt.last.weight)),
        ),
        Mistake(
            "the weight forgotten",
            "the weight of the last layer is still random, and the tokens with it.",
            "hint 2: weight and bias.",
            _lps(start=lambda self, prompt: nn.init.zeros_(prompt.last.bias)),
        ),
        Mistake(
            "everything at zero",
            "all layers start at zero: then no gradient gets past the first factor, and nothing learns.",
            "hint 2: only the last layer.",
            _lps(start=_all_zero),
        ),
        Mistake(
            "stacked in front",
            "the classes come first; the images do.",
            "hint 3: dim=1.",
            _lps(forward=lambda self, e: torch.stack([prompt(e) for prompt in self.classes])),
        ),
        Mistake(
            "joined",
            "the tokens of all classes were joined in one list: SAM could not tell whose they are.",
            "hint 3: stack makes a new axis, cat does not.",
            _lps(forward=lambda self, e: torch.cat([prompt(e) for prompt in self.classes], dim=1)),
        ),
        Mistake(
            "a list of answers",
            "you return a list, one tensor for each class; one tensor is wanted.",
            "hint 3: torch.stack makes one of them.",
            _lps(forward=lambda self, e: [prompt(e) for prompt in self.classes]),
        ),
        Mistake(
            "the first network alone",
            "every class is asked of the first network; the others write nothing.",
            "hint 3: each network in turn.",
            _lps(forward=lambda self, e: torch.stack([self.classes[0](e) for _ in self.classes], dim=1)),
        ),
        Mistake(
            "axes exchanged",
            "tokens and classes change places.",
            "hint 3: dim=1, before the tokens.",
            _lps(forward=lambda self, e: torch.stack([prompt(e) for prompt in self.classes], dim=2)),
        ),
        Mistake(
            "without gradient",
            "the embedding is detached: SAM's encoder could not learn from its prompts.",
            "the text: the embedding is used as it comes.",
            _lps(forward=lambda self, e: torch.stack([prompt(e.detach()) for prompt in self.classes], dim=1)),
        ),
    ),
    LearnablePrompts,
)
