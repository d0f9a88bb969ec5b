"""Mean Teacher, UA-MT, DTC, MC-Net+, CDMA, URPC and CPS: what is peculiar to each."""

import copy
import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.base import check_method, small_net, two_stream_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import entropy

from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.decoders import SharedEncoder, UNetDecoder
from knowsam_lite.losses import dice_loss, supervised_loss
from knowsam_lite.methods import CDMA, CPS, DTC, UAMT, URPC, MCNetPlus, MeanTeacher
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.cdma import (
    ATTENTIONS,
    AttentionDecoder,
    ChannelAttention,
    SpatialAttention,
    cross_distillation,
    mean_entropy,
)
from knowsam_lite.methods.dtc import distance_loss, signed_distance, signed_distances
from knowsam_lite.methods.mc_net_plus import UPSAMPLINGS, mutual_consistency
from knowsam_lite.methods.mean_teacher import noisy
from knowsam_lite.methods.ua_mt import masked_error
from knowsam_lite.methods.urpc import rectified_consistency
from knowsam_lite.subnets import UNet
from knowsam_lite.training import Trainer

CONFIG = replace(Config(), image_size=32, steps=300, learning_rate=1e-2)
WIDTHS, DROPOUT = (8, 16, 32), (0.0, 0.0, 0.1)
DEEP = (8, 8, 8, 16, 16)  # all five resolutions, for the four scales


def with_teacher(cls):
    def build(config, classes):
        method = cls(config, classes)
        method.net = small_net(classes)
        method.teacher = copy.deepcopy(method.net).requires_grad_(False)
        return method

    return build


def dtc(config, classes):
    method = DTC(config, classes)
    method.net = UNet(classes, WIDTHS, DROPOUT)
    method.distance_head = torch.nn.Conv2d(WIDTHS[0], classes, 3, padding=1)
    return method


def mc_net_plus(config, classes):
    method = MCNetPlus(config, classes)
    decoders = [UNetDecoder(classes, WIDTHS, upsampling) for upsampling in UPSAMPLINGS.values()]
    method.net = SharedEncoder(decoders, WIDTHS, DROPOUT)
    return method


def cdma(config, classes):
    method = CDMA(config, classes)
    decoders = [AttentionDecoder(classes, attention, WIDTHS) for attention in ATTENTIONS.values()]
    method.net = SharedEncoder(decoders, WIDTHS, DROPOUT)
    return method


def urpc(config, classes):
    method = URPC(config, classes)
    method.net = UNet(classes, DEEP, (0.0,) * 5)
    coarse = reversed(DEEP[1:-1])
    method.coarse_heads = torch.nn.ModuleList(torch.nn.Conv2d(w, classes, 3, padding=1) for w in coarse)
    return method


def cps(config, classes):
    method = CPS(config, classes)
    method.net_a, method.net_b = small_net(classes), small_net(classes)
    return method


BUILDERS = {
    "mean_teacher": with_teacher(MeanTeacher),
    "ua_mt": with_teacher(UAMT),
    "dtc": dtc,
    "mc_net_plus": mc_net_plus,
    "cdma": cdma,
    "urpc": urpc,
    "cps": cps,
}


def reach(method, loss, parts):
    """Which of `parts`, prefixes of parameter names, a loss teaches."""
    method.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    taught = [n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    return {part for part in parts if any(name.startswith(part + ".") for name in taught)}


@pytest.mark.parametrize("name", BUILDERS)
def test_contract(name):
    check_method(BUILDERS[name], CONFIG)


@pytest.mark.parametrize("name", BUILDERS)
def test_bfloat16_keeps_every_loss_finite_and_in_float32(name):
    method = BUILDERS[name](CONFIG, 3).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(two_stream_batch(3), step=150)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", BUILDERS)
def test_uneven_halves_oblong_images_and_unknown_pixels_are_served(name):
    method = BUILDERS[name](CONFIG, 3).train()
    batch = two_stream_batch(3, labeled=3, unlabeled=2)
    batch = replace(batch, x=batch.x[..., :16], y=batch.y[..., :16].clone())
    batch.y[0, :5] = -1
    terms = method.losses(batch, step=200)
    assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize("name", BUILDERS)
def test_the_labels_of_the_unlabelled_half_are_never_looked_at(name):
    batch = two_stream_batch(2)
    told = replace(batch, y=batch.y.clone())
    told.y[2:] = 1
    method = BUILDERS[name](CONFIG, 2).train()
    found = []
    for one in (batch, told):
        torch.manual_seed(7)
        found.append(method.losses(one, step=200))
    assert {k: v.item() for k, v in found[0].items()} == {k: v.item() for k, v in found[1].items()}


@pytest.mark.parametrize("name", BUILDERS)
def test_resume_is_exact(name, tmp_path):
    few = {"image_size": 32, "steps": 8, "labeled": "4", "batch_labeled": 2, "batch_unlabeled": 2}
    data = Synthetic("dermoscopy", n=32, size=32)

    def trainer(folder):
        config = replace(Config(), out=tmp_path / folder, log_every=4, val_every=4, **few)
        torch.manual_seed(0)
        return Trainer(data, config, BUILDERS[name](config, 2))

    whole, cut = trainer("whole"), trainer("cut")
    whole.start()
    whole.fit(progress=False)
    cut.start()
    step = cut.train_step
    cut.train_step = lambda batch: (_ for _ in ()).throw(RuntimeError) if cut.step == 6 else step(batch)
    with pytest.raises(RuntimeError):  # as good as a kill
        cut.fit(progress=False)
    again = trainer("cut")
    again.resume()
    assert again.step == 4
    again.fit(progress=False)
    for a, b in zip(whole.method.state_dict().values(), again.method.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_named_term_matters_in_a_run_of_300_steps(name):
    torch.manual_seed(0)
    method = BUILDERS[name](replace(CONFIG, learning_rate=3e-3), 3).train()
    optimizers = method.optimizers()
    largest: dict[str, float] = {}
    for step in range(300):
        terms = method.losses(two_stream_batch(3, seed=step % 2), step)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        method.after_step(step)
        for term, value in terms.items():
            largest[term] = max(largest.get(term, 0), value.item() / total.item())
    assert {term: share for term, share in largest.items() if share < 0.01} == {}


# ---------------------------------------------------------------- Mean Teacher


def test_noise_is_small_and_cut_off():
    torch.manual_seed(0)
    noise = noisy(torch.zeros(4, 3, 100, 100))
    assert noise.abs().max().item() == pytest.approx(0.2)
    assert noise.mean().abs() < 1e-3
    cut = (noise.abs() >= 0.2 - 1e-6).float().mean().item()  # beyond two standard deviations: 4.55 %
    assert cut == pytest.approx(math.erfc(2 / math.sqrt(2)), abs=2e-3)


def test_only_the_teacher_sees_noise_and_only_on_unlabelled_images():
    method = BUILDERS["mean_teacher"](CONFIG, 2).train()
    batch, seen = two_stream_batch(2), {"net": [], "teacher": []}
    for name, calls in seen.items():
        getattr(method, name).register_forward_pre_hook(lambda m, x, calls=calls: calls.append(x[0]))
    term = method.losses(batch, 100)["consistency"]
    assert len(seen["net"]) == len(seen["teacher"]) == 1
    assert torch.equal(seen["net"][0], batch.x)
    noise = seen["teacher"][0] - batch.x[2:]
    assert 0.05 < noise.std() < 0.15 and noise.abs().max() <= 0.2 + 1e-6
    assert method.teacher.training
    assert reach(method, term, {"net", "teacher"}) == {"net"}


def test_consistency_is_the_mean_square_between_the_softmax_outputs():
    method = BUILDERS["mean_teacher"](CONFIG, 3).eval()
    torch.nn.init.normal_(method.teacher[-1].weight)
    batch = two_stream_batch(3)
    torch.manual_seed(3)
    term = method.losses(batch, 200)["consistency"].item()
    torch.manual_seed(3)
    noisy_x = batch.x[2:] + (0.1 * torch.randn_like(batch.x[2:])).clip(-0.2, 0.2)
    with torch.no_grad():
        p, q = (softmax(z.numpy(), axis=1) for z in (method.net(batch.x[2:]), method.teacher(noisy_x)))
    assert term == pytest.approx(0.1 * math.exp(-5 * (1 - 200 / 300) ** 2) * ((p - q) ** 2).mean(), rel=1e-4)


def test_the_teacher_is_silent_for_the_first_thirtieth():
    method = BUILDERS["mean_teacher"](CONFIG, 2).train()
    batch = two_stream_batch(2)
    assert set(method.losses(batch, 9)) == {"supervised"}
    assert set(method.losses(batch, 10)) == {"supervised", "consistency"}


@pytest.mark.parametrize(("step", "decay"), [(0, 0.0), (1, 0.5), (9, 0.9), (99, 0.99), (5000, 0.99)])
def test_parameters_follow_and_buffers_do_not(step, decay):
    torch.manual_seed(0)
    method = MeanTeacher(CONFIG, 2, small_net(2))
    student, teacher = method.net, small_net(2)
    method.teacher = teacher
    student(torch.rand(2, 3, 8, 8))
    expected = [
        decay * t + (1 - decay) * s for t, s in zip(teacher.parameters(), student.parameters(), strict=True)
    ]
    mean = teacher[1].running_mean.clone()
    method.after_step(step)
    for found, value in zip(teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(found, value)
    assert torch.equal(teacher[1].running_mean, mean)


# ---------------------------------------------------------------- UA-MT


class Fixed(torch.nn.Module):
    """A network that answers with given logits, whatever it is asked, and remembers how often it was."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)

    def forward(self, x):
        return self.answers.pop(0)


def test_doubt_is_the_entropy_of_the_mean_of_eight_softmaxes():
    """Image and pass must not be mixed up, and softmax comes before the mean."""
    torch.manual_seed(0)
    method = BUILDERS["ua_mt"](CONFIG, 3)
    z = 3 * torch.randn(8, 2, 3, 4, 5)  # pass, image, class, height, width
    method.teacher = Fixed(z.flatten(0, 1))
    p = softmax(z.double().numpy(), axis=2)
    np.testing.assert_allclose(
        method.doubt(torch.zeros(2, 3, 4, 5)).numpy(), entropy(p.mean(axis=0), axis=1), rtol=1e-4
    )


def test_each_pass_has_noise_of_its_own_in_one_forward():
    method = BUILDERS["ua_mt"](CONFIG, 2).train()
    seen = []
    method.teacher.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    method.losses(two_stream_batch(2), 100)
    assert [len(x) for x in seen] == [8 * 3, 3]  # eight passes over three images, then the target
    passes = seen[0].unflatten(0, (8, 3))
    assert len({one.sum().item() for one in passes} | {seen[1].sum().item()}) == 9


def test_a_pretrained_teacher_gets_the_dropout_that_it_lacks():
    method = UAMT(replace(CONFIG, students="pretrained", encoder_weights="none"), 2).train()
    x = torch.rand(2, 3, 32, 32)
    seen = []
    method.teacher.register_forward_pre_hook(lambda m, given: seen.append(given))
    assert not torch.equal(method.teach(x), method.teach(x))
    change = seen[0][1]
    dropped = change(torch.ones(1, 8, 50, 50))
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert (dropped == 0).float().mean() == pytest.approx(0.2, abs=0.02)


def spike(share):
    """s for which softmax(s, 0, 0, 0) has `share` of the largest entropy."""
    return brentq(lambda s: entropy(softmax([s, 0, 0, 0])) / math.log(4) - share, 0, 50)


@pytest.mark.parametrize(("rise", "counted"), [(0.0, 1), (0.5, 2), (1.0, 4)])
def test_the_mask_widens_with_the_ramp(rise, counted):
    """Pixels with 0, 0.8, 0.95 and 0.99 of the entropy ln 4 against thresholds of 0.75, 0.875 and 1 of it."""
    method = BUILDERS["ua_mt"](CONFIG, 4)
    z = torch.zeros(1, 4, 1, 4)
    z[0, 0, 0] = torch.tensor([99.0, spike(0.8), spike(0.95), spike(0.99)])
    method.teacher = Fixed(z.repeat(8, 1, 1, 1), torch.zeros(1, 4, 1, 4))
    p = torch.full((1, 4, 1, 4), 0.25)
    p[0, 0, 0] += torch.tensor([0.4, 0.3, 0.2, 0.1])
    found = method.consistency(p, torch.zeros(1, 3, 1, 4), rise).item()
    assert found == pytest.approx(sum([0.16, 0.09, 0.04, 0.01][:counted]) / (2 * counted))


def test_where_nobody_is_sure_nothing_is_learned():
    p = torch.rand(2, 3, 4, 4, requires_grad=True)
    loss = masked_error(p, torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and p.grad.abs().sum() == 0


# ---------------------------------------------------------------- DTC


def brute_force(inside):
    """The signed distance, one pixel at a time."""
    own, strange = np.argwhere(inside), np.argwhere(~inside)
    out = np.zeros(inside.shape)
    if not len(own) or not len(strange):
        return out - 1 if len(own) else out + 1
    for i, j in np.ndindex(inside.shape):
        others = strange if inside[i, j] else own
        out[i, j] = np.sqrt(((others - (i, j)) ** 2).sum(axis=1).min()) * (-1 if inside[i, j] else 1)
    out[inside] /= -out.min()
    out[~inside] /= out.max()
    padded = np.pad(inside, 1, constant_values=True)
    neighbors = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    out[inside & ~np.logical_and.reduce(neighbors)] = 0
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_signed_distance_is_the_brute_force_one(height, width, share, seed):
    inside = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_allclose(signed_distance(inside), brute_force(inside), atol=1e-6)


def test_signed_distance_of_a_square():
    inside = np.zeros((9, 9), dtype=bool)
    inside[2:7, 2:7] = True
    found = signed_distance(inside)
    assert found[4, 4] == -1 and found[3, 3] == pytest.approx(-2 / 3) and (found[2, 2:7] == 0).all()
    assert found[0, 0] == 1 and found[4, 0] == pytest.approx(2 / np.sqrt(8))
    assert (signed_distance(np.zeros((4, 5), dtype=bool)) == 1).all(), "all of it lies outside"
    assert (signed_distance(np.ones((4, 5), dtype=bool)) == -1).all()


def test_each_class_has_its_distance_and_unknown_pixels_no_loss():
    y = two_stream_batch(3, labeled=2, unlabeled=0).y
    maps = signed_distances(y, 3)
    assert maps.shape == (2, 3, 32, 32) and maps.dtype == torch.float32
    np.testing.assert_array_equal(maps[1, 2].numpy(), signed_distance(y[1].numpy() == 2))
    assert distance_loss(maps, y).item() == 0
    y = y.clone()
    y[0] = -1
    d, truth = torch.zeros(2, 3, 32, 32), signed_distances(y, 3)
    d[0] = 0.7
    assert distance_loss(d, y).item() == pytest.approx(truth[1].square().mean().item(), rel=1e-5)


def test_both_heads_of_dtc_agree_on_all_images():
    method = dtc(CONFIG, 2).train()
    with torch.no_grad():  # distances small enough that the steep sigmoid still has a slope
        method.distance_head.weight.mul_(1e-3)
        method.distance_head.bias.zero_()
    batch = two_stream_batch(2)
    torch.manual_seed(2)
    terms = method.losses(batch, 200)
    torch.manual_seed(2)
    z, d = (t.detach().double().numpy() for t in method.both(batch.x))
    squares = (1 / (1 + np.exp(1500 * d)) - softmax(z, axis=1)) ** 2
    assert terms["consistency"].item() == pytest.approx(ramp(200 / 300) * squares.mean(), rel=1e-3)
    parts = {"net.encoder", "net.head", "distance_head"}
    assert reach(method, terms["supervised"], parts) == {"net.encoder", "net.head"}
    assert reach(method, terms["distance"], parts) == {"net.encoder", "distance_head"}
    assert reach(method, terms["consistency"], parts) == parts


# ---------------------------------------------------------------- MC-Net+


def test_decoders_differ_in_upsampling_only():
    torch.manual_seed(0)
    method = mc_net_plus(CONFIG, 2).eval()
    bilinear, transposed, nearest = method.net.decoders
    rest = [
        {k: v.shape for k, v in d.state_dict().items() if not k.startswith("up.")}
        for d in method.net.decoders
    ]
    assert rest[0] == rest[1] == rest[2]
    nearest.load_state_dict(bilinear.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(*method.net(x)[::2])
    for up in nearest.up:
        up.mode = "bilinear"
    assert torch.equal(*method.net(x)[::2])
    assert all(isinstance(up, torch.nn.ConvTranspose2d) for up in transposed.up)


def test_nearest_and_bilinear_upsampling_by_hand():
    for name, middle in (("nearest", [0, 0, 4, 4]), ("bilinear", [0, 1, 3, 4])):
        layer = UPSAMPLINGS[name](1, 1)
        torch.nn.init.ones_(layer.conv.weight)
        torch.nn.init.zeros_(layer.conv.bias)
        row = layer(torch.tensor([0.0, 4.0]).view(1, 1, 1, 2))
        assert row[0, 0].tolist() == [middle, middle]


def test_mutual_consistency_is_the_published_double_loop():
    """In the two-class form of the paper, p^10 / (p^10 + (1 - p)^10)."""
    torch.manual_seed(0)
    z = [torch.randn(2, 2, 4, 6) for _ in range(3)]
    p = [softmax(one.double().numpy(), axis=1) for one in z]
    sharp = [one**10 / (one**10 + (1 - one) ** 10) for one in p]
    expected = sum(((p[i] - sharp[j]) ** 2).mean() for i in range(3) for j in range(3) if i != j)
    assert mutual_consistency(z).item() == pytest.approx(expected, rel=1e-5)


def test_the_sharpened_target_is_not_detached():
    torch.manual_seed(0)
    learner, target = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4, requires_grad=True)
    one_way = F.mse_loss(
        target.softmax(1), learner.softmax(1) ** 10 / (learner.softmax(1) ** 10).sum(1, True)
    )
    other = mutual_consistency([learner, target])
    (whole,), (part,) = torch.autograd.grad(other, target), torch.autograd.grad(one_way, target)
    assert not torch.allclose(whole, part)


def test_each_decoder_is_taught_dice_alone_and_the_encoder_by_all():
    method = mc_net_plus(CONFIG, 2).train()
    batch = two_stream_batch(2)
    torch.manual_seed(1)
    terms = method.losses(batch, 200)
    torch.manual_seed(1)
    z = method.net(batch.x)
    parts = {"net.encoder", *(f"net.decoders.{i}" for i in range(3))}
    for i, name in enumerate(UPSAMPLINGS):
        term = terms[f"{name}/supervised"]
        torch.testing.assert_close(term, 0.5 * dice_loss(z[i][:2], batch.y[:2]))
        assert reach(method, term, parts) == {"net.encoder", f"net.decoders.{i}"}
    consistency = 0.1 * ramp(200 / 300) * mutual_consistency(z)
    assert terms["consistency"].item() == pytest.approx(consistency.item(), rel=1e-4)
    assert reach(method, terms["consistency"], parts) == parts


# ---------------------------------------------------------------- CDMA


def test_attention_by_hand():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 5, 7)
    numbers = x.double().numpy()
    channel, spatial = ChannelAttention(32), SpatialAttention(3)
    down, up = (channel.shared[i].weight.detach().double().numpy()[:, :, 0, 0] for i in (0, 2))
    assert down.shape == (2, 32)
    logit = sum(np.maximum(s @ down.T, 0) @ up.T for s in (numbers.mean((2, 3)), numbers.max((2, 3))))
    expected = numbers / (1 + np.exp(-logit))[:, :, None, None]
    np.testing.assert_allclose(channel(x).detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    kernel = spatial.conv.weight.detach().double().numpy()[0]
    summary = np.pad(np.stack([numbers.mean(1), numbers.max(1)], 1), ((0, 0), (0, 0), (1, 1), (1, 1)))
    logit = sum(kernel[c, i, j] * summary[:, c, i : i + 5, j : j + 7] for c, i, j in np.ndindex(kernel.shape))
    expected = numbers / (1 + np.exp(-logit))[:, None]
    np.testing.assert_allclose(spatial(x).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_every_block_of_each_decoder_attends_in_its_own_way():
    for decoder, kinds in zip(
        CDMA(CONFIG, 2).net.decoders,
        ({ChannelAttention, SpatialAttention}, {SpatialAttention}, {ChannelAttention}),
        strict=True,
    ):
        for block in decoder.decoder:
            found = {type(m) for m in block.modules()} & {ChannelAttention, SpatialAttention}
            assert found == kinds


def test_cross_distillation_is_kd_at_ten_over_ordered_pairs():
    torch.manual_seed(0)
    z = [(5 * torch.randn(2, 4, 3, 5)).requires_grad_() for _ in range(3)]
    soft = [softmax(one.detach().double().numpy() / 10, axis=1) for one in z]
    kl = [entropy(target, learner, axis=1).mean() for learner, target in permutations(soft, 2)]
    loss = cross_distillation(z)
    assert len(kl) == 6 and loss.item() == pytest.approx(100 * sum(kl) / 3, rel=1e-4)
    gradients = torch.autograd.grad(loss, z)
    for k in range(3):  # d KL(q || p) / dz = (p - q) / T, with no part by way of the target
        others = [soft[j] for j in range(3) if j != k]
        expected = 100 * sum(soft[k] - q for q in others) / 10 / 3 / (2 * 3 * 5)
        np.testing.assert_allclose(gradients[k].numpy(), expected, rtol=1e-3, atol=1e-6)


def test_entropy_is_that_of_the_mean_prediction():
    torch.manual_seed(0)
    z = [3 * torch.randn(2, 4, 3, 5) for _ in range(3)]
    mean = sum(softmax(one.double().numpy(), axis=1) for one in z) / 3
    assert mean_entropy(z).item() == pytest.approx(entropy(mean, axis=1).mean() / math.log(4), rel=1e-5)
    certain = torch.zeros(1, 2, 2, 2, requires_grad=True)
    mean_entropy([1000 * certain + torch.tensor([500.0, -500.0]).view(1, 2, 1, 1)] * 3).backward()
    assert certain.grad.isfinite().all()


def test_cdma_begins_at_a_tenth_and_tests_the_first_decoder():
    method = cdma(CONFIG, 2).train()
    batch = two_stream_batch(2)
    early, late = method.losses(batch, 29), method.losses(batch, 30)
    assert set(late) - set(early) == {"cross_distillation", "entropy"}
    parts = {"net.encoder", *(f"net.decoders.{i}" for i in range(3))}
    for i, name in enumerate(ATTENTIONS):
        assert reach(method, late[f"{name}/supervised"], parts) == {"net.encoder", f"net.decoders.{i}"}
    assert reach(method, late["cross_distillation"], parts) == reach(method, late["entropy"], parts) == parts
    method.eval()
    assert torch.equal(method.predict(batch.x), method.net(batch.x)[0])


# ---------------------------------------------------------------- URPC


def test_rectified_consistency_is_the_published_formula():
    torch.manual_seed(0)
    z = [2 * torch.randn(2, 3, 4, 5) for _ in range(4)]
    p = [softmax(one.double().numpy(), axis=1) for one in z]
    mean = sum(p) / 4
    expected = 0.0
    for p_s in p:
        top, bottom, strays = 0.0, 0.0, 0.0
        for n, i, j in np.ndindex(2, 4, 5):
            d = entropy(mean[n, :, i, j], p_s[n, :, i, j])  # scipy's with two arguments is KL
            top += ((mean[n, :, i, j] - p_s[n, :, i, j]) ** 2).mean() * math.exp(-d)
            bottom += math.exp(-d)
            strays += d / 40
        expected += (top / bottom + strays) / 4
    assert rectified_consistency(z).item() == pytest.approx(expected, rel=1e-5)
    assert rectified_consistency([z[0]] * 4).item() == pytest.approx(0, abs=1e-6)


def test_scales_that_contradict_each_other_with_certainty_stay_finite():
    z = torch.zeros(1, 2, 2, 2, requires_grad=True)
    sides = torch.tensor([500.0, -500.0]).view(1, 2, 1, 1)
    loss = rectified_consistency([z + sides, z - sides, z + sides, z - sides])
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()


def test_four_scales_learn_from_labels_an_eighth_each():
    method = urpc(CONFIG, 2).train()
    batch = two_stream_batch(2)
    features = method.net.features(batch.x)
    assert [f.shape[-1] for f in features] == [4, 8, 16, 32]
    z = method.scales(batch.x)
    assert [one.shape for one in z] == [(5, 2, 32, 32)] * 4
    terms = method.losses(batch, 150)
    expected = sum(supervised_loss(one[:2], batch.y[:2]) for one in z) / 8
    torch.testing.assert_close(terms["supervised"], expected)
    consistency = 0.1 * ramp(0.5) * rectified_consistency([one[2:] for one in z])
    assert terms["consistency"].item() == pytest.approx(consistency.item(), rel=1e-4)
    parts = {"net.encoder", "net.head", *(f"coarse_heads.{i}" for i in range(3))}
    assert all(reach(method, term, parts) == parts for term in terms.values())
    coarse = method.coarse_heads[0](features[0])  # (5, 2, 4, 4): enlarged eightfold, not recomputed
    torch.testing.assert_close(F.interpolate(coarse, scale_factor=8, mode="bilinear"), z[0])
    method.eval()
    torch.testing.assert_close(method.predict(batch.x), method.scales(batch.x)[-1])


def test_heads_fit_the_default_net():
    z = URPC(CONFIG, 3).eval().scales(torch.rand(1, 3, 32, 48))
    assert [one.shape for one in z] == [(1, 3, 32, 48)] * 4


# ---------------------------------------------------------------- CPS


def test_each_net_learns_the_other_ones_argmax_and_teaches_nothing_back():
    torch.manual_seed(0)
    method = cps(CONFIG, 3).train()
    batch = two_stream_batch(3)
    z_a, z_b = (net(batch.x).detach().double().numpy() for net in (method.net_a, method.net_b))
    terms = method.losses(batch, 150)
    for name, learner, other in (("a", z_a, z_b), ("b", z_b, z_a)):
        p, label = softmax(learner[2:], axis=1), other[2:].argmax(axis=1)
        chosen = np.take_along_axis(p, label[:, None], axis=1)
        expected = 0.1 * math.exp(-5 / 4) * -np.log(chosen).mean()
        assert terms[f"{name}/pseudo"].item() == pytest.approx(expected, rel=1e-4)
        for term in ("supervised", "pseudo"):
            assert reach(method, terms[f"{name}/{term}"], {"net_a", "net_b"}) == {f"net_{name}"}


def test_the_two_nets_start_differently():
    method = CPS(CONFIG, 2)
    pairs = zip(method.net_a.parameters(), method.net_b.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs if a.ndim == 4)
