"""Loading pretrained weights into a SAM: every tensor must match."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from knowsam_lite.errors import UserError
from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.attention import resize_relative
from knowsam_lite.sam.backbones import Backbone
from knowsam_lite.sam.encoder import resize_absolute
from knowsam_lite.sam.prompts import LearnablePrompts
from knowsam_lite.sam.teacher import PromptedSam


def pretrained_names(sam: PromptedSam) -> set[str]:
    """Names of the tensors of the plain SAM: all but adapters and learnable prompts."""
    added = tuple(f"{n}." for n, m in sam.named_modules() if isinstance(m, Adapter | LearnablePrompts))
    return {name for name in sam.state_dict() if not name.startswith(added)}


def fit_positions(tensors: dict[str, Tensor], sam: PromptedSam) -> dict[str, Tensor]:
    """Resize the position tables of a checkpoint, once, to the image size for which `sam` was built."""
    own = sam.state_dict()
    fitted = dict(tensors)
    for name in tensors.keys() & own.keys():
        if name.endswith("pos_embed"):
            fitted[name] = resize_absolute(tensors[name], (own[name].shape[1], own[name].shape[2]))
        elif "rel_pos" in name:
            fitted[name] = resize_relative(tensors[name], (own[name].shape[0] + 1) // 2)
    return fitted


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors or .pth file of tensors as float32. Raises UserError if that fails."""
    if not path.is_file():
        raise UserError(
            f"found no checkpoint at {path}, expected a .safetensors or .pth file: check the path"
        )
    try:
        tensors = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
        odd = [name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)]
        if odd:
            raise ValueError(f"{odd[0]!r} is not a tensor")
        return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    except Exception as error:  # each format raises its own errors; to the user they are one
        reason = str(error).splitlines()[0][:120]
        raise UserError(
            f"found an unreadable checkpoint {path} ({reason}), expected tensors: download it again"
        ) from error


def misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Tensors that are missing, unexpected or of another shape: their count and first names; "" if none."""
    faults = [f"missing {name}" for name in sorted(wanted.keys() - given.keys())]
    faults += [f"unexpected {name}" for name in sorted(given.keys() - wanted.keys())]
    faults += [
        f"{name} has shape {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & given.keys())
        if given[name].shape != wanted[name].shape
    ]
    return f"{len(faults)} faults: {'; '.join(faults[:4])}" if faults else ""


def pretrained_tensors(backbone: Backbone, checkpoint: Path | None = None) -> dict[str, Tensor]:
    """The plain SAM's tensors: from the file `checkpoint`, else from the backbone's own weights.

    Nothing is downloaded. Raises UserError if there is no file, or a truncated, altered or unreadable one.
    """
    if checkpoint is None:
        if backbone.weights is None:
            raise UserError(
                f"found no weights for {backbone.name}, expected a file: give it with --checkpoint"
            )
        checkpoint = backbone.weights.find(backbone.name)
    tensors = read_tensors(checkpoint)
    return {name: t for name, t in tensors.items() if not name.startswith(backbone.unused or (" ",))}


def load_pretrained(sam: PromptedSam, checkpoint: Path | None = None) -> None:
    """Load a plain SAM's weights into `sam`, in place, relative positions included.

    `checkpoint`: a file with segment_anything's names; by default the backbone's published weights, which
    have to be on this machine.
    Raises UserError if there are none or if a tensor is missing, unexpected or of another shape.
    """
    tensors = fit_positions(pretrained_tensors(sam.backbone, checkpoint), sam)
    own, names = sam.state_dict(), pretrained_names(sam)
    faults = misfits(tensors, {name: own[name] for name in names})
    if faults:
        raise UserError(
            f"found a checkpoint that does not fit the teacher ({faults}), "
            "expected exactly its tensors: choose the teacher that belongs to the checkpoint"
        )
    sam.load_state_dict({**own, **tensors}, strict=True)
