# %% [markdown]
# # 03 · The V-Net, subnet F_b, and why two different views
#
# {{badges}}
#
# One network can learn from masks. Two can also learn from each other, where there are no masks, but only if
# they do not make the same mistakes. So the second subnet is built to be unlike the first: it gets its width
# of view in another way, joins its skips in another way, and has no normalisation at all. In this chapter
# you build it, find out why it has to start from the right random numbers, and then measure whether two
# *kinds* of network really err in different places, or whether two random seeds would have done.
#
# | | |
# |---|---|
# | **You will** | build the V-Net's stage and forward pass; measure with hooks what of an image survives each layer; write the Kaiming start; measure which errors two networks share; average them |
# | **You need** | chapter 02, or a U-Net that you know: its blocks, its skips, its BatchNorm |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: less than a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from knowsam_lite import Synthetic, UNet, figures, losses, subnets
from knowsam_lite.course.chapters.ch02 import e1_receptive_field
from knowsam_lite.course.chapters.ch03 import e2_the_instrument, e5_shared_errors
from knowsam_lite.data import choose_labeled
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.losses import UNKNOWN
from knowsam_lite.metrics import dice
from knowsam_lite.subnets import WIDTHS, as_image

# %% [markdown]
# Here is the whole method, with the block of this chapter lit. The V-Net gets the same images as the U-Net
# and sends its logits $z_b$ to the same place.

# %%
drawn = show(
    figures.pipeline,
    lit="V-Net",
    alt="Map of KnowSAM: images go to U-Net and to V-Net, which is highlighted; both send logits to HAM, whose "
    "fused map goes to SAM; SAM's answer comes back to both networks by distillation.",
)

# %% [markdown]
# ## Why
#
# Here is a disc and, in two rows, two pairs of answers. In each answer one bite is missing. The pair above
# misses the same bite, the pair below misses two different ones. The last column is what you can see
# *without* the truth: where the two contradict each other.


# %%
rows, columns = np.mgrid[:40, :40]
disc = (rows - 20) ** 2 + (columns - 20) ** 2 < 15**2
left_bite, right_bite = disc & (columns < 11), disc & (columns > 29)
pairs = {
    "alike": (disc & ~left_bite, disc & ~left_bite),
    "different": (disc & ~left_bite, disc & ~right_bite),
}
bites = show(
    figures.panels,
    [
        {"truth": disc, "first answer": first, "second answer": second, "contradiction": first ^ second}
        for first, second in pairs.values()
    ],
    names=list(pairs),
    alt="Two rows of a disc, two answers and their contradiction. Above, both answers miss the left edge and the "
    "contradiction is empty. Below, one misses the left and one the right edge, and the contradiction shows both.",
)

# %% tags=["compare"]
for name, (first, second) in pairs.items():
    wrong = (first != disc) | (second != disc)
    seen = wrong & (first != second)
    print(f"{name:<9}  pixels with an error {wrong.sum():>3}, visible as a contradiction {seen.sum():>3}")

# %% [markdown]
# A pair that errs alike shows no error, and neither can correct the other: it would only hear its own
# opinion. A pair that errs in different places shows every error, and at each of them one of the two knows
# better. (Which one, the contradiction does not say. That is what chapters 05 and 08 are about.) Learning
# from each other's answers on unlabelled images is called *multi-view co-training*, and the two networks
# are its *views*. So the question of this chapter: how do you get a second view?
#
# ## From equation to code
#
# Level $i$ has $w_i$ channels and $k_i$ convolutions: 16, 32, 64, 128, 256 and 1, 2, 3, 3, 3.
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $S_i$ | stage: $k_i$ times convolution and ReLU | `conv_stage(w, k)` | (N, $w_i$, H / 2ⁱ, W / 2ⁱ) |
# | $v_i = \mathrm{down}(s_{i-1})$ | what enters the stage of level $i$ | `down(x)` | the same |
# | $s_i = S_i(v_i), \; s_0 = S_0(x)$ | what leaves it | `stage(x)` | the same |
# | $\hat s_i = \hat S_i(\mathrm{up}(\hat s_{i+1}) + v_i)$ | the way up | `stage(up(x) + skip)` | the same |
# | $z_b = \mathrm{head}(\hat s_0)$ | logits | `VNet(2)(x)` | (N, C, H, W) |
# | $\mathrm{Var}(W) = 2 / n_{in}$ | the Kaiming start | `init_kaiming(net)` | |
# | $\lvert E_1 \cap E_2 \rvert \, / \, \lvert E_1 \cup E_2 \rvert$ | shared errors | `shared_errors(z_1, z_2, y)` | one number |
#
# $E_1$ and $E_2$ are the sets of pixels at which the two networks are wrong.
#
# ## Step 1: the stage
#
# **Idea.** A U-Net's block is convolution, BatchNorm and LeakyReLU, twice, at every level. A V-Net's *stage* is
# convolution and ReLU, with nothing between, and there are more of them the deeper it gets: one at the top,
# three at the bottom. Few at the top save memory, many at the bottom widen the view, since a pixel is large
# there.
#
# What does a network lose with BatchNorm, and what does it keep? One thing is how bright an image is.
#
# **Smallest example.** Show both networks an image and the same image twice as bright. (With biases at 0,
# so that nothing else stands in the way. The U-Net is in training mode, where BatchNorm looks at the batch.)

# %% tags=["compare"]
torch.manual_seed(0)
x = torch.rand(4, 3, 32, 32)
slim = {"U-Net": UNet(2, (4, 4, 4, 4, 4), (0, 0, 0, 0, 0)), "V-Net": subnets.VNet(2, (4, 4, 4, 4, 4))}
for name, net in slim.items():
    for module in net.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        ratio = net(2 * x).norm() / net(x).norm()
        together, alone = net(x)[:1], net(x[:1])
    print(f"{name}: twice as bright makes logits {ratio:.1f} times as large", end="   ")
    print("same answer alone and together:", torch.allclose(together, alone, atol=1e-4))

# %% [markdown]
# In training BatchNorm divides the brightness out. (In evaluation it divides by its running averages, and then
# an unusual image stands out for the U-Net as well.) In the V-Net scale passes through all layers, for
# convolution and ReLU both keep a factor: $\max(0, 2a) = 2 \max(0, a)$. So a bright image makes it surer of
# itself. The price of BatchNorm is that an image's answer depends on its company, the trap of chapter 02. The
# V-Net has one mode only, and no such trap. Brightness and company trouble the two in different ways: a first
# reason to expect other errors of them.
#
# ### Exercise 03.1: the stage
#
# Difficulty 1 of 5 · importance 4 of 5 · 6 minutes
#
# Write `conv_stage(channels, depth, in_channels)`: a `nn.Sequential` of `depth` convolutions of 3 × 3 that
# keep height and width, each with a ReLU behind it. The first one takes `in_channels`, or `channels` if that
# is `None`; all return `channels`.
#
# <details><summary>Hint</summary>
#
# 1. `in_channels or channels` is `channels` where `in_channels` is `None`. That is for the first
#    convolution; the other `depth - 1` take `channels`.
# 2. In every round two layers: `nn.Conv2d(inputs, channels, 3, padding=1)` and `nn.ReLU()`. Collect them in
#    a list, and `nn.Sequential(*layers)` unpacks it. The library adds `inplace=True`; you may or may not.
#
# </details>
#
# $$S(x) = \phi(W_k * \cdots \phi(W_1 * x)), \qquad \phi(a) = \max(0, a)$$

# %% tags=["exercise"]
# library: knowsam_lite.subnets.conv_stage
# blank: conv_stage

# %%
check("03.1", conv_stage)

# %% [markdown]
# **Look.** What do stages cost, and blocks? The same five levels:

# %% tags=["compare"]
with torch.device("meta"):  # shapes without numbers
    full = {"U-Net": UNet(2), "V-Net": subnets.VNet(2)}
per_level = {
    name: [sum(p.numel() for p in part.parameters()) for part in net.encoder] for name, net in full.items()
}
for level, (u, v) in enumerate(zip(*per_level.values(), strict=True)):
    print(f"level {level}   U-Net's block {u:>9,}   V-Net's stage {v:>9,} weights")

# %% [markdown]
# More convolutions at the bottom make the V-Net the larger network, and nearly all of the difference sits in
# the last two rows.
#
# ## Step 2: the start
#
# **Idea.** A network begins with random weights, and how *large* they are decides whether it can learn. One
# number of a convolution's output is a sum of $n_{in}$ products, where $n_{in}$, the *fan-in*, is input
# channels times kernel pixels. With independent weights of variance $\mathrm{Var}(W)$ around 0 the sum's
# square is $n_{in} \mathrm{Var}(W)$ times that of its inputs, on average. Then ReLU sets one half to 0. So
# from one layer to the next squares are multiplied by $\frac12 n_{in} \mathrm{Var}(W)$, and after thirty
# layers by the thirtieth power of that.
#
# PyTorch's convolutions start with $\mathrm{Var}(W) = \frac{1}{3 n_{in}}$. That makes the factor $\frac16$.
#
# **Smallest example.** Four pictures of noise through twelve convolutions of 32 channels. *Size* is the
# root of the mean square of all numbers. The last column says by how much a number differs from picture to
# picture.

# %% tags=["compare"]
torch.manual_seed(0)
stack, x = subnets.conv_stage(32, 12), torch.randn(4, 32, 32, 32)
print("square root of one sixth:", round((1 / 6) ** 0.5, 2))
with torch.no_grad():
    for i, layer in enumerate(stack):
        x = layer(x)
        if i % 2 == 0 and i // 2 in (0, 1, 2, 3, 7, 11):
            print(f"convolution {i // 2 + 1:>2}   size {x.square().mean().sqrt():.3f}", end="   ")
            print(f"from picture to picture {x.std(dim=0).mean():.5f}")

# %% [markdown]
# From layer to layer the size is multiplied by about 0.4, as computed. Then it seems to stop: there the
# biases take over, small constants that each layer adds. But a constant is the same for every picture. What
# still tells one picture from another is the last column, the *signal*, and it keeps dying.
#
# ### Exercise 03.2: the signal, measured
#
# Difficulty 3 of 5 · importance 4 of 5 · 14 minutes
#
# Write `signal(net, x)`: for each convolution, in the order in which they are computed, by how much its
# output differs from image to image, as a list of `float`. That is the standard deviation over the images of
# the batch, number by number, and then the mean over channels and pixels. Transposed convolutions count as
# well. Ask the network with *hooks*, run it once, and leave it as you found it: no graph, no hook, the same
# mode. A forward hook is a function that PyTorch calls as `hook(module, inputs, output)` whenever a module has
# computed its output.
#
# <details><summary>Hint</summary>
#
# 1. `net.modules()` gives all modules, however deep; keep those that are `nn.Conv2d` or `nn.ConvTranspose2d`.
#    `module.register_forward_hook(note)` returns a handle. Inside `note` append to a list, and *measure*
#    there: keep no map for later, an in-place ReLU will write over it.
# 2. The images lie along axis 0: `output.std(dim=0)` is (channels, height, width), and `.mean().item()` makes
#    a float of it.
# 3. Run `net(x)` once, `with torch.no_grad():`. Afterwards `hook.remove()` for each handle.
#
# </details>
#
# $$\mathrm{signal} = \frac{1}{w\,|\Omega|} \sum_{c=1}^{w} \sum_{q \in \Omega} \mathrm{std}_{\text{images}}\big(a_{c,q}\big) \quad \text{for the output } a \text{ of each convolution, of } w \text{ channels, at the pixels } q$$

# %% tags=["exercise"]
# library: knowsam_lite.course.chapters.ch03.e2_the_instrument.signal
# blank: signal

# %%
check("03.2", signal)

# %% [markdown]
# **The cure** follows from the factor: choose $\mathrm{Var}(W) = 2 / n_{in}$, and it is 1. This is the
# *Kaiming start* (He et al., 2015).
#
# ### Exercise 03.3: the start
#
# Difficulty 2 of 5 · importance 4 of 5 · 8 minutes
#
# Write `init_kaiming(net)`: give every convolution and every transposed convolution in `net` new weights,
# from a normal distribution of mean 0 and variance 2 / fan-in. Biases, and layers of other kinds, stay as
# they are. The fan-in is the number of weights in `module.weight[0]`. The network itself is changed, so
# nothing is returned.
#
# <details><summary>Hint</summary>
#
# 1. Again `net.modules()`, and the same two classes as in exercise 03.2.
# 2. `nn.init.normal_(weight, mean=0.0, std=...)` draws new numbers in place, as its underscore says. It takes
#    the standard deviation, the root of the variance. (`nn.init.kaiming_normal_(weight)` does both at once.)
# 3. Only `module.weight` is drawn anew.
#
# </details>
#
# $$W \sim \mathcal{N}\Big(0, \frac{2}{n_{in}}\Big)$$

# %% tags=["exercise"]
# library: knowsam_lite.subnets.init_kaiming
# blank: init_kaiming

# %%
check("03.3", init_kaiming)

# %% [markdown]
# **Look.** The twelve convolutions again. From here on the cells use the finished functions of `ch03` and of
# the library, so an unfinished exercise never stops you. (The next cell imports two of them under their own
# names. If you go back to your `conv_stage` or `init_kaiming` later, run its cell again before its check.)

# %% tags=["compare"]
from knowsam_lite.subnets import conv_stage, init_kaiming

torch.manual_seed(0)
stack, x = conv_stage(32, 12), torch.randn(4, 32, 32, 32)
init_kaiming(stack)
with torch.no_grad():
    for i, layer in enumerate(stack):
        x = layer(x)
        if i % 2 == 0 and i // 2 in (0, 3, 7, 11):
            print(f"convolution {i // 2 + 1:>2}   size {x.square().mean().sqrt():.1f}")

# %% [markdown]
# Where it fell to a fifteenth, the size stays between one half and 2. Real images now, and whole networks, layer by layer. The library's V-Net starts the
# Kaiming way; `reset_parameters` gives a layer back PyTorch's own start. The U-Net is in training mode.


# %%
def default_start(net: nn.Module) -> nn.Module:
    """The same network with PyTorch's own start."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    return net


dataset = Synthetic("dermoscopy", seed=0, n=64, size=64)
test = dataset.split("test") + dataset.split("val")  # 24 images that no training will see
x_t = torch.stack([load_case(dataset, record, 64)[0] for record in test])
y_t = torch.stack([torch.from_numpy(dataset.mask(record).astype("int64")) for record in test])
torch.manual_seed(0)
starts = {"V-Net": subnets.VNet(2), "V-Net, default start": default_start(subnets.VNet(2)), "U-Net": UNet(2)}
signals = {name: e2_the_instrument.signal(net.train(), x_t) for name, net in starts.items()}

# %% tags=["compare"]
survival = show(
    figures.trends,
    {name: (range(1, len(s) + 1), s) for name, s in signals.items()},
    title="Signal behind each convolution, before training",
    xlabel="convolution, in the order of computing",
    log="y",
    references=["V-Net, default start"],
    alt="Three curves over the convolutions, on a logarithmic axis. The V-Net and the U-Net stay near 0.2 from the "
    "first convolution to the last, the 30th and the 23rd. The V-Net with the default start falls in a straight "
    "line to a hundred millionth, and comes back in steps on the way up, where the skips arrive.",
)
for name, values in signals.items():
    print(f"{name:<21} {len(values)} convolutions   weakest signal: about 10 to the power of", end=" ")
    print(round(float(np.log10(min(values)))))

# %% [markdown]
# A straight line on this axis means: multiplied by the same number in each layer. With the default start next
# to nothing of the images is left at the bottom, and on the way up it comes back in steps, where the skips
# arrive: such a network begins with its upper levels alone. The U-Net has that same default start and does
# not mind, since BatchNorm divides by whatever is left. So normalisation and start are two answers to one
# question, and a network without the first cannot do without the second.
#
# Does the Kaiming start keep the promise exactly? For transposed convolutions it does not:

# %% tags=["compare"]
up = nn.ConvTranspose2d(64, 32, 2, stride=2)
subnets.init_kaiming(up)
print("weight", tuple(up.weight.shape), "  weights in weight[0]:", up.weight[0].numel())
with torch.no_grad():
    x = torch.randn(8, 64, 32, 32).relu()
    print(f"squares are multiplied by {(up(x).square().mean() / x.square().mean()):.1f}, not by 2")

# %% [markdown]
# A transposed convolution stores (inputs, outputs, height, width), the first two exchanged. PyTorch takes
# `weight[0]` for the fan-in here, too, 32 × 4 = 128, while each pixel that comes out is a sum over the 64
# inputs alone. So squares are multiplied by 1 where 2 were wanted, for the ReLU to halve. Four such layers
# make the signal four times as small: harmless, but good to know before you trust a name.
#
# ## Step 3: the V-Net
#
# **Idea.** The same V as the U-Net's, with each joint made in another way. **Down:** a convolution of 2 × 2
# with stride 2 in place of max-pooling. **Up:** a transposed convolution, as before, with a ReLU. **Skips:**
# added, not concatenated; and they carry what *enters* a stage, not what leaves it.
#
# **Smallest example.** A strided convolution can learn to be the mean, or to keep one pixel of four, but
# never to be the maximum, which is no weighted sum. And a sum of skip and map cannot say afterwards who said
# what:

# %% tags=["compare"]
four = torch.tensor([[0.1, 0.9], [0.3, 0.2]]).view(1, 1, 2, 2)
down = nn.Conv2d(1, 1, 2, stride=2, bias=False)
for name, weights in (("mean", [[0.25, 0.25], [0.25, 0.25]]), ("first", [[1.0, 0.0], [0.0, 0.0]])):
    with torch.no_grad():
        down.weight.copy_(torch.tensor(weights))
        print(f"strided convolution as {name:<5}: {down(four).item():.3f}")
print(f"max-pooling:                   {nn.MaxPool2d(2)(four).item():.3f}")
for skip, enlarged in ((3.0, 1.0), (1.0, 3.0)):
    print(
        f"skip {skip:.0f}, from below {enlarged:.0f}:   concatenated [{skip:.0f}, {enlarged:.0f}]", end="   "
    )
    print(f"added {skip + enlarged:.0f}")

# %% [markdown]
# Adding is a special case of concatenation, with the same weights for both halves. It is cheaper by those
# weights, and forces both sides to speak one language: channel 5 of the skip has to mean the same as channel
# 5 from below.
#
# Which map does the skip carry? Say the V-Net is at level 1. `down` halves the map: this is $v_1$. The stage
# works on it: this is $s_1$, which goes further down. The skip is $v_1$. Only at full size, where nothing has
# been halved, it is $s_0$, what leaves. And the deepest stage needs no skip. Measure how much the two
# candidates see:

# %% tags=["compare"]
torch.manual_seed(0)
narrow = subnets.VNet(2, (4, 4, 4, 4, 4))


def entering(x: Tensor, level: int) -> Tensor:
    """What enters the stage of a level; at full size, what leaves it."""
    x = narrow.encoder[0](as_image(x))
    for i in range(level):
        x = narrow.down[i](x if i == 0 else narrow.encoder[i](x))
    return x


for level in range(4):
    enters = e1_receptive_field.receptive_field(lambda x, level=level: entering(x, level), 128)[0]
    leaves = enters
    if level:
        leaves = e1_receptive_field.receptive_field(
            lambda x, i=level: narrow.encoder[i](entering(x, i)), 128
        )[0]
    print(f"level {level}: what enters sees {enters:>2} pixels, what leaves sees {leaves:>2}")

# %% [markdown]
# What enters has mixed fewer pixels: it is sharper, and less worked on. So the V-Net's way up gets *where* in
# a rawer state, and has to make more of it itself. The skip leads around the stage, like a detour.
#
# ### Exercise 03.4: the V-Net's forward pass
#
# Difficulty 3 of 5 · importance 5 of 5 · 12 minutes
#
# `__init__` is given: read it first. `down[0]` leads from `encoder[0]` to `encoder[1]`; `up[0]` and
# `decoder[0]` belong to the deepest joint and come first on the way up. Write `forward(x)`: images (N, 1 or
# 3, H, W) in, logits (N, C, H, W) out. Begin with `as_image(x)`.
#
# <details><summary>Hint</summary>
#
# 1. `x = self.encoder[0](as_image(x))`, and `skips = [x]`: at full size what leaves is kept. `as_image`
#    makes three channels of one and refuses sizes that are no multiple of 16.
# 2. `for down, stage in zip(self.down, self.encoder[1:])`: first `down`, *then* keep, then `stage`. The last
#    map that was kept is the deepest one's, and has no partner: `skips.pop()`.
# 3. `for up, stage in zip(self.up, self.decoder)`: the stage sees the sum of `up(x)` and `skips.pop()`. What
#    `self.head` makes of the last one is the answer, as it is.
#
# </details>
#
# $$v_i = \mathrm{down}_i(s_{i-1}), \quad s_i = S_i(v_i), \qquad \hat s_i = \hat S_i\big(\mathrm{up}_i(\hat s_{i+1}) + v_i\big), \quad v_0 := s_0, \; \hat s_4 := s_4$$

# %% tags=["exercise"]
# library: knowsam_lite.subnets.VNet
# blank: VNet.forward

# %%
check("03.4", VNet)

# %% [markdown]
# **Look.** Both subnets side by side. The receptive field is measured as in chapter 02, at two places in the
# cell of 16 × 16 pixels that share one coarse pixel.

# %% tags=["compare"]
torch.manual_seed(0)
slim = {"U-Net": UNet(2, (4, 4, 4, 4, 4)).eval(), "V-Net": subnets.VNet(2, (4, 4, 4, 4, 4))}
for name, net in slim.items():
    sizes = (192, 208) if name == "U-Net" else (304, 320)
    fields = sorted(e1_receptive_field.receptive_field(net, size)[0] for size in sizes)
    weights = sum(p.numel() for p in full[name].parameters())
    layers = [m for m in full[name].modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    norms = [m for m in full[name].modules() if isinstance(m, nn.BatchNorm2d)]
    print(
        f"{name}: {weights / 1e6:.2f} million weights, {len(layers)} convolutions, {len(norms)} BatchNorms",
        end="",
    )
    print(f", a pixel sees {fields[0]} to {fields[1]}")

# %% [markdown]
# More weights, more layers, a wider field, no normalisation, another way down, other skips. Nearly everything
# differs that can differ without changing the task.
#
# ## Step 4: do they err in different places?
#
# **Idea.** It would be easy to believe. But two U-Nets that start from different random numbers and see their
# images in another order are not the same network either, and they are free. So the V-Net has to beat *that*:
# its errors have to overlap less with a U-Net's than a second U-Net's do.
#
# ### Exercise 03.5: shared errors
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `shared_errors(z_1, z_2, y)`: logits (N, C, H, W) of two networks and labels (N, H, W) in, one
# `float` out. Of the pixels at which at least one network is wrong, the part at which both are, whatever
# class they name. Pixels of label −1 (`UNKNOWN`) count for nothing. If no pixel is wrong the answer is
# `nan`, which 0 / 0 of tensors gives by itself.
#
# <details><summary>Hint</summary>
#
# 1. The answer of a network is the class with the largest logit: `z.argmax(dim=1)`, (N, H, W).
# 2. Wrong means: not the label, *and* the label is known. Both are boolean maps; `&` joins them.
# 3. `(wrong_1 & wrong_2).sum()` counts the pixels at which both err, over the whole batch, and `|` those at
#    which at least one does. `.item()` makes a float of the quotient.
#
# </details>
#
# $$\frac{|E_1 \cap E_2|}{|E_1 \cup E_2|}, \qquad E_{1,2} = \{\, q : \arg\max_c z_{1,2}(c, q) \neq y(q) \neq -1 \,\}$$

# %% tags=["exercise"]
# library: knowsam_lite.course.chapters.ch03.e5_shared_errors.shared_errors
# blank: shared_errors

# %%
check("03.5", shared_errors)

# %% [markdown]
# **Look.** Back to the disc: for two classes an error that is not shared *is* a contradiction.

# %% tags=["compare"]
truth = torch.from_numpy(disc)[None].long()
truth[0, 0] = UNKNOWN  # nobody has said what the first row is: it counts for nothing
for name, answers in pairs.items():
    z_1, z_2 = (torch.from_numpy(np.stack([~a, a])[None]).float() for a in answers)
    print(f"{name:<9}  shared errors {e5_shared_errors.shared_errors(z_1, z_2, truth):.1f}")

# %% [markdown]
# Now train, with the loop of chapter 02: eight labelled images of skin lesions, narrow networks, 100 steps, and
# of each kind two seeds, for the weights and for the order of the images. Expect Dice between 0.5 and 0.8 for each, after twenty
# to forty seconds. At the budget `smoke` nothing is trained, and everything below still runs, on networks
# that know nothing.

# %% tags=["compare"]
labeled = sorted(choose_labeled(dataset.records, "8", seed=0))
unlabeled = len(dataset.split("train")) - len(labeled)
print(f"labelled {len(labeled)}, unlabelled and unused {unlabeled}, test {len(test)}")


# %%
def build(kind: str) -> nn.Module:
    """A narrow network: "U-Net", "V-Net" or "default", a V-Net with PyTorch's own start."""
    if kind == "U-Net":
        return UNet(2, (8, 16, 32, 32, 32), dropout=(0, 0, 0.1, 0.1, 0.2))
    net = subnets.VNet(2, (8, 16, 32, 32, 32))
    return default_start(net) if kind == "default" else net


def answer(kind: str, steps: int, seed: int) -> Tensor:
    """Train a network of this kind on the eight labelled images; its probabilities on the test images."""
    torch.manual_seed(seed)
    net = build(kind)
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
    with torch.no_grad():
        return net.eval()(x_t).softmax(dim=1)


def mean_dice(p: Tensor) -> float:
    """Mean Dice of the lesions over the test images; p (N, 2, H, W)."""
    winners = p.argmax(dim=1)
    return sum(dice(a == 1, t == 1) for a, t in zip(winners, y_t, strict=True)) / len(y_t)


# %% tags=["training"]
steps = budget(smoke=0, ci=100, laptop=100, gpu=100)
p = {(kind, seed): answer(kind, steps, seed) for kind in ("U-Net", "V-Net") for seed in (0, 1)}
print("network, seed   Dice   wrong pixels: missed   added")
for (kind, seed), answers in p.items():
    winners = answers.argmax(dim=1)
    missed, added = ((winners == 0) & (y_t == 1)).float().mean(), ((winners == 1) & (y_t == 0)).float().mean()
    print(f"{kind}, {seed} {mean_dice(answers):>12.2f} {missed:>22.1%} {added:>7.1%}")

# %% [markdown]
# And now the pairs. Two more columns keep you from fooling yourself. *By chance* is the share if two networks
# with these error rates $r_1$ and $r_2$ erred at random pixels, without regard to each other:
#
# $$\frac{r_1 r_2}{r_1 + r_2 - r_1 r_2}$$
#
# *At most* is the share if the better one's errors all lay inside the worse one's: a network that is much
# worse cannot share much. Before you run it, write down your guess for the three kinds of pair.


# %% tags=["training"]
def told(pair: Sequence[tuple[str, int]]) -> str:
    """The names of two networks and their seeds, 18 characters wide."""
    return f"{', '.join(f'{kind} {seed}' for kind, seed in pair):<18}"


print("pair                  shared   by chance   at most")
for first, second in combinations(p, 2):
    r_1, r_2 = ((p[key].argmax(dim=1) != y_t).float().mean() for key in (first, second))
    chance, most = r_1 * r_2 / (r_1 + r_2 - r_1 * r_2), min(r_1, r_2) / max(r_1, r_2)
    share = e5_shared_errors.shared_errors(p[first], p[second], y_t)
    print(f"{told((first, second))} {share:>9.2f} {chance:>11.2f} {most:>9.2f}")

# %% [markdown]
# Two networks of one kind share far more than chance would have it: what is hard for one seed is hard for the
# other. Pairs of different kinds should stand clearly below both of them, and nearer to chance. The numbers
# vary with versions and luck; the order of the three kinds of pair is what to look for. Where are those
# errors? Colour marks a pixel at which one of the two is wrong, in that network's colour (light for seed 1),
# black one at which both are.


# %% tags=["guess"]
def paint(first: tuple[str, int], second: tuple[str, int], i: int) -> np.ndarray:
    """Test image i as a picture (H, W, 3): white, the colour of the one that errs, black where both do."""
    colors = []
    for kind, seed in (first, second):
        rgb = np.array([int(figures.color(kind)[k : k + 2], 16) for k in (1, 3, 5)])
        colors.append(rgb + (255 - rgb) // 2 if seed else rgb)
    wrong_1, wrong_2 = ((p[key][i].argmax(dim=0) != y_t[i]).numpy() for key in (first, second))
    picture = np.full((*wrong_1.shape, 3), 255)
    picture[wrong_1], picture[wrong_2], picture[wrong_1 & wrong_2] = colors[0], colors[1], 0
    return picture.astype(np.uint8)


maps = show(
    figures.panels,
    [
        {
            "image": dataset.image(test[i]),
            "two U-Nets": paint(("U-Net", 0), ("U-Net", 1), i),
            "two V-Nets": paint(("V-Net", 0), ("V-Net", 1), i),
            "U-Net and V-Net": paint(("U-Net", 0), ("V-Net", 0), i),
        }
        for i in (0, 3, 5)
    ],
    names=[f"lesion {i}" for i in (0, 3, 5)],
    alt="For three lesions the errors of three pairs. Pairs of one kind have large black patches, where both err; "
    "the pair of U-Net and V-Net has mostly blue patches and orange rims, where one of the two errs.",
)

# %% [markdown]
# In the first two columns look for black: shared errors, which the pair cannot see. In the last, most of what
# is wrong has a colour: the blue patches of a U-Net that draws too much, with a rim of orange. You can also see
# *how* they differ: the U-Net's errors are smooth, while the V-Net's are speckled like a chess-board. A
# transposed convolution gives each of the four pixels that it makes of one its own weights. So neighbours can
# end up on two sides of the decision, and behind its last doubling the V-Net has but one convolution and the
# head to even that out. Look again at the table of missed and added pixels as well: if one kind draws too much
# and the other does not, that alone makes them differ. After so few steps part of it is BatchNorm, whose
# running averages lag behind (chapter 02, step 6). So the difference is real, but some of it is youth.
#
# ### The average
#
# The cheapest use of two networks is to average their probabilities, an *ensemble*. Where only one errs,
# the other can outvote it if it is surer.

# %% tags=["training"]
print("average of            Dice   better one   gain")
for first, second in combinations(p, 2):
    together, best = mean_dice((p[first] + p[second]) / 2), max(mean_dice(p[first]), mean_dice(p[second]))
    print(f"{told((first, second))} {together:>7.2f} {best:>12.2f} {together - best:>+6.2f}")

# %% [markdown]
# Over their four pairs the different kinds should gain more than two of one kind, as their errors promise,
# though not every pair must: a network that is sure and wrong outvotes one that is unsure and right. Where
# errors are shared, at a black pixel, there is no vote to win.
#
# But mind what this is **not**. No unlabelled image was opened: the count printed above says "unused". An
# ensemble is not semi-supervision, it is just two networks. If a paper compares its method, which ends in two
# networks, with *one* network trained on the labels, part of the gain is the average. That is why the results
# of [the library's runs](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/from_scratch.md)
# have a column `supervised_pair`: both subnets and their fusion, on labels alone.
# What a semi-supervised method earns is what it adds to *that*. And there is a second difference: the average
# has to be paid for at every prediction, whereas networks that have learned from each other can be better
# each by itself.
#
# ## Ablate one thing
#
# What if the V-Net had kept PyTorch's default start? Everything else stays: kind, images, order, steps. Guess
# first. It takes five to fifteen seconds.

# %% tags=["training"]
print("V-Net            Dice, seed 0   seed 1")
late = {("default", seed): answer("default", steps, seed) for seed in (0, 1)}
for name, runs in (("Kaiming start", [p["V-Net", 0], p["V-Net", 1]]), ("default start", list(late.values()))):
    print(f"{name:<16} {mean_dice(runs[0]):>12.2f} {mean_dice(runs[1]):>8.2f}")

# %% [markdown]
# A Dice near 0 means that the network calls everything background. It is not broken, it is late: AdamW gives
# weights steps of one size however small their gradients are, so the signal grows back, but the first hundred
# steps are gone. Something to try: give both 300 steps. You should see the default start catch up. (With
# plain SGD, whose steps are as small as its gradients, expect it to take longer.) With 300 steps look at the
# shared errors again, too: when networks get better and the averages of BatchNorm have settled, the gap
# between the kinds of pair narrows. Is anything of it left?
#
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) takes a V-Net as its second subnet. It shares its outline with that
# of Milletari et al. (2016); the details are settled by the authors' code, and in this block the library
# departs from it in nothing.
#
# | detail | V-Net of 2016 | KnowSAM authors' code | this library |
# |---|---|---|---|
# | input, kernel | volumes, 5 × 5 × 5 | images, 3 × 3 | as the authors |
# | convolutions per level | 1, 2, 3, 3, 3 | the same | the same |
# | a stage's input | added to its output | not added | as the authors |
# | skip | what leaves a stage, concatenated | what enters it, added | as the authors |
# | bend | PReLU | ReLU | ReLU |
# | normalisation | | none | none |
# | start | | Kaiming | Kaiming |
#
# **1. Nothing to mend.** The package `knowsam_lite.official` holds the authors' behaviour; its students take
# this very V-Net and need only other names for its tensors:

# %% tags=["compare"]
from knowsam_lite.official.students import OfficialStudents

authors = OfficialStudents(2).net_b
print("the same class:", type(authors) is subnets.VNet)
print(
    "tensors:", len(authors.state_dict()), "  buffers, as BatchNorm has them:", len(list(authors.buffers()))
)

# %% [markdown]
# **2. Nobody checks the skip.** Take what leaves a stage, as in 2016 and as one would expect, and load the
# same weights:


# %%
class Leaving(subnets.VNet):
    """A V-Net whose skips carry what leaves a stage."""

    def forward(self, x: Tensor) -> Tensor:
        left = [self.encoder[0](as_image(x))]
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            left.append(stage(down(left[-1])))
        x = left.pop()
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(up(x) + left.pop())
        return self.head(x)


# %% tags=["compare"]
torch.manual_seed(0)
here, other = subnets.VNet(2), Leaving(2)
print(other.load_state_dict(here.state_dict()))
with torch.no_grad():
    print("same answer:", torch.allclose(here(x_t[:1]), other(x_t[:1]), atol=1e-3))

# %% [markdown]
# All tensors fit, no error is raised, and the network is another one. Weights do not know where a skip
# begins. When you rebuild a published network, shapes prove nothing; compare outputs.
# Something to try: put `Leaving` into `build` and train it. Does it matter which map the skip carries?
#
# **3. What concatenation would cost.** The first convolution of each stage on the way up would take twice
# the channels:

# %% tags=["compare"]
more = sum(9 * w * w for w in WIDTHS[:-1])
total = sum(p.numel() for p in full["V-Net"].parameters())
print(f"{more:,} more weights: {more / total:.0%} of the V-Net")

# %% [markdown]
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. The U-Net does well with PyTorch's default start. Why does the V-Net not? (a) it has more weights, (b)
#    nothing in it restores the signal's size, (c) its skips are added, (d) ReLU has no gradient
# 2. Which maps do the V-Net's skips carry? (a) what leaves each stage, (b) what enters each stage, the first
#    included, (c) the image, halved, (d) what enters a stage, and at full size what leaves it
# 3. An image is shown twice as bright. Whose logits grow with it? (a) the U-Net's in training mode, (b)
#    both networks', (c) the V-Net's, (d) nobody's
# 4. What makes a second network useful on unlabelled images? (a) errors in other places, (b) more
#    weights, (c) a lower error rate, (d) the same architecture with another seed, and nothing else
# 5. An average of two networks beats each of them. What does that say about learning without labels? (a) it
#    works, (b) it works if the networks differ, (c) it needs more steps, (d) nothing, no unlabelled image was
#    used

# %%
quiz("03", ["b", "d", "c", "a", "d"])

# %% [markdown]
# ## Recap
#
# - **The V-Net** is plain: convolution and ReLU, strided down, added skips that lead around each stage, no
#   normalisation, one mode.
# - **The start** replaces what BatchNorm would do: variance 2 / fan-in keeps the signal alive. What differs
#   from image to image is the signal; size alone may be nothing but bias.
# - **Two views** are worth as much as their errors differ: what both get wrong, neither can see. Measure
#   shared errors against two seeds of one kind, and against chance.
# - **An ensemble is not semi-supervision.** Compare with the pair on labels alone.
#
# **Next:** chapter 04 lets unlabelled images in; chapter 05 puts the two answers together with HAM, a network
# that reads where they contradict each other.

# %%
check.report()
