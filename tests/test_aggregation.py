"""Entropy, disagreement and HAM."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.students import Students
from knowsam_lite.uncertainty import disagreement_map, entropy_map


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 6), scale=st.floats(0, 100), seed=st.integers(0, 1000))
def test_entropy_is_pytorchs_divided_by_log_c(classes, scale, seed):
    z = scale * torch.randn(2, classes, 4, 5, generator=torch.Generator().manual_seed(seed))
    h = entropy_map(z)
    assert h.shape == (2, 4, 5) and (h >= -1e-6).all() and (h <= 1 + 1e-6).all()
    # In double precision: `Categorical` subtracts a log-sum-exp near 100 from logits near 100.
    expected = Categorical(logits=z.double().movedim(1, -1)).entropy() / math.log(classes)
    torch.testing.assert_close(h, expected.float(), atol=1e-6, rtol=1e-5)


def test_entropy_at_its_ends():
    uniform = torch.zeros(1, 4, 2, 2)
    certain = torch.tensor([1e4, 0, 0, 0]).view(1, 4, 1, 1).requires_grad_()
    torch.testing.assert_close(entropy_map(uniform), torch.ones(1, 2, 2))
    h = entropy_map(certain)
    h.sum().backward()
    assert h.item() == 0 and certain.grad.isfinite().all()


def test_disagreement_by_hand():
    p_a = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1)
    p_b = torch.tensor([0.4, 0.6]).view(1, 2, 1, 1)
    assert disagreement_map(p_a, p_b).flatten().tolist() == [1, 1]
    assert disagreement_map(p_a, p_a).flatten().tolist() == [0, 0]
    unsure = torch.full((1, 3, 1, 1), 1 / 3)  # no class above one half: only the sure net speaks
    sure = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1)
    assert disagreement_map(unsure, sure).flatten().tolist() == [1, 0, 0]


@pytest.mark.parametrize("classes", [2, 4])
def test_ham_fuses_to_one_map_and_reaches_both(classes):
    z_a = torch.randn(2, classes, 16, 32, requires_grad=True)
    z_b = torch.randn(2, classes, 16, 32, requires_grad=True)
    z_f = HybridAggregation(classes)(z_a, z_b)
    assert z_f.shape == z_a.shape
    z_f.square().sum().backward()
    assert z_a.grad.abs().sum() > 0 and z_b.grad.abs().sum() > 0


def test_agreement_is_a_constant_but_certainty_is_not():
    ham = HybridAggregation(2)
    z_a, z_b = torch.randn(2, 2, 8, 8, requires_grad=True), torch.randn(2, 2, 8, 8)
    seen = {}
    for name in ("agreement", "certainty", "logits"):
        branch = getattr(ham, name)
        branch.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    ham(z_a, z_b)
    assert {name: value.requires_grad for name, value in seen.items()} == {
        "agreement": False,
        "certainty": True,
        "logits": True,
    }
    assert seen["certainty"].min() >= 0 and seen["certainty"].max() <= 1
    torch.testing.assert_close(seen["agreement"], 1 - disagreement_map(z_a.softmax(1), z_b.softmax(1)))


def test_students_take_own_nets_grey_and_non_square():
    own = torch.nn.Conv2d(3, 3, 1)
    z = Students(3, net_a=own).eval()(torch.rand(2, 1, 32, 48))
    assert [t.shape for t in z] == [(2, 3, 32, 48)] * 3
    assert (
        sum(p.numel() for p in Students(2).ham.parameters()) == 40_546
    )  # the authors' 40,548 less a BatchNorm, with a bias
