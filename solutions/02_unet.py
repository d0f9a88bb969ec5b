# %% [markdown]
# # 02 · The U-Net, subnet F_a
#
# {{badges}}
#
# A network that segments has to answer two questions about every pixel: *what* is it, and *where* exactly
# does that end? The first needs a wide view, the second a sharp one, and a plain stack of convolutions
# gives you either. The **U-Net** goes down to a coarse map that sees nearly everything, comes up again, and
# on the way picks up the sharp maps that it passed. In this chapter you build it from four small parts,
# measure what each of its pixels sees, and fall into its two traps on purpose.
#
# | | |
# |---|---|
# | **You will** | measure a receptive field by its gradient; build block, way down and way up; write the soft Dice loss; use the network in the right mode and at any size; take its skips away |
# | **You need** | PyTorch tensors, a convolution, what a gradient is |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: less than a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import copy
import inspect
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite import Synthetic, UNet, UserError, figures, losses, subnets
from knowsam_lite.course.chapters.ch02 import e1_receptive_field
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.losses import UNKNOWN
from knowsam_lite.metrics import dice
from knowsam_lite.subnets import STRIDE, as_image

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. The U-Net is one of the two *subnets*, the
# networks that learn and that are kept in the end. It gets images $x$ and sends *logits* $z_a$ to HAM: one
# number per class and pixel, any real number, before the softmax makes probabilities of them.

# %%
drawn = show(
    figures.pipeline,
    lit="U-Net",
    alt="Map of KnowSAM: images go to U-Net, which is highlighted, and to V-Net; both send logits to HAM, whose "
    "fused map goes to SAM; SAM's answer comes back to both networks by distillation.",
)

# %% [markdown]
# ## Why
#
# The images of this chapter are drawn tissue. Your task is to find the glands: dark rings, most of them around a
# white hole. White gaps in the tissue are not glands; nor are vessels, dark rings with red blood inside, nor
# crowds of dark specks. Here are two white pixels, one of each kind, and what
# you see of their surroundings through windows of 5, 32, 68 and 140 pixels.


# %%
def window(image: np.ndarray, row: int, column: int, side: int) -> np.ndarray:
    """The part (side, side, 3) of an image around a pixel; grey where the image has ended."""
    padded = np.pad(image, ((side, side), (side, side), (0, 0)), constant_values=235)
    top, left = row + side - side // 2, column + side - side // 2
    return padded[top : top + side, left : left + side]


tissue = Synthetic("histology", seed=0, n=64, size=256)
slide = tissue.split("train")[2]
views = show(
    figures.panels,
    [
        {f"{side} pixels": window(tissue.image(slide), row, column, side) for side in (5, 32, 68, 140)}
        for row, column in ((148, 205), (122, 138))
    ],
    names=("gland", "gap"),
    alt="Two rows of four windows around a white pixel each. Through 5 pixels both are whitish squares. From 32 "
    "to 140 pixels a dark ring appears around the upper one, and a smooth gap without a ring around the lower.",
)

# %% [markdown]
# Through 5 pixels there is a shade of white and nothing else, and 5 pixels are what two convolutions of 3 × 3
# see. Only a wide window shows the ring. The cheap way to a wide window is to make the image smaller: on a map of a
# sixteenth of the size, a 3 × 3 convolution spans 48 pixels.
#
# But small maps forget. Shrink the *true* masks by averaging, enlarge them again in squares and cut at one
# half: so much is left of a perfect answer that is given on the small map.

# %% tags=["compare"]
test = tissue.split("test")
masks = torch.tensor(np.stack([tissue.mask(record) for record in test]))[:, None].float()
small = F.avg_pool2d(masks, 4)  # 256 -> 64 pixels: the size of all that follows
for level in range(5):
    coarse = F.avg_pool2d((small > 0.5).float(), 2**level)
    back = F.interpolate(coarse, size=64, mode="nearest") > 0.5
    score = sum(dice(p, t) for p, t in zip(back, small > 0.5, strict=True)) / len(back)
    print(f"level {level}   {64 >> level:>2} × {64 >> level:<2}   Dice {score:.2f}")

# %% [markdown]
# (*Dice* is twice the overlap of two masks over the sum of their areas: 1 identical, 0 disjoint.) So the
# coarse levels know *what*, the fine ones know *where*. A U-Net keeps both: an **encoder** that halves the
# map four times, a **decoder** that doubles it four times, and **skips** that hand each fine map of the way
# down to the way up.
#
# ## From equation to code
#
# Level $i$ has $w_i$ channels: 16, 32, 64, 128, 256.
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $e_0 = B_0(x), \; e_i = B_i(\mathrm{pool}(e_{i-1}))$ | the way down | `encode(encoder, x)` | (N, $w_i$, H / 2ⁱ, W / 2ⁱ) |
# | $\hat e_4 = e_4, \; \hat e_i = \hat B_i([\,e_i, \mathrm{up}(\hat e_{i+1})\,])$ | the way up | `decode(up, decoder, features)` | the same |
# | $z_a = \mathrm{head}(\hat e_0)$ | logits | `UNet(2)(x)` | (N, C, H, W) |
# | $r \leftarrow r + (k - 1)\,j, \; j \leftarrow j\,s$ | receptive field | `receptive_field(net)` | pixels |
# | $L_{CE} = -\overline{\log p_y}$ | cross-entropy, mean over pixels | `cross_entropy(z, y)` | one number |
# | $L_{Dice}$ | soft Dice loss, step 5 | `dice_loss(z, y)` | one number |
#
# $B_i$ and $\hat B_i$ are convolution blocks, and the brackets put channels one behind the other.
#
# ## Step 1: what does a pixel see?
#
# **Idea.** The *receptive field* of an output pixel is the part of the image that it depends on. A layer
# with a kernel of $k$ pixels widens it by $k - 1$ of the pixels of its own map. How large these are in the
# image, $j$, grows with every stride $s$.
#
# **Smallest example.** Two convolutions, a pooling, two convolutions:

# %% tags=["compare"]
r, j = 1, 1
for name, k, s in (("conv", 3, 1), ("conv", 3, 1), ("pool", 2, 2), ("conv", 3, 1), ("conv", 3, 1)):
    r, j = r + (k - 1) * j, j * s
    print(f"{name} {k} × {k}   sees {r:>2} pixels, the next pixel of the map is {j} further")

# %% [markdown]
# Arithmetic is fine for a stack of layers. For a network with skips it gets tedious, and in a real one you
# may have made a mistake. So measure: if the output pixel depends on an image pixel, the gradient from one
# to the other is not 0.
#
# ### Exercise 02.1: the receptive field, measured
#
# Difficulty 3 of 5 · importance 4 of 5 · 12 minutes
#
# Write `receptive_field(net, size)`; `size` is 256 if it is left out. `net` is any function that takes images
# (N, 3, size, size) and returns maps (N, C, H, W). Return height and width, two whole numbers, of the smallest
# box of image pixels that holds everything the *middle* output pixel depends on: row H // 2, column W // 2,
# all channels. Ask with random images, since equal pixels hide a part of it, and leave no gradient behind in
# the network.
#
# <details><summary>Hint</summary>
#
# 1. Use eight random images with `requires_grad=True`. Random, since max-pooling sends its gradient to the
#    largest of four pixels alone; eight, since what it leaves out in one image it takes in another.
# 2. `out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum()` is the middle pixel as one number, and
#    `torch.autograd.grad(number, x)` *returns* its gradient (in a tuple of one). `backward()` would leave
#    gradients in the parameters.
# 3. Take the absolute value and sum over images and channels: what is above 0 was seen. `.any(dim=1)` says
#    so per row, `.any(dim=0)` per column, `.nonzero()` gives their numbers. The box reaches from the first
#    to the last, both included. Make it an `int`.
#
# </details>
#
# $$\text{pixel } q \text{ is seen} \iff \frac{\partial\, z_{\text{middle}}}{\partial\, x_q} \neq 0$$

# %% tags=["exercise"]
# library: knowsam_lite.course.chapters.ch02.e1_receptive_field.receptive_field
# blank: receptive_field

# %%
check("02.1", receptive_field)

# %% [markdown]
# **Look.** The same instrument on the U-Net, level by level. (From here on the cells use finished functions,
# the library's and those in its module `ch02` for this chapter, so an unfinished exercise never stops you.) The channels do not
# matter here, so four are enough. `eval()` is essential; step 6 shows why.

# %% tags=["compare"]
torch.manual_seed(0)
slim = UNet(2, widths=(4, 4, 4, 4, 4)).eval()
for level in range(5):
    side, _ = e1_receptive_field.receptive_field(
        lambda x, level=level: subnets.encode(slim.encoder, x)[level], 192
    )
    print(f"way down, level {level}: {side:>3} pixels")
for size in (192, 208):
    print(f"logits, the middle of {size}: {e1_receptive_field.receptive_field(slim, size)[0]} pixels")

# %% [markdown]
# Compare the first two rows with the arithmetic above, and all of them with the windows: level 4 sees enough to tell rings
# from gaps. And the logits have no single field: it depends on where in its cell of 16 × 16 a pixel lies, the
# coarse pixel that it shares with its neighbours.
#
# ## Step 2: the block
#
# **Idea.** At each level the same seven layers do the work: convolution, BatchNorm, LeakyReLU, dropout, and
# the first three again. The convolution looks at 3 × 3 pixels; *BatchNorm* brings each channel to mean 0
# and variance 1 (step 6); *LeakyReLU* bends: it leaves positive numbers alone and makes negative ones a
# hundred times smaller; *dropout* sets random numbers to 0 while the network trains (step 3).
#
# **Smallest example.** Without padding a 3 × 3 convolution loses a rim; and a negative number dies in a
# ReLU, gradient included, but not in a LeakyReLU.

# %% tags=["compare"]
image = torch.rand(1, 1, 6, 6)
for padding in (0, 1):
    print("padding", padding, tuple(nn.Conv2d(1, 1, 3, padding=padding)(image).shape[2:]))
for bend in (nn.ReLU(), nn.LeakyReLU(0.01)):
    x = torch.tensor(-3.0, requires_grad=True)
    y = bend(x)
    y.backward()
    print(f"{bend}: -3 becomes {abs(y.item()):.2f} below 0, with gradient {x.grad:.2f}")

# %% [markdown]
# ### Exercise 02.2: the block
#
# Difficulty 1 of 5 · importance 4 of 5 · 6 minutes
#
# Write `ConvBlock.__init__`. A `nn.Sequential` gets its layers by `super().__init__(layer, layer, ...)`. The
# convolutions keep height and width, and have their bias (in front of BatchNorm it changes nothing in training,
# but the authors' block has it).
#
# <details><summary>Hint</summary>
#
# 1. `nn.Conv2d(in_channels, out_channels, 3, padding=1)` keeps height and width. The second convolution
#    begins with what the first one returns: `out_channels`.
# 2. `nn.BatchNorm2d(out_channels)`, then `nn.LeakyReLU(0.01)`. The library adds `inplace=True`; your block
#    may or may not.
# 3. Read the equation from the inside to the outside: what is innermost comes first. `nn.Dropout(dropout)`
#    occurs once.
#
# </details>
#
# $$B(x) = \phi(\mathrm{BN}(W_2 * \mathrm{drop}(\phi(\mathrm{BN}(W_1 * x)))))$$

# %% tags=["exercise"]
# library: knowsam_lite.subnets.ConvBlock
# blank: ConvBlock.__init__

# %%
check("02.2", ConvBlock)

# %% [markdown]
# **Look.** `inplace=True` writes the answer over the question and saves a map per activation. It is exact
# here: LeakyReLU needs only the sign of its input for the gradient, the output has the same sign, and
# BatchNorm in front of it needs what it *received*, not what it returned. Where the layer in front needs
# its own output, as a sigmoid does, PyTorch refuses.

# %% tags=["compare"]
torch.manual_seed(0)
block = subnets.ConvBlock(3, 8)
plain = copy.deepcopy(block)
for layer in plain:
    if isinstance(layer, nn.LeakyReLU):
        layer.inplace = False
x = torch.rand(2, 3, 16, 16)
gradients = [torch.autograd.grad(net(x).square().mean(), list(net.parameters())) for net in (block, plain)]
print("same gradients:", all(torch.equal(a, b) for a, b in zip(*gradients, strict=True)))
try:
    nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.LeakyReLU(inplace=True))(x).sum().backward()
except RuntimeError:
    print("behind a sigmoid: refused")

# %% [markdown]
# ## Step 3: the way down
#
# **Idea.** A block, then halve the map, then the next block, five times. *Max-pooling* halves: of each
# 2 × 2 pixels it keeps the largest, the strongest sign of whatever the channel looks for.
#
# **Smallest example.**

# %% tags=["compare"]
found = torch.tensor([[0.1, 0.9, 0.0, 0.2], [0.3, 0.2, 0.1, 0.0]]).view(1, 1, 2, 4)
for name, shrink in (("largest", F.max_pool2d), ("mean", F.avg_pool2d)):
    print(f"{name} of four:", "  ".join(f"{v:.3f}" for v in shrink(found, 2).flatten()))

# %% [markdown]
# ### Exercise 02.3: the way down
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `encode(encoder, x)`: a list of blocks and images in, the list of *all* levels' maps out, full size
# first. Begin with `as_image(x)`: this helper of the library makes three channels of one and refuses sizes
# that cannot work (step 7).
#
# <details><summary>Hint</summary>
#
# 1. The first block sees `as_image(x)` at full size. Pooling comes *between* blocks.
# 2. `F.max_pool2d(features, 2)` halves height and width.
# 3. Keep what each block returns, before it is pooled, in a list, in order.
#
# </details>
#
# $$e_0 = B_0(x), \qquad e_i = B_i(\mathrm{pool}(e_{i-1})), \quad i = 1, \dots, 4$$

# %% tags=["exercise"]
# library: knowsam_lite.subnets.encode
# blank: encode

# %%
check("02.3", encode)

# %% [markdown]
# **Look.** The real widths, an image of 256 pixels. Where are the weights, and where is the memory?

# %% tags=["compare"]
net = UNet(2)
with torch.no_grad():
    features = subnets.encode(net.encoder, torch.rand(1, 3, 256, 256))
numbers = [e.numel() for e in features]
weights = [sum(p.numel() for p in block.parameters()) for block in net.encoder]
print("level   channels   map         numbers in it   MB, 24 images     weights   dropout")
for i, (e, block) in enumerate(zip(features, net.encoder, strict=True)):
    channels, height, width = e.shape[1:]
    megabytes = 24 * 4 * numbers[i] / 1e6  # the paper's batch, float32
    print(f"{i:>5} {channels:>10}   {height:>3} × {width:<3} {numbers[i]:>15,} {megabytes:>15.0f}", end="")
    print(f" {weights[i]:>11,} {block[3].p:>9}")
for name in ("encoder", "up", "decoder", "head"):
    print(f"{name:<8} {sum(p.numel() for p in getattr(net, name).parameters()):>9,} weights")

# %% tags=["guess"]
shares = show(
    figures.trends,
    {
        "weights": (range(5), [100 * n / sum(weights) for n in weights]),
        "numbers in the map": (range(5), [100 * n / sum(numbers) for n in numbers]),
    },
    title="Share of the way down, in per cent",
    xlabel="level",
    alt="Two crossing curves over the levels 0 to 4. The numbers in the map fall from 52 to 3 per cent, the "
    "weights rise from below 1 to 75 per cent.",
)

# %% [markdown]
# Each step down halves the numbers, since a quarter of the pixels carry twice the channels, and makes about
# four times as many weights. The curves cross: memory is spent at the top, weights at the bottom. (Training keeps
# several such maps per block, for the way back.) So when memory runs out, a smaller image helps and a
# smaller bottom does not.
#
# It also explains the last column. Three quarters of the encoder's weights sit at the bottom. With few
# labelled images those are the ones that can learn them by heart, so there half of the numbers are dropped.
# At the top there is little to learn by heart, and a hole in a sharp map is a hole in a border. Dropout makes up
# for what it takes, and does nothing in evaluation mode:

# %% tags=["compare"]
drop = nn.Dropout(0.5)
ones = torch.ones(10_000)
print("training:  ", sorted(set(drop.train()(ones).tolist())))
print("evaluation:", sorted(set(drop.eval()(ones).tolist())))

# %% [markdown]
# ## Step 4: the way up
#
# **Idea.** Double the coarse map, lay the skip of that level beside it, and let a block mix the two: *what*
# from below, *where* from the side. A *transposed convolution* of 2 × 2 with stride 2 doubles: each pixel
# becomes four, by four learned weights.
#
# **Smallest example.** Two pixels, one channel:

# %% tags=["compare"]
double = nn.ConvTranspose2d(1, 1, 2, stride=2, bias=False)
with torch.no_grad():
    double.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    enlarged = double(torch.tensor([[[[1.0, 10.0]]]]))
for row in enlarged[0, 0].tolist():
    print(row)

# %% [markdown]
# ### Exercise 02.4: the way up
#
# Difficulty 3 of 5 · importance 5 of 5 · 10 minutes
#
# Write `decode(up, decoder, features)`. `features` is what `encode` returns; `up` holds the doubling layers
# and `decoder` the blocks behind them, deepest first. Return the list of what the blocks return, coarsest
# first. The list that you are given stays as it is.
#
# <details><summary>Hint</summary>
#
# 1. `*skips, x = features` splits off the deepest map and puts the others in a *new* list. The skip that you
#    need first is the last one: `skips.pop()`.
# 2. `torch.cat([skip, enlarged], dim=1)`: channels side by side, the skip first. The order is part of the
#    weights' meaning.
# 3. `for enlarge, block in zip(up, decoder)`. What a block returns is kept in a list and is the `x` of the
#    next round.
#
# </details>
#
# $$\hat e_4 = e_4, \qquad \hat e_i = \hat B_i\big([\,e_i,\; \mathrm{up}_i(\hat e_{i+1})\,]\big), \quad i = 3, \dots, 0$$

# %% tags=["exercise"]
# library: knowsam_lite.subnets.decode
# blank: decode

# %%
check("02.4", decode)

# %% [markdown]
# **Look.** Both ways, drawn from the shapes that the network returns. Boxes are as wide as they have channels
# and as high as their map. You see where the name comes from.

# %%
with torch.no_grad():
    found = subnets.decode(net.up, net.decoder, features)
u = show(
    figures.ladder,
    [tuple(e.shape[1:]) for e in features],
    [tuple(e.shape[1:]) for e in found],
    alt="The U-Net as a U: on the left five boxes from 16 channels at 256 by 256 down to 256 channels at 16 by 16, "
    "on the right four boxes up again to full size; dashed skips join boxes of the same size.",
)

# %% [markdown]
# And this is the whole network, as the library has it:

# %%
print(inspect.getsource(UNet))

# %% [markdown]
# What do the skips change? Let us close them. A fair way is to hand zeros through: shapes and weights stay.


# %%
class WithoutSkips(UNet):
    """A U-Net of the library whose skips carry zeros."""

    def features(self, x: Tensor) -> list[Tensor]:
        *skips, deepest = subnets.encode(self.encoder, x)
        return subnets.decode(self.up, self.decoder, [*map(torch.zeros_like, skips), deepest])


def influence(net: Callable[[Tensor], Tensor]) -> Tensor:
    """How much the middle pixel of net(x) depends on each image pixel (256, 256): 0 to 1, square root."""
    x = torch.rand(4, 3, 256, 256, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[:, :, 128, 128].sum(), x)
    strength = gradient.abs().sum(dim=(0, 1))
    return (strength / strength.max()).sqrt()


torch.manual_seed(0)
small_net = subnets.UNet(2, (8, 16, 32, 32, 32)).eval()
closed = WithoutSkips(2, (8, 16, 32, 32, 32)).eval()
closed.load_state_dict(small_net.state_dict())
seen = {"first block": influence(small_net.encoder[0])}
seen |= {"U-Net": influence(small_net), "without skips": influence(closed)}

# %% tags=["compare", "guess"]
spread = show(
    figures.panels,
    [seen],
    ends=("0", "largest influence"),
    alt="Three maps of influence on the middle pixel. First block: a dot of 5 pixels. U-Net: a dot little wider. "
    "Without skips: a soft square, more than half as wide as the image, with no dot in the middle.",
)
for name, strength in seen.items():
    near = strength[120:136, 120:136].square().sum() / strength.square().sum()
    print(f"{name:<14} more than half of the influence from the 16 × 16 pixels around: {bool(near > 0.5)}")
fields = [e1_receptive_field.receptive_field(net, 192)[0] for net in (small_net, closed)]
print("receptive field:", fields[0], "pixels with skips,", fields[1], "without")

# %% [markdown]
# (The maps show the square root of the influence, so that the weak part is visible, too.) Both fields have the
# same size. With skips nearly all influence comes from next door, without them the
# middle is no more important than its wide surroundings: such a network has forgotten where its pixel is.
# These are untrained networks, and training decides how much of the wide field is used. A receptive field says
# what a pixel *can* see, not what it looks at.
#
# ## Step 5: what it learns from
#
# **Idea.** *Cross-entropy* is the mean over pixels of $-\log p_y$, the surprise at the true class. A mean
# over pixels has a weakness: if the object covers two pixels of a hundred, a network that ignores it is
# right in 98. *Soft Dice* measures overlap, class by class, and each class counts the same.
#
# **Smallest example.** A hundred pixels, two of them object, and three answers:


# %% tags=["compare"]
def sure_of(mask: Tensor, z: float = 3.0) -> Tensor:
    """Logits (1, 2, 10, 10) with `z` at the classes of a mask (10, 10), else 0; 3 gives them 95 %."""
    return z * F.one_hot(mask[None], 2).movedim(-1, 1).float()


y = torch.zeros(10, 10, dtype=torch.int64)
y[4, 4:6] = 1
half = y.clone()
half[4, 4] = 0
labels = y[None].clone()
labels[0, 0] = UNKNOWN  # nobody has said what the first row is: it counts for nothing
for name, guess in (("nothing", torch.zeros_like(y)), ("half of it", half), ("all of it", y)):
    z = sure_of(guess)
    print(
        f"finds {name:<10}   cross-entropy {losses.cross_entropy(z, labels):.2f}   soft Dice loss {losses.dice_loss(z, labels):.2f}"
    )

# %% [markdown]
# Overlooking the object raises cross-entropy a little and soft Dice a lot, since the object's class counts
# one half however small it is.
#
# ### Exercise 02.5: the soft Dice loss
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# Write `dice_loss(z, y, smooth)`: logits (N, C, H, W) and labels (N, H, W) in, one float32 number out. Logits
# may come in half precision, too short for long sums: make float32 of them first. Take probabilities for the
# prediction, sum over the whole batch, and average over all C classes, background included. A label of −1
# means "unknown": such a pixel counts for nothing, in no sum. `smooth`, 1e-5 if it is left out, keeps 0 / 0
# away when a class is absent.
#
# <details><summary>Hint</summary>
#
# 1. *Soft* means with probabilities: `z.float().softmax(dim=1)`, float32 before anything else. Winners
#    (`argmax`) have no gradient.
# 2. `known = (y != UNKNOWN).unsqueeze(1)` is (N, 1, H, W). `F.one_hot(y.clamp(min=0), C)` makes (N, H, W, C)
#    of labels, and `.movedim(-1, 1)` puts the classes where `p` has them. Multiply both by `known`.
# 3. Sum over images and pixels, axes (0, 2, 3), so that C numbers remain. The denominator holds the sum of
#    $p^2$ and the sum of the truth. `smooth` is added above and below. The mean comes last.
#
# </details>
#
# $$L_{Dice} = 1 - \frac{1}{C} \sum_{c=0}^{C-1} \frac{2 \sum_q p_{qc}\, y_{qc} + \mathrm{smooth}}{\sum_q p_{qc}^2 + \sum_q y_{qc} + \mathrm{smooth}}$$

# %% tags=["exercise"]
# library: knowsam_lite.losses.dice_loss
# blank: dice_loss

# %%
check("02.5", dice_loss)

# %% [markdown]
# **Look.** Why not soft Dice alone? A network overlooks the object again, more or less surely. How strongly
# does each loss pull at one of the two object pixels? (The gradient there, times 100.)

# %% tags=["compare"]
for logit in (1.0, 3.0, 6.0, 10.0):
    z = sure_of(torch.zeros_like(y), logit).requires_grad_()
    pulls = []
    for loss in (losses.cross_entropy, losses.dice_loss):
        (gradient,) = torch.autograd.grad(loss(z, y[None]), z)
        pulls.append(100 * gradient[0, 1, 4, 4].abs())
    print(f"sure by {logit:>4}   cross-entropy {pulls[0]:.2f}   soft Dice {pulls[1]:.2f}")

# %% [markdown]
# The surer a network is of its error, the less soft Dice tells it: its gradient passes through the softmax,
# which is flat there. Cross-entropy pulls all the harder. So the supervised loss takes both,
# $L_{sup} = L_{CE} + L_{Dice}$; in the library, `supervised_loss`.
#
# ## Step 6: the trap of two modes
#
# **Idea.** In training BatchNorm takes mean and variance from the *batch*, over all its images and pixels,
# and keeps a running average on the side: nine tenths of the old value, one tenth of the new. In evaluation
# it uses that average. ($\epsilon$, a small constant, keeps 0 out of the divisor.)
#
# $$\mathrm{BN}(x) = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad \mu_{run} \leftarrow 0.9 \, \mu_{run} + 0.1 \, \mu$$
#
# **Smallest example.** One channel that always brings 9, 10 and 11:

# %% tags=["compare"]
norm = nn.BatchNorm2d(1)
x = torch.tensor([9.0, 10.0, 11.0]).view(3, 1, 1, 1)
for step in range(1, 31):
    norm.train()(x)
    if step in (1, 5, 30):
        norm.eval()
        with torch.no_grad():
            print(f"after {step:>2} batches: running mean {norm.running_mean.item():>4.1f}", end="   ")
            print("10 becomes", round(norm(x)[1].item(), 1))

# %% [markdown]
# Two things follow. After few steps the average is not there yet, and evaluation mode looks worse than it
# will be. And a network that you *forget* in training mode depends on its company. The same image, alone
# and together with three others:

# %% tags=["compare"]
torch.manual_seed(0)
unet = UNet(2, (4, 4, 4, 4, 4), dropout=(0, 0, 0, 0, 0))
company = torch.rand(4, 3, 32, 32)
for mode in ("train", "eval"):
    asked = copy.deepcopy(unet)
    getattr(asked, mode)()
    with torch.no_grad():
        alone, together = asked(company[:1]), asked(company)[:1]
    moved = not torch.equal(asked.encoder[0][1].running_mean, unet.encoder[0][1].running_mean)
    side, _ = e1_receptive_field.receptive_field(asked, 224)
    print(f"{mode:<5}  same answer: {torch.allclose(alone, together, atol=1e-4)!s:<5}", end="  ")
    print(f"asking changes the network: {moved!s:<5}  a pixel sees {side} of 224")

# %% [markdown]
# In training mode the answer depends on who else is in the batch, asking changes what the network will say
# next, and every pixel sees the whole image through mean and variance. No error is raised. So: `eval()`
# before you ask, `train()` before you go on.
#
# ## Step 7: sizes
#
# **Idea.** Halving drops the odd pixel, doubling cannot bring it back. **Smallest example.** A side of 50:

# %% tags=["compare"]
side = [50]
while len(side) < 5:
    side.append(side[-1] // 2)
print("down", side)
for level in (3, 2, 1, 0):
    up, skip = 2 * side[level + 1], side[level]
    print(f"level {level}: {up} comes up, the skip has {skip}:", "fits" if up == skip else "does not fit")
try:
    as_image(torch.rand(1, 3, 50, 64))  # the first thing that `encode` does
except UserError as error:
    print("UserError:", error)
print("missing to the next multiple:", -50 % STRIDE)

# %% [markdown]
# Four halvings without a remainder need multiples of 16. The library refuses other sizes before PyTorch
# complains about them deep inside, and names the size that works.
#
# ### Exercise 02.6: any size
#
# Difficulty 2 of 5 · importance 4 of 5 · 8 minutes
#
# Write `any_size(net, x)`: logits (N, C, H, W) of images (N, 3, H, W) of any size. Add what is missing to the
# next multiple of 16 at the right and at the bottom, by repeating the last column and row; ask the network
# in evaluation mode and without a graph, once; cut the logits back.
#
# <details><summary>Hint</summary>
#
# 1. `-n % 16` is what `n` lacks to the next multiple, 0 if nothing (the library's 16 is `STRIDE`).
#    `F.pad(x, (left, right, top, bottom), mode="replicate")` adds: width first, then height.
# 2. `net.eval()`, and `with torch.no_grad():` around the call.
# 3. `[..., :height, :width]` cuts the last two axes.
#
# </details>
#
# $$z = F_a(\mathrm{pad}(x))_{\,:H,\,:W}$$

# %% tags=["exercise"]
# library: knowsam_lite.course.chapters.ch02.e6_any_size.any_size
# blank: any_size

# %%
check("02.6", any_size)

# %% [markdown]
# ## Put together
#
# Eight labelled images of 64 pixels, a narrow U-Net, 80 steps. (In this chapter the unlabelled images wait;
# chapter 04 brings them in.)

# %% tags=["compare"]
dataset = Synthetic("histology", seed=0, n=64, size=64)
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
test = dataset.split("test")
x_t = torch.stack([load_case(dataset, record, 64)[0] for record in test])
y_t = torch.stack([torch.from_numpy(dataset.mask(record).astype("int64")) for record in test])
print(
    "labelled", len(labeled), " test", tuple(x_t.shape), " glands cover", f"{(y_t == 1).float().mean():.0%}"
)


# %%
def fit(kind: type[UNet], steps: int, seed: int) -> UNet:
    """A narrow network of this kind, trained on the eight labelled images; in evaluation mode."""
    torch.manual_seed(seed)
    net = kind(2, (8, 16, 32, 32, 32), dropout=(0, 0, 0.1, 0.1, 0.2))
    batches = StepBatches(dataset, labeled, seed=seed, batch_labeled=4, batch_unlabeled=0, size=64)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(steps, 1))
    for step in range(steps):
        batch = batches[step]
        loss = losses.supervised_loss(net(batch.x), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def mean_dice(net: nn.Module) -> float:
    """Mean Dice of the glands over the test images, in the mode that the network is in."""
    with torch.no_grad():
        winners = net(x_t).argmax(dim=1)
    return sum(dice(p == 1, t == 1) for p, t in zip(winners, y_t, strict=True)) / len(y_t)


# %% [markdown]
# Expect a Dice between 0.6 and 0.8, after three to ten seconds. At the budget `smoke` nothing is trained,
# and everything below still runs, on a network that knows nothing.

# %% tags=["training"]
steps = budget(smoke=0, ci=80, laptop=80, gpu=80)
trained = fit(UNet, steps, seed=0)
print(f"evaluation mode {mean_dice(trained):.2f}")
print(f"forgotten in training mode {mean_dice(copy.deepcopy(trained).train()):.2f}")

# %% [markdown]
# Do not be misled if the second number is the higher one: after 80 steps the running averages lag behind,
# and 16 test images at once make good statistics of their own. But it is no number to report. Each answer
# leans on 15 other images, and another batch would change it.
#
# ## Ablate one thing
#
# Away with the skips, and everything else as it was (that is an *ablation*): the same weights at the start,
# the same batches, two seeds. Before you run it: how much do you expect to lose? Ten to thirty
# seconds.

# %% tags=["training"]
nets = {
    "U-Net": [trained, fit(UNet, steps, seed=1)],
    "without skips": [fit(WithoutSkips, steps, seed) for seed in (0, 1)],
}
print("Dice            seed 0   seed 1")
for name, (first, second) in nets.items():
    print(f"{name:<14} {mean_dice(first):>7.2f} {mean_dice(second):>8.2f}")


# %% tags=["guess"]
def cases(chosen: tuple[int, ...]) -> list[dict]:
    """Rows for a prediction sheet: test images, and what both networks of seed 0 say."""
    rows = []
    for i in chosen:
        with torch.no_grad():
            maps = {
                name: net(x_t[i : i + 1]).argmax(dim=1)[0].numpy().astype("uint8")
                for name, (net, _) in nets.items()
            }
        mask = y_t[i].numpy().astype("uint8")
        scores = {name: dice(answer == 1, mask == 1) for name, answer in maps.items()}
        row = {"id": f"tissue {i}", "image": dataset.image(test[i]), "truth": mask, "maps": maps}
        rows.append({**row, "dice": scores})
    return rows


sheet = show(
    figures.prediction_sheet,
    cases((0, 1, 3)),
    of={"without skips": "U-Net"},
    alt="Three images of tissue with the truth and two predictions: the U-Net follows the outlines of the glands, "
    "the network without skips gives coarse blobs in roughly the right places.",
)

# %% [markdown]
# (The dark rings with red inside that the truth leaves out are the vessels of the beginning.) Look at the
# outlines: without skips they are blobs that know roughly where. It also learns more slowly,
# since every gradient has to pass the bottom. Something to try: 300 steps for both. Does the network without
# skips catch up? And does it pass the 0.67 of level 4 in the first table? It can, for its channels hold more
# than one number per square.
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) takes a U-Net as one of its two subnets. Its shape is that of
# Ronneberger et al. (2015) with other details:
#
# | detail | U-Net of 2015 | KnowSAM authors' code | this library |
# |---|---|---|---|
# | padding, BatchNorm | none | both | both |
# | channels | 64 to 1024 | 16 to 256 | the same as the authors |
# | doubling | transposed | transposed in training, bilinear for prediction | transposed |
# | soft Dice's smooth | | $10^{-10}$ | $10^{-5}$ |
#
# **1. No padding** means that the answer is smaller than the image, and **wide channels** cost weights:

# %% tags=["compare"]
side = 572
for _ in range(4):
    side = (side - 4) // 2
for _ in range(4):
    side = 2 * (side - 4)
print("2015: an image of 572 gives a map of", side - 4)
with torch.device("meta"):  # shapes without numbers
    for name, net in (("2015", UNet(2, (64, 128, 256, 512, 1024))), ("here", UNet(2))):
        print(f"{name}: {sum(p.numel() for p in net.parameters()) / 1e6:.1f} million parameters")

# %% [markdown]
# **2. Two networks under one name.** The authors' program for prediction builds its decoder with bilinear
# doubling, while the training used transposed convolutions. This library has both: `bilinear` first brings
# the channels down by a 1 × 1 convolution and then blends neighbours, so that only the channels are learned
# and not the four new pixels. That is cheaper and smoother, and another network: the weights have other
# shapes.

# %% tags=["compare"]
from knowsam_lite.decoders import UNetDecoder, bilinear

learned, predicting = UNetDecoder(2), UNetDecoder(2, upsampling=bilinear)
try:
    predicting.load_state_dict(learned.state_dict())
except RuntimeError:
    print("load_state_dict: refused")
missing = predicting.load_state_dict(learned.state_dict(), strict=False).missing_keys
print("strict=False: loads, but", len(missing), "tensors stay random, such as", missing[0])

# %% [markdown]
# So the authors' own checkpoint does not load for prediction. The refusal is the good case; `strict=False`
# would hide it and predict with random doubling layers.
#
# **3. The absent class.** A network gives one in ten thousand to a class that is not there. Is that an error?

# %% tags=["compare"]
from knowsam_lite.official.losses import official_dice_loss

y = torch.zeros(1, 8, 8, dtype=torch.int64)
z = torch.zeros(1, 2, 8, 8)
z[:, 1] = -9.2  # one in ten thousand
for name, loss in (("authors", official_dice_loss), ("library", losses.dice_loss)):
    print(f"{name}: {loss(z, y):.1f} of at most 1.0")

# %% [markdown]
# With $10^{-10}$ an absent class costs its full share, 1 / C, whatever the network does; with $10^{-5}$ the
# price falls once $\sum p^2$ is smaller than that. It matters where classes are often absent from a batch.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. What do the coarse levels bring, and what the skips? (a) speed; memory, (b) borders; surroundings, (c)
#    surroundings; borders, (d) weights; dropout
# 2. Why does a pixel see the whole image in training mode? (a) BatchNorm uses mean and variance of all
#    pixels, (b) dropout, (c) max-pooling, (d) the loss is a mean
# 3. One level down, with twice the channels: what happens to a block's weights and to the numbers in its
#    map? (a) both double, (b) both stay, (c) half; four times, (d) four times; half
# 4. The object covers 2 % of the pixels and the network says "background" everywhere. Which loss is large?
#    (a) cross-entropy, (b) soft Dice, (c) both, (d) neither
# 5. Which level does not fit for a side of 50? (a) 1, where 24 meets 25, (b) 0, where 50 meets 48, (c) 4,
#    where 3 is odd, (d) every level fits

# %%
quiz("02", ["c", "a", "d", "b", "a"])

# %% [markdown]
# ## Recap
#
# - **Down** for *what*, **up** for *where*, **skips** so that the second is not lost. The receptive field is
#   measured by a gradient, in evaluation mode.
# - **Memory** is spent at the top, **weights** at the bottom, and dropout grows with them.
# - **Cross-entropy** counts pixels, **soft Dice** counts classes; the supervised loss is their sum.
# - **Two traps:** a network forgotten in training mode, which nobody reports, and a side that is no multiple
#   of 16, which the library does.
#
# **Next:** chapter 03 builds the second subnet, a V-Net, and asks why it should be as different as possible;
# chapter 05 puts their two answers together.

# %%
check.report()
