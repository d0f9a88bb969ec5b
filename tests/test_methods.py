"""Each method: the base test, who learns from whom, and that no named term is there in name only."""

import sys
from dataclasses import replace

import pytest
import torch
from helpers.base import check_method, check_parts, gradient_reach, small_net, tiny_teacher, two_stream_batch

from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic, choose_labeled
from knowsam_lite.data.sampler import StepBatches
from knowsam_lite.losses import consistency_loss, entropy_loss
from knowsam_lite.methods import (
    METHODS,
    WITH_SAM,
    WITHOUT_SAM,
    KnowSAM,
    MultiView,
    SamDistillation,
    Supervised,
    SupervisedPair,
    method_named,
)
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.mean_teacher import MeanTeacher
from knowsam_lite.methods.multi_view import mutual_terms
from knowsam_lite.predict import Predictor

CONFIG = replace(Config(), image_size=32, steps=300, learning_rate=1e-2)


def pair(cls):
    return lambda config, classes: cls(config, classes, small_net(classes), small_net(classes))


def knowsam(config, classes):
    nets = small_net(classes), small_net(classes)
    return KnowSAM(config, classes, *nets, teacher=tiny_teacher(classes))


BUILDERS = {
    "supervised": lambda config, classes: Supervised(config, classes, small_net(classes)),
    "supervised_pair": pair(SupervisedPair),
    "mc": pair(MultiView),
    "knowsam": knowsam,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_contract(name):
    check_method(BUILDERS[name], CONFIG)


def test_no_two_methods_share_a_name():
    assert len(METHODS) == 2 * len(WITHOUT_SAM) + len(WITH_SAM)
    assert set(BUILDERS) <= set(METHODS)


def test_mutual_terms_go_both_ways_at_half_weight():
    torch.manual_seed(0)
    z_a, z_b = torch.randn(2, 2, 3, 4, 4)
    terms = mutual_terms(z_a, z_b, 0.6, 0.2)
    assert set(terms) == {"a/consistency", "a/entropy", "b/consistency", "b/entropy"}
    for k, learner, other in (("a", z_a, z_b), ("b", z_b, z_a)):
        torch.testing.assert_close(terms[f"{k}/consistency"], 0.3 * consistency_loss(learner, other))
        torch.testing.assert_close(terms[f"{k}/entropy"], 0.1 * entropy_loss(learner))


def test_mean_teacher_takes_an_own_student():
    net = small_net(2)
    method = MeanTeacher(CONFIG, 2, net)
    assert method.net is net and method.teacher is not net
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_who_learns_from_whom():
    method = knowsam(CONFIG, 3).train()
    torch.nn.init.normal_(method.teacher.mask_decoder.transformer.space_adapter.up.weight)
    terms = method.losses(two_stream_batch(3), step=290)
    expected = {
        "a/supervised": {"students.net_a"},
        "b/supervised": {"students.net_b"},
        "fused/supervised": {"students.net_a", "students.net_b", "students.ham"},
        "a/consistency": {"students.net_a"},  # each subnet from the other, never into it
        "b/consistency": {"students.net_b"},
        "a/entropy": {"students.net_a"},
        "b/entropy": {"students.net_b"},
        "a/distillation": {"students.net_a"},  # SAM teaches the subnets and learns nothing from that
        "b/distillation": {"students.net_b"},
        "sam/supervised": {"teacher"},  # and the students learn nothing from SAM's own loss
        "mixed/a/supervised": {"students.net_a"},
        "mixed/b/supervised": {"students.net_b"},
        "mixed/fused/supervised": {"students.net_a", "students.net_b", "students.ham"},
        "mixed/a/consistency": {"students.net_a"},
        "mixed/b/consistency": {"students.net_b"},
        "mixed/a/entropy": {"students.net_a"},
        "mixed/b/entropy": {"students.net_b"},
        "mixed/a/pseudo": {"students.net_a"},
        "mixed/b/pseudo": {"students.net_b"},
    }
    assert {name: gradient_reach(method, term) for name, term in terms.items()} == expected
    assert check_parts(method, two_stream_batch(3), step=290) == 3  # SAM's, the students', the mixed batch's


class Heir(KnowSAM):
    """KnowSAM with a term of one's own, as a part of its own."""

    name = "heir"

    def parts(self, batch, step):
        yield from super().parts(batch, step)
        yield {"own": self.students(batch.x).logits_f.square().mean()}


def test_losses_and_parts_of_an_heir_agree():
    method = Heir(CONFIG, 3, small_net(3), small_net(3), tiny_teacher(3)).train()
    assert "own" in method.losses(two_stream_batch(3), 290)
    assert check_parts(method, two_stream_batch(3), 290, exact=False) == 4


def test_a_method_that_overrides_losses_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match=r"found Old.losses, expected Old.parts: rename it, and yield"):

        class Old(KnowSAM):
            def losses(self, batch, step):
                return {}


OWN = """
from knowsam_lite.methods import Supervised

class Mine(Supervised):
    name = "mine"

nothing = 3
"""


def test_a_method_of_ones_own_is_named_by_module_and_class(tmp_path, monkeypatch, capsys):
    """Also in the processes of a grid, and again when its run is opened."""
    (tmp_path / "my_methods.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    data, methods = ["--data", "synthetic:dermoscopy:30", "--labeled", "4"], ["supervised", "my_methods:Mine"]
    small = ["--seeds", "1", "--budget", "ci", "--steps", "2", "--workers", "1", "--out", "grid"]
    assert main(["compare", *data, "--methods", *methods, "--baselines", "supervised", *small]) == 0
    assert "| my_methods:Mine |" in capsys.readouterr().out
    (run,) = tmp_path.glob("grid/*/my_methods-Mine/0")
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    assert type(Predictor.from_run(run).method).__name__ == "Mine"
    plugged = method_named("my_methods:Mine+skd")
    assert issubclass(plugged, SamDistillation) and plugged.name == "mine+skd"
    for name, said in (
        ("nobody", "found method 'nobody', expected one of supervised, "),
        ("no_such_module:Mine", "No module named 'no_such_module'"),
        ("my_methods:Yours", "has no attribute 'Yours'"),
        ("my_methods:nothing", "which is not a Method, expected a subclass of knowsam_lite.Method"),
    ):
        assert main(["train", "--method", name, "--out", str(tmp_path / "run")]) == 2
        assert said in capsys.readouterr().err


def test_ugda_waits_for_its_fraction_of_the_run():
    method = knowsam(CONFIG, 2).train()
    batch = two_stream_batch(2)
    assert not any(name.startswith("mixed") for name in method.losses(batch, step=71))
    assert any(name.startswith("mixed") for name in method.losses(batch, step=72))  # 24 % of 300


def test_unlabelled_half_leaves_no_graph_in_sam():
    method = knowsam(CONFIG, 2).train()
    batch = two_stream_batch(2)
    labeled, unlabeled = method.ask_teacher(batch, torch.randn(5, 2, 32, 32))
    assert labeled.requires_grad and len(labeled) == 2
    assert not unlabeled.requires_grad and len(unlabeled) == 3


@pytest.mark.parametrize("name", BUILDERS)
def test_bfloat16_keeps_every_loss_finite_and_in_float32(name):
    method = BUILDERS[name](CONFIG, 3).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(two_stream_batch(3), step=150)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


def test_only_labelled_prompts_are_roughened(monkeypatch):
    method = knowsam(CONFIG, 2).eval()
    batch, z_f = two_stream_batch(2), torch.randn(5, 2, 32, 32)
    asked = []
    honest = method.teacher.mask_prompts
    monkeypatch.setattr(method.teacher, "mask_prompts", lambda z: asked.append(z) or honest(z))
    method.ask_teacher(batch, z_f)
    assert not torch.allclose(asked[0], z_f[:2]) and torch.equal(asked[1], z_f[2:])


def test_ramp_goes_from_almost_nothing_to_one():
    assert ramp(0) == pytest.approx(0.0067, abs=1e-4) and ramp(1) == 1


def test_supervised_methods_ignore_the_unlabelled_half():
    batch = two_stream_batch(2)
    method = BUILDERS["supervised"](CONFIG, 2).eval()  # without batch statistics the halves cannot touch
    whole = method.losses(batch, 0)["supervised"]
    other = replace(batch, x=torch.cat([batch.x[:2], 1 - batch.x[2:]]))
    torch.testing.assert_close(whole, method.losses(other, 0)["supervised"])


@pytest.mark.slow
def test_every_named_term_matters_in_a_run_of_300_steps():
    """Each term exceeds 1 % of the total at some step: none is there in name only."""
    data = Synthetic("dermoscopy", n=40, size=32)
    config = replace(CONFIG, learning_rate=3e-3)
    batches = StepBatches(
        data,
        choose_labeled(data.records, "4", 0),
        seed=0,
        batch_labeled=2,
        batch_unlabeled=2,
        size=32,
        unlabeled_aug="strong",
    )
    torch.manual_seed(0)
    method = knowsam(config, 2).train()
    optimizers = method.optimizers()
    largest: dict[str, float] = {}
    for step in range(config.steps):
        terms = method.losses(batches[step], step)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for name, term in terms.items():
            largest[name] = max(largest.get(name, 0), term.item() / total.item())
    assert len(largest) == 19
    assert {name: share for name, share in largest.items() if share < 0.01} == {}
