# %% [markdown]
# # 11 · Reading results
#
# {{badges}}
#
# A table says 0.767 and 0.716. Is the first method better? By how much, on which images, and does it know
# where it is wrong? This chapter trains almost nothing. It takes results that are there, scores of real
# trainings image by image and seed by seed, and teaches you to ask them the questions that a mean hides.
#
# | | |
# |---|---|
# | **You will** | make an ablation table; draw seeds and images for an honest interval; watch a winner lose its lead with other labels; sort failures by kind; test whether confidence can be believed and doubt warns; measure what each defect of the authors' code changes |
# | **You need** | NumPy arrays and their axes; Dice and HD95 (chapter 01), the paired bootstrap (chapter 10) |
# | **Time** | {{time}} |
# | **Cost** | a CPU is enough: under a minute of computing |
#
# The next cell installs the package if it is missing and prints what you are working with. It is the same
# in every chapter.

# %% tags=["setup"]

# %%
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t

from knowsam_lite import figures, open_dataset
from knowsam_lite.calibration import calibration_error
from knowsam_lite.course.chapters.ch11.e5_risk_and_coverage import half_and_half
from knowsam_lite.course.recorded import load_grid, load_margins
from knowsam_lite.metrics import BoolArray, FloatArray, crossed, dice, hd95, paired_bootstrap
from knowsam_lite.uncertainty import entropy_map

# %% [markdown]
# Lit below are the four that give an answer which can be scored: both subnets, their fused map, and SAM.

# %%
drawn = show(
    figures.pipeline,
    lit="U-Net, V-Net, HAM, SAM",
    alt="Map of KnowSAM with the blocks that give an answer highlighted: U-Net, V-Net, HAM and SAM.",
)

# %% [markdown]
# ## Why
#
# The package brings the scores of a small grid: the method built up part by part, each variant trained with
# several *seeds*. A seed decides which images are labelled, how the networks begin and what is drawn on the
# way. The lowest rung is MC *without* HAM (the library's `mc_mean`; the README's `mc` is the rung + HAM). The
# trainings are short and small, 32 pixels and 40 steps, so the numbers are low. What they show about *reading*
# holds for large ones. `ladder.last` holds each variant's
# Dice, (seeds, images), with the last weights; `ladder.best` with those that were best on val.

# %% tags=["compare"]
ladder = load_grid("ladder")
seeds, images = ladder.last["MC"].shape
print(f"{ladder.title}, {ladder.labeled} labels, {ladder.image_size} px, {ladder.steps} steps")
print(f"{len(ladder.last)} variants, {seeds} seeds each, {images} test images")


# %% tags=["compare"]
def band(dices: FloatArray) -> tuple[list[float], float, float]:
    """Mean of each seed, and the interval of the mean over seeds and images."""
    told = paired_bootstrap(dices, np.zeros_like(dices))
    return dices.mean(axis=1).tolist(), told["low"], told["high"]


bands = {name: band(dices) for name, dices in ladder.last.items()}
said = show(
    figures.forest,
    bands,
    title="Each variant, trained once per seed",
    xlabel="Dice on the same test images",
    alt="One row for each variant from MC to + UGDA: a dot for each seed, a tick for their mean, a bar for the 95 % "
    "interval. The bars are wide and overlap.",
)
dots = [value for means, _, _ in bands.values() for value in means]
print(f"{len(dots)} trainings, from {min(dots):.2f} to {max(dots):.2f}")

# %% [markdown]
# A dot is one training, the tick their mean, the bar the 95 % interval of the mean. Look how far apart the
# dots of *one* row lie. Whoever trains each variant once draws one dot from each row, and can tell many
# stories.
#
# ## From equation to code
#
# | symbol | meaning | in code | shape |
# |---|---|---|---|
# | $D_{si}$ | Dice of seed $s$ on test image $i$ | `dices` | (seeds, images) |
# | $\bar D_s$ | mean of a seed over the images | `dices.mean(axis=1)` | (seeds,) |
# | $\delta_{si}$ | difference of two methods, same seed, same image | `delta` | (seeds, images) |
# | $\bar\delta_q$ | its mean in repetition $q$ of the bootstrap | `drawn_means(...)[q]` | (R,) |
# | $c_j,\ a_j$ | confidence of answer $j$, and whether it is right | `confidence`, `right` | any |
# | $\mathrm{ECE}$ | expected calibration error | `calibration_error` | one number |
# | $\bar r(k)$ | mean risk of the $k$ answers of least doubt | `risk_coverage` | (n,) |
#
# ## Step 1: a table of parts
#
# **Idea.** An *ablation* asks what each part of a method is worth. One changes a single thing and keeps all
# else: data, split, labelled images, steps, seeds. Ours climbs a ladder. MC is two subnets that teach each
# other and are averaged; with HAM they are fused. With SKD a frozen SAM teaches them. LPS trains that SAM's
# prompts, the adapter its encoder. UGDA mixes regions. What a rung gains, it gains *on top of those below*; in
# another order it could be less, or more.
#
# **Smallest example.** Two seeds, three images. The images differ far more than the seeds do:
#
# | | image 0 | image 1 | image 2 | mean |
# |---|---|---|---|---|
# | seed 0 | 0.9 | 0.5 | 0.1 | 0.5 |
# | seed 1 | 1.0 | 0.7 | 0.1 | 0.6 |
#
# The deviation of the seeds' two means is 0.07, that of all six scores 0.39. Both get printed behind a ±, often
# without a word on which. The first says how much another training would change the result, the second how
# unlike the images are. In a table of methods the first is meant.
#
# ### Exercise 11.1: an ablation table
#
# Difficulty 1 of 5 · importance 5 of 5 · 8 minutes
#
# Write `rungs(scores)`. `scores` maps the name of each variant, from the lowest rung up, to its Dice, an
# array (seeds, images). Return a list with one tuple for each variant, in that order: name, mean, standard
# deviation over the seeds (with $n - 1$), and the gain over the rung just before (0 for the first).
#
# <details><summary>Hint</summary>
#
# 1. The images lie on axis 1: `dices.mean(axis=1)` gives one mean for each seed.
# 2. The deviation is that of these means: `.std(ddof=1)` divides by $n - 1$.
# 3. Keep a list `rows`. The mean of the rung before is `rows[-1][1]`; the gain is this mean minus that one, and
#    while `rows` is empty there is no rung before, so the gain is 0.
#
# </details>
#
# $$\bar D = \frac1S \sum_s \bar D_s, \qquad \mathrm{sd} = \sqrt{\frac{1}{S - 1} \sum_s (\bar D_s - \bar D)^2}, \qquad
# \mathrm{gain}_v = \bar D_v - \bar D_{v-1}$$


# %% tags=["exercise"]
# blank: rungs
def rungs(scores: dict[str, FloatArray]) -> list[tuple[str, float, float, float]]:
    """Name, mean, deviation over the seeds and gain over the rung before, for each variant in order."""
    rows: list[tuple[str, float, float, float]] = []
    for name, dices in scores.items():
        of_seeds = dices.mean(axis=1)
        mean = float(of_seeds.mean())
        rows.append((name, mean, float(of_seeds.std(ddof=1)), mean - rows[-1][1] if rows else 0.0))
    return rows


# %%
check("11.1", rungs)

# %% [markdown]
# **Look.** The table of the ladder:

# %% tags=["compare"]
before = None
for name, dices in ladder.last.items():
    of_seeds = dices.mean(axis=1)
    gain = "" if before is None else f"{of_seeds.mean() - before:+.3f}"
    print(f"{name:<10} {of_seeds.mean():.3f} ± {of_seeds.std(ddof=1):.3f}   {gain}")
    before = of_seeds.mean()

# %% [markdown]
# Compare the gains with the deviations beside them. A gain that is smaller than the deviation of one row may
# be a part that works, or a draw of the dice. To tell, we need an interval for the *difference*.
#
# ## Step 2: seeds and images
#
# **Idea.** Chapter 10 drew test images with replacement, for two trainings. That interval covers the luck of
# the images alone. Is that enough? Ask a question whose answer we know: take *one* variant, compare two
# of its seeds, and let the bootstrap over images judge. Both are the same method, so every verdict of
# "better" is false. The interval is made for 5 % of false verdicts.

# %% tags=["compare"]
false, asked = 0, 0
for dices in ladder.last.values():
    for first in range(seeds):
        for second in range(first):
            false += not paired_bootstrap(dices[first], dices[second])["tie"]
            asked += 1
print(f"a method is 'better' than itself in {false} of {asked} comparisons: {false / asked:.0%}")

# %% [markdown]
# Many images are not many seeds. A thousand test images would make it *worse*: the interval shrinks around
# the luck of the one training that you have, and any two trainings differ.
#
# So both are drawn. In each repetition of the bootstrap draw as many seeds as there are, and as many images
# as there are, both with replacement, and average over every drawn seed on every drawn image. All scores of a
# seed move together, for they share its luck, and all scores of an image move together, for they share its
# difficulty.
#
# **Smallest example.** Differences of two methods, two seeds, three images:
# $\delta = \begin{pmatrix} 0.1 & 0.0 & 0.2 \\ 0.5 & 0.3 & 0.1 \end{pmatrix}$, mean 0.20. Draw seed 1 twice, and
# images 0, 0 and 2. Every drawn seed meets every drawn image:
# $\begin{pmatrix} 0.5 & 0.5 & 0.1 \\ 0.5 & 0.5 & 0.1 \end{pmatrix}$, mean 0.37.
#
# ### Exercise 11.2: seeds and images, drawn
#
# Difficulty 2 of 5 · importance 5 of 5 · 8 minutes
#
# Write `drawn_means(delta, rows, columns)`: differences `delta` (seeds, images), and what was drawn in each
# of R repetitions, the seeds `rows` (R, seeds) and the images `columns` (R, images). Return the mean of each
# repetition, an array (R,).
#
# <details><summary>Hint</summary>
#
# 1. Go through the repetitions, q = 0, 1, ...: each needs `rows[q]`, its seeds, and `columns[q]`, its images.
# 2. `delta[np.ix_(seeds, images)]` is the little table of all drawn seeds (axis 0) on all drawn images (axis
#    1). `delta[seeds, images]` would pair them one to one.
# 3. One `.mean()` for each repetition, put into an array of zeros, or into a list that `np.array` takes.
#
# </details>
#
# $$\bar\delta_q = \frac{1}{S I} \sum_{s \in \text{rows}_q} \ \sum_{i \in \text{columns}_q} \delta_{si}, \qquad S \text{ seeds}, \ I \text{ images}$$

# %% tags=["exercise"]
# library: knowsam_lite.metrics.drawn_means
# blank: drawn_means

# %%
check("11.2", drawn_means)

# %% [markdown]
# The library's `paired_bootstrap` draws 2,000 times, calls this function, and takes the 2.5th and 97.5th
# percentile. **Look** at what each draw contributes. The same difference, the whole method against MC, with
# images drawn, seeds drawn, and both:

# %% tags=["compare"]
gain = ladder.last["+ UGDA"] - ladder.last["MC"]
nothing = np.zeros_like(gain)
ways = {
    "images only": (gain.mean(axis=0), nothing[0]),
    "seeds only": (gain.mean(axis=1)[:, None], nothing[:, :1]),
    "both": (gain, nothing),
}
for name, (a, b) in ways.items():
    told = paired_bootstrap(a, b)
    print(
        f"{name:<12} {told['difference']:+.3f} [{told['low']:+.3f}, {told['high']:+.3f}]  width {told['high'] - told['low']:.2f}"
    )

# %% [markdown]
# The three seeds of both are far apart, so nearly all of the interval's width comes from the seeds; who draws
# images alone has a fifth of it.
#
# **Does it keep its promise?** Ask again where the answer is known: two equal methods, three seeds
# of each, about as far apart as SKD's.

# %% tags=["compare"]
rng = np.random.default_rng(0)
called = dict.fromkeys(("paired_bootstrap", "crossed"), 0)
for _ in range(200):
    delta = rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.2, (3, 40))  # the luck of a seed, and of its images
    called["paired_bootstrap"] += not paired_bootstrap(delta, np.zeros_like(delta))["tie"]
    called["crossed"] += crossed(delta).p < 0.05
for way, count in called.items():
    print(f"{way:<17} 'better' or 'worse' in {count / 200:.0%}, 5 % meant")

# %% [markdown]
# How far seeds lie apart is a guess from three numbers. The bootstrap takes it for the truth; Student's t makes
# the interval up to 4.3 standard errors wide to each side, not 2 (in 4,000 tries: 6 %).
# So the library's tables judge by `crossed`: t, on the errors of seeds and images. More repetitions do not
# help. More seeds do.
#
# Its verdict on each rung, against the one before:

# %% tags=["compare"]
names = list(ladder.last)
steps_up = {}
for below, name in pairwise(names):
    steps_up[name] = ladder.last[name] - ladder.last[below]
steps_up["all together"] = gain
found = {name: crossed(delta) for name, delta in steps_up.items()}
verdicts = show(
    figures.forest,
    {
        name: (delta.mean(axis=1).tolist(), found[name].low, found[name].high)
        for name, delta in steps_up.items()
    },
    title="What each part adds to those before it",
    xlabel="difference in Dice, same seed, same images",
    zero=0.0,
    alt="For each part from HAM to UGDA and for all together, the difference in Dice for each seed, its mean and its 95 % "
    "interval, with a line at zero; pale bars hold the line, green ones do not.",
)
for name, verdict in verdicts.items():
    print(f"{name:<13} {verdict}")

# %% [markdown]
# Read it dot by dot. UGDA's gain is at least 0.07 in each seed; the adapter's is small, and all three agree; most
# of HAM's is one seed, in which MC had learned next to nothing; SKD from a frozen SAM hurt in two of three. And
# nothing is sure, not even all together: three that lie so far apart could be three lucky ones. The
# bootstrap calls four of the six "better".
#
# A *tie* says that these seeds and images do not decide, not that the part is worth nothing: the interval also
# holds what would please its inventor.
#
# ## Step 3: many comparisons
#
# **Idea.** An interval of 95 % errs once in twenty times. Whoever asks twenty times should expect one gift. And
# whoever takes the *best* of many has picked the luckiest, too.
#
# Real trainings now: [sixteen methods](https://github.com/knowsam-lite/knowsam-lite/blob/main/docs/comparison/README.md)
# on ISIC 2018, 15 labels. Which beats the pair trained on labels only? Choose the best of fifteen on a random half
# of the test images, then see its lead on the *other* half, 500 times. Then choose by *one seed*, and see its
# lead with the other two, trained on other labels:

# %% tags=["compare"]
isic = load_grid("isic2018")
rivals = [name for name in isic.last if name != "supervised_pair"]
gains = np.stack([isic.last[name] - isic.last["supervised_pair"] for name in rivals])  # (15, seeds, images)
print(f"{gains.shape[2]} images   chosen on half   on the other half   chosen by the seed   with the others")
for s in range(3):
    halves = np.array(list(half_and_half(gains[:, s], 500, seed=0))).mean(axis=0)
    best = gains[:, s].mean(axis=1).argmax()
    own, others = gains[best, s].mean(), np.delete(gains[best], s, axis=0).mean()
    print(f"seed {s} {halves[0]:>+19.3f} {halves[1]:>+19.3f} {own:>+20.3f} {others:>+17.3f}   {rivals[best]}")

# %% [markdown]
# On other images most of the lead is left, for they are many. With other labels, of 0.027 on average 0.005
# is left. Nobody cheated. The third column is what a paper prints that trains once and reports the best; the
# last is what its readers get. It goes for anything that is chosen by its test scores: a method, a checkpoint
# (chapter 10), a threshold, a seed.
#
# **Which seed, which checkpoint.** Three ways to report the same trainings:

# %% tags=["compare"]
print("variant      mean of seeds   best seed   best on val")
for name in ("MC", "+ SKD", "+ UGDA"):
    last, chosen = ladder.last[name].mean(axis=1), ladder.best[name].mean()
    print(f"{name:<12} {last.mean():>13.3f} {last.max():>11.3f} {chosen:>13.3f}")

# %% [markdown]
# "Our best run" is always above the mean, and the more so, the wilder the training and the more seeds one tried.
# Best on val is an honest choice: the test images had no say. Here it is the last one every time: all trainings
# are still improving.
#
# **How many false finds?** Let $V$ variants be exactly as good as the baseline. Each gets its own interval
# over 60 images. How often is at least one of them "better" or "worse", and what if each interval is widened
# to hold $1 - 0.05 / V$ of the means (Bonferroni)?

# %% tags=["compare"]
generator = torch.Generator().manual_seed(0)
luck = torch.randn(4000, 20, 60, generator=generator, dtype=torch.float64)  # (repetitions, variants, images)
distance = (luck.mean(dim=2) / (luck.std(dim=2) / 60**0.5)).abs()  # of the mean from 0, in standard errors
print("variants   a false find at 95 %   with Bonferroni")
for count in (1, 5, 20):
    plain, wide = (t.ppf(1 - 0.025 / parts, df=59) for parts in (1, count))
    rates = [(distance[:, :count] > limit).any(dim=1).double().mean().item() for limit in (plain, wide)]
    print(f"{count:>8} {rates[0]:>22.0%} {rates[1]:>17.0%}")

# %% [markdown]
# So fix *beforehand* which comparison is the question; call the others exploration, or widen them. The
# library's tables name one or two baselines for that reason, correct each column (Holm), and print every row.
#
# ## Step 4: look at what failed
#
# **Idea.** A mean of 0.77 can be all images at 0.77, or three quarters perfect and a quarter lost. Nobody can
# mend a mean. So sort the test images by their score, *look* at the worst, and give what went wrong a name.
#
# For this the package holds the maps of two trainings on 64-pixel images of the same kind: `supervised`, the
# U-Net on 8 labelled images, and the fused map of `knowsam`, 150 steps each. What is kept of every pixel is the
# *margin* $m = z_1 - z_0$, the logit of the lesion minus that of the background: above 0 it says lesion.

# %% tags=["compare"]
METHODS = ("supervised", "knowsam")
shown_as = {"supervised": "U-Net", "knowsam": "fused"}
dataset = open_dataset("synthetic:dermoscopy:160:1", 64)
truths = {split: np.stack([dataset.mask(r) == 1 for r in dataset.split(split)]) for split in ("val", "test")}
margins = {(name, split): load_margins(name, split) for name in METHODS for split in ("val", "test")}
masks = {name: margins[name, "test"] > 0 for name in METHODS}
scores = {
    name: np.array([dice(p, t) for p, t in zip(masks[name], truths["test"], strict=True)]) for name in METHODS
}
for name, values in scores.items():
    low, middle = np.quantile(values, [0.1, 0.5])
    print(f"{name:<11} mean {values.mean():.2f}   median {middle:.2f}   a tenth lies below {low:.2f}")

# %% [markdown]
# The pixels of a mask fall into three groups: *hit*, *added* (predicted, not true) and *missed*. Their
# numbers say what kind of failure it is. We ask in this order, and the first yes counts:
#
# | kind | question |
# |---|---|
# | `good` | is the Dice at least 0.8? (two empty masks agree: Dice 1) |
# | `nothing found` | is the prediction empty? |
# | `false alarm` | is the truth empty? |
# | `elsewhere` | is no pixel hit? |
# | `too small` | are more than twice as many pixels missed as added? |
# | `too large` | are more than twice as many added as missed? |
# | `wrong shape` | all the rest |
#
# ### Exercise 11.3: kinds of failure
#
# Difficulty 2 of 5 · importance 4 of 5 · 8 minutes
#
# Write `failure_kind(pred, true)` for two Boolean masks (H, W). Return the name of the kind.
#
# <details><summary>Hint</summary>
#
# 1. The order of the questions is that of the list; each `return` ends the function. `dice(pred, true)` knows
#    the rule for empty masks. `mask.any()` is false for an empty one.
# 2. `pred & true` are the hit pixels, `pred & ~true` the added ones, `~pred & true` the missed ones;
#    `np.count_nonzero` counts.
# 3. More than twice as many: `missed > 2 * added`. What was missed and added counts, not the areas.
#
# </details>
#
# $$\text{hit} = |P \cap Y|, \qquad \text{added} = |P \setminus Y|, \qquad \text{missed} = |Y \setminus P|, \qquad Y \text{ the true pixels}$$


# %% tags=["exercise"]
# blank: failure_kind
def failure_kind(pred: BoolArray, true: BoolArray) -> str:
    """What is wrong with a prediction, by the pixels that it hit, added and missed."""
    hit = np.count_nonzero(pred & true)
    added, missed = np.count_nonzero(pred & ~true), np.count_nonzero(~pred & true)
    if dice(pred, true) >= 0.8:
        return "good"
    if not pred.any():
        return "nothing found"
    if not true.any():
        return "false alarm"
    if hit == 0:
        return "elsewhere"
    if missed > 2 * added:
        return "too small"
    return "too large" if added > 2 * missed else "wrong shape"


# %%
check("11.3", failure_kind)

# %% [markdown]
# **Look.** How often each kind occurs, by the library's copy of this function, and the worst four images of
# each method:

# %% tags=["compare"]
from knowsam_lite.course.chapters.ch11.e3_kinds_of_failure import right_kind

kinds = {
    name: [right_kind(p, t) for p, t in zip(masks[name], truths["test"], strict=True)] for name in METHODS
}
for name in METHODS:
    counted = Counter(kinds[name]).most_common()
    print(f"{name:<11} " + ", ".join(f"{kind} {count}" for kind, count in counted))

# %% tags=["compare"]
worst = {name: scores[name].argsort(kind="stable")[:4] for name in METHODS}
told = show(
    figures.overlaps,
    {
        f"{shown_as[name]} {i}: {kinds[name][i]}": (
            masks[name][i],
            truths["test"][i],
        )
        for name in METHODS
        for i in worst[name]
    },
    alt="The four worst test images of supervised (upper row) and of knowsam (lower row): pixels hit, added and missed over "
    "the outline of the truth, titled with the kind of failure.",
)
shared = sorted(set(worst["supervised"].tolist()) & set(worst["knowsam"].tolist()))
print(f"{len(shared)} of the four worst images are the same for both")

# %% [markdown]
# The numbers in the titles count the test images. The two trainings fail in opposite ways. The U-Net floods: it
# takes nearly the whole picture for a lesion. The fused map of `knowsam` is mostly too small, and none of its
# failures is as bad as the U-Net's four worst. The two means alone, 0.73 and 0.83, could not have told that.
#
# Now *look at the images themselves*. Is the lesion pale? Hidden by hair? Is there something else that looks
# like one?

# %% tags=["compare"]
places = [int(i) for i in worst["supervised"][:3]]
records = dataset.split("test")
rows = []
for i in places:
    z = torch.from_numpy(
        np.stack([np.zeros_like(margins["supervised", "test"][i]), margins["supervised", "test"][i]])
    )
    rows.append(
        {
            "id": f"image {i}",
            "image": dataset.image(records[i]),
            "truth": truths["test"][i].astype(np.uint8),
            "maps": {
                "U-Net": masks["supervised"][i].astype(np.uint8),
                "fused": masks["knowsam"][i].astype(np.uint8),
            },
            "dice": {"U-Net": scores["supervised"][i], "fused": scores["knowsam"][i]},
            "uncertainty": entropy_map(z[None])[0].numpy(),
        }
    )
sheet = show(
    figures.prediction_sheet,
    rows,
    alt="The three worst test images of the supervised U-Net: image, truth, the U-Net's mask, the fused mask of knowsam, "
    "and the entropy of the U-Net's map.",
)
print("Dice of the U-Net:", [f"{scores['supervised'][i]:.2f}" for i in places])
print("Dice of knowsam  :", [f"{scores['knowsam'][i]:.2f}" for i in places])

# %% [markdown]
# In images 9 and 32 the lesion is plain to see. The U-Net has it, too, but claims the skin around it as well.
# In image 24 the lesion is paler than what one expects, with a glare beside it, and both methods fail. Now
# the last column: on image 24 the U-Net is *certain* almost everywhere, and wrong almost everywhere. Can its
# confidence be believed at all? That is step 5.
#
# Are some images simply hard, or does each method have its own failures? Ask the 48 trainings on ISIC:

# %% tags=["compare"]
lost = np.stack(list(isic.last.values())) < 0.5  # (methods, seeds, images)
of_methods, of_seeds = (np.eye(n, dtype=bool) for n in lost.shape[:2])
pairs = {
    "same method, other seed": of_methods[:, None, :, None] & ~of_seeds[:, None],
    "other method, same seed": ~of_methods[:, None, :, None] & of_seeds[:, None],
    "both other": ~of_methods[:, None, :, None] & ~of_seeds[:, None],
}
common = np.einsum("asi,bti->asbt", lost * 1.0, lost * 1.0) / lost.sum(axis=2)[:, :, None, None]
print(
    f"a training loses {lost.sum(axis=2).mean():.0f} of {lost.shape[2]} images (Dice below 0.5); another loses of these"
)
for label, chosen in pairs.items():
    print(f"{label:<24} {common[chosen].mean():.0%}")
print(f"{'by chance':<24} {lost.mean():.0%}")
print(f"lost by at least one training {lost.any(axis=(0, 1)).sum()}, by all {lost.all(axis=(0, 1)).sum()}")

# %% [markdown]
# So some images are hard, though only four are lost by all: half is lost again where nothing is shared. The same
# *method* adds little to that, the same *seed* more: it decides on labels, start and batches, and it decides more
# about what fails than the method does.
#
# ## Step 5: calibration
#
# **Idea.** The network does not only say "lesion", it says "lesion, 0.9". If that can be believed, then of all
# pixels with confidence 0.9 nine in ten are right: the network is *calibrated*. The test is plain counting.
# Sort the answers by their confidence into equal parts, and compare in each part the mean confidence with the
# share that is right.
#
# The confidence of a pixel is its largest probability; for two classes that is $\sigma(|m|)$, never below one
# half.
#
# **Smallest example.** Six answers, with confidences 0.5, 0.6, 0.7, 0.8, 0.9 and 1; the second and the fifth
# are wrong. Of four parts the lower edge belongs to a part, and 1 belongs to the last one:
#
# | part | answers | mean confidence | share right |
# |---|---|---|---|
# | [0, 0.25) | 0 | | |
# | [0.25, 0.5) | 0 | | |
# | [0.5, 0.75) | 3 | 0.60 | 0.67 |
# | [0.75, 1] | 3 | 0.90 | 0.67 |
#
# ### Exercise 11.4: a reliability diagram
#
# Difficulty 3 of 5 · importance 4 of 5 · 10 minutes
#
# Write `reliability(confidence, right, bins)`: arrays of one shape, confidences in [0, 1] and Booleans.
# Return three arrays (bins,), for parts as above: how many answers lie in each part, the *sum* of their confidences, and how many
# of them are right. Sums, not means, so that those of many images can be added up.
#
# <details><summary>Hint</summary>
#
# 1. The part of each answer is `(confidence * bins).astype(int)`, which cuts off; a confidence of 1 would get
#    the part `bins`, so take `np.minimum(..., bins - 1)`. `.ravel()` makes one axis of several.
# 2. `np.bincount(part, minlength=bins)` counts. With `weights=` it adds up what you give for each answer:
#    `confidence.ravel()`, then `right.ravel()`. Without `minlength` empty parts at the end would be missing.
# 3. Return the three sums as they are, without dividing.
#
# </details>
#
# $$n_b = \sum_j [j \in b], \qquad C_b = \sum_{j \in b} c_j, \qquad A_b = \sum_{j \in b} a_j, \qquad
# \mathrm{ECE} = \sum_b \frac{n_b}{N} \left| \frac{A_b}{n_b} - \frac{C_b}{n_b} \right|$$

# %% tags=["exercise"]
# library: knowsam_lite.calibration.reliability
# blank: reliability

# %%
check("11.4", reliability)

# %% [markdown]
# The *expected calibration error* (ECE) is the mean gap, weighted by the number of answers in a part;
# `calibration_error` computes it from the sums. **Look** at both trainings. A curve below the diagonal is a
# network that is surer than it may be.

# %% tags=["compare"]
from knowsam_lite import calibration


def sums(name: str, split: str, temperature: float = 1.0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Reliability of all pixels of a split, with the margins divided by a temperature."""
    m = margins[name, split].astype(float)
    confidence = 1 / (1 + np.exp(-np.abs(m) / temperature))
    return calibration.reliability(confidence, (m > 0) == truths[split], 20)


diagonal = np.linspace(0.525, 0.975, 10)
curves = {"perfect": (diagonal, diagonal)}
for name in METHODS:
    n, confident, correct = (part[10:] for part in sums(name, "test"))  # below one half there is nothing
    curves[shown_as[name]] = (confident / n, correct / n)
    print(f"{name:<11} ECE {calibration_error(n, confident, correct):.3f}")
    print(
        f"{'':<11} most confident part: says {confident[-1] / n[-1]:.3f}, right {correct[-1] / n[-1]:.3f}, {n[-1] / n.sum():.0%} of the pixels"
    )
drawn = show(
    figures.trends,
    curves,
    title="Share of right pixels, part by part",
    xlabel="mean confidence of the part",
    references=["perfect"],
    alt="Reliability curves of the U-Net and of the fused map of knowsam against the diagonal of a perfectly calibrated network, from confidence "
    "one half to one.",
)

# %% [markdown]
# The U-Net is far too sure. Where it says 0.99, a tenth of the pixels are wrong, and between 0.6 and 0.8 its
# confidence says next to nothing. The fused map of `knowsam` is nearly calibrated. It is one training of
# each: enough to read these two networks, not to judge the two methods.
#
# **A caution about pixels.** Most pixels are background far from any border, easy and confident, and they
# pull the ECE towards 0. Ask only the pixels that matter to the border, those within two pixels of it:

# %% tags=["compare"]
from scipy import ndimage

square = np.ones((1, 5, 5), bool)
edge = ndimage.binary_dilation(truths["test"], square) & ~ndimage.binary_erosion(
    truths["test"], square, border_value=1
)
for name in METHODS:
    m = margins[name, "test"].astype(float)
    confidence, right = 1 / (1 + np.exp(-np.abs(m))), (m > 0) == truths["test"]
    near = calibration_error(*calibration.reliability(confidence[edge], right[edge], 20))
    far = calibration_error(*calibration.reliability(confidence[~edge], right[~edge], 20))
    print(f"{name:<11} ECE near the border {near:.3f}   elsewhere {far:.3f}")
print(f"near the border lie {edge.mean():.0%} of the pixels")

# %% [markdown]
# So state on which pixels an ECE was taken.
#
# **One number mends much.** Divide all logits by a temperature $T$, *after* training, and choose $T$ on the
# validation images, so that their true classes are as likely as possible (Guo et al., 2017). $T$ is that of chapter 08, with another purpose.
# No winner changes, so no mask and no Dice changes.


# %% tags=["compare"]
def surprise(name: str, temperature: float) -> float:
    """Mean -log p of the true classes of the validation pixels."""
    m = margins[name, "val"].astype(float) / temperature
    return float(np.logaddexp(0, np.where(truths["val"], -m, m)).mean())


candidates = np.geomspace(0.25, 8, 41)
for name in METHODS:
    chosen = min(candidates, key=lambda temperature: surprise(name, temperature))
    errors = [calibration_error(*sums(name, "test", temperature)) for temperature in (1.0, chosen)]
    print(f"{name:<11} T = {chosen:.1f}   ECE on test {errors[0]:.3f} before, {errors[1]:.3f} after")

# %% [markdown]
# Both temperatures are above 1: both networks were too sure, the U-Net more. One number takes its ECE from
# 0.10 to 0.04. It cannot mend the flooded masks, which are as wrong as before; they only say so now.
#
# `knowsam-lite evaluate` draws the same test into `report.html`, by parts of uncertainty in place of
# confidence, with the ECE beneath it.
#
# ## Step 6: does doubt warn?
#
# **Idea.** A calibrated network may still not know *which image* it failed on. In practice someone looks at
# the doubtful cases. So rank the test images by doubt, keep the least doubtful share (the *coverage*), and
# ask for the mean *risk*, 1 − Dice, of those kept. If doubt warns, the risk falls as fewer are kept.
#
# **Smallest example.** Three images with risks 0.1, 0.6 and 0.2, and doubts 1, 3 and 2. Keep one: risk 0.1.
# Keep two: (0.1 + 0.2) / 2 = 0.15. Keep all: 0.30.
#
# ### Exercise 11.5: risk and coverage
#
# Difficulty 2 of 5 · importance 3 of 5 · 8 minutes
#
# Write `risk_coverage(risk, doubt)`, arrays (n,) both. Return two arrays (n,): the coverage $k / n$ for $k$ = 1
# to $n$, and the mean risk of the $k$ answers of least doubt; of equal doubt the earlier one is kept first. Leave
# both inputs as they are.
#
# <details><summary>Hint</summary>
#
# 1. `np.argsort(doubt, kind="stable")` gives the places from the least doubt to the most; equals keep their
#    order.
# 2. `risk[order]` are the risks in that order. `np.cumsum` adds them up one after the other; divide by how many
#    they are, $k$.
# 3. `np.arange(1, n + 1)` are the $k$.
#
# </details>
#
# $$\bar r(k) = \frac1k \sum_{j = 1}^{k} r_{\pi(j)}, \qquad \pi \text{ sorts by doubt}$$

# %% tags=["exercise"]
# library: knowsam_lite.calibration.risk_coverage
# blank: risk_coverage

# %%
check("11.5", risk_coverage)

# %% [markdown]
# **Look**, for two ways to make one doubt of a map: the mean entropy of *all* pixels, and that of the pixels
# *claimed* as lesion. `knowing` sorts by the true risk, the best that any doubt could do; the flat line is
# random doubt.


# %% tags=["compare"]
def entropy_of(m: NDArray) -> NDArray:
    """Normalised entropy of two classes with this margin."""
    z = torch.from_numpy(np.stack([np.zeros_like(m), m], axis=1))  # (N, 2, H, W)
    return entropy_map(z).numpy().astype(float)


name = "knowsam"
h, risk = entropy_of(margins[name, "test"]), 1 - scores[name]
claimed = masks[name]
doubts = {
    "all pixels": h.mean(axis=(1, 2)),
    "claimed pixels": np.array([e[p].mean() if p.any() else 1.0 for e, p in zip(h, claimed, strict=True)]),
    "knowing": risk,
}
paths = {label: calibration.risk_coverage(risk, doubt) for label, doubt in doubts.items()}
drawn = show(
    figures.trends,
    {**paths, "at random": (paths["knowing"][0], np.full(len(risk), risk.mean()))},
    references=["knowing", "at random"],
    title=f"{name}: risk (1 − Dice) of the images kept",
    xlabel="coverage: share of images kept, least doubtful first",
    alt="Risk against coverage of the knowsam run for doubt by all pixels, doubt by the claimed pixels, sorting by the "
    "true risk, and a flat line for random doubt.",
)
half = len(risk) // 2 - 1
for label, (_, kept) in paths.items():
    print(f"{label:<15} half kept: {kept[half]:.3f}   all kept: {kept[-1]:.3f}   area {kept.mean():.3f}")

# %% [markdown]
# Doubt warns: the half of least doubt has a lower risk than all, though `knowing` shows what is still missing.
# And it matters how one makes one doubt of a map. By all pixels a quiet background counts as certainty, and a
# long border as doubt; asking only the claimed pixels is clearly better here.
#
# ## Put together, and ablate one thing: the reading
#
# The same trainings, + SKD against + HAM, read in six ways. Nothing but the reading changes:

# %% tags=["compare"]
ours, theirs = ladder.last["+ SKD"], ladder.last["+ HAM"]
luckiest, unluckiest = ours.mean(axis=1).argmax(), theirs.mean(axis=1).argmin()
readings = {
    "seeds and images": ours - theirs,
    "seed 0, images only": ours[0] - theirs[0],
    "seed 1, images only": ours[1] - theirs[1],
    "all scores alike": (ours - theirs).ravel(),
    "best against best": ours[luckiest] - theirs[theirs.mean(axis=1).argmax()],
    "best against worst": ours[luckiest] - theirs[unluckiest],
}
for label, delta in readings.items():
    d = crossed(delta)
    verdict = "tie" if d.p >= 0.05 else "better" if d.mean > 0 else "worse"
    print(f"{label:<20} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}] {verdict}")

# %% [markdown]
# Better, worse, and a tie, from the same files. Seed 0 says worse, seed 1 better, both
# with an interval without 0. "All scores alike" treats 120 scores as 120 independent trials,
# though they come from six trainings. The last reading happens without bad intent: one's own method is
# repeated until it runs, the rival is run once. Only the first reading
# covers both kinds of luck, and it is the only one that says what we know: not enough.
#
# **Your own grid.** `compare` trains methods × data sets × seeds, `ablate` the ladder, and
# `ablate --defects` the whole method with one defect of the authors' code back at a time. All three print a table
# with paired intervals, keep every score in `scores.json`, and go on where they were stopped:
#
# ```bash
# knowsam-lite ablate --data synthetic:dermoscopy:160:1 --labeled 8 --seeds 3 --budget ci --steps 40
# knowsam-lite ablate --defects --data my_images --labeled 15 --out runs/defects
# knowsam-lite compare --data my_images --labeled 15 --methods supervised_pair mc knowsam_plus --seeds 3
# ```
#
# A very small one, to see the table; fewer than three seeds get no verdict. "Best of 5 val" is the test Dice
# of the checkpoint that was best on the 5 val images (step 3).

# %% tags=["training"]
with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "knowsam_lite", "compare", "--data", "synthetic:dermoscopy:40:1"]
    command += ["--labeled", "4", "--budget", "ci", "--workers", "1", "--out", "compared"]
    command += ["--methods", "supervised", "mc_mean", "--baselines", "supervised"]
    command += ["--steps", budget(smoke="0", ci="2", laptop="20", gpu="100")]
    command += ["--seeds", budget(smoke="0", ci="1", laptop="2", gpu="3")]
    if budget.name == "smoke":
        print("left out at this budget")
    else:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        print(done.stdout.split("wrote")[0].strip() or done.stderr[-300:])

# %% [markdown]
# ## Where the paper, the authors' code and this library differ
#
# The paper (Huang et al., IEEE TMI 2025) reports means on test images; the code that its authors published
# settles how they are computed and what was trained. Each chapter has listed the differences of its block. Now
# ask of each defect: *does it change the number, and on which data?*
#
# | detail | told in chapter | number that it can change |
# |---|---|---|
# | HD95; empty is 0 | 01 | HD95, on any data: here, 1 |
# | consistency, entropy loss | 04 | training: here, 2 |
# | distillation | 08 | training: here, 2 |
# | last layer of HAM, regions, SAM's tensors, checkpoints | 05, 09, 10 | training |
#
# **1. The distance.** Both rules on the same masks; then on those of a network that gives up on every image
# of which it is unsure, the most doubtful quarter, and hands in an empty mask instead:

# %% tags=["compare"]
from knowsam_lite.official.metrics import official_hd95

giving_up = masks["knowsam"].copy()
giving_up[np.argsort(-doubts["claimed pixels"], kind="stable")[: len(giving_up) // 4]] = False
print("                      Dice   HD95 library   HD95 authors")
for label, made in {**masks, "knowsam, giving up": giving_up}.items():
    pairs = list(zip(made, truths["test"], strict=True))
    overlap, ours, authors = (np.mean([f(p, t) for p, t in pairs]) for f in (dice, hd95, official_hd95))
    print(f"{label:<20} {overlap:>5.2f} {ours:>14.1f} {authors:>14.1f}")

# %% [markdown]
# Giving up on a quarter of the images costs Dice, and by the library's rule the distance becomes four times
# as large. By the authors' rule it *falls*, below both honest methods: what was not found has distance 0.
#
# **2. The losses.** For random logits of 2 and of 4 classes, the ratio of the authors' loss to the library's:

# %% tags=["compare"]
from knowsam_lite import losses
from knowsam_lite.official import losses as official

pairs_of = {
    "consistency, a from b": (official.consistency_a_from_b, losses.consistency_loss),
    "distillation": (official.distillation_loss, losses.distillation_loss),
    "entropy": (lambda z, _: official.entropy_loss(z), lambda z, _: losses.entropy_loss(z)),
}
print("authors / library      2 classes   4 classes")
for label, (theirs_of, ours_of) in pairs_of.items():
    ratios = []
    for classes in (2, 4):
        generator = torch.Generator().manual_seed(classes)
        z, other = (2 * torch.randn(2, classes, 16, 16, generator=generator) for _ in range(2))
        ratios.append((theirs_of(z, other) / ours_of(z, other)).item())
    print(f"{label:<22} {ratios[0]:>9.2f} {ratios[1]:>11.2f}")
z_b = torch.randn(2, 2, 16, 16, generator=generator).requires_grad_()
z_a = torch.randn(2, 2, 16, 16, generator=generator).requires_grad_()
print(
    "b's consistency has a gradient for b: authors",
    official.consistency_b_from_a(z_b, z_a).requires_grad,
    end=", ",
)
print("library", losses.consistency_loss(z_b, z_a).requires_grad)

# %% [markdown]
# With two classes all values agree. What is wrong there as well is the *direction*: b, the V-Net, learns nothing
# from the U-Net. With four classes all three differ. A defect in code is not yet one in a published number; the data set decides.
#
# Whether a defect changes the *trained* result takes trainings, over seeds, with intervals:
# `knowsam-lite ablate --defects` makes them, in hours. This chapter did not, and claims nothing about them.
#
# ## Quiz
#
# Write the letter of one answer to each question in the cell below, and run it as often as you like.
#
# 1. You train two methods once each, and ask 6,000 test images in place of 60. The bootstrap over images will
#    call one of two *equal* methods better (a) in 5 % of all cases, as before, (b) less often, (c) never, (d) more often
# 2. You train seven variants once each and report the best one's gain. Trained again, its gain will
#    most likely be (a) the same, (b) larger, (c) smaller, (d) exactly 0
# 3. Over three seeds the paired interval is [−0.04, +0.10]. What do you know? (a) both are equal, (b) these
#    trainings do not decide, (c) it is worse in some seeds, (d) the method is better by 0.03
# 4. All logits are divided by 2 after training. What changes? (a) the confidences, (b) the masks, (c) the Dice,
#    (d) nothing
# 5. Who gains when an empty prediction has distance 0? (a) a network that finds nothing where it is
#    unsure, (b) all alike, (c) the one with the best borders, (d) nobody

# %%
quiz("11", ["d", "c", "b", "a", "a"])

# %% [markdown]
# ## Recap
#
# - **An ablation** changes one thing at a time; a gain belongs to a part *in its place in the order*.
# - **Seeds and images** are two kinds of luck. Count both, paired, by t while seeds are few; an interval that
#   holds 0 is a tie, and a tie is not equality.
# - **Chosen is not measured**: whatever was picked on the test images, be it method, seed or checkpoint, looks
#   better there than it is.
# - **Look at the worst**, and name what went wrong: nothing found, elsewhere, too small, too large, wrong shape.
# - **Calibration** asks whether confidence is true, **risk and coverage** whether doubt warns. One temperature
#   from the validation images mends the first and changes no mask.
# - **A defect** matters where it changes a number: measure it on your data before you quote it, for or against.
#
# **Next:** chapter 12 goes beyond: SKD in other methods, your own data, and volumes.

# %%
check.report()
