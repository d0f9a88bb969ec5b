# %% [markdown]
# # 12 · Beyond
#
# {{badges}}
#
# The method is built, trained and judged. What is it good for elsewhere? In this chapter you leave it
# in four directions: you write a method of your own that the library's loop trains like any other; you plug
# SAM into methods that have never heard of it; you take one rival apart; and you go to data of your own,
# pictures of mixed sizes and volumes in millimetres.
#
# | | |
# |---|---|
# | **You will** | write a method against the contract; plug SKD into any method and measure whom it reaches; paste as BCP does and clean its pseudo-labels; find the faults of a folder, train on it and predict new pictures; score volumes in mm |
# | **You need** | PyTorch modules and optimizers; pseudo-labels, the ramp and Mean Teacher (chapter 04), distillation (chapter 08), the paired bootstrap (chapter 10) |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: two to four minutes of computing, most of it in one table |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
import importlib.util
import inspect
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from knowsam_lite import (
    METHODS,
    Config,
    Method,
    Predictor,
    Record,
    SegmentationFolder,
    Synthetic,
    UNet,
    figures,
    fit,
)
from knowsam_lite.course.chapters.ch00.e4_who_learns import learners
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.sampler import Batch, StepBatches, load_case
from knowsam_lite.evaluation import at_native_size, case_dice, score_split, unit_of
from knowsam_lite.losses import UNKNOWN, distillation_loss, supervised_loss
from knowsam_lite.methods import bcp
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.distillation import with_distillation
from knowsam_lite.methods.with_sam import WithSam
from knowsam_lite.metrics import dice, hd95, paired_bootstrap
from knowsam_lite.sam import SamTeacher

# %% [markdown]
# Lit below is the part of the map that travels: SAM with its prompts, and SKD. What stood to the left of it,
# two subnets and HAM, is today replaced by whatever predicts.

# %%
drawn = show(
    figures.pipeline,
    lit="SAM, LPS, SKD",
    alt="Map of KnowSAM with SAM, LPS and SKD highlighted; images, U-Net, V-Net, HAM and UGDA are not.",
)

# %% [markdown]
# ## Why
#
# A semi-supervised method is an idea about unlabelled images, and there are many. They are worth comparing
# only if everything else is equal: networks, data, loop, test. That needs a contract between a method and its
# loop. Here are the methods that the library trains without a SAM, and the parts of the contract that each
# had to write itself:

# %% tags=["compare"]
CONTRACT = ("parts", "predict", "optimizers", "after_step", "views")
plain = [name for name, kind in METHODS.items() if f"{name}+skd" in METHODS]
for name in plain:
    own = [part for part in CONTRACT if getattr(METHODS[name], part) is not getattr(Method, part)]
    print(f"{name:<16} {', '.join(own)}")
print(f"{len(plain)} methods, and each once more as NAME+skd: {len(METHODS)} names in all")

# %% [markdown]
# Everybody writes what is learned and what is predicted, some need an optimizer of their own or a moment
# after each step, and that is all. The last line says more: one class of some forty lines gives *every* one of
# them a SAM. You will write both, a method and that class.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $L = \sum_i L_i$ | what a method returns: its terms, already weighted | `parts(batch, step)` | dictionaries |
# | $w(t) = e^{-5 (1 - t / t_{max})^2}$ | the ramp, chapter 04 | `ramp(self.progress(step))` | a number |
# | $z = F(x)$ | the method's own prediction | `predict(x)` | (N, C, H, W) |
# | $z_s$ | SAM's answer, prompted with $z$ | `ask_teacher(batch, z)` | (n, C, H, W) labelled, (N − n, C, H, W) unlabelled |
# | $L_{SKD} = T^2\, \overline{\mathrm{KL}(\mathrm{softmax}(z_s / T) \Vert \mathrm{softmax}(z / T))}$ | distillation, chapter 08 | `distillation_loss(z, z_s, T)` | a number |
# | $M$ | BCP's rectangle, 1 inside | `inside` | (H, W), bool |
# | $\tilde x_l = M \odot x_u + (1 - M) \odot x_l$ | pasted, and the reverse for $\tilde x_u$ | `paste(...)` | (N, 3, H, W) |
# | Dice, HD95 | chapter 01, on a whole volume | `score_volumes(...)` | two numbers |
#
# ## Data for today
#
# 160 synthetic skin lesions of 64 pixels, 8 of the training images labelled, the same as in chapter 10. And
# narrow networks, so that a CPU gets through the chapter.

# %% tags=["compare"]
NARROW = (8, 16, 32, 64)
dataset = Synthetic("dermoscopy", seed=1, n=160, size=64)
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))


def narrow_net(classes: int = 2) -> UNet:
    """A U-Net with half the channels and one resolution less."""
    return UNet(classes, NARROW, dropout=(0, 0, 0.1, 0.1))


def batches_of(seed: int = 0, half: int = 4) -> StepBatches:
    """Steps of as many labelled as unlabelled images."""
    return StepBatches(dataset, labeled, seed=seed, batch_labeled=half, batch_unlabeled=half, size=64)


batch = batches_of()[0]
print("images", tuple(batch.x.shape), " labelled", batch.n_labeled, end="   ")
print("labels of the unlabelled half:", batch.y[batch.n_labeled :].unique().tolist())

# %% [markdown]
# ## Step 1: a method of your own
#
# **Idea.** `Method` is an `nn.Module` with two holes. `parts(batch, step)` gets the images of one step, the
# labelled ones first, and *yields* terms by name, each already multiplied by its weight. The loop goes
# backward after each part, most methods yield one, and `losses(batch, step)` is all of them. `predict(x)` says
# what is tested. The loop lets the optimizers step, calls `after_step(step)`, and never asks which method it
# runs. Nor does a method ask how long the run is: it asks for its *progress*, from 0 to 1. `views(x)` names
# every map worth scoring; by default the prediction alone, as `prediction_view`.
#
# **Smallest example.** A single 1×1 convolution that learns from labels. Two methods of two lines, and it
# can be trained, saved, resumed, scored and compared:


# %% tags=["compare"]
class OnePixel(Method):
    """Looks at one pixel at a time, and learns from labels alone."""

    name = "one_pixel"
    uses_unlabeled = False

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.net = nn.Conv2d(3, num_classes, 1)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n = batch.n_labeled
        yield {"supervised": supervised_loss(self.net(batch.x[:n]), batch.y[:n])}

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)


tiny = OnePixel(Config(steps=200), 2)
print("terms", list(tiny.losses(batch, 0)), " progress at step 50 of 200:", tiny.progress(50))
print("optimizers, by default:", [type(optimizer).__name__ for optimizer in tiny.optimizers()])

# %% [markdown]
# ### Exercise 12.1: a mirror
#
# Difficulty 2 of 5 · importance 5 of 5 · 12 minutes
#
# Chapter 04 asked a finished network about each image and its mirror image. Now the same question becomes a
# loss. Write `parts` and `predict` of
# `Mirror`. One part with two terms: `"supervised"`, cross-entropy and Dice on the labelled half with weight 1, and
# `"consistency"`: on the unlabelled half the mean squared error between the probabilities for the image
# and those for its mirror image, *mirrored back*. The latter are the target and get no gradient; the
# term's weight is the ramp $w(t)$.
#
# As in exercise 04.5 the network sees the *whole* batch in one call: one call with the images, one with their
# mirror images; then compare the unlabelled halves. BatchNorm takes mean and variance over one call, and so
# normalises answer and target alike.
#
# <details><summary>Hint</summary>
#
# 1. `z = self.net(batch.x)`; its first `batch.n_labeled` answers are to labelled images, the rest are not.
#    `supervised_loss(logits, labels)` is imported; the labels of the second half are −1 and of no use.
# 2. `x.flip(-1)` mirrors left and right, and is its own inverse. Mirror the batch, ask the network, mirror
#    the answer. Otherwise you compare a lesion on the left with one on the right.
# 3. Compare probabilities, `softmax(dim=1)`, not logits. The target belongs under `torch.no_grad()`, or
#    `detach` it.
# 4. `F.mse_loss(p, target)` takes the mean. Its weight is `ramp(self.progress(step))`: the fraction of
#    the run, not the number of the step.
#
# </details>
#
# $$L = L_{sup}(F(x_l), y) + w(t)\, \overline{\big(\, p(x_u) - \mathrm{sg}\big[\, p(x_u^{\leftrightarrow})^{\leftrightarrow}\big] \big)^2}$$


# %% tags=["exercise"]
# blank: Mirror.parts
# blank: Mirror.predict
class Mirror(Method):
    """CE + Dice on labels; on unlabelled images agreement with the mirrored answer to the mirrored image."""

    name = "mirror"
    prediction_view = "U-Net"

    def __init__(self, config: Config, num_classes: int, net: nn.Module | None = None):
        super().__init__(config, num_classes)
        self.net = UNet(num_classes) if net is None else net

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        """Yield the weighted terms "supervised" and "consistency" in one part."""
        n, z = batch.n_labeled, self.net(batch.x)
        with torch.no_grad():
            mirrored = self.net(batch.x.flip(-1)).flip(-1)
        distance = F.mse_loss(z[n:].softmax(dim=1), mirrored[n:].softmax(dim=1))
        yield {
            "supervised": supervised_loss(z[:n], batch.y[:n]),
            "consistency": ramp(self.progress(step)) * distance,
        }

    def predict(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, C, H, W)."""
        return self.net(x)


# %%
check("12.1", Mirror)

# %% [markdown]
# **Look.** Your class goes into the registry under its name, and from then on it is one of the methods: the
# loop trains it, a checkpoint holds it, and `with_distillation` gives it a SAM. (While yours is unfinished,
# the library's Mean Teacher stands in for it.)

# %%
folder = Path(tempfile.mkdtemp())
mine = Mirror if check.results["12.1"] == "done" else METHODS["mean_teacher"]
METHODS[mine.name] = mine
METHODS[f"{mine.name}+skd"] = with_distillation(mine)
short = Config(
    method=mine.name,
    image_size=32,
    labeled="8",
    steps=budget(smoke=1, ci=4, laptop=10, gpu=100),
    out=folder / "mine",
    val_every=1000,
    device="cpu",
)
trained = fit(Synthetic("dermoscopy", seed=1, n=160, size=32), short, progress=False)
print(f"{trained.name}: {short.steps} steps; the run folder holds", end=" ")
print(", ".join(sorted(path.name for path in short.out.iterdir())))

# %% [markdown]
# A handful of steps teaches nothing, but every wire holds. Try that first with a new method.
#
# ## Step 2: plug SAM in
#
# **Idea.** In KnowSAM the students' fused map prompts SAM, and its answer is distilled into both subnets.
# Nothing in this needs two subnets. *Any* method has nets that learn; their map, `method.learner(x)`, can be prompt
# and learner. (`predict` may be a moving average, as in `fixmatch`, which no gradient
# reaches.) So SKD becomes a method around a method: the inner one keeps its terms, its optimizers and its
# moment after the step; the outer one adds two terms and SAM's optimizer.
#
# What SAM is asked and what it learns from is settled once for all methods, in `WithSam.ask_teacher(batch,
# z)`. It returns SAM's logits of the labelled half, *with* a graph, since SAM learns from labels, and those
# of the unlabelled half, without. The prompt gets no gradient in either; `ask_teacher` sees to that itself.
#
# **Smallest example.** A wrapper that adds one term of its own to the 1×1 method, and forwards nothing else:


# %% tags=["compare"]
class Decided(Method):
    """A method + the wish for large logits: a wrapper in its barest form."""

    name = "decided"

    def __init__(self, method: Method):
        super().__init__(method.config, method.num_classes)
        self.method = method

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        yield {**self.method.losses(batch, step), "timid": -0.01 * self.method.predict(batch.x).abs().mean()}


outer = Decided(tiny)
print("terms", list(outer.losses(batch, 0)))
for part in ("optimizers", "after_step"):
    forwarded = getattr(type(outer), part) is not getattr(Method, part)
    print(
        f"{part:<12} {'forwarded' if forwarded else 'the default of Method, whatever the inner method wants'}"
    )

# %% [markdown]
# The last two lines are the trap. With a default `after_step` a moving average inside would never move, and
# nothing would complain.
#
# ### Exercise 12.2: SKD for every method
#
# Difficulty 3 of 5 · importance 5 of 5 · 15 minutes
#
# Write `parts`, `optimizers` and `after_step` of `SamDistillation`. `parts` yields the inner method's terms,
# untouched, and two more: `"sam/supervised"`, CE + Dice of SAM's answer on the labelled half, and
# `"distillation"`, $\lambda_{SKD}\, L_{SKD}$ on *all* images. $\lambda_{SKD}$ and $T$ are in the
# configuration: `self.config.distillation_weight` and `self.config.temperature`. `optimizers` returns the inner
# method's, then SAM's, which `self.teacher_optimizers()` makes.
#
# <details><summary>Hint</summary>
#
# 1. `z = self.method.learner(batch.x)` is both the prompt and what learns. Then
#    `labeled, unlabeled = self.ask_teacher(batch, z)`.
# 2. `torch.cat([labeled.detach(), unlabeled])` is SAM's answer for the whole batch, in the batch's order. The
#    first argument of `distillation_loss` is the learner, the second is the teacher.
# 3. `{**self.method.losses(batch, step), "...": ...}` keeps the inner terms. SAM's own term has the labels
#    `batch.y[: batch.n_labeled]`.
# 4. `self.method.optimizers()` and `self.teacher_optimizers()` are lists, too: two lists make one.
# 5. `after_step` hands the step on to the inner method. Without it a moving average stands still.
#
# </details>
#
# $$L = L_{method} + L_{sup}(z_{s,l}, y) + \lambda_{SKD}\, L_{SKD}\big(z, \mathrm{sg}(z_s)\big), \qquad z_s = \mathrm{SAM}(x;\ \psi, \mathrm{sg}(z))$$


# %% tags=["exercise"]
# library: knowsam_lite.methods.distillation.SamDistillation
# blank: SamDistillation.parts
# blank: SamDistillation.optimizers
# blank: SamDistillation.after_step

# %%
check("12.2", SamDistillation)

# %% [markdown]
# **Look: who learns from whom.** We plug SAM into five methods of the registry and ask with `learners` of
# exercise 00.4 which part of the inner method, or SAM, learns from the distillation, from SAM's own term, and
# from the method's terms, late in a run.

# %% tags=["compare"]
two_and_two = StepBatches(dataset, labeled, seed=0, batch_labeled=2, batch_unlabeled=2, size=32)[0]
PARTS = {
    "mean_teacher+skd": ("net", "teacher"),
    "bcp+skd": ("net", "average"),
    "mcf+skd": ("net_a", "net_b"),
    "cdma+skd": ("net.encoder", "net.decoders.0", "net.decoders.1", "net.decoders.2"),
    "mc+skd": ("students.net_a", "students.net_b", "students.ham"),
}
for name, names in PARTS.items():
    torch.manual_seed(0)
    method = METHODS[name](Config(image_size=32, steps=100), 2).train()
    parts = {part: method.method.get_submodule(part) for part in names} | {"SAM": method.teacher}
    terms = method.losses(two_and_two, step=90)
    inner = torch.stack([term for k, term in terms.items() if k not in ("distillation", "sam/supervised")])
    print(f"{name}, parts {', '.join(parts)}")
    for what, term in {**terms, "own terms": inner.sum()}.items():
        if what in ("distillation", "sam/supervised", "own terms"):
            taught = learners(term, parts)
            print(f"    {what:<15} teaches {', '.join(part for part in parts if part in taught)}")

# %% [markdown]
# Read it in three ways. SAM's own term teaches SAM alone, and no other term reaches it. The moving averages,
# `teacher` and `average`, get a gradient from nothing; they follow in `after_step`. And the distillation
# teaches what *predicts*: of `cdma` the encoder and the one decoder that is tested, not its two siblings,
# although they learn from the method's own terms; of `mc` the pair and HAM, since its prediction is the fused
# map. There is the difference from KnowSAM, which distils into each subnet, and not into HAM.
#
# ## Step 3: a rival understood
#
# **Idea.** BCP, *bidirectional copy-paste*, is one page of code and hard to beat. Labelled and unlabelled
# images train apart in most methods, so a network may treat them as two worlds. BCP makes each image a bit
# of both: one large rectangle, two thirds of each side, changes places between a labelled and an unlabelled
# image. Your `mix` of exercise 09.4 did this with small cells at chosen places. New is that one rectangle serves
# the whole batch, needing no uncertainty and no SAM, and that there are two target maps. Pseudo-labels come from
# a moving average of the network.
#
# **Smallest example.** A rectangle, and its area:

# %% tags=["compare"]
print(inspect.getsource(bcp.rectangle))
torch.manual_seed(3)
inside = bcp.rectangle(6, 9)
print("\n".join("".join("#" if cell else "." for cell in row) for row in inside.tolist()))
print(f"inside {inside.float().mean():.2f} of the image; any size, about {bcp.SIDE**2:.2f}")

# %% [markdown]
# Four ninths lie inside, five ninths outside: each half of the mixed batch is nearly balanced. The *targets*
# are kept apart, unlike in chapter 09. Every pixel has either a true label or a pseudo-label, and the two
# kinds go into two losses, because the second counts half:
#
# $$L = L_{sup}(F(\tilde x),\ \tilde y_{true}) + \tfrac12\, L_{sup}(F(\tilde x),\ \tilde y_{pseudo})$$
#
# A pixel that is of the other kind is −1, which both losses pass over. That is all that a *masked loss* is.
#
# ### Exercise 12.3: paste both ways
#
# Difficulty 3 of 5 · importance 4 of 5 · 12 minutes
#
# Write `paste(x_l, y_l, x_u, y_u, inside)`. Labelled image $i$ gets the inside of unlabelled image
# $i \bmod N_u$; unlabelled image $j$ gets the inside of labelled image $j \bmod N_l$. Return three tensors of
# $N_l + N_u$ images each, the labelled ones first: the images, the true labels (−1 where the pixel came from
# an unlabelled image) and the pseudo-labels (−1 where it came from a labelled one). What you were given stays as it is.
#
# <details><summary>Hint</summary>
#
# 1. `torch.where(inside, a, b)` takes `a` inside and `b` outside; `inside` (H, W) fits images (N, 3, H, W)
#    and labels (N, H, W) alike.
# 2. Partners: `x_u[torch.arange(len(x_l)) % len(x_u)]` has as many images as `x_l`, and so for `y_u`. The
#    other direction needs its own list.
# 3. Paste from the originals both times, not from what is pasted already.
# 4. `torch.full((), UNKNOWN)` is a −1 that `torch.where` accepts on either side. In the first half the true
#    labels survive *outside*, in the second half *inside*; the pseudo-labels just where they do not.
#
# </details>
#
# $$\tilde x_l = M \odot x_u + (1 - M) \odot x_l, \qquad \tilde x_u = M \odot x_l + (1 - M) \odot x_u$$


# %% tags=["exercise"]
# library: knowsam_lite.methods.bcp.paste
# blank: paste

# %%
check("12.3", paste)

# %% [markdown]
# **Look.** For pseudo-labels we need a network that knows a little: forty steps on the labelled images, a few
# seconds.

# %% tags=["training"]
torch.manual_seed(0)
student, plan = narrow_net(), batches_of()
optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
for step in range(budget(smoke=0, ci=40, laptop=40, gpu=40)):
    now = plan[step]
    supervised_loss(student(now.x[: now.n_labeled]), now.y[: now.n_labeled]).backward()
    optimizer.step()
    optimizer.zero_grad()
student.eval()

unlabeled = [record for record in dataset.split("train") if record.id not in labeled]
x_u = torch.stack([load_case(dataset, record, 64)[0] for record in unlabeled])
y_u = torch.stack([torch.from_numpy(dataset.mask(record).astype("int64")) for record in unlabeled])
with torch.no_grad():
    pseudo = student(x_u).argmax(dim=1)  # y_u is only there to score them


# %%
def shown(x: Tensor) -> Tensor:
    """An image (3, H, W) in [0, 1] as uint8 (H, W, 3)."""
    return (x.movedim(0, -1) * 255).byte()


torch.manual_seed(0)
x_l = torch.stack([load_case(dataset, r, 64)[0] for r in dataset.records if r.id in labeled[:2]])
y_l = torch.stack(
    [torch.from_numpy(dataset.mask(r).astype("int64")) for r in dataset.records if r.id in labeled[:2]]
)
fits = torch.tensor([dice(p == 1, t == 1) for p, t in zip(pseudo, y_u, strict=True)])
sure = [int(i) for i in fits.argsort(descending=True)[:2]]  # for a picture: where the student is best
mixed, true, guessed = bcp.paste(x_l, y_l, x_u[sure], pseudo[sure], bcp.rectangle(64, 64))
rows = [
    {
        "outside from": shown(outer_x),
        "inside from": shown(inner_x),
        "mixed": shown(mixed[i]),
        "true labels": true[i],
        "pseudo-labels": guessed[i],
    }
    for i, outer_x, inner_x in ((0, x_l[0], x_u[sure[0]]), (2, x_u[sure[0]], x_l[0]))
]
pasted = show(
    figures.panels,
    rows,
    names=("labels outside", "labels inside"),
    classes=("background", "lesion"),
    alt="Two rows: a labelled lesion with the inside of an unlabelled image, and the reverse. Beside the mixed images "
    "the true labels, unknown in the rectangle above and outside it below, and the pseudo-labels, unknown where the "
    "true ones are known.",
)

# %% [markdown]
# Above, the frame is labelled and the rectangle is not; below it is the other way round. Grey is unknown,
# black background, white the lesion; what is grey in one map is known in the other. Neither image could be used in one piece: the network
# cannot tell from the style of a picture whether it is asked for a truth or for an opinion.
#
# **Cleaning up.** BCP trusts a pseudo-label only if it is in one piece: of each class the largest connected
# component stays, everything else becomes background. (*Connected* means by an edge: up, down, left, right.)
# A heart has one left ventricle; a speck in the corner is no second one.
#
# ### Exercise 12.4: the largest component
#
# Difficulty 3 of 5 · importance 3 of 5 · 10 minutes
#
# Write `largest_components(labels, num_classes)`: class maps (N, H, W), int64, in; out a new tensor of them with
# only the largest component of each foreground class, each image and each class for itself. Of two that are
# equally large, keep the first in reading order. `labels` stays as it is.
#
# <details><summary>Hint</summary>
#
# 1. Two loops: over the images, and over the classes 1 to `num_classes` − 1. `labels.cpu().numpy()` gives
#    arrays, `torch.from_numpy(kept).to(labels.device)` goes back; `kept` starts as zeros of type `np.int64`.
# 2. `components, count = ndimage.label(image == c)` numbers the components 1, 2, ..., and 0 is what is not of
#    this class. A class that is absent has `count` 0: leave it out.
# 3. `np.bincount(components.ravel())` counts the pixels of each number. The first entry is the rest of the
#    image and nearly always the largest: drop it before `argmax`, and add 1 afterwards.
# 4. Write the class, `c`, where `components == largest`.
#
# </details>


# %% tags=["exercise"]
# library: knowsam_lite.methods.bcp.largest_components
# blank: largest_components

# %%
check("12.4", largest_components)

# %% [markdown]
# **Look.** What does it do to the pseudo-labels of our student?

# %%
cleaned = bcp.largest_components(pseudo, 2)
before = [dice(p == 1, t == 1) for p, t in zip(pseudo, y_u, strict=True)]
after = [dice(p == 1, t == 1) for p, t in zip(cleaned, y_u, strict=True)]
pieces = np.array([ndimage.label(p == 1)[1] for p in pseudo])
change = np.array(after) - np.array(before)
print(f"Dice of {len(before)} pseudo-labels: {np.mean(before):.2f}, cleaned {np.mean(after):.2f}")
print(f"in more than one piece: {(pieces > 1).sum()}", end="; ")
print(f"better for it {(change > 0.005).sum()}, worse {(change < -0.005).sum()}")

# %% [markdown]
# It helps where specks surround one lesion, and harms where the lesion itself was found in pieces, as a young
# network finds it; which of the two happens more often you see above. And it is an assumption about anatomy. Two
# kinds of images, and this time not a guess but the *truth* goes through the filter:

# %% tags=["compare"]
for kind, what in (("dermoscopy", "lesion"), ("histology", "glands")):
    images = Synthetic(kind, n=16, size=64)
    truth = torch.stack([torch.from_numpy(images.mask(record).astype("int64")) for record in images.records])
    left = bcp.largest_components(truth, 2)
    share = (left == 1).sum() / (truth == 1).sum()
    print(f"{kind:<11} of the pixels of all {what} {share:.0%} survive")

# %% [markdown]
# One line of a method, harmless for hearts, deletes most of the glands. This is why the library has the
# switch `Config.largest_component`. When you carry a method to new data, look for such lines first.
#
# ## Put together: does SAM help them?
#
# Now the table that this chapter has been heading for: Mean Teacher and BCP, each without and with SAM. Same
# start, same batches of two and two images, same steps; a seed decides start weights and batches. At the budget
# `laptop` it is 60 steps and two seeds; count on one to three minutes.

# %%
steps = budget(smoke=0, ci=4, laptop=60, gpu=300)
seeds = range(budget(smoke=1, ci=1, laptop=2, gpu=3))
test = dataset.split("test")


def narrowed(name: str, config: Config) -> Method:
    """A method of the registry with a narrow U-Net, and its moving average alike."""
    method = METHODS[name](config, 2)
    inner = getattr(method, "method", method)
    torch.manual_seed(config.seed)
    inner.net = narrow_net()
    follower = "teacher" if name.startswith("mean_teacher") else "average"
    setattr(inner, follower, copy.deepcopy(inner.net).requires_grad_(False))
    return method


def run(name: str, seed: int, **changes: float) -> tuple[Method, np.ndarray]:
    """Train a method; return it and the Dice of each test image."""
    config = replace(Config(steps=max(steps, 1), learning_rate=3e-3, seed=seed), **changes)
    method, plan = narrowed(name, config).train(), batches_of(seed, half=2)
    optimizers = method.optimizers()
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    for step in range(steps):
        torch.stack(list(method.losses(plan[step], step).values())).sum().backward()
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        method.after_step(step)
    scores = score_split(method, dataset, "test", 64, torch.device("cpu"), distances=False)
    return method.eval(), case_dice(scores[method.prediction_view])


# %% tags=["training"]
runs = {name: [run(name, seed) for seed in seeds] for name in ("mean_teacher", "mean_teacher+skd")}

# %% tags=["training"]
runs |= {name: [run(name, seed) for seed in seeds] for name in ("bcp", "bcp+skd")}
scores = {name: np.stack([found for _, found in made]) for name, made in runs.items()}  # (seeds, images)
print("                   test Dice, each seed     spread over images")
for name, found in scores.items():
    each = "  ".join(f"{mean:.2f}" for mean in found.mean(axis=1))
    print(f"{name:<18} {each:<24} {found.std(axis=1, ddof=1).mean():.2f}")
for name in ("mean_teacher", "bcp"):
    d = paired_bootstrap(scores[f"{name}+skd"], scores[name])
    print(f"{name}+skd minus {name}: {d['difference']:+.2f} [{d['low']:+.2f}, {d['high']:+.2f}]")

# %% [markdown]
# The executed solution of this chapter (60 steps, two seeds) prints two negative differences, and one of its
# seeds with SAM finds next to nothing. Your table may differ; a handful of steps says nothing at all. Would any
# such table be a verdict? In that one, seeds of one method lie as far apart as two methods, and from so few no
# interval can know how far seeds really scatter (chapter 11). A likely reason for the loss: distillation has no ramp. A SAM that is asked with an empty map answers "nothing", at full
# weight, and a short run may never leave that loop. Longer trainings are recorded in
# [the comparison](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/comparison/scratch/README.md): Kvasir-SEG,
# 15 labels, 400 steps, two seeds.
#
# | with SKD minus alone | difference in Dice |
# |---|---|
# | `mean_teacher` | +0.008 [−0.058, +0.068] |
# | `mc_net_plus` | +0.019 [−0.067, +0.103] |
# | `bcp` | −0.078 [−0.188, +0.027] |
# | `cps` | +0.026 [−0.045, +0.115] |
#
# Four ties. All that these tables allow is "not decided, and not in 60 steps with batches of two".


# %%
def sheet_rows(chosen: list[int]) -> list[dict]:
    """Test images with the masks of all four methods, seed 0; MT is Mean Teacher."""
    rows = []
    for i in chosen:
        x, truth = load_case(dataset, test[i], 64)
        with torch.no_grad():
            maps = {
                name.replace("mean_teacher", "MT").upper(): at_native_size(
                    made[0][0].predict(x[None])[0], truth.shape
                )
                for name, made in runs.items()
            }
        marks = {name: dice(mask == 1, truth == 1) for name, mask in maps.items()}
        rows.append(
            {
                "id": f"image {i}",
                "image": dataset.image(test[i]),
                "truth": truth,
                "maps": maps,
                "dice": marks,
            }
        )
    return rows


gain = (scores["bcp+skd"] - scores["bcp"])[0]
order = gain.argsort()
sheet = show(
    figures.prediction_sheet,
    sheet_rows([int(order[-1]), int(order[len(order) // 2]), int(order[0])]),
    of=dict.fromkeys(("MT", "MT+SKD", "BCP", "BCP+SKD"), "U-Net"),
    alt="Three test lesions with the truth and the masks of Mean Teacher and BCP, each without and with SAM: where "
    "BCP gained most from SAM, a middling case, and where it gained least.",
)

# %% [markdown]
# From top to bottom: the image on which BCP gained most from SAM, the middle one, and the one on which it gained
# least or lost most. Whoever picks one of the rows can tell any story, which is why one picture proves nothing.
#
# **Ablate one thing: the weight.** The distillation has weight 1 because KnowSAM's has. A tenth of it, for
# Mean Teacher and seed 0:

# %% tags=["training"]
_, lighter = run("mean_teacher+skd", 0, distillation_weight=0.1)
for name, found in (
    ("0, without SAM", scores["mean_teacher"][0]),
    ("0.1", lighter),
    ("1", scores["mean_teacher+skd"][0]),
):
    print(f"weight {name:<15} test Dice {found.mean():.2f}")

# %% [markdown]
# Before you see a trend in three numbers, remember how far two seeds can lie apart. A weight is a choice; it is made on *validation* images, and here nothing was chosen at all.
#
# ## Step 4: data of your own
#
# [Your own data in five minutes](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/own_data.md) is
# the page for this; here is the part that goes wrong. We make a folder as one gets it from a colleague: twelve
# pictures of mixed sizes in `images`, their masks in `masks`. Three things are not as they should be.

# %%
data = folder / "colleague"
for name in ("images", "masks"):
    (data / name).mkdir(parents=True, exist_ok=True)
for i in range(12):
    drawn = Synthetic("dermoscopy", seed=5, n=12, size=(48, 64, 80)[i % 3])
    picture, mask = drawn.image(drawn.records[i]), drawn.mask(drawn.records[i]) * 255
    if i == 4:
        mask = np.where(mask == 255, 128, 0).astype(np.uint8)  # someone's favourite grey
    if i == 7:
        mask = mask[::2, ::2]  # half the size
    Image.fromarray(picture).save(data / f"images/case{i:02d}.png")
    Image.fromarray(mask).save(data / f"masks/case{i:02d}.png")
rows = [
    f"case{i:02d},images/case{i:02d}.png,masks/case{i:02d}.png,patient{i},"
    f"{'train' if i < 8 else 'val' if i < 10 else 'test'}"
    for i in range(12)
]
shutil.copy(data / "images/case03.png", data / "images/case11.png")  # seen in training, asked in the test
shutil.copy(data / "masks/case03.png", data / "masks/case11.png")
(data / "index.csv").write_text("\n".join(["id,image,mask,group,split", *rows]) + "\n")
print(f"wrote {len(list((data / 'images').iterdir()))} images and index.csv")

# %% [markdown]
# Training would stop at the first fault, or, worse, not stop at the third. `check_dataset`, in a shell
# `knowsam-lite check-data FOLDER`, reads everything and lists everything: which file, what was found, what
# was expected, what to do.

# %% tags=["compare"]
found = check_dataset(data)
for finding in found:
    if finding.severity != "info":
        print(f"{finding.severity}: {finding}\n")

# %% [markdown]
# Two errors and a leak. Each has its own remedy, and only you can choose it: the grey is a lesion, painted with
# another value; the small mask can be enlarged (nearest neighbour, for between two classes there is no
# third); the copy must not be asked in the test, so it goes where its original is, into the same group.

# %% tags=["compare"]
grey = np.asarray(Image.open(data / "masks/case04.png"))
Image.fromarray(np.where(grey == 128, 255, grey).astype(np.uint8)).save(data / "masks/case04.png")
with Image.open(data / "images/case07.png") as picture:
    size = picture.size
with Image.open(data / "masks/case07.png") as small:
    small.resize(size, Image.Resampling.NEAREST).save(data / "masks/case07.png")
listing = (data / "index.csv").read_text()
(data / "index.csv").write_text(listing.replace("patient11,test", "patient3,train"))
for finding in check_dataset(data):
    if finding.severity != "info":
        print(f"{finding.severity}: {finding}")
print("errors left:", sum(finding.severity == "error" for finding in check_dataset(data)))

# %% [markdown]
# `knowsam-lite check-data FOLDER --fix COPY` mends the second and the third by itself, in a copy; of the first
# it cannot know the meaning, so that image becomes an unlabelled one. Now train, a few steps only; four labelled
# images, the rest of the training images unlabelled. The pictures have three sizes, training has one: each is
# resized on its way in.

# %%
own = SegmentationFolder(data)
config = Config(
    data=str(data),
    method="mean_teacher",
    labeled="4",
    image_size=32,
    batch_labeled=2,
    batch_unlabeled=2,
    steps=budget(smoke=1, ci=6, laptop=20, gpu=200),
    out=folder / "own",
    val_every=1000,
    device="cpu",
)
fit(own, config, progress=False)
print(f"trained {config.method} for {config.steps} steps on {len(own.split('train'))} images")

# %% [markdown]
# **New pictures.** `Predictor.from_run` needs the run folder and nothing else. It takes pictures of any sizes
# and answers each at its own size, in class indices:

# %% tags=["compare"]
predictor = Predictor.from_run(folder / "own", device="cpu")
generator = np.random.default_rng(0)
new = [generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((50, 70), (96, 64), (33, 33))]
for picture, answer in zip(new, predictor(new), strict=True):
    print(f"picture {picture.shape} -> mask {answer.shape}, {answer.dtype}")
print(
    "one by one the same:",
    all((predictor([p])[0] == a).all() for p, a in zip(new, predictor(new), strict=True)),
)

# %% [markdown]
# The sizes of a batch do not matter, and neither does its company: in evaluation mode nobody's answer
# depends on a neighbour. (In training mode BatchNorm would make it so.)
#
# ## Step 5: volumes
#
# **Idea.** A scan is a stack of slices. This library's networks are two-dimensional, so they train on slices
# and predict slice by slice; but a patient is *one* case, so the score is computed once on the whole stack.
# And a voxel is no cube: in a heart scan a slice may be 8 mm thick and a pixel 1.5 mm wide, so a distance in
# voxels means nothing.
#
# **Smallest example.** One row of four pixels in three slices. The object ends after the second slice, and so
# does the prediction, but for one pixel.

# %% tags=["compare"]
truth = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)[
    :, None, :
]  # (slices, rows, columns)
found_here = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0]], dtype=bool)[:, None, :]
each = [dice(p, t) for p, t in zip(found_here, truth, strict=True)]
print("Dice of each slice", [f"{d:.2f}" for d in each], f"mean {np.mean(each):.2f}")
print(f"Dice of the volume {dice(found_here, truth):.2f}")
print(f"HD95 {hd95(found_here, truth):.2f} voxels, {hd95(found_here, truth, (8.0, 1.5, 1.5)):.2f} mm")

# %% [markdown]
# One pixel of four is too much, and the mean over slices says 0.67: a slice without object is worth as much as
# any other there, and a single pixel in it turns a 1 into a 0. The volume has no such cliffs. And the
# stray pixel lies one slice, 8 mm, from the object; the 95th percentile of so few distances falls between 0 and
# that: less than one voxel, but several millimetres.
#
# ### Exercise 12.5: one score for each volume
#
# Difficulty 2 of 5 · importance 4 of 5 · 10 minutes
#
# Write `score_volumes(records, found, truth)`. The three lists run in parallel: a `Record` for each slice, with
# `record.volume`, the id of its scan, `record.index`, its place in the scan from 0, and `record.spacing_mm`
# (slice, row, column); and the masks bool (H, W) that were found and that are true. The slices come *in any
# order*. Return a dictionary from volume id to a pair: Dice, and HD95 in mm, of the whole volume; leave the lists
# as they are.
#
# <details><summary>Hint</summary>
#
# 1. First collect: for each volume id the numbers of its slices in the lists, in a dictionary.
# 2. Sort them by `records[i].index`. Dice does not care about the order of slices, HD95 does.
# 3. `np.stack([found[i] for i in slices])` is the volume (slices, rows, columns). One call of `dice` and one
#    of `hd95` for each volume.
# 4. `hd95(p, t, spacing)` takes the spacing in the order of the axes: just as the record has it.
#
# </details>


# %% tags=["exercise"]
# blank: score_volumes
def score_volumes(
    records: list[Record], found: list[np.ndarray], truth: list[np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Volume id -> Dice and HD95 in mm of the volume that these slices make up."""
    slices: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        slices.setdefault(record.volume, []).append(i)
    scores = {}
    for volume, places in slices.items():
        places.sort(key=lambda i: records[i].index)
        p, t = (np.stack([planes[i] for i in places]) for planes in (found, truth))
        scores[volume] = dice(p, t), hd95(p, t, records[places[0]].spacing_mm)
    return scores


# %%
check("12.5", score_volumes)

# %% [markdown]
# **Look.** The library's synthetic hearts come in groups of eight slices, from one end of the heart to the
# other. Naming the group a volume, and giving a spacing, is all it takes to have scans. A class with five
# attributes and three methods is a data set (the README calls it "by import"):


# %% tags=["compare"]
class Scans:
    """Synthetic hearts as volumes of eight slices, 8 mm thick, with pixels of 1.5 mm."""

    def __init__(self) -> None:
        self.drawn = Synthetic("cardiac", seed=0, n=80, size=48)
        self.name, self.classes = "scans", self.drawn.classes
        self.num_classes, self.spacing_mm = len(self.classes), None
        self.records = [
            replace(record, volume=record.group, index=i % 8, spacing_mm=(8.0, 1.5, 1.5))
            for i, record in enumerate(self.drawn.records)
        ]

    def split(self, name: str) -> list[Record]:
        return [record for record in self.records if record.split == name]

    def image(self, record: Record) -> np.ndarray:
        return self.drawn.image(record)

    def mask(self, record: Record) -> np.ndarray:
        return self.drawn.mask(record)


scans = Scans()
for split in ("train", "val", "test"):
    planes = scans.split(split)
    print(f"{split:<6} {len({r.volume for r in planes})} volumes, {len(planes)} slices")
print("distances in", unit_of(scans, "test"))

# %% [markdown]
# Training takes slices; whole groups are labelled, here two patients. `score_split` does what you wrote, for
# every class:

# %% tags=["training"]
patients = sorted(choose_labeled(scans.records, "2groups", seed=0))
torch.manual_seed(0)
heart = METHODS["supervised"](Config(image_size=48, steps=40), 4, net=narrow_net(4)).train()
plan = StepBatches(scans, patients, seed=0, batch_labeled=8, batch_unlabeled=0, size=48)
optimizer = torch.optim.AdamW(heart.parameters(), lr=3e-3)
for step in range(budget(smoke=0, ci=40, laptop=120, gpu=300)):
    heart.losses(plan[step], 0)["supervised"].backward()
    optimizer.step()
    optimizer.zero_grad()
heart.eval()
per_volume = score_split(heart, scans, "test", 48, torch.device("cpu"))["U-Net"]
print("volume  " + "".join(f"{name:>20}" for name in scans.classes[1:]) + "   Dice, HD95 in mm")
for k, case in enumerate(per_volume):
    cells = [f"{d:.2f}, {mm:.1f}" for d, mm in zip(case["dice"], case["hd95"], strict=True)]
    print(f"{k:<8}" + "".join(f"{cell:>20}" for cell in cells))


# %%
def planes_of(volume: str, wanted: tuple[int, ...]) -> list[dict]:
    """Rows of some slices of one test volume: image, truth and the U-Net's labels."""
    rows = []
    for record in scans.split("test"):
        if record.volume == volume and record.index in wanted:
            x, truth = load_case(scans, record, 48)
            with torch.no_grad():
                answer = at_native_size(heart.predict(x[None])[0], truth.shape)
            rows.append(
                {
                    "id": f"slice {record.index}",
                    "image": scans.image(record),
                    "truth": truth,
                    "maps": {"U-Net": answer},
                }
            )
    return rows


hearts = show(
    figures.prediction_sheet,
    planes_of(scans.split("test")[0].volume, (0, 3, 7)),
    classes=scans.classes,
    alt="Three slices of one synthetic heart, from its first to its last, each with the truth and the U-Net's labels "
    "of right ventricle, myocardium and left ventricle.",
)

# %% [markdown]
# Look at the last slice: there the heart ends, two classes have a few pixels and one has none, and a slice's
# own Dice would be all or nothing. And two labelled patients are few: one heart may be found well and the next
# taken for another class.
#
# **Files.** Real scans come as NIfTI or h5. The library reads both if the extra `volumes` is installed
# (nibabel and h5py):

# %%
if importlib.util.find_spec("nibabel") is None:
    print("nibabel is not installed: pip install 'knowsam-lite[volumes]' brings it; nothing below needs it")
else:
    import nibabel

    planes = [scans.mask(record) for record in scans.split("test")[:8]]
    stack = np.stack(planes).astype(np.uint8)  # (slices, rows, columns)
    for name in ("images", "masks"):
        (folder / "nifti" / name).mkdir(parents=True, exist_ok=True)
        file = nibabel.Nifti1Image(stack.T, np.diag([1.5, 1.5, 8.0, 1.0]))  # NIfTI: columns, rows, slices
        file.header.set_xyzt_units("mm")  # without a unit the numbers say nothing of size
        nibabel.save(file, folder / "nifti" / name / "heart.nii.gz")
    text = '{"classes": ["background", "right ventricle", "myocardium", "left ventricle"], "mask_values": [0, 1, 2, 3]}'
    (folder / "nifti/dataset.json").write_text(text)
    opened = SegmentationFolder(folder / "nifti", val=0, test=0)
    first = opened.records[0]
    print(
        f"{len(opened.records)} slices of {first.volume}, spacing {first.spacing_mm} mm (slice, row, column)"
    )

# %% [markdown]
# ## Where the papers, the authors' code and this library differ
#
# | detail | published | this library |
# |---|---|---|
# | what prompts SAM | KnowSAM: the fused map of two subnets | `+skd`: the map of the method's nets |
# | who learns from SAM | KnowSAM: each subnet, half the weight each | `+skd`: the method's nets, once, with the whole weight |
# | Mean Teacher | for classification | its usual form for segmentation; the student is tested |
# | start of BCP's second phase | after 10,000 of 40,000 steps | after a quarter of the run |
# | many rivals | in 3-D, on networks of their own | in 2-D, on this library's U-Net and V-Net |
#
# So a number of this library is not a number of those papers, and cannot be; what it is good for is a fair
# comparison. [The page of the methods](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/methods.md)
# says for each what was adapted. The fourth line you can
# measure, too. With fractions of the run, a rehearsal of 60 steps has both phases:

# %% tags=["compare"]
for length in (40_000, 60):
    method = OnePixel(Config(steps=length), 2)
    begins = next(t for t in range(length) if method.progress(t) >= bcp.PRETRAINED)
    print(f"{length:>6} steps: BCP pastes both ways from step {begins} on")

# %% [markdown]
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. You wrap BCP and forget to forward `after_step`. Whose pseudo-labels are pasted? (a) nobody's: an error
#    comes in the first step, (b) the student's, (c) SAM's, (d) those of the untrained network of the start
# 2. `cdma+skd` has three decoders. Which of them does SAM's distillation teach? (a) all three, (b) the one
#    that is tested, (c) the worst on this batch, (d) none: it teaches SAM
# 3. Why has BCP two target maps where UGDA has one? (a) its pseudo-labels count half, (b) the images
#    differ in size, (c) the rectangle is random, (d) to save memory
# 4. Your pictures show many small glands, and BCP does badly on them. First suspect? (a) the learning rate,
#    (b) the ramp, (c) the largest component, (d) the size of the rectangle
# 5. A scan has ten slices, three of them without the organ. How is it scored? (a) the mean over ten slices,
#    (b) the mean over seven, (c) by its worst slice, (d) once, as one volume with the spacing in mm

# %%
quiz("12", ["d", "b", "a", "c", "d"])

# %% [markdown]
# ## Recap
#
# - **A method** is its terms and its prediction; the loop does the rest and never asks which one it runs.
# - **SKD fits any method**: its prediction is the prompt and the learner. It teaches what predicts and nothing
#   else; a wrapper forwards optimizers and `after_step`.
# - **BCP**: one rectangle both ways, two targets, half the weight for opinions, and an assumption about anatomy.
# - **Own data**: check first, mend knowingly, keep copies and patients in one split; prediction takes any size.
# - **Volumes**: train on slices, score the whole, in mm.
# - **A table** is honest if it says how far its numbers scatter.
#
# ## Here the paper ends
#
# Chapters 13 to 15 go on: a real start, patient teachers, the loop.
#
# **To read.** The paper (Huang et al., IEEE TMI 2025) once more: you know every arrow of its figures. Then the
# rivals in the words of their authors: Tarvainen and Valpola 2017 (Mean Teacher), Bai et al. 2023 (BCP), and
# Kirillov et al. 2023 for SAM itself.
#
# **To try.** `knowsam-lite compare --data FOLDER --labeled 15 --methods mean_teacher mine:Mirror` needs no notebook:
# your class lies in `mine.py`, and `self.make_net()` builds its net. A ramp on the distillation. BCP's rectangle at UGDA's uncertain places. SAM asked twice,
# with its own answer as the second prompt. Your own images before all of these.
#
# **To contribute.** One file in `knowsam_lite/methods/`, with the source and what you adapted in its docstring;
# one line in `knowsam_lite/methods/__init__.py`, which also gives it its `+skd`; a test that calls
# `check_method` of `tests/helpers/base.py` and says what is peculiar to it. `make test` tells what is missing.

# %%
check.report()
