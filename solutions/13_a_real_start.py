# %% [markdown]
# # 13 · A real start
#
# {{badges}}
#
# Every network of this course so far began as noise, and on real images with 15 labels noise is a bad place to
# begin. Here both students get a start: an encoder that has seen a million photographs. You write the five small
# pieces between such an encoder and a segmentation, and measure what the start is worth, also where it is worth
# nothing.
#
# | | |
# |---|---|
# | **You will** | put an encoder's normalization where it belongs; freeze a network whole; train two parts at two rates, with a warm-up; write a decoder over features of several strides; compare frozen, tuned and from nothing |
# | **You need** | BatchNorm and the U-Net (chapter 02), freezing (chapter 06), the paired bootstrap (chapter 10) |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: two to four minutes of computing, most of it in one table |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite import Config, Record, figures
from knowsam_lite.course.chapters.ch13.e5_a_decoder import RIGHT as FINISHED_DECODER
from knowsam_lite.course.chapters.ch13.frozen import FrozenEncoder
from knowsam_lite.course.recorded import load_runs
from knowsam_lite.course.setup import data_folder
from knowsam_lite.data import choose_labeled, open_dataset
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.errors import UserError
from knowsam_lite.evaluation import case_dice, score_split
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods import Supervised, base
from knowsam_lite.metrics import dice, paired_bootstrap

# %% [markdown]
# Lit below is what changes: the two students, each with an encoder that knows something before its first label.
# HAM, SAM and everything to the right of it stay as they are.

# %%
drawn = show(
    figures.pipeline,
    lit="U-Net, V-Net",
    alt="Map of KnowSAM with U-Net and V-Net highlighted; images, HAM, LPS, SAM, SKD and UGDA are not.",
)

# %% [markdown]
# ## Why
#
# Fifteen colonoscopy images with a polyp outlined in each, and one U-Net that learns from nothing else. These
# are recorded runs on real images, 128 pixels, 150 steps, scored on 88 *validation* images; the commands are in
# [the list of recorded runs](https://github.com/knowsam-lite/knowsam-lite/blob/main/knowsam_lite/course/grids/README.md).
# The network, EfficientNet-Lite0 under a U-Net's decoder, is the same in both rows, and so are images and steps.
# `scratch` began at random, `rate_0.25` with an encoder that had learned to tell 1,000 kinds of things in photographs
# apart, ImageNet's; not one of them is a polyp. (The name says at which rate it goes on learning: step 4.)

# %% tags=["compare"]
starts = load_runs("starts")
print(f"{starts.title}, 15 labels")
print(f"{'mean Dice on val':<22}{''.join(f'step {step:<6}' for step in starts.steps)}")
for name in ("scratch", "rate_0.25"):
    for seed, curve in enumerate(starts.curves[name]):
        print(f"{name + f', seed {seed}':<22}{''.join(f'{d:<11.2f}' for d in curve)}")

# %%
curves = show(
    figures.trends,
    {
        ("ImageNet" if name == "rate_0.25" else "from nothing"): (starts.steps, starts.curves[name][0])
        for name in ("rate_0.25", "scratch")
    },
    title="Dice on val, 15 labelled polyps, seed 0",
    xlabel="step",
    references=["from nothing"],
    alt="Two lines over 150 steps: the net that starts from ImageNet lies far above the one that starts from nothing "
    "at every validation.",
)

# %% [markdown]
# Methods are compared by hundredths; this is a third of the whole scale. Part of it is time: at
# the end the random network's training loss is still near 0.45, that of the other near 0.14 (the last rows of
# their logs); it has not even learned its fifteen images. But fifteen images do not say, either, whether a polyp is
# "round, wet and slightly redder" or "a bright spot in the upper left", and a network from nothing has no reason to
# prefer the one. A semi-supervised method on top of it has to teach with answers like these: with 15 labels and
# students from nothing the sixteen methods that were tried (187 polyps, 400 steps, one protocol) end between mean Dice
# 0.26 and 0.35, and none can be told from labels alone
# ([the table](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/comparison/scratch/README.md)). So: first the start,
# then the method.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $x' = (x - \mu) / \sigma$ | the encoder's own normalization | `Normalized(encoder, mean, std)` | (N, 3, H, W) |
# | $\theta_E$, frozen | weights and statistics that stay | `Frozen(net)` | |
# | $\eta_E = \rho\, \eta$ | rate of the encoder, a fraction of the rest's | `students_optimizer(module, config)` | two numbers |
# | $f(t)$ | decay and warm-up of both rates | `rate_factor(step, steps, warm_up)` | a number |
# | $e_i$ | features of stride $2^i$ | `net.encoder(x)` | (N, D_i, H / 2^i, W / 2^i) |
# | $m_i = A_i e_i + \mathrm{up}(m_{i+1})$ | top-down merging | `TopDown(widths, dim, num_classes)` | (N, D, H / 2^i, W / 2^i) |
#
# ## Images for today
#
# Images of patients come with terms, and the sets that this library can download do not allow
# copies in a repository. So by default this chapter draws its own polyps. If you have prepared the public
# set, once, in the folder that the set-up cell printed as `data`, it is used instead:
#
# ```bash
# knowsam-lite data polyp --out datasets/polyp --size 256 --fit squash
# ```

# %%
SIZE = 96
folder = data_folder() / "polyp"
real = (folder / "index.csv").is_file()
dataset = open_dataset(str(folder) if real else "synthetic:colonoscopy:160:1", SIZE)
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
unseen = dataset.split("val")[:40]
print("real images:" if real else "drawn images, no prepared set here:", dataset.name)
print(f"{len(labeled)} labelled, {len(unseen)} to score on, {SIZE} pixels")


# %%
def opened(records: Sequence[Record]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, SIZE, SIZE) in [0, 1], and their labels at the same size."""
    images, masks = zip(*(load_case(dataset, record, SIZE) for record in records), strict=True)
    sized = [F.interpolate(torch.tensor(m)[None, None].float(), (SIZE, SIZE))[0, 0] for m in masks]
    return torch.stack(images), torch.stack(sized).long()


x_l, y_l = opened([record for record in dataset.split("train") if record.id in labeled])
x_v, y_v = opened(unseen)
looked = show(
    figures.panels,
    [
        {f"case {i}": (x_l[i].movedim(0, -1) * 255).byte() for i in range(5)},
        {f"case {i}": y_l[i] == 1 for i in range(5)},
    ],
    names=("image", "mask"),
    alt="Five labelled images in the upper row, and below each the mask of its polyp.",
)

# %% [markdown]
# The encoder's weights come in a Python package, so nothing has to be fetched from a hub. Where the packages
# are missing, the next cell says so in a line, and what needs them is skipped; every exercise works without.

# %%
nets: dict[str, PretrainedNet] = {}
for start, weights in (("from nothing", False), ("ImageNet", True)):
    torch.manual_seed(0)
    try:
        nets[start] = PretrainedNet("efficientnet_lite0", "unet", 2, weights).eval()
    except (UserError, ImportError) as error:
        print(f"{start}: not here ({error})")
print("ready:", ", ".join(nets) or "nothing, the recorded runs stand for the rest")

# %% [markdown]
# ## Step 1: what do features know?
#
# **Idea.** Before any training, ask the encoder alone. It turns an image into maps, each coarser than the
# one before it and with more channels. If a *linear* function of these channels already tells polyp from
# background at most places, the features know polyps, although nobody told them. This is a *linear probe*: no
# gradient goes into the encoder, and the linear function is solved for, not trained.
#
# **Smallest example.** Least squares with a small ridge, on four points with two features each. The first
# feature says the answer, the second is noise:


# %% tags=["compare"]
def ridge(f: Tensor, t: Tensor, weight: float = 1.0) -> Tensor:
    """Features (K, D) and targets (K,) -> the D weights that minimize squared error + weight x their squares."""
    return torch.linalg.solve(f.T @ f + weight * torch.eye(f.shape[1]), f.T @ t)


points = torch.tensor([[1.0, 0.3], [1.0, -0.2], [-1.0, 0.1], [-1.0, -0.1]])
found = ridge(points, torch.tensor([1.0, 1.0, -1.0, -1.0]), 0.1)
print("weights", [f"{w:.2f}" for w in found])
print("answers", [f"{a:.2f}" for a in points @ found])

# %% [markdown]
# The encoder of a `PretrainedNet` returns its input, then features of stride 2, 4, 8, 16 and 32:

# %%
with torch.no_grad():
    for net in list(nets.values())[-1:]:
        for f in net.encoder((x_l - net.mean) / net.std):
            print(
                f"stride {SIZE // f.shape[-1]:>2}   {f.shape[1]:>4} channels of {f.shape[2]} x {f.shape[3]}"
            )

# %% [markdown]
# We lay strides 4, 8 and 16 over each other at stride 4, which gives a vector for each such place, and solve for
# the polyp on the labelled images. Each number is Dice on images that the probe has not seen.


# %%
@torch.no_grad()
def columns(net: PretrainedNet, x: Tensor, normalized: bool = True) -> Tensor:
    """Features of strides 4, 8, 16 and a constant at stride 4: (N, H / 4, W / 4, D)."""
    given = (x - net.mean) / net.std if normalized else x
    chosen = net.encoder(given)[2:5]
    size = chosen[0].shape[-2:]
    laid = [F.interpolate(f, size, mode="bilinear", align_corners=False) for f in chosen]
    return torch.cat([*laid, torch.ones_like(laid[0][:, :1])], dim=1).movedim(1, -1)


def probe(net: PretrainedNet, normalized: bool = True) -> float:
    """Mean Dice on the unseen images of a linear probe on the labelled ones."""
    f = columns(net, x_l, normalized)
    scale = f.flatten(0, 2).std(dim=0).clamp(min=1e-6)
    scale[-1] = 1  # the constant
    share = F.avg_pool2d((y_l == 1).float().unsqueeze(1), 4).flatten()
    weights = ridge((f / scale).flatten(0, 2), 2 * share - 1, 100.0)
    z = (columns(net, x_v, normalized) / scale) @ weights
    large = F.interpolate(z.unsqueeze(1), x_v.shape[-2:], mode="bilinear", align_corners=False)
    return float(np.mean([dice(p > 0, t == 1) for p, t in zip(large[:, 0], y_v, strict=True)]))


probed = {start: probe(net) for start, net in nets.items()}
for start, found in probed.items():
    print(f"{start:<13} {found:.2f}")

# %% [markdown]
# Both encoders have the same layers; only one has looked at photographs, and it shows: some direction among its
# channels separates polyp from mucosa, although nobody ever asked for one. On real colonoscopies, with this very
# cell, 8 labelled images and 40 of val, the probe reached 0.24 from nothing and 0.38 with ImageNet: harder images, the
# same order. It is a linear function of eight images; no answer yet, but a place to start.
#
# ## Step 2: the encoder's normalization
#
# **Idea.** An encoder was pretrained on images from which a mean was subtracted and which were divided by a
# standard deviation. These six numbers are a part of the weights: its first layer expects values around 0. They
# belong *into the net*, as buffers, so that images in [0, 1] are all that anyone ever hands over: the loader,
# the augmentation, SAM (which has other numbers) and whoever predicts in two years. And a grey image, such
# as an ultrasound, has one channel where the encoder has three: show it in all three.
#
# **Smallest example.** One grey pixel, three encoders. The same pixel is a different number to each:

# %% tags=["compare"]
pixel = torch.full((1, 1, 1, 1), 0.5)
for name, mean, std in (
    ("EfficientNet-Lite", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("most of timm's", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("none", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
):
    mu, sigma = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
    made = (pixel.expand(-1, 3, -1, -1) - mu) / sigma
    print(f"{name:<18} {[f'{v:+.2f}' for v in made.flatten()]}")

# %% [markdown]
# ### Exercise 13.1: normalization in the net
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `__init__` and `forward` of `Normalized`; as in every module, `super().__init__()` comes first. It takes images in [0, 1] with one or three channels; the
# encoder gets three, normalized by the `mean` and `std` that were given. Both are kept as buffers: they move with
# the net to another device, and no optimizer sees them.
#
# <details><summary>Hint</summary>
#
# 1. After `super().__init__()`: `self.register_buffer("mean", tensor, persistent=False)`, with a tensor of shape
#    (3, 1, 1) from `torch.tensor(mean).view(3, 1, 1)`; likewise `"std"`. Not persistent: a checkpoint need not
#    hold what the code says.
# 2. `x` is in [0, 1] already. `(x - self.mean) / self.std`, a new tensor, and then the encoder.
# 3. `x.expand(-1, 3, -1, -1)` shows one channel three times without a copy, and leaves three as they are. Do it
#    before you normalize. (Without it, broadcasting against a mean of shape (3, 1, 1) would do the same.)
#
# </details>
#
# $$x'_c = \frac{x_c - \mu_c}{\sigma_c}, \qquad c = \text{red, green, blue}$$


# %% tags=["exercise"]
# blank: Normalized.__init__
# blank: Normalized.forward
class Normalized(nn.Module):
    """An encoder that takes images in [0, 1] and brings them to its own mean and standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.encoder = encoder
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Any:
        """Images (N, 1 or 3, H, W) in [0, 1] -> what the encoder makes of (N, 3, H, W)."""
        return self.encoder((x.expand(-1, 3, -1, -1) - self.mean) / self.std)


# %%
check("13.1", Normalized)

# %% [markdown]
# **Look.** What if one forgets it? The probe again, with and without:

# %%
for start, net in nets.items():
    print(f"{start:<13} normalized {probed[start]:.2f}   as it is {probe(net, normalized=False):.2f}")

# %% [markdown]
# No error, no warning, and not even a worse score: when this chapter was written the probe was *ahead* without
# normalization, here and on the real images (0.43 against 0.38). Is it a superstition, then? Eight labelled images
# and one split cannot say so. A probe weighs the channels anew, a tuned encoder adapts, and either may hide the
# fault or like it by chance. But all that anybody has ever measured about these weights was measured on normalized
# images; without, you are on your own. That is why a missing normalization survives in published code (the
# authors' SAM has none), and why a check asks for it here, and no curve.
#
# ## Step 3: freezing, whole
#
# **Idea.** A frozen encoder cannot forget, cannot overfit, and is cheap: no backward pass through it, no
# optimizer state, and its features of an image can be computed *once*. But a network holds more than weights.
# BatchNorm keeps a running mean and variance, *buffers*, which follow the images in every forward pass in
# training mode, with no gradient in sight.
#
# **Smallest example.** A BatchNorm that "was frozen", and forty batches of images that are all brighter:

# %% tags=["compare"]
norm = nn.BatchNorm2d(1).requires_grad_(False).train()
one = torch.ones(1, 1, 2, 2)
print(f"before: mean {norm.running_mean.item():.2f}   1 becomes {norm.eval()(one).mean().item():.2f}")
norm.train()
generator = torch.Generator().manual_seed(0)
for _ in range(40):
    norm(3 + torch.randn(4, 1, 8, 8, generator=generator))
print(f"after:  mean {norm.running_mean.item():.2f}   1 becomes {norm.eval()(one).mean().item():.2f}")
print("gradients:", [p.grad for p in norm.parameters()])

# %% [markdown]
# No weight has moved, and the layer computes something else. Worse, in training mode it does not use these
# statistics at all, it takes the batch's own: a decoder that learns on such features meets others in
# evaluation. `eval()` stops both. But the loop calls `method.train()` after every validation, and that call
# reaches each module inside.
#
# ### Exercise 13.2: frozen whole
#
# Difficulty 3 of 5 · importance 5 of 5 · 10 minutes
#
# Write `__init__` and `train` of `Frozen`, a module around a pretrained net. The net, this very net as
# `self.net`, takes no gradient in any parameter and stays in evaluation mode, whatever
# mode the rest is switched to. `train(mode)` still does what PyTorch's does to the module itself, and returns
# the module. (`nn.Module.eval()` calls `train(False)`, so this one method is enough.)
#
# <details><summary>Hint</summary>
#
# 1. After `super().__init__()`: `net.requires_grad_(False)` for all parameters and `net.eval()`; both return the net.
# 2. `super().train(mode)` switches this module and all inside; afterwards put the net back, `self.net.eval()`.
# 3. `return self`, as PyTorch's does.
#
# </details>


# %% tags=["exercise"]
# blank: Frozen.__init__
# blank: Frozen.train
class Frozen(nn.Module):
    """A net that never changes: no gradient for its weights, and its BatchNorms keep their statistics."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Frozen":
        """Switch this module's mode, but never the net's; returns the module."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


# %%
check("13.2", Frozen)

# %% [markdown]
# **Look: what does it save?** A gradient for each trained weight, and AdamW's two averages. Our network, with its
# encoder trained and with it frozen:

# %%
for net in list(nets.values())[-1:]:
    for frozen in (False, True):
        model = copy.deepcopy(net)
        model.encoder.requires_grad_(not frozen)
        held = sum(p.numel() for p in model.parameters())
        moved = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(
            f"{'frozen' if frozen else 'trained':<8} {held / 1e6:.1f} M weights, {moved / 1e6:.1f} M trained, "
            f"{3 * 4 * moved / 2**20:.0f} MB of gradients and averages"
        )

# %% [markdown]
# ## Step 4: two rates and a warm-up
#
# **Idea.** Between "frozen" and "as if it were new" lies a whole range. The decoder begins at random and needs
# large steps; the encoder begins near something good and should not leave it at the first wrong gradient, and
# the first gradients *are* wrong, since they come through a random decoder. So the encoder learns at a
# fraction $\rho$ of the decoder's rate. An optimizer allows that by *parameter groups*, each with its own rate.
#
# **Smallest example.** Is the first step of AdamW small when the gradient is small?

# %% tags=["compare"]
for pull in (1000.0, 1.0, 0.001):
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.0)
    (pull * weight).sum().backward()
    optimizer.step()
    print(f"gradient {pull:<8} first step {weight.item():+.4f}")

# %% [markdown]
# No. Adam divides by the size of the gradient, and after one gradient that is the gradient itself: every weight
# moves by the full rate, whether there was reason to or not. This is what the rates of the groups, and the
# warm-up below, hold back.
#
# ### Exercise 13.3: two rates
#
# Difficulty 3 of 5 · importance 4 of 5 · 10 minutes
#
# Write `students_optimizer(module, config)`. `module` may hold several networks at any depth. Encoders of
# `PretrainedNet`s learn at `config.encoder_rate` times `config.learning_rate`, everything else at
# `config.learning_rate`; frozen parameters are listed nowhere. If `config.optimizer` is `"published"`, it is SGD
# with momentum 0.9, else AdamW; `config.weight_decay` holds for both.
#
# <details><summary>Hint</summary>
#
# 1. `m.encoder.parameters()` for each `m` of `module.modules()` that `isinstance(m, PretrainedNet)`: a set of
#    parameters. (A set of tensors compares identities, so `p in encoders` is what you want.)
# 2. Two lists of the parameters with `requires_grad`: those that are not in the set, and those that are.
# 3. `[{"params": rest}, {"params": slow, "lr": config.encoder_rate * config.learning_rate}]`. A group without `lr`
#    takes the optimizer's. Leave the second group out where there is no encoder.
# 4. `torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)`, or `torch.optim.SGD`
#    with `momentum=0.9`.
#
# </details>
#
# $$\theta_E \leftarrow \theta_E - \rho\,\eta\; u(\nabla_{\theta_E}), \qquad \theta_D \leftarrow \theta_D - \eta\; u(\nabla_{\theta_D})$$


# %% tags=["exercise"]
# library: knowsam_lite.methods.base.students_optimizer
# blank: students_optimizer

# %%
check("13.3", students_optimizer)

# %% [markdown]
# **Warm-up.** In the first steps everything moves by its full rate on the word of a few images. So the rates rise,
# from nearly nothing, over the first fraction $w$ of the run; all the while they decay to 0 at its end, as
# they always did.
#
# ### Exercise 13.4: the warm-up
#
# Difficulty 2 of 5 · importance 3 of 5 · 6 minutes
#
# Write `rate_factor(step, steps, warm_up)`: what each rate is multiplied by in step $t$ = 0, 1, ... of
# $t_{max}$; `warm_up` is $w$, a fraction of the run, 0 for none.
#
# <details><summary>Hint</summary>
#
# 1. The warm-up lasts `warm_up * steps` steps; in step $t$ the rise is at `(step + 1)` of them.
# 2. `min(1.0, ...)` ends it. It lasts at least one step: `max(warm_up * steps, 1)`, or you divide by 0.
# 3. The decay: `1 - max(step - 1, 0) / steps`. That steps 0 and 1 both have 1 is the authors' way of counting.
#
# </details>
#
# $$f(t) = \Big(1 - \frac{\max(t - 1,\, 0)}{t_{max}}\Big) \cdot \min\Big(1,\ \frac{t + 1}{\max(w\, t_{max},\, 1)}\Big)$$


# %% tags=["exercise"]
# library: knowsam_lite.methods.base.rate_factor
# blank: rate_factor

# %%
check("13.4", rate_factor)

# %% tags=["compare"]
for step in (0, 4, 9, 14, 15, 75, 149):
    both = [base.rate_factor(step, 150, w) for w in (0.0, 0.1)]
    print(f"step {step:>3}   without {both[0]:.3f}   with a warm-up of a tenth {both[1]:.3f}")

# %%
rates = show(
    figures.trends,
    {f"warm-up {w}": (range(150), [base.rate_factor(t, 150, w) for t in range(150)]) for w in (0.0, 0.1)},
    title="What the rates are multiplied by",
    xlabel="step",
    alt="Two lines over 150 steps: one falls from 1 to 0, the other rises from 0 to the first line within 15 steps "
    "and goes down with it.",
)

# %% [markdown]
# ## Step 5: a decoder
#
# **Idea.** The deepest features know *what* (one number for 32 × 32 pixels has seen nearly the whole image),
# the fine ones know *where*. A decoder brings both together. The U-Net concatenates at each level and convolves
# (chapter 02). The *feature pyramid network*, FPN, does the least that works: a 1×1 convolution brings all
# levels to one width, then from the deepest to the finest each map is enlarged and *added* to the next.
#
# **Smallest example.** Deep: 2 × 2, "it is in the lower right". Fine: 4 × 4, "edges here". Their sum:

# %% tags=["compare"]
deep = torch.tensor([[0.0, 0.0], [0.0, 4.0]])[None, None]
fine = torch.eye(4)[None, None]
merged = fine + F.interpolate(deep, fine.shape[-2:], mode="nearest")
for row in merged[0, 0].tolist():
    print("  ".join(f"{v:.0f}" for v in row))

# %% [markdown]
# The diagonal is an edge everywhere; where the deep map agrees, it stands at 5. Neither map says that alone.
#
# ### Exercise 13.5: a decoder
#
# Difficulty 3 of 5 · importance 4 of 5 · 12 minutes
#
# Write `forward(features, size)` of `TopDown`. `features` are the maps of several strides, *finest first*;
# `self.lateral` has a 1×1 convolution for each, in the same order. Merge them from the deepest to the finest as
# in the equation, copying the nearest pixel wherever a map is enlarged to the next finer one; let `self.head` read the
# finest sum, and enlarge its logits to `size` bilinearly, corners not aligned. Sizes need not be each
# other's double.
#
# <details><summary>Hint</summary>
#
# 1. `zip(self.lateral, features, strict=True)` brings each map to the common width.
# 2. Begin with the deepest, the last one, and go through the others from the end: `reversed(...)`. The sum of one
#    round is what the next one enlarges.
# 3. `F.interpolate(merged, f.shape[-2:], mode="nearest")` enlarges to the size of the finer map, whatever it is.
# 4. At the end first `self.head`, then `F.interpolate(..., size, mode="bilinear", align_corners=False)`.
#
# </details>
#
# $$m_k = A_k e_k, \qquad m_i = A_i e_i + \mathrm{up}_{nearest}(m_{i+1}), \qquad z = \mathrm{up}_{bilinear}(\mathrm{head}(m_1))$$


# %% tags=["exercise"]
# blank: TopDown.forward
class TopDown(nn.Module):
    """Features of several strides -> logits; after the feature pyramid network (Lin et al., 2017)."""

    def __init__(self, widths: Sequence[int], dim: int, num_classes: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
        self.head = nn.Conv2d(dim, num_classes, 3, padding=1)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Features [(N, widths[i], h_i, w_i)], finest first -> logits (N, num_classes, *size)."""
        *finer, merged = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
        for f in reversed(finer):
            merged = f + F.interpolate(merged, f.shape[-2:], mode="nearest")
        return F.interpolate(self.head(merged), size, mode="bilinear", align_corners=False)


# %%
check("13.5", TopDown)

# %% [markdown]
# **Look: a decoder on features that are computed once.** Frozen features of eight images are a few tensors. So
# the encoder runs once, and a step costs milliseconds. (While yours is unfinished, a finished decoder stands in.)

# %% tags=["training"]
decoder_kind = TopDown if check.results["13.5"] == "done" else FINISHED_DECODER
for start, net in nets.items():
    with torch.no_grad():
        f_l, f_v = (net.encoder((x - net.mean) / net.std)[2:] for x in (x_l, x_v))
    torch.manual_seed(0)
    decoder = decoder_kind([f.shape[1] for f in f_l], 32, 2)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    for _ in range(budget(smoke=0, ci=20, laptop=100, gpu=100)):
        supervised_loss(decoder(f_l, (SIZE, SIZE)), y_l).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        found = decoder(f_v, (SIZE, SIZE)).argmax(dim=1)
    scores = [dice(p == 1, t == 1) for p, t in zip(found, y_v, strict=True)]
    print(f"{start:<13} {np.mean(scores):.2f}   ({sum(p.numel() for p in decoder.parameters())} weights)")

# %% [markdown]
# ## Put together: three ways
#
# Now whole networks, in the library's pieces: from nothing; pretrained and frozen whole; pretrained, the encoder at
# a quarter of the rate. The same batches, the same steps, a warm-up of a tenth, and each with every seed.

# %%
steps = budget(smoke=0, ci=2, laptop=50, gpu=200)
seeds = range(budget(smoke=1, ci=1, laptop=2, gpu=3))
WAYS: dict[str, tuple[type[Supervised], str, float]] = {
    "from nothing": (Supervised, "none", 1.0),
    "frozen": (FrozenEncoder, "imagenet", 0.25),
    "tuned": (Supervised, "imagenet", 0.25),
}


def run(way: str, seed: int) -> np.ndarray:
    """Train one net; returns the Dice of each image of val."""
    kind, weights, share = WAYS[way]
    config = Config(
        steps=max(steps, 1), students="pretrained", encoder_weights=weights, encoder_rate=share, seed=seed
    )
    torch.manual_seed(seed)
    method = kind(config, 2).train()
    optimizer = base.students_optimizer(method, config)
    bases = [group["lr"] for group in optimizer.param_groups]
    plan = StepBatches(dataset, labeled, seed=seed, batch_labeled=4, batch_unlabeled=0, size=64)
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = rate * base.rate_factor(step, steps, 0.1)
        method.losses(plan[step], step)["supervised"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    scores = score_split(method.eval(), dataset, "val", 64, torch.device("cpu"), distances=False)
    return case_dice(scores[method.prediction_view])


# %% tags=["training"]
live = {way: np.stack([run(way, seed) for seed in seeds]) for way in WAYS} if "ImageNet" in nets else {}
for way, found in live.items():
    print(f"{way:<13} Dice on val, each seed: {'  '.join(f'{mean:.2f}' for mean in found.mean(axis=1))}")
enough = steps >= 50 and len(seeds) > 1
for better, other in (("tuned", "from nothing"), ("tuned", "frozen")) if live else ():
    d = paired_bootstrap(live[better], live[other])
    verdict = "a tie" if d["low"] <= 0 <= d["high"] else "they differ on these images"
    print(f"{better} minus {other}: {d['difference']:+.2f} [{d['low']:+.2f}, {d['high']:+.2f}]", end=", ")
    print(verdict if enough else f"but {steps} steps and {len(seeds)} seed say nothing")

# %% [markdown]
# At the budget `ci` two steps decide nothing. In the executed solution, 50 steps and two seeds, drawn polyps tell what
# the real ones below tell: from nothing the network finds next to nothing, either way of using the start finds most
# polyps, and between these two there is a tie.
#
# ## Recorded on real polyps
#
# The ways of the recorded runs: `scratch`; `frozen`, whole, as in exercise 13.2; and the pretrained encoder at a
# fraction of the decoder's rate. All are scored on val; no test image was looked at.

# %% tags=["compare"]
print(f"after {starts.steps[-1]} steps       each seed")
for name, found in starts.last.items():
    print(f"{name:<12} {found.mean():.3f}   {'  '.join(f'{mean:.3f}' for mean in found.mean(axis=1))}")

# %% tags=["compare"]
for better, other in (
    ("rate_0.25", "scratch"),
    ("rate_0.25", "frozen"),
    ("rate_0.25", "rate_1.0"),
    ("rate_0.25", "rate_0.1"),
):
    both = min(len(starts.last[better]), len(starts.last[other]))
    d = paired_bootstrap(starts.last[better][:both], starts.last[other][:both])
    said = "tie" if d["low"] <= 0 <= d["high"] else "differ on these images"
    print(
        f"{better} minus {other:<9} {d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]  "
        f"{said}, {both} seed{'s' if both > 1 else ''}"
    )

# %%
ways = show(
    figures.forest,
    {
        name.replace("rate_", "rate "): (
            found.mean(axis=1),
            *np.percentile(
                np.random.default_rng(0).choice(found.mean(axis=0), (2000, found.shape[1])).mean(axis=1),
                [2.5, 97.5],
            ),
        )
        for name, found in starts.last.items()
    },
    title="Dice on 88 val images, 15 labels, 150 steps",
    xlabel="Dice; dots are seeds, bars come from drawing images",
    alt="A row of Dice for each way: the net from nothing lies far to the left; those with a pretrained encoder lie to "
    "the right, and their bars overlap.",
)

# %% [markdown]
# **What they say.** The start is worth a third of the whole scale, and no other difference in this table comes near.
# Frozen whole is as good as tuned: with fifteen labels the encoder has little to learn that it does not know
# already, though the decoder needs a while to catch up (step 50: 0.49 against 0.61). Between a quarter and all of the
# decoder's rate there is a tie.
#
# One pair does differ on these images, a tenth against a quarter. Is a tenth worse, then? The interval knows how
# *images* scatter; with one seed it knows nothing of runs. The trials have the same two settings with two seeds each,
# at 200 steps: 0.612 and 0.642 at a tenth, 0.654 and 0.646 at a quarter: two seeds of one
# setting lie up to 0.03 apart. So 0.022 of one seed is a lead, no result. (A tie is no proof of
# equality, either: more labels, longer runs or images less like photographs may decide otherwise.)
#
# What you may take along: begin with a start; freeze if time or memory is short, tune otherwise; and do not spend a
# week on the rate.
#
# ## Where the paper, the authors' code and this library differ
#
# | detail | paper and authors' code | this library |
# |---|---|---|
# | start of the students | from nothing | `--students paper`: from nothing; `--students pretrained`: ImageNet |
# | encoder and decoder | U-Net and 2-D V-Net | EfficientNet-Lite0 under a U-Net, Lite1 under an FPN; any of timm's |
# | rates | one for the students | the encoder at a quarter, `--encoder-rate` |
# | warm-up | none | a twentieth of the run in the recipe `laptop`, `--warm-up` |
# | labels and steps | 10 % of 1,450 images and more, 50,000 steps on a GPU | 15 images, 1,000 steps on a CPU |
#
# The paper does not need this chapter: with 145 labels and 50,000 steps a network from nothing gets somewhere.
# It is *few* labels and *few* steps that do. And comparisons stay fair only if everybody gets the same
# start: a method with pretrained students against a rival without has measured ImageNet.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. Where do the mean and standard deviation of ImageNet belong? (a) into the data loader, (b) into the net, as
#    buffers, (c) into the optimizer, (d) into the file of the data set
# 2. All parameters of an encoder have `requires_grad=False`. What changes in ten steps of training mode? (a)
#    nothing, (b) its biases, (c) the running statistics of its BatchNorms, (d) its learning rate
# 3. What does freezing save in memory, besides the graph? (a) gradients and the averages of AdamW, (b) the weights
#    themselves, (c) the labels, (d) nothing
# 4. Why a warm-up with AdamW? (a) the loss is too small at first, (b) weight decay needs time, (c) the data are
#    not shuffled yet, (d) its first steps have the full rate, however little the gradient says
# 5. Val Dice of one seed is 0.64 at rate 0.25 and 0.66 at rate 1.0. You report ... (a) that 1.0 is better, (b) that
#    this does not decide between them, (c) that 0.25 overfits, (d) the test score of both, and choose by it

# %%
quiz("13", ["b", "c", "a", "d", "b"])

# %% [markdown]
# ## Recap
#
# - With few labels the **start** decides more than the method does. A random network is slow to learn its fifteen
#   images, and has no reason to look at the right thing.
# - **Normalization** is a part of the weights and lives in the net. Forgetting it raises no error.
# - **Frozen** means three things: no gradient, no optimizer state, and BatchNorm in evaluation mode, again after
#   every `train()`.
# - **Two rates** let the new parts run and hold the old ones; a **warm-up** holds back the first steps,
#   which Adam takes at full length.
# - A **decoder** adds what deep features know to where fine ones are.
# - Say what was measured: which split, how many seeds, and what is a tie.
#
# **Next:** chapter 14 has students that know something from the first step on, and asks when their teachers should
# begin to speak.

# %%
check.report()
