"""KnowSAM with a calmer schedule: teachers wait until they know something, and hand over to each other."""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import UNKNOWN, dice_loss, supervised_loss
from knowsam_lite.methods.ema import update_ema
from knowsam_lite.methods.fixmatch import SPAN, boxes, masked_cross_entropy
from knowsam_lite.methods.knowsam import KnowSAM
from knowsam_lite.methods.multi_view import mutual_terms
from knowsam_lite.parallel.ranks import whole_batch
from knowsam_lite.sam import SamTeacher
from knowsam_lite.sam.prompts import roughen
from knowsam_lite.students import StudentOutput

RISE = 0.25  # fraction of the run, after `labels_first`, in which all unlabelled terms rise
ENTROPY = 0.1  # largest weight of the entropy term
EASY = 0.80  # confidence from which a hard pseudo-label counts at first; it ends at `threshold`


def rise(progress: float, labels_first: float) -> float:
    """Weight of all that needs no labels: 0 for the fraction `labels_first` of the run, then
    exp(-5 (1 - t')^2) with t' from 0 to 1 over a quarter of the run, then 1. `progress` in [0, 1].
    """
    since = progress - labels_first
    return 0.0 if since < 0 else math.exp(-5 * (1 - min(since / RISE, 1)) ** 2)


def with_labeled(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """CutMix from labelled into unlabelled images: x_u and y_u with `inside` (N_u, H, W) from a labelled one.

    Images (N, 3, H, W), labels (N, H, W), -1 where unknown; unlabelled image j gets labelled image j mod N_l.
    """
    partner = torch.arange(len(x_u), device=x_u.device) % len(x_l)
    return torch.where(inside.unsqueeze(1), x_l[partner], x_u), torch.where(inside, y_l[partner], y_u)


def agreement(a: Tensor, b: Tensor, num_classes: int) -> Tensor:
    """Dice of two label maps (N, H, W), mean over the foreground classes: (N,); 1 where both are empty."""
    scores = []
    for c in range(1, num_classes):
        in_a, in_b = (a == c).flatten(1), (b == c).flatten(1)
        sizes = in_a.sum(1) + in_b.sum(1)
        scores.append(torch.where(sizes > 0, 2 * (in_a & in_b).sum(1) / sizes.clamp(min=1), 1.0))
    return torch.stack(scores).mean(dim=0)


def handover(z: Tensor, z_ema: Tensor, z_s: Tensor) -> Tensor:
    """r = Dice(student, EMA) x Dice(EMA, SAM) of each image: logits (N, C, H, W) -> (N, 1, 1, 1) in [0, 1].

    After SynFoC (Ma et al., CVPR 2025): where the small networks agree with themselves and with SAM, they
    may teach; where not, SAM does.
    """
    labels = [one.argmax(dim=1) for one in (z, z_ema, z_s)]
    c = z.shape[1]
    return (agreement(labels[0], labels[1], c) * agreement(labels[1], labels[2], c)).view(-1, 1, 1, 1)


@whole_batch
def masked_distillation(
    z: Tensor, log_p: Tensor, wanted: Tensor, temperature: float, trust: Tensor | None = None
) -> Tensor:
    """T^2 KL(p || softmax(z / T)), mean over the pixels `wanted` (N, H, W); `log_p` is at T already.
    `trust` (N,), in [0, 1]: by how much each image counts.
    """
    log_q = (z.float() / temperature).log_softmax(dim=1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=1)
    weights = wanted if trust is None else wanted * trust.view(-1, 1, 1)
    return temperature**2 * (divergence * weights).sum() / wanted.sum().clamp(min=1)


class KnowSAMPlus(KnowSAM):
    """KnowSAM in another order; each choice with a name is a field of `Config`, and `ablate --plus` undoes
    them one at a time. The entropy term weighs 0.1 at most; `temperature` has no part in it.

    - `labels_first`: for the first 15 % of the run SAM and the students learn from labels alone. Then all
      unlabelled terms rise by exp(-5 (1 - t')^2) (Laine and Aila, 2017) over a quarter of the run.
    - Weak views for the teachers, strong ones for the students (Sohn et al., 2020).
    - `target`: each image's target is (1 - r) p_SAM + r p_EMA (`handover`), or one of the two.
    - `pseudo`: "soft", KL at T = 1 (`target_temperature`; the paper's 10 compares sizes of logits and pulls
      on pixels that are right, docs/starts_trials.md), or "hard", CE + Dice on pixels whose confidence is
      above a threshold that goes from 0.80 to `threshold`. Labelled pixels learn their labels alone.
    - `trust`: with "agreement" an unlabelled image counts by Dice(EMA, SAM), which tells how good its target
      is (docs/starts.md); "alike": each counts once.
    - `cutmix`: a rectangle of a labelled image, with its labels, in half of the unlabelled ones (Yun et al.,
      2019), instead of UGDA's second pass, which `mix_too` brings back.
    - A moving average of the students over 4 % of the run, statistics included, asks SAM and predicts. SAM
      answers in training mode, with the dropout and the batch's statistics of its learned prompts.
    """

    name = "knowsam_plus"
    extra_views = 1

    def __init__(
        self,
        config: Config,
        num_classes: int,
        net_a: nn.Module | None = None,
        net_b: nn.Module | None = None,
        teacher: SamTeacher | None = None,
    ):
        super().__init__(config, num_classes, net_a, net_b, teacher)
        self.average = copy.deepcopy(self.students).requires_grad_(False)

    def train(self, mode: bool = True) -> "KnowSAMPlus":
        super().train(mode)
        self.average.eval()
        return self

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        progress, n = self.progress(step), batch.n_labeled
        risen = rise(progress, self.config.labels_first)
        x_l, y_l = batch.x[:n], batch.y[:n]
        if risen == 0:
            z = self.students(x_l)
            yield {"sam/supervised": supervised_loss(self.teacher(x_l, roughen(z.logits_f)).logits, y_l)}
            yield self.label_terms(z, y_l)
            return
        assert batch.weak is not None
        with torch.no_grad():
            z_ema = self.average(batch.weak).logits_f
            z_s = self.teacher(batch.weak, z_ema).logits
        torch.clear_autocast_cache()  # else some PyTorch reuses these bf16 weights, which have no gradient
        x_u, y_u = batch.x[n:], batch.y[n:]
        inside = torch.zeros_like(y_u, dtype=torch.bool)
        if self.config.cutmix:
            inside = boxes(len(x_u), *x_u.shape[-2:]).to(x_u.device, non_blocking=True)
            x_u, y_u = with_labeled(x_l, y_l, x_u, y_u, inside)
        z = self.students(torch.cat([x_l, x_u]))
        yield {"sam/supervised": supervised_loss(self.teacher(x_l, roughen(z.logits_f[:n])).logits, y_l)}
        terms = self.label_terms(z, torch.cat([y_l, y_u]))
        w, v = risen * self.config.consistency_weight, risen * min(self.config.entropy_weight, ENTROPY)
        terms |= mutual_terms(z.logits_a, z.logits_b, w, v)
        terms |= self.taught_terms(z, z_s, z_ema, ~inside, progress)
        yield terms
        if self.config.mix_too and progress >= self.config.mix_start:
            unsure = torch.cat([z.logits_f[:n], z_ema])  # of the images themselves, without what was pasted
            mixed = self.mixed_batch(batch, unsure, z_s.argmax(dim=1))
            mixed_terms = self.mixed_losses(self.students(mixed.x), mixed.y, n, progress)
            yield {name: risen * term for name, term in mixed_terms.items()}

    def mixed_losses(self, z: StudentOutput, y: Tensor, n: int, progress: float) -> dict[str, Tensor]:
        """The students' terms on UGDA's batch, before they rise."""
        w, v = self.config.consistency_weight, min(self.config.entropy_weight, ENTROPY)
        terms = self.label_terms(z, y) | mutual_terms(z.logits_a, z.logits_b, w, v)
        own = z.logits_f[n:].argmax(dim=1)
        for k, z_k in (("a", z.logits_a), ("b", z.logits_b)):
            terms[f"{k}/pseudo"] = 0.5 * w * supervised_loss(z_k[n:], own)
        return {f"mixed/{name}": term for name, term in terms.items()}

    def label_terms(self, z: StudentOutput, y: Tensor) -> dict[str, Tensor]:
        """What the students learn from labels (N, H, W), -1 where unknown."""
        return {
            "a/supervised": 0.5 * supervised_loss(z.logits_a, y),
            "b/supervised": 0.5 * supervised_loss(z.logits_b, y),
            "fused/supervised": supervised_loss(z.logits_f, y),
        }

    def taught_terms(
        self, z: StudentOutput, z_s: Tensor, z_ema: Tensor, wanted: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """SKD with handover, on the unlabelled half: logits `z_s` of SAM and `z_ema` of the average
        (N_u, C, H, W), and the pixels `wanted` (N_u, H, W).
        """
        config, n = self.config, len(z.logits_f) - len(z_s)
        share = {"sam": 0.0, "ema": 1.0}.get(config.target)
        same_image = torch.where(wanted.unsqueeze(1), z.logits_f[n:], z_ema)  # elsewhere it saw another one
        r = handover(same_image, z_ema, z_s) if share is None else share
        t = config.target_temperature if config.pseudo == "soft" else 1.0
        p = (1 - r) * (z_s.float() / t).softmax(dim=1) + r * (z_ema.float() / t).softmax(dim=1)
        w = 0.5 * rise(progress, config.labels_first) * config.distillation_weight
        terms = {}
        if config.pseudo == "soft":
            trust = None
            if config.trust == "agreement":
                trust = agreement(z_ema.argmax(dim=1), z_s.argmax(dim=1), p.shape[1])
            log_p = p.clamp(min=1e-12).log()
            for k, z_k in (("a", z.logits_a), ("b", z.logits_b)):
                terms[f"{k}/distillation"] = w * masked_distillation(
                    z_k[n:], log_p, wanted.to(p.dtype), t, trust
                )
            return terms
        sure, y = p.max(dim=1)
        threshold = EASY + (config.threshold - EASY) * progress
        y = y.masked_fill(~wanted | (sure < threshold), UNKNOWN)
        for k, z_k in (("a", z.logits_a), ("b", z.logits_b)):
            fit = masked_cross_entropy(z_k[n:], y) + dice_loss(z_k[n:], y)
            terms[f"{k}/pseudo"] = w * fit
        return terms

    def after_step(self, step: int) -> None:
        decay = min(1 - 1 / (step + 1), 1 - 1 / max(SPAN * self.config.steps, 1))
        update_ema(self.average, self.students, decay, buffers=True)

    def predict(self, x: Tensor) -> Tensor:
        return self.average(x).logits_f

    def views(self, x: Tensor) -> dict[str, Tensor]:
        z = self.average(x)
        a, b = self.net_names()
        views = {a: z.logits_a, b: z.logits_b, "fused": z.logits_f}
        return self.with_answer(views, x, z.logits_f)
