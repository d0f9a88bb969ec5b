"""Weak and strong views, and the methods that learn from one what they said of the other."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.base import check_method, gradient_reach, small_net, tiny_teacher, two_stream_batch

from knowsam_lite.commands.ablate import PLUS
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.data.sampler import StepBatches
from knowsam_lite.errors import UserError
from knowsam_lite.losses import dice_loss, distillation_loss, supervised_loss
from knowsam_lite.methods import METHODS, FixMatch, KnowSAM, KnowSAMPlus, UniMatch
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.fixmatch import CUT, boxes, confident, masked_cross_entropy, pasted
from knowsam_lite.methods.knowsam_plus import agreement, handover, masked_distillation, rise, with_labeled
from knowsam_lite.subnets import UNet
from knowsam_lite.training import Trainer

CONFIG = replace(Config(), image_size=32, steps=300, learning_rate=1e-2, threshold=0.6)


def small_unet(classes):
    return UNet(classes, widths=(4, 8, 8, 8, 8), dropout=(0.0,) * 5)


def plus(config, classes):
    nets = small_net(classes), small_net(classes)
    return KnowSAMPlus(config, classes, *nets, teacher=tiny_teacher(classes))


BUILDERS = {
    "fixmatch": lambda config, classes: FixMatch(config, classes, small_net(classes)),
    "unimatch": lambda config, classes: UniMatch(config, classes, small_unet(classes)),
    "knowsam_plus": plus,
    "knowsam_plus, hard": lambda config, classes: plus(replace(config, pseudo="hard"), classes),
}


# ---------------------------------------------------------------- the views


def batches(views, **how):
    data = Synthetic("dermoscopy", n=30, size=48)
    ids = [record.id for record in data.split("train")][:4]
    how = {"batch_labeled": 2, "batch_unlabeled": 3, "size": 32, "unlabeled_aug": "strong", **how}
    return StepBatches(data, ids, seed=1, extra_views=views, **how)


def test_the_batch_itself_does_not_depend_on_its_extra_views():
    plain, one, two = (batches(n)[5] for n in (0, 1, 2))
    assert plain.weak is plain.strong is one.strong is None
    for other in (one, two):
        assert torch.equal(other.x, plain.x) and torch.equal(other.y, plain.y) and other.ids == plain.ids
    assert torch.equal(one.weak, two.weak)
    again = batches(2)[5]
    assert torch.equal(again.weak, two.weak) and torch.equal(again.strong, two.strong)


def test_the_views_differ_in_color_and_not_in_geometry():
    """What is weak in x is the weak view; a mask moved by either kind of augmentation ends in one place."""
    weak = batches(1, unlabeled_aug="weak")[7]
    assert torch.equal(weak.x[2:], weak.weak)
    two = batches(2)[7]
    assert not torch.equal(two.x[2:], two.weak) and not torch.equal(two.strong, two.x[2:])
    augment = two_kinds = {kind: batches(1).augments[1].__class__(kind, 32) for kind in ("weak", "strong")}
    image = torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()
    mask = torch.zeros(32, 32, dtype=torch.uint8).numpy()
    mask[4:9, 10:25] = 1
    for seed in range(30):
        moved = [two_kinds[kind](image, mask, seed)[1] for kind in augment]
        assert torch.equal(*moved)


def test_two_views_need_augmentation():
    with pytest.raises(UserError, match="--unlabeled-aug weak"):
        batches(1, unlabeled_aug="none")
    assert batches(0, unlabeled_aug="none")[0].weak is None


def test_views_move_to_a_device_with_the_batch():
    batch = batches(2)[0].to("meta")
    assert batch.weak.device.type == batch.strong.device.type == "meta"
    assert batches(0)[0].to("meta").weak is None


def test_where_an_average_predicts_distillation_teaches_the_net_that_it_follows():
    method = METHODS["unimatch"](CONFIG, 2, small_unet(2)).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(method.learner(x), method.net(x))
    assert METHODS["unimatch+skd"](replace(CONFIG, image_size=64), 2).extra_views == 2


def test_the_loop_gives_a_method_the_views_that_it_asks_for(tmp_path):
    data = Synthetic("dermoscopy", n=30, size=32)
    config = replace(CONFIG, steps=2, labeled="4", out=tmp_path / "run", device="cpu", val_every=2)
    trainer = Trainer(data, config, UniMatch(config, 2, small_unet(2)))
    assert trainer.batches[0].strong is not None
    trainer.start()
    assert trainer.fit(progress=False)


# ---------------------------------------------------------------- the methods


@pytest.mark.parametrize("name", BUILDERS)
def test_contract(name):
    check_method(BUILDERS[name], CONFIG)


def test_rectangles_have_their_area_and_half_of_the_images_none():
    torch.manual_seed(0)
    inside = boxes(400, 40, 60)
    areas = inside.flatten(1).float().mean(dim=1)
    used = areas > 0
    assert 0.4 < used.float().mean() < 0.6
    assert areas[used].min() > CUT[0] - 0.01 and areas[used].max() < CUT[1] + 0.03
    rows, columns = inside.any(dim=2).sum(1), inside.any(dim=1).sum(1)
    assert torch.equal(inside.flatten(1).sum(1), rows * columns), "a rectangle, and one"


def test_pasting_takes_the_image_before_and_its_labels_alike():
    x = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    inside = torch.zeros(3, 4, 4, dtype=torch.bool)
    inside[1, :2, :2] = True
    made, labels = pasted(inside, x), pasted(inside, x[:, 0])
    assert torch.equal(made[:, 0], labels) and torch.equal(made[[0, 2]], x[[0, 2]])
    assert (made[1, :, :2, :2] == 0).all() and made[1].sum() == 3 * 12


def test_only_sure_pixels_count_and_the_sum_is_over_all():
    z = torch.tensor([[[[3.0, 0.1]], [[0.0, 0.0]]]])  # (1, 2, 1, 2): sure of class 0, then unsure
    assert confident(z, 0.9).tolist() == [[[0, -1]]]
    expected = -z.log_softmax(dim=1)[0, 0, 0, 0] / 2
    torch.testing.assert_close(masked_cross_entropy(z, confident(z, 0.9)), expected)
    assert masked_cross_entropy(z, torch.full((1, 1, 2), -1)) == 0


@pytest.mark.parametrize("name", ["fixmatch", "unimatch"])
def test_the_terms_are_dice_of_the_sure_pixels_by_their_weights(name):
    method = BUILDERS[name](replace(CONFIG, cutmix=False), 2).train()
    batch = two_stream_batch(2)
    with torch.no_grad():  # an average that is sure of everything
        y = method.pseudo_labels(batch).fill_(1)
        method.pseudo_labels = lambda _: y
        terms, z = method.losses(batch, 100), method.net(batch.x)
        both = method.net(torch.cat([batch.x, batch.strong])) if name == "unimatch" else z
    weights = {"fixmatch": {"pseudo": 0.5}, "unimatch": {"pseudo": 0.25, "features": 0.25}}[name]
    assert set(terms) == {"supervised", *weights}
    if name == "fixmatch":
        torch.testing.assert_close(terms["supervised"], 0.25 * supervised_loss(z[:2], batch.y[:2]))
        torch.testing.assert_close(terms["pseudo"], 0.5 * dice_loss(z[2:], y))
    else:
        views = dice_loss(both[2:5], y) + dice_loss(both[5:], y)
        torch.testing.assert_close(terms["supervised"], 0.25 * supervised_loss(both[:2], batch.y[:2]))
        torch.testing.assert_close(terms["pseudo"], 0.125 * views)
    y.fill_(-1)  # of nothing
    nothing = method.losses(batch, 100)
    assert all(nothing[part].item() <= weight + 1e-6 for part, weight in weights.items())


@pytest.mark.parametrize("name", ["fixmatch", "unimatch"])
def test_the_average_teaches_and_predicts_and_gets_no_gradient(name):
    method = BUILDERS[name](CONFIG, 2).train()
    batch = two_stream_batch(2)
    torch.stack(list(method.losses(batch, 100).values())).sum().backward()
    assert all(p.grad is None for p in method.average.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.net.parameters())
    with torch.inference_mode():
        method.eval()
        assert torch.equal(method.predict(batch.x), method.average(batch.x))


def test_knowsam_plus_learns_from_labels_first_and_then_rises():
    method = plus(CONFIG, 2).train()
    batch = two_stream_batch(2)
    first, later = method.losses(batch, 44), method.losses(batch, 290)
    assert set(first) == {"sam/supervised", "a/supervised", "b/supervised", "fused/supervised"}
    assert {"a/distillation", "b/distillation", "a/consistency", "b/entropy"} < set(later)
    assert rise(0.149, 0.15) == 0 and rise(0.15, 0.15) == pytest.approx(2.718281828**-5)
    assert rise(0.40, 0.15) == rise(0.9, 0.15) == 1


def test_sam_learns_from_labels_alone_and_students_not_from_its_loss():
    method = plus(CONFIG, 2).train()
    terms = method.losses(two_stream_batch(2), 290)
    assert gradient_reach(method, terms["sam/supervised"]) == {"teacher"}
    assert gradient_reach(method, terms["a/distillation"]) == {"students.net_a"}
    assert gradient_reach(method, terms["fused/supervised"]) <= {
        "students.net_a",
        "students.net_b",
        "students.ham",
    }


def one_hot(labels, classes=2):
    return 20.0 * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def test_agreement_and_handover_by_hand():
    a = torch.zeros(2, 4, 4, dtype=torch.int64)
    b = a.clone()
    a[0, :2], b[0, 1:3] = 1, 1  # eight pixels each, four in common
    assert agreement(a, b, 2).tolist() == [0.5, 1.0]
    r = handover(one_hot(a), one_hot(b), one_hot(a))
    assert r.shape == (2, 1, 1, 1) and r.flatten().tolist() == [0.25, 1.0]


def test_a_rectangle_comes_from_a_labelled_image_with_its_labels():
    x_l, x_u = torch.full((2, 3, 4, 4), 1.0), torch.zeros(3, 3, 4, 4)
    x_l[1], y_l = 2.0, torch.ones(2, 4, 4, dtype=torch.int64)
    inside = torch.zeros(3, 4, 4, dtype=torch.bool)
    inside[:, :2] = True
    x, y = with_labeled(x_l, y_l, x_u, torch.full((3, 4, 4), -1), inside)
    assert x[:, 0, 0, 0].tolist() == [1, 2, 1] and not x[:, :, 2:].any()
    assert (y[:, :2] == 1).all() and (y[:, 2:] == -1).all()


def test_with_all_pixels_the_masked_distillation_is_the_papers():
    z, z_s = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    everywhere = torch.ones(2, 5, 5, dtype=torch.bool)
    found = masked_distillation(z, (z_s / 10).log_softmax(dim=1), everywhere, 10.0)
    torch.testing.assert_close(found, distillation_loss(z, z_s, 10.0))
    assert masked_distillation(z, z_s.log_softmax(dim=1), ~everywhere, 10.0) == 0


@pytest.mark.parametrize(("target", "share"), [("sam", 0.0), ("ema", 1.0)])
def test_the_target_is_whose_was_chosen(target, share):
    method = plus(replace(CONFIG, target=target, distillation_weight=1.0), 2).train()
    batch = two_stream_batch(2)
    with torch.no_grad():
        z = method.students(batch.x)
        z_s, z_ema = torch.randn(3, 2, 32, 32), torch.randn(3, 2, 32, 32)
        wanted = torch.ones(3, 32, 32, dtype=torch.bool)
        terms = method.taught_terms(z, z_s, z_ema, wanted, 0.9)
        taught = share * z_ema + (1 - share) * z_s
    expected = 0.5 * distillation_loss(z.logits_a[2:], taught, method.config.target_temperature)
    torch.testing.assert_close(terms["a/distillation"], expected)


def test_what_was_pasted_into_an_image_does_not_speak_of_its_teachers():
    """Where the student saw a part of another image, r does not change; elsewhere it does."""
    method = plus(replace(CONFIG, distillation_weight=1.0), 2).train()
    z = method.students(two_stream_batch(2).x)
    y = torch.zeros(3, 32, 32, dtype=torch.int64)
    y[:, 8:24, 8:24] = 1
    wanted = torch.ones(3, 32, 32, dtype=torch.bool)
    wanted[:, :, :6] = False  # a rectangle beside the object
    z_s, z_ema = one_hot(y.roll(8, dims=1)), one_hot(y)  # half in common

    def term(student):
        changed = z._replace(logits_f=torch.cat([z.logits_f[:2], one_hot(student)]))
        return method.taught_terms(changed, z_s, z_ema, wanted, 0.9)

    other = y.clone()
    other[:, :, :6] = 1
    inside = term(y)["a/distillation"], term(other)["a/distillation"]
    torch.testing.assert_close(*inside)
    other[:, :, 6:] = 0
    assert term(other)["a/distillation"] != inside[0]


def test_an_image_counts_by_the_agreement_of_its_teachers():
    method = plus(replace(CONFIG, trust="agreement", distillation_weight=1.0), 2).train()
    z = method.students(two_stream_batch(2).x)
    a, b = (torch.zeros(3, 32, 32, dtype=torch.int64) for _ in range(2))
    a[0, :16], b[0, 8:24] = 1, 1  # half in common
    a[1, :16], b[1, 16:] = 1, 1  # nothing
    wanted = torch.ones(3, 32, 32, dtype=torch.bool)
    terms = method.taught_terms(z, one_hot(b), one_hot(a), wanted, 0.9)
    t = method.config.target_temperature
    r = handover(z.logits_f[2:], one_hot(a), one_hot(b))
    p = (1 - r) * (one_hot(b) / t).softmax(dim=1) + r * (one_hot(a) / t).softmax(dim=1)
    p = p.clamp(min=1e-12)
    each = [
        t**2 * (p[i] * (p[i].log() - (z.logits_a[2 + i] / t).log_softmax(0))).sum(0).mean() for i in range(3)
    ]
    expected = 0.5 * (0.5 * each[0] + each[2]) / 3
    torch.testing.assert_close(terms["a/distillation"], expected)


def test_the_average_of_the_students_follows_with_its_statistics():
    method = plus(replace(CONFIG, steps=1000), 2).train()
    with torch.no_grad():
        method.students.net_a[1].running_mean += 1
    before = copy.deepcopy(method.average.net_a[1].running_mean)
    method.after_step(500)  # over 4 % of 1000 steps: 1/40 of the way
    torch.testing.assert_close(method.average.net_a[1].running_mean, before + 1 / 40)
    assert not method.average.training and method.students.training


def test_ugda_comes_back_when_asked_for():
    def names(**changes):
        return set(plus(replace(CONFIG, **changes), 2).train().losses(two_stream_batch(2), 290))

    mixed = {name for name in names(mix_too=True) if name.startswith("mixed/")}
    assert mixed and not mixed & names()


def test_every_choice_of_the_plus_can_be_undone():
    """Each row of `ablate --plus` is another loss, has other terms, or learns other parts than the whole."""

    def losses(changes):
        config = replace(CONFIG, **changes)
        if config.method == "knowsam":
            return {}
        torch.manual_seed(0)
        method = plus(config, 2).train()
        torch.manual_seed(1)
        found = [method.losses(two_stream_batch(2), step) for step in (30, 290)]
        learned = {name for name, p in method.named_parameters() if p.requires_grad}
        return [{name: term.item() for name, term in terms.items()} for terms in found], learned

    whole = losses(PLUS["knowsam_plus"])
    for name, changes in PLUS.items():
        if changes["method"] == "knowsam_plus" and name != "knowsam_plus":
            other = "teacher" in changes  # the tests' SAM stands for each
            assert other or losses(changes) != whole, name


def test_the_ramp_of_skd_is_an_option_of_knowsam():
    nets = small_net(2), small_net(2)

    def skd(ramped, step):
        config = replace(CONFIG, distillation_ramp=ramped)
        torch.manual_seed(0)
        return KnowSAM(config, 2, *nets, tiny_teacher(2)).losses(two_stream_batch(2), step)["a/distillation"]

    torch.testing.assert_close(skd(True, 150), skd(False, 150) * ramp(0.5))
