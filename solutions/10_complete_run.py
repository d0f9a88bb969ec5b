# %% [markdown]
# # 10 · The complete run
#
# {{badges}}
#
# All blocks are built; now they train together. In this chapter you join them into the one loss of KnowSAM, and
# write the parts of a training loop that decide whether a run can be trusted: a step in which everyone learns,
# batches that can be replayed, and a save from which a training goes on as if nothing had happened. Then the
# whole method runs before your eyes, and you judge it: against the same networks without unlabelled images, with
# an interval.
#
# | | |
# |---|---|
# | **You will** | join all losses of KnowSAM; write the training step, the streams of images, and an exact and safe save; stop a training and resume it bit for bit; train the whole method; choose a checkpoint and compare two methods fairly |
# | **You need** | PyTorch optimizers, `state_dict`; the method's blocks from chapters 02 to 09 are explained where they appear |
# | **Time** | {{time}} |
# | **Cost** | two CPU cores: at most five minutes of computing; with a GPU the real SAM and images of 256 pixels |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from knowsam_lite import METHODS, Config, KnowSAM, Method, Record, UNet, VNet, figures, open_dataset
from knowsam_lite.config import RECIPES
from knowsam_lite.course.chapters.ch00.e4_who_learns import learners
from knowsam_lite.course.live import WatchedTrainer
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import Batch, StepBatches
from knowsam_lite.evaluation import at_native_size, case_dice, predicted, score_split
from knowsam_lite.losses import consistency_loss, distillation_loss, entropy_loss, supervised_loss
from knowsam_lite.methods.base import ramp
from knowsam_lite.metrics import paired_bootstrap
from knowsam_lite.report.write import score_run, sheet_cases, table
from knowsam_lite.runs.checkpoints import load_best, load_last
from knowsam_lite.runs.run import choose_device, use_bf16
from knowsam_lite.sam.prompts import roughen
from knowsam_lite.training import Trainer

# %% [markdown]
# Every block of the map is lit today. Two students, a U-Net and a V-Net, learn from few labelled images; HAM
# fuses their maps into one. SAM is prompted by the fused map and by learned tokens (LPS), learns from the
# labels, and answers for all images; SKD distils its answer back into the students. UGDA lets regions that
# the students doubt change places between labelled and unlabelled images.

# %%
drawn = show(
    figures.pipeline,
    lit="images, U-Net, V-Net, HAM, SAM, LPS, SKD, UGDA",
    alt="Map of KnowSAM with all its blocks highlighted: images, U-Net, V-Net, HAM, SAM, LPS, SKD, UGDA.",
)

# %% [markdown]
# ## Why a chapter about a loop
#
# A training loop is ten lines, and they can spoil what the best networks learn: an optimizer that never
# steps, a schedule made for another length, a resumed run that is quietly a different run, a checkpoint
# picked on the test images. None of these raises an error. All of them change the number that you report.
#
# | symbol | meaning | in code |
# |---|---|---|
# | $L = \sum_i L_i$ | sum of the weighted terms | `sum(terms.values())` |
# | $t,\ t_{max}$ | number of the step, length of the run | `step`, `steps` |
# | $\eta_t = \eta_0\,(1 - \max(t - 1, 0) / t_{max})$ | learning rate | `Trainer.train_step` |
# | $w(t) = e^{-5 (1 - t / t_{max})^2}$ | ramp of consistency, entropy, pseudo-labels | `ramp(step / steps)` |
# | $B_t = f(\text{seed}, t)$ | the batch | `StepBatches(...)[step]` |
# | $\bar\delta = \frac1n \sum_i (a_i - b_i)$ | difference of two methods on $n$ test images | `paired_bootstrap(a, b)` |
#
# ## What this machine can do
#
# The next cell finds the device. The *budget* says how much may be computed: where PyTorch sees a CUDA
# device it is `gpu`, else `laptop`, and the environment variable `KNOWSAM_LITE_BUDGET` overrides both. On a
# GPU that has it, numbers are computed in bfloat16 where that is safe; everywhere else in float32.
#
# On the `gpu` budget the teacher is SAM's ViT-B as published, 375 MB, which `knowsam-lite weights sam_vit_b`
# downloads and verifies. Elsewhere, or without them, it is `sam_mini`, which ships with the library.
# With `real_start = True` the chapter trains KnowSAM by the recipe `laptop` instead: students from ImageNet
# (chapter 13), MobileSAM (40 MB), images of 128 pixels; with the rival one to two hours on two cores.


# %%
def teacher_at_hand(wanted: str) -> str:
    """`wanted` if its weights are here or can be downloaded, else "sam_mini"."""
    command = [sys.executable, "-m", "knowsam_lite", "weights", wanted]
    if subprocess.run(command, capture_output=True).returncode == 0:
        return wanted
    print(f"The weights of {wanted} could not be had, so sam_mini takes its place.")
    return "sam_mini"


real_start = False
teacher = budget(smoke="sam_mini", ci="sam_mini", laptop="sam_mini", gpu="sam_vit_b")
if real_start:
    teacher = "mobile_sam"
if teacher != "sam_mini":
    teacher = teacher_at_hand(teacher)
device = choose_device("auto")
precision = "bf16" if use_bf16("auto", device) else "fp32"
print(f"device {device.type}, precision {precision}, budget {budget.name}, teacher {teacher}")

# %% [markdown]
# Images come from the library's synthetic dermoscopy: the same 160 on every machine, 64 pixels wide on a CPU
# (128 for a real start) and 256 on a GPU. To train on real images, put a folder of yours in place of the address.

# %% tags=["compare"]
address = "synthetic:dermoscopy:160:1"
size = 128 if real_start else budget(smoke=64, ci=64, laptop=64, gpu=256)
dataset = open_dataset(address, size)
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
counts = {split: len(dataset.split(split)) for split in ("train", "val", "test")}
print(f"{counts['train']} training images, {len(labeled)} of them labelled")
print(f"{counts['val']} for validation, {counts['test']} for the test")

# %% [markdown]
# For the experiments on the way we use a tiny copy of the whole method: images of 32 pixels, narrow subnets,
# `sam_mini`, two labelled and two unlabelled images a step, always on the CPU. It is too small to learn much,
# but every wire is where it belongs.

# %% tags=["compare"]
NARROW = (8, 16, 32, 64)


def narrow_students(classes: int) -> tuple[nn.Module, nn.Module]:
    """F_a and F_b with half the channels and one resolution less; always the same start."""
    torch.manual_seed(0)
    return UNet(classes, NARROW, dropout=(0, 0, 0.1, 0.1)), VNet(classes, NARROW, depths=(1, 1, 2, 2))


tiny_data = open_dataset("synthetic:dermoscopy:40:1", 32)
tiny = Config(
    image_size=32,
    labeled="4",
    steps=4,
    batch_labeled=2,
    batch_unlabeled=2,
    val_every=4,
    log_every=4,
    device="cpu",
)


def tiny_method() -> Method:
    """The whole method, small."""
    return KnowSAM(tiny, 2, *narrow_students(2))


method = tiny_method()
trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
frozen = sum(p.numel() for p in method.parameters() if not p.requires_grad)
print(f"trained {trained / 1e6:.2f} million, frozen {frozen / 1e6:.2f} million parameters")

# %% [markdown]
# ## Step 1: all losses together
#
# **Idea.** The method hands the loop a dictionary of *terms*, each already weighted: `a/supervised`,
# `b/distillation`, `sam/supervised` and so on. *Supervised* means cross-entropy and Dice on labels;
# *consistency*: agree with the other student; *entropy*: be decided; *distillation*: follow SAM; *pseudo*:
# follow your own fused map. Which term teaches whom is settled where the terms are made, by `detach`.
#
# For each term we ask, with `learners` of exercise 00.4, which modules learn from it. At step 3 of 4 regions are exchanged,
# too (the `mixed` terms, chapter 09).

# %% tags=["compare"]
batches = StepBatches(
    tiny_data,
    choose_labeled(tiny_data.records, "4", 0),
    seed=0,
    batch_labeled=2,
    batch_unlabeled=2,
    size=32,
)
terms = method.losses(batches[3], step=3)
modules = {
    "U-Net": method.students.net_a,
    "V-Net": method.students.net_b,
    "HAM": method.students.ham,
    "SAM": method.teacher,
}
for name, term in terms.items():
    who = learners(term, modules)
    print(f"{name:<22} teaches {', '.join(module for module in modules if module in who)}")

# %% [markdown]
# Only the fused map's terms teach HAM, and only one term teaches SAM.
#
# ### Exercise 10.1: all losses together
#
# Difficulty 4 of 5 · importance 5 of 5 · 15 minutes
#
# Every piece is yours since chapters 02 to 08; join them. Write `joint_losses(students, teacher, batch, w)`, the
# ten terms before regions are exchanged. `students(x)` holds `logits_a`, `logits_b` and `logits_f`; `teacher(x, z_f)`
# gives SAM's logits; the first `batch.n_labeled` images of `batch.x` are labelled, and `batch.y` is −1 for the
# others. Ask SAM once about each half: the labelled one with its map roughened (`roughen` draws noise for
# the images that it is given), for SAM will learn from its answer; the other with the map itself and
# without a graph.
#
# | terms | each is |
# |---|---|
# | `"a/supervised"`, `"b/supervised"` | ½ supervised loss, with the labels |
# | `"fused/supervised"`, `"sam/supervised"` | the same of the fused map and of SAM, unhalved |
# | `"a/consistency"`, `"b/consistency"` | ½ $w$ consistency with the other subnet, on all images |
# | `"a/entropy"`, `"b/entropy"` | 0.9 times ½ $w$ entropy, on all images |
# | `"a/distillation"`, `"b/distillation"` | ½ distillation from SAM, on all images |
#
# <details><summary>Hint</summary>
#
# 1. All five losses and `roughen` are imported. Labels of −1 count for nothing in `supervised_loss(z, y)`, so the
#    students' terms take the whole batch.
# 2. `own = teacher(x[:n], roughen(z_f[:n]))`; then the rest, with its map as it is, inside
#    `with torch.no_grad():`. SAM's supervised loss is that of `own`.
# 3. `consistency_loss(z_k, z_j)` and `distillation_loss(z_k, z_s)` take the learner first and detach the other.
#    $z_s$ is both answers, labelled first. Only consistency and entropy carry $w$.
# 4. A loop over `("a", z_a, z_b)` and `("b", z_b, z_a)` makes eight terms; the halves are theirs alone.
#
# </details>
#
# $$L = L_{sup}(z_f) + L_{sup}(z_{s,l}) + \sum_{k \in \{a, b\}} \tfrac12 \Big[ L_{sup}(z_k) + w \big(L_{cons}^{k \leftarrow j} + 0.9\, L_{ent}^{k}\big) + L_{SKD}^{k} \Big]$$


# %% tags=["exercise"]
# blank: joint_losses
def joint_losses(
    students: nn.Module, teacher: Callable[[Tensor, Tensor], Tensor], batch: Batch, w: float
) -> dict[str, Tensor]:
    """The ten weighted terms of a batch by name, before regions are exchanged."""
    n, y = batch.n_labeled, batch.y
    z = students(batch.x)
    own = teacher(batch.x[:n], roughen(z.logits_f[:n]))
    with torch.no_grad():
        others = teacher(batch.x[n:], z.logits_f[n:])
    z_s = torch.cat([own, others])
    terms = {
        "fused/supervised": supervised_loss(z.logits_f, y),
        "sam/supervised": supervised_loss(own, y[:n]),
    }
    for k, z_k, z_j in (("a", z.logits_a, z.logits_b), ("b", z.logits_b, z.logits_a)):
        terms[f"{k}/supervised"] = 0.5 * supervised_loss(z_k, y)
        terms[f"{k}/consistency"] = 0.5 * w * consistency_loss(z_k, z_j)
        terms[f"{k}/entropy"] = 0.5 * 0.9 * w * entropy_loss(z_k)
        terms[f"{k}/distillation"] = 0.5 * distillation_loss(z_k, z_s)
    return terms


# %%
check("10.1", joint_losses)

# %% [markdown]
# The last line of the check puts real networks in, SAM included: you wrote the library's `KnowSAM.losses`. From
# 24 % of the run on, nine `mixed` terms join in: the students' own on UGDA's mixed batch, and the pseudo terms
# of exercise 09.5.
#
# ## Step 2: one training step
#
# Since maps enter SAM without their graph and leave it so, no weight of SAM appears in the students' terms nor
# the other way round: one backward over the sum of all
# terms does the same as separate ones, and each optimizer finds only its own gradients.
#
# **Zeros or `None`?** After the step, gradients have to go, or the next backward adds to them. They can be set
# to zero or to `None`. Take a weight that is reached in step 0 and never again, and an optimizer with
# momentum:

# %% tags=["compare"]
for set_to_none in (False, True):
    idle, busy = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([idle, busy], lr=0.1, momentum=0.9)
    path = []
    for step in range(5):
        loss = busy.sum() + (idle.sum() if step == 0 else 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=set_to_none)
        path.append(f"{idle.item():.2f}")
    print(f"{'None ' if set_to_none else 'zeros'}  the idle weight: {'  '.join(path)}")

# %% [markdown]
# With zeros the optimizer believes that the weight was asked and had nothing to say: momentum carries it on,
# and weight decay would shrink it. `None` means "not asked": the optimizer passes it over. In KnowSAM every
# trained weight is asked in every step, but a loop that serves many methods should not rely on that.
#
# ### Exercise 10.2: one training step
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `training_step(terms, optimizers)`: add up the weighted terms, differentiate once, let every
# optimizer step, and leave no gradient behind (`None`, not zeros). Return the terms by name, as tensors
# without a graph, for the log.
#
# <details><summary>Hint</summary>
#
# 1. The terms are tensors of one number each. `torch.stack(list(terms.values())).sum()` adds them up; so
#    does Python's `sum`. No mean: the weights are set for the sum.
# 2. Call `.backward()` once, then for each of the optimizers `.step()`. The order is backward, step,
#    zero_grad.
# 3. `optimizer.zero_grad(set_to_none=True)` comes after the step, so that nothing is left when the function
#    returns.
# 4. `term.detach()` is the same number without its graph. `.item()` would do as well for reading, but on a
#    GPU it makes the CPU wait in every step.
#
# </details>
#
# $$L = \sum_i L_i, \qquad \theta \leftarrow \mathrm{step}\big(\theta, \nabla_\theta L\big) \text{ for every optimizer}$$


# %% tags=["exercise"]
# blank: training_step
def training_step(terms: dict[str, Tensor], optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """One step on the sum of the terms with every optimizer; returns the terms without their graphs."""
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {name: term.detach() for name, term in terms.items()}


# %%
check("10.2", training_step)

# %% [markdown]
# The library's step does the same in `Trainer.train_step`. It adds three things: bfloat16 around the losses
# where the device has it; a stop, with the term's name and the images, when a loss is not finite; and it
# takes the terms in parts that share no graph (SAM's, the students', the mixed ones), so that the memory of one
# is free for the next.
#
# ## Step 3: the schedule
#
# **Idea.** "Begin at step 12,000" means after about a quarter of 50,000 steps, and "never" in a run of 200. So
# every start and every ramp is a function of the *progress* $t / t_{max}$, and a short rehearsal goes through
# the same phases as the long run.
#
# Three things change as a run goes on. The learning rates fall linearly. The weight of consistency, entropy
# and pseudo-labels rises along the ramp of chapter 04. And after 24 % of the run, regions begin to change
# places (UGDA):
#

# %% tags=["compare"]
progress = torch.linspace(0, 1, 101)
plan = show(
    figures.trends,
    {
        "learning rate": (progress, 1 - progress),
        "ramp w(t)": (progress, [ramp(p) for p in progress.tolist()]),
        "mixing": (progress, (progress >= 0.24).float()),
    },
    title="A run, from its first step to its last",
    xlabel="progress $t / t_{max}$",
    alt="Three curves over the progress of a run: the learning rate falls in a straight line from 1 to 0, the ramp "
    "stays near 0 for a third of the run and rises to 1, and mixing jumps from 0 to 1 at about a quarter.",
)
for place in (0, 24, 50, 75, 100):
    rate, weight, mixes = (plan[name][place] for name in ("learning rate", "ramp w(t)", "mixing"))
    print(f"{place:>3} % done   rate {rate:.2f}   ramp {weight:.2f}   mixing {'on' if mixes else 'off'}")

# %% [markdown]
# Rate and ramp oppose each other: by the time the networks listen to each other at full weight, the rate is
# almost 0.
#
# ## Step 4: batches that can be replayed
#
# **Idea.** A run that stopped at step 31,417 has to go on with the batch of step 31,417. Replaying 31,417
# shuffles to get there would be slow; saving the state of a loader with its worker processes would be a
# mess. The way out: make the batch a *pure function* of seed and step. No generator that someone else may
# have moved, nothing to save.
#
# Ask the library for the batch of step 5, then for some others, then for step 5 again:

# %% tags=["compare"]
first = batches[5]
others = [batches[step] for step in (0, 11, 4)]
again = batches[5]
print("images", first.ids == again.ids, " pixels", bool(torch.equal(first.x, again.x)))
print("another step is another batch:", all(other.ids != first.ids for other in others))

# %% [markdown]
# The choice of images is the work of two *streams*, one of labelled and one of unlabelled images. Each is an
# endless walk: a shuffled round through all records, then another. Eight labelled images in batches of four
# come round every two steps, the others far more rarely, and that is right: labels are dear, so they are
# used often.
#
# ### Exercise 10.3: a stream of images
#
# Difficulty 3 of 5 · importance 4 of 5 · 10 minutes
#
# Write `Stream.__getitem__`: position 0, 1, 2, ... of the walk in, one record out. The order of the n records
# in round number `epoch` is `permutation(n)` of numpy's `default_rng`, seeded with the list
# `[self.seed, self.name, epoch]`. Any position may be asked at any time.
#
# <details><summary>Hint</summary>
#
# 1. `divmod(position, len(self.records))` gives the number of the round and the place in it. Shuffle the
#    whole round and take one place of it, so that no image comes twice.
# 2. `np.random.default_rng([self.seed, self.name, epoch])` is a new generator each time, made of three
#    numbers: seed, stream and round. Its `.permutation(n)` shuffles 0 to n - 1. Do not add the numbers up.
# 3. The record is `self.records[order[place]]`.
#
# </details>
#
# $$\text{epoch},\ \text{place} = \mathrm{divmod}(i, n), \qquad r_i = \pi_{\text{seed},\, \text{name},\, \text{epoch}}(\text{place})$$

# %% tags=["exercise"]
# library: knowsam_lite.data.sampler.Stream
# blank: Stream.__getitem__

# %%
check("10.3", Stream)

# %% [markdown]
# Why a list, and not a sum? With a sum, round 1 of seed 0 would be round 0 of seed 1, and "independent"
# repetitions would share their shuffles.
#
# ## Step 5: a save from which you can go on
#
# **Idea.** Long runs end early: the battery, the queue, Ctrl-C. A save has to be *exact*, so that the resumed
# run is the run that you would have had, and *safe*, so that a power cut during the save does not take the
# last good file with it.
#
# **Exact.** What does step $t$ depend on? The batch is a function of seed and step, the schedule of step and
# length. What remains is the networks with their buffers (BatchNorm's running statistics), the optimizers
# with their memory (momentum, Adam's moments), the number of the step, and the random state from which
# dropout draws.
#
# **Safe.** Writing takes time, and a file that is half written is no file. Watch what a break does, once to
# a file that is written in place and once to one that is written under another name first:

# %% tags=["compare"]
with tempfile.TemporaryDirectory() as folder:
    good = json.dumps({"step": 100})
    for how in ("in place", "aside"):
        path = Path(folder) / f"{how}.json"
        path.write_text(good)
        target = path if how == "in place" else path.with_name(f"{path.name}.part")
        target.write_text(json.dumps({"step": 200})[:6])  # the power goes after six letters
        try:
            print(f"{how:<9} found after the break: step {json.loads(path.read_text())['step']}")
        except json.JSONDecodeError:
            print(f"{how:<9} found after the break: nothing that can be read")

# %% [markdown]
# Only when the new file is complete is it renamed over the old one. A rename within one folder is all or
# nothing: whoever looks sees the old file or the new one.
#
# The exercise is about one network and one optimizer. Here is its counterpart, which reads the file:


# %%
def restore(path: Path, net: nn.Module, optimizer: Optimizer) -> int:
    """Put a saved state back into new objects; returns the number of steps done."""
    content = torch.load(path, weights_only=True)  # tensors and plain values only: no file can run code
    net.load_state_dict(content["net"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    return content["step"]


# %% [markdown]
# ### Exercise 10.4: an exact and safe save
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# Write `save(path, net, optimizer, step)`: a file from which `restore` goes on exactly, with the four entries
# `"net"`, `"optimizer"`, `"step"` and `"random"`. If the save fails halfway, the error is raised, and the
# old file at `path` is as it was. After a save that went well, nothing else lies in the folder.
#
# <details><summary>Hint</summary>
#
# 1. `net.state_dict()` holds parameters and buffers, `optimizer.state_dict()` the optimizer's memory;
#    `torch.get_rng_state()` is PyTorch's random state on the CPU. Save `step` as it is given.
# 2. `torch.save(content, aside)` writes another name in the same folder first:
#    `path.with_name(path.name + ".part")`.
# 3. `os.replace(aside, path)` renames, over the old file if there is one. Do not remove the old one
#    yourself.
#
# </details>
#
# $$\text{state}_t = (\theta_t,\ \text{optimizer}_t,\ t,\ \text{random}_t), \qquad \text{write}(\text{aside}) \to \text{rename}$$


# %% tags=["exercise"]
# blank: save
def save(path: Path, net: nn.Module, optimizer: Optimizer, step: int) -> None:
    """Save all that an exact continuation needs; a failed save leaves the old file as it was."""
    content = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "random": torch.get_rng_state(),
    }
    aside = path.with_name(f"{path.name}.part")
    torch.save(content, aside)
    os.replace(aside, path)


# %%
check("10.4", save)

# %% [markdown]
# **Stop and resume, the real thing.** The library's `Trainer` saves after every validation and on Ctrl-C (in
# Jupyter: the stop button): it finishes the step, saves, and returns `False`. Let us press Ctrl-C by program
# during step 2 of 4 of the tiny method, throw everything away, make new objects, resume, and compare with a
# run that was left in peace.


# %% tags=["compare"]
class Stopped(Trainer):
    """Gets a Ctrl-C during its second step."""

    def train_step(self, batch) -> None:
        super().train_step(batch)
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)


def tiny_run(folder: str, kind: type[Trainer] = Trainer) -> Trainer:
    """A new trainer for the tiny method; its files lie in this folder."""
    return kind(tiny_data, replace(tiny, out=runs / folder), tiny_method())


def content(folder: str) -> dict:
    """What the last checkpoint of a run holds."""
    return torch.load(runs / folder / "last.pt", weights_only=True)


def same_end(folder: str) -> bool:
    """Whether a run ended with the very tensors of the one that was left in peace."""
    pairs = zip(content("whole")["method"].values(), content(folder)["method"].values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


scratch = tempfile.TemporaryDirectory()  # removed when the kernel ends
runs = Path(scratch.name)

whole = tiny_run("whole")
whole.start()
print("left in peace: finished", whole.fit(progress=False), "after step", whole.step)

stopped = tiny_run("stopped", Stopped)
stopped.start()
print("stopped:       finished", stopped.fit(progress=False), "after step", stopped.step)
stopped_at = (runs / "stopped" / "last.pt").read_bytes()

resumed = tiny_run("stopped")
resumed.resume()
print("resumed after step", resumed.step, "and finished", resumed.fit(progress=False))
print("all trained tensors equal, bit for bit:", same_end("stopped"))

# %% [markdown]
# On a CPU this equality is exact, also after `kill -9`. On a GPU a few operations add up in an order that is
# not fixed: two runs agree closely, not to the bit, resumed or not.
#
# ## Ablate one thing: what a checkpoint may leave out
#
# Is all of it necessary? Exchange one part of the stopped run's file for what a new run has there, resume, and
# see whether the end is the same.

# %% tags=["compare"]
fresh = tiny_run("fresh")
torch.manual_seed(123)
spoiled = {
    "optimizers": {"optimizers": [optimizer.state_dict() for optimizer in fresh.optimizers]},
    "random state": {"random": torch.get_rng_state()},
    "step": {"progress": json.dumps({"step": 0, "best": -1.0, "labeled": fresh.labeled_ids})},
}
for name, change in spoiled.items():
    broken = tiny_run(f"without {name}")
    broken.start()
    (broken.run / "last.pt").write_bytes(stopped_at)
    torch.save({**content(f"without {name}"), **change}, broken.run / "last.pt")
    broken.resume()
    broken.fit(progress=False)
    end = "the same" if same_end(f"without {name}") else "another one"
    print(f"without {name:<13} the end is {end}")

# %% [markdown]
# Every part counts, and no error tells.
#
# ## Put together: the run
#
# The configuration is the library's recipe for the budget, `lesson` or `paper`, with what
# this chapter changes. On a CPU the subnets are narrow and the run is short; expect two to four minutes on
# two idle cores. On a GPU everything is full size; if its memory does not suffice, halve `batch_labeled` and
# `batch_unlabeled`. `paper_length = True` trains the published 50,000 steps.

# %%
paper_length = False
steps = 50_000 if paper_length else budget(smoke=2, ci=4, laptop=1_000 if real_start else 200, gpu=2_000)
recipe = RECIPES["laptop" if real_start else budget("lesson", "lesson", "lesson", "paper")]
home = budget(smoke=runs, ci=runs, laptop=runs, gpu=Path("runs"))  # on a GPU it outlives this notebook
config = replace(
    recipe,
    method="knowsam",
    data=address,
    labeled="8",
    image_size=size,
    teacher=teacher,
    teacher_size=recipe.teacher_size if teacher == "mobile_sam" else None,
    steps=steps,
    log_every=min(max(steps // 40, 1), 50),
    val_every=min(max(steps // 5, 6), 500),
    workers=budget(smoke=0, ci=0, laptop=0, gpu=min(8, os.cpu_count() or 1)),
    out=home / f"chapter10_knowsam_{steps}",
)
print(f"{config.steps} steps of {config.batch_labeled} + {config.batch_unlabeled} images", end=", ")
print(f"{config.image_size} pixels, {config.teacher}, optimizer {config.optimizer}")


# %% [markdown]
# `WatchedTrainer` is the library's `Trainer`, with a bar and a figure that are replaced in place below the
# cell: the bar with each row of the log, the curves with each save. Stop it whenever you like; run the cell
# again, and it goes on. (On a CPU the files lie in a temporary folder and go with the kernel; on a GPU they
# stay in `runs`.)


# %% tags=["training"]
def trained(config: Config) -> Trainer:
    """Train the method that `config` names, or go on with it where it was stopped."""
    classes = dataset.num_classes
    students = () if budget.name == "gpu" or real_start else narrow_students(classes)
    torch.manual_seed(config.seed)
    trainer = WatchedTrainer(dataset, config, METHODS[config.method](config, classes, *students))
    if (trainer.run / "last.pt").exists():
        trainer.resume()
    else:
        trainer.start()
    if not trainer.fit():
        print("stopped and saved: run this cell again to go on")
    return trainer


knowsam = trained(config)

# %% [markdown]
# How to read the curves. On the left stand the terms, on a logarithmic axis; where they are too many, they are
# added up over U-Net, V-Net and fused map. Distillation is the largest by far, the ramped terms climb, the
# mixed ones begin after a quarter of the run. A total that does not fall is no alarm: terms are *added*. On the right is what counts, the Dice on the validation images. SAM,
# pretrained, is soon ahead of the students that prompt it. The V-Net starts late: expect a Dice near 0 for half
# of a run this short.
#
# **The rival.** Semi-supervised methods like to be compared with one network on few labels. That is too easy:
# ours has two subnets and a fusion. `supervised_pair` has the same two subnets and HAM, the same start, the
# same labelled images in the same order with the same augmentation, the same number of steps. It lacks the
# rest: consistency, entropy, SAM, SKD and UGDA.

# %% tags=["training"]
pair = trained(replace(config, method="supervised_pair", out=home / f"chapter10_pair_{steps}"))

# %% [markdown]
# Is it true that both saw the same labelled images? Ask the batches:

# %% tags=["compare"]
last_step = config.steps - 1
ours, theirs = knowsam.batches[last_step], pair.batches[last_step]
n = ours.n_labeled
print("the same labelled ids:", ours.ids[:n] == theirs.ids[:n])
print("the same pixels:", bool(torch.equal(ours.x[:n], theirs.x[:n])))
print("the rival sees unlabelled images:", len(theirs.ids) > n)

# %% [markdown]
# ## Step 6: which checkpoint
#
# **Idea.** The last weights are not always the best ones, so the library keeps a second file, the weights
# with the best Dice on the *validation* images. Why not on the test images? Because a maximum over many tries
# is too good to be true. Here are 20 checkpoints that are all equally good, with a true Dice of 0.80. Each
# is scored on 60 test and 30 validation images with the usual spread between images, and the whole thing is
# repeated 2,000 times:

# %% tags=["compare"]
generator = torch.Generator().manual_seed(0)
val = 0.80 + 0.15 * torch.randn(2000, 20, 30, generator=generator).mean(dim=2)  # (repetitions, checkpoints)
test = 0.80 + 0.15 * torch.randn(2000, 20, 60, generator=generator).mean(dim=2)
by_val = test.gather(1, val.argmax(dim=1, keepdim=True))
print(f"test Dice of the checkpoint chosen on test  {test.max(dim=1).values.mean():.2f}")
print(f"test Dice of the checkpoint chosen on val   {by_val.mean():.2f}")
print(f"val Dice of the checkpoint chosen on val    {val.max(dim=1).values.mean():.2f}")

# %% [markdown]
# Only the middle line is honest: do not quote the validation score that chose, either.
#
# ### Exercise 10.5: which checkpoint
#
# Difficulty 1 of 5 · importance 5 of 5 · 6 minutes
#
# Write `choose(rows, view)`. The rows are those of a log: dictionaries with `"kind"` and `"step"`, and those
# of kind `"val"` have `"dice"`, a dictionary from view (`"fused"`, `"SAM"`, ...) to number. Somebody has left
# rows of kind `"test"` in the file, which look alike. Return the step of the best validation Dice of the
# given view; of equals, the first.
#
# <details><summary>Hint</summary>
#
# 1. Look only at rows of kind `"val"`: `row["kind"] == "val"`. Rows of kind `"train"` have no `"dice"`.
# 2. Walk through them and remember the best so far and its step; larger is better. The number is
#    `row["dice"][view]`.
# 3. Replace what you remember only by a score that is *larger than* it, so that the first of equals stays.
#    Begin with a best of -1: a Dice of 0 is a score, too.
#
# </details>
#
# $$t^* = \arg\max_{t \in \text{val}} \mathrm{Dice}_{\text{val}}^{\text{view}}(t)$$


# %% tags=["exercise"]
# blank: choose
def choose(rows: list[dict], view: str) -> int:
    """The step whose validation Dice of this view is best; of equals, the first."""
    best, chosen = -1.0, 0
    for row in rows:
        if row["kind"] == "val" and row["dice"][view] > best:
            best, chosen = row["dice"][view], row["step"]
    return chosen


# %%
check("10.5", choose)

# %% [markdown]
# **Look.** The choice in our two runs, made by the library's `Trainer` on the way.


# %%
def log_of(trainer: Trainer) -> list[dict]:
    """The rows of a run's log."""
    return [json.loads(line) for line in (trainer.run / "log.jsonl").read_text().splitlines()]


for trainer in (knowsam, pair):
    kept = [row for row in log_of(trainer) if row["kind"] == "val"]
    best = max(kept, key=lambda row: row["dice"]["fused"])
    print(f"{trainer.method.name:<16} best on val after step {best['step']} of {trainer.config.steps}")

# %% [markdown]
# ## Step 7: the verdict
#
# Both methods are scored on the same test images. The table is that of `knowsam-lite evaluate`: Dice with its
# spread over the images and its 95 % interval, IoU, the HD95 of chapter 01, and ASD, the mean of
# those same border distances.

# %%
results = {trainer.method.name: score_run(trainer.result()) for trainer in (pair, knowsam)}
for name, result in results.items():
    print(f"{name}\n{table(result)}\n")

# %% [markdown]
# And as pictures: the worst, a middling and the best test image by the fused map of `knowsam`. The first
# column of masks is the rival's.


# %%
def with_rival(cases: list[dict]) -> list[dict]:
    """The same cases with the fused map of `supervised_pair` as "labels only", in front of the others."""
    records = [next(r for r in dataset.split("test") if r.id == case["id"]) for case in cases]
    shown = predicted(pair.method, dataset, records, size, pair.device, pair.bf16)
    scores = dict(
        zip(results["supervised_pair"]["ids"], results["supervised_pair"]["cases"]["fused"], strict=True)
    )
    rows = []
    for case, (record, _, truth, views) in zip(cases, shown, strict=True):
        maps = {"labels only": at_native_size(views["fused"], truth.shape), **case["maps"]}
        dice = {"labels only": scores[record.id]["dice"][0], **case["dice"]}
        rows.append({**case, "id": record.id.replace("_", " "), "maps": maps, "dice": dice})
    return rows


ranked = sheet_cases(knowsam.result(), "test", results["knowsam"]["cases"])  # from worst to best
sheet = show(
    figures.prediction_sheet,
    with_rival([ranked[0], ranked[len(ranked) // 2], ranked[-1]]),
    of={"labels only": "fused"},
    alt="Three test images, from the worst to the best: image, truth, the map learned from labels only, then the "
    "U-Net's, V-Net's, fused and SAM's maps of knowsam, and the entropy of the fused map.",
)

# %% [markdown]
# **Is the difference real?** One mean is larger than the other; it always is. Ask what would happen with
# other test images. The *bootstrap* pretends that our images are the whole world, and draws as many from them,
# with replacement, again and again. It must be *paired*: both methods saw the same images, and a hard image is
# hard for both, so what is drawn is the difference on one image.
#
# **Smallest example.** 40 images of very different difficulty; method A is better than B by 0.03, give or take
# 0.02, on each of them.

# %% tags=["compare"]
generator = torch.Generator().manual_seed(1)
ease = torch.linspace(0.2, 0.9, 40)
b_scores = ease
a_scores = ease + 0.03 + 0.02 * torch.randn(40, generator=generator)
draws = torch.randint(0, 40, (2000, 40), generator=generator)  # (repetitions, images)
paired = (a_scores - b_scores)[draws].mean(dim=1)
apart = a_scores[draws].mean(dim=1) - b_scores[draws.flip(0)].mean(dim=1)
for name, means in (("paired", paired), ("drawn apart", apart)):
    low, high = means.quantile(0.025), means.quantile(0.975)
    print(f"{name:<12} 95 % of the means lie in [{low:+.2f}, {high:+.2f}]")

# %% [markdown]
# Drawn apart, the difference drowns in the images' difficulty. Paired, it stands out.
#
# ### Exercise 10.6: a paired bootstrap interval
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `paired_interval(a, b, draws)`: the scores of two methods on the same images, (n,) each, and `draws`,
# indices of images, (repetitions, n). Return the mean of $a - b$ over the images, and the low and the high end
# of the interval that holds 95 % of the means over the draws.
#
# <details><summary>Hint</summary>
#
# 1. First the difference of each image, `a - b`, then the draws: `(a - b)[draws]` has the shape
#    (repetitions, n).
# 2. The images lie on axis 1 of `draws`: `.mean(dim=1)` gives one mean for each repetition.
# 3. `means.quantile(0.025)` leaves 2.5 % of the means below it; the high end leaves 2.5 % above it.
#
# </details>
#
# $$\bar\delta = \frac1n \sum_i (a_i - b_i), \qquad \bar\delta^{(r)} = \frac1n \sum_i (a - b)_{j_{ri}}, \qquad
# \big[\,q_{0.025}(\bar\delta^{(r)}),\ q_{0.975}(\bar\delta^{(r)})\,\big]$$


# %% tags=["exercise"]
# blank: paired_interval
def paired_interval(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of a - b over the images, and the ends of its 95 % interval."""
    delta = a - b
    means = delta[draws].mean(dim=1)
    return delta.mean(), means.quantile(0.025), means.quantile(0.975)


# %%
check("10.6", paired_interval)

# %% [markdown]
# The library's `paired_bootstrap` does the same, for several seeds at once if you have them. Here is the
# table, with the last weights and with those that were best on the validation images. Fix *beforehand* which
# column you will quote; the library quotes the last one.


# %%
def fused_dice(trainer: Trainer, which: str) -> np.ndarray:
    """Dice of each test image by the fused map, with the last weights or the best on val."""
    if which == "last":
        return case_dice(results[trainer.method.name]["cases"]["fused"])
    load_best(trainer.run / "best.safetensors", trainer.method)
    scores = score_split(trainer.method, dataset, "test", size, trainer.device, trainer.bf16, distances=False)
    load_last(trainer.run / "last.pt", trainer.method)
    return case_dice(scores["fused"])


dice_of = {
    (trainer.method.name, which): fused_dice(trainer, which)
    for trainer in (pair, knowsam)
    for which in ("last", "best")
}
interval = {
    which: paired_bootstrap(dice_of["knowsam", which], dice_of["supervised_pair", which])
    for which in ("last", "best")
}
print("fused map, test Dice    last weights      best on val")
for name in ("supervised_pair", "knowsam"):
    print(f"{name:<20} {dice_of[name, 'last'].mean():>15.3f} {dice_of[name, 'best'].mean():>16.3f}")
cells = [f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for d in interval.values()]
print(f"{'difference':<20} {cells[0]:>15} {cells[1]}")

# %% [markdown]
# Read the verdict off the interval, not off the means:


# %%
def verdict(difference: dict) -> str:
    """What a paired interval allows one to say."""
    if difference["tie"]:
        return "a tie: the interval holds 0, so these images cannot tell the two methods apart"
    side = "better" if difference["difference"] > 0 else "worse"
    return f"knowsam is {side} on images like these, for this one seed"


if config.steps < 100:
    print(f"none: after {config.steps} steps neither method has learned anything, this was a rehearsal")
else:
    print(verdict(interval["last"]))

# %% [markdown]
# **What this verdict covers, and what not.** It covers the luck of the test images. It does not cover the luck
# of the *seed*: which eight images were labelled, how the networks began, what dropout drew. That can be as
# large as the difference itself. Even the processor has a say: on one maker's this very run ended with +0.065
# [+0.005, +0.128], "better", on another's, which rounds otherwise, with +0.059 [-0.002, +0.127], "a tie".
# Several seeds, fixed beforehand, say more: `knowsam-lite compare --seeds 3` trains the grid, and chapter 11
# reads its table. [The project's own](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/from_scratch.md),
# full networks and 400 steps, has one clear win and three ties; after
# [a real start](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/starts.md) differences are larger.
#
# ## The same on a GPU
#
# Device, time of a step, memory and Dice of *your* run, as one row to keep:

# %%
seconds = np.median([row["seconds"] for row in log_of(knowsam) if row["kind"] == "train"])
name = torch.cuda.get_device_name() if device.type == "cuda" else device.type.upper()
peak = max(row["peak_memory_bytes"] or 0 for row in log_of(knowsam) if row["kind"] == "saved")
row = {
    "device": name,
    "precision": precision,
    "teacher": config.teacher,
    "pixels": config.image_size,
    "steps": config.steps,
    "seconds a step": f"{seconds:.3f}",
    "memory at most": f"{peak / 2**30:.1f} GiB",
    "Dice, labels only": f"{dice_of['supervised_pair', 'last'].mean():.3f}",
    "Dice, knowsam": f"{dice_of['knowsam', 'last'].mean():.3f}",
}
(knowsam.run / "figures.json").write_text(json.dumps(row, indent=1))
for key, value in row.items():
    print(f"{key:<18} {value}")
if device.type != "cuda":
    print("GPU figures: pending, for this run was made without a CUDA device")

# %% [markdown]
# No GPU was at hand when this chapter was made: **its time, memory and Dice on a GPU are pending**. The
# outputs in the solution come from one thread of a busy CPU.
#
# ## Where the paper, the authors' code and this library differ
#
# The paper describes the blocks and their losses; the details of the loop are settled by the code that its
# authors published, and `knowsam_lite.official` computes what that code does. In the loop this library departs
# from it in these:
#
# | detail | authors' code | this library |
# |---|---|---|
# | length | 50,000 steps, and starts counted in steps | any; starts are fractions of it |
# | ramp | 200 stairs | smooth |
# | exchange of regions | from the first step *after* 12,000 | from 24 % on |
# | checkpoints | the best SAM and the best students, apart | last, and best on val, both whole |
# | loading weights | what fits by name; the rest is dropped in silence | every tensor checked, or an error |
# | labelled images | a table of counts by name of the data set; a smaller folder takes *labels of unlabelled images* | a choice, `--labeled 8`; other masks stay shut (chapter 01) |
#
# The one that matters most is **loading what fits**: if a checkpoint's names differ from the network's,
# a loader that filters by name finds nothing to load, raises nothing, and leaves random weights behind. The
# authors' SAM loses 32 of its 314 pretrained tensors that way. The 8 of the decoder's MLPs, among them, stay
# *random and frozen*. In small:

# %% tags=["compare"]
trained_net, new_net = (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)) for _ in range(2))
old_names = {f"layers.{name}": tensor for name, tensor in trained_net.state_dict().items()}
own = new_net.state_dict()
fits = {name: tensor for name, tensor in old_names.items() if name in own}
new_net.load_state_dict({**own, **fits})
print(f"filtered: {len(fits)} of {len(old_names)} tensors loaded, and no error")
try:
    new_net.load_state_dict(old_names, strict=True)
except RuntimeError:
    print("strict: an error, before anything is computed with random weights")

# %% [markdown]
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. Why `set_to_none=True`? (a) it is needed for several optimizers, (b) it makes the loss smaller, (c) with
#    zeros a weight that nothing reaches may still move, (d) otherwise gradients add up
# 2. You rehearse a 50,000-step recipe in 500 steps. When does UGDA begin? (a) after 120 steps, (b) after
#    12,000, that is never, (c) at once, (d) after 24
# 3. What must a checkpoint hold so that the next batch is the right one? (a) the loader's state, (b) the
#    shuffled list, (c) the images, (d) the number of the step
# 4. You report the test Dice of the checkpoint that is best on the test images. Your number is (a) unbiased,
#    (b) too high, (c) too low, (d) noisy, but right on average
# 5. The paired 95 % interval of the difference is [-0.01, +0.06]. You write: (a) better by 0.025, (b) equal,
#    (c) these images do not decide, (d) better with 95 % certainty

# %%
quiz("10", ["c", "a", "d", "b", "c"])

# %% [markdown]
# ## Recap
#
# - **One loss**: ten weighted terms join all blocks, nine more the mixed batch.
# - **One step**: the sum of the terms, one backward, every optimizer, gradients back to `None`.
# - **One schedule** for every length: rates, ramps and starts are functions of $t / t_{max}$.
# - **Batches** are functions of seed and step, so there is nothing to save about them.
# - **A save** is exact if it holds networks, optimizers, step and random state, and safe if it is written aside
#   and renamed.
# - **A checkpoint** is chosen on validation images, and two methods are compared image by image, with an
#   interval that may say "a tie".
#
# **Next:** chapter 11 reads results: which part of the method earns what, where it fails, and what is left
# of a difference over several seeds.

# %%
check.report()
