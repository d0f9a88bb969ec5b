"""The results of each kind of parity case, computed from its description with weights filled by name."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import UNKNOWN, cross_entropy
from knowsam_lite.official import losses
from knowsam_lite.official.deterministic_weights import fill, make_input, trace_batch
from knowsam_lite.official.keys import to_official
from knowsam_lite.official.method import OfficialKnowSAM
from knowsam_lite.official.rounding import move_weights
from knowsam_lite.official.students import OfficialStudents
from knowsam_lite.official.teacher import OfficialTeacher, compute_padding

Case = dict[str, Any]
Results = dict[str, Any]

_OF_ONE_NET: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "dice_loss": losses.official_dice_loss,
    "entropy_loss": lambda z, y: losses.entropy_loss(z),
}


def read_input(spec: dict[str, Any]) -> Tensor:
    """The tensor for a seed, shape and dist; `scale` is a factor, `floor` makes class indices."""
    x = torch.from_numpy(make_input(spec["seed"], tuple(spec["shape"]), spec["dist"]))
    x = x * spec.get("scale", 1)
    return x.floor().long() if spec.get("floor") else x


def losses_case(case: Case) -> Results:
    """Every named value of `expected`, from the given logits and labels."""
    given = {name: read_input(spec) for name, spec in case["inputs"].items()}
    fused = given[case["fused_logits"]]
    n = case["labelled"]
    cells = {"labelled": fused[:n], "unlabelled": fused[n:]}
    results: Results = {}
    for name in case["expected"]:
        if match := re.fullmatch(r"ugda_cells_(labelled|unlabelled)", name):
            results[name] = losses.certain_cells(cells[match[1]]).tolist()
        elif match := re.fullmatch(r"consistency_(a_from_b|b_from_a)", name):
            learner, other = match[1].split("_from_")
            loss = losses.consistency_a_from_b if learner == "a" else losses.consistency_b_from_a
            results[name] = float(loss(given[f"logits_{learner}"], given[f"logits_{other}"]))
        elif match := re.fullmatch(r"distillation_(\w+)_from_(\w+)", name):
            results[name] = float(
                losses.distillation_loss(given[f"logits_{match[1]}"], given[f"logits_{match[2]}"])
            )
        elif match := re.fullmatch(r"(cross_entropy|dice_loss|entropy_loss)_(\w+)", name):
            results[name] = float(_OF_ONE_NET[match[1]](given[f"logits_{match[2]}"], given["labels"]))
        else:
            raise ValueError(f"found the unknown value {name!r} in expected")
    return results


def _filled(module: nn.Module, case: Case) -> nn.Module:
    fill(module)
    return module.train(case.get("mode") == "train")


@torch.no_grad()
def students_forward(case: Case) -> Results:
    """The logits of both subnets and the fused map."""
    z = _filled(OfficialStudents(case["num_classes"]), case)(read_input(case["input"]))
    return {name: tensor.numpy() for name, tensor in z._asdict().items()}


@torch.no_grad()
def teacher_forward(case: Case) -> Results:
    """SAM's embedding (N, D, g, g), prompt tokens (N, C, 2, D) and logits (N, C, 4g, 4g) and full size."""
    teacher = _filled(OfficialTeacher(case["num_classes"], case["image_size"]), case)
    out = teacher(read_input(case["input"]), read_input(case["fused_logits"]))
    found = {
        "embedding": out.embedding,
        "prompt_tokens": out.tokens,
        "low_res_logits": out.low_res,
        "logits": out.logits,
    }
    return {name: tensor.numpy() for name, tensor in found.items()}


def training_trace(case: Case, moved: int | None = None) -> Results:
    """The losses of each optimizer step, the norms of the first gradients and of the total weight updates.

    `moved`: a seed to move every weight a little before the first step, see `official.rounding`.
    """
    if case["batch"] != "trace_batch":
        raise ValueError(f"found batch {case['batch']!r}, expected 'trace_batch'")
    images, labels = trace_batch(case["num_classes"])
    n = case["labelled"]
    y = torch.from_numpy(labels)
    y[n:] = UNKNOWN
    batch = Batch(torch.from_numpy(images), y, n, [])
    method = OfficialKnowSAM(
        case["num_classes"],
        case["image_size"],
        case["max_steps"],
        ugda_from=-1 if case["ugda"] else float("inf"),
    )
    compute_padding(method.teacher)
    parts = {"students": method.students, "sam": method.teacher}
    for part in parts.values():
        fill(part)
        if moved is not None:
            move_weights(part, moved)
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = case["dropout"]
    return trace(method.train(), parts, batch, case["first_step"], case["steps"])


def trace(
    method: OfficialKnowSAM, parts: dict[str, nn.Module], batch: Batch, first_step: int, steps: int
) -> Results:
    """Run `steps` optimizer steps of `method` on `batch`; `parts`: the modules whose norms are reported."""
    results: Results = {name: [] for name in ("sam_loss", "students_loss", "subnets_loss", "fusion_loss")}
    before = {part: _trainable(module) for part, module in parts.items()}
    optimizers = method.optimizers()
    for step in range(first_step, first_step + steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        terms: dict[str, Tensor] = {}
        for made in method.parts(batch, step):
            torch.stack(list(made.values())).sum().backward()
            terms |= made
        if step == first_step:
            for part, module in parts.items():
                results[f"{part}_gradient_norms_first_step"] = gradient_norms(module)
        for optimizer in optimizers:
            optimizer.step()
        method.after_step(step)
        values = {name: float(term.detach()) for name, term in terms.items()}
        results["sam_loss"].append(values["sam"])
        results["students_loss"].append(sum(values.values()) - values["sam"])
        results["subnets_loss"].append(values["subnet_a"] + values["subnet_b"])
        results["fusion_loss"].append(values["fusion"])
    for part, module in parts.items():
        after = _trainable(module)
        results[f"{part}_update_norms"] = {n: float((after[n] - before[part][n]).norm()) for n in after}
    return results


def _trainable(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters under their official names."""
    return {to_official(n): p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}


def gradient_norms(module: nn.Module) -> dict[str, float]:
    """L2 norm of the gradient of each trainable parameter, by official name; 0 where there is none."""
    return {
        to_official(n): 0.0 if p.grad is None else float(p.grad.norm())
        for n, p in module.named_parameters()
        if p.requires_grad
    }


KINDS: dict[str, Callable[[Case], Results]] = {
    "losses": losses_case,
    "students_forward": students_forward,
    "teacher_forward": teacher_forward,
    "training_trace": training_trace,
}


def compute(case: Case) -> Results:
    """The values that `case` requests. Raises ValueError for a kind that is not in KINDS."""
    kind = case.get("kind")
    if kind not in KINDS:
        raise ValueError(f"found kind {kind!r}, expected one of {', '.join(KINDS)}")
    return KINDS[kind](case)
