"""Exercise 10.2, one step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from knowsam_lite.course.chapters.ch10.shared import Terms
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Step = Callable[[Terms, Sequence[Optimizer]], Terms]


def right_step(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    """The step as the training loop does it."""
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {name: term.detach() for name, term in terms.items()}


def _train(f: Step, steps: int = 4) -> tuple[list[nn.Parameter], list[Terms], list[int]]:
    """A student, whose last weight gets a gradient in the first step only, and a teacher, trained with f.

    Two terms share a part of their graph. Returns the parameters, what f returned in each step, and how
    often each step ran backward through the shared part.
    """
    student, idle, teacher = (nn.Parameter(noise(3, seed=seed)) for seed in (1, 2, 3))
    optimizers = [
        torch.optim.SGD([student, idle], 0.1, momentum=0.9, weight_decay=0.5),
        torch.optim.Adam([teacher], 0.05),
    ]
    told, visits = [], [0] * steps
    for step in range(steps):
        target = noise(3, seed=10 + step)
        shared = student.tanh()

        def visit(gradient: Tensor, step: int = step) -> None:
            visits[step] += 1

        shared.register_hook(visit)
        terms = {
            "student": (shared - target).square().mean(),
            "both": 0.3 * (shared - teacher.detach()).abs().sum(),
            "teacher": (teacher + target).square().sum(),
        }
        if step == 0:
            terms["once"] = (idle - target).square().sum()
        told.append(f(terms, optimizers))
    return [student, idle, teacher], told, visits


def _step_probe(f: Step) -> list[Tensor]:
    found = []
    for steps in (1, 4):
        parameters, told, visits = _train(f, steps)
        found += [p.detach() for p in parameters]
        found += [torch.tensor([p.grad is None for p in parameters])]
        found += [torch.as_tensor(term).detach() for terms in told for term in terms.values()]
        found += [torch.tensor([isinstance(t, Tensor) for t in terms.values()]) for terms in told]
        found += [
            torch.tensor([getattr(t, "requires_grad", False) for t in terms.values()]) for terms in told
        ]
        found += [torch.tensor(visits)]
    return found


def _graphless(terms: Terms) -> bool:
    return all(isinstance(term, Tensor) and not term.requires_grad for term in terms.values())


def _same_weights(f: Step, steps: int, which: slice) -> bool:
    return same([*_train(f, steps)[0][which]], [*_train(right_step, steps)[0][which]])


def _told(f: Step) -> bool:
    told, right = _train(f)[1], _train(right_step)[1]
    return all(
        list(a) == list(b) and _graphless(a) and same([*a.values()], [*b.values()])
        for a, b in zip(told, right, strict=True)
    )


def _step_with(reduce: Callable[[Tensor], Tensor], keep: bool = False) -> Step:
    """A step that reduces the terms to one number differently, or returns terms that keep their graph."""

    def step(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
        told = right_step({"total": reduce(torch.stack(list(terms.values())))}, optimizers)
        del told
        return dict(terms) if keep else {name: term.detach() for name, term in terms.items()}

    return step


def _first_only(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    return right_step(terms, optimizers[:1])


def _never_cleared(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def _cleared_first(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    return _never_cleared(terms, optimizers)


def _cleared_too_early(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
        optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def _one_by_one(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    for term in terms.values():
        term.backward(retain_graph=True)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {name: term.detach() for name, term in terms.items()}


def _as_numbers(terms: Terms, optimizers: Sequence[Optimizer]) -> dict[str, float]:
    return {name: term.item() for name, term in right_step(terms, optimizers).items()}


def _zeros(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    told = _never_cleared(terms, optimizers)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=False)
    return told


STEP = Exercise(
    "10.2",
    "one training step",
    _step_probe,
    (
        Property(
            "interface",
            "training_step(terms, optimizers) returns a dictionary with the names of the terms",
            lambda f: takes(f, 2) and [*_train(f, 1)[1][0]] == ["student", "both", "teacher", "once"],
        ),
        Property(
            "value",
            "after one step the student has moved as the sum of its terms asks",
            lambda f: _same_weights(f, 1, slice(0, 2)),
        ),
        Property(
            "everyone",
            "the teacher, which has an optimizer of its own, has moved, too",
            lambda f: _same_weights(f, 1, slice(2, 3)),
        ),
        Property(
            "cleared",
            "after the step no parameter holds a gradient: .grad is None",
            lambda f: all(p.grad is None for p in _train(f, 1)[0]),
        ),
        Property(
            "idle",
            "a weight that no term reaches stays where it is, whatever its momentum",
            lambda f: same(_train(f, 4)[0][1], _train(f, 1)[0][1]),
        ),
        Property("once", "one backward for all terms", lambda f: _train(f, 2)[2] == [1, 1]),
        Property("four steps", "all weights after four steps", lambda f: _same_weights(f, 4, slice(0, 3))),
        Property("log", "the returned terms are tensors of the right value, without a graph", _told),
    ),
    (
        Mistake(
            "one optimizer",
            "only the first optimizer stepped, so SAM's adapters never learn.",
            "hint 2: a loop over all optimizers.",
            _first_only,
        ),
        Mistake(
            "mean of the terms",
            "the terms were averaged; their weights are set for the sum.",
            "hint 1: the equation is a sum.",
            _step_with(torch.mean),
        ),
        Mistake(
            "never cleared",
            "gradients are never cleared, so each step adds to those of all steps before.",
            "hint 3: zero_grad after the step.",
            _never_cleared,
        ),
        Mistake(
            "cleared only at the next step",
            "the weights are right, but the gradients stay in memory until the next step begins.",
            "hint 3: clear them after the step, not before.",
            _cleared_first,
        ),
        Mistake(
            "cleared before the step",
            "the gradients were cleared between backward and step: nothing moves.",
            "hint 2: the order is backward, step, zero_grad.",
            _cleared_too_early,
        ),
        Mistake(
            "zeros in place of None",
            "the gradients are zeros, not None: weights that nothing reaches go on moving.",
            "hint 3: set_to_none=True.",
            _zeros,
        ),
        Mistake(
            "terms keep their graph",
            "the returned terms still carry their graph, so the log keeps every step in memory.",
            "hint 4: detach what is only to be read.",
            _step_with(torch.sum, keep=True),
        ),
        Mistake(
            "numbers in place of tensors",
            "the returned terms are plain numbers: to read them, the CPU waits for the GPU in every step.",
            "hint 4: detach, and read them later.",
            _as_numbers,
        ),
        Mistake(
            "a backward for each term",
            "each term went back through the networks alone: the same gradients for several times the work.",
            "hint 2: one backward, of the sum.",
            _one_by_one,
        ),
        Mistake(
            "one term alone",
            "backward was called on one term only; the others teach nobody.",
            "hint 1: the sum of all terms.",
            _step_with(lambda terms: terms[-1]),
        ),
    ),
    right_step,
)
