"""What the answers of chapter 12 do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.hidden.shared import random
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Batch
from knowsam_lite.methods import Method
from knowsam_lite.methods.with_sam import NoTeacher
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.teacher import TeacherOutput


class Averaged(Method):
    """A method to wrap with SAM: an average, two optimizers, and a memory of its steps."""

    name = "averaged"

    def __init__(self, config: Config, classes: int):
        super().__init__(config, classes)
        torch.manual_seed(classes)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))
        self.seen: list[float] = []

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        yield {"mine": (step + 2) * self.net(batch.x).abs().mean()}

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.net[0], self.net[2])]

    def after_step(self, step: int) -> None:
        self.seen.append(float(step))


class EchoSam(NoTeacher):
    """A stand-in for SAM: a convolution of image and prompt."""

    def __init__(self, classes: int):
        super().__init__(backbone_named("sam_mini"))
        torch.manual_seed(classes + 1)
        self.parts = nn.ModuleList([nn.Conv2d(3 + classes, classes, 3, padding=1)])

    def learning_parts(self) -> dict[str, nn.ModuleList]:
        return {"adapters": self.parts}

    def forward(self, x: Tensor, z_f: Tensor) -> TeacherOutput:
        logits = 2 * self.parts[0](torch.cat([x, z_f.detach()], dim=1))
        return TeacherOutput(logits, logits, logits, logits)


def half_labeled(classes: int, labeled: int, unlabeled: int) -> Batch:
    n = labeled + unlabeled
    y = random(n, classes, 8, 12, seed=5).argmax(dim=1)
    y[labeled:] = -1
    return Batch(random(n, 3, 8, 12, seed=6).sigmoid(), y, labeled, [""] * n)


def term_by_term(terms: dict[str, Tensor], *modules: nn.Module) -> Iterator[Tensor]:
    """Each term, and its gradient at the parameters of the modules."""
    weights = [p for module in modules for p in module.parameters()]
    for name in sorted(terms):
        yield terms[name].detach()
        if terms[name].requires_grad:
            found = torch.autograd.grad(terms[name], weights, allow_unused=True, retain_graph=True)
            yield from (torch.zeros(()) if g is None else g for g in found)


def mirror(f: Callable[..., Method]) -> Iterator[Tensor]:
    for classes, labeled, unlabeled, step, steps in ((2, 1, 3, 0, 5), (3, 2, 1, 7, 9), (5, 2, 2, 20, 40)):
        torch.manual_seed(classes)
        net = nn.Sequential(nn.Conv2d(3, 5, (3, 5), padding=(1, 2)), nn.ELU(), nn.Conv2d(5, classes, 1))
        method, batch = (
            f(Config(image_size=16, steps=steps), classes, net),
            half_labeled(classes, labeled, unlabeled),
        )
        yield from term_by_term(method.losses(batch, step), net)
        yield method.predict(batch.x)


def sam_distillation(f: Callable[..., Method]) -> Iterator[Tensor]:
    for classes, labeled, unlabeled, step in ((2, 2, 1, 0), (4, 1, 3, 5)):
        config = Config(image_size=16, steps=9, temperature=float(classes), distillation_weight=0.2 * classes)
        inner, sam = Averaged(config, classes), EchoSam(classes)
        method = f(inner, sam)
        torch.manual_seed(step)
        yield from term_by_term(
            method.losses(half_labeled(classes, labeled, unlabeled), step), inner.net, sam
        )
        for optimizer in method.optimizers():
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            yield torch.tensor([id(p) in held for p in (*inner.parameters(), *sam.parameters())])
        method.after_step(4)
        method.after_step(6)
        yield torch.tensor(inner.seen)


def paste(f: Callable[..., tuple[Tensor, ...]]) -> Iterator[Tensor]:
    for labeled, unlabeled in ((4, 3), (1, 2), (3, 7)):
        x_l, x_u = random(labeled, 3, 6, 4, seed=1), random(unlabeled, 3, 6, 4, seed=2)
        y_l, y_u = random(labeled, 4, 6, 4, seed=3).argmax(1), random(unlabeled, 4, 6, 4, seed=4).argmax(1)
        inside = random(6, 4, seed=labeled) > 0
        yield from (made.clone() for made in f(x_l, y_l, x_u, y_u, inside))
        yield x_l + x_u.sum()


def largest_components(f: Callable[[Tensor, int], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 4):
        for seed in range(4):
            coarse = random(3, classes, 7, 8, seed=seed)
            smooth = torch.nn.functional.interpolate(coarse, (20, 15), mode="bilinear")
            yield f(smooth.argmax(dim=1), classes).clone()
    yield f(torch.zeros(2, 4, 4, dtype=torch.int64), 3).clone()


def score_volumes(f: Callable[..., dict[str, tuple[float, float]]]) -> Iterator[Tensor]:
    for seed, counts in enumerate(((3, 11), (13, 2, 5))):
        records, found, truth = [], [], []
        for k, count in enumerate(counts):
            coarse = random(2, 1, 2, 3, 3, seed=10 * seed + k)
            whole = torch.nn.functional.interpolate(coarse, (count, 8, 7), mode="trilinear")[:, 0].numpy()
            for i in range(count):
                of: dict[str, Any] = {"index": i, "volume": f"v{k}", "spacing_mm": (5.0 + k, 1.0, 2.5)}
                records.append(Record(f"{k} {i}", Path("f"), None, f"p{k}", "val", **of))
                found.append(whole[0, i] > 0.3)
                truth.append(whole[1, i] > 0)
        turns = random(len(records), seed=seed).argsort().tolist()
        made = f(*([part[i] for i in turns] for part in (records, found, truth)))
        yield torch.tensor([list(map(float, made[name])) for name in sorted(made)])


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "12.1": mirror,
    "12.2": sam_distillation,
    "12.3": paste,
    "12.4": largest_components,
    "12.5": score_volumes,
}
