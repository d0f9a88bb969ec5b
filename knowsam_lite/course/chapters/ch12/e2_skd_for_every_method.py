"""Exercise 12.2, SKD for every method."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.course.chapters.ch12.shared import CASES, STEPS, pull_of, small_batch
from knowsam_lite.course.chapters.ch12.stand_ins import InnerMethod, ToySam
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import distillation_loss, supervised_loss
from knowsam_lite.methods.base import merged
from knowsam_lite.methods.distillation import SamDistillation


@dataclass
class _Plugged:
    """An answer to 12.2 around `InnerMethod`, and what it did in one step."""

    kind: Any
    classes: int = 2
    labeled: int = 2
    unlabeled: int = 3
    step: int = 9
    terms: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        config = Config(image_size=16, steps=STEPS, temperature=3.0, distillation_weight=0.3)
        self.inner, self.sam = InnerMethod(config, self.classes), ToySam(self.classes)
        self.method = self.kind(self.inner, self.sam)
        self.batch = small_batch(self.classes, self.labeled, self.unlabeled)
        torch.manual_seed(self.step)  # the prompt on labelled images is roughened at random
        self.terms = self.method.losses(self.batch, self.step)

    def gradients(self, name: str) -> list[Tensor]:
        return [*pull_of(self.terms[name], self.inner.net), *pull_of(self.terms[name], self.sam)]

    def trained(self) -> list[list[bool]]:
        """For each optimizer, whether it holds each parameter of the inner net and of SAM."""
        wanted = [*self.inner.net.parameters(), *self.sam.parameters()]
        rows = []
        for optimizer in self.method.optimizers():
            held = [id(p) for group in optimizer.param_groups for p in group["params"]]
            rows.append([id(p) in held for p in wanted])
        return rows

    def settings(self) -> list[tuple[type, dict[str, Any]]]:
        """Each optimizer's type and settings."""
        return [(type(optimizer), optimizer.defaults) for optimizer in self.method.optimizers()]

    def moments(self) -> list[int]:
        for step in (0, 1, 7):
            self.method.after_step(step)
        return self.inner.seen


def _plugs(kind: Any) -> list[_Plugged]:
    return [_Plugged(kind, *case) for case in CASES]


def _plug_probe(kind: Any) -> list[Tensor]:
    found = []
    for one in _plugs(kind):
        for name in sorted(one.terms):
            found += [one.terms[name], *one.gradients(name)]
        found += [torch.tensor(one.trained()), torch.tensor([len(one.moments()), *one.inner.seen])]
    return [*found, torch.tensor([_plug_settings(kind)])]


def _plug_terms(kind: Any, *names: str) -> list[Tensor]:
    return [one.terms[name] for one in _plugs(kind) for name in names]


def _plug_same(*names: str) -> Callable[[Any], bool]:
    return lambda kind: same(_plug_terms(kind, *names), _plug_terms(SamDistillation, *names))


def _plug_reach(kind: Any) -> bool:
    names = ("own", "sam/supervised", "distillation")
    made, wanted = (
        [g for one in _plugs(k) for name in names for g in one.gradients(name)]
        for k in (kind, SamDistillation)
    )
    return same(made, wanted)


def _plug_settings(kind: Any) -> bool:
    return _Plugged(kind).settings() == _Plugged(SamDistillation).settings()


def _plug_optimizers(kind: Any) -> bool:
    return _plug_settings(kind) and _Plugged(kind).trained() == _Plugged(SamDistillation).trained()


def _skd(
    terms: Callable[[Any, Batch, int], dict[str, Tensor]] | None = None,
    own: bool = True,
    sam: bool = True,
    step: int | None = None,
) -> type[SamDistillation]:
    """The library's class with a different distillation term, or without the inner terms or SAM's own."""

    class Made(SamDistillation):
        def parts(self, batch: Batch, at: int) -> Iterator[dict[str, Tensor]]:
            made = merged(super().parts(batch, at if step is None else step))
            inner = self.method.losses(batch, at)
            if terms is not None:
                made |= terms(self, batch, at)
            dropped = set() if own else set(inner)
            dropped |= set() if sam else {"sam/supervised"}
            yield {name: term for name, term in made.items() if name not in dropped}

    return Made


def _distilled(
    made: Callable[[Any, Tensor, Tensor, int], Tensor], taught: str = "learner"
) -> Callable[[Any, Batch, int], dict[str, Tensor]]:
    """A distillation term from z, SAM's answer and n; SAM is asked as in the library, if `taught` is."""

    def terms(method: Any, batch: Batch, step: int) -> dict[str, Tensor]:
        z = getattr(method.method, taught)(batch.x)
        torch.manual_seed(step)
        labeled, unlabeled = method.ask_teacher(batch, z)
        z_s = torch.cat([labeled.detach(), unlabeled])
        return {"distillation": made(method.config, z, z_s, batch.n_labeled)}

    return terms


def _right(c: Any, z: Tensor, z_s: Tensor, n: int) -> Tensor:
    return c.distillation_weight * distillation_loss(z, z_s, c.temperature)


def _sam_term(method: Any, batch: Batch, step: int) -> Tensor:
    torch.manual_seed(step)
    labeled, _ = method.ask_teacher(batch, method.method.learner(batch.x))
    return supervised_loss(labeled, batch.y[: batch.n_labeled])


class _NoMoment(SamDistillation):
    def after_step(self, step: int) -> None:
        pass


class _OnlyInner(SamDistillation):
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.method.optimizers()


class _OnlySam(SamDistillation):
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.teacher_optimizers()


class _OwnOptimizer(SamDistillation):
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [*self.method.optimizers(), torch.optim.AdamW(self.teacher.parameters())]


PLUG = Exercise(
    "12.2",
    "SKD for every method",
    _plug_probe,
    (
        Property(
            "interface",
            'the inner terms, "sam/supervised" and "distillation", single numbers',
            lambda k: all(
                sorted(one.terms) == ["distillation", "flat", "own", "sam/supervised"]
                and all(t.shape == () for t in one.terms.values())
                for one in _plugs(k)
            ),
        ),
        Property(
            "inner", "the inner method's terms are as they were, at this step", _plug_same("own", "flat")
        ),
        Property(
            "sam",
            "SAM's own term: its answer and the labels of the labelled half",
            _plug_same("sam/supervised"),
        ),
        Property(
            "value",
            "the distillation on all images, with weight and temperature of the configuration",
            _plug_same("distillation"),
        ),
        Property("gradient", "the distillation teaches the inner net, SAM's own term SAM", _plug_reach),
        Property(
            "optimizers",
            "the inner method's first, then SAM's, both as the methods give them",
            _plug_optimizers,
        ),
        Property(
            "after_step",
            "the inner method is told of every step",
            lambda k: _Plugged(k).moments() == [0, 1, 7],
        ),
    ),
    (
        Mistake(
            "after_step forgotten",
            "the inner method is not told of the steps: a moving average in it would stand still.",
            "hint 5: hand the step on.",
            _NoMoment,
        ),
        Mistake(
            "SAM has no optimizer",
            "only the inner method's optimizers are returned: SAM's adapters and prompts never learn.",
            "hint 4: two lists make one.",
            _OnlyInner,
        ),
        Mistake(
            "only SAM has an optimizer",
            "the inner method's optimizers are missing: the network that counts never learns.",
            "hint 4: two lists make one.",
            _OnlySam,
        ),
        Mistake(
            "an optimizer of one's own",
            "an optimizer was made anew, with other settings than the method's or the configuration's.",
            "hint 4: ask self.method and self.teacher_optimizers() for theirs.",
            _OwnOptimizer,
        ),
        Mistake(
            "inner terms lost",
            "the inner method's own terms are gone; only SAM teaches.",
            "hint 3: the inner terms go into the same dictionary.",
            _skd(own=False),
        ),
        Mistake(
            "SAM learns nothing",
            "SAM's own term is missing: it stays as it was pretrained, and its prompts as they began.",
            "hint 3: CE + Dice of `labeled` with the labels.",
            _skd(sam=False),
        ),
        Mistake(
            "unlabelled half only",
            "the distillation runs over the unlabelled images alone; it is meant for all of them.",
            "hint 2: SAM's answer for the whole batch.",
            _skd(_distilled(lambda c, z, z_s, n: _right(c, z[n:], z_s[n:], n))),
        ),
        Mistake(
            "weight not used",
            "the distillation has weight 1, whatever the configuration says.",
            "the text: self.config.distillation_weight.",
            _skd(_distilled(lambda c, z, z_s, n: distillation_loss(z, z_s, c.temperature))),
        ),
        Mistake(
            "temperature not used",
            "the distillation has its default temperature, whatever the configuration says.",
            "the text: self.config.temperature is the third argument.",
            _skd(_distilled(lambda c, z, z_s, n: c.distillation_weight * distillation_loss(z, z_s))),
        ),
        Mistake(
            "teacher and learner exchanged",
            "SAM stands where the learner belongs: the second argument gets no gradient, so nobody learns.",
            "hint 2: the learner is the first argument.",
            _skd(_distilled(lambda c, z, z_s, n: _right(c, z_s, z, n))),
        ),
        Mistake(
            "halves exchanged",
            "SAM's answers were joined in the wrong order: each image is taught the answer to another one.",
            "hint 2: in the batch the labelled images come first.",
            _skd(_distilled(lambda c, z, z_s, n: _right(c, z, torch.cat([z_s[n:], z_s[:n]]), n))),
        ),
        Mistake(
            "the average taught",
            "predict was taken for the learner: here a moving average predicts, which no gradient reaches.",
            "hint 1: `learner` is the map of the nets that learn.",
            _skd(_distilled(_right, "predict")),
        ),
        Mistake(
            "the learner detached",
            "z was detached before the distillation: there it is the learner, and now learns nothing.",
            "hint 1: z is prompt and learner; ask_teacher detaches the prompt itself.",
            _skd(_distilled(lambda c, z, z_s, n: _right(c, z.detach(), z_s, n))),
        ),
        Mistake(
            "SAM detached",
            "SAM's own term was given a detached answer: SAM learns nothing from the labels.",
            "hint 3: `labeled` with its graph; it is detached for the distillation alone.",
            _skd(lambda m, batch, at: {"sam/supervised": _sam_term(m, batch, at).detach()}),
        ),
        Mistake(
            "the prompt in SAM's place",
            "SAM's own term was given the method's own map, so the labels teach the method, not SAM.",
            "hint 3: `labeled` is SAM's answer.",
            _skd(
                lambda m, batch, at: {
                    "sam/supervised": supervised_loss(
                        m.method.learner(batch.x)[: batch.n_labeled], batch.y[: batch.n_labeled]
                    )
                }
            ),
        ),
        Mistake(
            "always the first step",
            "the inner method was asked for step 0: its ramps and phases never move.",
            "hint 3: hand `step` on.",
            _skd(step=0),
        ),
    ),
    SamDistillation,
)
