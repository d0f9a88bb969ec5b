# %% [markdown]
# # 01 · Data, and how to be scored
#
# {{badges}}
#
# Before any network learns, others decide how good it will look: who is in the test set, which images it is
# shown and how they are changed, and by which rule its answers are turned into one number. This chapter builds
# those parts by hand, and tries to be fooled by each. No network is trained in it.
#
# | | |
# |---|---|
# | **You will** | split a data set so that nothing leaks; move an image and its mask alike; deal out labelled and unlabelled images, step by step; compute IoU and HD95; choose what an empty mask is worth, and see what that choice does to a result |
# | **You need** | NumPy and PyTorch tensors, Boolean masks; chapter 00 helps but is not required |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: a few seconds of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from knowsam_lite import Synthetic, UserError, figures
from knowsam_lite.course.chapters.ch01 import e5_hd95
from knowsam_lite.data import Record, choose_labeled, split
from knowsam_lite.data.sampler import StepBatches, Stream
from knowsam_lite.data.transforms import Augment
from knowsam_lite.metrics import BoolArray, dice, hd95, iou, paired_bootstrap, summarize

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. Everything else lives on what it hands over:
# images $x$, few of them with labels $y$.

# %%
drawn = show(
    figures.pipeline,
    lit="images",
    alt="Map of KnowSAM with the block of images highlighted, few labelled and many not; arrows lead from it to "
    "the U-Net and the V-Net, and mixed images come back to it from UGDA.",
)

# %% [markdown]
# ## Why
#
# Three programs outline the same skin lesion. The first draws the right shape 4 pixels too far to the right.
# The second stays 2 pixels inside the border all around. The third is perfect, but for a speck in the corner.
# Which is best? Decide by eye before you read the numbers.

# %% tags=["compare"]
lesions = Synthetic("dermoscopy", seed=0, n=64, size=64)
record = lesions.split("train")[0]
lesion = lesions.mask(record) == 1
speck = lesion.copy()
speck[4:9, 4:9] = True
answers = {
    "too far right": ndimage.shift(lesion, (0, 4), order=0),
    "too small": ndimage.binary_erosion(lesion, iterations=2),
    "a speck": speck,
}
told = show(
    figures.overlaps,
    {name: (answer, lesion) for name, answer in answers.items()},
    alt="Three predictions over the outline of one lesion: shifted to the right with Dice 0.76 and HD95 4.0, too "
    "small with Dice 0.80 and HD95 2.0, and perfect with a far speck: Dice 0.96 and HD95 26.7.",
)
for metric, best in (("dice", max), ("hd95", min)):
    print(f"best by {metric}: {best(told, key=lambda name: told[name][metric])}")
    print(f"worst by {metric}: {(min if best is max else max)(told, key=lambda name: told[name][metric])}")

# %% [markdown]
# *Hit* pixels are in both masks, *added* ones only in the prediction, *missed* ones only in the truth, whose
# outline is black. The bar is about as long as HD95, a distance in pixels that you will build in step 5. By Dice
# the speck is the winner; by HD95 it is the loser. Neither is wrong. They answer different questions, and
# whoever quotes one number has chosen a question.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $y$ | labels: the class of every pixel, −1 where unknown | `y`, `mask` | (N, H, W) |
# | $g$ | group: the patient or the video of an image | `record.group` | a word |
# | $y \circ A$ | a mask, moved by a map $A$ of positions | `warp(x, y, theta)` | (N, H, W) |
# | $P, T$ | predicted and true pixels of a class | `pred`, `true` | (H, W), Boolean |
# | $\mathrm{IoU} = \lvert P \cap T \rvert / \lvert P \cup T \rvert$ | intersection over union | `iou(pred, true)` | one number |
# | $S(P)$ | the border pixels of a mask | `surface(pred)` | (H, W), Boolean |
# | $d(p, S(T)) = \min_{q \in S(T)} \lVert p - q \rVert$ | distance of a pixel from a border | an entry of `to_true` | one number |
# | $\mathrm{HD95}$ | 95th percentile of these distances | `hd95(pred, true)` | pixels or mm |
#
# ## Step 1: masks, groups and leaks
#
# **Idea.** A mask is an image of *class indices*: 0 is the background, 1 to C − 1 are the objects. It is not
# a picture, and its numbers cannot be averaged: class 2 does not lie between 1 and 3.
#
# **Smallest example.** One row of pixels through a drawn heart. 1 is the right ventricle, 2 the muscle
# (myocardium), 3 the left ventricle:

# %% tags=["compare"]
hearts = Synthetic("cardiac", seed=0, n=192, size=64)
records = hearts.records
x = np.stack([hearts.image(record)[..., 0] for record in records]).astype(np.int64)  # grey: (192, 64, 64)
y = np.stack([hearts.mask(record) for record in records])
row = int((y[0] == 3).nonzero()[0].mean())
print("one row:", "".join(str(c) for c in y[0, row]))
print(
    len(records), "slices of", len({record.group for record in records}), "patients:", records[0].group, "..."
)

# %% [markdown]
# These 192 slices come from 24 patients, 8 from each. The patient is the *group* of a slice. We want to hold
# out a quarter of the data as a test set. The obvious way is to shuffle the slices. What could go wrong?
#
# Let us build the worst method there is, the **copyist**. It learns nothing. Given a slice, it looks for the
# training slice whose pixels are nearest to it and hands over *that* slice's mask.


# %%
flat = x.reshape(len(x), -1)
squares = (flat**2).sum(axis=1)
apart = squares[:, None] + squares[None] - 2 * flat @ flat.T  # squared distance of any two slices (192, 192)


def copyist(splits: Sequence[str], votes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The copyist's masks of the test slices (n, 64, 64), by majority of so many nearest training slices,
    and the numbers of those slices.
    """
    train, test = (np.flatnonzero(np.array(splits) == name) for name in ("train", "test"))
    nearest = train[apart[test][:, train].argsort(axis=1, kind="stable")[:, :votes]]  # (n, votes)
    ballots = np.stack([(y[nearest] == c).sum(axis=1) for c in range(hearts.num_classes)])
    return ballots.argmax(axis=0), test


def left_ventricle(pred: np.ndarray, test: np.ndarray) -> list[float]:
    """Dice of the left ventricle in each test slice."""
    return [dice(p == 3, y[i] == 3) for p, i in zip(pred, test, strict=True)]


# %% tags=["compare"]
one_by_one = split.assign_splits([record.id for record in records], val=0, test=0.25, seed=0)
by_patient = split.assign_splits([record.group for record in records], val=0, test=0.25, seed=0)
ways = {
    "slice by slice": [one_by_one[record.id] for record in records],
    "by patient": [by_patient[record.group] for record in records],
}
for name, splits in ways.items():
    print(f"{name:<15} left ventricle, Dice {np.mean(left_ventricle(*copyist(splits))):.2f}")

# %% [markdown]
# The same copyist, the same slices. Shuffled slice by slice, it finds in the training set the neighbour of
# each test slice, from the same heart, and copies that. Split by patient, it has to make do with strangers. The
# first number is a *leak*: the test set was known in part. Nothing crashes and nothing warns you. Four test
# slices under both splits:

# %%
shown = [
    i
    for i in range(len(records))
    if all(splits[i] == "test" for splits in ways.values()) and (y[i] == 3).sum() > 40
][:4]
columns: dict[str, dict[int, np.ndarray]] = {}
for name, splits in ways.items():
    pred, test = copyist(splits)
    columns[name] = dict(zip(test.tolist(), pred.astype("uint8"), strict=True))
sheet = show(
    figures.prediction_sheet,
    [
        {
            "id": f"slice {i}",
            "image": hearts.image(records[i]),
            "truth": y[i],
            "maps": {name: masks[i] for name, masks in columns.items()},
            "dice": {name: dice(masks[i] == 3, y[i] == 3) for name, masks in columns.items()},
        }
        for i in shown
    ],
    classes=hearts.classes,
    number="Dice of the left ventricle",
    alt="Four slices of hearts in rows with the truth and the copyist's masks: split slice by slice they lie "
    "nearly on the truth, split by patient they have another size and lie in another place.",
)

# %% [markdown]
# Shuffled slice by slice, the copied masks nearly cover the truth (white). Split by patient they are other
# people's hearts: of another size, in another place. The number is the Dice of the left ventricle.
#
# So the unit of a split is the group, never the image. Two small things make such a split trustworthy. It
# must depend on nothing but the groups' *names* and a seed, not on the order in which a disk happens to list
# its files. And a part that was asked for must not come out empty by rounding.
#
# The library's first function gives an order to the groups. Read it: sorted names first, then a permutation
# from the seed.

# %%
# library: knowsam_lite.data.split.seeded_groups

# %% [markdown]
# ### Exercise 01.1: split by groups
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# Write `assign_splits(groups, val, test, seed)`: the group of every image in (a name may come many times), a
# dict group → "train", "val" or "test" out. Take the groups in the order of `seeded_groups`. First come the
# test groups, then the validation groups, and the rest is for training. A part's size is its fraction of the
# *number of groups*, rounded with `round`, but at least 1 unless the fraction is 0. Raise a `UserError` for a
# fraction outside [0, 1) and if nothing is left for training; the wording is yours. (`UserError` is the
# library's own kind of error, for what a user can mend. It is imported.)
#
# <details><summary>Hint</summary>
#
# 1. `order = seeded_groups(groups, seed)` holds each group once. Its length is the number of groups, and the
#    number of images plays no part.
# 2. `max(1, round(fraction * len(order)))` is a part's size, unless the fraction is 0.
# 3. A list of as many words as there are groups, `["test"] * a + ["val"] * b + ["train"] * c`, can be paired
#    with the order: `dict(zip(order, words))`.
# 4. Look at the fractions before anything else: `if not 0 <= fraction < 1: raise UserError("...")`. Nothing
#    is left for training as soon as the two parts together are as many as the groups.
#
# </details>
#
# $$n_{test} = \max(1, \mathrm{round}(f_{test} \, G)), \quad n_{val} = \max(1, \mathrm{round}(f_{val} \, G)), \quad n_{train} = G - n_{test} - n_{val} \ge 1$$

# %% tags=["exercise"]
# library: knowsam_lite.data.split.assign_splits
# blank: assign_splits

# %%
check("01.1", assign_splits)

# %% [markdown]
# **Look.** Shuffle the list of slices, and no patient changes sides. (From here on figures and tables use the
# library's functions, so an unfinished exercise never stops you.)

# %% tags=["compare"]
groups = [record.group for record in records]
mixed = [groups[i] for i in np.random.default_rng(1).permutation(len(groups))]
parts = split.assign_splits(groups, val=0.1, test=0.25, seed=0)
print("patients:", dict(sorted(Counter(parts.values()).items())))
print("the same from a shuffled list:", split.assign_splits(mixed, val=0.1, test=0.25, seed=0) == parts)
print("slices: ", dict(sorted(Counter(parts[group] for group in groups).items())))
try:
    split.assign_splits(groups, val=0.5, test=0.5, seed=0)
except UserError as error:
    print("refused:", error)

# %% [markdown]
# ## Step 2: augmentation moves both
#
# **Idea.** A lesion upside down is still a lesion. Turned, shifted and scaled copies are new training images
# for free, as long as image and mask make *the same* move. A move asks for values between pixels. For an
# image the mean of the neighbours will do: *bilinear* sampling. For a mask it will not.
#
# **Smallest example.** Two pixels of a mask, background 0 and left ventricle 3, stretched to eight:

# %% tags=["compare"]
edge = torch.tensor([0.0, 3.0]).view(1, 1, 1, 2)
for mode in ("bilinear", "nearest"):
    kind = {"align_corners": False} if mode == "bilinear" else {}
    stretched = F.interpolate(edge, (1, 8), mode=mode, **kind).flatten()
    values = " ".join(f"{value:.1f}" for value in stretched.abs().tolist())
    print(f"{mode:<9} {values}   as classes {stretched.round().int().tolist()}")

# %% [markdown]
# Bilinear sampling invents a right ventricle (1) and a muscle (2) between the two. No rounding can mend this.
# A mask is sampled with *nearest*: each new pixel takes the class of one old pixel, and no class appears that
# was not there.
#
# In PyTorch a move is a matrix `theta` (2, 3). It says for each *new* pixel where in the *old* image to look,
# in coordinates that go from −1 to 1 across the image. `F.affine_grid` makes a table of these positions and
# `F.grid_sample` reads them off. Beyond the edge there is nothing; black would be a shape of its own, so the
# image is continued by its mirror image.
#
# ### Exercise 01.2: move image and mask alike
#
# Difficulty 2 of 5 · importance 5 of 5 · 10 minutes
#
# Write `warp(x, y, theta)`: images (N, 3, H, W), masks (N, H, W) of type int64 and matrices (N, 2, 3) in;
# the moved images and the moved masks out, of the same shapes and types. Bilinear for the images, nearest for
# the masks, `padding_mode="reflection"` and `align_corners=False` for both. A mask may hold −1, unknown,
# which has to survive.
#
# <details><summary>Hint</summary>
#
# 1. `F.affine_grid(theta, x.shape, align_corners=False)` gives the positions (N, H, W, 2). Make them once and
#    use them twice: that is what makes the moves equal.
# 2. `F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)` moves images.
# 3. `grid_sample` wants four axes and floating-point numbers: `y[:, None].float()`. With `mode="nearest"` the
#    values stay whole, so `[:, 0].long()` brings the mask back without loss.
#
# </details>
#
# $$\tilde{x}(u) = x(A u), \qquad \tilde{y}(u) = y(A u), \qquad u \mapsto A u = \theta \, (u_1, u_2, 1)^\top$$


# %% tags=["exercise"]
# blank: warp
def warp(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Move images (N, 3, H, W) and int64 masks (N, H, W) by the matrices theta (N, 2, 3), borders mirrored."""
    grid = F.affine_grid(theta, x.shape, align_corners=False)  # (N, H, W, 2)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    classes = F.grid_sample(
        y[:, None].float(), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return moved, classes[:, 0].long()


# %%
check("01.2", warp)

# %% [markdown]
# **Look.** A slice near the tip of the heart, where no right ventricle (1) is left, turned by 25 degrees and
# enlarged. Which classes are in the mask afterwards?

# %% tags=["compare", "guess"]
tip = next(i for i in range(len(y)) if not (y[i] == 1).any() and (y[i] > 0).sum() > 150)
turn = math.radians(25)
theta = 0.6 * torch.tensor([[[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]]])
grid = F.affine_grid(theta, [1, 1, 64, 64], align_corners=False)
mask = torch.tensor(y[tip]).view(1, 1, 64, 64).float()
sampled = {
    mode: F.grid_sample(mask, grid, mode=mode, padding_mode="reflection", align_corners=False)[0, 0]
    for mode in ("nearest", "bilinear")
}
for mode, moved in sampled.items():
    print(f"{mode:<9} classes {moved.round().int().unique().tolist()}")
moves = show(
    figures.panels,
    [
        {
            "image": hearts.image(records[tip]),
            "mask": y[tip],
            **{mode: moved.round().int() for mode, moved in sampled.items()},
        }
    ],
    classes=hearts.classes,
    alt="A slice of a heart, its mask with two classes, and the mask turned and enlarged: with nearest sampling it "
    "keeps its two classes, with bilinear sampling a thin blue line of a third class runs around the muscle.",
)

# %% [markdown]
# The blue line around the muscle is right ventricle that nobody drew: a false label on every border pixel,
# and borders are where segmentation is decided.
#
# The library's `Augment` does all this with more kinds of moves. *Weak* augmentation only moves: flips,
# quarter turns, small shifts and scalings. *Strong* augmentation also changes the look, by color, gamma, blur
# and noise, and leaves the mask alone. KnowSAM shows the labelled half of a batch weakly and the unlabelled
# half strongly changed.

# %%
image, truth = hearts.image(records[tip]), hearts.mask(records[tip])
changed = {"as it is": Augment("none", 64)(image, truth, 0)}
changed |= {
    f"{kind} {seed}": Augment(kind, 64)(image, truth, seed) for kind in ("weak", "strong") for seed in (1, 5)
}
views = show(
    figures.panels,
    [
        {name: (255 * view).byte().movedim(0, -1) for name, (view, _) in changed.items()},
        {name: label for name, (_, label) in changed.items()},
    ],
    names=("image", "mask"),
    classes=hearts.classes,
    alt="One slice as it is, twice weakly and twice strongly augmented, with the mask under each: the masks turn and "
    "shift with their images; the strong views make the same moves and are also brighter or noisier.",
)

# %% [markdown]
# Note the small numbers. A view is a function of image and *seed*: asked again, in whatever order, the same
# seed gives the same view. (With one seed, weak and strong even make the same move.) Where that seed comes
# from is part of the next step.
#
# ## Step 3: two streams
#
# **Idea.** A training step needs some labelled and some unlabelled images. There are few of the one and many
# of the other, so the two walk through their images at their own pace. Each walk is a *stream*: a shuffle of
# all its images, then another shuffle, without end. Within one round no image comes twice. Had we drawn
# images at random each time, *with replacement*, some would wait very long for their turn:

# %% tags=["compare"]
rng = np.random.default_rng(0)
drawn_at_random = len(set(rng.integers(0, 100, 100).tolist()))
shuffled = len(set(rng.permutation(100).tolist()))
print("100 draws from 100 images reach", drawn_at_random, "of them with replacement,", shuffled, "without")

# %% [markdown]
# **Smallest example.** Two labelled images, five unlabelled ones. The library's `Stream` is asked by
# *position*, like an endless list: the first ten of each, with a bar between the rounds.


# %% tags=["compare"]
def named(names: str) -> list[Record]:
    """Records that are called by single letters."""
    return [Record(name, Path(name), None, name, "train") for name in names]


labeled, unlabeled = Stream(named("AB"), seed=0, name=0), Stream(named("vwxyz"), seed=0, name=1)
for stream in (labeled, unlabeled):
    walk = [stream[position].id for position in range(10)]
    size = len(stream.records)
    print(" | ".join("".join(walk[at : at + size]) for at in range(0, 10, size)))

# %% [markdown]
# You will write `Stream` in chapter 10. Here we need its one property: `stream[position]` may be asked for
# any position at any time, and always gives the same answer.
#
# ### Exercise 01.3: the images of a step
#
# Difficulty 2 of 5 · importance 4 of 5 · 8 minutes
#
# Write `step_records(labeled, unlabeled, step, n_labeled, n_unlabeled)`: the records of training step number
# `step`, which counts from 0. First come `n_labeled` records of the labelled stream, then `n_unlabeled` of
# the other. Each stream goes on where it stood after the step before, and the answer depends on nothing but
# the arguments. It must be right for step 5000 without a look at the steps before.
#
# <details><summary>Hint</summary>
#
# 1. Before this step, `step` steps have each taken `n_labeled` records. So the labelled stream has come to
#    position `step * n_labeled`.
# 2. The unlabelled stream walks at its own pace: its position has nothing to do with `n_labeled`.
# 3. A stream never ends. There is no need for `%`, nor for a counter that remembers anything.
#
# </details>
#
# $$l_i = L[\,t \cdot n_l + i\,], \quad 0 \le i < n_l; \qquad u_j = U[\,t \cdot n_u + j\,], \quad 0 \le j < n_u$$


# %% tags=["exercise"]
# blank: step_records
def step_records(
    labeled: Stream, unlabeled: Stream, step: int, n_labeled: int, n_unlabeled: int
) -> list[Record]:
    """The records of a training step from 0, labelled ones first; a function of its arguments alone."""
    first = [labeled[step * n_labeled + i] for i in range(n_labeled)]
    return first + [unlabeled[step * n_unlabeled + i] for i in range(n_unlabeled)]


# %%
check("01.3", step_records)

# %% [markdown]
# **Look.** The library's `StepBatches` is made of the parts of this chapter: streams say which images,
# `Augment` changes each with a seed made of (seed, step, place), and item `step` is the whole batch. Ask for
# step 7 before step 2, or in another process: a training that was interrupted goes on *exactly*.
#
# And one thing more. The drawn data have masks for all training images. In a semi-supervised experiment most
# of them must stay closed. We watch who opens one:


# %% tags=["compare"]
class Watched(Synthetic):
    """Drawn images that remember whose mask was opened."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.opened: set[str] = set()

    def mask(self, record: Record) -> np.ndarray:
        self.opened.add(record.id)
        return super().mask(record)


watched = Watched("dermoscopy", seed=0, n=64, size=64)
few = choose_labeled(watched.records, "8", seed=0)
pieces = {"seed": 0, "batch_labeled": 4, "batch_unlabeled": 4, "size": 64, "unlabeled_aug": "strong"}
batches = StepBatches(watched, few, **pieces)
late, early = batches[7], batches[2]
again = StepBatches(watched, few, **pieces)[7]
for step in range(40):
    batches[step]
print(
    "x",
    tuple(late.x.shape),
    "y",
    tuple(late.y.shape),
    "labels of the unlabelled half:",
    late.y[4:].unique().item(),
)
print("step 7 asked twice is the same:", torch.equal(late.x, again.x) and late.ids == again.ids)
print("masks opened:", len(watched.opened), "- the labelled ones and no other:", watched.opened == few)

# %% [markdown]
# ## Step 4: one image, many images, empty masks
#
# **Idea.** Chapter 00 had the Dice score. Its sister is the *intersection over union*, IoU: of all pixels that
# anyone claims, how many do both claim? For one image the two always rank alike, because each can be had from
# the other: $\mathrm{IoU} = \mathrm{Dice} / (2 - \mathrm{Dice})$. The questions begin with the second image.
#
# **Smallest example.** Three images. In the first a large object is found nearly whole, in the second a small
# one is missed, in the third there is nothing, and nothing was claimed.

# %% tags=["compare"]
sizes = {"large": (90, 100), "small": (0, 4), "empty": (0, 0)}  # pixels in both masks, pixels in either
for name, (both, either) in sizes.items():
    print(f"{name}: IoU {both} / {either} =", f"{both / either:.2f}" if either else "?")
all_both, all_either = (sum(pair[k] for pair in sizes.values()) for k in (0, 1))
print(f"all pixels as one image: {all_both} / {all_either} = {all_both / all_either:.2f}")
for name, scores in {"empty is 1": [0.9, 0, 1], "left out": [0.9, 0], "empty is 0": [0.9, 0, 0]}.items():
    print(f"mean over the images, {name}: {np.mean(scores):.2f}")

# %% [markdown]
# Four numbers, from 0.30 to 0.87, for the same three predictions. Two choices made them.
#
# - **Mean over images or over pixels?** Pooled pixels ask how much of all the tissue was found; large objects
#   count for more. The mean over images asks how well the next patient will do, and a small lesion counts as
#   much as a large one. The library takes the mean over cases.
# - **What is an empty mask worth?** If the truth is empty and the prediction too, nothing is wrong: the score
#   is 1. If only one of them is empty, it is 0. Leaving such images out would forgive every false alarm, and
#   calling 0 / 0 a 0 would punish the right answer.
#
# ### Exercise 01.4: IoU in two ways
#
# Difficulty 2 of 5 · importance 5 of 5 · 10 minutes
#
# Write `iou_two_ways(pred, true)`: Boolean masks (N, H, W) in, two float32 tensors of one number each out: the mean over the
# images, an image without any claimed pixel counting 1, and the IoU of all pixels pooled (1 if there is not
# one claimed pixel in all images).
#
# <details><summary>Hint</summary>
#
# 1. `&` is the intersection of Boolean masks, `|` the union. `.sum(dim=(1, 2))` counts the pixels of each
#    image for itself: (N, H, W) → (N,).
# 2. 0 / 0 is `nan` and not an error. `torch.where(either > 0, both / either, 1.0)` puts a 1 in its place.
# 3. For the pooled value add up first and divide then: `both.sum()`, `either.sum()`. 0 / 0 can happen there, too.
#
# </details>
#
# $$\frac1N \sum_{n} \frac{\lvert P_n \cap T_n \rvert}{\lvert P_n \cup T_n \rvert}, \qquad \frac{\sum_n \lvert P_n \cap T_n \rvert}{\sum_n \lvert P_n \cup T_n \rvert}, \qquad \tfrac00 := 1$$


# %% tags=["exercise"]
# blank: iou_two_ways
def iou_two_ways(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of bool masks (N, H, W): the mean over the images, and that of all pixels pooled; 0 / 0 is 1."""
    both = (pred & true).sum(dim=(1, 2))
    either = (pred | true).sum(dim=(1, 2))
    images = torch.where(either > 0, both / either, 1.0)
    pooled = torch.where(either.sum() > 0, both.sum() / either.sum(), 1.0)
    return images.mean(), pooled


# %%
check("01.4", iou_two_ways)

# %% [markdown]
# **Look.** *Small objects* are the other trap. Take a disc and a prediction that is the same disc, one pixel
# to the right. The mistake is always the same, one pixel; the score is not:

# %% tags=["compare"]
rows, columns = np.mgrid[:64, :64] - 32
radii = np.arange(1, 21)
discs = [rows**2 + columns**2 <= radius**2 for radius in radii]
moved = [np.roll(disc, 1, axis=1) for disc in discs]
sinking = show(
    figures.trends,
    {
        "Dice": (radii, [dice(p, t) for p, t in zip(moved, discs, strict=True)]),
        "IoU": (radii, [iou(p, t) for p, t in zip(moved, discs, strict=True)]),
    },
    title="One pixel too far to the right",
    xlabel="radius of the disc in pixels",
    alt="Two rising curves over the radius of a disc: shifted by one pixel, a disc of radius 1 has a Dice of 0.4 "
    "and an IoU of 0.25, a disc of radius 20 a Dice of 0.97 and an IoU of 0.94.",
)
for radius in (1, 3, 20):
    print(f"radius {radius:<2}  Dice {sinking['Dice'][radius - 1]:.2f}  IoU {sinking['IoU'][radius - 1]:.2f}")

# %% [markdown]
# So a mean over images of very different objects mixes two things, skill and size. Never compare the Dice of
# two data sets; compare two methods on the same images.
#
# ## Step 5: how far off?
#
# **Idea.** Overlap does not see *where* a mistake is. A speck beside the lesion and a speck at the other end
# of the image cost the same. A surgeon would not agree. So we measure distances between borders.
#
# **Smallest example.** The border, or *surface*, of a mask is made of those pixels that have a neighbour
# above, below, left or right outside the mask. The library has a function for it:

# %%
# library: knowsam_lite.metrics.surface

# %% tags=["compare"]
true = np.zeros((5, 12), bool)
true[1:4, 1:6] = True
pred = np.zeros((5, 12), bool)
pred[1:4, 2:6] = True
pred[2, 10] = True
signs = np.array([".", "T", "P", "B"])
for name, pair in {"masks": (true, pred), "borders": (surface(true), surface(pred))}.items():
    print(name)
    print("\n".join("  " + "".join(signs[line]) for line in pair[0] + 2 * pair[1]))

# %% [markdown]
# T is true only, P predicted only, B both. Now ask every border pixel of the prediction: how far is it to the
# nearest border pixel of the truth? And then the other way round, because a prediction that lies within the
# truth and misses half of it is near the truth everywhere. (The numbers first; how to get them is the exercise.)

# %% tags=["compare"]
to_true, to_pred = e5_hd95.border_distances(pred, true)  # one number per border pixel of pred, and of true
print("prediction to truth", np.sort(to_true).round(1).tolist())
print("truth to prediction", np.sort(to_pred).round(1).tolist())
print("largest of all", max(to_true.max(), to_pred.max()))

# %% [markdown]
# The largest distance of all is the *Hausdorff distance*. It hangs on a single pixel, here the speck. **HD95**
# is its sober sister: put the distances of both directions into one heap and take the 95th percentile, so that
# the largest twentieth does not count.
#
# An empty mask has no border and no distance. The rule of step 4 holds here, too: both empty is 0, nothing is wrong.
# One empty is as wrong as can be: the diagonal of the image, which no two of its pixels exceed.
#
# ### Exercise 01.5: HD95
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# Write `hd95_by_hand(pred, true)`: two Boolean masks (H, W) in, the 95th percentile of the pooled distances between
# their borders out, in pixels, a `float`. Both empty: 0. One empty: the diagonal $\sqrt{H^2 + W^2}$.
#
# <details><summary>Hint</summary>
#
# 1. See to the empty masks first: `mask.any()`. `np.hypot(*pred.shape)` is the diagonal.
# 2. Distances are between *borders*: `np.argwhere(surface(mask))`, not of the mask itself, gives rows and
#    columns (n, 2). `p[:, None] - t[None]` are all differences of two such lists, `np.linalg.norm(..., axis=2)`
#    makes distances of them, (P, T), and `min` along one axis or the other keeps the nearest partner's.
# 3. `np.concatenate` makes one heap of both directions, `np.percentile(heap, 95)` takes the percentile, and
#    `float(...)` makes a plain number of it. Do not take a percentile of each direction.
#
# </details>
#
# $$\mathrm{HD95} = \mathrm{percentile}_{95}\big(\{\, d(p, S(T)) : p \in S(P) \,\} \cup \{\, d(q, S(P)) : q \in S(T) \,\}\big)$$


# %% tags=["exercise"]
# blank: hd95_by_hand
def hd95_by_hand(pred: BoolArray, true: BoolArray) -> float:
    """The 95th percentile of the border distances of bool masks (H, W), both directions in one heap, in
    pixels; 0 if both are empty, the image's diagonal if one is.
    """
    if not pred.any() and not true.any():
        return 0.0
    if not pred.any() or not true.any():
        return float(np.hypot(*pred.shape))
    p, t = np.argwhere(surface(pred)), np.argwhere(surface(true))
    between = np.linalg.norm(p[:, None] - t[None], axis=2)  # (P, T)
    return float(np.percentile(np.concatenate([between.min(axis=1), between.min(axis=0)]), 95))


# %%
check("01.5", hd95_by_hand)

# %% [markdown]
# **Look.** "HD95" is not one number. Three definitions go by that name in published code: all distances in one
# heap, as here and in the package medpy; the larger of the two directions' own percentiles, as in MONAI; and
# 0.95 times the largest distance, which is no percentile at all. The two masks of the example:

# %% tags=["compare"]
heap = np.concatenate([to_true, to_pred])
print(f"one heap            {np.percentile(heap, 95):.2f}")
print(f"larger direction    {max(np.percentile(to_true, 95), np.percentile(to_pred, 95)):.2f}")
print(f"0.95 x the largest  {0.95 * heap.max():.2f}")

# %% [markdown]
# And it has a unit. Heart slices are often sampled more finely along a row than across slices; on a scan with
# pixels of 1 × 3 mm a distance in pixels is no distance. `hd95` of the library takes a `spacing`:

# %% tags=["compare"]
band = np.zeros((40, 40), bool)
band[10:20, 10:30] = True
for name, shift in {"2 rows down": (2, 0), "2 columns right": (0, 2)}.items():
    shifted = np.roll(band, shift, axis=(0, 1))
    print(f"{name:<16} {hd95(shifted, band):.0f} pixels   {hd95(shifted, band, spacing=(3.0, 1.0)):.0f} mm")

# %% [markdown]
# ### Play with it
#
# If you run this notebook yourself, the next cell gives you sliders: move an ellipse, grow it, bore a hole in it,
# put a speck beside it, and watch the three scores. On a page that nobody runs, eight settings stand side by side. Try to find
# two predictions of which one is better by Dice and the other by HD95; make the speck larger by one pixel
# at a time, and see HD95 jump.

# %%
from knowsam_lite.course.explorers.metrics import explore

explored = explore()

# %% [markdown]
# Set these pairs, or read them off the eight pictures. Three pixels too large and three too small are equally far off, but not equal in
# overlap: Dice is kinder to the large. A hole in the middle costs little overlap, yet its border is far from
# any true one. The speck of 2 × 2 pixels leaves HD95 at 0, since it owns less than a twentieth of the heap;
# that of 5 × 5 owns more. And the small ellipse, one pixel off, has the overlap of the large one that is six
# pixels off.
#
# ## Put together
#
# Back to the copyist. Is it better to ask the five nearest slices and let them vote? We split by patient, as
# we should, and score the right ventricle, which is missing in every fourth slice.

# %% tags=["compare"]
predictions = {votes: copyist(ways["by patient"], votes) for votes in (1, 5)}
test = predictions[1][1]
truths = y[test] == 1
print(len(test), "test slices,", int((~truths.any(axis=(1, 2))).sum()), "of them without a right ventricle")
print("           Dice    IoU   HD95")
for votes, (pred, _) in predictions.items():
    pairs = list(zip(pred == 1, truths, strict=True))
    means = [np.mean([score(p, t) for p, t in pairs]) for score in (dice, iou, hd95)]
    print(f"{votes} vote{'s' if votes > 1 else ' '}  {means[0]:>6.2f} {means[1]:>6.2f} {means[2]:>6.0f}")

# %% [markdown]
# The vote of five is behind on all three counts; whether that means anything, we shall ask in a moment. HD95
# looks dreadful because of slices where exactly one mask is empty: each adds the diagonal, 90.5 pixels. That
# is harsh, and honest: a rule that leaves such slices out rewards a method for finding nothing.

# %% tags=["compare"]
for votes, (pred, _) in predictions.items():
    alone = [p.any() != t.any() for p, t in zip(pred == 1, truths, strict=True)]
    others = [hd95(p, t) for p, t, one in zip(pred == 1, truths, alone, strict=True) if not one]
    print(
        f"votes {votes}: one mask is empty in {sum(alone)} slices; HD95 of the others {np.mean(others):.1f}"
    )

# %% [markdown]
# ## Ablate one thing
#
# Now keep the predictions of the first copyist and change one *rule* at a time. Guess first: which rule will
# change the headline most?

# %% tags=["compare"]
pred = predictions[1][0] == 1
scores = np.array([dice(p, t) for p, t in zip(pred, truths, strict=True)])
silent = ~(pred | truths).any(axis=(1, 2))  # both empty
leaky, leaky_test = copyist(ways["slice by slice"])
rules = {
    "this library's rules": scores.mean(),
    "both empty left out": scores[~silent].mean(),
    "both empty count 0": np.where(silent, 0, scores).mean(),
    "all pixels pooled": dice(pred, truths),
    "split slice by slice": np.mean(
        [dice(p == 1, y[i] == 1) for p, i in zip(leaky, leaky_test, strict=True)]
    ),
}
for rule, value in rules.items():
    print(f"{rule:<21} {value:.2f}")

# %% [markdown]
# Nothing was trained, and the same copyist has five results. With the library's rules a good part of
# its score comes from slices where it rightly found nothing, so a table should say how many there were. The
# last line is an error, the leak of step 1. None of the other rules is the true one; but a rule has to be
# *stated*, the same for all methods, and fixed before the results are seen.
#
# **How sure is the mean?** Draw the test cases again and again with replacement and look how the mean moves:
# that is the *bootstrap*, and the middle 95 % of those means are an interval. `summarize` does it. What is
# a case? Slices of one heart succeed or fail together, so treating them as independent makes the
# interval too narrow. Average each patient first. (We take the left ventricle, which is in every slice.)

# %% tags=["compare"]
owners = np.array([records[i].group for i in test])
ventricle = np.array([left_ventricle(*predictions[votes]) for votes in (1, 5)])  # (2, slices)
patients = np.stack([ventricle[:, owners == owner].mean(axis=1) for owner in np.unique(owners)], axis=1)
for name, values in {"slices": ventricle, "patients": patients}.items():
    told = summarize(values[0])
    print(
        f"{told['n']:>2} {name:<9} mean {told['mean']:.2f}   interval [{told['low']:.1f}, {told['high']:.1f}]"
    )

# %% [markdown]
# And to compare two methods, compare them *pair by pair*, on the same patients: what is hard for the one is
# hard for the other, and that part of the luck cancels. `paired_bootstrap` calls the difference a tie if its
# interval holds 0. You will write it in chapter 10.

# %% tags=["compare"]
verdict = paired_bootstrap(patients[0], patients[1])
apart_by = max(summarize(values)["high"] - summarize(values)["low"] for values in patients)
print("one vote minus five votes, left ventricle, by patient:")
print(f"difference {verdict['difference']:+.2f}   interval [{verdict['low']:+.2f}, {verdict['high']:+.2f}]")
print("tie:", verdict["tie"])
print("narrower than either mean's own interval:", verdict["high"] - verdict["low"] < apart_by)

# %% [markdown]
# ## Where the paper, the authors' code and this library differ
#
# A paper names its metrics and counts its labels. How the former are computed and the latter dealt out is only in the
# code. For KnowSAM (Huang et al., IEEE TMI 2025) `knowsam_lite.official` holds the behaviour of what its
# authors published, so you can measure it.
#
# | detail | authors' code | this library |
# |---|---|---|
# | HD95 of two-dimensional images | 0.95 × the largest distance | 95th percentile, one heap |
# | HD95 of an empty prediction | 0 | the diagonal; 0 if both are empty |
# | number of labelled images | a table by the data set's name | `labeled`, by whole groups |
# | unlabelled masks | can leak in as truth if a folder is smaller than the table says | never opened |
# | order of files | as the disk lists them | sorted by id |
#
# **1. One pixel decides.** The lesion of the beginning, predicted perfectly but for a single stray pixel
# that wanders off:

# %% tags=["compare"]
from knowsam_lite.official.metrics import official_hd95

for column in (50, 56, 62):
    stray = lesion.copy()
    stray[30, column] = True
    print(
        f"stray pixel in column {column}: authors {official_hd95(stray, lesion):.2f}   library {hd95(stray, lesion):.2f}"
    )

# %% [markdown]
# **2. Nothing is perfect.** A network that predicts nothing at all gets the best distance there is:

# %% tags=["compare"]
nothing = np.zeros_like(lesion)
for name, answer in {"too small by 2": answers["too small"], "nothing": nothing}.items():
    print(f"{name:<15} authors {official_hd95(answer, lesion):.1f}   library {hd95(answer, lesion):.1f}")

# %% [markdown]
# So an HD95 from a paper can only be compared with your own if you know which of these it is. The library
# writes its rules at the top of `metrics.py`, in two lines.
#
# **3. Who is labelled** depends on names and seed, and a larger labelled set contains the smaller one, so that
# "8 labels" and "16 labels" differ by eight more, not by other images:

# %% tags=["compare"]
backwards = list(reversed(lesions.records))
eight, sixteen = (choose_labeled(lesions.records, spec, seed=0) for spec in ("8", "16"))
print("the same from a list turned round:", choose_labeled(backwards, "8", seed=0) == eight)
print("the eight are among the sixteen:", eight < sixteen)

# %% [markdown]
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. A data set holds 30 frames of each of 20 videos. What is shuffled for the split? (a) the 600 frames, (b)
#    the 20 videos, (c) the frames within each video, (d) nothing, a split by file name is best
# 2. Why is a mask sampled with nearest? (a) it is faster, (b) bilinear blurs its border, (c) the mean of two
#    classes is another class, (d) `grid_sample` accepts no integers
# 3. Half of the test images hold no object. A network that never claims a pixel gets which mean Dice in this
#    library? (a) one half, (b) 0, (c) 1, (d) `nan`
# 4. A prediction is perfect but for a far speck with a hundredth of all border pixels. What notices it most?
#    (a) Dice, (b) IoU, (c) HD95, (d) the Hausdorff distance
# 5. Eight test patients with eight slices each. For an honest interval you draw (a) 64 slices, (b) one slice
#    of each patient, (c) 8 patients, (d) pixels

# %%
quiz("01", ["b", "c", "a", "d", "c"])

# %% [markdown]
# ## Recap
#
# - A **split** is made by groups, from their names and a seed. Otherwise the test set is known in part, and
#   even a copyist looks clever.
# - **Augmentation** moves image and mask alike, the mask by nearest. Weak moves; strong also changes the look.
# - Two **streams** deal out labelled and unlabelled images, a shuffle at a time. A step's batch is a function
#   of seed and step, and the unlabelled masks stay closed.
# - **Dice and IoU** measure overlap and are hard on small objects. **HD95** measures distance, and has
#   several definitions. Empty masks need a rule, and the rule can move the headline more than a method does.
# - The case is the **patient**: for the split, for the mean, for the interval.
#
# **Next:** chapter 02 builds the first of the two networks that will look at these images, the U-Net.

# %%
check.report()
