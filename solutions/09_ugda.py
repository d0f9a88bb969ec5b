# %% [markdown]
# # 09 · UGDA: regions change places
#
# {{badges}}
#
# A few images have labels, many have none, and the two kinds never meet: the labelled images teach, the
# others wait for opinions about them. *Uncertainty-guided data augmentation*, **UGDA**, brings them together
# in one picture. It asks where the students are unsure, cuts these regions out, and fills the holes with the
# same regions of an image of the other kind, labels and all. In this chapter you build it, count what it
# does to the targets, and find out why it must not begin too early.
#
# | | |
# |---|---|
# | **You will** | measure the uncertainty of a region; choose regions; decide what the target of a pixel is when nobody knows it; copy and paste both ways; weigh what the students learn from the mixture; train with mistakes on purpose |
# | **You need** | PyTorch tensors, `torch.where`, indexing; chapters 05 (entropy) and 08 (SAM's answer) help but are not required |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: less than a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite import Config, Students, Synthetic, UNet, UserError, VNet, figures, mixing
from knowsam_lite.course.explorers.ugda import Pairs, Setting, explore, row
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.base import ramp
from knowsam_lite.metrics import dice
from knowsam_lite.mixing import Mixed
from knowsam_lite.sam import SamTeacher, load_pretrained
from knowsam_lite.students import StudentOutput
from knowsam_lite.uncertainty import entropy_map

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. UGDA reads the doubt $h_f$ of the fused map,
# makes mixed images, and sends them in again at the front, along the dashed line below. One thing the map
# does not show: the labels of the unlabelled pixels are SAM's answer.

# %%
drawn = show(
    figures.pipeline,
    lit="UGDA",
    alt="Map of KnowSAM: images go to U-Net and V-Net, their logits to HAM, and the doubt of HAM's fused map to "
    "UGDA, which is highlighted; from there a dashed line leads mixed images back to the start.",
)

# %% [markdown]
# ## Why
#
# Suppose you have eight labelled lesions. A network can learn them by heart: this skin, that hair, hence
# *here*. On the unlabelled images nothing contradicts such rules. Now put the lesion of one image on the skin
# of another. The label comes along, so the target is known, but the surroundings are strange. What was
# learned by heart fails, and what a lesion looks like has to be learned after all.
#
# The 64 skin lesions, of which 8 training images have labels, are those of chapter 04, and so is the cell.

# %% tags=["compare"]
dataset = Synthetic("dermoscopy", seed=0, n=64, size=64)
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
train, test = dataset.split("train"), dataset.split("test")


def stack(records: list) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 64, 64) and masks (N, 64, 64) of these records."""
    images = [load_case(dataset, record, 64)[0] for record in records]
    masks = [torch.from_numpy(dataset.mask(record).astype("int64")) for record in records]
    return torch.stack(images), torch.stack(masks)


unlabeled = [record for record in train if record.id not in labeled]
x_l, y_l = stack([record for record in train if record.id in labeled])
x_u, truth_u = stack(unlabeled)  # truth_u only to score, never to learn
x_t, truth_t = stack(test)
print("labelled", tuple(x_l.shape), " unlabelled", tuple(x_u.shape), " test", tuple(x_t.shape))

# %% [markdown]
# The students are a U-Net, a V-Net and HAM, narrow, so that a CPU can follow. They train on the labelled
# images alone, by the loop of chapter 04; what is new is that every ten steps we ask SAM for its opinion of
# all unlabelled images, prompted by the fused map as it is at that moment. We keep these answers: they will
# tell us when it is early. Ten to twenty seconds; at the budget `smoke` nothing is trained, and everything
# below still runs.

# %% tags=["training"]
steps = budget(smoke=0, ci=60, laptop=60, gpu=60)
sam = SamTeacher("sam_mini", 2, 64).eval()
load_pretrained(sam)
torch.manual_seed(0)
widths = (8, 16, 32, 64)
unet, vnet = UNet(2, widths, dropout=(0, 0, 0.1, 0.1)), VNet(2, widths, depths=(1, 1, 2, 2))
students = Students(2, unet, vnet)


def opinions(students: Students) -> tuple[Tensor, Tensor]:
    """The fused logits of all unlabelled images, and SAM's when prompted with them: (32, 2, 64, 64) each."""
    students.eval()
    with torch.no_grad():
        z_f = students(x_u).logits_f
        return z_f, sam(x_u, z_f).logits


batches = StepBatches(dataset, labeled, seed=0, batch_labeled=4, batch_unlabeled=0, size=64)
optimizer = torch.optim.AdamW(students.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
history = {0: opinions(students)}  # step -> fused logits, SAM's logits
for step in range(steps):
    batch = batches[step]
    loss = sum(supervised_loss(z, batch.y) for z in students.train()(batch.x))
    loss.backward()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    if (step + 1) % 10 == 0:
        history[step + 1] = opinions(students)

# %% [markdown]
# From now on the students stay as they are. We keep the fused logits of both halves, `z_l` and `z_u`, SAM's
# logits `z_s` of the unlabelled half, and its winners as *pseudo-labels*: answers used as if they were true.

# %% tags=["compare"]
z_u, z_s = history[steps]
with torch.no_grad():
    z_l = students.eval()(x_l).logits_f
pseudo = z_s.argmax(dim=1)
for name, tensor in (("z_l", z_l), ("z_u", z_u), ("z_s", z_s), ("pseudo", pseudo)):
    print(f"{name:<6} {tuple(tensor.shape)}")

# %% [markdown]
# And this is where we are going: one labelled and one unlabelled image, before and after.

# %%
pairs = Pairs(x_l[:4], y_l[:4], z_l[:4], x_u[:4], pseudo[:4], z_u[:4])
first = show(
    figures.exchange,
    [row(pairs, Setting())],
    alt="A labelled lesion and an unlabelled one, each with its uncertainty on a board of four by four cells, the "
    "mixed image in which the five most uncertain cells come from the other one, and the mixed target.",
)

# %% [markdown]
# Read each half from left to right. The board shows how unsure the students are in each of 16 cells; five are
# framed. In the mixed image these five come from the other image. In the target, grey and black come from the
# human label, pink comes from SAM. Both mixed images hold pixels of both kinds.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $h_i(z_f)$ | entropy of pixel $i$, divided by $\log C$ | `entropy_map(z)` | (N, H, W) |
# | $u_r = \frac{1}{\lvert r \rvert} \sum_{i \in r} h_i$ | uncertainty of region $r$ | `uncertainty_map(z, grid)` | (N, g, g) |
# | $R$ | the regions of largest $u_r$, `count` of them | `choose_regions(u, count, most)` | (N, g, g), bool |
# | $M$ | $R$ at the size of the image | inside `mix` | (N, 1, H, W) |
# | $\tilde x_l = M_l \odot x_u + (1 - M_l) \odot x_l$ | mixed labelled image | `mix(...).x[:n]` | (N, 3, H, W) |
# | $\tilde x_u = M_u \odot x_l + (1 - M_u) \odot x_u$ | mixed unlabelled image | `mix(...).x[n:]` | (N, 3, H, W) |
# | $\tilde y_l, \tilde y_u$ | their targets, made the same way | `mix(...).y` | (N, H, W) |
# | $w(t)$ | ramp of chapter 04 | `ramp(progress)` | a number |
#
# $\odot$ multiplies pixel by pixel. As an index $l$ is the labelled half of a batch and $u$ the unlabelled one;
# with the index of a region, $u_r$ is an uncertainty, and so is the argument `u` in the code. `n` is always the
# number of labelled images, and the boards of the two halves are called `doubt_l` and `doubt_u`.
#
# ## Step 1: the uncertainty of a region
#
# **Idea.** Entropy says how unsure a network is in one pixel: 0 is certain, 1 is no idea. Cutting out single
# pixels would leave confetti, from which nobody can learn a shape. So the image is divided into a board of
# $g \times g$ cells, and each cell gets the mean entropy of its pixels.
#
# **Smallest example.** A map of 4 × 4 pixels, and a board of 2 × 2 cells:

# %% tags=["compare"]
h = torch.tensor([[0.0, 0.2, 0.0, 0.0], [0.2, 1.0, 0.0, 0.0], [0.0, 0.0, 0.9, 0.9], [0.0, 0.0, 0.9, 0.1]])
for top in (0, 2):
    print("  ".join(f"{h[top : top + 2, left : left + 2].mean():.2f}" for left in (0, 2)))

# %% [markdown]
# The cell at the upper left has the most uncertain pixel of all, and still the lower right one is more
# uncertain, because there three pixels of four are. The mean asks how much *there is to learn* in a cell,
# not how bad its worst pixel is. How large is a cell? That depends on the size of the image:

# %% tags=["compare"]
for size in (64, 256):
    for grid in (4, 8):
        print(f"{size:>3} pixels, grid {grid}: cells of {size // grid:>2} pixels", end=", ")
        print(f"five of them are {5 / grid**2:.0%} of the image")

# %% [markdown]
# The method uses a grid of 4 and exchanges 5 cells: 31 % of the image.
#
# ### Exercise 09.1: the board
#
# Difficulty 2 of 5 · importance 4 of 5 · 8 minutes
#
# Write `uncertainty_map(z, grid)`: logits (N, C, H, W) in, the mean entropy of each cell out, (N, grid,
# grid). `entropy_map`, which you know from chapter 05, is imported from the library. If `grid` does not
# divide both H and W, raise a `UserError` that says so, for cells of unequal size cannot change places.
#
# <details><summary>Hint</summary>
#
# 1. `entropy_map(z)` gives the entropy of each pixel, (N, H, W). It comes first, and the mean comes second.
# 2. `F.avg_pool2d(t, (a, b))` takes the mean over blocks of a × b pixels. A block is `height // grid` high and
#    `width // grid` wide; `z.shape[-2:]` are height and width.
# 3. `avg_pool2d` takes three axes or four. If you add one for it with `.unsqueeze(1)`, take it away again
#    with `.squeeze(1)`.
# 4. `height % grid` is the remainder: anything but 0 means that the grid does not fit. The words of the error
#    are yours: `raise UserError("found ..., expected ...")`.
#
# </details>
#
# $$u_r = \frac{1}{\lvert r \rvert} \sum_{i \in r} h_i(z_f)$$

# %% tags=["exercise"]
# library: knowsam_lite.mixing.uncertainty_map
# blank: uncertainty_map

# %%
check("09.1", uncertainty_map)

# %% [markdown]
# **Look.** The same doubt on three boards. (From here on the figures use the library's functions, such as
# `mixing.uncertainty_map`, so an unfinished exercise never stops you.)

# %%
doubts = {"entropy": entropy_map(z_u)} | {f"grid {g}": mixing.uncertainty_map(z_u, g) for g in (2, 4, 8)}
brightest = 0.4  # the scale ends here, so that the mean of a large cell is more than a shade of black
boards = show(
    figures.panels,
    [
        {"image": dataset.image(unlabeled[i])}
        | {name: (doubt[i] / brightest).clamp(max=1) for name, doubt in doubts.items()}
        for i in (0, 4)
    ],
    ends=("0 certain", "0.4 and above"),
    names=["image 0", "image 4"],
    alt="Two unlabelled lesions, the entropy of each pixel, and the same on boards of 2, 4 and 8 cells a side: the "
    "finer the board, the more clearly the light cells follow the border of the lesion.",
)
for i in (0, 4):
    means = (f"{name} {doubt[i].mean():.3f}" for name, doubt in doubts.items())
    print(f"image {i}, mean of  ", "   ".join(means))

# %% [markdown]
# Doubt hugs the border of the lesion, but not only: black corners puzzle these students, too. All boards of
# an image have the same mean, as printed: the doubt is only divided differently. A coarse board cannot tell
# the border from its surroundings; a fine one finds the border, but pastes scraps. Four is a compromise.
# And what does not fit is refused in one line:

# %% tags=["compare"]
try:
    mixing.uncertainty_map(z_u, 5)
except UserError as error:
    print(error)

# %% [markdown]
# ## Step 2: which regions
#
# **Idea.** Take a fixed number of cells, those with the largest uncertainty, in each image for itself.
#
# **Smallest example.** A board of 3 × 3 cells, of which three are chosen, at either end:

# %% tags=["compare"]
u = [[0.1, 0.8, 0.3], [0.2, 0.9, 0.4], [0.0, 0.1, 0.7]]
print("uncertainty", u)
for most in ("uncertain", "certain"):
    marks = mixing.choose_regions(torch.tensor([u]), 3, most)[0].tolist()
    print(f"{most:<11}", " / ".join("".join("#" if mark else "." for mark in line) for line in marks))

# %% [markdown]
# Why not simply compare with a threshold? Because it would choose another number of cells in every image, and
# none at all as soon as the students are sure of themselves.
#
# ### Exercise 09.2: choose
#
# Difficulty 3 of 5 · importance 4 of 5 · 8 minutes
#
# Write `choose_regions(u, count, most)`: boards (N, g, g) in, Boolean boards of the same shape out, with
# exactly `count` cells marked in each: the most uncertain ones, or the most certain ones if `most` is
# `"certain"`. Where cells are equal, any of them will do.
#
# <details><summary>Hint</summary>
#
# 1. `u.flatten(1)` makes one row of cells for each image, (N, g²), and `topk(count, dim=1)` works on each row
#    for itself. It numbers the cells row by row and gives the numbers of the chosen ones.
# 2. `topk` has an option `largest`, true or false: it should be true exactly if `most` is `"uncertain"`.
# 3. Make an empty board with `torch.zeros_like(u.flatten(1), dtype=torch.bool)`, write with `.scatter(1,
#    cells, True)`, where `cells` are the `.indices` of `topk`, and give it the shape of `u` with
#    `.view_as(u)`.
#
# </details>
#
# $$R = \text{the regions of largest } u_r, \text{ as many as } \mathtt{count} \text{ says}$$

# %% tags=["exercise"]
# library: knowsam_lite.mixing.choose_regions
# blank: choose_regions

# %%
check("09.2", choose_regions)

# %% [markdown]
# **Look.** What do you get if you take the cells in this order, or in the opposite one? The truth of the
# unlabelled images tells. We go from 1 to 16 cells and ask how many of the students' wrong pixels lie in
# them. Choosing blindly would give the diagonal.


# %% tags=["guess"]
def at_size(regions: Tensor, size: int = 64) -> Tensor:
    """Boards (N, g, g) at the size of the image, (N, size, size)."""
    return regions.repeat_interleave(size // regions.shape[1], 1).repeat_interleave(
        size // regions.shape[2], 2
    )


doubt_l, doubt_u = mixing.uncertainty_map(z_l), mixing.uncertainty_map(z_u)
wrong = z_u.argmax(dim=1) != truth_u
counts = list(range(1, 17))
found = {
    most: [(at_size(mixing.choose_regions(doubt_u, k, most)) & wrong).sum() / wrong.sum() for k in counts]
    for most in ("uncertain", "certain")
}
order = show(
    figures.trends,
    {
        **{f"{most} first": (counts, values) for most, values in found.items()},
        "blindly": ([1, 16], [1 / 16, 1]),
    },
    references=["blindly"],
    title="Part of the wrong pixels that lie in the chosen cells",
    xlabel="number of cells, of 16",
    alt="Three lines from few cells to all 16: taking the most uncertain cells first finds the students' errors "
    "much faster than choosing blindly, taking the most certain ones first much more slowly.",
)

# %% [markdown]
# The upper curve lies well above the diagonal: five of sixteen cells usually hold about half of all errors.
# So doubt is a usable guide, though no more than that: the other half lies where the students are sure.
#
# ## Step 3: the target of a pixel
#
# **Idea.** A labelled region brings its label along, and we are done. For an unlabelled region there are
# three answers to the question what its target should be:
#
# - **SAM's winner**, everywhere. This is what the method does.
# - **SAM's winner where it is sure**, and "unknown" elsewhere.
# - **Unknown** everywhere. Then only the losses that need no label (consistency and low entropy, chapter 04)
#   speak there.
#
# "Unknown" is written −1, and the supervised loss leaves such pixels out (chapters 02 and 04). Why not write 0?
#
# **Smallest example.** Three pixels, two of them with a label, and what the loss does to each:

# %% tags=["compare"]
z = torch.zeros(1, 2, 1, 3, requires_grad=True)
for target in ([1, 1, -1], [1, 1, 0]):
    loss = supervised_loss(z, torch.tensor(target).view(1, 1, 3))
    (gradient,) = torch.autograd.grad(loss, z)
    pulled = ["nothing", "towards 1", "towards 0"]
    print(target, [pulled[int(g.sign())] for g in -gradient[0, 1, 0]])

# %% [markdown]
# Class 0 is not "nothing", it is background, and teaches that. In lesions the difference decides: networks that
# doubt mostly doubt the object, and whoever writes 0 for doubt teaches that there is none.
#
# ### Exercise 09.3: pseudo-labels
#
# Difficulty 2 of 5 · importance 4 of 5 · 6 minutes
#
# Write `pseudo_labels(z, least)`: logits (N, C, H, W) and a probability in, labels (N, H, W) out. A pixel
# gets the winning class if its probability is at least `least` (just as much is enough), and −1 otherwise. Take
# the softmax in float32, whatever the type of `z`.
#
# <details><summary>Hint</summary>
#
# 1. Make float32 of the logits before the softmax, and choose its axis. `.max(dim=...)` of a tensor gives two:
#    the largest values, and where they are.
# 2. "At least" includes equality.
# 3. `torch.where(condition, a, b)` takes `a` where the condition holds; a plain −1 leaves integers integers.
#
# </details>
#
# $$\hat y = \begin{cases} \arg\max_c p_c & \text{if } \max_c p_c \ge \tau \\ -1 & \text{otherwise} \end{cases}$$


# %% tags=["exercise"]
# blank: pseudo_labels
def pseudo_labels(z: Tensor, least: float = 0.0) -> Tensor:
    """Logits (N, C, H, W) -> the winning class (N, H, W), -1 where its probability is below `least`."""
    p, y = z.float().softmax(dim=1).max(dim=1)
    return torch.where(p >= least, y, -1)


# %%
check("09.3", pseudo_labels)

# %% [markdown]
# **Look.** What does a threshold buy? For SAM's answers we vary it, and count the pixels that keep a label
# and how many of these are right.

# %% tags=["guess"]
p_s = z_s.softmax(dim=1).max(dim=1).values
levels = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
kept = [(p_s >= level).float().mean() for level in levels]
right = [
    (pseudo == truth_u)[p_s >= level].float().mean() if share else 1.0
    for level, share in zip(levels, kept, strict=True)
]
object_kept = [(p_s >= level)[truth_u == 1].float().mean() for level in levels]
threshold = show(
    figures.trends,
    {
        "pixels kept": (levels, kept),
        "lesion kept": (levels, object_kept),
        "right, of the kept": (levels, right),
    },
    title="Pseudo-labels above a threshold",
    xlabel="least probability of the winner",
    alt="Three lines over the threshold from 0.5 to 0.99: the part of pixels that keep a label falls, the part of "
    "lesion pixels that do falls faster, and the part of right labels among the kept ones rises.",
)

# %% [markdown]
# Each step to the right buys correctness and pays with pixels, and the bill is not shared fairly: the lesion
# loses more than the background. There is no threshold at which all errors are gone, since SAM is wrong with
# confidence, too. The method takes all pixels, and begins late instead, as we shall see.
#
# ## Step 4: copy and paste, both ways
#
# **Idea.** Each image of a pair is filled at *its own* chosen cells with what its partner has at the same
# place. The same place, because an image of an organ has a top and a bottom: the sky does not belong under
# the ground.
#
# **Smallest example.** One row of four cells. Labelled pixels are 1 to 4, unlabelled ones 11 to 14. The
# labelled image is unsure in its second cell, the unlabelled one in its last two:

# %% tags=["compare"]
l, u = [1, 2, 3, 4], [11, 12, 13, 14]
print("mixed labelled  ", [u[k] if k in (1,) else l[k] for k in range(4)])
print("mixed unlabelled", [l[k] if k in (2, 3) else u[k] for k in range(4)])

# %% [markdown]
# Two things are worth a second look. It is no swap, though the map says so for short: 12 occurs twice and 2 is
# gone. And the receiver decides: what comes is whatever the partner has there, however sure the partner is of
# it.
#
# **Who is whose partner?** Labelled image $i$ is paired with unlabelled image $i \bmod N_u$, and unlabelled
# image $j$ with labelled image $j \bmod N_l$. If the halves are equal, that is simply number $i$ with number
# $i$. If not, the shorter list begins anew, and nobody is left out:

# %% tags=["compare"]
for n_l, n_u in ((4, 4), (2, 5)):
    to_u, to_l = [i % n_u for i in range(n_l)], [j % n_l for j in range(n_u)]
    print(f"{n_l} labelled, {n_u} unlabelled: labelled take from {to_u}, unlabelled from {to_l}")

# %% [markdown]
# ### Exercise 09.4: mix
#
# Difficulty 4 of 5 · importance 5 of 5 · 15 minutes
#
# Write `mix(x_l, y_l, x_u, y_u, regions_l, regions_u)`: images (N_l, 3, H, W) and (N_u, 3, H, W), labels, and
# Boolean boards of chosen cells, of both halves, in; `Mixed(x, y)` out, a pair of the mixed images and their
# labels, labelled half first. The halves may differ in size: partners are found by remainder, as above. Nothing
# that you were given may change.
#
# <details><summary>Hint</summary>
#
# 1. The partners are `torch.arange(n_l) % n_u` and `torch.arange(n_u) % n_l`; `x_u[to_u]` is one partner for
#    each labelled image.
# 2. Make masks of the boards: `F.interpolate(regions.unsqueeze(1).float(), x_l.shape[-2:]) > 0.5` repeats each
#    cell over its pixels, (N, 1, H, W). Labelled images use `regions_l`, unlabelled ones `regions_u`.
#    `torch.where(mask, a, b)` takes `a` where the mask is true.
# 3. Four calls of `torch.where`, all from the *unmixed* tensors: images and labels of both halves. Labels have
#    no channel axis, so their mask is `mask.squeeze(1)`. Then `torch.cat`, labelled first, and
#    `Mixed(x, y)`.
#
# </details>
#
# $$\tilde x_l = M_l \odot x_u + (1 - M_l) \odot x_l, \qquad \tilde x_u = M_u \odot x_l + (1 - M_u) \odot x_u$$

# %% tags=["exercise"]
# library: knowsam_lite.mixing.mix
# blank: mix

# %%
check("09.4", mix)

# %% [markdown]
# **Look, and turn the knobs.** If you run this notebook yourself, the next cell gives you four of them: the pair,
# which cells, how fine the grid, how many cells. On a page that nobody runs, five settings stand below each other.
# In either case answer for yourself: what is pasted, and what gets lost?

# %%
explore(
    pairs,
    alt="One pair of lesions mixed at five settings: of the five most uncertain cells most lie on the lesion, "
    "the five most certain ones on the skin around it; a grid of eight follows the lesion; one cell changes little; all sixteen "
    "exchange the two images.",
)

# %% [markdown]
# - **Uncertain** cells, as at the start (of five rows the first), mostly lie on the lesion. Half of a lesion on strange skin: a hard picture,
#   with seams.
# - **Certain** cells (the second row) usually lie on plain skin. Skin replaces skin, and the mixture is easy.
# - **All 16** of the 4 × 4 cells (the last row): the images change places and nothing is mixed. It is a batch in another order.
#
# ## Uncertain or certain: count
#
# Hard pictures are worth something only if their targets are right. Let us count wrong targets, pixel by
# pixel. For each of the 32 unlabelled images and a labelled partner we mix the pseudo-labels, as the method
# does, and once more the truth. Where the two differ, the target is wrong.


# %%
def wrong_targets(most: Literal["uncertain", "certain"], count: int = 5) -> tuple[float, float]:
    """The part of wrong target pixels in the mixed labelled and in the mixed unlabelled images."""
    again = torch.arange(len(x_u)) % len(x_l)  # as many labelled images as unlabelled ones
    cells_l = mixing.choose_regions(doubt_l[again], count, most)
    cells_u = mixing.choose_regions(doubt_u, count, most)
    made, true = (mixing.mix(x_l[again], y_l[again], x_u, y, cells_l, cells_u).y for y in (pseudo, truth_u))
    wrong = (made != true).float()
    return wrong[: len(again)].mean().item(), wrong[len(again) :].mean().item()


print(f"SAM's labels, unmixed: {(pseudo != truth_u).float().mean():.1%} of the pixels wrong")
print("cells        labelled images   unlabelled images   both")
for most in ("uncertain", "certain"):
    parts = wrong_targets(most)
    print(f"{most:<12} {parts[0]:>15.1%} {parts[1]:>19.1%} {sum(parts) / 2:>6.1%}")

# %% [markdown]
# Read it by columns. Choosing *uncertain* cells brings more wrong targets into the labelled images: true
# labels are thrown away on the lesion, of all places, and SAM's opinion comes instead. In return the
# unlabelled images lose their worst pseudo-labels, and true labels stand there. Choosing *certain* cells
# does the opposite: labelled images keep what matters, unlabelled ones keep their errors. In the last column
# the two are usually close. So it is not the number of errors that decides between them, but where labels and
# errors meet: the uncertain choice puts a true label next to SAM's in the middle of the lesion.
#
# ## Step 5: what the students learn
#
# **Idea.** The mixed batch goes through both subnets and HAM, and each gets its terms:
#
# - `supervised`: cross-entropy and Dice with the mixed target, on the whole batch, for both subnets and for
#   the fused map.
# - `pseudo`: on the unlabelled half, both subnets learn from the winner of the *fused* map of the mixed
#   batch, the students' own opinion after mixing. Opinions are worth little at the start, so this term carries
#   the ramp $w(t)$.
#
# Consistency and low entropy join in, as on the plain batch (chapter 04). The subnets' terms are averaged: one
# half for each. In the library this is `KnowSAM.mixed_losses`.
#
# $$L_{mixed} = L_{sup}(z_f, \tilde y) + \sum_{k \in \{a, b\}} \tfrac12 \Big[ L_{sup}(z_k, \tilde y) + w(t)\, L_{sup}\big(z_{k,u},\ \arg\max_c z_{f,u,c}\big) \Big] + \dots$$
#
# ### Exercise 09.5: the terms
#
# Difficulty 3 of 5 · importance 4 of 5 · 10 minutes
#
# Write `mixed_terms(z, y, n, w)`. `z` holds the students' logits of the mixed batch, `z.logits_a`,
# `z.logits_b` and `z.logits_f`; `y` is the mixed target; the first `n` images are the labelled ones; `w` is
# the ramp. Return a dictionary of five terms: `"a/supervised"`, `"b/supervised"`, `"fused/supervised"`,
# `"a/pseudo"` and `"b/pseudo"`.
#
# <details><summary>Hint</summary>
#
# 1. `supervised_loss(logits, target)` is imported. The three supervised terms take all images and `y`.
# 2. The students' own opinion is `z.logits_f[n:].argmax(dim=1)`, one map for both subnets. The logits beside
#    it start at image `n`, too.
# 3. Factors: 0.5 for each subnet's supervised term, `0.5 * w` for each pseudo term, 1 for the fused one.
#
# </details>


# %% tags=["exercise"]
# blank: mixed_terms
def mixed_terms(z: StudentOutput, y: Tensor, n: int, w: float) -> dict[str, Tensor]:
    """The students' weighted terms on a mixed batch by name; logits (N, C, H, W), target y (N, H, W)."""
    own = z.logits_f[n:].argmax(dim=1)
    terms = {"fused/supervised": supervised_loss(z.logits_f, y)}
    for k, z_k in (("a", z.logits_a), ("b", z.logits_b)):
        terms[f"{k}/supervised"] = 0.5 * supervised_loss(z_k, y)
        terms[f"{k}/pseudo"] = 0.5 * w * supervised_loss(z_k[n:], own)
    return terms


# %%
check("09.5", mixed_terms)

# %% [markdown]
# ## When to begin
#
# One set of terms carries the ramp, the other does not: SAM's labels count in full from the moment UGDA
# begins. So the beginning matters. Here is the ramp beside the method's start, 24 % of the run:

# %% tags=["compare"]
start = Config().mix_start
for progress in (0.0, 0.1, 0.24, 0.6, 1.0):
    mixes = "supervised terms 1.00" if progress >= start else "no mixed batch"
    print(f"{progress:>4.0%} of the run   w = {ramp(progress):.3f}   {mixes}")

# %% [markdown]
# How good are the labels at what time? We kept the opinions of our short training:


# %%
def mean_dice(y: Tensor, truth: Tensor) -> float:
    """Mean Dice of the lesion over images; labels (N, H, W)."""
    return sum(dice(p == 1, t == 1) for p, t in zip(y, truth, strict=True)) / len(truth)


times = list(history)
quality = {
    name: [mean_dice(history[step][k].argmax(dim=1), truth_u) for step in times]
    for k, name in enumerate(("fused", "SAM"))
}
ripening = show(
    figures.trends,
    {name: (times, values) for name, values in quality.items()},
    title="Dice of the opinions about unlabelled images",
    xlabel="steps on labelled images",
    alt="Two lines over the steps: the Dice of the fused map and of SAM's answer to it stay near 0 at first, then "
    "rise steeply together, SAM's somewhat higher, and level off.",
)

# %% [markdown]
# For a while there is nothing to copy: the students answer "background" everywhere, SAM is prompted with
# nothing and sees nothing, and its pseudo-labels say so with authority. Then both rise. Note what 24 % would
# mean here: in 50,000 steps it is step 12,000, in our 60 it is step 15, which is usually still in the flat
# part. A start is a promise about *quality*, written as a fraction; in a short run look at the curve.
#
# ## Put together: right, wrong and early
#
# Four trainings start from the same students and take 20 steps each. The first has no labels for the
# unlabelled half: −1 everywhere, no mixing. The other three mix, with different pseudo-labels: those of a
# third of the training ("early"), the last ones ("late"), and the truth, which no real run has. Count on
# ten to twenty seconds.

# %%
more_steps = budget(smoke=0, ci=20, laptop=20, gpu=20)


def go_on(
    y_u: Tensor, most: Literal["uncertain", "certain"] = "uncertain", count: int = 5, seed: int = 0
) -> Students:
    """A copy of the students after learning from mixed batches with these labels (32, 64, 64) of the
    unlabelled images; `count` cells change places. In evaluation mode.
    """
    torch.manual_seed(seed)  # for dropout
    generator = torch.Generator().manual_seed(seed)  # for the choice of images
    pupils = copy.deepcopy(students).train()
    optimizer = torch.optim.AdamW(pupils.parameters(), lr=1e-3)
    for step in range(more_steps):
        i = torch.randperm(len(x_l), generator=generator)[:3]
        j = torch.randperm(len(x_u), generator=generator)[:3]
        cells_l, cells_u = (
            mixing.choose_regions(doubt, max(count, 1), most) & (count > 0)
            for doubt in (doubt_l[i], doubt_u[j])
        )
        mixed: Mixed = mixing.mix(x_l[i], y_l[i], x_u[j], y_u[j], cells_l, cells_u)
        z = pupils(mixed.x)
        loss = supervised_loss(z.logits_f, mixed.y)
        loss = loss + 0.5 * sum(supervised_loss(z_k, mixed.y) for z_k in (z.logits_a, z.logits_b))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - (step + 1) / more_steps)
    return pupils.eval()


# %% tags=["training"]
early = history[steps // 30 * 10][1].argmax(dim=1)  # SAM's winners after a third of the training
unknown = torch.full_like(truth_u, -1)
trained = {
    "labels only": go_on(unknown, count=0),
    "early": go_on(early),
    "late": go_on(pseudo),
    "truth": go_on(truth_u),
}
answers = {"before": z_u.argmax(dim=1)}
scores = {}
with torch.no_grad():
    for name, pupils in {"before": students, **trained}.items():
        answers[name] = pupils(x_u).logits_f.argmax(dim=1)
        scores[name] = mean_dice(pupils(x_t).logits_f.argmax(dim=1), truth_t)
mistaken = early != truth_u
print("              Dice, unlabelled   Dice, test   repeats SAM's early mistakes")
for name, y in answers.items():
    repeated = (y == early)[mistaken].float().mean()
    print(f"{name:<13} {mean_dice(y, truth_u):>16.2f} {scores[name]:>12.2f} {repeated:>19.0%}")

# %% [markdown]
# The last column is the point. Of the pixels that the early pseudo-labels had wrong, it says how many the
# students have wrong in the same way. "Before" is what they did by themselves; after mixing with early labels
# they repeat far more of them. These students *knew better* when they started, and were talked out of it by
# labels from a time when they knew nothing. In a real run it is worse: there tomorrow's labels are made
# from what was learned today.


# %%
def cases(maps: dict[str, Tensor], chosen: tuple[int, ...]) -> list[dict]:
    """Rows for a prediction sheet of unlabelled images: class maps (N, H, W) by name."""
    rows = []
    for i in chosen:
        masks = {name: y[i].numpy().astype("uint8") for name, y in maps.items()}
        truth = truth_u[i].numpy().astype("uint8")
        line = {"id": f"image {i}", "image": dataset.image(unlabeled[i]), "truth": truth, "maps": masks}
        rows.append({**line, "dice": {name: dice(mask == 1, truth == 1) for name, mask in masks.items()}})
    return rows


lost = [
    dice(a == 1, t == 1) - dice(b == 1, t == 1)
    for a, b, t in zip(answers["before"], answers["early"], truth_u, strict=True)
]
by_loss = sorted(range(len(lost)), key=lost.__getitem__)
sheet = show(
    figures.prediction_sheet,
    cases(
        {name: answers[name] for name in ("before", "early", "late")}, (by_loss[-1], by_loss[len(lost) // 2])
    ),
    of={name: "fused" for name in ("before", "early", "late")},
    alt="Two unlabelled lesions with the truth and the fused map before, after mixing with early labels and after "
    "mixing with late ones: where the early labels did most harm, most of the lesion is gone, and in the middle case "
    "at most a part of it.",
)

# %% [markdown]
# The rows are the image on which the early labels did most harm, and the one in the middle.
#
# And late labels? Compare "late" with "labels only" and with "truth" before you cheer. The distance from
# "late" to "truth" is what SAM's errors cost; after 20 steps from mediocre students, "late" may well lie level
# with "labels only". UGDA moves labels, it does not make them right. What moves the ceiling is a better teacher
# (chapters 06 to 08) and time.
#
# ## Ablate one thing: which cells
#
# Now the knob that the method is named after. Everything as in "late", but the most certain cells change
# places. And once with none: the same batch, the same pseudo-labels, no mixing.

# %% tags=["training"]
cells = {"uncertain": trained["late"], "certain": go_on(pseudo, "certain"), "none": go_on(pseudo, count=0)}
print("cells         Dice, unlabelled   Dice, test   repeats SAM's late mistakes")
mistaken = pseudo != truth_u
for name, pupils in cells.items():
    with torch.no_grad():
        y, y_t = (pupils(x).logits_f.argmax(dim=1) for x in (x_u, x_t))
    repeated = (y == pseudo)[mistaken].float().mean()
    print(f"{name:<13} {mean_dice(y, truth_u):>16.2f} {mean_dice(y_t, truth_t):>12.2f} {repeated:>19.0%}")

# %% [markdown]
# By Dice, the two kinds of cells are usually level: one seed and 20 steps decide nothing in the second
# decimal. Call `go_on` with `seed=1` before you believe a difference there. The last column is steadier.
# Without mixing the students repeat nearly all of SAM's mistakes on these images; with uncertain cells
# fewer, because true labels stood where SAM was wrong.
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) shows in its figure 3 that the *most uncertain* regions change
# places. The code that its authors published takes the *most certain* ones. You need not take that on trust:
# the package `knowsam_lite.official` holds the authors' behaviour, so you can measure each difference.
#
# | detail | authors' code | this library |
# |---|---|---|
# | cells | 5 of lowest entropy | 5 of highest; `mix_most="certain"` gives theirs |
# | entropy | natural, $\log(p + 10^{-6})$ | divided by $\log C$, `log_softmax` |
# | begins | when the step number exceeds 12,000 of 50,000 | at 24 % of the run |
# | pairs | halves of equal size, $i$ with $i$ | any sizes, by remainder |
# | entropy loss on the mixed batch | full weight | with the ramp |
# | target of unlabelled pixels | SAM's winner | the same |
#
# **1. The cells.** Theirs, by rising entropy, and ours for both words:

# %% tags=["compare"]
from knowsam_lite.official.losses import certain_cells

z = 3 * torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
z *= (
    torch.linspace(0.3, 1.5, 16).view(4, 4).repeat_interleave(16, 0).repeat_interleave(16, 1)
)  # surer downwards
theirs = certain_cells(z).sort(dim=1).values
for most in ("certain", "uncertain"):
    ours = mixing.choose_regions(mixing.uncertainty_map(z), 5, most).flatten(1)
    common = ours.gather(1, theirs).sum(dim=1)
    print(f"{most:<10} cells in common with theirs, image by image: {common.tolist()}")

# %% [markdown]
# The divisor and the constant inside the logarithm change no order, but the direction changes everything:
# not one cell is shared. Which is better is an empirical question; the ablation above asks it for 20 steps,
# and `knowsam-lite train --mix-most certain` asks it for a whole run.
#
# **2. The first mixed step.** "More than 12,000" and "24 %" agree but for one step:

# %% tags=["compare"]
run = Config(steps=50_000)
print("library", next(t for t in range(run.steps) if t / run.steps >= run.mix_start))
print("authors", next(t for t in range(run.steps) if t > 12_000))
print("library, a run of 300 steps", next(t for t in range(300) if t / 300 >= run.mix_start))

# %% [markdown]
# The difference is in what happens when you shorten the run: a fixed step number would never be reached.
#
# **What both share.** The mixed batch is a second pass through the students, so a step costs them twice as
# much from then on. BatchNorm sees images with seams in every second pass, and an unmixed image in the test. And
# the rectangles know nothing of anatomy: a heart may end up with two septa.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. A labelled image is unsure in the cell at the upper left, its unlabelled partner is not. What happens
#    there? (a) both exchange this cell, (b) the labelled image gets the partner's cell, and the partner keeps
#    its own, (c) nothing, since both must be unsure, (d) the partner gets the labelled cell
# 2. You have no opinion about some pixels. What is their target? (a) 0, (b) the class of the nearest pixel,
#    (c) −1, (d) the most frequent class
# 3. Why fill the uncertain cells of an unlabelled image from a labelled one? (a) because they are
#    background, (b) because it is cheaper, (c) because then no label is lost, (d) because
#    pseudo-labels are worst there, and true labels take their place
# 4. Why does UGDA not begin at step 0, although there is a ramp? (a) SAM's labels have no ramp in it, and
#    early ones are wrong, (b) mixing is slow, (c) the grid must be learned first, (d) BatchNorm would fail
# 5. Which cells change places? (a) the certain ones in paper and published code, (b) the uncertain ones in both,
#    (c) the uncertain ones in the paper, the certain ones in the published code, (d) random ones in both

# %%
quiz("09", ["b", "c", "d", "a", "c"])

# %% [markdown]
# ## Recap
#
# - The **uncertainty of a region** is the mean entropy of the fused map in a cell. It finds errors much better
#   than chance, and misses those of which the students are sure.
# - UGDA pastes **both ways**, at the same place, each image at its own cells, with partners by remainder.
#   Every pixel brings its **target** along: a label, SAM's pseudo-label, or −1.
# - **Uncertain** cells put true labels where pseudo-labels are worst, and pay with true labels on the lesion;
#   **certain** cells mix skin with skin.
# - **Early pseudo-labels are learned like any label.** SAM's terms carry no ramp, so the start has to wait for
#   quality, of which a fraction of the run is only a stand-in.
#
# **Next:** chapter 10 lets all blocks train together, with UGDA from 24 % of the run on.

# %%
check.report()
