# %% [markdown]
# # 06 · SAM and its adapter
#
# {{badges}}
#
# SAM, the *Segment Anything Model*, has seen more masks than anyone could draw in a lifetime. What you have
# is a handful of labelled images and a small computer. How do you teach SAM your task without owning the
# machine on which it was trained, and without spoiling what it knows? You leave it as it is and put
# something small and new beside it: an **adapter**. In this chapter you take SAM apart, build the adapter
# and the block that carries it, and let the whole answer many questions at once.
#
# | | |
# |---|---|
# | **You will** | encode a click as SAM does; freeze a network; build an adapter that starts as if it were not there; put it into SAM's encoder; spare the padding of SAM's windows; answer all prompts of all images in one pass; adapt SAM with 16 images |
# | **You need** | PyTorch modules, softmax; no transformer and no other chapter |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: about a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition
from torch import Tensor, nn

from knowsam_lite import Synthetic, figures
from knowsam_lite.course.chapters.ch06 import e2_freezing, e6_all_prompts_at_once
from knowsam_lite.course.explorers import prompts
from knowsam_lite.data.transforms import to_tensor
from knowsam_lite.metrics import dice
from knowsam_lite.sam import BACKBONES, PromptedSam, SamTeacher, adapter, encoder, load_pretrained
from knowsam_lite.sam.card import shapes_cases
from knowsam_lite.sam.degrade import spoil_to
from knowsam_lite.sam.preprocessing import MeanStd
from knowsam_lite.sam.pretrain import mask_loss

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. SAM gets the fused map $z_f$ of the students
# as a prompt, and its answer $z_s$ teaches them. It is the largest block by far, and the only one that comes
# pretrained. (The learned prompts are for chapter 07.)

# %%
drawn = show(
    figures.pipeline,
    lit="SAM",
    alt="Map of KnowSAM: images go to U-Net and V-Net, their logits to HAM, its fused map to SAM, which is "
    "highlighted; learned prompts enter SAM from above, and its answer goes to the distillation.",
)

# %% [markdown]
# ## Why
#
# We use `sam_mini`, the small SAM that ships with this library. It was trained on random shapes, one thing
# per prompt. We draw a box and ask it about three kinds of images: a shape like those it knows, a skin
# lesion, and a tissue full of glands, where we want *all* glands. The images are drawn in grey, so that the
# purple of SAM's answer stands out.


# %%
def box_around(mask: Tensor) -> Tensor:
    """The box x0, y0, x1, y1 (4,) around a bool mask (H, W)."""
    ys, xs = mask.nonzero(as_tuple=True)
    return torch.stack([xs.min(), ys.min(), xs.max(), ys.max()]).float()


def stack(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, 64, 64), masks (N, 64, 64) and the boxes around them (N, 4) of images with masks."""
    masks = [torch.from_numpy(mask) for _, mask in pairs]
    images = [to_tensor(image) for image, _ in pairs]
    return torch.stack(images), torch.stack(masks), torch.stack([box_around(mask) for mask in masks])


def split(kind: str, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """All foreground of the images of a split."""
    data = Synthetic(kind, seed=0, n=64, size=64)
    return stack([(data.image(record), data.mask(record) > 0) for record in data.split(name)])


shapes = stack(list(shapes_cases(32, 64)))  # one object per image
tests = {"shape": shapes, "lesion": split("dermoscopy", "test"), "glands": split("histology", "test")}


def fresh_sam(seed: int) -> PromptedSam:
    """`sam_mini` with adapters that have learned nothing; `seed` draws the weights that start at random."""
    torch.manual_seed(seed)
    net = PromptedSam(BACKBONES["sam_mini"], image_size=64).eval()
    load_pretrained(net)
    return net


sam = fresh_sam(0)


# %%
def ask_boxes(net: PromptedSam, x: Tensor, boxes: Tensor) -> Tensor:
    """One box per image: images (N, 3, S, S), boxes (N, 4) -> mask logits (N, S, S)."""
    z = net.segment(net.encode(x), boxes=boxes.unsqueeze(1))  # (N, 1, 4g, 4g)
    return F.interpolate(z, x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def score(net: PromptedSam, x: Tensor, y: Tensor, boxes: Tensor) -> float:
    """Mean Dice of the answers to one box per image."""
    with torch.no_grad():
        answers = ask_boxes(net, x, boxes) > 0
    return float(np.mean([dice(a.numpy(), t.numpy()) for a, t in zip(answers, y, strict=True)]))


def picture(x: Tensor) -> np.ndarray:
    """An image (3, S, S) in [0, 1] as uint8 (S, S, 3)."""
    return (x * 255).round().byte().movedim(0, -1).numpy()


def asked(net: PromptedSam, name: str, i: int) -> dict:
    """Test image i of a kind with its box and the net's answer, to be drawn."""
    x, y, boxes = (t[i : i + 1] for t in tests[name])
    with torch.no_grad():
        answer = ask_boxes(net, x, boxes)[0] > 0
    case = {"id": name, "image": picture(x[0]), "truth": y[0].numpy()}
    return {**case, "box": boxes[0].tolist(), "answer": answer.numpy()}


known = show(
    figures.questions,
    [asked(sam, name, 1) for name in tests],
    alt="Three images with a box and SAM's answer: a shape and a lesion, where the answer follows the truth, and "
    "a tissue with many glands, where it covers nearly everything inside the box.",
)
for name, cases in tests.items():
    print(f"{name:<7} mean Dice of {len(cases[0])} test images {score(sam, *cases):.2f}")

# %% [markdown]
# Shapes and lesions are things, and SAM finds them. "All glands" is not a thing, and SAM was never told that
# a box could mean that. It has to *learn* something, from few labels and without forgetting the rest. This
# is what adapters are for. At the end of the chapter we come back to these glands.
#
# ## Words of a transformer
#
# SAM is no U-Net but a *transformer*. Six words of it in a sentence each:
#
# - A **token** is one vector of D channels; SAM cuts the image into square patches and makes a token of each.
# - **LayerNorm**, LN, brings the channels of each token to mean 0 and variance 1, then scales and shifts each
#   channel by learned numbers.
# - **GELU** is a ReLU with a rounded corner.
# - An **MLP** is two linear layers with a GELU between them, for each token alone.
# - **Attention** lets tokens look at each other: each gives a *query*, a *key* and a *value*, and gets the
#   mean of all values, weighted by a softmax over how well its query fits their keys.
# - A **residual** adds a layer's input to its output, so that the layer only has to say what should change.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $E(x)$ | embedding: what the encoder makes of an image | `sam.encode(x)` | (N, D, g, g) |
# | $e(x, y)$ | code of a point | `encode_points(points, size, waves)` | (P, D) |
# | $z$ | mask logits, one mask for each of K prompts | `sam.segment(embedding, ...)` | (N, K, 4g, 4g) |
# | $A(x) = x + W_{up}\,\mathrm{GELU}(W_{down}\,x)$ | adapter with its skip | `Adapter(dim, skip=True)` | (..., D) |
# | $A'(x) = W_{up}\,\mathrm{GELU}(W_{down}\,x)$ | adapter without | `Adapter(dim, skip=False)` | (..., D) |
# | $x \leftarrow x + A(\mathrm{attn}(\mathrm{LN}_1 x))$ | first half of an adapted block | `AdapterBlock` | (N, g, g, D) |
# | $x \leftarrow x + \mathrm{MLP}(\mathrm{LN}_2 x) + \frac12 A'(\mathrm{LN}_2 x)$ | second half | `AdapterBlock` | (N, g, g, D) |
#
# $g$ is the number of tokens along a side, the image size divided by the patch size. D is the width of the
# tokens at hand: in `sam_mini` 128 everywhere; in SAM ViT-B, the smallest SAM that was published, 768 inside
# the encoder and 256 behind it.
#
# ## Step 1: prompts
#
# **Idea.** SAM has three parts:

# %%
weights = {}  # of each part: those that came pretrained, and those of its adapters
for name in ("image encoder", "prompt encoder", "mask decoder"):
    named = dict(getattr(sam, name.replace(" ", "_")).named_parameters())
    new = sum(p.numel() for key, p in named.items() if "adapter" in key)
    weights[name] = sum(p.numel() for p in named.values()) - new, new
drawn = show(
    figures.sam_parts,
    weights,
    alt="SAM's parts: the image encoder makes an embedding of the image; the prompt encoder makes sparse tokens of "
    "points and boxes and a dense map of a mask; the mask decoder takes all three and gives mask logits. All are "
    "frozen; encoder and decoder carry small adapters that learn.",
)

# %% [markdown]
# The encoder is the expensive part, and no arrow leads from the question to it: a second question about the
# same image is nearly free. A question takes two forms: *sparse* prompts are a list of T tokens, *dense* ones
# a map on the grid of the embedding. Purple is all that will learn; the numbers count `sam_mini`'s weights.
#
# **Smallest example.** What becomes of one question, without N and K?

# %% tags=["compare"]
point = torch.tensor([[[20.0, 40.0]]]), torch.ones(1, 1)  # (1, P, 2) as x, y in pixels, and 1 for inside
box = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
rough = torch.zeros(1, 1, 32, 32)
for name, asks in {
    "a point": {"points": point, "boxes": None, "masks": None},
    "a box": {"points": None, "boxes": box, "masks": None},
    "a mask": {"points": None, "boxes": None, "masks": rough},
    "point and box": {"points": point, "boxes": box, "masks": None},
}.items():
    with torch.no_grad():
        sparse, dense = sam.prompt_encoder(**asks)
    print(f"{name:<14} sparse {tuple(sparse.shape)}   dense {tuple(dense.shape)}")

# %% [markdown]
# A box is two tokens, its corners. A point is one; without a box, SAM adds one more that says "no further
# point". A mask is no token at all: small convolutions shrink it to the grid of the embedding. Where no mask
# is given, a learned constant takes its place, which is why the dense prompt is always there.
#
# **How is a place written as a vector?** Two numbers from 0 to 63 would be a poor token: a network can
# hardly tell 20 from 21. SAM uses waves. It moves the image to the square from −1 to 1, takes D/2 random
# directions and frequencies, the columns of a fixed matrix $G$, and writes down the sine and cosine of each
# wave at that place. To the result it adds a learned vector that says what the point is: inside, outside,
# first corner, second corner.
#
# ### Exercise 06.1: where a point is
#
# Difficulty 2 of 5 · importance 3 of 5 · 8 minutes
#
# Write `encode_points(points, size, waves)`: points (P, 2) as x, y in pixels, the image's size in pixels a
# side, and the matrix $G$ (2, D/2) in; their codes (P, D) out, all sines before all cosines. Pixel 0 reaches
# from 0 to 1, so the middle of a pixel lies at its number plus one half. Leave the given points as they are.
#
# <details><summary>Hint</summary>
#
# 1. `u = 2 * (points + 0.5) / size - 1` brings the middle of each pixel into the square from −1 to 1, and
#    makes a new tensor.
# 2. The angles of all waves are `2 * math.pi * u @ waves`, (P, D/2). The order (x, y) stays as it is.
# 3. `torch.cat([...], dim=-1)` joins sines and cosines.
#
# </details>
#
# $$u = \frac{2\,\big((x, y) + \frac12\big)}{S} - 1, \qquad e(x, y) = \big[\sin(2\pi\, u G),\; \cos(2\pi\, u G)\big]$$


# %% tags=["exercise"]
# blank: encode_points
def encode_points(points: Tensor, size: int, waves: Tensor) -> Tensor:
    """Points (P, 2) as x, y in pixels of an image of `size`, matrix G (2, D/2) -> codes (P, D)."""
    u = 2 * (points + 0.5) / size - 1
    angles = 2 * math.pi * u @ waves
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


# %%
check("06.1", encode_points)

# %% [markdown]
# **Look.** What is such a code good for? Compare the code of one point with those of all places: the
# scalar product, divided by its largest value. In the figure, light is alike. (From here on figures use the
# library's functions, so an unfinished exercise never stops you.)

# %% tags=["compare"]
layer = sam.prompt_encoder.pe_layer
everywhere = layer((64, 64))  # (D, 64, 64): the code of every pixel's middle
alike = {}
for x, y in ((20, 40), (32, 32), (60, 5)):
    code = layer.forward_with_coords(torch.tensor([[[x + 0.5, y + 0.5]]]), (64, 64))[0, 0]
    alike[f"x {x}, y {y}"] = torch.einsum("d,dhw->hw", code, everywhere) / code.square().sum()
    row, column = divmod(int(alike[f"x {x}, y {y}"].argmax()), 64)
    print(f"code of x {x:>2}, y {y:>2}: most alike at x {column:>2}, y {row:>2}")
maps = show(
    figures.panels,
    [{name: values.clamp(0, 1) for name, values in alike.items()}],
    ends=("0 unlike", "1 the same"),
    alt="Three maps, one per point: each is dark with one bright spot where the point is, about ten pixels wide, "
    "and faint ripples around it.",
)

# %% [markdown]
# One bright spot, where the point is: a decoder that compares codes can look at the clicked place and its
# neighbourhood, and no training was needed for that.
#
# ### Play: the prompt explorer
#
# Run the next cell and ask SAM yourself: click for a point, drag for a box, add a rough mask.
# (On a page that nobody runs, six questions stand in.) Try a point on the border; a box around half of the lesion; the
# rough mask with a point outside on one of its islands; and every prompt you can think of for all glands.

# %%
lesions, tissues = tests["lesion"], tests["glands"]
offered = []
for name, (x, y, _) in {"lesion": lesions, "glands": tissues}.items():
    for i in (1, 2, 3):
        with torch.no_grad():
            case = {"id": f"{name} {i}", "image": picture(x[i]), "embedding": sam.encode(x[i : i + 1])}
        spoiled = spoil_to(y[i].numpy(), np.random.default_rng(i), 0.7)
        offered.append({**case, "truth": y[i].numpy(), "mask": spoiled})

case, corners = offered[0], lesions[2][1].tolist()
centre = [(corners[0] + corners[2]) / 2, (corners[1] + corners[3]) / 2]
settings = {
    "a point": {"points": [(*centre, True)]},
    "one more outside": {"points": [(*centre, True), (corners[0], corners[1], False)]},
    "a box": {"box": corners},
    "half a box": {"box": [corners[0], corners[1], centre[0], corners[3]]},
    "a rough mask": {"mask": case["mask"]},
    "mask and box": {"mask": case["mask"], "box": corners},
}
still = [{**prompts.answered(sam, case, question), "id": name} for name, question in settings.items()]
explored = prompts.explore(
    sam,
    offered,
    still,
    alt="One lesion asked about in six ways: a point inside, one more point outside, a box, a box around its left "
    "half, a rough mask, and mask with box; SAM's answer and its Dice in each picture.",
)

# %% [markdown]
# Look twice at two questions about `lesion 1`. A box around its left half says that the lesion ends where it
# plainly goes on, and SAM believes it. Mask and box together do worse than the mask alone: a question that `sam_mini`
# never met in its training.
#
# ## Step 2: freezing
#
# **Idea.** SAM ViT-B has 91 million parameters; fine-tuned on 16 images, it would learn them by heart. So we
# *freeze* what is pretrained: no gradient, no place in the optimizer, no change. New, small parts learn in its
# stead.
#
# **Smallest example.** Frozen is not the same as cut off. Three layers, the middle one frozen:

# %% tags=["compare"]
torch.manual_seed(0)
first, middle, last = (nn.Linear(4, 4) for _ in range(3))
middle.requires_grad_(False)
last(middle(first(torch.ones(1, 4)))).sum().backward()
for name, module in {"first": first, "middle": middle, "last": last}.items():
    print(f"{name:<7} has a gradient: {module.weight.grad is not None}")

# %% [markdown]
# The gradient passes *through* the frozen layer to the first one. It has to, or nothing before a frozen
# layer could learn. `torch.no_grad()` around the middle layer would have cut it.
#
# **What it saves.** AdamW keeps two numbers for every parameter, a mean of the gradient and one of its
# square. With weight and gradient that makes four numbers for one that learns:

# %% tags=["compare"]
frozen_sam = copy.deepcopy(sam)
choices = {"everything": list(sam.parameters()), "the adapters": e2_freezing.only_adapters(frozen_sam)}
for name, weights in choices.items():
    count = sum(p.numel() for p in weights)
    print(f"{name:<13} {count / 1e6:5.2f} million learn: gradients and AdamW take {12 * count / 1e6:5.1f} MB")

# %% [markdown]
# It is also a matter of what you store: a checkpoint of an adapted SAM needs the adapters only.
#
# ### Exercise 06.2: freeze
#
# Difficulty 2 of 5 · importance 5 of 5 · 6 minutes
#
# Write `freeze(net)`: stop the gradients of everything in `net` except its adapters, make sure that these do
# take gradients, and return the list of the adapters' parameters, each once, for the optimizer. The net may
# come with or without gradients; leave its training mode alone. The first line of the cell imports the
# library's `Adapter`.
#
# <details><summary>Hint</summary>
#
# 1. `net.requires_grad_(False)` stops the gradients of a module and of all inside it. The underscore matters.
# 2. `net.modules()` walks through all modules at every depth. `isinstance(module, Adapter)` tells what a
#    module is; its name does not. Wake those up again with `requires_grad_(True)`.
# 3. Return only parameters of adapters: now they are the ones with `p.requires_grad`.
#
# </details>
#
# $$\nabla_\theta = 0 \text{ for pretrained } \theta, \qquad \theta_A \leftarrow \theta_A - \eta \, \nabla_{\theta_A} L \text{ for adapters}$$


# %% tags=["exercise"]
# blank: freeze
from knowsam_lite.sam import Adapter


def freeze(net: nn.Module) -> list[nn.Parameter]:
    """Stop the gradients of all but the adapters; returns the adapters' parameters."""
    net.requires_grad_(False)
    for module in net.modules():
        if isinstance(module, Adapter):
            module.requires_grad_(True)
    return [p for p in net.parameters() if p.requires_grad]


# %%
check("06.2", freeze)

# %% [markdown]
# **Look.** Freezing saves optimizer memory. Does it save the other large part, the activations that the
# backward pass needs? We count what autograd keeps for one forward pass of 16 images:

# %%
print("what learns             activations kept")
for name in ("everything", "all adapters", "the decoder's adapters", "nothing"):
    net = copy.deepcopy(sam).requires_grad_(name == "everything")
    if "adapters" in name:
        e2_freezing.only_adapters(net.mask_decoder if "decoder" in name else net)
    kept = e6_all_prompts_at_once.saved_bytes(net, lambda net=net: ask_boxes(net, tissues[0], tissues[2]))
    print(f"{name:<23} {kept / 1e6:>10.0f} MB")

# %% [markdown]
# Less than one might hope. An adapter in the first block learns only if the gradient comes back through all
# blocks behind it, and their attention and norms need their inputs for that. If only the decoder learned,
# the encoder would run without any graph. At the end we measure whether adapting early is worth its price.
#
# ## Step 3: the adapter
#
# **Idea.** Beside a frozen layer, put a small detour: squeeze the token to a quarter of its channels, apply
# a GELU, stretch it back. Such a *bottleneck* is small: it has about $D^2/2$ weights, where an MLP of a
# transformer has $8 D^2$.
#
# How should it start? Anything random would disturb a network that works. So its last layer starts at
# **zero**: a fresh adapter with a skip is the identity, and one without adds nothing. Training then begins at
# the pretrained SAM, exactly.
#
# **Smallest example.** One channel in, one inside, one out: $A(x) = x + w_{up}\,\mathrm{GELU}(w_{down}\,x)$.
# Where does the gradient go while $w_{up}$ is zero?

# %% tags=["compare"]
x = torch.tensor(2.0)
w_down, w_up = torch.tensor(0.5, requires_grad=True), torch.tensor(0.0, requires_grad=True)
for step in range(3):
    loss = (x + w_up * F.gelu(w_down * x) - 3) ** 2  # the answer should be 3
    down, up = torch.autograd.grad(loss, (w_down, w_up))
    print(f"step {step}: loss {loss.item():.2f}, gradient of w_down {down + 0:+.2f}, of w_up {up:+.2f}")
    with torch.no_grad():
        w_down -= 0.1 * down
        w_up -= 0.1 * up

# %% [markdown]
# In the first step only $w_{up}$ learns. From the second step on both do. Had both started at zero, neither
# would ever move: each one's gradient is a product with the other.
#
# ### Exercise 06.3: the adapter
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write the class `Adapter`. `__init__(dim, skip)` makes the layers `down`, from `dim` to a quarter of it,
# and `up`, back again, both `nn.Linear` with bias; the adapter must start as described above. `forward(x)`
# takes tokens (..., D) and returns the same shape, with the skip or without.
#
# <details><summary>Hint</summary>
#
# 1. Begin with `super().__init__()` and remember `skip`. The inner width is `dim // 4`; both layers are
#    attributes, `self.down` and `self.up`.
# 2. `nn.init.zeros_(tensor)` sets a parameter to zero. Do so with weight *and* bias of `up`, and with nothing
#    of `down`.
# 3. `F.gelu` stands between the layers. Only if `self.skip` is true is `x` added.
#
# </details>
#
# $$A(x) = x + W_{up}\, \mathrm{GELU}(W_{down}\, x), \qquad W_{up} = 0 \text{ at the start}$$

# %% tags=["exercise"]
# library: knowsam_lite.sam.adapter.Adapter
# blank: Adapter.__init__
# blank: Adapter.forward

# %%
check("06.3", Adapter)

# %% [markdown]
# **Look.** How much of a SAM is new? The device `meta` gives shapes without numbers, so we can afford the
# large ones, which have up to 636 million weights:

# %% tags=["compare"]
counts = {}
for name in ("sam_mini", "sam_vit_b", "sam_vit_l", "sam_vit_h"):
    with torch.device("meta"):
        large = PromptedSam(BACKBONES[name], 256)
    new = sum(p.numel() for p in e2_freezing.only_adapters(large))
    counts[name] = new, sum(p.numel() for p in large.parameters()) - new
    print(
        f"{name:<10} pretrained {counts[name][1] / 1e6:6.1f} million   adapters {new / 1e6:5.2f} million",
        end="",
    )
    print(f"   {new / counts[name][1]:.0%}")

# %% [markdown]
# ## Step 4: where it sits
#
# **Idea.** SAM's encoder is a chain of blocks with two halves, attention and MLP. KnowSAM gives both an
# adapter:

# %%
drawn = show(
    figures.adapted_block,
    alt="A transformer block from left to right: LayerNorm, attention and behind it the space adapter with its own "
    "skip, added to the block's input; then LayerNorm, the MLP and beside it the MLP adapter times one half, both "
    "added to what came in. Only the two adapters learn.",
)

# %% [markdown]
# See where the purple parts hang. The **space adapter** stands *behind* the attention and has a skip: what the
# attention says is passed on and corrected. The **MLP adapter** stands *beside* the MLP and has none: it adds
# something of its own, with weight one half.
#
# **Smallest example.** Why must the first have a skip and the second not? Take fresh adapters, and let the
# attention answer 2 and the MLP 3, for a token of value 1:

# %% tags=["compare"]
token, attention, mlp, fresh = 1.0, 2.0, 3.0, 0.0  # fresh: what the bottleneck of a new adapter says
print("plain block                             ", token + attention + mlp)
print("space adapter with, MLP adapter without ", token + (attention + fresh) + mlp + 0.5 * fresh)
print("neither has a skip                      ", token + fresh + mlp + 0.5 * fresh)
print("both have one                           ", token + attention + mlp + 0.5 * (token + attention + fresh))

# %% [markdown]
# Only the right choice leaves the block as it was. (Norms are left out here.)
#
# ### Exercise 06.4: a block with adapters
#
# Difficulty 3 of 5 · importance 5 of 5 · 8 minutes
#
# Write `forward`, from tokens (N, g, g, D) to tokens. Given are `attend`, which is $\mathrm{LN}_1$ and
# attention in one, and the layers `norm2`, `mlp`, `space_adapter` and `mlp_adapter`. (Windows come in step 5.)
#
# <details><summary>Hint</summary>
#
# 1. First line: `self.attend(x)` goes through `self.space_adapter`, and the result is added to `x`.
# 2. Second line: normalize the *new* `x` once, with `self.norm2`. Both `self.mlp` and `self.mlp_adapter`
#    read these normed tokens; both answers are added to `x`, the adapter's with factor 0.5.
#
# </details>
#
# $$x \leftarrow x + A(\mathrm{attn}(\mathrm{LN}_1 x)), \qquad x \leftarrow x + \mathrm{MLP}(\mathrm{LN}_2 x) + \tfrac12 A'(\mathrm{LN}_2 x)$$


# %% tags=["exercise"]
# blank: AdapterBlock.forward
class AdapterBlock(Block):
    """A transformer block of SAM with its two adapters: tokens (N, g, g, D) -> (N, g, g, D)."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, input_size: tuple[int, int], use_rel_pos: bool
    ):
        norm = partial(nn.LayerNorm, eps=1e-6)
        sizes = {"window_size": window_size, "input_size": input_size}
        super().__init__(dim, num_heads, norm_layer=norm, use_rel_pos=use_rel_pos, **sizes)
        self.space_adapter = adapter.Adapter(dim, skip=True)
        self.mlp_adapter = adapter.Adapter(dim, skip=False)

    def attend(self, x: Tensor) -> Tensor:
        """LN 1, then attention, inside windows if the block has any."""
        x = self.norm1(x)
        if not self.window_size:
            return self.attn(x)
        windows, padded = window_partition(x, self.window_size)
        return window_unpartition(self.attn(windows), self.window_size, padded, x.shape[1:3])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.space_adapter(self.attend(x))
        normed = self.norm2(x)
        return x + self.mlp(normed) + 0.5 * self.mlp_adapter(normed)


# %%
check("06.4", AdapterBlock)

# %% [markdown]
# **Look.** Is SAM with fresh adapters still SAM? We load the weights of one of its blocks into
# `segment_anything`'s own, which knows no adapters, and compare on a lesion's tokens:

# %% tags=["compare"]
ours = sam.image_encoder.blocks[0]
theirs = Block(128, 4, norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, input_size=(8, 8)).eval()
extra = ours.state_dict().keys() - theirs.state_dict().keys()
theirs.load_state_dict({name: t for name, t in ours.state_dict().items() if name not in extra})
with torch.no_grad():
    tokens = sam.image_encoder.patch_embed(sam.preprocessing(lesions[0]))  # (N, 8, 8, 128)
    same = torch.allclose(ours(tokens), theirs(tokens), atol=1e-4)
print("tokens", tuple(tokens.shape), " tensors that are new:", len(extra))
print("fresh adapters change nothing:", same)

# %% [markdown]
# If a change of yours ever breaks the loading of weights, this test of two lines tells you.
#
# ## Step 5: windows and relative positions
#
# Inside `attend` hide two things that every SAM of full size has.
#
# **Relative positions.** Attention compares queries with keys and knows nothing of places. SAM therefore
# adds to each score a number that depends on how far the key lies from the query, in rows and in columns.
# These come from learned tables, two per block: for a side of $s$ tokens the distance runs from $-(s-1)$ to
# $s-1$, which makes $2s - 1$ rows. Look one up for three tokens, with a table that simply holds its
# distances:

# %% tags=["compare"]
from knowsam_lite.sam.attention import relative_positions
from knowsam_lite.sam.encoder import parts

table = torch.arange(-2.0, 3.0).view(5, 1)  # (2 s - 1, channels) with s = 3 and one channel
print(relative_positions(table, 3).squeeze(-1).int().tolist())
print("resized for five tokens:", [round(v, 1) for v in relative_positions(table, 5)[:, 0, 0].tolist()])

# %% [markdown]
# Row $i$, column $j$ holds $i - j$. For another image size the table is stretched, as in the second line, and
# nothing has to be trained anew.
#
# **Windows.** Comparing all tokens with all is expensive: 64 × 64 tokens make 17 million pairs. So most blocks of
# SAM attend only inside *windows* of 14 × 14 tokens. A side that is no multiple of 14 is filled up with
# zeros. At KnowSAM's 256 pixels SAM ViT-B has 16 × 16 tokens:

# %% tags=["compare"]
sides = parts(16, 14)  # start, stop and tokens of each window along a side
print("along a side:", sides)
real = padded = 0
for top, bottom, h in sides:
    for left, right, w in sides:
        real, padded = real + h * w, padded + 14 * 14 - h * w
        print(
            f"rows {top:>2} to {bottom}, columns {left:>2} to {right}: {h * w:>3} tokens, {14 * 14 - h * w:>3} padded"
        )
print(f"together {real} tokens and {padded} padded: {padded / (real + padded):.0%} of the work is padding")

# %% [markdown]
# The answers at padded places are thrown away, so they need not be computed. But as *keys* they matter: real
# tokens attend to them, and the pretrained weights expect it. Must we compute 192 equal keys for the window in
# the corner? No: $n$ equal keys have equal scores and values, so in the softmax they act as one key that counts
# $n$ times:
#
# $$\sum_{i=1}^{n} e^{q \cdot k} = n\, e^{q \cdot k} = e^{q \cdot k + \log n}$$
#
# ### Exercise 06.5: one key for many
#
# Difficulty 3 of 5 · importance 3 of 5 · 9 minutes
#
# Write `merged_attention(q, k, v, n)`: queries (L, D), keys and values (M, D), of which the first stands for
# `n` equal ones. The answer (L, D) must be what plain attention gives if the first key and value are written
# down `n` times.
#
# <details><summary>Hint</summary>
#
# 1. The scores of plain attention are `q @ k.T / math.sqrt(q.shape[-1])`, (L, M).
# 2. Only column 0 changes: `math.log(n)` is added to it, after the division. The value stays as it is.
# 3. `softmax(dim=-1)` runs over the keys; then `@ v`.
#
# </details>
#
# $$\mathrm{out} = \mathrm{softmax}\Big(\frac{q k^\top}{\sqrt D} + [\log n, 0, \dots, 0]\Big)\, v$$


# %% tags=["exercise"]
# blank: merged_attention
def merged_attention(q: Tensor, k: Tensor, v: Tensor, n: int) -> Tensor:
    """Attention of queries (L, D) to keys and values (M, D), the first of which counts n times -> (L, D)."""
    scores = q @ k.T / math.sqrt(q.shape[-1])
    scores[:, 0] = scores[:, 0] + math.log(n)
    return scores.softmax(dim=-1) @ v


# %%
check("06.5", merged_attention)

# %% [markdown]
# **Look.** The library does this for real blocks, where the padded places have different relative positions,
# too; then $\log n$ becomes the logarithm of a sum of exponentials. One block with the sizes of SAM ViT-B
# against `segment_anything`'s, which pads:

# %% tags=["compare"]
torch.manual_seed(0)
theirs = Block(
    768, 12, norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=14, input_size=(14, 14)
).eval()
for table in (theirs.attn.rel_pos_h, theirs.attn.rel_pos_w):
    nn.init.normal_(table, std=0.1)  # they start at zero; a pretrained SAM has others
ours = encoder.AdapterBlock(768, 12, 14, (14, 14), True).eval()
ours.load_state_dict(theirs.state_dict(), strict=False)
tokens = torch.randn(1, 16, 16, 768)
with torch.no_grad():
    print("the same answer:", torch.allclose(ours(tokens), theirs(tokens), atol=1e-4))

# %% [markdown]
# ## Step 6: all prompts at once
#
# **Idea.** The decoder takes the tokens of a prompt, puts five of its own in front (one that judges masks,
# four that make masks), and lets them and the image look at each other. Then one mask token is turned into
# a small vector, and each pixel whose features point the same way belongs to the mask.
#
# `segment_anything`'s decoder was made for *one* image with many prompts. In training we have N images with
# K prompts each; in KnowSAM every class is a prompt. What happens if you hand it a batch?

# %% tags=["compare"]
stock = MaskDecoder(transformer_dim=128, transformer=TwoWayTransformer(2, 128, 8, 512)).eval()
own = {name: t for name, t in sam.mask_decoder.state_dict().items() if "adapter" not in name}
print("the stock decoder takes all weights of ours:", not any(stock.load_state_dict(own)))
embedding, pe = sam.encode(lesions[0][:3]).detach(), sam.prompt_encoder.get_dense_pe()
with torch.no_grad():
    sparse, dense = sam.prompt_encoder(None, lesions[2][:3], None)  # one box for each of three images
for images, asks in ((1, 3), (3, 3)):
    try:
        with torch.no_grad():
            made = stock(embedding[:images], pe, sparse[:asks], dense[:asks], multimask_output=False)[0]
        print(f"{images} image, {asks} prompts: {len(made)} masks")
    except RuntimeError:
        rows = images * asks
        print(
            f"{images} images, {asks} prompts: it repeats every image for every prompt, {rows} rows for {asks}"
        )

# %% [markdown]
# It makes a row of every image with every prompt, and the shapes no longer fit. A loop over images is right
# but slow. A worse way out is to repeat the prompts, too, until the error is gone: then most rows ask one image
# about another one's object. What we want is N · K rows, in which each image meets its own prompts. The class
# below keeps all modules and weights of SAM's decoder and only lays out the rows anew.
#
# ### Exercise 06.6: all prompts at once
#
# Difficulty 4 of 5 · importance 4 of 5 · 12 minutes
#
# Write `forward`. It gets the embedding (N, D, g, g), the positions (1, D, g, g), the sparse prompts
# (N, K, T, D) and the dense ones (N, K, D, g, g), and returns mask logits (N, K, 4g, 4g). Row $iK + j$ is
# prompt $j$ of image $i$. The class has:
#
# | member | what it is |
# |---|---|
# | `self.iou_token.weight` | (1, D), the token that judges masks; it comes first |
# | `self.mask_tokens.weight` | (4, D), the tokens that make masks; they follow, and the prompt's T come last |
# | `self.transformer(image, image_pe, tokens)` | image (NK, D, g, g), positions (1, D, g, g), tokens (NK, 5 + T, D) → tokens of the same shape, pixels (NK, g·g, D) |
# | `self.output_upscaling(pixels)` | pixels as maps (NK, D, g, g) → (NK, D/8, 4g, 4g) |
# | `self.output_hypernetworks_mlps[0]` | the first mask token, which is token 1, (NK, D) → its vector (NK, D/8) |
#
# <details><summary>Hint</summary>
#
# 1. `n, k = sparse.shape[:2]`. Join SAM's own five tokens with `torch.cat`, give them to all rows with
#    `.expand(n * k, -1, -1)`, and put them before `sparse.flatten(0, 1)` along axis 1.
# 2. `embedding.unsqueeze(1) + dense` adds each image's embedding to the dense prompts of that image,
#    (N, K, D, g, g); `flatten(0, 1)` makes rows of it, in the right order.
# 3. The pixels have to become maps again: `transpose(1, 2)`, then `reshape` to the shape that went in.
# 4. `tokens[:, 1]` goes through the MLP to `weights`, and `torch.einsum("md,mdhw->mhw", weights, upscaled)`
#    makes the masks. `unflatten(0, (n, k))` undoes the rows.
#
# </details>
#
# $$z_{ij} = \big\langle \mathrm{MLP}(t_{ij}),\; \mathrm{up}(E(x_i) \text{ after looking at prompt } ij) \big\rangle \quad \text{for each pixel}$$

# %% tags=["compare"]
from knowsam_lite.sam.decoder import AdapterTwoWay

two_way = AdapterTwoWay(2, 128, 8, 512)
print("adapters in the decoder:", sum(isinstance(m, adapter.Adapter) for m in two_way.modules()))

# %% tags=["exercise"]
# library: knowsam_lite.sam.decoder.PromptDecoder
# blank: PromptDecoder.forward

# %%
check("06.6", PromptDecoder)

# %% [markdown]
# **Look.** Six images, four boxes each, once in a loop over the stock decoder and once in a single pass of
# the library's:

# %% tags=["compare"]
images, boxes = (
    lesions[0][:6],
    lesions[2][:6].unsqueeze(1) + torch.tensor([0.0, -3.0, 3.0, 6.0]).view(1, 4, 1),
)
with torch.no_grad():
    embedding = sam.encode(images)
    together = sam.segment(embedding, boxes=boxes)
    alone = []
    for i in range(6):
        sparse, dense = sam.prompt_encoder(None, boxes[i], None)
        alone.append(stock(embedding[i : i + 1], pe, sparse, dense, multimask_output=False)[0][:, 0])
print("boxes", tuple(boxes.shape), " masks", tuple(together.shape))
print("as one by one:", torch.allclose(together, torch.stack(alone), atol=1e-3))

# %% [markdown]
# ## Put together
#
# Back to the glands. We adapt SAM with 16 labelled tissues, once with adapters alone and once with all
# weights free, each with a learning rate that suits it. Both are then asked about test tissues, and about
# shapes, which nobody shows them again. Guess first: which will be better on the glands, which on the
# shapes? The two trainings take up to thirty seconds.

# %%
x_l, y_l, boxes_l = (t[:16] for t in split("histology", "train"))
steps = budget(smoke=0, ci=40, laptop=40, gpu=40)


def adapt(net: PromptedSam, weights: list[nn.Parameter], rate: float, seed: int = 0) -> list[float]:
    """Train these weights of `net` on the 16 labelled tissues, in place; returns the loss of each step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(weights, lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
    curve = []
    for _ in range(steps):
        i = torch.randperm(len(x_l), generator=generator)[:4]
        z = ask_boxes(net, x_l[i], boxes_l[i])
        loss = mask_loss(z.unsqueeze(1), y_l[i].unsqueeze(1).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
    return curve


# %% tags=["training"]
adapted, tuned = copy.deepcopy(sam), copy.deepcopy(sam)
adapt(adapted, e2_freezing.only_adapters(adapted), 3e-3)
adapt(tuned, list(tuned.parameters()), 5e-4)
print("                learned weights   glands   shapes")
for name, net in {"SAM as it was": sam, "adapters": adapted, "all weights": tuned}.items():
    learned = sum(not torch.equal(p, q) for p, q in zip(net.parameters(), sam.parameters(), strict=True))
    print(f"{name:<15} {learned:>7} tensors {score(net, *tissues):>8.2f} {score(net, *tests['shape']):>8.2f}")

# %% tags=["guess"]
after = show(
    figures.questions,
    [
        {**asked(net, "glands", i), "id": name}
        for i in (1, 2)
        for name, net in {"SAM as it was": sam, "adapters": adapted, "all weights": tuned}.items()
    ],
    alt="Two tissues with a box around all glands, asked of three networks: SAM as it was marks nearly all tissue; "
    "with trained adapters, and with all weights trained, the answer comes close to the single glands, closer in the second tissue.",
)

# %% [markdown]
# Read the table by columns. On the glands both trainings gain a lot, and the one with all weights free is
# often ahead: it has seventeen times as many weights to turn. The last column is what that costs: nobody told either
# of them to forget the shapes, and training all weights forgets more. KnowSAM needs what SAM knows of edges
# and shapes, so it keeps that and pays with a little of the gain.
#
# And the frozen weights really are frozen:

# %% tags=["compare"]
before, later = sam.state_dict(), adapted.state_dict()
moved = {name for name in before if not torch.equal(before[name], later[name])}
print("pretrained tensors that moved:", sum("adapter" not in name for name in moved))

# %% [markdown]
# ## Ablate one thing: where the adapters sit
#
# Adapters in the encoder cost memory, as step 2 has shown; those in the decoder are nearly free. Do we need
# both? The same training with a part of the adapters, and three seeds for each choice: a seed decides how the
# adapters start and in which order the images come. Expect ten seconds to a minute.


# %% tags=["training"]
def trained_part(part: str, seed: int) -> float:
    """Dice on the glands after only the adapters of `part` of SAM have learned; "" is all of it."""
    net = fresh_sam(seed).requires_grad_(False)
    adapt(net, e2_freezing.only_adapters(net.get_submodule(part)), 3e-3, seed)
    return score(net, *tissues)


places = {"encoder and decoder": "", "encoder alone": "image_encoder", "decoder alone": "mask_decoder"}
print("adapters in            Dice, seed 0   seed 1   seed 2")
for name, part in places.items():
    one, two, three = (trained_part(part, seed) for seed in range(3))
    print(f"{name:<22} {one:>12.2f} {two:>8.2f} {three:>8.2f}")

# %% [markdown]
# First look along the rows: what the seeds differ by is the grain of the measurement. Both together are best
# with every seed. The encoder alone gains much less, and how much is a matter of luck: with eight seeds it was
# between a twentieth and a half of what both gain. The decoder alone gains nothing. What the frozen encoder
# does not see, no decoder can find; and once it is seen, the decoder still has to learn that a box now means
# all of it.
#
# Something to try: other tissues, with another `seed` in `split`. With some, the adapters gain much less.
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) adapts SAM's encoder with adapters and trains nothing else of it.
# The code that its authors published settles the details; `knowsam_lite.official` behaves like it.
#
# | detail | authors' code | this library |
# |---|---|---|
# | place of the adapters | behind attention, beside the MLP; in the decoder, too | the same |
# | start | random | the last layer at zero |
# | relative positions | dropped | kept, stretched to the image size |
# | decoder's MLPs | renamed, so they stay random, and frozen | loaded |
# | pixel values | divided by 255 | SAM's mean and deviation |
# | padding of windows | normalized zeros | zeros after the norm, as in SAM |
# | checkpoint | names that do not fit are dropped | an error names them |
#
# How much of the published SAM ViT-B is lost on the way in?

# %% tags=["compare"]
from knowsam_lite.official.teacher import OfficialTeacher, never_loaded
from knowsam_lite.sam.weights import pretrained_names

with torch.device("meta"):
    names = pretrained_names(SamTeacher("sam_vit_b", 2, 256))
    authors = OfficialTeacher(2)
lost = [name for name in names if never_loaded(name)]
print(
    f"{len(lost)} of {len(names)} tensors never loaded, {sum('rel_pos' in name for name in lost)} of them tables"
)
unused = [m for name, m in authors.named_modules() if name.endswith("depth_adapter")]
count = sum(p.numel() for m in unused for p in m.parameters())
print(f"{len(unused)} adapters for volumes that no image uses: {count / 1e6:.1f} million parameters")

# %% [markdown]
# **What does each of these do to a SAM that works?** We give `sam_mini` one of the four at a time, train
# nothing, and ask about lesions and shapes again, with boxes:


# %%
def random_start(net: PromptedSam) -> None:
    for module in net.modules():
        if isinstance(module, adapter.Adapter):
            module.up.reset_parameters()


def no_relative_positions(net: PromptedSam) -> None:
    for block in net.image_encoder.blocks:
        block.attn.use_rel_pos = False


def random_mlps(net: PromptedSam) -> None:
    for layer in net.mask_decoder.transformer.layers:
        layer.mlp.lin1.reset_parameters()
        layer.mlp.lin2.reset_parameters()


def over_255(net: PromptedSam) -> None:
    net.preprocessing = MeanStd((0, 0, 0), (255, 255, 255))


harms = {
    "adapters start at random": random_start,
    "no relative positions": no_relative_positions,
    "decoder's MLPs at random": random_mlps,
    "pixels over 255": over_255,
}
print(f"{'detail':<26} lesion   shape")
print(f"{'SAM as it was':<26} {score(sam, *lesions):.2f} {score(sam, *tests['shape']):>8.2f}")
for name, harm in harms.items():
    torch.manual_seed(0)
    harmed = copy.deepcopy(sam)
    harm(harmed)
    print(f"{name:<26} {score(harmed, *lesions):.2f} {score(harmed, *tests['shape']):>8.2f}")

# %% [markdown]
# For `sam_mini` and a box, none of them is a catastrophe: a few hundredths of Dice at most. What they cost a
# large SAM has to be measured there. What the random start takes away in any case is the *certainty* that step
# 0 is SAM, and with it the two-line test of step 4.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. You click a second time on the same image. What has to be computed again? (a) prompt encoder and
#    decoder, (b) everything, (c) the encoder, (d) nothing
# 2. To save memory you run the whole encoder under `torch.no_grad()`. Which adapters still learn? (a) all,
#    (b) none, (c) those of the encoder, (d) those of the decoder
# 3. By mistake the MLP adapter has a skip, and all adapters are fresh. What does the block then add to its
#    tokens that SAM's does not? (a) nothing, (b) $\mathrm{LN}_2 x$, (c) half of $\mathrm{LN}_2 x$, (d) half of
#    the MLP's answer
# 4. A window holds 4 tokens and 192 padded places, and one query finds all keys equally good. How much of its
#    attention goes to the padding? (a) one half, (b) 192 of 196 parts, (c) one fifth, (d) none
# 5. Four images with three prompts each: how many rows do SAM's stock decoder and ours make of the images?
#    (a) 12 and 12, (b) 48 and 48, (c) 12 and 4, (d) 48 and 12

# %%
quiz("06", ["a", "d", "c", "b", "d"])

# %% [markdown]
# ## Recap
#
# - SAM looks once and answers often. Points and boxes become **tokens**, a mask becomes a **map** that is
#   added to the embedding.
# - **Frozen** means without gradient and without a place in the optimizer. Gradients still pass through.
# - An **adapter** is a bottleneck whose last layer starts at zero: step 0 is SAM, and nothing pretrained is
#   ever overwritten. It sits behind the attention, with a skip, and beside the MLP, without.
# - Equal keys merge into one with $\log n$; N images with K prompts each are N · K rows. Both change the cost
#   and not the answer, and a test against `segment_anything` says so.
#
# **Next:** so far somebody had to draw a box. Chapter 07 lets SAM's own features write the prompt, and the
# students draw the mask; all classes are then answered in the one pass that you have just built.

# %%
check.report()
