# %% [markdown]
# # 05 · Uncertainty and the hybrid aggregation module
#
# {{badges}}
#
# Two networks look at the same image and answer. Sometimes one of them hesitates, sometimes they contradict
# each other, and now and then both are sure and both are wrong. In this chapter you turn these situations
# into numbers, and then build **HAM**, the *hybrid aggregation module*: a small network that reads those
# numbers and makes one better map out of two.
#
# | | |
# |---|---|
# | **You will** | measure how unsure one network is (entropy) and where two networks contradict each other (disagreement); build HAM; silence one of its parts and measure what that costs |
# | **You need** | PyTorch tensors, `softmax`, a convolution; chapters 02 and 03 help but are not required |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: less than a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
import math

import torch
from torch import Tensor, nn

from knowsam_lite import Synthetic, UNet, VNet, aggregation, figures, uncertainty
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.losses import supervised_loss
from knowsam_lite.metrics import dice

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. The U-Net and the V-Net send their logits
# $z_a$ and $z_b$ to HAM. HAM's answer $z_f$, the *fused* map, is what you get as the prediction at the end.
# On the way it also prompts SAM and tells UGDA which regions are worth exchanging, so a poor $z_f$ harms
# everything to the right of it.

# %%
drawn = show(
    figures.pipeline,
    lit="HAM",
    alt="Map of KnowSAM: images go to U-Net and V-Net, their logits to HAM, which is highlighted; its fused "
    "map goes on to SAM and UGDA, and SAM's answer comes back to both networks by distillation.",
)

# %% [markdown]
# ## Why
#
# With many labels you would simply train a network and trust it. With few labels the network is often
# wrong, and on an unlabelled image nobody tells you where. You need a sign that can be read *without* the
# label. There are two cheap ones.
#
# - **Doubt.** A network that gives 0.51 to one class and 0.49 to the other tells you itself that it is
#   guessing.
# - **Contradiction.** Where two networks differ, at least one is wrong, however sure it sounds (chapter 03).
#
# Let us see both on real predictions. We draw the 64 synthetic skin lesions of chapters 03 and 04 and train two
# small subnets for a few steps. They will be mediocre. That is the point: mediocre is what you have at the
# start of every semi-supervised training. But 16 training images have labels this time, not 8: with 8, so few
# steps leave both subnets below a Dice of 0.6, too poor to make one good map of the two.

# %% tags=["compare"]
dataset = Synthetic("dermoscopy", seed=0, n=64, size=64)
labeled = sorted(choose_labeled(dataset.records, "16", seed=0))
batches = StepBatches(dataset, labeled, seed=0, batch_labeled=4, batch_unlabeled=0, size=64)
batch = batches[0]
print("labelled", len(labeled), "of", len(dataset.split("train")), "training images")
print("x", tuple(batch.x.shape), " y", tuple(batch.y.shape))

# %% [markdown]
# Both subnets come from the library, only narrower than the originals, so that a CPU can follow. The U-Net
# has 8 channels at full size, and so has the V-Net; the originals have 16.

# %% tags=["compare"]
torch.manual_seed(0)
widths = (8, 16, 32, 64)
net_a = UNet(2, widths, dropout=(0, 0, 0.1, 0.1))
net_b = VNet(2, widths, depths=(1, 1, 2, 2))
for name, net in (("F_a, U-Net", net_a), ("F_b, V-Net", net_b)):
    print(name, sum(p.numel() for p in net.parameters()), "parameters")

# %% [markdown]
# The training loop is the plainest there is: cross-entropy plus Dice on labelled images, for each subnet on
# its own. Expect a Dice between 0.6 and 0.8 on the test images, after ten to twenty seconds on two CPU
# cores. At the budget `smoke` it does nothing, and everything below still runs, on networks that know
# nothing.

# %% tags=["training"]
steps = budget(smoke=0, ci=80, laptop=80, gpu=80)
parameters = [*net_a.parameters(), *net_b.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=3e-3)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
for step in range(steps):
    batch = batches[step]
    loss = supervised_loss(net_a(batch.x), batch.y) + supervised_loss(net_b(batch.x), batch.y)
    loss.backward()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()

# %% [markdown]
# Now the 16 test images. We keep the logits of both subnets, because almost everything below is computed
# from them. `z_a` and `z_b` have the shape (N, C, H, W): images, classes, height, width.

# %% tags=["compare"]
test = dataset.split("test")
x = torch.stack([load_case(dataset, record, 64)[0] for record in test])
y = torch.stack([torch.from_numpy(dataset.mask(record).astype("int64")) for record in test])
net_a.eval(), net_b.eval()
with torch.no_grad():
    z_a, z_b = net_a(x), net_b(x)
print("z_a", tuple(z_a.shape), " z_b", tuple(z_b.shape))

# %% [markdown]
# The first picture of the chapter: what each subnet answers, and the truth. The white line is the outline
# of the truth, the number is the Dice score of that image.


# %%
def mean_dice(z: Tensor) -> float:
    """Mean Dice of the lesion over the test images; z (N, 2, H, W)."""
    return sum(dice(p == 1, t == 1) for p, t in zip(z.argmax(dim=1), y, strict=True)) / len(y)


def cases(maps: dict[str, Tensor], doubt: Tensor | None = None, chosen: tuple[int, ...] = (0, 1, 2)) -> list:
    """Rows for a prediction sheet: logits by name, and a map (N, H, W) of doubt if wanted."""
    rows = []
    for i in chosen:
        answers = {name: z[i].argmax(dim=0).numpy().astype("uint8") for name, z in maps.items()}
        truth = y[i].numpy().astype("uint8")
        scores = {name: dice(answer == 1, truth == 1) for name, answer in answers.items()}
        row = {"id": f"lesion {i}", "image": dataset.image(test[i]), "truth": truth, "maps": answers}
        rows.append({**row, "dice": scores, **({} if doubt is None else {"uncertainty": doubt[i].numpy()})})
    return rows


# %%
sheet = show(
    figures.prediction_sheet,
    cases({"U-Net": z_a, "V-Net": z_b}),
    alt="Three skin lesions, one per row: image, true mask, the U-Net's and the V-Net's masks. Both networks "
    "find the lesions roughly and miss or invent different parts.",
)

# %% [markdown]
# Compare the two columns on the right. Both subnets saw the same 16 labelled images for the same number of
# steps, yet they fail in different places. That is worth a module of its own.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $z_a, z_b$ | logits of the subnets | `z_a`, `z_b` | (N, C, H, W) |
# | $p = \mathrm{softmax}(z)$ | probabilities over the classes | `z.softmax(dim=1)` | (N, C, H, W) |
# | $h = -\sum_c p_c \log p_c \,/ \log C$ | entropy: doubt of one network, 0 to 1 | `entropy_map(z)` | (N, H, W) |
# | $1 - h$ | certainty | `1 - entropy_map(z)` | (N, H, W) |
# | $d_c = [p_{a,c} > \frac12] \oplus [p_{b,c} > \frac12]$ | disagreement, per class, 0 or 1 | `disagreement_map(p_a, p_b)` | (N, C, H, W) |
# | $1 - d$ | agreement | `1 - disagreement_map(p_a, p_b)` | (N, C, H, W) |
# | $z_f = \mathrm{HAM}(z_a, z_b)$ | fused logits | `ham(z_a, z_b)` | (N, C, H, W) |
#
# $\oplus$ is *exclusive or*: true when exactly one of two things is true.
#
# ## Step 1: entropy
#
# **Idea.** Suppose a friend has to guess the class of a pixel and knows only the probabilities $p$. If $p$
# is (1, 0), your friend needs no luck. If $p$ is (0.5, 0.5), the guess is a coin toss. *Entropy* is the
# number that measures this: 0 when nothing is open, largest when all classes are equally likely.
#
# **Smallest example.** Four pixels, two classes. Each row is one pixel.

# %% tags=["compare"]
p = torch.tensor([[1.00, 0.00], [0.90, 0.10], [0.70, 0.30], [0.50, 0.50]])
terms = -torch.special.xlogy(p, p)  # -p log p, with 0 log 0 = 0
for pixel, parts in zip(p.tolist(), terms.tolist(), strict=True):
    print(f"p = ({pixel[0]:.1f}, {pixel[1]:.1f})   entropy {sum(parts):.2f}")

# %% [markdown]
# The last value, 0.69, is $\log 2$: the entropy of a coin. With $C$ classes the largest possible entropy is
# $\log C$, reached by the uniform guess. That is awkward. A doubt of 0.69 means "no idea" for two classes
# and "fairly sure" for eight. So we divide by $\log C$, and 1 always means "no idea".

# %% tags=["compare"]
for classes in (2, 4, 8):
    uniform = torch.full((classes,), 1 / classes)
    entropy = -(uniform * uniform.log()).sum()
    print(f"C = {classes}   natural {entropy:.2f}   divided by log C {entropy / math.log(classes):.2f}")

# %% [markdown]
# How fast does doubt fall when a network makes up its mind? Move the probability of one class from 0 to 1
# and share the rest among the others.

# %% tags=["compare"]
share = torch.linspace(0, 1, 101)
heights = {}
for classes in (2, 4):
    rest = ((1 - share) / (classes - 1)).unsqueeze(1).expand(-1, classes - 1)
    p = torch.cat([share.unsqueeze(1), rest], dim=1)
    heights[f"C = {classes}"] = -torch.special.xlogy(p, p).sum(dim=1) / math.log(classes)
curves = show(
    figures.lines,
    share,
    heights,
    title="Entropy divided by log C",
    xlabel="probability of the first class; the others share the rest",
    alt="Two bell-like curves over the probability of the first class: for two classes the entropy is 1 at one "
    "half, for four classes it is 1 at one quarter; both fall to 0 at probability 1.",
)
for name, values in curves.items():
    print(name, "peaks at probability", f"{share[values.index(max(values))]:.2f}")

# %% [markdown]
# The curves are flat on top and steep at the sides: a network that moves from 0.5 to 0.7 has lost only a
# little of its doubt, one that moves from 0.9 to 1.0 loses almost half of the whole range.
#
# ### Exercise 05.1: the entropy map
#
# Difficulty 2 of 5 · importance 5 of 5 · 10 minutes
#
# Write `entropy_map(z)`: logits (N, C, H, W) in, one number per pixel out, as float32 whatever the type of the
# logits: 0 where the network is certain and never below, 1 where all classes are equal. Map and gradient have
# to survive a probability of 0, and without a constant added to $p$, which would move every value.
#
# <details><summary>Hint</summary>
#
# 1. The alternatives among which the network chooses are the classes, and they lie on axis 1 of (N, C, H,
#    W). Both the softmax and the sum run over this axis.
# 2. `z.log_softmax(dim=1)` gives $\log p$ without ever computing $p$, so it never takes the logarithm of 0.
#    You get $p$ back by `.exp()`.
# 3. The divisor is $\log C$, and $C$ is `z.shape[1]`. Call `.float()` first: half precision is too coarse
#    for small probabilities.
#
# </details>
#
# $$h = -\frac{1}{\log C} \sum_{c=0}^{C-1} p_c \log p_c, \qquad \log p = \mathrm{log\_softmax}(z)$$

# %% tags=["exercise"]
# library: knowsam_lite.uncertainty.entropy_map
# blank: entropy_map

# %%
check("05.1", entropy_map)

# %% [markdown]
# **Look.** Why the fuss about the logarithm of 0? A network that is *very* sure produces logits such as 200
# and 0. In float32 the softmax of the smaller one is exactly 0, and the textbook formula breaks:

# %% tags=["compare"]
sure = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1)  # (N, C, H, W) with one pixel
p = sure.softmax(dim=1)
textbook = -(p * p.log()).sum(dim=1)
print("textbook ", textbook.item())
print("log-softmax", abs(uncertainty.entropy_map(sure).item()))

# %% [markdown]
# One `nan` in one pixel is enough to turn the loss, and with the next step every weight, into `nan`. From
# here on the figures use the library's functions, for instance `uncertainty.entropy_map`, so an unfinished
# exercise never stops you.
#
# Now the maps of our two subnets, light where the network doubts:

# %%
h_a, h_b = uncertainty.entropy_map(z_a), uncertainty.entropy_map(z_b)
wrong = z_a.argmax(dim=1) != y
doubts = show(
    figures.panels,
    [
        {"image": dataset.image(test[i]), "U-Net": h_a[i], "V-Net": h_b[i], "U-Net wrong": wrong[i]}
        for i in range(3)
    ],
    ends=("0 certain", "1 no idea"),
    names=[f"lesion {i}" for i in range(3)],
    alt="Entropy maps of both networks for three lesions: the U-Net's doubt is a light band along the border, the "
    "V-Net's a light patch on the whole lesion; the U-Net's errors lie mostly within or beside its band.",
)

# %% [markdown]
# The U-Net's doubt gathers along borders, where the truth itself is hard to draw, and its errors gather
# there too. The V-Net learns more slowly, and after so few steps it may doubt the whole lesion. (Its fine
# chequered pattern comes from 2 × 2 up-sampling.)
#
# But doubt is the network's own opinion of itself. A place that is dark in its map and light in the last
# column is wrong *without knowing it*; networks that train for longer, on few labels, have many such
# places. Entropy cannot find them, by its very definition.
#
# ## Step 2: disagreement
#
# **Idea.** Ask a second network. First let each decide for itself, class by class: does this class have
# more than one half of the probability? Then mark the pixels where exactly one of them says yes.
#
# **Smallest example.** One pixel, two classes (background, lesion):

# %% tags=["compare"]
p_a = torch.tensor([0.9, 0.1])
for other in ([0.8, 0.2], [0.4, 0.6], [0.0, 1.0]):
    speaks_a, speaks_b = p_a > 0.5, torch.tensor(other) > 0.5
    d = torch.logical_xor(speaks_a, speaks_b)
    print(f"p_a = (0.9, 0.1)   p_b = ({other[0]}, {other[1]})   d = {d.int().tolist()}")

# %% [markdown]
# The last line is the interesting one. The second network is perfectly certain and the first nearly so:
# both entropies are small. Only the comparison shows that something is wrong.
#
# ### Exercise 05.2: the disagreement map
#
# Difficulty 1 of 5 · importance 4 of 5 · 6 minutes
#
# Write `disagreement_map(p_a, p_b)`: two probability maps (N, C, H, W) in, a map of the same shape out, 1
# where exactly one of the networks gives class $c$ more than one half, else 0, in the type of `p_a`. (With
# more than two classes the winner may have less than one half: then no class speaks.)
#
# <details><summary>Hint</summary>
#
# 1. Let each network decide first: `p_a > 0.5` is a Boolean map, one decision per class. *More than* one
#    half, so that in a tie neither class speaks.
# 2. "Exactly one of the two" is `torch.logical_xor`.
# 3. A Boolean map cannot be subtracted from 1 later. `.to(p_a.dtype)` makes numbers of it.
#
# </details>
#
# $$d_c = [\,p_{a,c} > \tfrac12\,] \oplus [\,p_{b,c} > \tfrac12\,]$$

# %% tags=["exercise"]
# library: knowsam_lite.uncertainty.disagreement_map
# blank: disagreement_map

# %%
check("05.2", disagreement_map)

# %% [markdown]
# **Look.** For two classes both channels of $d$ are equal, because $p_{background} = 1 - p_{lesion}$. With
# more classes each channel carries news of its own.
#
# A threshold has a property that will matter soon. Move $p$ a little and the decision stays as it was: the
# derivative is 0, everywhere except at the jump. PyTorch knows this and attaches no gradient at all.

# %% tags=["compare"]
z = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
d = uncertainty.disagreement_map(z.softmax(dim=1), (-z).softmax(dim=1))
h = uncertainty.entropy_map(z)
print("gradient through disagreement:", d.requires_grad)
print("gradient through entropy:     ", h.requires_grad)

# %% [markdown]
# So a network cannot learn to agree by way of $d$. It can only be *told* where the quarrel is. Doubt, on
# the other hand, can be trained. Here are the signs side by side:

# %%
d = uncertainty.disagreement_map(z_a.softmax(dim=1), z_b.softmax(dim=1))
signs = show(
    figures.panels,
    [
        {
            "image": dataset.image(test[i]),
            "doubt U-Net": h_a[i],
            "doubt V-Net": h_b[i],
            "disagreement": d[i, 1] > 0,
            "either wrong": wrong[i] | (z_b[i].argmax(dim=0) != y[i]),
        }
        for i in range(3)
    ],
    ends=("0 certain", "1 no idea"),
    names=[f"lesion {i}" for i in range(3)],
    alt="For three lesions: the doubt of each network, where they disagree, and where at least one is wrong. "
    "Every pixel of disagreement is also a pixel where one is wrong, but some errors are shared.",
)

# %% [markdown]
# ### Four kinds of pixel
#
# Put the two signs together and every pixel falls into one of four kinds. "Doubt" here means that the
# entropy of at least one network exceeds one half. For each kind we count how many pixels there are, and
# how often the U-Net is wrong there (a dash if they are fewer than 50). Write down your guess before you run
# the cell: which kind has the most errors?

# %%
doubt = torch.maximum(h_a, h_b) > 0.5
quarrel = d[:, 1].bool()
print("kind of pixel            share   U-Net wrong")
for name, kind in {
    "agree, both certain": ~quarrel & ~doubt,
    "agree, some doubt": ~quarrel & doubt,
    "disagree, some doubt": quarrel & doubt,
    "disagree, both certain": quarrel & ~doubt,
}.items():
    errors = f"{wrong[kind].float().mean():.1%}" if kind.sum() >= 50 else "-"
    print(f"{name:<23} {kind.float().mean():>6.1%}   {errors:>10}")

# %% [markdown]
# The first kind should be the most frequent and by far the most reliable. Where the networks quarrel, look at
# how the errors are shared out: with two classes an error rate of one half would mean that the U-Net loses as
# many quarrels as it wins. The last kind, two sure networks that contradict each other, hardly occurs after so
# few steps. The exact numbers depend on your versions of PyTorch and on luck, so they are not checked.
#
# An aggregation that knows the kind of each pixel can do better than an average: believe the certain
# network where one doubts, and fall back on the look of the neighbourhood where both are certain and
# contradict each other. Rather than writing such rules by hand, we let a small network find them.
#
# ## Step 3: what HAM looks at
#
# HAM gets three inputs. Two of them are the signs, turned round so that large means trustworthy; the third
# is what the networks actually said.
#
# | input | equation | channels |
# |---|---|---|
# | agreement | $1 - d$ | C |
# | certainty | $[\,1 - h_a,\; 1 - h_b\,]$ | 2 |
# | logits | $[\,z_a,\; z_b\,]$ | 2C |
#
# Why logits and not probabilities? The softmax forgets: logits (2, 0) and (12, 10) give the same
# probabilities. And it saturates, so that the difference between "sure" and "very sure" becomes invisible.

# %% tags=["compare"]
for logits in ([2.0, 0.0], [12.0, 10.0], [30.0, 0.0], [60.0, 0.0]):
    p = torch.tensor(logits).softmax(dim=0)
    print(f"z = ({logits[0]:>4.0f}, {logits[1]:>4.0f})   p = ({p[0]:.2f}, {p[1]:.2f})")

# %% [markdown]
# ### Exercise 05.3: the three inputs
#
# Difficulty 2 of 5 · importance 4 of 5 · 8 minutes
#
# Write `ham_inputs(z_a, z_b)`, which returns agreement (N, C, H, W), certainty (N, 2, H, W) and logits (N,
# 2C, H, W), in this order. The first line of the cell imports the library's `entropy_map` and
# `disagreement_map`, so that you can go on whether or not yours are finished. (If you go back to one of
# them later, run its own cell again before its check.)
#
# <details><summary>Hint</summary>
#
# 1. `torch.stack` makes a new axis, `torch.cat` lengthens an old one. The entropies are (N, H, W) each and
#    need a new axis 1; the logits have one already. The U-Net, $a$, comes first both times.
# 2. Do not detach anything. Only the threshold inside the disagreement stops the gradient, and it does so
#    by itself.
#
# </details>
#
# $$\text{agreement} = 1 - d(p_a, p_b), \qquad \text{certainty} = [1 - h(z_a),\, 1 - h(z_b)], \qquad \text{logits} = [z_a, z_b]$$


# %% tags=["exercise"]
# blank: ham_inputs
from knowsam_lite.uncertainty import disagreement_map, entropy_map


def ham_inputs(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What HAM looks at: logits (N, C, H, W) twice -> agreement (N, C, H, W), certainty (N, 2, H, W) and
    logits (N, 2C, H, W).
    """
    agreement = 1 - disagreement_map(z_a.softmax(dim=1), z_b.softmax(dim=1))
    certainty = 1 - torch.stack([entropy_map(z_a), entropy_map(z_b)], dim=1)
    return agreement, certainty, torch.cat([z_a, z_b], dim=1)


# %%
check("05.3", ham_inputs)

# %% [markdown]
# ## Step 4: HAM
#
# Each input goes through a *branch* of its own: a 3 × 3 convolution, which looks at the neighbourhood, and
# a 1 × 1 convolution, which mixes channels, each followed by BatchNorm and LeakyReLU. The branches'
# features, 16 + 16 + 32 channels, are concatenated and two more convolutions make the fused logits of them:
#
# $$z_f = \mathrm{fuse}\big(\,[\,B_1(1-d),\; B_2(1-h_a, 1-h_b),\; B_3(z_a, z_b)\,]\,\big)$$
#
# Separate branches have a reason. The inputs live on different scales: agreement is 0 or 1, logits may be
# 30. BatchNorm inside each branch brings them to a common scale before they meet.
#
# This is the library's branch:

# %%
# library: knowsam_lite.aggregation.branch

# %% [markdown]
# The padding keeps the size of the image; only the number of channels changes. `inplace=True` saves memory and
# changes neither values nor gradients; chapter 02 shows why.
#
# ### Exercise 05.4: the forward pass of HAM
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# The layers are given. Write `forward`: make the three inputs, send each through its branch, concatenate the
# features in the order agreement, certainty, logits, and fuse. Detach nothing. Use `self.entropy` for the
# doubt, so that a subclass can replace it; we shall meet one at the end of the chapter.
#
# <details><summary>Hint</summary>
#
# 1. Make the three inputs as in exercise 05.3, but with `self.entropy` in place of `entropy_map`. The
#    branches are `self.agreement`, `self.certainty` and `self.logits`.
# 2. The features are concatenated over the channels, axis 1. `self.fuse` has learnt (or will learn) what stands
#    where, so their order is part of the weights' meaning.
# 3. Nothing is detached: the loss of the fused map is meant to train the subnets as well.
#
# </details>
#
# $$z_f = \mathrm{fuse}\big(\,[\,B_1(1-d),\; B_2(1-h_a, 1-h_b),\; B_3(z_a, z_b)\,]\,\big)$$

# %% tags=["exercise"]
# library: knowsam_lite.aggregation.HybridAggregation
# blank: HybridAggregation.forward

# %%
check("05.4", HybridAggregation)

# %% [markdown]
# **Look.** HAM is tiny. Almost all of its weights sit in the 3 × 3 convolution that fuses 64 channels:

# %% tags=["compare"]
ham = aggregation.HybridAggregation(2)
for name in ("agreement", "certainty", "logits", "fuse"):
    print(f"{name:<10} {sum(p.numel() for p in getattr(ham, name).parameters()):>6} parameters")
print(f"{'HAM':<10} {sum(p.numel() for p in ham.parameters()):>6} parameters")

# %% [markdown]
# **Which way does the gradient go?** Suppose the fused map is wrong somewhere. Its loss pulls at HAM's
# weights, and through HAM's inputs at both subnets. Let us close two of the three routes and see whether
# anything still arrives at the U-Net's logits.

# %% tags=["compare"]
torch.manual_seed(0)
ham = aggregation.HybridAggregation(2).eval()
start_a, start_b = (torch.randn(1, 2, 8, 8).requires_grad_() for _ in range(2))
evidence = {
    "agreement": 1 - disagreement_map(start_a.softmax(dim=1), start_b.softmax(dim=1)),
    "certainty": 1 - torch.stack([entropy_map(start_a), entropy_map(start_b)], dim=1),
    "logits": torch.cat([start_a, start_b], dim=1),
}
for open_ in evidence:
    features = [getattr(ham, name)(t if name == open_ else t.detach()) for name, t in evidence.items()]
    loss = ham.fuse(torch.cat(features, dim=1)).square().sum()
    (arrived,) = torch.autograd.grad(loss, start_a, allow_unused=True)
    print(f"only {open_:<10} open: the U-Net", "hears nothing" if arrived is None else "learns")

# %% [markdown]
# Agreement is a closed road, as we found in step 2. Certainty and logits are open, to both subnets. So
# HAM's loss does two things at once: it teaches HAM to judge, and it teaches the subnets to send logits,
# and doubts, that are worth judging.
#
# ## Put together
#
# Time to let HAM work. In the whole method it trains together with the subnets. Here we keep the subnets as
# they are and train HAM alone on their logits for the 16 labelled images, in random 32 × 32 crops. That
# takes seconds and shows what HAM itself contributes.

# %%
records = [record for record in dataset.split("train") if record.id in labeled]
images = torch.stack([load_case(dataset, record, 64)[0] for record in records])
truths = torch.stack([torch.from_numpy(dataset.mask(record).astype("int64")) for record in records])
with torch.no_grad():
    frozen_a, frozen_b = net_a(images), net_b(images)


def fit_ham(ham: nn.Module, steps: int, seed: int = 0) -> nn.Module:
    """Train HAM on the frozen logits of the labelled images; returns it in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(ham.parameters(), lr=3e-3)
    ham.train()
    for _ in range(steps):
        chosen = torch.randperm(len(truths), generator=generator)[:4]
        top, left = torch.randint(0, 33, (2,), generator=generator).tolist()
        z_1, z_2, target = (
            t[chosen][..., top : top + 32, left : left + 32] for t in (frozen_a, frozen_b, truths)
        )
        loss = supervised_loss(ham(z_1, z_2), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return ham.eval()


# %% tags=["training"]
ham_steps = budget(smoke=0, ci=40, laptop=40, gpu=40)
torch.manual_seed(0)
start = aggregation.HybridAggregation(2)  # all variants below begin with these weights
ham = fit_ham(copy.deepcopy(start), ham_steps)
with torch.no_grad():
    z_f = ham(z_a, z_b)

# %%
fused = show(
    figures.prediction_sheet,
    cases({"U-Net": z_a, "V-Net": z_b, "fused": z_f}, doubt=uncertainty.entropy_map(z_f)),
    alt="Three skin lesions with the masks of U-Net, V-Net and the fused map of HAM, and the entropy of the fused "
    "map, which is light along the borders.",
)

# %% [markdown]
# The obvious rival costs nothing: average the two probability maps. Whoever proposes a module has to
# compare it with that.

# %%
average = (z_a.softmax(dim=1) + z_b.softmax(dim=1)) / 2
print("Dice on the test images")
for name, z in {"U-Net": z_a, "V-Net": z_b, "average": average, "HAM": z_f}.items():
    print(f"  {name:<8} {mean_dice(z):.2f}")

# %% [markdown]
# Do not be disappointed if the average wins. It has nothing to learn, whereas HAM began from random weights
# and had 40 short steps, alone, on logits that were never made for it. What HAM has and an average lacks is
# room to grow: trained together with the subnets, as in chapter 10, it can learn which of them to believe
# where.
#
# ## Ablate one thing
#
# Does HAM use all three inputs, or does it live on the logits alone? An *ablation* answers: take one part
# away, leave everything else as it is, train again, compare. A fair way to take away a branch is to let
# `fuse` get zeros in place of its features. The shapes stay as they are, and so does every other weight at the
# start.


# %%
class Silence(nn.Module):
    """Follows another module: zeros in the shape of what that one computed; no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


# %% [markdown]
# ### Exercise 05.5: silence a branch
#
# Difficulty 2 of 5 · importance 3 of 5 · 8 minutes
#
# Write `ablate(ham, name)`: a *copy* of `ham` in which a `Silence` stands *behind* the branch called `name`
# ("agreement", "certainty" or "logits"), so that `fuse` always gets zeros from there, also after training. The
# module that was given must not change.
#
# <details><summary>Hint</summary>
#
# 1. `copy.deepcopy(ham)` copies a module with its weights.
# 2. `nn.Sequential(branch, Silence())`. Zeros in front of the branch would not do, since BatchNorm adds its own
#    constant and the branch would still speak. In *place* of the branch they would have the channels of its
#    input, and `fuse` expects those of its answer.
# 3. `getattr(module, name)` reads an attribute by its name, `setattr(module, name, value)` replaces it.
#
# </details>
#
# $$z_f^{(-k)} = \mathrm{fuse}\big(\,[\,B_1,\; \dots,\; B_k := 0,\; \dots\,]\,\big)$$


# %% tags=["exercise"]
# blank: ablate
def ablate(ham: nn.Module, name: str) -> nn.Module:
    """A copy of `ham` whose branch `name` answers zeros; `ham` itself stays as it is."""
    quiet = copy.deepcopy(ham)
    setattr(quiet, name, nn.Sequential(getattr(quiet, name), Silence()))
    return quiet


# %%
check("05.5", ablate)

# %% [markdown]
# Now measure. Each variant starts from the same weights and sees the same crops. `silenced` is the
# library's way to do what your function does, as a `with` block. One training on 16 images is a coin with a
# few sides, so we take two seeds and print both: if the difference between the seeds is as large as the
# difference between the variants, the experiment has not decided anything. The eight trainings take some
# twenty seconds.

# %%
from knowsam_lite.course.chapters.ch05.e5_an_ablation import silenced


def trained_without(names: tuple[str, ...], seed: int) -> float:
    """Mean test Dice of a HAM that was trained, and is tested, with these branches silent."""
    variant = copy.deepcopy(start)
    with silenced(variant, *names):
        fit_ham(variant, ham_steps, seed)
        with torch.no_grad():
            return mean_dice(variant(z_a, z_b))


# %% tags=["training"]
scores = {
    name or "nothing": [trained_without((name,) if name else (), seed) for seed in (0, 1)]
    for name in ("", "agreement", "certainty", "logits")
}
print("silent       Dice, seed 0   seed 1")
for name, (first, second) in scores.items():
    print(f"{name:<12} {first:>12.2f} {second:>8.2f}")

# %% [markdown]
# How to read this table. First look along a row: the distance between the two seeds is the grain of the
# measurement, and only differences between rows that are clearly larger mean anything. Usually the logits
# are missed most: without them HAM sees *that* the networks agree and *how sure* they are, but not of
# *what*, and has to guess that from the shape of the doubt. The two signs often cost little or nothing in a
# run this short. In principle the logits contain all that the signs say, so the signs offer a head start,
# not new information. Whether it pays in a full training takes more seeds and real images to decide.
#
# Something to try: multiply `frozen_a` and `z_a` by 10, so that the U-Net becomes overconfident without
# changing a single answer, and run the last cells again. Which branch is missed now?
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) presents HAM as above: disagreement, uncertainty and logits in,
# one fused map out. The code that its authors published settles the details, and this library departs from
# it in three of them. You need not take that on trust: the package `knowsam_lite.official` holds the
# authors' behaviour, so you can measure each difference.
#
# | detail | authors' code | this library |
# |---|---|---|
# | entropy | natural, not divided | divided by $\log C$ |
# | logarithm of 0 | $\log(p + 10^{-6})$ | `log_softmax` |
# | last layer of `fuse` | convolution, BatchNorm, LeakyReLU | convolution with bias |
# | decision | $p > \frac12$ per class | the same |
#
# **1. The divisor.** Without $\log C$ the "certainty" $1 - h$ of a network that knows nothing depends on
# the number of classes, and falls below 0 as soon as there are three:

# %% tags=["compare"]
from knowsam_lite.official.students import OfficialHybridAggregation

for classes in (2, 3, 4):
    nothing = torch.zeros(1, classes, 1, 1)  # equal logits: no idea
    authors = 1 - OfficialHybridAggregation.entropy(nothing).item()
    ours = 1 - aggregation.HybridAggregation.entropy(nothing).item()
    print(f"C = {classes}   certainty: authors {authors:+.2f}   library {abs(ours):.2f}")

# %% [markdown]
# **2. The constant.** $10^{-6}$ inside the logarithm prevents `nan`, at a small price: a perfectly certain
# pixel gets an entropy below 0. Harmless in HAM, but a quantity outside its range is a trap for whoever
# uses it next.

# %% tags=["compare"]
certain = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1)
print("authors: below 0", bool(OfficialHybridAggregation.entropy(certain) < 0))
print("library: below 0", bool(aggregation.HybridAggregation.entropy(certain) < 0))

# %% [markdown]
# **3. The last layer.** The authors' fused logits pass through one more BatchNorm and LeakyReLU. In
# training BatchNorm brings every channel to unit size, so a louder last convolution does not make a surer
# map. Multiply its weights by 100 and see what becomes of the largest fused logit:

# %% tags=["compare"]
for name, kind, last in (
    ("authors", OfficialHybridAggregation, 3),
    ("library", aggregation.HybridAggregation, -1),
):
    torch.manual_seed(0)
    quiet = kind(2)
    loud = copy.deepcopy(quiet)
    with torch.no_grad():
        for weight in loud.fuse[last].parameters():
            weight *= 100
        ratio = loud(z_a, z_b).abs().max() / quiet(z_a, z_b).abs().max()
    print(f"{name}: the largest logit grows {round(ratio.item())} times")

# %% [markdown]
# Unless BatchNorm's own scale grows, the logits stay near 1, and a map with such logits is never very
# certain: its entropy, which UGDA will use in chapter 09, is high everywhere. The library lets the last
# convolution speak freely.
#
# **What all share.** The threshold of one half. For two classes it is the same as comparing winners. For
# more classes it is not: a network torn between three classes gives none of them more than one half, and
# then no class speaks, although the winners differ.

# %% tags=["compare"]
torn_a = torch.tensor([0.40, 0.35, 0.25]).view(1, 3, 1, 1)
torn_b = torch.tensor([0.25, 0.40, 0.35]).view(1, 3, 1, 1)
print("winners", torn_a.argmax(dim=1).item(), "and", torn_b.argmax(dim=1).item())
print("disagreement", disagreement_map(torn_a, torn_b).flatten().int().tolist())

# %% [markdown]
# The map says "no disagreement" although the networks name different classes. This is why HAM needs the
# certainty too: both are low here, and that is the sign that remains.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. Eight classes. A network hesitates between two of them, one half each, and excludes the others. What is $h$?
#    (a) 1, (b) 1/3, (c) 1/4, (d) 0.69
# 2. A pixel has almost no entropy in both networks, and the disagreement is 1. What do you know? (a) this
#    cannot happen, (b) both networks are unsure, (c) both are sure, and at least one is wrong, (d) both are
#    right
# 3. You add the mean of $d$ to the loss, so that the networks come to agree. What do they learn from it? (a)
#    nothing, (b) to agree, slowly, (c) to doubt, (d) to answer "background" everywhere
# 4. Along which routes does the loss of the fused map reach the V-Net? (a) none, (b) logits only, (c)
#    certainty only, (d) certainty and logits
# 5. Three classes; the U-Net says (0.40, 0.35, 0.25), the V-Net (0.25, 0.60, 0.15). What is $d$? (a) 1 for the
#    second class alone, (b) 0 for all classes, (c) 1 for the first two classes, (d) 1 for all classes

# %%
quiz("05", ["b", "c", "a", "d", "a"])

# %% [markdown]
# ## Recap
#
# - **Entropy** asks one network how unsure it is. Divided by $\log C$ it lies in [0, 1] for any number of
#   classes, and through `log_softmax` it survives a probability of 0.
# - **Disagreement** asks two networks whether they contradict each other. It finds confident errors that no
#   entropy can find, and it has no gradient.
# - **HAM** reads agreement, certainty and logits through one branch each and fuses them. Its loss reaches
#   both subnets, through certainty and logits.
# - An **ablation** is worth as much as its spread over seeds.
#
# **Next:** chapter 06 opens SAM, which takes the fused map as its mask prompt, and chapter 08 shows how
# SAM's answer comes back to teach both subnets.

# %%
check.report()
