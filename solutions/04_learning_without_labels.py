# %% [markdown]
# # 04 · Learning without labels
#
# {{badges}}
#
# An image without a label cannot tell a network that it is wrong. It can tell it something weaker: that two
# answers about it contradict each other, or that an answer is undecided. In this chapter you turn both into
# losses, let two subnets teach each other, and build *Mean Teacher*, the baseline that every semi-supervised
# method is compared with. And you will see the danger that all of them share: a network that learns from its
# own answers learns its own mistakes.
#
# | | |
# |---|---|
# | **You will** | write the consistency loss and see what stopping a gradient is for; let two networks teach each other; write the ramp and Mean Teacher; watch a network talk itself into its mistakes; compare three ways of learning on the same eight labels |
# | **You need** | PyTorch tensors, `softmax`, what `detach` does; chapters 02 and 03 help but are not required |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: one to three minutes of computing, most of it for the comparison at the end |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same in
# every chapter.

# %% tags=["setup"]

# %%
import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite import Config, Synthetic, UNet, VNet, figures, losses
from knowsam_lite.course.chapters.ch00.e4_who_learns import learners
from knowsam_lite.course.chapters.ch04 import e4_the_moving_average
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import Batch, StepBatches, load_case
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods import base, mean_teacher, multi_view
from knowsam_lite.methods.mean_teacher import DECAY, noisy
from knowsam_lite.metrics import dice
from knowsam_lite.uncertainty import entropy_map

# %% [markdown]
# Here is the whole method, with the two subnets lit. What you build in this chapter has no box of its own: it
# is what the U-Net and the V-Net say to each other, and to themselves, while no label is in sight. HAM, SAM
# and UGDA (chapters 05 to 09) come on top.

# %%
drawn = show(
    figures.pipeline,
    lit="U-Net, V-Net",
    alt="Map of KnowSAM: images, few of them labelled, go to U-Net and V-Net, which are highlighted; their logits go "
    "on to HAM, SAM and UGDA.",
)

# %% [markdown]
# ## Why
#
# We draw 64 synthetic skin lesions, of which 8 training images have labels.

# %% tags=["compare"]
dataset = Synthetic("dermoscopy", seed=0, n=64, size=64)
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
train, test = dataset.split("train"), dataset.split("test")
unlabeled = [record for record in train if record.id not in labeled]


def stack(records: list) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 64, 64) and masks (N, 64, 64) of these records."""
    images = [load_case(dataset, record, 64)[0] for record in records]
    masks = [torch.from_numpy(dataset.mask(record).astype("int64")) for record in records]
    return torch.stack(images), torch.stack(masks)


x_l, y_l = stack([record for record in train if record.id in labeled])
x_u, truth_u = stack(unlabeled)  # truth_u only to score, never to learn
x_t, truth_t = stack(test)
print("labelled", tuple(x_l.shape), " unlabelled", tuple(x_u.shape), " test", tuple(x_t.shape))

# %% [markdown]
# A small U-Net learns from the labelled images alone, with cross-entropy plus soft Dice (chapter 02). Expect
# three to ten seconds and a Dice between 0.4 and 0.7. At the budget `smoke` nothing is trained, and
# everything below still runs, on a network that knows nothing.

# %% tags=["training"]
steps = budget(smoke=0, ci=60, laptop=60, gpu=60)
batches = StepBatches(dataset, labeled, seed=0, batch_labeled=4, batch_unlabeled=0, size=64)
torch.manual_seed(0)
net = UNet(2, (8, 16, 32, 64), dropout=(0, 0, 0.1, 0.1))
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
for step in range(steps):
    batch = batches[step]
    loss = supervised_loss(net(batch.x), batch.y)
    loss.backward()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()

# %% [markdown]
# Now ask it twice about each unlabelled image: once as it is, and once in the mirror. (The second answer is
# mirrored back.) A lesion in the mirror is the same lesion, so of two answers that differ one is wrong, as
# chapter 03 says of two networks.

# %%
with torch.no_grad():
    z_u = net.eval()(x_u)
    z_mirror = net(x_u.flip(3)).flip(3)
first, second = z_u.argmax(dim=1), z_mirror.argmax(dim=1)
differ = first != second
wrong = (first != truth_u, second != truth_u)
print(f"wrong: {wrong[0].float().mean():.1%} of the pixels, in the mirror {wrong[1].float().mean():.1%}")
print(f"the answers differ on {differ.float().mean():.1%} of the pixels")
print(f"so of all errors, a contradiction shows {differ.sum() / (wrong[0] | wrong[1]).sum():.0%}")

# %%
most = differ.float().mean(dim=(1, 2)).topk(2).indices.tolist()
views = show(
    figures.panels,
    [
        {
            "image": dataset.image(unlabeled[i]),
            "answer": z_u[i].softmax(dim=0)[1],
            "in the mirror": z_mirror[i].softmax(dim=0)[1],
            "they differ": differ[i],
            "both wrong": (wrong[0] & wrong[1])[i],
        }
        for i in most
    ],
    ends=("0 background", "1 lesion"),
    names=[f"lesion {i}" for i in most],
    alt="Two lesions, the network's probability of lesion for the image and for its mirror image, the pixels where "
    "the two answers differ, and those where both are wrong: the differences are thin patches, the common errors large "
    "areas of skin around the lesion.",
)

# %% [markdown]
# The rows are the two images with the most contradictions. The fourth column costs no label. It is what a
# loss can be made of: *give the same answer to both*. That is **consistency**, and there are many ways to get
# two views: a mirror, noise, another moment of the training, a second network.
#
# The last column is the limit of the idea: the two answers agree, and both are wrong. No comparison will ever
# find these pixels, and a loss that asks for agreement is content with them. So the method has two subnets of
# different build, which fail in *different* places (chapter 03).
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $z_k, z_j$ | logits of the learner and of the other, $k, j \in \{a, b\}$ | `z`, `z_other` | (N, C, H, W) |
# | $p = \mathrm{softmax}(z)$ | probabilities | `z.softmax(dim=1)` | (N, C, H, W) |
# | $\mathrm{sg}$ | stops the gradient | `.detach()` | |
# | $L_{cons}^{k \leftarrow j} = -\overline{\sum_c \mathrm{sg}(p_{jc}) \log p_{kc}}$ | consistency: $k$ learns from $j$ | `consistency_loss(z, z_other)` | one number |
# | $L_{ent} = \overline{h}$ | low entropy; $h$ is the entropy of a pixel, divided by $\log C$ | `entropy_loss(z)` | one number |
# | $w(t) = e^{-5 (1 - t / t_{max})^2}$ | ramp, in [0, 1] | `ramp(progress)` | a number |
# | $\lambda_{cons}\, w(t), \; \lambda_{ent}\, w(t)$ | weights of the two losses; the method's factors are 1 and 0.9 | `w`, `v` | two numbers |
# | $\theta' \leftarrow \alpha\, \theta' + (1 - \alpha)\, \theta$ | Mean Teacher's moving average | `follow(teacher, student, step)` | |
#
# The bar is the mean over all pixels $\Omega$ of the batch. The *labelled half* of a batch comes first, the
# *unlabelled half* behind it. Unlabelled pixels carry the label −1, which the supervised loss leaves out; the
# losses of this table need no label and see both halves.
#
# ## Step 1: consistency
#
# **Idea.** Network $k$ takes the probabilities of network $j$ as its target, as if they were a label with
# doubts. The loss is the cross-entropy, with the other's whole softmax in place of a class.
#
# **Smallest example.** One pixel. The other says (0.8, 0.2); the learner tries several answers. Beside the
# loss stands its pull at the learner's first logit, the negative gradient:

# %% tags=["compare"]
p_other = torch.tensor([0.8, 0.2])
for own in (0.50, 0.80, 0.95):
    z = torch.tensor([own, 1 - own]).log().requires_grad_()
    loss = -(p_other * z.log_softmax(dim=0)).sum()
    (gradient,) = torch.autograd.grad(loss, z)
    print(
        f"learner ({own:.2f}, {1 - own:.2f})   loss {loss.item():.2f}   pull {round(-gradient[0].item(), 2) + 0:+.2f}"
    )

# %% [markdown]
# The pull is the difference of the two probabilities: up while the learner gives too little, none where they
# agree, down where it gives too much. A learner that is *surer* than the other is called back. Note that the
# loss is not 0 where the two agree. It is the entropy of the other's answer, a floor that no learner gets
# below or moves. (Less that floor it is the KL divergence, with the same gradient: chapter 08 comes back to
# it.)

# %% tags=["compare"]
own = torch.linspace(0.02, 0.98, 97)
floors = show(
    figures.trends,
    {f"other {p}": (own, -(p * own.log() + (1 - p) * (1 - own).log())) for p in (0.5, 0.8, 1.0)},
    title="Consistency of one pixel",
    xlabel="what the learner gives to the first class",
    alt="Three curves over the learner's probability: against an other of 0.5 the loss is lowest at 0.5, against 0.8 "
    "at 0.8, each with a floor above 0; against a sure other it falls all the way to almost 0 at the right end.",
)
for name, values in floors.items():
    print(f"{name}: lowest at {own[values.index(min(values))]:.2f}, where the loss is {min(values):.2f}")

# %% [markdown]
# ### Exercise 04.1: the consistency loss
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `consistency_loss(z, z_other)`: logits of the learner and of the other in, (N, C, H, W) each; one
# number out, in float32 whatever the type of the logits, and finite however sure they are. Only the learner may
# get a gradient.
#
# <details><summary>Hint</summary>
#
# 1. The target: `z_other.detach().float().softmax(dim=1)`. The classes lie on axis 1.
# 2. The learner enters through its logarithm, `z.float().log_softmax(dim=1)`. Multiply the two, class by
#    class; there is no other logarithm.
# 3. Sum over axis 1, all classes, then `.mean()` over the pixels of all images, and a minus in front.
#
# </details>
#
# $$L_{cons}^{k \leftarrow j} = -\frac{1}{|\Omega|} \sum_{i \in \Omega} \sum_{c=0}^{C-1} \mathrm{sg}(p_{jc}) \log p_{kc}$$

# %% tags=["exercise"]
# library: knowsam_lite.losses.consistency_loss
# blank: consistency_loss

# %%
check("04.1", consistency_loss)

# %% [markdown]
# **Look.** Why stop the gradient? In the next cell two networks have one pixel. $a$ gives class 1 a
# probability of 0.60, $b$ 0.45, and each learns from the other, for 300 steps, with and without the stop.
# (From here on the text uses the library's functions, such as `losses.consistency_loss`, so an unfinished
# exercise never stops you.)


# %% tags=["compare"]
def moving_target(z: Tensor, z_other: Tensor) -> Tensor:
    """The same loss without the stop."""
    return -(z_other.softmax(dim=1) * z.log_softmax(dim=1)).sum(dim=1).mean()


for name, distance in (("with the stop", losses.consistency_loss), ("without", moving_target)):
    says = {"a": 0.60, "b": 0.45}
    logits = {k: torch.tensor([1 - p, p]).log().view(1, 2, 1, 1).requires_grad_() for k, p in says.items()}
    optimizer = torch.optim.SGD(logits.values(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        loss = distance(logits["a"], logits["b"]) + distance(logits["b"], logits["a"])
        loss.backward()
        optimizer.step()
    ends = {k: z.softmax(dim=1)[0, 1].item() for k, z in logits.items()}
    print(f"{name:<13}  a {ends['a']:.2f}   b {ends['b']:.2f}   loss {loss.item():.2f}")

# %% [markdown]
# With the stop they meet in between and stay as undecided as they were: nothing new has come in. Without it
# the loss has a cheaper way out. Cross-entropy is smallest where the *target* is sure, so both run off to
# certainty, and the loss falls to almost 0 on a pixel about which neither of them knew anything. A target
# that can be moved will be moved to where it is easy to hit.
#
# ## Step 2: low entropy
#
# **Idea.** Consistency keeps doubts alive. If you believe that a pixel of an unlabelled image belongs to
# *some* class, and not to one half of each, ask for that as well: make the entropy small. (Chapter 05 builds
# the entropy map; all you need here is that 0 means certain and 1 means no idea.) It is the mean of that map,
# divided by $\log C$, so it lies in [0, 1] for every number of classes.
#
# $$L_{ent} = \frac{1}{|\Omega|} \sum_{i \in \Omega} h_i, \qquad h = -\frac{1}{\log C} \sum_{c=0}^{C-1} p_c \log p_c$$
#
# **Smallest example.** Pixels of which only the entropy is asked. Where do they end?

# %% tags=["compare"]
start = torch.tensor([0.30, 0.49, 0.50, 0.51, 0.70])
z = torch.stack([1 - start, start]).log().view(1, 2, 1, 5).requires_grad_()
optimizer = torch.optim.SGD([z], lr=10.0)
for _ in range(500):
    optimizer.zero_grad()
    losses.entropy_loss(z).backward()
    optimizer.step()
ends = z.softmax(dim=1)[0, 1, 0]
for before, after in zip(start.tolist(), ends.tolist(), strict=True):
    print(f"probability of the lesion {before:.2f} -> {after:.2f}")

# %% [markdown]
# Whoever is ahead wins. 0.49 and 0.51 are almost the same opinion, and end as certain opposites. Entropy has
# no opinion of its own about *which* class: it is loud agreement with the network as it is. It has a sibling,
# the **pseudo-label**: take the winning class, call it the truth, and train with the supervised loss. Both
# pull at a pixel, but with different force:

# %% tags=["compare"]
p = torch.linspace(0.5, 1, 51)[1:-1]
z = torch.stack([1 - p, p]).log().view(1, 2, 1, -1)
pulls = {}
for name, believe in {
    "pseudo-label": lambda z: F.cross_entropy(z, z.argmax(dim=1), reduction="sum"),
    "low entropy": lambda z: losses.entropy_loss(z) * z.shape[-1],
}.items():
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(believe(leaf), leaf)
    pulls[name] = (p, -gradient[0, 1, 0])
forces = show(
    figures.trends,
    pulls,
    title="Pull at the winner's logit",
    xlabel="the winner's probability",
    alt="Two curves over the winner's probability from one half to 1. The pull of the pseudo-label falls in a straight "
    "line from one half to 0; that of low entropy starts at 0, is largest at about 0.8, and falls to 0 at 1.",
)
for name, values in forces.items():
    print(
        f"{name:<12}  at 0.51: {values[0]:.2f}   largest {max(values):.2f} at {p[values.index(max(values))]:.2f}"
    )

# %% [markdown]
# The pseudo-label pulls hardest where the network knows least, and turns around at one half. Low entropy
# leaves undecided pixels in peace and pushes those that are half convinced. Of the two it is the more
# careful, and it is the one that the method uses on plain images. (Pseudo-labels with a threshold are in
# chapter 09.)
#
# ## Step 3: both directions
#
# **Idea.** The U-Net learns from the V-Net and the V-Net from the U-Net; each also lowers its own entropy.
# The method averages over the two subnets, so each term gets one half, beside its weight:
#
# $$\tfrac12 \lambda_{cons} w(t) \, L_{cons}^{a \leftarrow b} + \tfrac12 \lambda_{ent} w(t) \, L_{ent}^{a} + \tfrac12 \lambda_{cons} w(t) \, L_{cons}^{b \leftarrow a} + \tfrac12 \lambda_{ent} w(t) \, L_{ent}^{b}$$
#
# **Smallest example.** One pixel again. The direction matters, because the loss is not symmetric:

# %% tags=["compare"]
z_a, z_b = (torch.tensor(z).view(1, 2, 1, 1) for z in ([0.0, 0.0], [3.0, -3.0]))
print(f"a learns from b: {losses.consistency_loss(z_a, z_b):.2f}")
print(f"b learns from a: {losses.consistency_loss(z_b, z_a):.2f}")

# %% [markdown]
# $a$ has no idea and $b$ is sure. For $a$ it is cheap to listen to $b$. For $b$ it is expensive that $a$ is
# undecided: it is told to doubt. Whoever is right, the two meet on the way.
#
# ### Exercise 04.2: both directions
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `mutual_terms(z_a, z_b, w, v)`, which returns the four weighted terms as a dictionary with the names
# `"a/consistency"`, `"a/entropy"`, `"b/consistency"` and `"b/entropy"`. `w` is the weight of consistency,
# $\lambda_{cons}\, w(t)$, and `v` that of entropy, $\lambda_{ent}\, w(t)$. The last line of the cell fetches the
# two losses from the library, so that you can go on whether or not yours is finished. (If you go back to 04.1
# later, run its own cell again before its check.)
#
# <details><summary>Hint</summary>
#
# 1. `consistency_loss` takes the learner first: `consistency_loss(z_a, z_b)` for the term of a,
#    `consistency_loss(z_b, z_a)` for that of b.
# 2. In front of a consistency stands `0.5 * w`, in front of an `entropy_loss` `0.5 * v`.
# 3. `a` is the U-Net, `z_a`. A loop over `(("a", z_a, z_b), ("b", z_b, z_a))` writes each formula once, and
#    `f"{k}/entropy"` makes the names.
#
# </details>

# %% tags=["exercise"]
# library: knowsam_lite.methods.multi_view.mutual_terms
# blank: mutual_terms


consistency_loss, entropy_loss = losses.consistency_loss, losses.entropy_loss

# %%
check("04.2", mutual_terms)

# %% [markdown]
# **Look.** Who learns from which term? Two real subnets, one batch, and for each term the networks that get a
# gradient (`learners` of exercise 00.4):

# %% tags=["compare"]
torch.manual_seed(0)
small = (8, 16, 32, 64)
pair = {"U-Net": UNet(2, small, dropout=(0, 0, 0, 0)), "V-Net": VNet(2, small, depths=(1, 1, 2, 2))}
z_a, z_b = (network(x_l[:2]) for network in pair.values())
for name, term in multi_view.mutual_terms(z_a, z_b, 1.0, 1.0).items():
    print(f"{name:<14} teaches {', '.join(learners(term, pair))}")

# %% [markdown]
# One term, one learner. No label was needed, so these terms run over the whole batch.
#
# ## Step 4: the ramp
#
# **Idea.** At the first step both networks are random, and their answers are noise. A loss that asks for
# agreement, or for certainty, would make them agree on the noise. So both weights begin near 0 and rise as the
# answers become worth hearing: each is a factor times the *ramp* $w(t)$ of Laine and Aila (2017), a function of
# how much of the run is done, $t/t_{max}$.
#
# **Smallest example.** The ramp at five moments. Its logarithm shows how it is made: compare it with what is
# left of the run.

# %% tags=["compare"]
for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
    w = base.ramp(progress)
    print(
        f"{progress:>4.0%} done   {1 - progress:>4.0%} left   log w(t) {math.log(w) + 0:>5.2f}   w(t) {w:.3f}"
    )

# %% [markdown]
# ### Exercise 04.3: the ramp
#
# Difficulty 1 of 5 · importance 4 of 5 · 4 minutes
#
# Write `ramp(progress)`: a number in [0, 1] in, the ramp as a `float` out.
#
# <details><summary>Hint</summary>
#
# 1. What is left of the run is `1 - progress`.
# 2. `-5 * (1 - progress) ** 2` is the exponent: the whole bracket is squared, then multiplied.
# 3. `math.exp` of that.
#
# </details>
#
# $$w(t) = e^{-5 (1 - t / t_{max})^2}$$

# %% tags=["exercise"]
# library: knowsam_lite.methods.base.ramp
# blank: ramp

# %%
check("04.3", ramp)

# %% [markdown]
# **Look.** How much does a run really learn from its own answers? The learning rate falls while the ramp
# rises, and in plain gradient descent a step moves the weights by the product of the two:

# %% tags=["compare"]
progress = torch.linspace(0, 1, 101)
rise = torch.tensor([base.ramp(t) for t in progress.tolist()])
effect = show(
    figures.trends,
    {"ramp": (progress, rise), "ramp × rate": (progress, rise * (1 - progress))},
    title="The ramp, and what arrives at the weights",
    xlabel="progress $t / t_{max}$",
    alt="Two curves over the progress of a run: the ramp rises from almost 0 to 1, slowly, then steeply; its product "
    "with the falling learning rate is a low hill with its top at about two thirds of the run.",
)
product = effect["ramp × rate"]
half = next(t for t, w in zip(progress.tolist(), effect["ramp"], strict=True) if w >= 0.5)
print(f"the ramp passes one half at {half:.0%} of the run; its mean is {rise.mean().item():.2f}")
print(f"the product is largest at {progress[product.index(max(product))]:.0%}: {max(product):.2f}")

# %% [markdown]
# So the networks listen to each other most at about two thirds of the run: the labels have taught them
# something by then, and the rate is not yet gone.
#
# ## Step 5: learning one's own mistakes
#
# **Idea.** Every loss of this chapter takes somebody's answer as a target. What if the answer is wrong? Then
# the mistake is learned, the next answer repeats it with more confidence, and so on. This is **confirmation
# bias**. The simplest way to see it is a network alone with itself: it labels the 32 unlabelled images,
# learns from these pseudo-labels for 15 steps, labels them again, and so on for four rounds. Labels play no
# part.
#
# **Before you run it**, decide: will Dice rise or fall? Will the network become surer or less sure of the
# mistakes that it keeps?


# %%
def mean_dice(y: Tensor, truth: Tensor) -> float:
    """Mean Dice of the lesion over images; labels (N, H, W)."""
    return sum(dice(p == 1, t == 1) for p, t in zip(y, truth, strict=True)) / len(truth)


def learn(network: nn.Module, y: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """A copy of the network after learning these labels (32, 64, 64) of the unlabelled images."""
    generator = torch.Generator().manual_seed(seed)  # for the choice of images
    torch.manual_seed(seed)  # for dropout
    pupil = copy.deepcopy(network).train()
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-3)
    for _ in range(steps):
        i = torch.randperm(len(x_u), generator=generator)[:4]
        loss = supervised_loss(pupil(x_u[i]), y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pupil.eval()


@torch.no_grad()
def judge(network: nn.Module) -> dict[str, float]:
    """Dice on the unlabelled images, the share of the first mistakes kept, and the certainty 1 - h of these."""
    z = network.eval()(x_u)
    y = z.argmax(dim=1)
    kept = wrong[0] & (y == first)
    share, sure = kept.sum().item() / wrong[0].sum().item(), 1 - entropy_map(z)[kept].mean().item()
    return {"Dice": mean_dice(y, truth_u), "first mistakes kept": share, "sure of those kept": sure}


# %% tags=["training"]
round_steps = budget(smoke=0, ci=15, laptop=15, gpu=15)
rounds, believer = [judge(net)], net
for number in range(4):
    with torch.no_grad():
        own = believer(x_u).argmax(dim=1)
    believer = learn(believer, own, round_steps, seed=number)
    rounds.append(judge(believer))
taught = judge(learn(net, truth_u, 4 * round_steps))
for name, row in {**{f"round {i}": row for i, row in enumerate(rounds)}, "truth": taught}.items():
    print(f"{name:<8}", "   ".join(f"{what} {value:.2f}" for what, value in row.items()))

# %% tags=["guess"]
bias = show(
    figures.trends,
    {what: (list(range(5)), [row[what] for row in rounds]) for what in ("Dice", "sure of those kept")},
    title="A network that believes itself",
    xlabel="rounds of learning from its own pseudo-labels",
    alt="Two lines over the rounds from 0 to 4: the Dice falls, fast at first, and the certainty of the first mistakes "
    "that are kept ends above where it began.",
)

# %% [markdown]
# Usually Dice falls, and the network ends surer of the mistakes it keeps than it began, though not at every
# round: worse and surer, the worst combination there is, because nothing that reads the network's doubts (HAM,
# UGDA) can find these errors any more. The last line of the table is the control: the same number of steps,
# the same images, but true labels. It forgets most of its first mistakes and doubts the rest. So the network
# *could* learn these images; its own answers were what stood in the way.
#
# Why does it not simply stay where it is? Every pseudo-label rounds. A pixel of 0.45 is taught to be
# background, its neighbours follow, and a lesion that was found faintly in one round is gone in the next.
#
# What helps is what the rest of this chapter does: keep the labels in every batch, ask somebody *else*, and
# begin late. (Chapters 08 and 09 come back to it.)
#
# ## Step 6: Mean Teacher
#
# **Idea.** If there is no second network, take the same one at other moments. The *teacher* is the moving
# average of the student's weights over its past steps, which is steadier than any one of them (Tarvainen and
# Valpola, 2017). It never learns by gradient; it *follows*:
#
# $$\theta' \leftarrow \alpha\, \theta' + (1 - \alpha)\, \theta, \qquad \alpha = \min\Big(1 - \frac{1}{t + 1},\ 0.99\Big)$$
#
# $\theta$ are the student's parameters and $\theta'$ the teacher's; $t$ counts the steps from 0.
#
# **Smallest example.** Why not simply 0.99? Because the teacher starts as a random network. How much of that
# start is still in it after some steps?

# %% tags=["compare"]
plain = warm = 1.0
for step in range(300):
    plain *= DECAY
    warm *= min(1 - 1 / (step + 1), DECAY)
    if step + 1 in (1, 60, 300):
        print(
            f"after {step + 1:>3} steps: with 0.99 {plain:.0%} of the random start, with the formula {warm:.0%}"
        )
print(f"half of the teacher is from the last {math.log(0.5) / math.log(DECAY):.0f} steps")

# %% [markdown]
# In a run of 60 steps, a teacher of plain 0.99 would still be more than half random. The formula has
# $\alpha = 0$ at the first step, which replaces the start by the student; then $\alpha$ is one half, two thirds,
# ..., which makes the teacher the plain mean of all steps so far, until $\alpha$ reaches 0.99 after about a
# hundred.
#
# ### Exercise 04.4: the moving average
#
# Difficulty 3 of 5 · importance 5 of 5 · 10 minutes
#
# Write `follow(teacher, student, step)`, which changes the teacher's *parameters* in place and returns
# nothing. `DECAY`, imported above, is 0.99, and the line `@torch.no_grad()` above the function keeps autograd
# out of it. The student must not change, and neither must the teacher's buffers, BatchNorm's running
# averages: the teacher sees images itself and makes its own.
#
# <details><summary>Hint</summary>
#
# 1. $\alpha$, `decay` in the code, is the *smaller* one of `1 - 1 / (step + 1)` and `DECAY`: `min(...)`.
# 2. `old.lerp_(new, s)` moves a tensor in place by the share `s` of the way to `new`. The teacher keeps
#    $\alpha$, so the share is `1 - decay`. (`old = ...` would only give the name to a new tensor.)
# 3. Walk through `teacher.parameters()` and `student.parameters()` together with `zip`. Parameters are what
#    learns; buffers are not among them.
#
# </details>

# %% tags=["exercise"]
# library: knowsam_lite.course.chapters.ch04.e4_the_moving_average.follow
# blank: follow

# %%
check("04.4", follow)

# %% [markdown]
# (The library: `update_ema`, with or without buffers.)
#
# **Look.** One weight of a student that climbs from 0 to 1, restlessly, and two teachers that follow it from
# 0: yours (the library's), and one that uses 0.99 from the start.

# %% tags=["compare"]
generator = torch.Generator().manual_seed(0)
walk = [1 - math.exp(-t / 20) + 0.15 * torch.randn((), generator=generator).item() for t in range(200)]
student, follower = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
nn.init.zeros_(follower.weight)
path: dict[str, list[float]] = {"student": walk, "teacher": [], "0.99 throughout": []}
late = 0.0
for step, value in enumerate(walk):
    nn.init.constant_(student.weight, value)
    e4_the_moving_average.follow(follower, student, step)
    late = DECAY * late + (1 - DECAY) * value
    path["teacher"].append(follower.weight.item())
    path["0.99 throughout"].append(late)
averages = show(
    figures.trends,
    {name: (list(range(200)), values) for name, values in path.items()},
    title="One weight",
    xlabel="step",
    of={"student": "U-Net", "teacher": "EMA"},
    alt="Three lines over 200 steps: the student climbs to 1 within sixty steps and jitters; the teacher follows "
    "smoothly and somewhat late; the average with 0.99 throughout is smooth and much later.",
)
jitter = {name: torch.tensor(values[100:]).diff().abs().mean().item() for name, values in averages.items()}
for name, values in averages.items():
    print(f"{name:<16} at step 50: {values[50]:.1f}   mean jump from step to step {jitter[name]:.3f}")

# %% [markdown]
# The teacher pays for its calm with delay. In a long run that costs nothing; in a short one it is a teacher
# from yesterday.
#
# **What is there to disagree about?** At the first step teacher and student are the same network. If both saw
# the same image, they would say the same. So the teacher sees *noise* on top of it, drawn anew each time:

# %% tags=["compare"]
torch.manual_seed(0)
noise = noisy(x_u[:8]) - x_u[:8]
print(f"noise: standard deviation {noise.std().item():.1f}, largest {noise.abs().max().item():.1f}")
twin = UNet(2, small, dropout=(0, 0, 0, 0))
with torch.no_grad():
    p, p_same, p_noisy = (twin(x).softmax(dim=1) for x in (x_u[:8], x_u[:8], noisy(x_u[:8])))
print("the same image: difference 0", bool(F.mse_loss(p, p_same) == 0))
print("with noise:     difference 0", bool(F.mse_loss(p, p_noisy) == 0))

# %% [markdown]
# ### Exercise 04.5: Mean Teacher's two terms
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# Write `mean_teacher_terms(net, teacher, x, y, n, w)`: student, teacher, images, labels, the number of
# labelled images (they come first), and the weight of the consistency, $\lambda\, w(t)$. Return a dictionary of
# two terms:
#
# - `"supervised"`: one half of `supervised_loss` of the student on the labelled half.
# - `"consistency"`: `w` times the mean squared difference between the probabilities of student and teacher on
#   the unlabelled half.
#
# Call each network once: the student on the whole clean batch, which its BatchNorm should see; the teacher on
# the unlabelled half, through `noisy`, and without a gradient. Both stay in the mode they are in.
# (The squared difference is bounded, so a confident mistake cannot drown the rest.)
#
# <details><summary>Hint</summary>
#
# 1. The student: `z = net(x)`. Then `z[:n]` and `y[:n]` are the labelled half and `z[n:]` the other.
# 2. Ask the teacher inside `with torch.no_grad():`, about `noisy(x[n:])`.
# 3. `F.mse_loss(p, q)` is the mean squared difference; both arguments are softmaxes over axis 1. Factors: 0.5
#    for the supervised loss, `w` for the consistency.
#
# </details>
#
# $$\tfrac12\, L_{sup}(z_l, y_l) + \lambda\, w(t) \, \overline{\big(p_u - \mathrm{sg}(p'_u)\big)^2}, \qquad p'_u = \mathrm{softmax}\big(F_{\theta'}(x_u + \text{noise})\big)$$


# %% tags=["exercise"]
# blank: mean_teacher_terms
def mean_teacher_terms(
    net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
) -> dict[str, Tensor]:
    """The student's weighted terms by name; x (N, 3, H, W), y (N, H, W), the first n images labelled."""
    z = net(x)
    with torch.no_grad():
        target = teacher(noisy(x[n:])).softmax(dim=1)
    return {
        "supervised": 0.5 * supervised_loss(z[:n], y[:n]),
        "consistency": w * F.mse_loss(z[n:].softmax(dim=1), target),
    }


# %%
check("04.5", mean_teacher_terms)

# %% [markdown]
# ## Put together: three ways and a control
#
# The same U-Net, the same batches of 4 labelled and 4 unlabelled images, the same number of steps:
#
# - **labels**: cross-entropy and Dice on the labelled half. The unlabelled half is not even shown.
# - **shown**: the same loss, but the unlabelled half passes through the network as well, and its answers are
#   thrown away. Only BatchNorm, which takes mean and variance over the batch (chapter 02), has seen it.
# - **Mean Teacher**: the library's, with its factor, $\lambda = 0.1$.
# - **consistency**: a U-Net and a V-Net learn from labels and by `mutual_terms`, with the method's factors, 1
#   and 0.9. We score the U-Net.
#
# *Shown* is there because whatever sees more images than *labels* might be better for that reason alone.

# %%
more_steps = budget(smoke=0, ci=6, laptop=60, gpu=402)
config = Config(steps=max(more_steps, 1))
two_streams = StepBatches(
    dataset, labeled, seed=0, batch_labeled=4, batch_unlabeled=4, size=64, unlabeled_aug="strong"
)
x_w, truth_w = torch.cat([x_u, x_t]), torch.cat([truth_u, truth_t])  # all 48 images without a label


def fresh(seed: int) -> dict[str, nn.Module]:
    """A U-Net and a V-Net, with the same random start for the same seed."""
    torch.manual_seed(seed)
    return {
        "U-Net": UNet(2, small, dropout=(0, 0, 0.1, 0.1)),
        "V-Net": VNet(2, small, depths=(1, 1, 2, 2)),
    }


@torch.no_grad()
def score(network: nn.Module) -> float:
    """Mean Dice on the images without a label; the network is left in training mode."""
    y = network.eval()(x_w).argmax(dim=1)
    network.train()
    return mean_dice(y, truth_w)


def run(
    loss: Callable[[Batch, int], Tensor],
    nets: dict[str, nn.Module],
    after: Callable[[int], None] = lambda step: None,
) -> dict[str, list[float]]:
    """Train what has a gradient in `nets`; returns name -> Dice at the start and six times in the run."""
    parameters = [p for network in nets.values() for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    found = {name: [score(network)] for name, network in nets.items()}
    for step in range(more_steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / more_steps)
        total = loss(two_streams[step], step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        after(step)
        if (step + 1) % (more_steps // 6) == 0:
            for name, network in nets.items():
                found[name].append(score(network))
    return found


# %% [markdown]
# Each way is one function; inside, the loss of a batch and a step.


# %%
def with_labels(seed: int, size: int) -> dict[str, list[float]]:
    """The U-Net on labels; the first `size` images of the batch pass through it: 4 labelled ones, or all 8."""
    net_a = fresh(seed)["U-Net"]
    return run(lambda batch, step: supervised_loss(net_a(batch.x[:size])[:4], batch.y[:4]), {"U-Net": net_a})


def with_a_teacher(seed: int) -> dict[str, list[float]]:
    """Mean Teacher: the student, called U-Net here, and its teacher."""
    method = mean_teacher.MeanTeacher(config, 2, fresh(seed)["U-Net"])
    nets = {"U-Net": method.net, "teacher": method.teacher}
    return run(lambda batch, step: sum(method.losses(batch, step).values()), nets, method.after_step)


def with_each_other(seed: int, weight: float = 1.0, ramped: bool = True) -> dict[str, list[float]]:
    """U-Net and V-Net on labels, consistency and entropy; without the ramp at full weight from the start."""
    nets = fresh(seed)

    def loss(batch: Batch, step: int) -> Tensor:
        z_a, z_b = (network(batch.x) for network in nets.values())
        w = weight * (base.ramp(step / more_steps) if ramped else 1.0)
        told = 0.5 * (supervised_loss(z_a[:4], batch.y[:4]) + supervised_loss(z_b[:4], batch.y[:4]))
        return told + sum(multi_view.mutual_terms(z_a, z_b, w, 0.9 * w).values())

    return run(loss, nets)


# %% [markdown]
# Two seeds each, for one seed is an anecdote. Expect one to three minutes on two cores; at `ci` the runs are
# so short that no network learns much.

# %% tags=["training"]
seeds = (0, 1)
results = {
    "labels": [with_labels(seed, 4) for seed in seeds],
    "shown": [with_labels(seed, 8) for seed in seeds],
    "Mean Teacher": [with_a_teacher(seed) for seed in seeds],
    "consistency": [with_each_other(seed) for seed in seeds],
}


def table(results: dict[str, list[dict[str, list[float]]]]) -> None:
    """Print the final Dice of every network, by seed."""
    print(f"final Dice{'seed 0':>21}   seed 1")
    for way, found in results.items():
        for name in found[0]:
            print(f"{way + ', ' + name:<24}", "   ".join(f"{curves[name][-1]:>6.2f}" for curves in found))


table(results)

# %%
at = [more_steps * i // 6 for i in range(7)] if more_steps else [0]
race = show(
    figures.trends,
    {way: (at, found[0]["U-Net"]) for way, found in results.items()},
    references=["labels"],
    title="Dice of the U-Net on images without a label, seed 0",
    xlabel="step",
    alt="Four jagged lines over the steps, the U-Net's Dice with labels alone, with the unlabelled images shown, with "
    "Mean Teacher and with consistency: they rise, cross each other, and end near each other.",
)

# %% [markdown]
# How to read this:
#
# 1. **How much is luck?** Compare the two columns of a row. Nothing but the random start differs between
#    them. Differences between rows that are no larger mean nothing. In the picture the lines cross: had the
#    run been shorter, another way would have won. (At 0 everything is called background.)
# 2. **Compare with *shown*.** What *shown* gains over *labels* is BatchNorm's work, and it may well be the
#    greater part of what "semi-supervised" seems to win. Only what the others gain over *shown* was learned
#    from answers.
# 3. **A partner teaches what it knows.** Compare the rows seed by seed: a V-Net that is behind has little
#    to teach the U-Net. Mean Teacher's teacher is an average over steps at which the student was worse, and in a
#    short run it lags far behind.
#
# So do not be disappointed if the answers of others have taught nothing measurable.
# Semi-supervision is a small force beside good labels; it needs a long run, a partner worth hearing, and
# several seeds to be seen. [The runs from
# scratch](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/from_scratch.md) have them: there `mc`, which is *consistency* with HAM, stands
# beside the same pair on labels alone. And it is why the method looks for a teacher that knows what the pair
# does not: SAM.
#
# ## Ablate one thing: the ramp
#
# What does the ramp protect against? To see it clearly, turn the factors of consistency and entropy up to three
# times those of the method, and take the ramp away:

# %% tags=["training"]
louder = {
    "with ramp": [with_each_other(seed, weight=3.0) for seed in seeds],
    "no ramp": [with_each_other(seed, weight=3.0, ramped=False) for seed in seeds],
}
table(louder)

# %% tags=["guess"]
protected = show(
    figures.trends,
    {way: (at, found[0]["U-Net"]) for way, found in louder.items()},
    title="Dice of the U-Net at three times the weight, seed 0",
    xlabel="step",
    alt="Two lines over the steps: with the ramp the U-Net's Dice rises; without it the Dice falls to 0 and stays "
    "there or hardly rises.",
)

# %% [markdown]
# Without the ramp the two begin by agreeing, and the easiest thing to agree on is "background everywhere":
# most pixels are background, and low entropy makes it certain. Usually they do not get out of it in so short
# a run. It is the confirmation bias of step 5, with two networks in place of one. With the ramp the pair begins
# with background as well, but the labels lead it out before the weights count.
#
# Three times the weight makes this visible. With the method's own factors, runs this short ended no worse
# without the ramp when this chapter was written. See for yourself: `with_each_other(0, ramped=False)`.
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) lets its subnets learn from each other by consistency, with low
# entropy. Its formula could not be had for this library, so the soft cross-entropy of step 1 is ours. The
# code that its authors published settles the details differently, and two of them are defects. The package
# `knowsam_lite.official` holds the authors' behaviour, so you can measure it.
#
# | detail | authors' code | this library |
# |---|---|---|
# | consistency | binary cross-entropy of the *last class channel* | cross-entropy over all classes |
# | direction | the U-Net learns from the V-Net, not the V-Net from it | both learn |
# | entropy | divided by $\log 2$, whatever C is | divided by $\log C$ |
# | weight of the entropy | 0.9 from the first step on | 0.9 times the ramp |
# | ramp | in 200 stairs | every step |
#
# **1. The last channel.** Two networks with four classes. They agree about the last one, and contradict each
# other about all the rest:

# %% tags=["compare"]
from knowsam_lite.official.losses import consistency_a_from_b, consistency_b_from_a
from knowsam_lite.official.losses import consistency_weight as official_weight
from knowsam_lite.official.losses import entropy_loss as official_entropy

z_a = torch.tensor([6.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1)
z_b = torch.tensor([0.0, 6.0, 0.0, 0.0]).view(1, 4, 1, 1)
print("winners", z_a.argmax(dim=1).item(), "and", z_b.argmax(dim=1).item())
for name, distance in (("authors", consistency_a_from_b), ("library", losses.consistency_loss)):
    leaf = z_a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(leaf, z_b), leaf)
    print(f"{name}: largest pull {gradient.abs().max().item():.2f}")

# %% [markdown]
# A contradiction in every pixel, and nothing to learn. With two classes the last channel says everything, and
# the two losses are the same:

# %% tags=["compare"]
generator = torch.Generator().manual_seed(0)
for classes in (2, 3, 4):
    z, z_other = (2 * torch.randn(2, classes, 8, 8, generator=generator) for _ in range(2))
    ours, authors = losses.consistency_loss(z, z_other), consistency_a_from_b(z, z_other)
    print(
        f"C = {classes}   library {ours:.2f}   authors {authors:.2f}   same {bool((ours - authors).abs() < 1e-4)}"
    )

# %% [markdown]
# **2. Who learns.** For the V-Net, $b$, the two arguments of the loss have changed places: what should be the
# prediction has become the target, and the target carries no gradient. That holds for any number of classes.
# The two subnets from above, once more:

# %% tags=["compare"]
z_a, z_b = (network(x_l[:2]) for network in pair.values())
for name, term in {
    "authors, a from b": consistency_a_from_b(z_a, z_b),
    "authors, b from a": consistency_b_from_a(z_b, z_a) + 0 * z_a.sum(),  # so that there is a graph to ask
    "library, a from b": losses.consistency_loss(z_a, z_b),
    "library, b from a": losses.consistency_loss(z_b, z_a),
}.items():
    print(f"{name}   teaches {', '.join(learners(term, pair)) or 'nobody'}")
print(
    "the authors' two values are equal:",
    bool(consistency_a_from_b(z_a, z_b) == consistency_b_from_a(z_b, z_a)),
)

# %% [markdown]
# The U-Net is taught by a network that only the labels (and SAM) teach. The last line says why this is hard
# to notice: the logged numbers look healthy, both of them. A loss that is logged is not yet a loss that is
# learned; ask for the gradient.
#
# **3. Entropy and ramp.** No idea at all, for several numbers of classes, and the start of a run:

# %% tags=["compare"]
for classes in (2, 4, 8):
    nothing = torch.zeros(1, classes, 1, 1)  # equal logits
    print(
        f"C = {classes}   authors {official_entropy(nothing):.2f}   library {losses.entropy_loss(nothing):.2f}"
    )
for step in (0, 124, 125, 249, 250):
    print(
        f"step {step:>3} of 25,000   authors {official_weight(step, 25_000):.5f}   library {base.ramp(step / 25_000):.5f}"
    )

# %% [markdown]
# Beyond two classes the authors' entropy weighs more, two times with four, three times with eight. The stairs
# of the ramp are harmless. That the entropy has no ramp is a choice, not a defect.
#
# **What both share.** The target of consistency is detached, and it is a *soft* one; the terms run over
# labelled and unlabelled images; nobody asks whether the other network deserves to be believed.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. The learner gives a pixel (0.95, 0.05), the other (0.70, 0.30); the first class is true. Consistency makes
#    the learner ... (a) stay, since both name the same class, (b) surer, (c) less sure, although it is right,
#    (d) what the label says
# 2. You forget to stop the gradient of the target. Two undecided networks ... (a) stay undecided, (b) become
#    certain together, whatever the truth, (c) drift apart, (d) exchange their answers
# 3. A network gives a whole lesion the probability 0.45, and learns by low entropy alone. The lesion ... (a) is
#    found, (b) stays at 0.45, (c) is half found, (d) disappears for good
# 4. A run of 30 steps, with $\alpha = 0.99$ from the first one. At its end the teacher is ... (a) mostly its random
#    start, (b) the mean of all students, (c) the last student, (d) the student of step 15
# 5. Why does the V-Net learn nothing from the U-Net in the authors' code? (a) its learning rate is 0, (b) it is
#    frozen, (c) its prediction stands where the target belongs, and the target has no gradient, (d) the weight
#    of the term is 0

# %%
quiz("04", ["c", "b", "d", "a", "c"])

# %% [markdown]
# ## Recap
#
# - **Consistency** asks two views for the same answer. It finds contradictions, never common errors, and its
#   target has to stand still.
# - **Low entropy** and **pseudo-labels** make the network believe itself; with labels out of sight that is
#   **confirmation bias**: worse and surer.
# - The **ramp** keeps all of that quiet until the answers are worth hearing.
# - **Mean Teacher** learns from the moving average of itself, which sees the images noisy; its teacher
#   forgets the random start at once and is late by some seventy steps.
# - Compare with a control that has *seen* as much, over several seeds, and ask for gradients, not for logged
#   losses.
#
# **Next:** chapter 05 reads doubts and contradictions and makes one map of two; chapter 08 brings in a
# teacher that knows more than both.

# %%
check.report()
