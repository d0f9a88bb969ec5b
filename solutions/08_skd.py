# %% [markdown]
# # 08 · SKD: what SAM teaches the students
#
# {{badges}}
#
# SAM looks at an image and at the students' rough map of it, and gives back a better map. How do you get
# that knowledge into two small networks? Not by telling them which class won, but by showing them the whole
# answer, doubts included. This is *knowledge distillation*; with SAM as the teacher the method calls it
# **SKD**. In this chapter you build its loss from three small parts, find out which way its gradient goes,
# and measure what becomes of the students when the teacher is wrong.
#
# | | |
# |---|---|
# | **You will** | soften an answer with a temperature; compare two answers with the KL divergence; build the distillation loss and ask SAM without letting gradients stray; teach a student with teachers whose errors you control |
# | **You need** | PyTorch tensors, `softmax`, what `detach` does; chapters 05 and 07 help but are not required |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: about a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical

from knowsam_lite import HybridAggregation, Synthetic, UNet, VNet, figures, losses
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.metrics import dice
from knowsam_lite.sam import SamTeacher, load_pretrained

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. HAM's fused logits $z_f$ prompt SAM, SAM
# answers with logits $z_s$, and SKD carries them back to both subnets, along the dashed line on top. (SAM's
# knowledge has one more way back: the pseudo-labels of UGDA, chapter 09.)

# %%
drawn = show(
    figures.pipeline,
    lit="SKD",
    alt="Map of KnowSAM: images go to U-Net and V-Net, their logits to HAM, its fused map to SAM; SAM's answer "
    "goes to SKD, which is highlighted, and from there a dashed line leads back to both networks.",
)

# %% [markdown]
# ## Why
#
# Why not keep SAM and use it directly? Chapter 00 counted the parameters: the paper's SAM is twenty times as
# large as all that you keep. And SAM needs a prompt, which comes from the students anyway. So they learn what
# SAM knows while they train, and SAM stays behind.
#
# Does SAM know anything worth learning? Images, labels and the small U-Net, trained on 8 labelled images alone,
# are those of chapter 04, code included: if you know them, run the next two cells unread.

# %% tags=["compare"]
dataset = Synthetic("dermoscopy", seed=0, n=64, size=64)
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
train, test = dataset.split("train"), dataset.split("test")


def stack(records: list) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 64, 64) and masks (N, 64, 64) of these records."""
    images = [load_case(dataset, record, 64)[0] for record in records]
    masks = [torch.from_numpy(dataset.mask(record).astype("int64")) for record in records]
    return torch.stack(images), torch.stack(masks)


x_l, y_l = stack([record for record in train if record.id in labeled])
x_u, y_u = stack(
    [record for record in train if record.id not in labeled]
)  # y_u only to score, never to learn
x_t, y_t = stack(test)
print("labelled", tuple(x_l.shape), " unlabelled", tuple(x_u.shape), " test", tuple(x_t.shape))

# %% [markdown]
# The training is the plainest there is, and short: three to ten seconds. Expect a Dice between 0.4 and 0.7.
# At the budget `smoke` it does nothing, and everything below still runs, on a network that knows nothing.

# %% tags=["training"]
steps = budget(smoke=0, ci=60, laptop=60, gpu=60)
batches = StepBatches(dataset, labeled, seed=0, batch_labeled=4, batch_unlabeled=0, size=64)
torch.manual_seed(0)
student = UNet(2, (8, 16, 32, 64), dropout=(0, 0, 0.1, 0.1))
optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
for step in range(steps):
    batch = batches[step]
    loss = losses.supervised_loss(student(batch.x), batch.y)
    loss.backward()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()

# %% [markdown]
# Now ask SAM, as in chapter 07, with the one student's map in place of the fused one: images and logits in,
# logits of the same shape out. It is `sam_mini` as it ships: nothing in it has been adapted to these images.

# %%
sam = SamTeacher("sam_mini", 2, 64).eval()
load_pretrained(sam)
student.eval()
with torch.no_grad():
    z_u = student(x_u)  # the student's logits of the unlabelled images
    z_s = sam(x_u, z_u).logits  # SAM's, when prompted with them


def case_dice(z: Tensor, y: Tensor) -> Tensor:
    """Dice of the lesion, image by image: (N, 2, H, W), (N, H, W) -> (N,)."""
    return torch.tensor([dice(p == 1, t == 1) for p, t in zip(z.argmax(dim=1), y, strict=True)])


before, after = case_dice(z_u, y_u), case_dice(z_s, y_u)
print(f"unlabelled images: student {before.mean():.2f}, SAM {after.mean():.2f}")
print(
    f"SAM is better on {(after > before + 0.01).sum()} of {len(y_u)}, worse on {(after < before - 0.01).sum()}"
)


# %%
def cases(maps: dict[str, Tensor], chosen: list[int]) -> list[dict]:
    """Rows for a prediction sheet of unlabelled images: class maps (N, H, W) by name."""
    rows = []
    records = [record for record in train if record.id not in labeled]
    for i in chosen:
        answers = {name: y[i].numpy().astype("uint8") for name, y in maps.items()}
        truth = y_u[i].numpy().astype("uint8")
        scores = {name: dice(answer == 1, truth == 1) for name, answer in answers.items()}
        row = {"id": f"image {i}", "image": dataset.image(records[i]), "truth": truth, "maps": answers}
        rows.append({**row, "dice": scores})
    return rows


gain = after - before
chosen = [int(gain.argmax()), int(before.argmax()), int(before.argmin())]
sheet = show(
    figures.prediction_sheet,
    cases({"U-Net": z_u.argmax(dim=1), "SAM": z_s.argmax(dim=1)}, chosen),
    alt="Three unlabelled images with the truth, the U-Net's mask and SAM's mask: the image where SAM gains most, "
    "the one where the U-Net is best, and the one where it is worst and SAM does not help either.",
)

# %% [markdown]
# The rows are chosen by their numbers: where SAM gains most, where the student was best, and where it was
# worst. SAM mends a map that is partly right: it fills holes and follows edges. Where the student sees
# nothing of the lesion, SAM has been asked the wrong question, and its answer is as wrong. Keep both rows
# in mind: the first is why we distil, the last is what the end of this chapter is about.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $z_k$ | logits of a student, $k \in \{a, b\}$ | `z` | (N, C, H, W) |
# | $z_s$ | SAM's logits | `z_s`, `z_teacher` | (N, C, H, W) |
# | $T$ | temperature | `temperature` | a number, 10 |
# | $p = \mathrm{softmax}(z_s / T)$ | the teacher's softened answer | `log_p.exp()` | (N, C, H, W) |
# | $q = \mathrm{softmax}(z_k / T)$ | the student's softened answer | `log_q.exp()` | (N, C, H, W) |
# | $\mathrm{KL}(p \,\Vert\, q) = \sum_c p_c (\log p_c - \log q_c)$ | how far the student is off | `kl_divergence(log_p, log_q)` | (N, H, W) |
# | $\mathrm{sg}$ | stops the gradient | `.detach()` | |
# | $L_{SKD}^k = T^2 \, \overline{\mathrm{KL}(p \,\Vert\, q)}$ | the loss; the bar is the mean over pixels | `distillation_loss(z, z_teacher, temperature)` | one number |
#
# ## Step 1: temperature
#
# **Idea.** Take a pixel of a heart. A teacher that answers "myocardium" has told you one word. A teacher
# that answers "myocardium, perhaps left ventricle, certainly not background" has told you where the pixel
# lies: near the border of the two. This ranking of the losers is called *dark knowledge*, because a softmax
# leaves it in the dark: it makes the winner large and all others tiny. Dividing the logits by a
# *temperature* $T > 1$ first brings it to light.
#
# **Smallest example.** One pixel, four classes:
#
# $$p_c = \frac{e^{z_c / T}}{\sum_{j} e^{z_j / T}}$$

# %% tags=["compare"]
heart = ("background", "right ventricle", "myocardium", "left ventricle")
z = torch.tensor([0.0, 1.0, 6.0, 5.0])
for temperature in (0.5, 1, 4, 10):
    exponentials = (z / temperature).exp()
    p = exponentials / exponentials.sum()
    print(
        f"T = {temperature:<4}",
        "  ".join(f"{name} {value:.2f}" for name, value in zip(heart, p, strict=True)),
    )

# %% [markdown]
# Nothing is added: the order of the classes is the same in every row. At $T = 1$ the two lower classes are
# lost in rounding, at 4 you can rank them, at 10 all four come near one quarter. A temperature below 1
# hardens the answer.
#
# ### Exercise 08.1: soften
#
# Difficulty 1 of 5 · importance 4 of 5 · 5 minutes
#
# Write `soften(z, temperature)`: logits (N, C, H, W) and a number in, probabilities (N, C, H, W) at that
# temperature out, as float32 whatever the type of `z`.
#
# <details><summary>Hint</summary>
#
# 1. First divide the logits by the temperature, then take the softmax. The other order gives numbers that
#    do not sum to 1.
# 2. The classes lie on axis 1 of (N, C, H, W), and `softmax` wants to know: `dim=1`.
# 3. `.float()` makes float32 of any tensor. Call it before the division, since half precision is coarse.
#
# </details>
#
# $$\mathrm{soften}(z, T) = \mathrm{softmax}(z / T)$$


# %% tags=["exercise"]
# blank: soften
def soften(z: Tensor, temperature: float) -> Tensor:
    """Logits (N, C, H, W) -> probabilities (N, C, H, W) at this temperature, float32."""
    return (z.float() / temperature).softmax(dim=1)


# %%
check("08.1", soften)

# %% [markdown]
# **Look.** The pixel of the heart once more, at all temperatures from 1 to 100:

# %% tags=["compare"]
temperatures = torch.logspace(0, 2, 41)
soft = (z / temperatures.unsqueeze(1)).softmax(dim=1)  # (41, 4)
curves = show(
    figures.trends,
    {name: (temperatures, soft[:, c]) for c, name in enumerate(heart)},
    title="Probability of four classes",
    xlabel="temperature T",
    log="x",
    alt="Four curves over the temperature from 1 to 100: the winner falls from 0.73, the second rises a little "
    "and falls again, the two losers rise from almost 0; at high temperature all four meet at one quarter.",
)
for temperature, position in ((1, 0), (10, 20), (100, 40)):
    gap = max(c[position] for c in curves.values()) - min(c[position] for c in curves.values())
    print(f"T = {temperature:<3}  largest minus smallest probability {gap:.2f}")

# %% [markdown]
# And SAM's answer to the first image of the sheet above, at three temperatures. Light is a high probability
# of the lesion.

# %%
first = chosen[0]
softened = show(
    figures.panels,
    [
        {
            "image": (x_u[first].movedim(0, -1) * 255).byte(),
            **{f"T = {t}": (z_s[first : first + 1] / t).softmax(dim=1)[0, 1] for t in (1, 4, 10)},
        }
    ],
    alt="One lesion and SAM's probability map of it at temperatures 1, 4 and 10: almost only black and white at "
    "1, softer at 4, and at 10 dim with visible gradations inside and outside the lesion.",
)

# %% [markdown]
# At 10 you see which part of the background is almost lesion, and which part of the lesion is doubtful. All
# of this was in the logits; the plain softmax hid it.
#
# ## Step 2: the distance between two answers
#
# **Idea.** The teacher says $p$, the student says $q$. How wrong is the student? The *Kullback-Leibler
# divergence* is the mean, taken with the teacher's probabilities, of the difference of their logarithms.
#
# **Smallest example.** Two classes and one teacher:
#
# $$\mathrm{KL}(p \,\Vert\, q) = \sum_{c=0}^{C-1} p_c \,(\log p_c - \log q_c)$$


# %% tags=["compare"]
def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) as PyTorch's distributions have it: (..., C) twice -> (...)."""
    return torch.distributions.kl_divergence(Categorical(p), Categorical(q))


p = torch.tensor([0.9, 0.1])
for other in ([0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.999, 0.001]):
    q = torch.tensor(other)
    forward, reverse = divergence(p, q), divergence(q, p)
    print(f"p = (0.9, 0.1)   q = ({other[0]}, {other[1]})   KL(p||q) {forward:.2f}   KL(q||p) {reverse:.2f}")

# %% [markdown]
# It is 0 when the two agree and positive otherwise. And it is not symmetric: compare the two columns in the
# last row. The *forward* divergence $\mathrm{KL}(p \Vert q)$ punishes a student that has almost ruled out
# what the teacher still holds possible; the *reverse* one finds the same student nearly perfect. Here are
# both, over what the student leaves to the second class, of which the teacher says 0.1:

# %% tags=["compare"]
left = torch.logspace(-4, -0.5, 36)
q = torch.stack([1 - left, left], dim=1)
both = show(
    figures.trends,
    {"KL(p || q), forward": (left, divergence(p, q)), "KL(q || p), reverse": (left, divergence(q, p))},
    title="Two directions, one teacher (0.9, 0.1)",
    xlabel="what the student leaves to the second class",
    log="x",
    alt="Two curves over the student's probability of the second class, from 0.0001 to 0.3 on a logarithmic axis; "
    "both touch 0 at 0.1. To the left of it the reverse one levels off at about 0.1, and the forward one rises on and on.",
)
for name, values in both.items():
    print(f"{name}: smallest at {left[values.index(min(values))]:.2f}, at 0.0001 {values[0]:.2f}")

# %% [markdown]
# ### Exercise 08.2: the KL divergence
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `kl_divergence(log_p, log_q)`: the *logarithms* of the teacher's and the student's probabilities in,
# (N, C, H, W) each, and $\mathrm{KL}(p \Vert q)$ of each pixel out, (N, H, W). Logarithms, because
# `log_softmax` computes them without ever taking the logarithm of 0.
#
# <details><summary>Hint</summary>
#
# 1. The weight in front of the bracket is $p$, and you were given its logarithm: `log_p.exp()`.
# 2. The bracket is `log_p - log_q`, teacher minus student. Write it out by hand; `F.kl_div` computes the
#    same, but takes its arguments in the other order and wants the option `log_target=True`.
# 3. Sum over axis 1, the classes, and over nothing else: one number per pixel remains.
#
# </details>
#
# $$\mathrm{KL}(p \,\Vert\, q) = \sum_{c=0}^{C-1} e^{\log p_c} \,(\log p_c - \log q_c)$$


# %% tags=["exercise"]
# blank: kl_divergence
def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of each pixel from log-probabilities: (N, C, H, W) twice -> (N, H, W)."""
    return torch.sum(log_p.exp() * (log_p - log_q), dim=1)


# %%
check("08.2", kl_divergence)

# %% [markdown]
# **Look.** Does the direction matter, if both are 0 at the same place? It does as soon as the student cannot
# follow everywhere. Take five pixels that look alike to a small student, so that it must give all five the
# same answer. The teacher, who sees more, says lesion with 0.98 in four of them and with 0.02 in the fifth.
# Let us find the best single answer by gradient descent, once for each direction:

# %% tags=["compare"]
lesion = torch.tensor([0.98, 0.98, 0.98, 0.98, 0.02])
log_p = torch.stack([1 - lesion, lesion], dim=1).log()  # (5, 2)
for name in ("forward", "reverse"):
    z = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(600):
        log_q = z.log_softmax(dim=1).expand(5, 2)
        p_then_q = (log_p, log_q) if name == "forward" else (log_q, log_p)
        loss = F.kl_div(p_then_q[1], p_then_q[0], reduction="none", log_target=True).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{name}: the student says lesion with {z.softmax(dim=1)[0, 1].item():.2f}")
print(f"the teacher's mean: {lesion.mean().item():.2f}")

# %% [markdown]
# With the forward divergence the student ends at the *mean* of the teacher's answers: it is as unsure as it
# ought to be. With the reverse one it sides with the majority and is surer than the evidence. For a student
# whose doubts HAM and UGDA will read, the honest one is the right one, and it is the one that SKD uses.
#
# There is a second reason. The gradient of the forward divergence is as simple as it can be, and vanishes
# exactly where the student agrees:
#
# $$\frac{\partial}{\partial z_k} \mathrm{KL}(p \,\Vert\, q) = q - p \qquad (T = 1)$$
#
# You know this gradient: it is that of chapter 04's cross-entropy with a soft target, for
# $\mathrm{CE}(p, q) = \mathrm{KL}(p \,\Vert\, q) + H(p)$, and the teacher's entropy $H(p)$ does not depend on the
# student. So at $T = 1$ the two losses teach the same, and only KL ends at 0. What SKD adds is the temperature.
#
# **Soft or hard?** A *hard* label would keep only the winner: $p$ becomes (1, 0). Put both into $q - p$, for
# a student that has no idea yet:

# %% tags=["compare"]
z = torch.zeros(1, 2, requires_grad=True)
for answer in ([0.51, 0.49], [0.75, 0.25], [0.99, 0.01]):
    soft, hard = torch.tensor([answer]), F.one_hot(torch.tensor([answer]).argmax(dim=1), 2).float()
    pulls = []
    for target in (soft, hard):
        (gradient,) = torch.autograd.grad(F.kl_div(z.log_softmax(dim=1), target, reduction="sum"), z)
        pulls.append(-gradient[0, 0].item())
    print(f"teacher {answer}   pull of the soft label {pulls[0]:.2f}   of the hard label {pulls[1]:.2f}")

# %% [markdown]
# The soft label whispers where the teacher is unsure; the hard label shouts the same thing everywhere. That
# is useful only if the teacher's doubt means something. Is SAM wrong more often where it is unsure? Count:

# %%
sure = z_s.softmax(dim=1).max(dim=1).values  # probability of SAM's own answer, (N, H, W)
wrong = z_s.argmax(dim=1) != y_u
print("SAM's probability   share of pixels   wrong")
for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01)):
    here = (sure >= low) & (sure < high)
    errors = wrong[here].float().mean() if here.any() else float("nan")
    print(f"{low:.2f} to {min(high, 1):.2f} {here.float().mean():>20.1%} {errors:>10.1%}")

# %% [markdown]
# Usually the error rate falls from row to row, so the doubt is worth passing on. But look at the last row's
# *share*, too: most of SAM's pixels are very sure, and its errors there reach the student at full volume.
#
# ## Step 3: the loss
#
# Two things remain between the divergence of one pixel and a loss: the mean, and a factor.
#
# **Which mean?** Sum over the classes, because that is the divergence; mean over the pixels, so that the
# loss does not depend on the size of image or batch. PyTorch's `F.kl_div` offers three reductions, and the
# word "mean" hides in two of them. Which one is ours?

# %% tags=["compare"]
generator = torch.Generator().manual_seed(0)
z, z_teacher = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))  # N, C, H, W = 2, 4, 8, 8
log_p, log_q = z_teacher.log_softmax(dim=1), z.log_softmax(dim=1)
wanted = losses.distillation_loss(z, z_teacher, 1.0)
terms = F.kl_div(log_q, log_p, reduction="none", log_target=True)  # (N, C, H, W)
reductions = {"sum": terms.sum(), "batchmean": terms.sum() / len(terms), "mean": terms.mean()}
for name, value in reductions.items():
    print(f"{name:<10} {(value / wanted).item():>7.2f} times the mean over pixels")

# %% [markdown]
# None. `batchmean` divides by the number of images alone and is $H \cdot W = 64$ times too large, `mean`
# divides by the classes as well and is $C = 4$ times too small (and PyTorch warns that a later release will
# make `mean` do what `batchmean` does). None of them raises an error; the term just has another weight than
# the one you set.
#
# **Why $T^2$?** By the chain rule each side contributes one division by $T$ to the size of the gradient: one
# because $z_k$ is divided by $T$, one because softened answers lie closer together. Multiplying by $T^2$
# undoes both. In formulas, with $p$ and $q$ at temperature $T$:
#
# $$\frac{\partial}{\partial z_k}\, T^2\, \mathrm{KL}(p \,\Vert\, q) = T\,(q - p)
# \;\xrightarrow{\;T \to \infty\;}\; \frac{1}{C}\big(\tilde z_k - \tilde z_s\big)$$
#
# where the tilde means that each pixel's mean over the classes has been subtracted. Measured, for a student
# and a louder teacher:

# %% tags=["compare"]
student_z, teacher_z = 2 * z, 6 * z_teacher
temperatures = torch.logspace(0, 2, 25).tolist()
sizes = {"with T²": [], "without": []}
for temperature in temperatures:
    leaf = student_z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses.distillation_loss(leaf, teacher_z, temperature), leaf)
    sizes["with T²"].append(gradient.norm().item())
    sizes["without"].append(gradient.norm().item() / temperature**2)
norms = show(
    figures.trends,
    {name: (temperatures, values) for name, values in sizes.items()},
    title="Norm of the student's gradient",
    xlabel="temperature T",
    log="xy",
    alt="Two curves over the temperature from 1 to 100, both axes logarithmic: with the factor T squared the "
    "gradient's norm rises to three times its start and levels off, without it falls by more than three powers of ten.",
)
for temperature, position in ((1, 0), (10, 12), (100, 24)):
    ratios = [norms[name][position] / norms[name][0] for name in sizes]
    print(f"T = {temperature:<3}  relative to T = 1: with T² {ratios[0]:.1f}, without {ratios[1]:.4f}")

# %% [markdown]
# Without the factor, choosing $T = 10$ would quietly switch SKD off. With it the gradient keeps its order of
# magnitude: $T$ chooses *what* is taught, and the weight chooses *how loudly*.
#
# ### Exercise 08.3: the distillation loss
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# Write `distillation_loss(z, z_teacher, temperature)`: logits of the student and of the teacher in, one
# number out, computed in float32 whatever the type of the logits. The teacher must not move: no gradient may
# be taken of it.
#
# <details><summary>Hint</summary>
#
# 1. Make `log_q` from the student and `log_p` from the teacher: float32, divided by the same temperature,
#    `log_softmax` over axis 1. Only the teacher's logits are detached.
# 2. The divergence is that of exercise 08.2: the weight is the teacher's probability, `log_p.exp()`, and
#    the bracket is `log_p - log_q`.
# 3. Sum over the classes, then `.mean()` over the pixels of all images, and in front of it
#    `temperature**2`.
#
# </details>
#
# $$L_{SKD}^k = \frac{T^2}{|\Omega|} \sum_{i \in \Omega} \mathrm{KL}\Big(\mathrm{softmax}\big(\mathrm{sg}(z_s) / T\big) \,\Big\Vert\, \mathrm{softmax}\big(z_k / T\big)\Big)$$
#
# $\Omega$ are the pixels of all images of the batch.

# %% tags=["exercise"]
# library: knowsam_lite.losses.distillation_loss
# blank: distillation_loss

# %%
check("08.3", distillation_loss)

# %% [markdown]
# **Look.** A high temperature has a price. Take two pixels. In the first, student and SAM agree, and SAM is
# only louder. In the second the student is wrong. Which one pulls harder at the student?

# %% tags=["compare"]
pixels = {"agree, SAM louder": ([3.0, -3.0], [12.0, -12.0]), "student wrong": ([-1.0, 1.0], [2.0, -2.0])}
print("pixel               T = 1   T = 10")
for name, (own, teachers_own) in pixels.items():
    leaf = torch.tensor(own).view(1, 2, 1, 1).requires_grad_()
    target = torch.tensor(teachers_own).view(1, 2, 1, 1)
    pulls = [
        torch.autograd.grad(losses.distillation_loss(leaf, target, t), leaf)[0][0, 0] for t in (1.0, 10.0)
    ]
    print(f"{name:<18} {-pulls[0].item():>6.2f} {-pulls[1].item():>8.2f}")

# %% [markdown]
# At $T = 1$ only the wrong pixel pulls. At 10 the pixel on which both agree pulls harder than the wrong one:
# the loss has become a comparison of *logits*, as the limit above says, and wants the student to be as loud
# as SAM. So a high temperature passes on all of SAM's gradations, and all of its loudness, too.
#
# ## Step 4: who learns from whom
#
# The loss is a distance between two networks, and a distance can be closed from either end. `detach` decides
# from which. Suppose SAM is right about a pixel (+4 for the lesion), and the student wrong (-2). Let both
# follow the gradient, with and without the detach:


# %% tags=["compare"]
def undetached(z: Tensor, z_teacher: Tensor, temperature: float = 10.0) -> Tensor:
    """The same loss, whose gradient reaches the teacher, too."""
    log_q, log_p = (z / temperature).log_softmax(dim=1), (z_teacher / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1).mean()


for name, distance in (("with detach", losses.distillation_loss), ("without", undetached)):
    says = {"student": -2.0, "SAM": 4.0}
    logits = {
        who: torch.tensor([0.0, value]).view(1, 2, 1, 1).requires_grad_() for who, value in says.items()
    }
    optimizer = torch.optim.SGD(logits.values(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        loss = distance(logits["student"], logits["SAM"])
        loss.backward()
        optimizer.step()
    ends = {who: (pixel[0, 1] - pixel[0, 0]).item() for who, pixel in logits.items()}
    print(f"{name:<12} student {ends['student']:+.1f}   SAM {ends['SAM']:+.1f}   loss {abs(loss.item()):.2f}")

# %% [markdown]
# Both reach a loss of 0. With the detach they do so at SAM's answer. Without it they meet halfway, whatever
# the truth: the teacher has been talked out of something that it knew, and nothing in the curve of the loss
# gives it away.
#
# There are two doors to close. SAM's own supervised loss, which trains its adapters on the labelled images,
# must not leave through SAM's prompt into the students; and the students' loss must not enter SAM through
# its answer:
#
# $$z_s = \mathrm{SAM}\big(x,\, \mathrm{sg}(z_f)\big), \qquad \text{targets} = \mathrm{sg}(z_s)$$
#
# ### Exercise 08.4: what SAM is asked
#
# Difficulty 3 of 5 · importance 5 of 5 · 10 minutes
#
# Write `teacher_targets(teacher, x, z_f, n)`. `teacher(x, z_f)` gives SAM's logits; the first `n` images of
# the batch are labelled. Return two tensors: `own`, the logits of the labelled images, from which SAM itself
# will learn, so they keep their graph; and `targets`, the logits of the whole batch in its order, without
# gradient. SAM is the expensive part of a step, so let each image pass through it once, and the unlabelled
# ones without building a graph.
#
# <details><summary>Hint</summary>
#
# 1. Call the teacher with `x[:n]` and the *detached* `z_f[:n]`. This call keeps its graph.
# 2. Call it again with the other images inside `with torch.no_grad():`.
# 3. The targets are `torch.cat` of both answers, labelled first, and the first one has to be detached.
#
# </details>
#
# $$\text{own} = \mathrm{SAM}(x_l, \mathrm{sg}(z_{f,l})), \qquad \text{targets} = \mathrm{sg}\big([\,\text{own},\; \mathrm{SAM}(x_u, z_{f,u})\,]\big)$$


# %% tags=["exercise"]
# blank: teacher_targets


def teacher_targets(
    teacher: Callable[[Tensor, Tensor], Tensor], x: Tensor, z_f: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """SAM's logits of the n labelled images, with a graph, and of the whole batch (N, C, H, W), without."""
    own = teacher(x[:n], z_f[:n].detach())
    with torch.no_grad():
        rest = teacher(x[n:], z_f[n:])
    return own, torch.cat([own.detach(), rest])


# %%
check("08.4", teacher_targets)

# %% [markdown]
# **Look.** Do the real modules keep to it? Two subnets and HAM make $z_f$, SAM answers, and for each of
# three losses we ask, as in exercise 00.4, which modules receive a gradient. `SamTeacher` detaches $z_f$ itself.

# %% tags=["compare"]
torch.manual_seed(0)
modules = {
    "U-Net": UNet(2, (8, 16, 32, 64), dropout=(0, 0, 0, 0)).eval(),
    "V-Net": VNet(2, (8, 16, 32, 64), depths=(1, 1, 2, 2)).eval(),
    "HAM": HybridAggregation(2).eval(),
    "SAM": sam,
}
z_a, z_b = modules["U-Net"](x_l[:2]), modules["V-Net"](x_l[:2])
z_answer = sam(x_l[:2], modules["HAM"](z_a, z_b)).logits
for name, loss in {
    "SKD of the U-Net": losses.distillation_loss(z_a, z_answer),
    "the same, z_s not detached": undetached(z_a, z_answer),
    "SAM's supervised loss": losses.supervised_loss(z_answer, y_l[:2]),
}.items():
    learners = []
    for who, module in modules.items():
        weights = [p for p in module.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
        learners += [who] if any(g is not None and g.any() for g in found) else []
    print(f"{name:<27} teaches {', '.join(learners)}")

# %% [markdown]
# The first line is the whole of SKD: one loss, one learner. HAM does not learn from it, since it is not
# HAM's logits that are compared; it profits only because its inputs improve.
#
# ## Step 5: two students
#
# Both subnets learn from the same answer, each on its own. The method averages over the two subnets, so each
# term gets one half, and a weight $\lambda$, `distillation_weight`, for the whole of SKD:
#
# $$L = \dots + \tfrac12 \lambda \, L_{SKD}^a + \tfrac12 \lambda \, L_{SKD}^b + \dots$$
#
# ### Exercise 08.5: the students' two terms
#
# Difficulty 2 of 5 · importance 4 of 5 · 6 minutes
#
# Write `skd_terms(z_a, z_b, z_s, weight, temperature)`, which returns both weighted terms as a dictionary
# with the names `"a/distillation"` and `"b/distillation"`, as the training loop logs them. The first line of
# the cell imports the library's `distillation_loss`, so that you can go on whether or not yours is finished.
# (If you go back to it later, run its own cell again before its check.)
#
# <details><summary>Hint</summary>
#
# 1. `distillation_loss` takes the student first, then SAM, then the temperature. Call it once for `z_a` and
#    once for `z_b`, with `z_s` as the teacher both times.
# 2. In front of each stands `0.5 * weight`.
# 3. `"a/distillation"` is the U-Net's, `z_a`.
#
# </details>
#
# $$\text{a/distillation} = \tfrac12 \lambda \, L_{SKD}(z_a, z_s), \qquad \text{b/distillation} = \tfrac12 \lambda \, L_{SKD}(z_b, z_s)$$


# %% tags=["exercise"]
# blank: skd_terms
from knowsam_lite.losses import distillation_loss


def skd_terms(z_a: Tensor, z_b: Tensor, z_s: Tensor, weight: float, temperature: float) -> dict[str, Tensor]:
    """The U-Net's and the V-Net's weighted distillation terms by name; logits (N, C, H, W)."""
    return {
        "a/distillation": 0.5 * weight * distillation_loss(z_a, z_s, temperature),
        "b/distillation": 0.5 * weight * distillation_loss(z_b, z_s, temperature),
    }


# %%
check("08.5", skd_terms)

# %% [markdown]
# ## Put together
#
# Let SAM teach our student, and nobody else: no label is used from here to the end of the section. The
# student goes on from where it is, learns SAM's logits of the 32 unlabelled images for 40 steps, and is
# then scored without SAM. Expect about three seconds.

# %%
more_steps = budget(smoke=0, ci=40, laptop=40, gpu=40)


def learn(
    z_teacher: Tensor, steps: int, weight: float = 1.0, labels: bool = False, seed: int = 0
) -> nn.Module:
    """A copy of the student after learning the teacher's logits of the unlabelled images (32, 2, 64, 64),
    with or without the labelled ones beside them; in evaluation mode.
    """
    torch.manual_seed(seed)  # for dropout
    generator = torch.Generator().manual_seed(seed)  # for the choice of images
    pupil = copy.deepcopy(student).train()
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
    for _ in range(steps):
        u = torch.randperm(len(x_u), generator=generator)[:4]
        l = torch.randperm(len(x_l), generator=generator)[: 4 if labels else 0]
        z = pupil(torch.cat([x_l[l], x_u[u]]))
        loss = weight * losses.distillation_loss(z[len(l) :], z_teacher[u])
        if labels:
            loss = loss + losses.supervised_loss(z[: len(l)], y_l[l])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return pupil.eval()


def score(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Mean Dice of the lesion."""
    with torch.no_grad():
        return case_dice(net(x), y).mean().item()


# %% tags=["training"]
taught = learn(z_s, more_steps)
print("Dice        unlabelled   test")
print(f"before {score(student, x_u, y_u):>15.2f} {score(student, x_t, y_t):>6.2f}")
print(f"SAM    {after.mean():>15.2f}      -")
print(f"after  {score(taught, x_u, y_u):>15.2f} {score(taught, x_t, y_t):>6.2f}")

# %% [markdown]
# The student usually ends near SAM's Dice on the unlabelled images, and it takes the improvement along to
# the test images, which nobody showed it. Something to try: let it ask again. Prompt SAM with the logits of
# `taught`, learn from the new answer, repeat. Which images improve, and which stay as they are?
#
# ## When SAM is wrong
#
# How wrong may a teacher be? SAM's errors come as they come, so let us make some of our own, from the true
# masks of the unlabelled images, in two kinds:
#
# - **shifted**: every mask is moved by the same distance in the same direction. The error is a rule.
# - **blotched**: in every image, random patches change sides. The error is an accident, a new one each time.


# %%
def shifted(y: Tensor, pixels: int) -> Tensor:
    """Masks (N, H, W) moved down and right; what leaves on one side enters on the other."""
    return y.roll((pixels, pixels), dims=(1, 2))


def blotched(y: Tensor, part: float) -> Tensor:
    """Masks (N, H, W) of classes 0 and 1 in which random patches change sides: this part of each image."""
    generator = torch.Generator().manual_seed(0)
    noise = F.interpolate(torch.randn(len(y), 1, 6, 6, generator=generator), y.shape[-2:], mode="bilinear")[
        :, 0
    ]
    limit = noise.flatten(1).quantile(1 - part, dim=1).view(-1, 1, 1)
    return torch.where(noise > limit, 1 - y, y)


def as_logits(y: Tensor) -> Tensor:
    """Masks (N, H, W) -> the logits (N, 2, H, W) of a teacher that is sure of them: +3 and -3."""
    return 6.0 * F.one_hot(y, 2).movedim(-1, 1) - 3.0


wrongs = {
    "shifted": [shifted(y_u, pixels) for pixels in (0, 3, 6, 9)],
    "blotched": [blotched(y_u, part) for part in (0.0, 0.05, 0.12, 0.25)],
}

# %% tags=["compare"]
teachers_sheet = show(
    figures.prediction_sheet,
    cases({"shifted": wrongs["shifted"][2], "blotched": wrongs["blotched"][2]}, [0, 4, 5]),
    alt="Three lesions with the truth and two wrong teachers: in one column every mask is moved down and right by "
    "the same distance, in the other patches at random places of the image are added or cut out.",
)
print("a teacher's Dice, from right to very wrong")
for name, masks in wrongs.items():
    print(f"{name:<9}", "  ".join(f"{case_dice(as_logits(mask), y_u).mean():.1f}" for mask in masks))

# %% [markdown]
# The two kinds are about equally wrong. If only the teacher's Dice counted, their students would be, too.
# Before you run the next cell, decide: whose student will be better? The students are scored on the 48
# images without a label, unlabelled and test images together. The seven trainings take fifteen to thirty
# seconds.

# %% tags=["training"]
x_w, y_w = torch.cat([x_u, x_t]), torch.cat([y_u, y_t])  # all images without a label
levels = {
    kind: [1 - case_dice(as_logits(mask), y_u).mean().item() for mask in masks]
    for kind, masks in wrongs.items()
}
right = score(learn(as_logits(y_u), more_steps), x_w, y_w)  # the first teacher of both kinds
results = {
    kind: [right, *(score(learn(as_logits(mask), more_steps), x_w, y_w) for mask in masks[1:])]
    for kind, masks in wrongs.items()
}
print("teacher's Dice -> student's Dice")
for kind, values in results.items():
    pairs = zip(levels[kind], values, strict=True)
    print(f"{kind:<9}", "   ".join(f"{1 - level:.2f} -> {value:.2f}" for level, value in pairs))

# %% tags=["guess"]
ceiling = [min(levels["shifted"]), max(levels["shifted"])]
fates = show(
    figures.trends,
    {
        "student, shifted": (levels["shifted"], results["shifted"]),
        "student, blotched": (levels["blotched"], results["blotched"]),
        "the teacher itself": (ceiling, [1 - w for w in ceiling]),
    },
    references=["the teacher itself"],
    title="Dice of the student",
    xlabel="how wrong the teacher is: 1 - its Dice",
    alt="The student's Dice against how wrong its teacher is. Taught with shifted masks it falls together with the "
    "teacher's own Dice; taught with blotched masks it falls much less and soon lies above its teacher.",
)

# %% [markdown]
# Read the figure from left to right. A perfect teacher does not make a perfect student: 40 steps of a small
# network are a limit of their own. As the teacher gets worse, the two kinds part. An error that is the same
# everywhere is a rule, and a rule can be learned: the student of the shifted teacher learns to shift, and
# the teacher's Dice becomes a **ceiling**. Errors that are different in every image contradict each other;
# what remains of them is doubt, the forward divergence takes the mean, and the student ends *above* its
# teacher.
#
# Which kind are SAM's errors? Its prompt comes from the students, and what the prompt leaves out altogether,
# as in the last row of the first sheet, SAM tends to confirm as background: a rule, and the students' own.
# So the method does not rest on SKD alone. Labelled images contradict the rule, a second subnet of another
# build makes other errors, and UGDA (chapter 09) shows the students regions in new surroundings.
#
# ## Ablate one thing: the weight
#
# How loudly should the teacher speak beside the labels? We train with both, on 4 labelled and 4 unlabelled
# images a step, and vary $\lambda$. The right teacher and the one shifted by 6 pixels compete. Seven
# trainings again, shorter, but on twice as many images; count on fifteen to forty seconds.

# %% tags=["training"]
fewer_steps = budget(smoke=0, ci=30, laptop=30, gpu=30)
weights = (0.1, 1.0, 10.0)
silent = score(learn(as_logits(y_u), fewer_steps, 0.0, labels=True), x_w, y_w)
by_weight = {
    name: [score(learn(as_logits(mask), fewer_steps, w, labels=True), x_w, y_w) for w in weights]
    for name, mask in (("right", y_u), ("shifted", wrongs["shifted"][2]))
}
print(f"labels alone {silent:.2f}")
for name, values in by_weight.items():
    print(f"{name:<8}", "   ".join(f"weight {w}: {v:.2f}" for w, v in zip(weights, values, strict=True)))

# %% tags=["guess"]
balance = show(
    figures.trends,
    {
        "right teacher": (weights, by_weight["right"]),
        "shifted teacher": (weights, by_weight["shifted"]),
        "labels alone": (weights, [silent] * 3),
    },
    references=["labels alone"],
    title="Dice of the student",
    xlabel="weight of the distillation beside the labels",
    log="x",
    alt="The student's Dice over the weight 0.1, 1 and 10 of the distillation: with the right teacher it rises above "
    "labels alone; with the shifted teacher it falls as the weight grows, and ends below labels alone.",
)

# %% [markdown]
# With the right teacher the student gains at every weight. The wrong one may even help while its weight is
# small: it knows roughly where the lesions are, and the labels hold against its shift. A large weight
# pulls the student down to the teacher's level. One seed decides nothing in the second decimal; call
# `learn` with `seed=1` before you believe a small difference.
#
# In a real run nobody tells you which teacher you have, so the weight is a bet on SAM's quality. Compare the
# sizes of the two losses before you place it, on one batch, with SAM's real answer:

# %%
with torch.no_grad():
    skd = losses.distillation_loss(student(x_u), z_s).item()
    supervised = losses.supervised_loss(student(x_l), y_l).item()
print(f"SKD at T = 10: {skd:.1f}   supervised loss: {supervised:.1f}")

# %% [markdown]
# A weight of 1 does not mean equal say. At $T = 10$ the loss is close to a squared difference of logits,
# and SAM's are large, so SKD is by far the greater of the two numbers; cross-entropy and Dice of images that
# the student has already learned are small. The method's default weight is 1, and unlike consistency and
# entropy (chapter 04) SKD has no ramp: SAM speaks at full volume from the first step.
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) lets SAM's answer teach both subnets by distillation; the formula
# above is that of Hinton et al. (2015), pixel by pixel. The code that the paper's authors published
# settles the details, and this library departs from it in one that matters. You need not take that on
# trust: the package `knowsam_lite.official` holds the authors' behaviour, so you can measure the
# difference.
#
# | detail | authors' code | this library |
# |---|---|---|
# | softmax | over rows of two numbers, whatever C is | over all C classes of a pixel |
# | mean | over the rows | over the pixels |
# | temperature | 10, with $T^2$ | the same by default |
# | teacher | detached | the same |
# | weight | 1, no ramp | the same by default |
#
# What are rows of two numbers? The logits are moved to channels last and reshaped to (-1, 2). For two
# classes a row is a pixel. For more classes it is not:

# %% tags=["compare"]
from knowsam_lite.official.losses import distillation_loss as official_loss

for classes in (2, 3, 4):
    generator = torch.Generator().manual_seed(classes)
    z, z_teacher = (4 * torch.randn(2, classes, 8, 8, generator=generator) for _ in range(2))
    ours, authors = losses.distillation_loss(z, z_teacher), official_loss(z, z_teacher)
    print(
        f"C = {classes}   library {ours:.2f}   authors {authors:.2f}   same {bool((ours - authors).abs() < 1e-3)}"
    )

# %% [markdown]
# **Four classes.** Each pixel becomes two rows: (background, first class) and (second, third). Within a row
# classes are compared, between rows never. So add 20 to the student's second and third class everywhere.
# Every pixel now has the wrong winner:

# %% tags=["compare"]
z_teacher = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
z_teacher[:, :2] += 10  # SAM: background or first class, everywhere
z = z_teacher.clone()
z[:, 2:] += 20  # the student: second or third class, everywhere
agree = (z.argmax(dim=1) == z_teacher.argmax(dim=1)).float().mean()
print(f"pixels with SAM's class: {agree:.0%}")
print(f"authors' loss {abs(official_loss(z, z_teacher)):.2f}")
print(f"library's loss {losses.distillation_loss(z, z_teacher):.0f}")

# %% [markdown]
# A student that is wrong in every pixel costs nothing. On hearts (four classes) SKD then says nothing about
# the choice between the two pairs, which is left to the other losses.
#
# **Three classes.** Three numbers do not fill rows of two, so every third row holds the last class of one
# pixel and the first of its neighbour. A loss per pixel cannot depend on who the neighbours are. Turn the
# images of student and teacher by 90 degrees, together:

# %% tags=["compare"]
z, z_teacher = (4 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
for name, function in (("authors", official_loss), ("library", losses.distillation_loss)):
    upright = function(z, z_teacher)
    turned = function(z.rot90(dims=(2, 3)), z_teacher.rot90(dims=(2, 3)))
    print(f"{name}: the loss of the turned images is the same: {bool((upright - turned).abs() < 1e-3)}")

# %% [markdown]
# For the data sets with two classes none of this matters: there the two losses are equal to the last digit
# that rounding leaves.
#
# **What both share.** The whole batch is distilled, labelled images included; a large $T$ that makes the loss
# a comparison of logits; full weight from the first step, when SAM is prompted by networks that know
# nothing. The library softens the last point from the other side: while SAM learns on the labelled images
# its prompts are roughened, so that it practises on bad questions (chapter 07).
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. A pixel has the logits (0, 1, 5). What does $T = 10$ change? (a) which class wins, (b) which loser comes
#    second, (c) how far the probabilities lie apart, (d) nothing, for a softmax cares for the order alone
# 2. You set $T = 10$ and forget $T^2$. What happens? (a) the gradient is a hundred times too small, (b) the loss
#    is negative, (c) the gradient is a hundred times too large, (d) nothing
# 3. You forget to detach $z_s$. What happens in the toy with two logits? (a) the student reaches SAM sooner,
#    (b) student and SAM meet halfway, (c) an error is raised, (d) the loss never falls
# 4. Two teachers have a Dice of 0.5: one shifts every mask alike, one makes random errors. Whose student is
#    worse? (a) equal, for only the Dice counts, (b) the random one's, (c) it cannot be said, (d) the shifting
#    one's
# 5. With four classes the authors' loss is 0. What do you know? (a) the student equals SAM, (b) within each
#    pair of classes the student ranks as SAM does, (c) the winners are the same, (d) nothing at all

# %%
quiz("08", ["c", "a", "b", "d", "b"])

# %% [markdown]
# ## Recap
#
# - **Temperature** divides the logits and shows the ranking of the losers; it changes no winner. A factor
#   $T^2$ keeps the gradient's size, so that $T$ and the weight can be chosen separately.
# - The **forward KL divergence**, teacher first, makes the student as unsure as its teachers are on average.
#   Sum over classes, mean over pixels; neither `mean` nor `batchmean` of `F.kl_div` does that.
# - **Two detaches**: the prompt on its way into SAM, SAM's answer on its way back. Without the second the
#   teacher learns from its pupils.
# - SAM's **accidents** average out, its **rules** are learned. What SAM gets wrong in the same way again and
#   again is a ceiling, and the weight of SKD is a bet on how low it hangs.
#
# **Next:** chapter 09 takes regions that the students doubt and moves them between images, and chapter 10
# lets all blocks train together.

# %%
check.report()
