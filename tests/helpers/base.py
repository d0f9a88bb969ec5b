"""What every method must do; a method's own test file says only what is peculiar to it."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.methods import Method
from knowsam_lite.sam import SamTeacher, VitBackbone

TINY_SAM = VitBackbone(
    embed_dim=16,
    depth=2,
    num_heads=2,
    global_blocks=(0, 1),
    window_size=0,
    patch_size=8,
    prompt_dim=16,
    mlp_dim=32,
    pretrained_size=32,
)


def small_net(classes: int) -> torch.nn.Module:
    """A stand-in for a subnet: quick, with BatchNorm, random enough to learn."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, classes, 3, padding=1),
    )


def tiny_teacher(classes: int, size: int = 32) -> SamTeacher:
    """A SAM with random weights that costs milliseconds."""
    torch.manual_seed(5)
    return SamTeacher(TINY_SAM, classes, size)


def two_stream_batch(
    classes: int, labeled: int = 2, unlabeled: int = 3, size: int = 32, seed: int = 0
) -> Batch:
    """Colored squares, with extra views; the labels of the unlabelled images are unknown."""
    generator = torch.Generator().manual_seed(seed)
    n = labeled + unlabeled
    y = torch.zeros(n, size, size, dtype=torch.int64)
    for i in range(n):
        for c in range(1, classes):
            top, left = torch.randint(0, size // 2, (2,), generator=generator).tolist()
            y[i, top : top + size // 3, left : left + size // 3] = c
    colors = torch.rand(classes, 3, generator=generator)
    x = colors[y].permute(0, 3, 1, 2) + 0.05 * torch.rand(n, 3, size, size, generator=generator)
    y[labeled:] = -1
    x = x.clamp(0, 1)
    weak = x[labeled:]
    strong = (0.9 * weak + 0.05).clamp(0, 1)
    return Batch(x, y, labeled, [f"image_{i}" for i in range(n)], weak, strong)


def gradient_reach(method: Method, loss: torch.Tensor) -> set[str]:
    """The top-level parts of the method that a loss teaches, such as {"students.net_a", "teacher"}."""
    method.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    parts = {"students.net_a", "students.net_b", "students.ham", "teacher", "net"}
    return {
        part
        for part in parts
        for name, p in method.named_parameters()
        if name.startswith(part + ".") and p.grad is not None and p.grad.abs().sum() > 0
    }


def gradients(method: Method, parts: Iterable[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The gradient of every trained parameter after a backward for each part, in turn."""
    method.zero_grad(set_to_none=True)
    for part in parts:
        torch.stack(list(part.values())).sum().backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def check_parts(method: Method, batch: Batch, step: int, exact: bool = True) -> int:
    """The parts of a step have the terms and the gradients of its losses; returns how many there are.

    `exact`: to the bit, as long as no parameter has a gradient from more than two parts.
    """
    torch.manual_seed(2)
    terms = method.losses(batch, step)
    whole = gradients(method, [terms])
    torch.manual_seed(2)
    seen: list[dict[str, torch.Tensor]] = []
    in_parts = gradients(method, (seen.append(part) or part for part in method.parts(batch, step)))
    assert {name for part in seen for name in part} == set(terms)
    assert sum(len(part) for part in seen) == len(terms)
    assert whole.keys() == in_parts.keys()
    torch.testing.assert_close(in_parts, whole, **({"rtol": 0, "atol": 0} if exact else {}))
    return len(seen)


def check_method(build: Callable[[Config, int], Method], config: Config) -> None:
    """Losses finite and falling on one batch, prediction and state as the contract says, 2 and 4 classes."""
    for classes in (2, 4):
        torch.manual_seed(0)
        method = build(config, classes).train()
        batch = two_stream_batch(classes)
        optimizers = method.optimizers()
        totals = []
        for step in range(12):
            terms = method.losses(batch, config.steps // 2)
            assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
            total = torch.stack(list(terms.values())).sum()
            total.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            method.after_step(step)
            totals.append(total.item())
        assert totals[-1] < totals[0]
        check_parts(method, batch, config.steps // 2)
        partly = replace(batch, y=batch.y.clone())
        partly.y[0], partly.y[1, :9] = -1, -1  # labelled images with pixels of no known class
        assert all(term.isfinite() for term in method.losses(partly, config.steps // 2).values())
        method.eval()
        with torch.inference_mode():
            z = method.predict(batch.x)
            views = method.views(batch.x)
        assert z.shape == (5, classes, 32, 32)
        torch.testing.assert_close(views[method.prediction_view], z)
        torch.manual_seed(1)
        other = build(config, classes).eval()
        state = {**other.state_dict(), **method.trained_state()}
        other.load_state_dict(state, strict=True)
        with torch.inference_mode():
            torch.testing.assert_close(other.predict(batch.x), z)
