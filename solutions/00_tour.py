# %% [markdown]
# # 00 · The tour: the finished method first
#
# {{badges}}
#
# A doctor outlines eight images for you. Forty are on your disk. How much is there to be had from the
# other thirty-two? This chapter shows the whole answer before it explains any part of it: what labels
# cost, what SAM knows and does not know, what comes out when both are put to use, and which network
# learns from what. The later chapters build each block by hand.
#
# | | |
# |---|---|
# | **You will** | score a segmentation; decide whom to label; ask SAM with a box, a point and a rough mask; train the whole method and its rival on the same eight labels; find out which network learns from which loss; use what is left when SAM has gone home |
# | **You need** | PyTorch tensors, a network's forward pass, what a gradient is; nothing about SAM or semi-supervised learning |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: three to nine minutes of computing, nearly all of it in two training cells |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import tempfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite import METHODS, Config, Students, Synthetic, UNet, UserError, VNet, figures, fit
from knowsam_lite.config import RECIPES
from knowsam_lite.data import Record, choose_labeled
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.metrics import dice
from knowsam_lite.sam import BACKBONES, PromptedSam, SamTeacher, load_pretrained

# %% [markdown]
# Here is the whole method, all lit for once. Do not try to understand it now. Every chapter shows it
# again with one block lit, and at the end of this one you can say what flows along each arrow. The long
# names: **HAM** hybrid aggregation module, **SAM** Segment Anything Model, **LPS** learnable prompt
# strategy, **SKD** SAM-induced knowledge distillation, **UGDA** uncertainty-guided data augmentation.

# %%
drawn = show(
    figures.pipeline,
    lit="images, U-Net, V-Net, HAM, LPS, SAM, SKD, UGDA",
    alt="Map of KnowSAM with all blocks highlighted: images go to U-Net and V-Net, their logits to HAM, its "
    "fused map to SAM, which also gets learned prompts; SAM's answer goes to SKD and from there back to both "
    "networks; HAM's map also goes to UGDA, which makes mixed images.",
)

# %% [markdown]
# ## Labels are dear
#
# To *segment* an image is to say of every pixel what it belongs to. A network learns it from examples,
# and an example is an image whose object somebody has outlined by hand, pixel by pixel. For photographs
# of cats that is tedious. For a skin lesion it takes somebody who knows where the lesion ends.
#
# We work with drawn images, so nothing has to be downloaded and every truth is known: 64 synthetic
# skin lesions, 40 of them for training. Eight of the 40 get a label. The truth of the other 32 exists,
# too; it serves to show what you miss, and KnowSAM never sees it.

# %% tags=["compare"]
dataset = Synthetic("dermoscopy", seed=0, n=64, size=64)
train, test = dataset.split("train"), dataset.split("test")
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
print(len(train), "training images,", len(labeled), "of them labelled;", len(test), "test images")

# %% [markdown]
# How much work is a label? Let us count the pixels of the border that has to be traced: they belong to the
# lesion, and one of their eight neighbours does not.


# %% tags=["compare"]
def border(mask: Tensor) -> Tensor:
    """The pixels of a mask (H, W) that have a neighbour outside it: bool (H, W)."""
    outside = F.max_pool2d(1 - mask[None].float(), 3, stride=1, padding=1)[0]
    return mask.bool() & outside.bool()


traced = {r.id: int(border(torch.tensor(dataset.mask(r)) == 1).sum()) for r in train}
print("pixels to trace in the 8 labelled images:", sum(traced[i] for i in labeled))
print("pixels to trace in all 40 training images:", sum(traced.values()))

# %% [markdown]
# And these are small images: at 256 × 256 pixels a border is four times as long, and a volume has one in
# every slice.
#
# What do you lose with a fifth of the labels? Train the same networks once with 8 labels and once with
# all 40. The method is called `supervised_pair`: a U-Net and a V-Net, two usual networks for segmentation
# (chapters 02 and 03), and HAM, which makes one map of their two (chapter 05). It learns from labelled
# images alone. Both *subnets* are narrower than the originals, so that a CPU can follow. At the budget
# `smoke` nothing is trained, but everything below still runs.

# %%
steps = budget(smoke=0, ci=10, laptop=150, gpu=400)


def small_nets() -> tuple[nn.Module, nn.Module]:
    """A U-Net and a V-Net of half the original's width, and less."""
    unet = UNet(2, (8, 16, 32, 64), dropout=(0, 0, 0.1, 0.1))
    return unet, VNet(2, (8, 16, 32, 64), depths=(1, 1, 2, 2))


def trained(name: str, labeled: str) -> nn.Module:
    """Train a method by its name on `labeled` images; returns it on the CPU, in evaluation mode."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(method=name, steps=max(steps, 1), labeled=labeled, learning_rate=3e-3, out=folder)
        torch.manual_seed(0)
        method = METHODS[name](config, 2, *small_nets())
        if steps:
            method = fit(dataset, replace(config, val_every=steps), method, progress=False)
    return method.cpu().eval()


# %% [markdown]
# Expect one to three minutes, without a progress bar.

# %% tags=["training"]
few = trained("supervised_pair", "8")
all_labels = trained("supervised_pair", "100%")

# %% [markdown]
# Now the 16 test images, which neither has seen. `views` gives the logits of every map that a
# method makes. A `z` in a name always means *logits*, one number per class before the softmax, of the
# shape (N, C, H, W): images, classes, height, width.

# %% tags=["compare"]
x = torch.stack([load_case(dataset, record, 64)[0] for record in test])
y = torch.stack([torch.tensor(dataset.mask(record)).long() for record in test])
with torch.no_grad():
    z_few, z_all = few.views(x), all_labels.views(x)
for name, z in z_few.items():
    print(f"{name:<6} logits {tuple(z.shape)}")


# %%
def cases(maps: dict[str, Tensor], chosen: list[int]) -> list[dict]:
    """Rows for a prediction sheet of test images: logits (N, 2, H, W) by name."""
    rows = []
    for i in chosen:
        truth = y[i].numpy().astype("uint8")
        answers = {name: z[i].argmax(dim=0).numpy().astype("uint8") for name, z in maps.items()}
        scores = {name: dice(answer == 1, truth == 1) for name, answer in answers.items()}
        row = {"id": f"lesion {i}", "image": dataset.image(test[i]), "truth": truth, "maps": answers}
        rows.append({**row, "dice": scores})
    return rows


def by_gain(new: Tensor, old: Tensor) -> list[int]:
    """The test images with the largest, the middle and the smallest gain in Dice; logits (N, 2, H, W)."""
    pairs = zip(new.argmax(dim=1), old.argmax(dim=1), y, strict=True)
    order = np.argsort([dice(p == 1, t == 1) - dice(q == 1, t == 1) for p, q, t in pairs])
    return [int(order[-1]), int(order[len(order) // 2]), int(order[0])]


sheet = show(
    figures.prediction_sheet,
    cases({"8 labels": z_few["fused"], "40 labels": z_all["fused"]}, by_gain(z_all["fused"], z_few["fused"])),
    of={"8 labels": "fused", "40 labels": "fused"},
    alt="Three skin lesions, one per row: image, truth, and the masks of the same networks trained with 8 and "
    "with 40 labels: where the 40 gain most, in the middle, and where they gain least or lose.",
)

# %% [markdown]
# The rows are chosen by number, not by beauty: where 40 labels gain most, in the middle, and least. The number in the corner is the *Dice score*; you will soon write it
# yourself.
#
# [The project's runs from scratch](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/from_scratch.md)
# show the same gap, with a full-sized U-Net, 400 steps, one seed and some 150 training images of each of five drawn kinds:
#
# | labels | colonoscopy | ultrasound | dermoscopy | cardiac | histology |
# |---|---|---|---|---|---|
# | 8 | 0.647 | 0.709 | 0.771 | 0.474 | 0.830 |
# | all | 0.779 | 0.785 | 0.876 | 0.722 | 0.883 |
#
# This gap is what *semi-supervised* learning wants to close, without one more label.
#
# ### From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $x$ | images | `x` | (N, 3, H, W), in [0, 1] |
# | $y$ | labels: the class of every pixel, −1 where unknown | `y` | (N, H, W) |
# | $z_a, z_b$ | logits of U-Net and V-Net | `z.logits_a`, `z.logits_b` | (N, C, H, W) |
# | $z_f = \mathrm{HAM}(z_a, z_b)$ | fused logits: the prediction | `z.logits_f` | (N, C, H, W) |
# | $h_f$ | entropy of $p$: the fused map's doubt, 0 to 1 (chapter 05) | `entropy_map(z_f)` | (N, H, W) |
# | $m_c = \log p_c / (1 - p_c)$ | mask prompt of class $c$, $p = \mathrm{softmax}(z_f)$ | `mask_prompts(z_f, size)` | (N, C, h, w) |
# | $z_s = \mathrm{SAM}(x, m)$ | SAM's answer | `teacher(x, z_f).logits` | (N, C, H, W) |
# | $\mathrm{Dice} = 2 \lvert P \cap T \rvert / (\lvert P \rvert + \lvert T \rvert)$ | how good it is | `dice(p, t)` | one number |
#
# ## Step 1: how good is a mask?
#
# **Idea.** Take twice the pixels that prediction $P$ and truth $T$ share, and divide by the pixels of
# both. Identical masks get 1, disjoint ones 0. Background pixels that both leave alone count for nothing.
#
# **Smallest example.** Four pixels of ten belong to the object. One prediction is empty, one is too
# large, one is right. Compare Dice with the share of pixels that are right:

# %% tags=["compare"]
truth = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0]) == 1
guesses = {"empty": np.zeros(10), "too large": np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 0]), "right": truth}
for name, guess in guesses.items():
    print(f"{name:<10} Dice {dice(guess == 1, truth):.2f}   pixels right {(guess == truth).mean():.2f}")

# %% [markdown]
# An empty mask still has 60 % of its pixels right, and 95 % if the lesion fills a twentieth of the image.
#
# ### Exercise 00.1: Dice of each class
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `dice_per_class(z, y)`: logits (N, C, H, W) and labels (N, H, W) in, one number per image and
# foreground class out, (N, C − 1), as float32. The classes are 0 to C − 1; class 0 is the background and
# gets no column. Where neither the prediction nor the truth has the class, the score is 1.
#
# <details><summary>Hint</summary>
#
# 1. Logits become labels by `z.argmax(dim=1)`, (N, H, W): the class with the largest logit wins.
# 2. For each class `c` from 1 on, `labels == c` and `y == c` are Boolean masks (N, H, W). `&` is their
#    overlap, and `.sum(dim=(1, 2))` counts the pixels of each image by itself. `torch.stack(..., dim=1)`
#    makes columns of the classes.
# 3. 0 / 0 is `nan`. `torch.where(sizes > 0, ratio, 1.0)` puts 1 in its place.
#
# </details>
#
# $$\mathrm{Dice}_c = \frac{2 \, \lvert P_c \cap T_c \rvert}{\lvert P_c \rvert + \lvert T_c \rvert}$$


# %% tags=["exercise"]
# blank: dice_per_class
def dice_per_class(z: Tensor, y: Tensor) -> Tensor:
    """Logits (N, C, H, W), labels (N, H, W) -> Dice of classes 1 .. C - 1 of each image (N, C - 1)."""
    labels = z.argmax(dim=1)  # (N, C, H, W) -> (N, H, W)
    scores = []
    for c in range(1, z.shape[1]):
        p, t = labels == c, y == c
        sizes = p.sum(dim=(1, 2)) + t.sum(dim=(1, 2))
        scores.append(torch.where(sizes > 0, 2 * (p & t).sum(dim=(1, 2)) / sizes, 1.0))
    return torch.stack(scores, dim=1)


# %%
check("00.1", dice_per_class)

# %% [markdown]
# **Look.** All 16 test images, both trainings. (From here on the figures and tables use the library's
# functions, so an unfinished exercise never stops you.)


# %%
def mean_dice(z: Tensor) -> float:
    """Mean Dice of the lesion over the test images; z (N, 2, H, W)."""
    return sum(dice(p == 1, t == 1) for p, t in zip(z.argmax(dim=1), y, strict=True)) / len(y)


print("Dice on the test images   8 labels   40 labels")
for name in z_few:
    print(f"  {name:<22} {mean_dice(z_few[name]):>9.2f} {mean_dice(z_all[name]):>11.2f}")

# %% [markdown]
# Read the row `fused`, which is the prediction. A single subnet may even do worse with more labels in a run
# this short: 150 steps of four images show it each of 8 images 75 times, and each of 40 only 15 times.
#
# ## Step 2: whom to label?
#
# **Idea.** Lesions come one by one. Many medical images do not: a heart is scanned in slices, a video has
# thousands of frames. Is a second slice of the same heart worth a second label? And may one slice be used
# for training while the next one is used to test?
#
# **Smallest example.** Sixteen synthetic hearts of eight slices each. We compare the left ventricle in
# neighbouring slices of one heart, and in slices at the same height of two hearts:

# %% tags=["compare"]
hearts = Synthetic("cardiac", seed=0, n=128, size=64)
slices: dict[str, list] = {}
for record in hearts.records:
    slices.setdefault(record.group, []).append(hearts.mask(record) == 3)
patients = list(slices)
near = [dice(a, b) for stack in slices.values() for a, b in pairwise(stack)]
far = [
    dice(a, b)
    for i, p in enumerate(patients)
    for q in patients[:i]
    for a, b in zip(slices[p], slices[q], strict=True)
]
print(len(patients), "patients,", len(hearts.records), "slices")
print(f"Dice of the truths: neighbours in one heart {np.mean(near):.2f}, two hearts {np.mean(far):.2f}")

# %% [markdown]
# A network that has learned one slice by heart knows most of the next. If that one is in the test set,
# your figure measures memory: this is a *leak*. And a label on the next slice buys little. So the unit is
# the patient, or the video: in the library a *group*. Whole groups are labelled, and no group is in
# two splits.
#
# ### Exercise 00.2: whom to label
#
# Difficulty 2 of 5 · importance 4 of 5 · 8 minutes
#
# Write `choose_patients(records, wanted)`: a list of the ids of training images to be labelled. Take
# whole groups in the order in which they first appear, until at least `wanted` images are chosen, and
# then stop. Each record has `id`, `group` and `split` ("train", "val" or "test"). The images of one group
# need not be neighbours in the list.
#
# <details><summary>Hint</summary>
#
# 1. Go through the records once, pass over those whose `split` is not "train", and collect the ids by
#    group: `groups.setdefault(record.group, []).append(record.id)`. A dict remembers the order in which
#    its keys came.
# 2. Then go through `groups.values()`. Before you add a group, look whether enough *images* are there
#    already.
#
# </details>
#
# $$\text{add groups } g_1, g_2, \dots \text{ while } \textstyle\sum_i \lvert g_i \rvert < \text{wanted}$$


# %% tags=["exercise"]
# blank: choose_patients
def choose_patients(records: list[Record], wanted: int) -> list[str]:
    """Ids of whole groups of training images, in order of appearance: at least `wanted` ids, if there are."""
    groups: dict[str, list[str]] = {}
    for record in records:
        if record.split == "train":
            groups.setdefault(record.group, []).append(record.id)
    chosen: list[str] = []
    for ids in groups.values():
        if len(chosen) < wanted:
            chosen += ids
    return chosen


# %%
check("00.2", choose_patients)

# %% [markdown]
# **Look.** The library's `choose_labeled` does the same, only that it shuffles the groups first, by a
# seed. Asked for 10 slices it takes two whole hearts:

# %% tags=["compare"]
group_of = {record.id: record.group for record in hearts.records}
for spec in ("10", "10%", "3groups"):
    ids = choose_labeled(hearts.records, spec, seed=0)
    print(f"asked for {spec:<8} slices {len(ids):>2}   hearts {len({group_of[i] for i in ids})}")

# %% [markdown]
# ## What SAM knows
#
# The Segment Anything Model was shown more than a billion masks (Kirillov et al., 2023). It has learned
# one thing from them: what a *thing* looks like. You point at something, and it draws the outline. How
# you point is called a *prompt*: points, a box, or a rough mask.
#
# The real one is large. `sam_mini`, which ships with this library, has the same parts and has seen
# nothing but random shapes over random textures: no photograph and no medical image.

# %% tags=["compare"]
sam = PromptedSam(BACKBONES["sam_mini"], image_size=64).eval()
load_pretrained(sam)
print(f"sam_mini: {sum(p.numel() for p in sam.parameters()) / 1e6:.1f} million parameters")
try:
    sam.segment(sam.encode(x[:1]))
except UserError as error:
    print("asked without a prompt:", str(error).split(":")[0])

# %% [markdown]
# ## Step 3: ask SAM
#
# **Idea.** A half-trained network can make every kind of prompt, for it has a rough mask. The mask itself
# is one, its middle is a point, and the smallest rectangle around it is a box.
#
# ### Exercise 00.3: a box from a mask
#
# Difficulty 2 of 5 · importance 3 of 5 · 7 minutes
#
# Write `box_of(mask)`: a Boolean mask (H, W) in, the box (4,) out, as float32: $x_0, y_0, x_1, y_1$, the
# columns and rows of the outermost pixels. SAM counts in pixels, and $x$ is the *column*. For an empty
# mask return the whole image, from pixel 0 to the last one.
#
# <details><summary>Hint</summary>
#
# 1. `ys, xs = mask.nonzero(as_tuple=True)` gives the rows and the columns of all pixels of the mask. You
#    need the smallest and the largest of each.
# 2. `torch.stack([...])` makes one tensor of four numbers; the order is $x_0, y_0, x_1, y_1$, and
#    `.float()` gives the type. Nothing is divided.
# 3. `min` of nothing is an error. So ask `mask.any()` first; the last column of an image is its width
#    minus 1.
#
# </details>
#
# $$x_0 = \min_{(y, x) \in M} x, \quad y_0 = \min_{(y, x) \in M} y, \quad x_1 = \max_{(y, x) \in M} x, \quad y_1 = \max_{(y, x) \in M} y$$


# %% tags=["exercise"]
# blank: box_of
def box_of(mask: Tensor) -> Tensor:
    """The box x0, y0, x1, y1 (4,) around a bool mask (H, W), float32; the whole image if it is empty."""
    height, width = mask.shape
    if not mask.any():
        return torch.tensor([0, 0, width - 1, height - 1]).float()
    ys, xs = mask.nonzero(as_tuple=True)
    return torch.stack([xs.min(), ys.min(), xs.max(), ys.max()]).float()


# %%
check("00.3", box_of)

# %% [markdown]
# **Look.** We ask the same SAM three times about each test image: with the true box, with the middle of
# the lesion as a point, and with a *rough mask*: the truth eaten away at its border, with holes and false
# islands, so that its Dice is about 0.7. That is how a half-trained network sees it.

# %%
from knowsam_lite.course.chapters.ch00.e3_a_box_from_a_mask import right_box
from knowsam_lite.course.chapters.ch00.e4_who_learns import learners
from knowsam_lite.course.chapters.ch00.e5_the_finished_method_in_use import right_segment
from knowsam_lite.sam.degrade import spoil_to


@torch.no_grad()
def ask(embedding: Tensor, **prompt: Tensor | tuple[Tensor, Tensor]) -> np.ndarray:
    """SAM's mask, bool (64, 64), of one image's embedding (128, 8, 8) and one prompt."""
    z = sam.segment(embedding[None], **prompt)
    return (F.interpolate(z, (64, 64), mode="bilinear", align_corners=False)[0, 0] > 0).numpy()


def middle(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The centre of a mask (H, W) as a point prompt: coordinates (1, 1, 1, 2) and label (1, 1, 1)."""
    ys, xs = mask.nonzero(as_tuple=True)
    return torch.stack([xs.float().mean(), ys.float().mean()]).view(1, 1, 1, 2), torch.ones(1, 1, 1)


def as_prompt(mask: np.ndarray) -> Tensor:
    """A mask (64, 64) as logits for SAM, (1, 1, 32, 32): 6 inside, -6 outside."""
    logits = torch.where(torch.tensor(mask), 6.0, -6.0)[None, None]
    return F.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)


# %% tags=["compare"]
rough = [spoil_to((t == 1).numpy(), np.random.default_rng(i), 0.7) for i, t in enumerate(y)]
with torch.no_grad():
    seen = sam.encode(x)  # SAM looks at each image once, however often it is asked
answers: dict[str, list[np.ndarray]] = {"box": [], "point": [], "rough mask": []}
for i, t in enumerate(y):
    answers["box"].append(ask(seen[i], boxes=right_box(t == 1).view(1, 1, 4)))
    answers["point"].append(ask(seen[i], points=middle(t == 1)))
    answers["rough mask"].append(ask(seen[i], masks=as_prompt(rough[i])))


def mean_of(masks: list[np.ndarray]) -> float:
    """Mean Dice of 16 masks with the truth."""
    return float(np.mean([dice(mask, t == 1) for mask, t in zip(masks, y, strict=True)]))


print(f"{'the rough mask itself':<26} {mean_of(rough):.1f}")
for name, masks in answers.items():
    print(f"SAM, given the {name:<11} {mean_of(masks):.1f}")


# %%
shown = 2
lesion = {"image": dataset.image(test[shown]), "truth": (y[shown] == 1).numpy()}
asked: dict[str, dict] = {
    "box": {"box": right_box(y[shown] == 1).tolist()},
    "point": {"points": [(*middle(y[shown] == 1)[0].flatten().tolist(), True)]},
    "rough mask": {"mask": rough[shown]},
}
prompts = show(
    figures.questions,
    [{**lesion, "id": name, "answer": answers[name][shown], **prompt} for name, prompt in asked.items()],
    alt="One skin lesion asked about in three ways, side by side: with a box, with a point and with a rough mask that "
    "has false islands; in all three SAM's mask follows the lesion.",
)

# %% [markdown]
# The mask prompt is the remarkable one. The question has a Dice of about 0.7 and the answer about 0.9:
# SAM grows it to the edge, fills its holes and drops most of its islands, although it has never seen
# skin. A network that is *partly* right can ask SAM and get back something better than it had. The whole
# method rests on that.
#
# ### What SAM does not know
#
# **Names.** A heart's left ventricle is a bright disc in a dark ring of muscle. Somebody wants the ring,
# and somebody else the ring with what is inside. The boxes are the same! We ask about every slice of four
# hearts in which the ventricle has at least 20 pixels:

# %% tags=["compare"]
beating = Synthetic("cardiac", seed=0, n=32, size=64)
told = []
for record in beating.records:
    heart, mask = load_case(beating, record, 64)[0], torch.tensor(beating.mask(record))
    ring, inside = mask == 2, mask == 3
    if inside.sum() >= 20:
        filled = ring | inside
        with torch.no_grad():
            embedding = sam.encode(heart[None])[0]
        boxed = ask(embedding, boxes=right_box(ring).view(1, 1, 4))
        pointed = ask(embedding, points=middle(inside))
        one_box = torch.equal(right_box(ring), right_box(filled))
        told.append([one_box, *(dice(a, t) for a in (boxed, pointed) for t in (ring, inside, filled))])
same_box, *scores = np.array(told).T
print(f"slices: {len(told)}, with the same box around both things: {int(same_box.sum())}")
print("Dice with      the ring   the inside   both")
for name, row in (("box", scores[:3]), ("point inside", scores[3:])):
    print(f"{name:<14} {row[0].mean():>8.1f} {row[1].mean():>12.1f} {row[2].mean():>6.1f}")

# %% [markdown]
# One question, two right answers: SAM gives one of them, and cannot know that you meant the other. A
# point is worse: it lies in the ventricle, in the heart and in the chest. SAM knows outlines; it does not
# know what an object is *called*, which of two things you mean, or which of them is ill.
#
# **That nothing is there.** Draw a box of 16 × 16 pixels on healthy skin and ask what is in it:

# %% tags=["compare"]
found = []
for i, t in enumerate(y):
    for left, top in ((0, 0), (48, 48)):  # two corners of the image
        if not (t[top : top + 16, left : left + 16] == 1).any():
            box = torch.tensor([left, top, left + 15, top + 15]).float()
            found.append((i, box, ask(seen[i], boxes=box.view(1, 1, 4))))
some = sum(answer.any() for _, _, answer in found)
filled = np.mean([answer.sum() / 16**2 for _, _, answer in found])
print(f"{len(found)} boxes without any lesion; SAM finds a thing in {some} of them")
print(f"size of the things it finds: {filled:.1f} of the box, on average")

# %%
record = beating.records[2]
heart, mask = load_case(beating, record, 64)[0], torch.tensor(beating.mask(record))
box = right_box(mask == 2)
with torch.no_grad():
    answer = ask(sam.encode(heart[None])[0], boxes=box.view(1, 1, 4))
i, empty, nothing = found[0]
ring = {"image": beating.image(record), "box": box.tolist(), "answer": answer}
nowhere = {"image": dataset.image(test[i]), "box": empty.tolist(), "answer": nothing}
doubts = show(
    figures.questions,
    [
        {**ring, "id": "the ring", "truth": (mask == 2).numpy()},
        {**ring, "id": "ring and inside", "truth": (mask >= 2).numpy()},
        {**nowhere, "id": "nothing", "truth": np.zeros((64, 64), bool)},
    ],
    alt="Three questions that SAM cannot answer: the same box around a heart's ring, and around the ring with its "
    "inside, get one and the same mask; a box on healthy skin gets a mask, too, where the truth is empty.",
)

# %% [markdown]
# Asked where nothing is, it still finds something, for its training hardly ever had nothing to find.
# So SAM alone is no doctor. Somebody has to say where to look and what to call it. Two small networks
# that have learned the names from a few labels can do that, and get an outline in return. That is the
# bargain of KnowSAM: **the students know what, SAM knows where.**
#
# ## The result first
#
# Train the whole method. Same 8 labels, same subnets, same steps, same seed as `few` above. What is new
# are SAM and the 32 images without a label. Expect two to six minutes.

# %% tags=["training"]
knowsam = trained("knowsam", "8")

# %%
with torch.no_grad():
    z_know = knowsam.views(x)
result = show(
    figures.prediction_sheet,
    cases(
        {"pair": z_few["fused"], "fused": z_know["fused"], "SAM": z_know["SAM"]},
        by_gain(z_know["fused"], z_few["fused"]),
    ),
    of={"pair": "fused"},
    alt="Three test images with the truth, the mask of the pair trained on labels alone, KnowSAM's fused mask and "
    "its SAM's mask: the image where KnowSAM gains most, one in the middle, and the one where it gains least.",
)

# %% [markdown]
# Chosen by the same rule, KnowSAM against the pair. Look at the last row: where the students' map is
# wrong, SAM may repeat the error, or enlarge it. And all 16:

# %%
print("Dice on the test images   U-Net   V-Net   fused     SAM")
for name, z in (("pair, 8", z_few), ("knowsam, 8", z_know), ("pair, 40", z_all)):
    row = [f"{mean_dice(z[view]):.2f}" if view in z else "-" for view in ("U-Net", "V-Net", "fused", "SAM")]
    print(f"  {name + ' labels':<20}", "".join(f"{cell:>8}" for cell in row))

# %% [markdown]
# Read the column `fused`. The first row is what 8 labels give, the second what they give with the help of
# SAM and 32 images without a label. In a run this short the second can even pass the third: SAM brings in
# outlines that no label here holds.
#
# - **Why not compare with a plain U-Net?** Two networks and HAM may beat one without any unlabelled image.
# - **Can you trust it?** With 16 test images and one seed the last digit means nothing. The table of
#   [the runs from scratch](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/from_scratch.md)
#   has three seeds (± is their standard deviation), 400 steps, full-sized networks and 60 test images:
#
# | 8 labelled images | `supervised_pair` | `knowsam` | difference, 95 % interval |
# |---|---|---|---|
# | synthetic dermoscopy | 0.740 ± 0.047 | 0.825 ± 0.030 | +0.086 [+0.013, +0.174] better |
# | synthetic colonoscopy | 0.640 ± 0.047 | 0.674 ± 0.008 | +0.035 [−0.021, +0.101] tie |
#
# An interval that holds 0 is a tie. On real polyps, 15 labels, it is one: both end near 0.34. Networks that start
# from ImageNet reach 0.67 with as many, in longer runs on a larger set; what KnowSAM [adds to that](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/starts.md)
# depends on the images: chapters 13 and 14.
#
# ## Step 4: one batch, from left to right
#
# **Idea.** How did that work? Follow one batch through the map at the top. Half of it is labelled, half
# is not; the labelled images come first.

# %% tags=["compare"]
options = {"batch_labeled": 4, "batch_unlabeled": 4, "size": 64, "unlabeled_aug": "strong"}
batch = StepBatches(dataset, labeled, seed=0, **options)[0]
torch.manual_seed(0)
method = METHODS["knowsam"](Config(steps=100), 2, *small_nets()).train()
with torch.no_grad():
    z = method.students(batch.x)  # U-Net, V-Net, HAM
    prompt = method.teacher.mask_prompts(z.logits_f)
    answer = method.teacher(batch.x, z.logits_f)
flow = {"x, images": batch.x, "y, labels": batch.y, "z_a, U-Net": z.logits_a, "z_b, V-Net": z.logits_b}
flow |= {"z_f, HAM": z.logits_f, "mask prompt": prompt, "tokens, LPS": answer.tokens}
flow |= {"SAM's embedding": answer.embedding, "z_s, SAM": answer.logits}
for name, tensor in flow.items():
    print(f"{name:<16} {tuple(tensor.shape)}")
print("labelled images:", batch.n_labeled, " pixels with a label:", f"{(batch.y >= 0).float().mean():.0%}")

# %% [markdown]
# Both students look at all eight images. HAM makes one map out of two. That map becomes a *mask prompt*,
# one per class, on SAM's grid of 32 × 32. LPS adds two prompt tokens per class, learned from SAM's own
# *embedding* of the image. SAM answers for both classes at once, in the students' own shape. So its answer
# can be compared with theirs pixel by pixel, and that is what SKD does. UGDA begins later in a run: where
# the fused map doubts ($h_f$), regions change places between labelled and unlabelled images.
#
# **Smallest example.** One pixel, two or three classes. SAM expects the logit of a yes-or-no mask:
# positive inside, negative outside, 0 undecided. The logits of a softmax are something else; $\log p_c /
# (1 - p_c)$ translates.

# %% tags=["compare"]
from knowsam_lite.sam.prompts import mask_prompts

for values in ([0.0, 2.0], [5.0, 7.0], [0.0, 2.0, 1.0]):
    z_f = torch.tensor(values).view(1, -1, 1, 1)
    p = z_f.softmax(dim=1).flatten()
    prompt = mask_prompts(z_f, (1, 1)).flatten()
    print(f"z_f = {values}   p = {[round(v, 2) for v in p.tolist()]}", end="   ")
    print(f"prompt = {[round(v, 1) for v in prompt.tolist()]}")

# %% [markdown]
# The first two rows have the same probabilities, and so the same prompt. In the third the second class
# still wins, but the others together have half as much: its prompt is small.
#
# **Who learns from whom?** All blocks train at the same time, in every step. If every loss reached every
# network, there would be chaos: SAM could make its answer easy to imitate instead of right, and the students
# could send prompts that please SAM. So some roads are closed, by `detach`. You need an instrument that finds out which.
#
# ### Exercise 00.4: who learns from a loss?
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# Write `who_learns(loss, networks)`: a scalar loss and a dict from name to module in, the *set* of the
# names of those networks out that have at least one trainable parameter with a gradient other than 0.
# Asking must leave no trace: no `.grad` is filled, and the same loss can be asked again. A network may be
# frozen, or have no parameters at all.
#
# <details><summary>Hint</summary>
#
# 1. `torch.autograd.grad(loss, parameters)` *returns* one gradient per parameter. `loss.backward()` would
#    add them to `.grad`, where they would stay.
# 2. Ask only for parameters whose `requires_grad` is true, and not at all if there are none: autograd
#    refuses an empty list. `retain_graph=True` keeps the graph for the next question, and
#    `allow_unused=True` gives `None` for a parameter that has no part in the loss.
# 3. A gradient may be `None`, or a tensor of zeros. `g is not None and g.any()` is true for neither. One
#    parameter that passes is enough.
#
# </details>
#
# $$k \text{ learns from } L \iff \exists\, \theta \in \theta_k : \frac{\partial L}{\partial \theta} \neq 0$$


# %% tags=["exercise"]
# blank: who_learns
def who_learns(loss: Tensor, networks: dict[str, nn.Module]) -> set[str]:
    """The names of the networks with a trainable parameter whose gradient of `loss` is not 0 throughout."""
    names = set()
    for name, network in networks.items():
        trained = [p for p in network.parameters() if p.requires_grad]
        if not trained:
            continue
        found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
        if any(g is not None and g.any() for g in found):
            names.add(name)
    return names


# %%
check("00.4", who_learns)

# %% [markdown]
# **Look.** First predict. Tick on paper who learns from each of these five losses: U-Net, V-Net, HAM,
# SAM's pretrained weights, SAM's adapters and learned prompts (chapters 06 and 07).
#
# 1. `a/supervised`: the U-Net's answer against the labels
# 2. `fused/supervised`: HAM's map against the labels
# 3. `a/consistency`: the U-Net should say what the V-Net says
# 4. `sam/supervised`: SAM's answer, to a prompt made of HAM's map, against the labels
# 5. `a/distillation`: the U-Net should say what SAM says
#
# Then measure. `losses` gives all ten terms of the method, by name: also the V-Net's own, and `entropy`, by
# which each subnet learns to be sure of itself (chapter 04).

# %% tags=["compare"]
trainable = [p for p in method.teacher.parameters() if p.requires_grad]
frozen = [p for p in method.teacher.parameters() if not p.requires_grad]
networks = {
    "U-Net": method.students.net_a,
    "V-Net": method.students.net_b,
    "HAM": method.students.ham,
    "SAM frozen": nn.ParameterList(frozen),
    "SAM trained": nn.ParameterList(trainable),
}
terms = method.losses(batch, step=0)  # UGDA has not begun yet: see chapter 09
print(f"{'':<18}", "".join(f"{name:>13}" for name in networks))
for term, loss in terms.items():
    learn = learners(loss, networks)
    print(f"{term:<18}", "".join(f"{'learns' if name in learn else '.':>13}" for name in networks))

# %% [markdown]
# - `fused/supervised` is the only loss that reaches three networks. HAM has no data of its own: it learns
#   from the map that it makes, and through its inputs it teaches both students.
# - `a/consistency` teaches the U-Net alone, although the V-Net's answer stands in it: the target is
#   detached. The V-Net gets its turn in `b/consistency`.
# - `sam/supervised` stops at SAM. HAM's map is detached on its way in, or else HAM would learn to draw
#   prompts that help SAM instead of drawing what is there.
# - `a/distillation` stops at the U-Net. SAM's answer is detached on its way back, or else the teacher
#   would learn to say what its pupil can repeat.
# - The frozen weights never learn: what SAM knew before, it still knows in the end.
#
# ## Step 5: the finished method in use
#
# When the training is over, SAM is no longer needed. What you keep are the two subnets and HAM, in the
# library the module `Students`. Count, with everything at full size:

# %% tags=["compare"]
with torch.device("meta"):  # shapes, but no numbers: even a large network costs nothing
    counted = {"students": Students(2)}
    counted |= {name: SamTeacher(name, 2, 256) for name in ("sam_mini", "sam_vit_b")}
for name, network in counted.items():
    print(f"{name:<10} {sum(p.numel() for p in network.parameters()) / 1e6:>6.1f} million parameters")

# %% [markdown]
# Each SAM is counted with its adapters and LPS. The 2.9 million that `sam_mini` has more than above are LPS
# (2.8) and larger tables of positions, for 256 pixels instead of 64. And `sam_vit_b`, the paper's, is twenty
# times as large as all that you keep.
#
# ### Exercise 00.5: from image to mask
#
# Difficulty 3 of 5 · importance 4 of 5 · 10 minutes
#
# Write `segment(students, image, size=64)`: what a user of the finished method calls. `image` is a NumPy
# array, uint8 (H, W, 3), of any size. Bring it to `size` × `size` pixels in [0, 1], ask the students in
# evaluation mode and without a graph, bring the fused logits back to the image's own size, and return the
# class of every pixel, int64 (H, W). Both resizings are `F.interpolate(..., mode="bilinear",
# align_corners=False)`.
#
# <details><summary>Hint</summary>
#
# 1. `torch.tensor(image)` is (H, W, 3). The networks want (1, 3, H, W), height before width:
#    `.movedim(-1, 0)` and `.unsqueeze(0)`. Bytes run from 0 to 255, so divide by 255.
# 2. `students.eval()` makes BatchNorm use what it has learned instead of this one image, and switches
#    dropout off. `with torch.no_grad():` keeps no graph.
# 3. `students(x).logits_f` are the fused logits (1, C, size, size). Enlarge them to `image.shape[:2]`
#    *before* you take the winner with `argmax(dim=1)`: logits can be interpolated, class numbers cannot.
#    `[0]` leaves (H, W).
#
# </details>
#
# $$\hat y = \arg\max_c \; \mathrm{resize}\big(z_f(\mathrm{resize}(x / 255))\big)_c$$


# %% tags=["exercise"]
# blank: segment
def segment(students: nn.Module, image: np.ndarray, size: int = 64) -> Tensor:
    """Image uint8 (H, W, 3) -> class of every pixel (H, W), int64, by the students' fused logits."""
    x = torch.tensor(image).movedim(-1, 0).unsqueeze(0) / 255  # (H, W, 3) -> (1, 3, H, W)
    students.eval()
    with torch.no_grad():
        z = students(F.interpolate(x, (size, size), mode="bilinear", align_corners=False)).logits_f
    z = F.interpolate(z, image.shape[:2], mode="bilinear", align_corners=False)
    return z.argmax(dim=1)[0]


# %%
check("00.5", segment)

# %% [markdown]
# **Look.** Two lesions in larger images than any the students were trained on, one of them not square.

# %%
larger = Synthetic("dermoscopy", seed=1, n=8, size=128)
rows = []
for record, top in zip(larger.split("test"), (0, 16), strict=False):
    image, truth = (array[top : 128 - top] for array in (larger.image(record), larger.mask(record)))
    answer = right_segment(knowsam.students, image).numpy().astype("uint8")
    height, width = image.shape[:2]
    row = {"id": f"{height} x {width}", "image": image, "truth": truth, "maps": {"fused": answer}}
    rows.append({**row, "dice": {"fused": dice(answer == 1, truth == 1)}})
use = show(
    figures.prediction_sheet,
    rows,
    alt="Two larger skin lesions, one in a square and one in a flat image, with the truth and the mask that the "
    "students alone give, brought back to the image's own size.",
)

# %% [markdown]
# ## Ablate one thing
#
# Is it really the students' map that makes SAM useful, or could SAM's adapters and learned prompts do
# without it? An *ablation* takes one part away and leaves the rest as it is. Ask the trained SAM with the
# fused map, with a blank one (logits 0 everywhere: "undecided"), and with the map of another image.

# %%
z_f = z_know["fused"]
questions = {
    "its own map": z_f,
    "a blank map": torch.zeros_like(z_f),
    "the next image's map": z_f.roll(1, dims=0),
}
print(f"{'the fused map itself':<32} {mean_dice(z_f):.2f}")
with torch.no_grad():
    for name, question in questions.items():
        print(f"SAM, given {name:<21} {mean_dice(knowsam.teacher(x, question).logits):.2f}")

# %% [markdown]
# What to expect: with its own map SAM is as good as the map or better; with a blank one it falls, since
# nobody tells it where to look; with a wrong map it falls further, because it takes the question
# seriously. That is the limit of the bargain: **SAM mends what is nearly right, and repeats what is
# wrong.**
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) describes the map at the top. The code that its authors
# published differs from it in places, and this library from both. These touch what you have seen here:
#
# | detail | authors' code | this library | chapter |
# |---|---|---|---|
# | mask prompt | the raw logit of each class | log-odds $\log p_c / (1 - p_c)$ | 07 |
# | SAM's start | adapters and tokens start at random | adapters change nothing at first, tokens start at 0 | 06, 07 |
# | prompts while SAM learns | the students' map as it is | roughened on the labelled half | 07 |
# | UGDA exchanges | the most certain regions | the most uncertain, as in the paper's figure 3 | 09 |
#
# Take the first line. A softmax does not care if you add 3 to all logits of a pixel: no probability
# changes. Does the prompt care?

# %% tags=["compare"]
from knowsam_lite.official.teacher import OfficialTeacher

authors = OfficialTeacher(2, 64, BACKBONES["sam_mini"])
z_f = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
for name, teacher in (("authors", authors), ("library", method.teacher)):
    moved = (teacher.mask_prompts(z_f + 3) - teacher.mask_prompts(z_f)).abs().max()
    print(f"{name}: adding 3 to all logits moves the prompt by {round(moved.item(), 1)}")

# %% [markdown]
# With raw logits SAM is told "inside" with more emphasis, for background and lesion alike, although the
# students have not changed their mind.
#
# The largest difference is the size. Here the short recipe `lesson` runs; `paper` needs a GPU and SAM's
# published weights:

# %% tags=["compare"]
lesson, paper = RECIPES["lesson"], RECIPES["paper"]
for name in ("image_size", "steps", "batch_labeled", "batch_unlabeled", "optimizer", "teacher"):
    print(f"{name:<16} {getattr(lesson, name)!s:<10} {getattr(paper, name)}")

# %% [markdown]
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. A colleague splits 128 slices of 16 hearts at random into training and test. What is wrong? (a) slices
#    of one heart stand on both sides, so the test measures memory, (b) there are too few slices, (c) the
#    classes are unbalanced, (d) nothing
# 2. You draw a box around a ring and SAM fills it. Why? (a) SAM is too small, (b) the box was too tight,
#    (c) SAM never finds rings, (d) ring and filled ring have the same box, and SAM does not know which you
#    mean
# 3. SAM's own loss is large. Which networks does it move? (a) all of them, (b) SAM's adapters and learned
#    prompts, (c) HAM and SAM, (d) the frozen weights of SAM
# 4. What has to be installed in the hospital? (a) SAM with its adapters, (b) SAM and the students, (c)
#    U-Net, V-Net and HAM, (d) the U-Net alone
# 5. Why is `knowsam` compared with `supervised_pair`? (a) it has the same networks and labels, so the
#    difference comes from the method, (b) it trains faster, (c) it is the best method known, (d) it also
#    uses SAM

# %%
quiz("00", ["a", "d", "b", "c", "a"])

# %% [markdown]
# ## Recap
#
# - **Labels** are paid for pixel by pixel, and they are bought by the patient: slices of one heart are
#   nearly one label.
# - **Dice** counts the pixels of the object alone, so an empty mask cannot look good.
# - **SAM** turns a box, a point or a rough mask into an outline. It knows no names, cannot tell which of
#   two things you mean, and always finds something.
# - **KnowSAM** lets two students and HAM say what, and SAM say where. Detaches, into SAM, out of it and
#   between the students, decide who learns from whom.
# - A gain counts only against a rival with the **same networks, labels and steps**.
#
# **Next:** chapter 01 takes the data apart: masks, groups, augmentation and the traps of the metrics. If
# you want the heart of the method at once, go to chapter 05.

# %%
check.report()
