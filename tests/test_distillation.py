"""SAM distillation plugged into every method: who learns from it, and what stays as it was."""

from dataclasses import replace

import pytest
import torch
from helpers.base import check_method, small_net, tiny_teacher, two_stream_batch

from knowsam_lite.config import Config
from knowsam_lite.errors import UserError
from knowsam_lite.losses import distillation_loss
from knowsam_lite.methods import METHODS, SamDistillation, Supervised
from knowsam_lite.methods import WITHOUT_SAM as PLAIN

CONFIG = replace(Config(), image_size=32, steps=300, learning_rate=1e-2)


def plugged(config: Config, classes: int) -> SamDistillation:
    return SamDistillation(Supervised(config, classes, small_net(classes)), tiny_teacher(classes))


def touched(method: torch.nn.Module, loss: torch.Tensor) -> set[str]:
    """Names of the parameters with a gradient that is not zero."""
    method.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_contract():
    check_method(plugged, CONFIG)


@pytest.mark.parametrize("plain", PLAIN, ids=lambda m: m.name)
def test_gradients_reach_exactly_the_intended_networks(plain):
    """SKD teaches the nets that learn, SAM learns from its own labels alone, the rest learns as before."""
    torch.manual_seed(0)
    config = replace(CONFIG, learning_rate=1e-3)
    method = SamDistillation(plain(config, 2), tiny_teacher(2)).train()
    batch = two_stream_batch(2, labeled=2, unlabeled=2)
    predicting = {f"method.{name}" for name in touched(method.method, method.method.learner(batch.x).std())}
    trained = {f"teacher.{n}" for n, p in method.teacher.named_parameters() if p.requires_grad}
    terms = method.losses(batch, step=150)
    by_sam = touched(method, terms["distillation"])
    assert by_sam and by_sam <= predicting
    assert {n for n in predicting if n.endswith("weight")} == {n for n in by_sam if n.endswith("weight")}
    sam = touched(method, terms["sam/supervised"])
    assert sam and sam <= trained
    own = torch.stack([v for k, v in terms.items() if k not in ("distillation", "sam/supervised")]).sum()
    assert all(name.startswith("method.") for name in touched(method, own))


@pytest.mark.parametrize("plain", PLAIN, ids=lambda m: m.name)
def test_each_has_a_plugged_form_in_the_registry(plain):
    form = METHODS[f"{plain.name}+skd"]
    assert issubclass(form, SamDistillation) and form.uses_unlabeled
    assert form.prediction_view == plain.prediction_view


def test_optimizers_hold_every_trainable_parameter_once_and_nothing_frozen():
    method = plugged(CONFIG, 3)
    held = [id(p) for o in method.optimizers() for group in o.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in method.parameters() if p.requires_grad}


def test_distillation_is_the_students_own_loss_with_its_weight():
    config = replace(CONFIG, distillation_weight=0.25)
    method = plugged(config, 2).eval()
    batch = two_stream_batch(2)
    z = method.method.learner(batch.x)
    torch.manual_seed(3)
    labeled, unlabeled = method.ask_teacher(batch, z)
    torch.manual_seed(3)
    terms = method.losses(batch, 10)
    expected = 0.25 * distillation_loss(z, torch.cat([labeled, unlabeled]).detach(), config.temperature)
    torch.testing.assert_close(terms["distillation"], expected)
    assert not unlabeled.requires_grad


def test_what_is_frozen_is_not_saved():
    method = plugged(CONFIG, 2)
    saved = method.trained_state()
    assert {name.split(".")[0] for name in saved} == {"method", "teacher"}
    assert not any(name.endswith("pos_embed") for name in saved)


@pytest.mark.parametrize("name", ["bcp", "fixmatch"])
def test_a_plugged_method_still_needs_two_images_of_each_half(name):
    with pytest.raises(UserError, match="at least 2 of each"):
        METHODS[f"{name}+skd"](CONFIG, 2, tiny_teacher(2)).require_batch(1, 4)
