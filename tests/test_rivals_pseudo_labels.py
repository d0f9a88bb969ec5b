"""MCF, CauSSL, BCP, SAM alone and the mutual KnowSAM: what is peculiar to each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.base import check_method, gradient_reach, small_net, tiny_teacher, two_stream_batch

from knowsam_lite.config import Config
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods import BCP, MCF, CauSSL, KnowSAMMutual, KnowSAMMutualAtOnce, SamOnly
from knowsam_lite.methods.bcp import largest_components, rectangle
from knowsam_lite.methods.caussl import squared_cosines
from knowsam_lite.methods.ema import update_ema
from knowsam_lite.methods.mcf import rectify_loss, sharpen
from knowsam_lite.subnets import UNet, VNet

CONFIG = replace(Config(), image_size=32, steps=300, learning_rate=1e-2)


def mcf(config, classes):
    method = MCF(config, classes)
    method.net_a, method.net_b = small_net(classes), small_net(classes)
    return method


def caussl(config, classes):
    method = CauSSL(config, classes)
    method.net_a, method.net_b = small_net(classes), small_net(classes)
    for side in ("a", "b"):
        for i, kernel in enumerate(method.kernels(method.net_a)):
            setattr(method, f"map_{side}_{i}", torch.eye(len(kernel)))
    return method


def bcp(config, classes):
    method = BCP(config, classes)
    method.net = small_net(classes)
    method.average = small_net(classes).requires_grad_(False)
    method.average.load_state_dict(method.net.state_dict())
    return method


def sam_only(config, classes):
    return SamOnly(replace(config, teacher_learning_rate=1e-2), classes, tiny_teacher(classes))


def mutual(config, classes):
    return KnowSAMMutual(config, classes, small_net(classes), small_net(classes), tiny_teacher(classes))


BUILDERS = {"mcf": mcf, "caussl": caussl, "bcp": bcp, "sam_only": sam_only, "knowsam_mutual": mutual}


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


@pytest.mark.parametrize("name", BUILDERS)
def test_more_labelled_than_unlabelled_images_are_served(name):
    method = BUILDERS[name](CONFIG, 2).train()
    terms = method.losses(two_stream_batch(2, labeled=3, unlabeled=2), step=200)
    assert all(term.isfinite() for term in terms.values())


# ---------------------------------------------------------------- MCF


def test_sharpening_is_the_tenth_power():
    p = torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1)
    by_hand = np.array([0.6, 0.3, 0.1]) ** 10
    np.testing.assert_allclose(sharpen(p).flatten(), by_hand / by_hand.sum(), rtol=1e-5)


def test_rectification_counts_only_where_the_nets_disagree():
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]).T.view(1, 2, 1, 3)
    other = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]).T.view(1, 2, 1, 3)
    y = torch.tensor([[[1, 0, 1]]])  # the first pixel is wrong in both: agreement, so it does not count
    assert rectify_loss(p, other, y).item() == pytest.approx((0.8**2 + 0.8**2) / 2)
    assert rectify_loss(p, p, y).item() == 0


def test_only_the_worse_net_is_corrected():
    method = mcf(CONFIG, 2).train()
    batch = two_stream_batch(2)
    with torch.no_grad():  # net a answers background everywhere, net b the truth's color
        method.net_a[-1].weight.zero_()
        method.net_a[-1].bias.copy_(torch.tensor([9.0, -9.0]))
    assert gradient_reach(method, method.losses(batch, 250)["correction"]) <= {"net_a"}
    method.net_a, method.net_b = method.net_b, method.net_a
    terms = method.losses(batch, 250)
    terms["correction"].backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in method.net_a.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.net_b.parameters())


def test_mcf_predicts_the_mean_probability():
    method = mcf(CONFIG, 3).eval()
    x = torch.rand(2, 3, 32, 32)
    mean = (method.net_a(x).softmax(1) + method.net_b(x).softmax(1)) / 2
    torch.testing.assert_close(method.predict(x).softmax(1), mean)


# ---------------------------------------------------------------- CauSSL


def test_squared_cosines_are_those_of_the_rows():
    torch.manual_seed(0)
    w, other, linear = torch.randn(5, 12), torch.randn(5, 12), torch.randn(5, 5)
    direct = F.cosine_similarity(w, linear @ other, dim=1).square().mean()
    torch.testing.assert_close(squared_cosines(w, other, linear), direct)
    torch.testing.assert_close(squared_cosines(w, w, torch.eye(5)), torch.tensor(1.0))


def test_fitting_the_maps_raises_what_the_nets_lower():
    method = caussl(CONFIG, 3).train()
    before = method.dependence("a").item()
    method.after_step(method.config.steps // 2 // 3 * 3)
    fitted = method.dependence("a")
    assert fitted.item() > before + 0.05
    fitted.backward()
    assert all(p.grad is None for p in method.net_b.parameters()), "the other's weights are a constant"
    rate = 0.5
    with torch.no_grad():
        for p in method.net_a.parameters():
            if p.grad is not None:
                p -= rate * p.grad
    assert method.dependence("a").item() < fitted.item()


def test_maps_are_saved_and_fitted_every_60_of_5000_steps_from_a_tenth_on():
    method = CauSSL(replace(CONFIG, steps=5000), 2)
    assert sum(name.startswith("map_") for name in method.trained_state()) == 2 * len(
        method.kernels(method.net_a)
    )
    small = caussl(replace(CONFIG, steps=5000), 2)
    kept = small.map_a_0.clone()
    for step in (300, 599):
        small.after_step(step)
    assert torch.equal(small.map_a_0, kept)
    small.after_step(600)
    assert not torch.equal(small.map_a_0, kept)


def test_nets_are_kept_apart_from_a_tenth_of_the_run_on():
    method, batch = caussl(CONFIG, 2).train(), two_stream_batch(2)
    early, later = (set(method.losses(batch, step)) for step in (CONFIG.steps // 20, CONFIG.steps // 5))
    assert later - early == {"a/independence", "b/independence"}


def test_of_pretrained_nets_the_decoders_are_kept_apart():
    method = CauSSL(replace(CONFIG, students="pretrained", encoder_weights="none"), 2)
    kernels = method.kernels(method.net_a)
    encoder = {p.data_ptr() for p in method.net_a.encoder.parameters()}
    assert len(kernels) > 8 and not encoder & {kernel.data_ptr() for kernel in kernels}


# ---------------------------------------------------------------- BCP


def test_rectangle_covers_four_ninths():
    torch.manual_seed(0)
    found = [rectangle(60, 90) for _ in range(20)]
    assert {int(r.sum()) for r in found} == {40 * 60}
    assert len({tuple(r.nonzero()[0].tolist()) for r in found}) > 5


def test_the_largest_component_of_each_class_stays():
    labels = torch.zeros(1, 6, 8, dtype=torch.int64)
    labels[0, 0, :3], labels[0, 4, 4:6] = 1, 1
    labels[0, 2, 2:7], labels[0, 5, 0] = 2, 2
    expected = labels.clone()
    expected[0, 4, 4:6], expected[0, 5, 0] = 0, 0
    assert torch.equal(largest_components(labels, 4), expected)


def test_the_average_takes_buffers_along():
    student, teacher = small_net(2), small_net(2)
    student(torch.rand(4, 3, 8, 8))
    expected = {
        name: 0.99 * old + 0.01 * new if old.is_floating_point() else new
        for (name, old), new in zip(teacher.state_dict().items(), student.state_dict().values(), strict=True)
    }
    expected = {name: tensor.clone() for name, tensor in expected.items()}
    update_ema(teacher, student, 0.99, buffers=True)
    for name, tensor in teacher.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])


def test_bcp_pretrains_on_labels_alone_and_then_follows_slowly():
    method = bcp(CONFIG, 2).train()
    assert set(method.losses(two_stream_batch(2), 74)) == {"pretraining"}
    assert set(method.losses(two_stream_batch(2), 75)) == {"supervised", "pseudo"}
    with torch.no_grad():
        method.net[-1].bias += 1
    method.after_step(10)
    torch.testing.assert_close(method.average[-1].bias, method.net[-1].bias)
    before = method.average[-1].bias.clone()
    with torch.no_grad():
        method.net[-1].bias += 1
    method.after_step(200)
    torch.testing.assert_close(method.average[-1].bias, before + 0.01)


def test_bcp_labels_every_pixel_once():
    """True labels and pseudo-labels share out the mixed batch: with one net for both, a sum by hand."""
    method = bcp(replace(CONFIG, largest_component=False), 2).train()
    batch = two_stream_batch(2, labeled=2, unlabeled=2)
    torch.manual_seed(4)
    inside = rectangle(32, 32)
    torch.manual_seed(4)
    terms = method.losses(batch, 200)
    x_l, x_u, y_l = batch.x[:2], batch.x[2:], batch.y[:2]
    y_u = method.average(x_u).argmax(1)
    x = torch.cat([torch.where(inside, x_u, x_l), torch.where(inside, x_l, x_u)])
    true = torch.cat([y_l.masked_fill(inside, -1), y_l.masked_fill(~inside, -1)])
    pseudo = torch.cat([y_u.masked_fill(~inside, -1), y_u.masked_fill(inside, -1)])
    assert ((true == -1) ^ (pseudo == -1)).all()
    z = method.net(x)
    torch.testing.assert_close(terms["supervised"], supervised_loss(z, true))
    torch.testing.assert_close(terms["pseudo"], 0.5 * supervised_loss(z, pseudo))


# ---------------------------------------------------------------- SAM alone, mutual


def test_sam_alone_is_sam_without_a_mask():
    method = sam_only(CONFIG, 2).eval()
    x = torch.rand(2, 3, 32, 32)
    points = (torch.full((4, 1, 2), 16.0), torch.ones(4, 1))  # one for each of 2 images x 2 classes
    embedding = method.teacher.encode(x)
    sparse, dense = method.teacher.prompt_encoder(points, None, None)
    method.teacher.learnable_prompts.forward = lambda e: sparse.unflatten(0, (2, 2))
    low_res = method.teacher.decode(embedding, sparse.unflatten(0, (2, 2)), dense.unflatten(0, (2, 2)))
    expected = F.interpolate(low_res, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(method.predict(x), expected)


def test_mutual_teaches_sam_alone_and_waits_for_its_rise():
    method = mutual(CONFIG, 2).train()
    batch = two_stream_batch(2)
    early, late = (method.losses(batch, step)["sam/pseudo"] for step in (0, 290))
    assert early.item() < 0.05 * late.item()
    assert gradient_reach(method, late) == {"teacher"}
    nets = method.students.net_a, method.students.net_b
    at_once = KnowSAMMutualAtOnce(CONFIG, 2, *nets, method.teacher).train()
    assert at_once.losses(batch, 0)["sam/pseudo"].item() > 20 * early.item()


def mcf_of_real_nets(config, classes):
    """Narrow subnets: the stand-ins are too alike to have much to correct."""
    method = MCF(config, classes)
    method.net_a = UNet(classes, (8, 16, 32), (0, 0, 0))
    method.net_b = VNet(classes, (8, 16, 32), (1, 1, 1))
    return method


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_named_term_matters_in_a_run_of_300_steps(name):
    torch.manual_seed(0)
    build = {**BUILDERS, "mcf": mcf_of_real_nets}[name]
    method = build(replace(CONFIG, learning_rate=3e-3), 3).train()
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
