# %% [markdown]
# # 07 · LPS: learnable prompts
#
# {{badges}}
#
# SAM answers questions. But while a network trains there is nobody to ask them: no hand draws a box around
# each lesion of each image, a thousand times over. KnowSAM finds two that can ask in the user's place. The
# students draw a rough map of every class, and that becomes a mask prompt. And one more network for each class
# reads SAM's own features and writes prompt tokens, which no user could ever click. The second is the
# **learnable prompt strategy, LPS**. In this chapter you build both, ask about all classes at once, find out
# who learns from the answer, and see how a SAM that is asked too kindly forgets to look at the image.
#
# | | |
# |---|---|
# | **You will** | turn the students' logits into yes-or-no questions; let one network per class write SAM's prompt; answer all classes in one pass of the decoder; measure what SAM mends and what it breaks; roughen a map so that SAM does not learn to copy it |
# | **You need** | PyTorch modules, softmax, what `detach` does; chapter 06 helps but is not required |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: about a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from knowsam_lite import Synthetic, UNet, figures, losses
from knowsam_lite.course.chapters.ch07 import shared
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import load_case
from knowsam_lite.metrics import dice
from knowsam_lite.sam import BACKBONES, Adapter, SamTeacher, load_pretrained, prompts
from knowsam_lite.sam.degrade import spoil_to

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. LPS stands above SAM and writes tokens into
# it. The other question comes from the left: HAM's fused map $z_f$.

# %%
drawn = show(
    figures.pipeline,
    lit="LPS",
    alt="Map of KnowSAM: images go to U-Net and V-Net, their logits to HAM, its fused map to SAM; the learned "
    "prompts above SAM are highlighted; SAM's answer goes to the distillation.",
)

# %% [markdown]
# ## Why
#
# The images are those of chapter 04: 64 synthetic skin lesions, of which 8 training images have labels. A
# small U-Net trains on these 8 for four to ten seconds. Of the next two cells only `fit` is new, the training
# that SAM will go through as well. In the whole method the fused map of two subnets is the question; here the map
# of one student has to be enough. (At the budget `smoke` nothing is trained, and the numbers mean nothing.)


# %%
dataset = Synthetic("dermoscopy", seed=0, n=64, size=64)
chosen = sorted(choose_labeled(dataset.records, "8", seed=0))
train = dataset.split("train")


def stack(records: list) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 64, 64) and masks (N, 64, 64) of these records."""
    images = [load_case(dataset, record, 64)[0] for record in records]
    masks = [torch.from_numpy(dataset.mask(record).astype("int64")) for record in records]
    return torch.stack(images), torch.stack(masks)


x_l, y_l = stack([record for record in train if record.id in chosen])
x_u, y_u = stack([record for record in train if record.id not in chosen])  # y_u only to score


def fit(
    net: nn.Module,
    ask: Callable[[nn.Module, Tensor], Tensor],
    steps: int,
    rate: float = 3e-3,
    seed: int = 0,
) -> nn.Module:
    """Train what learns in `net` on the labelled images, in place: ask(net, i) gives the logits of images i.
    Returns it in evaluation mode.
    """
    torch.manual_seed(seed)  # for dropout and for noise
    generator = torch.Generator().manual_seed(seed)  # for the choice of images
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
    net.train()
    for _ in range(steps):
        i = torch.randperm(len(x_l), generator=generator)[:4]
        loss = losses.supervised_loss(ask(net, i), y_l[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


# %% tags=["training"]
torch.manual_seed(0)
student = UNet(2, (8, 16, 32, 64), dropout=(0, 0, 0.1, 0.1))
fit(student, lambda net, i: net(x_l[i]), budget(smoke=0, ci=120, laptop=120, gpu=120))
with torch.no_grad():
    z_l, z_u = student(x_l), student(x_u)  # (N, 2, 64, 64)


def mean_dice(answers: Tensor, y: Tensor) -> float:
    """Mean Dice of the lesion over class maps (N, H, W)."""
    return sum(dice(a == 1, t == 1) for a, t in zip(answers, y, strict=True)) / len(y)


print(f"labelled images {mean_dice(z_l.argmax(dim=1), y_l):.2f}")
print(f"unlabelled images {mean_dice(z_u.argmax(dim=1), y_u):.2f}")

# %% [markdown]
# Remember these two numbers: on the labelled images the student's map is nearly the truth, on the others it
# is not. The gap will matter in step 5.
#
# Now let the student ask SAM. `SamTeacher` is `sam_mini` with adapters and LPS, neither of which has
# learned anything yet.

# %%
torch.manual_seed(0)
sam = SamTeacher("sam_mini", 2, 64).eval()
load_pretrained(sam)
with torch.no_grad():
    z_s = sam(x_u, z_u).logits


def asked(i: int, answer: Tensor, name: str) -> dict:
    """Unlabelled image i with the student's lesion as the question and SAM's class map, to be drawn."""
    case = {"id": name, "image": (x_u[i].movedim(0, -1) * 255).byte().numpy(), "truth": y_u[i].numpy() == 1}
    return {**case, "mask": z_u[i].argmax(dim=0).numpy() == 1, "answer": answer[i].numpy() == 1}


gain = torch.tensor(
    [
        dice(a == 1, t == 1) - dice(b == 1, t == 1)
        for a, b, t in zip(z_s.argmax(dim=1), z_u.argmax(dim=1), y_u, strict=True)
    ]
)
order = gain.argsort(descending=True).tolist()
first = show(
    figures.questions,
    [asked(i, z_s.argmax(dim=1), f"image {i}") for i in (order[0], order[len(order) // 2], order[-1])],
    alt="Three unlabelled lesions with the student's map as the prompt and SAM's answer: the image where SAM "
    "gains most over the student, the median one, and the one where it gains least.",
)
print(f"Dice: the student {mean_dice(z_u.argmax(dim=1), y_u):.2f}, ", end="")
print(f"SAM asked by the student {mean_dice(z_s.argmax(dim=1), y_u):.2f}")

# %% [markdown]
# The three are chosen by what SAM gains over the student: most, the median, least. Nobody clicked, and SAM
# already mends something.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $z_f$ | the students' fused logits | `z_f` | (N, C, H, W) |
# | $E(x)$ | what SAM's encoder makes of an image | `sam.encode(x)` | (N, D, g, g) |
# | $m_c = \mathrm{sg}\big(z_{f,c} - \log \sum_{k \ne c} e^{z_{f,k}}\big)$ | mask prompt of class $c$ | `mask_prompts(z_f, size)` | (N, C, 4g, 4g) |
# | $t_c = \psi_c(E(x))$ | prompt tokens of class $c$ | `LearnablePrompts` | (N, C, 2, D) |
# | $z_s = \mathrm{SAM}(x; \{t_c\}, \{m_c\})$ | SAM's answer for all classes | `sam_answer(sam, x, z_f)` | (N, C, H, W) |
#
# sg stops the gradient. $g$ is the number of SAM's tokens along a side (chapter 06), 8 here, and D their length.
#
# ## Step 1: the students draw the mask
#
# **Idea.** A *mask prompt* is a rough mask, handed to SAM as a question. SAM was trained with masks of its
# own making: the *logit of a yes-or-no question*, "does this pixel belong to the thing?". Above 0 is inside,
# below 0 outside, 0 is undecided. A student's channel is another sort of number. Softmax compares it with
# the other channels, and alone it says nothing.
#
# **Smallest example.** One pixel, three classes. At its end chapter 00 added 3 to all logits; here we add 5
# and subtract 5. All three rows below have the same probabilities:

# %% tags=["compare"]
for shift in (-5.0, 0.0, 5.0):
    z = torch.tensor([1.0, 3.0, 2.0]) + shift
    p = z.softmax(dim=0)
    odds = (p / (1 - p)).log()
    print(f"channels {z.tolist()}", " p", [round(v, 2) for v in p.tolist()], end="  ")
    print("log p / (1 - p)", [round(v, 1) for v in odds.tolist()])

# %% [markdown]
# Read as yes-or-no logits, the first row's channels say "no" three times and the last row's "yes" three
# times. The *log-odds* $\log p_c / (1 - p_c)$, each class against all others together, are the same in all
# rows, and only the winner, with more than half of the probability, is above 0.
#
# Dividing rounded probabilities is dangerous, however: a sure student has $p = 1$, and 1 − 1 is 0. Write the
# odds with logits instead. Both $p_c$ and $1 - p_c$ are exponentials over the same sum, which cancels:
#
# $$\log \frac{p_c}{1 - p_c} = \log \frac{e^{z_c}}{\sum_{k \ne c} e^{z_k}} = z_c - \log \sum_{k \ne c} e^{z_k}$$

# %% tags=["compare"]
z = torch.tensor([0.0, 40.0])
p = z.softmax(dim=0)
print("by way of the probabilities", [round(v, 1) for v in (p / (1 - p)).log().tolist()])
print("with logits alone          ", [(z[0] - z[1]).item(), (z[1] - z[0]).item()])

# %% [markdown]
# ### Exercise 07.1: mask prompts
#
# Difficulty 3 of 5 · importance 5 of 5 · 10 minutes
#
# Write `mask_prompts(z_f, size)`: logits (N, C, H, W) in, resized to `size` first, bilinearly; out come the
# log-odds of each class, (N, C, \*size), as float32. No gradient may pass, and a student that is very sure must
# not make infinite prompts.
#
# <details><summary>Hint</summary>
#
# 1. Begin with `z_f.detach().float()` and resize *that*, before anything else:
#    `F.interpolate(z, size, mode="bilinear", align_corners=False)`.
# 2. For class `c`, the others are all channels but `c`; `torch.logsumexp(others, dim=...)` is the logarithm
#    of the sum of their exponentials. Subtract it from channel `c`. A loop over `c` with `torch.cat` is fine.
# 3. Without a loop: `z.unsqueeze(1)` is (N, 1, C, h, w). Where a class would meet itself, in a mask
#    `torch.eye(C, dtype=torch.bool)[:, :, None, None]`, `masked_fill` puts `-torch.inf`, whose exponential is
#    0. Then `logsumexp(dim=2)`.
#
# </details>
#
# $$m_c = \mathrm{sg}\Big(z_{f,c} - \log \sum_{k \ne c} e^{z_{f,k}}\Big)$$

# %% tags=["exercise"]
# library: knowsam_lite.sam.prompts.mask_prompts
# blank: mask_prompts

# %%
check("07.1", mask_prompts)

# %% [markdown]
# **Look.** How many classes claim a pixel for themselves, with a prompt above 0? Hearts have four classes.
# We take random logits, in which the students know nothing about hearts at all. (From here on tables and
# figures use the library's functions, so an unfinished exercise never stops you.)

# %% tags=["compare"]
z_heart = 2 * torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(0))
for name, maps in {"raw channel": z_heart, "log-odds": prompts.mask_prompts(z_heart, (64, 64))}.items():
    claims = (maps > 0).sum(dim=1)  # (N, H, W)
    shares = [f"{n}: {(claims == n).float().mean():.0%}" for n in range(5)]
    print(f"{name:<12} pixels claimed by so many classes ", "  ".join(shares))

# %% [markdown]
# Log-odds never let two classes claim the same pixel, and leave it open where no class has the majority.
# With raw channels two or more classes are told "inside" at two of three pixels: questions that contradict
# each other.
#
# Does SAM care? The unlabelled images once more. We add a number to both channels of every map, which
# changes none of the student's probabilities:


# %%
def ask_with(masks: Tensor) -> Tensor:
    """SAM's class map (N, 64, 64) of the unlabelled images, asked with these mask prompts (N, 2, 32, 32)."""
    net = copy.deepcopy(sam)
    net.mask_prompts = lambda z_f: masks  # in place of those that it would make itself
    with torch.no_grad():
        return net(x_u, z_u).logits.argmax(dim=1)


print("added to all logits   raw channel   log-odds")
for shift in (-4.0, 0.0, 4.0):
    raw = F.interpolate(z_u + shift, (32, 32), mode="bilinear")
    odds = prompts.mask_prompts(z_u + shift, (32, 32))
    print(f"{shift:>+19.0f} {mean_dice(ask_with(raw), y_u):>13.2f} {mean_dice(ask_with(odds), y_u):>10.2f}")

# %% [markdown]
# The right column cannot change. The left one can: a student of another build, or one that has trained for
# longer, may put its channels anywhere, and the raw prompt hands that on to SAM as an opinion. A SAM that
# *learns* can get used to an offset, if it stays the same. But why should it have to?
#
# ## Step 2: one network per class
#
# **Idea.** A box and a click are tokens (chapter 06). A token is a vector of D numbers, and nothing says
# that it must come from a place in the image. LPS lets a network $\psi_c$ write it: one per class, which
# reads SAM's embedding and gives two tokens that ask for class $c$ *in this image*. What to write it learns
# from SAM's loss on the labelled images. Inside are two halvings, convolutions, a mean over all places and
# two linear layers. The library's `ClassPrompt` is that network:

# %% tags=["compare"]
from knowsam_lite.sam.prompts import ClassPrompt

one = ClassPrompt(dim=128, tokens=2).eval()
t = torch.zeros(1, 128, 8, 8)
print(f"{'embedding':<18} {tuple(t.shape)}")
for layer in one:
    t = layer(t)
    if not isinstance(layer, nn.Dropout | nn.GELU):
        print(f"{type(layer).__name__:<18} {tuple(t.shape)}")

# %% [markdown]
# **How should it start?** With random weights the tokens are random, and SAM gets a question that nobody
# asked. So its last layer, `prompt.last`, starts at zero, weight and bias, and the tokens with it. Can a
# network learn that begins with nothing? It can, as the adapter did in chapter 06, in two steps.
#
# **Smallest example.** The parts of one network, and which of them get a gradient:

# %% tags=["compare"]
torch.manual_seed(0)
lps = prompts.LearnablePrompts(2, dim=16).eval()
target = torch.randn(4, 2, 2, 16)
noise = torch.randn(4, 16, 8, 8)
optimizer = torch.optim.SGD(lps.parameters(), lr=1.0)
for step in range(2):
    optimizer.zero_grad()
    tokens = lps(noise)
    (tokens - target).square().mean().backward()
    learn = [name for name, p in lps.classes[0].named_parameters() if p.grad.any()]
    print(
        f"step {step}: tokens all zero: {not tokens.any()}, tensors of class 0 with a gradient: {len(learn)}"
    )
    optimizer.step()

# %% [markdown]
# In step 0 weight and bias of the last layer learn, since their gradient does not contain them. From step 1
# on all do.
#
# ### Exercise 07.2: learnable prompts
#
# Difficulty 2 of 5 · importance 5 of 5 · 9 minutes
#
# Write the class `LearnablePrompts`. `__init__(num_classes, dim, tokens)` keeps one `ClassPrompt(dim,
# tokens)` per class in `self.classes`, whose last layers start at zero. `forward(embedding)` takes
# (N, D, g, g), the embedding as it comes, and returns the tokens of all classes, (N, C, tokens, D). (The
# error of which the docstring speaks is raised by `ClassPrompt`: nothing for you to do.)
#
# <details><summary>Hint</summary>
#
# 1. After `super().__init__()`: a list comprehension makes a new network each time,
#    `[ClassPrompt(dim, tokens) for _ in range(num_classes)]`; multiplying a list repeats the *same* one.
#    PyTorch finds the networks only in an `nn.ModuleList`.
# 2. `nn.init.zeros_(prompt.last.weight)`, and the same for `prompt.last.bias`, for each network and for no
#    other layer.
# 3. `torch.stack([...], dim=1)` joins the answers (N, tokens, D) of the networks along a new axis.
#
# </details>
#
# $$t_c = \psi_c(E(x)) \in \mathbb{R}^{2 \times D}, \qquad \psi_c = 0 \text{ at the start}$$

# %% tags=["exercise"]
# library: knowsam_lite.sam.prompts.LearnablePrompts
# blank: LearnablePrompts.__init__
# blank: LearnablePrompts.forward

# %%
check("07.2", LearnablePrompts)

# %% [markdown]
# **Look.** What does LPS cost, beside the adapters? (The device `meta` gives shapes without numbers.)

# %% tags=["compare"]
for name, classes in (("sam_mini", 2), ("sam_vit_b", 2), ("sam_vit_b", 4)):
    with torch.device("meta"):
        parts = SamTeacher(name, classes, 256).learning_parts()
    counts = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
    words = "   ".join(f"{part} {count / 1e6:5.2f} million" for part, count in counts.items())
    print(f"{name:<10} {classes} classes   {words}")

# %% [markdown]
# These networks are not small: beside `sam_mini` LPS has more parameters than SAM itself (2.4 million), and
# beside the large SAM, with four classes, three times those of all adapters. 3 × 3 convolutions on so many
# channels add up. And are zero tokens really nothing? Compare with no tokens at all, and with a random last
# layer as the authors start:


# %%
def asked_by(tokens: Tensor) -> Tensor:
    """SAM's logits (N, 2, 64, 64) of the unlabelled images, with these tokens in place of its LPS's."""
    net = copy.deepcopy(sam)
    net.learnable_prompts.forward = lambda embedding: tokens
    with torch.no_grad():
        return net(x_u, z_u).logits


random_start = copy.deepcopy(sam.learnable_prompts)
for prompt in random_start.classes:
    prompt.last.reset_parameters()
with torch.no_grad():
    starts = {
        "no tokens": torch.zeros(len(x_u), 2, 0, 128),
        "zero tokens": torch.zeros(len(x_u), 2, 2, 128),
        "random tokens": random_start(sam.encode(x_u)),
    }
plain = asked_by(starts["no tokens"])
print("                moves SAM's logits by   Dice")
for name, tokens in starts.items():
    z = asked_by(tokens)
    moved = (z - plain).abs().mean() / plain.abs().mean()
    print(f"{name:<15} {moved:>18.1%} {mean_dice(z.argmax(dim=1), y_u):>11.2f}")

# %% [markdown]
# Zero tokens are *not* exactly nothing. They stand in the row of tokens, the others attend to them, and so
# take up a little of everybody's attention. And for `sam_mini`, random tokens of this size move SAM no more
# than zeros do. So the zero start is no rescue here. What it buys is certainty: whatever seed or size, every
# image is asked the same neutral question at step 0, and what SAM answers is due to the mask alone.
#
# ## Step 3: all classes in one pass
#
# **Idea.** Each class is a question of its own: its two tokens, its mask. For N images and C classes that
# makes N · C questions. One can loop over the classes. The authors' code does, one pass of the decoder for
# each class. Or one can lay all questions out as rows of one batch, which chapter 06 did when it built
# `PromptDecoder`: row $iC + c$ is class $c$ of image $i$.
#
# **Smallest example.** Two images, three classes, six rows:
#
# | row | 0 | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|---|
# | image | 0 | 0 | 0 | 1 | 1 | 1 |
# | class | 0 | 1 | 2 | 0 | 1 | 2 |
#
# All rows of an image look at the same embedding, so the encoder, the expensive part, needs to run only once.
#
# ### Exercise 07.3: all classes in one pass
#
# Difficulty 3 of 5 · importance 5 of 5 · 9 minutes
#
# Write `sam_answer(sam, x, z_f)`: a `SamTeacher`, images (N, 3, S, S) and the students' logits (N, C, S, S)
# in, SAM's logits (N, C, S, S) out. Each image goes through the encoder once, and the decoder runs once.
# SAM will learn from this answer, so keep its graph. What you need hangs on `sam`; join it in the right order,
# and resize the answer bilinearly (`align_corners=False`):
#
# | method | makes | shape |
# |---|---|---|
# | `encode` | the embedding of the images | (N, D, g, g) |
# | `learnable_prompts` | tokens from an embedding: your class of exercise 07.2 | (N, C, 2, D) |
# | `mask_prompts` | mask prompts from $z_f$: your function of 07.1 at the right size, detached | (N, C, 4g, 4g) |
# | `embed_masks` | *dense prompts* from mask prompts: what the decoder adds to the embedding | (N, C, D, g, g) |
# | `decode` | low-resolution logits from embedding, tokens and dense prompts | (N, C, 4g, 4g) |
#
# <details><summary>Hint</summary>
#
# 1. Three things go into the decoder, and the table says what makes each of them. The tokens need the
#    embedding; the dense prompts need two methods, one on what the other returns.
# 2. `sam.decode` takes all images and all classes at once. No loop is needed.
# 3. The answer has to be as large as the image: `F.interpolate` to `x.shape[-2:]`, bilinear,
#    `align_corners=False`.
#
# </details>
#
# $$z_s = \mathrm{SAM}\big(x;\ \{t_c\}_{c=1}^{C},\ \{m_c\}_{c=1}^{C}\big)$$


# %% tags=["exercise"]
# blank: sam_answer
def sam_answer(sam: SamTeacher, x: Tensor, z_f: Tensor) -> Tensor:
    """SAM's logits (N, C, S, S) for images (N, 3, S, S), prompted with the students' logits (N, C, S, S)."""
    embedding = sam.encode(x)
    tokens = sam.learnable_prompts(embedding)
    dense = sam.embed_masks(sam.mask_prompts(z_f))
    low_res = sam.decode(embedding, tokens, dense)
    return F.interpolate(low_res, x.shape[-2:], mode="bilinear", align_corners=False)


# %%
check("07.3", sam_answer)

# %% [markdown]
# The library's `SamTeacher.forward` does the same, and cuts off what was filled up where an image is not
# square.
#
# **Look.** What does the single pass save? With three images and four classes we count what each way asks of SAM,
# `images` through the encoder, `passes` of the decoder, and their `rows`. The last line lets every image meet
# every prompt, as SAM's stock decoder pairs them:

# %% tags=["compare"]
torch.manual_seed(0)
heart = SamTeacher("sam_mini", 4, 64).eval()
load_pretrained(heart)
for prompt in heart.learnable_prompts.classes:
    prompt.last.reset_parameters()  # as if it had learned something, a different thing for each class
hearts = Synthetic("cardiac", seed=0, n=8, size=64)
x_h = torch.stack([load_case(hearts, record, 64)[0] for record in hearts.records[:3]])
z_h = z_heart[:3]


def asked_about(classes: Sequence[int]) -> Tensor:
    """SAM's low-resolution logits (3, len(classes), 32, 32), the encoder included."""
    embedding = heart.encode(x_h)
    tokens, masks = heart.learnable_prompts(embedding), heart.mask_prompts(z_h)
    return heart.decode(embedding, tokens[:, classes], heart.embed_masks(masks[:, classes]))


def looped() -> Tensor:
    """Encode once, then one pass of the decoder for each class."""
    embedding = heart.encode(x_h)
    tokens, dense = heart.learnable_prompts(embedding), heart.embed_masks(heart.mask_prompts(z_h))
    passes = [heart.decode(embedding, tokens[:, c : c + 1], dense[:, c : c + 1]) for c in range(4)]
    return torch.cat(passes, dim=1)


def crosswise() -> Tensor:
    """Every image with the prompts of every image; of 3 x 3 blocks, those on the diagonal are wanted."""
    embedding = heart.encode(x_h)
    tokens, dense = heart.learnable_prompts(embedding), heart.embed_masks(heart.mask_prompts(z_h))
    all_tokens, all_dense = tokens.repeat(3, 1, 1, 1), dense.repeat(3, 1, 1, 1, 1)
    blocks = heart.decode(embedding.repeat_interleave(3, dim=0), all_tokens, all_dense)
    return blocks[[0, 4, 8]]  # image i with the prompts of image i


ways = {
    "all anew for each class": lambda: torch.cat([asked_about([c]) for c in range(4)], dim=1),
    "a pass for each class": looped,
    "one pass, N x C rows": lambda: asked_about([0, 1, 2, 3]),
    "every image, every prompt": crosswise,
}
with torch.no_grad():
    reference = ways["one pass, N x C rows"]()
    for name, way in ways.items():
        work, close = shared.counted(heart, way), torch.allclose(way(), reference, rtol=1e-5, atol=1e-5)
        print(f"{name:<26}", "  ".join(f"{what} {count:>2}" for what, count in work.items()), "  same", close)

# %% [markdown]
# The same logits, within $10^{-5}$, from very different work. In multiplications and additions, at the
# decoder's and encoder's real sizes:

# %%
print("                           billions   times the cheapest")
costs = {}
for name, way in ways.items():
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        way()
    costs[name] = counter.get_total_flops() / 1e9
for name, cost in costs.items():
    print(f"{name:<26} {cost:>8.2f} {cost / min(costs.values()):>14.1f}")

# %% [markdown]
# The loop over classes costs as much arithmetic as the single pass; what it adds is that each of the decoder's
# many small operations is started C times, with a C-th of the rows. The first and the last way waste
# arithmetic as well. Encoding anew grows with C. The crosswise pairing grows with N: here 24 of 36 rows were
# thrown away, and with a training batch of 24 images it would be 23 of 24.
#
# ## Step 4: who learns from SAM's loss
#
# **Idea.** On labelled images SAM's answer is compared with the truth, by cross-entropy and Dice. Follow the
# gradient back from there. It comes to the decoder. From there three roads lead on: through the dense
# prompts to the students, through the embedding to the encoder, and through the *tokens* to LPS, and then,
# since LPS reads the embedding, to the encoder once more. The first road is closed by the detach of
# exercise 07.1.
#
# **Smallest example.** Before you run it, tick on paper who learns: at step 0, with fresh adapters and zero
# tokens; after one step; and what comes to the encoder by way of LPS alone. The last row opens the closed
# road, to see what would happen.


# %% tags=["compare"]
def adapters(net: nn.Module) -> nn.ModuleList:
    """All adapters inside."""
    return nn.ModuleList(m for m in net.modules() if isinstance(m, Adapter))


def answered(net: SamTeacher, z_f: Tensor, by_tokens_alone: bool, detached: bool) -> Tensor:
    """SAM's low-resolution logits of two labelled images, with some roads closed or opened."""
    embedding = net.encode(x_l[:2])
    tokens = net.learnable_prompts(embedding)
    z = z_f.detach() if detached else z_f
    masks = net.mask_prompts(z) if detached else F.interpolate(z[:, 1:] - z[:, :1], (32, 32)) * signs
    seen = embedding.detach() if by_tokens_alone else embedding
    return F.interpolate(net.decode(seen, tokens, net.embed_masks(masks)), (64, 64), mode="bilinear")


signs = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)  # two classes: the log-odds are a difference of channels
torch.manual_seed(0)
pupil, learner = copy.deepcopy(student), copy.deepcopy(sam)
networks = {
    "student": pupil,
    "LPS": learner.learnable_prompts,
    "decoder's adapters": adapters(learner.mask_decoder),
    "encoder's adapters": adapters(learner.image_encoder),
}
frozen = nn.ParameterList(
    p for p in learner.parameters() if not any(p is q for n in networks.values() for q in n.parameters())
)
networks["pretrained"] = frozen


def who(by_tokens_alone: bool = False, detached: bool = True) -> str:
    """The networks that SAM's loss teaches."""
    loss = losses.supervised_loss(answered(learner, pupil(x_l[:2]), by_tokens_alone, detached), y_l[:2])
    told = []
    for name, network in networks.items():
        weights = [p for p in network.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) if weights else ()
        told += [name] if any(g is not None and g.any() for g in found) else []
    return ", ".join(told)


print("step 0:                       ", who())
print("step 0, by the tokens alone:  ", who(by_tokens_alone=True))
optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], 1e-3)
losses.supervised_loss(answered(learner, pupil(x_l[:2]), False, True), y_l[:2]).backward()
optimizer.step()
print("step 1:                       ", who())
print("step 1, by the tokens alone:  ", who(by_tokens_alone=True))
print("step 1, the map not detached: ", who(detached=False))

# %% [markdown]
# - **The students never learn from it.** Otherwise they would learn to draw what SAM likes to read, instead
#   of what is there. In the last row they do.
# - **LPS learns from the first step on**, though in step 0 it lets nothing through: a last layer of zeros
#   passes no gradient on. From step 1 on the encoder's adapters learn by two roads. One makes embeddings
#   that the decoder can read, the other embeddings from which LPS can tell what to ask.
# - **The pretrained weights** are frozen (chapter 06). The gradient passes through them.
#
# One road is missing: the *unlabelled* images. SAM's answer to them teaches the students (chapter 08), but
# nothing tells SAM whether it was right. All that SAM learns, it learns from labels.
#
# ## Step 5: how SAM learns to copy
#
# **Idea.** You saw it at the beginning: on the labelled images the student's map is nearly the truth, for it
# knows them by heart. SAM learns on just these images. Its question contains the answer. What is the easiest
# thing to learn? To give the question back. On the unlabelled images that helps nobody.
#
# Dice alone will not show it: a good map copied has a good Dice. So we need two numbers. Of the pixels that
# were *wrong* in the question, how many did SAM **mend**? Of those that were *right*, how many did it
# **break**?
#
# **Smallest example.** Six pixels, two errors in the question:
#
# | | pixels | mended | broken |
# |---|---|---|---|
# | the truth | 0 0 0 1 1 1 | | |
# | the question | 0 0 **1 0** 1 1 | | |
# | an answer that copies | 0 0 1 0 1 1 | 0 of 2 | 0 of 4 |
# | one that mends one | 0 0 0 0 1 1 | 1 of 2 | 0 of 4 |
# | one that mends both and breaks one | 1 0 0 1 1 1 | 2 of 2 | 1 of 4 |
#
# ### Exercise 07.4: mended and broken
#
# Difficulty 2 of 5 · importance 3 of 5 · 7 minutes
#
# Write `mended_and_broken(asked, answer, y)`: class maps (N, H, W) of the question, of the answer, and the
# truth. Return two numbers, mended first: the share of the question's wrong pixels that are right in the
# answer, and the share of its right pixels that are wrong in the answer, counted over all images together.
# Where there is nothing to mend, or nothing to break, the share is 0. There may be more than two classes.
#
# <details><summary>Hint</summary>
#
# 1. `wrong = asked != y` holds the question's errors, `~wrong` is the rest. A pixel is mended if it was wrong
#    and `answer == y`. (To have changed is not enough: with three classes it may be wrong in another way.)
# 2. Each share has its own divisor: `wrong.sum()` for the first, `(~wrong).sum()` for the second, whose
#    numerator looks at `~wrong` alone.
# 3. `.sum().item()` makes a number of a count. `max(count, 1)` keeps you from dividing by 0.
#
# </details>
#
# $$\text{mended} = \frac{|\text{asked} \ne y \ \wedge\ \text{answer} = y|}{|\text{asked} \ne y|}, \qquad \text{broken} = \frac{|\text{asked} = y \ \wedge\ \text{answer} \ne y|}{|\text{asked} = y|}$$


# %% tags=["exercise"]
# blank: mended_and_broken
def mended_and_broken(asked: Tensor, answer: Tensor, y: Tensor) -> tuple[float, float]:
    """Shares of the question's wrong pixels that became right, and of its right ones that became wrong."""
    wrong = asked != y
    mended = (wrong & (answer == y)).sum().item() / max(wrong.sum().item(), 1)
    broken = (~wrong & (answer != y)).sum().item() / max((~wrong).sum().item(), 1)
    return mended, broken


# %%
check("07.4", mended_and_broken)

# %% [markdown]
# **The remedy.** If SAM practises on easy questions, make them harder: *roughen* the student's map on the
# labelled images, with smooth noise, so that lesions grow, shrink, get holes and false islands. To get from
# there to the truth one has to look at the image. The noise is made of small grids of random numbers,
# stretched over the image: a coarse grid makes broad stains, a fine one small ones.
#
# ### Exercise 07.5: a rougher map
#
# Difficulty 3 of 5 · importance 4 of 5 · 9 minutes
#
# Write `add_noise(z_f, grids, strength)`: logits (N, C, H, W), a list of grids (N, C, k, k) of any sizes,
# and strengths (N, 1, 1, 1). Stretch every grid over the image, bilinearly and with `align_corners=False`,
# sum them up, and add the sum to the logits, times the strength and times the standard deviation of the
# logits of the whole batch, so that the noise fits quiet and loud students alike. No gradient may reach the
# students, and what was given must stay as it is.
#
# <details><summary>Hint</summary>
#
# 1. `z = z_f.detach()` first. `F.interpolate(grid, z.shape[-2:], mode="bilinear", align_corners=False)`
#    stretches one grid.
# 2. Begin with `torch.zeros_like(z)` and add each stretched grid to it in a loop: a sum, not a mean.
# 3. `z.std()` without an axis is one number for the batch. Return `z + strength * z.std() * noise`, a new
#    tensor.
#
# </details>
#
# $$\tilde z = \mathrm{sg}(z_f) + s \,\sigma(z_f) \sum_j \mathrm{stretch}(G_j)$$

# %% tags=["exercise"]
# library: knowsam_lite.sam.prompts.add_noise
# blank: add_noise

# %%
check("07.5", add_noise)

# %% [markdown]
# **Look.** The library's `roughen` draws grids of 5, 9 and 17 numbers a side and a strength between 0 and 2,
# anew for every image of every step. Here is one draw at growing strength. With 0 you see how well the student
# knows this image; from 1.4 on the lesion has a hole, and false islands stand around it.

# %%
generator = torch.Generator().manual_seed(1)
grids = [
    torch.rand(1, generator=generator) * torch.randn(1, 2, k, k, generator=generator) for k in (17, 9, 5)
]
rough = {
    f"strength {s:g}": prompts.add_noise(z_l[:1], grids, torch.tensor(s).view(1, 1, 1, 1))
    for s in (0.0, 0.7, 1.4, 2.0)
}
stains = show(
    figures.panels,
    [
        {"image": (x_l[0].movedim(0, -1) * 255).byte(), "truth": y_l[0] == 1}
        | {name: z.softmax(dim=1)[0, 1] for name, z in rough.items()}
    ],
    ends=("0 background", "1 lesion"),
    alt="A labelled lesion, its truth, and the student's probability map of it without noise, where it matches the "
    "truth, and with growing noise: the border frays, then holes and false islands appear.",
)

# %% [markdown]
# **Does it help?** Two SAMs learn from the same 8 labels, one asked with the student's map as it is, one with
# the roughened map. Then both are asked about the unlabelled images. Guess first: who will be better with
# the student's real maps there? Four to twelve seconds.

# %% tags=["training"]
steps = budget(smoke=0, ci=30, laptop=30, gpu=30)


def with_parts(net: SamTeacher, embedding: Tensor, z_f: Tensor, use: str) -> Tensor:
    """SAM's logits (N, 2, 64, 64), asked with "mask", with "tokens", or with "both"."""
    tokens, dense = net.learnable_prompts(embedding), net.embed_masks(net.mask_prompts(z_f))
    if use == "mask":
        tokens = tokens[:, :, :0]
    if use == "tokens":  # SAM has a vector of its own for "no mask given"
        dense = net.prompt_encoder.no_mask_embed.weight.view(1, 1, -1, 1, 1).expand_as(dense)
    low_res = net.decode(embedding, tokens, dense)
    return F.interpolate(low_res, z_f.shape[-2:], mode="bilinear", align_corners=False)


def trained(
    use: str = "both", roughen: Callable[[Tensor], Tensor] = prompts.roughen, seed: int = 0
) -> SamTeacher:
    """A copy of SAM whose adapters and LPS have learned from the 8 labelled images."""
    net = copy.deepcopy(sam)
    return fit(
        net, lambda net, i: with_parts(net, net.encode(x_l[i]), roughen(z_l[i]), use), steps, seed=seed
    )


def told(net: SamTeacher, *maps: Tensor, use: str = "both") -> list[Tensor]:
    """Its class maps (N, 64, 64) of the unlabelled images, one for each of the logits it is asked with."""
    with torch.no_grad():
        embedding = net.encode(x_u)
        return [with_parts(net, embedding, z, use).argmax(dim=1) for z in maps]


sams = {"SAM as it was": sam, "clean maps": trained(roughen=lambda z: z), "rough maps": trained()}
own = z_u.argmax(dim=1)
answers = {name: told(net, z_u)[0] for name, net in sams.items()}
print("                Dice   mended   broken")
print(f"{'the student':<14} {mean_dice(own, y_u):>5.2f}")
for name, answer in answers.items():
    wrong = own != y_u
    mended = (answer == y_u)[wrong].float().mean()
    broken = (answer != y_u)[~wrong].float().mean()
    print(f"{name:<14} {mean_dice(answer, y_u):>5.2f} {mended:>8.0%} {broken:>8.1%}")

# %% tags=["guess"]
copied = show(
    figures.questions,
    [asked(i, answer, name) for i in (order[0], order[len(order) // 2]) for name, answer in answers.items()],
    alt="Two unlabelled lesions with the student's map as prompt, asked of three SAMs: the pretrained one, the one "
    "that learned with clean maps, whose answer follows the prompt's outline, and the one that learned with rough maps, "
    "whose answer comes closer to the truth.",
)

# %% [markdown]
# Compare each row with SAM as it was. The one that learned from clean maps got *worse* on the images that
# count: it mends clearly less, because it has learned that its question is right. In the picture
# its answers keep closer to the light blue line. With roughened maps SAM keeps looking. But be fair: on the
# student's maps it is no better than before it learned; it has merely not been spoiled. Whether it gains
# something on other maps comes in the next section.
#
# Nothing in the training gives the copying away. On the labelled images the copier even looks best:

# %%
with torch.no_grad():
    for name, net in sams.items():
        fitted = with_parts(net, net.encode(x_l), z_l, "both").argmax(dim=1)
        print(f"{name:<14} Dice on the labelled images {mean_dice(fitted, y_l):.2f}")

# %% [markdown]
# ## Put together, and ablate one thing: mask, tokens, or both
#
# SAM now has two askers. What does each contribute? Three SAMs learn from the same 8 labels and roughened
# maps, with the mask prompt alone, with LPS's tokens alone, and with both. (Two seeds each; one at the budget
# `ci`.) Then we ask them with the student's map, and with rough and good maps of known quality: the truth,
# spoiled to a Dice of about 0.3 to 0.9, as worse and better students might draw it. Expect fifteen to sixty
# seconds.


# %%
def drawn_badly(quality: float) -> Tensor:
    """Logits (N, 2, 64, 64) of a student whose maps of the unlabelled images have about this Dice."""
    masks = [spoil_to(t.numpy() == 1, np.random.default_rng(i), quality) for i, t in enumerate(y_u)]
    z = F.one_hot(torch.stack([torch.from_numpy(m) for m in masks]).long(), 2).movedim(-1, 1)
    soft = F.avg_pool2d(z.float(), 3, stride=1, padding=1, count_include_pad=False)
    return 6 * (soft - 0.5)


maps = {"student's": z_u} | {f"about {quality}": drawn_badly(quality) for quality in (0.3, 0.5, 0.7, 0.9)}
itself = [mean_dice(z.argmax(dim=1), y_u) for z in maps.values()]

# %% tags=["training"]
seeds = budget(smoke=(0,), ci=(0,), laptop=(0, 1), gpu=(0, 1))
rows = {}
for use in ("mask", "tokens", "both"):
    for seed in seeds:
        net = sams["rough maps"] if (use, seed) == ("both", 0) else trained(use, seed=seed)
        rows[use, seed] = [mean_dice(answer, y_u) for answer in told(net, *maps.values(), use=use)]
print(f"{'map, Dice':<16}", " ".join(f"{name:>10}" for name in maps))
before = [mean_dice(answer, y_u) for answer in told(sam, *maps.values(), use="mask")]
for name, row in {"the map itself": itself, "SAM as it was": before}.items():
    print(f"{name:<16}", " ".join(f"{value:>10.2f}" for value in row))
for (use, seed), row in rows.items():
    print(f"{use + f', seed {seed}':<16}", " ".join(f"{value:>10.2f}" for value in row))

# %% tags=["guess"]
uses = ("mask", "tokens", "both")
means = {use: np.mean([rows[use, seed] for seed in seeds], axis=0)[1:] for use in uses}  # no student's map
fates = show(
    figures.trends,
    {use: (itself[1:], mean) for use, mean in means.items()} | {"the map itself": (itself[1:], itself[1:])},
    references=["the map itself"],
    title="Dice of SAM's answer, mean over the seeds",
    xlabel="Dice of the map with which it is asked",
    alt="Dice of SAM's answer over the Dice of the map that it is asked with, from 0.3 to 0.9. Tokens alone: a "
    "level line at about 0.65. Mask alone and both rise with the map and stay above it, close to each other: at the "
    "left end they begin near the level line, at the right end they lie far above it, and little above the map itself.",
)

# %% [markdown]
# First compare two seeds of the same choice: what they differ by is the grain of the measurement.
#
# - **Tokens alone** make a SAM that needs nobody: it finds lesions by itself. Its row is level, because the map
#   is not asked. How good it is depends on luck with so few labels: look at its two seeds.
# - **Mask alone** lives on the map: above its question everywhere, and the better, the better the map. Against
#   SAM as it was, one seed gains on the spoiled maps, the other hardly anything.
# - **Both** gains a little on the spoiled maps with either seed, but from the mask alone it differs by no more
#   than the grain. With 8 labels, one foreground class and a small SAM, LPS adds nothing here that could be
#   told from luck.
#
# Asked with the student's own maps, no SAM gains. Smooth noise is a guess at a student's errors, and so is
# spoiling the truth; the real errors have causes in the image. And only for the worst maps, of a Dice of
# about 0.3, do tokens alone do as well as a SAM that is asked with the map: here the mask prompt carries
# the answer.
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) introduces LPS in place of a user's points and boxes. The code that
# its authors published settles the details. The package `knowsam_lite.official` holds that behaviour.
#
# | detail | authors' code | this library |
# |---|---|---|
# | network of a class | as here, two tokens | the same |
# | start of the tokens | random | zero |
# | mask prompt | the raw channel of $z_f$, detached, resized | log-odds, detached, resized |
# | map while SAM learns | as it is | roughened on the labelled half |
# | classes | one pass of the decoder each | one pass for all |
# | gradient into the encoder through LPS | yes | yes |
#
# Two of these can be measured at once, on the teachers themselves:

# %% tags=["compare"]
from knowsam_lite.official.teacher import OfficialTeacher

torch.manual_seed(0)
authors = OfficialTeacher(4, 64, BACKBONES["sam_mini"]).eval()
library = SamTeacher("sam_mini", 4, 64).eval()
embedding = torch.randn(2, 128, 8, 8, generator=torch.Generator().manual_seed(0))
for name, teacher in {"authors": authors, "library": library}.items():
    silent = not teacher.learnable_prompts(embedding).any()
    claims = (teacher.mask_prompts(z_heart) > 0).sum(dim=1)
    print(f"{name}: tokens start at zero: {silent}, pixels claimed twice: {(claims > 1).float().mean():.0%}")

# %% [markdown]
# Which of them matter? Here the roughening decides whether SAM comes out of its training spoiled or not; but
# the training was short, and the images were few. The log-odds save SAM from having to get used to the
# students' offsets; for two classes and a student whose channels sum to about 0, raw channel and log-odds
# differ by a factor of two, which you have seen SAM not to mind. The zero start changes next to nothing for
# `sam_mini`.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. A student gives four classes 0.4, 0.3, 0.2 and 0.1 in a pixel. How many of the four mask prompts are above 0
#    there? (a) all four, (b) two, (c) one, that of the winner, (d) none
# 2. The last layer of each $\psi_c$ is zero. What learns in the first step? (a) nothing, ever, (b) the last
#    layer, and the rest from the next step on, (c) all of LPS, (d) the encoder, through LPS
# 3. Three images, four classes, one pass. How many rows has the decoder's batch? (a) 12, (b) 36, (c) 3,
#    (d) 4
# 4. Who does not learn from SAM's supervised loss? (a) LPS, (b) the decoder's adapters, (c) the students,
#    (d) the encoder's adapters
# 5. SAM learns on images that the students know by heart. What does it learn, if nothing is done? (a) to
#    ignore the map, (b) to find what the map lacks, (c) nothing, (d) to copy the map

# %%
quiz("07", ["d", "b", "a", "c", "d"])

# %% [markdown]
# ## Recap
#
# - Nobody draws a box. The students' map becomes a **mask prompt** per class, as log-odds against all others:
#   a yes-or-no question, which a constant does not change.
# - **LPS** writes two tokens per class from SAM's own embedding. They start at zero and learn from SAM's loss.
# - All classes are rows of **one pass**: the same answer as a loop, and no pairing of images with questions
#   that belong to others.
# - SAM's loss teaches **LPS and the adapters**, the encoder's by two roads, and never the students.
# - A question that contains the answer teaches **copying**. Roughened maps teach mending.
#
# **Next:** SAM can be asked, and answers better than it was asked. Chapter 08 carries the answer back to the
# students.

# %%
check.report()
