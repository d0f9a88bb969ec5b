"""The losses against libraries and by hand; who is taught by whom."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss

from knowsam_lite.losses import (
    consistency_loss,
    cross_entropy,
    dice_loss,
    distillation_loss,
    entropy_loss,
    supervised_loss,
)


def logits(seed: int, classes: int = 3, requires_grad: bool = False) -> torch.Tensor:
    z = 2 * torch.randn(2, classes, 8, 8, generator=torch.Generator().manual_seed(seed))
    return z.requires_grad_(requires_grad)


@pytest.mark.parametrize("classes", [2, 4])
def test_dice_is_monais_squared_batch_dice(classes):
    z = logits(0, classes)
    y = torch.randint(classes, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    oracle = DiceLoss(
        softmax=True, to_onehot_y=True, squared_pred=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    torch.testing.assert_close(dice_loss(z, y), oracle(z, y.unsqueeze(1)))


def test_unknown_pixels_count_for_nothing():
    z, y = logits(0), torch.randint(3, (2, 8, 8))
    half = y.clone()
    half[1] = -1
    torch.testing.assert_close(supervised_loss(z, half), supervised_loss(z[:1], y[:1]))


def test_cross_entropy_by_hand():
    z = torch.log(torch.tensor([0.7, 0.2, 0.1])).view(1, 3, 1, 1)
    assert cross_entropy(z, torch.tensor([[[1]]])).item() == pytest.approx(-torch.tensor(0.2).log().item())


def test_consistency_is_the_soft_cross_entropy():
    z, other = logits(0), logits(1)
    expected = F.cross_entropy(z, other.softmax(1))
    torch.testing.assert_close(consistency_loss(z, other), expected)


def test_only_the_learner_learns():
    z, other = logits(0, requires_grad=True), logits(1, requires_grad=True)
    (consistency_loss(z, other) + distillation_loss(z, other)).backward()
    assert z.grad.abs().sum() > 0 and other.grad is None


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(0.5, 20), classes=st.integers(2, 5))
def test_distillation_is_t_squared_kl_per_pixel(temperature, classes):
    z, teacher = logits(0, classes), logits(1, classes)
    log_q, p = (z / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    expected = temperature**2 * F.kl_div(log_q, p, reduction="none").sum(1).mean()
    torch.testing.assert_close(distillation_loss(z, teacher, temperature), expected, rtol=1e-3, atol=1e-5)


def test_distillation_vanishes_for_the_teacher_itself_and_ignores_a_shift():
    z = logits(0)
    assert distillation_loss(z, z + 5).item() == pytest.approx(0, abs=1e-4)


def test_entropy_loss_is_normalized_for_every_class_count():
    for classes in (2, 3, 7):
        assert entropy_loss(torch.zeros(1, classes, 4, 4)).item() == pytest.approx(1)


@pytest.mark.parametrize(
    "loss", [lambda z: entropy_loss(z), lambda z: consistency_loss(z, -z), lambda z: distillation_loss(z, -z)]
)
def test_extreme_logits_stay_finite(loss):
    z = (1e4 * torch.tensor([1.0, -1.0])).view(1, 2, 1, 1).requires_grad_()
    value = loss(z)
    value.backward()
    assert value.isfinite() and z.grad.isfinite().all()
