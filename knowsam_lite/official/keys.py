"""Translates tensor names between ours and the authors', by one table of prefixes.

`{}` stands for a number that is the same on both sides. A name without a rule is the same on both sides (most
of SAM's).
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from knowsam_lite.errors import UserError
from knowsam_lite.sam.weights import misfits

_DOWN = ("one", "two", "three", "four", "five")  # the V-Net's stages, full size first
_UP = ("six", "seven", "eight", "nine")

_UNET = {
    "net_a.encoder.0.": "UNet.in_conv.conv_conv.",
    **{f"net_a.encoder.{i}.": f"UNet.down{i}.maxpool_conv.1.conv_conv." for i in range(1, 5)},
    **{f"net_a.up.{i}.": f"UNet.up{i + 1}.up." for i in range(4)},
    **{f"net_a.decoder.{i}.": f"UNet.up{i + 1}.conv.conv_conv." for i in range(4)},
    "net_a.head.": "UNet.out_conv.",
}
_VNET = {
    **{f"net_b.encoder.{i}.": f"VNet.block_{stage}.conv." for i, stage in enumerate(_DOWN)},
    **{f"net_b.down.{i}.": f"VNet.block_{stage}_dw.conv." for i, stage in enumerate(_DOWN[:4])},
    **{f"net_b.up.{i}.": f"VNet.block_{stage}_up.conv." for i, stage in enumerate((_DOWN[4], *_UP[:3]))},
    **{f"net_b.decoder.{i}.": f"VNet.block_{stage}.conv." for i, stage in enumerate(_UP)},
    "net_b.head.": "VNet.out_conv.",
}
_HAM = {
    "ham.agreement.": "Discriminator.ambiguous_conv.",
    "ham.certainty.": "Discriminator.entmap_conv.",
    "ham.logits.": "Discriminator.logits_conv.",
    "ham.fuse.": "Discriminator.final_conv.",
}
_ADAPTERS = {
    f"{place}{ours}_adapter.{part}.": f"{place}{theirs}_Adapter.{theirs_part}."
    for place in (
        "image_encoder.blocks.{}.",
        "mask_decoder.transformer.layers.{}.",
        "mask_decoder.transformer.",
    )
    for ours, theirs in (("space", "Space"), ("mlp", "MLP"), ("depth", "Depth"))
    for part, theirs_part in (("down", "D_fc1"), ("up", "D_fc2"))
}
_DECODER_MLP = {
    "mask_decoder.transformer.layers.{}.mlp.lin1.": "mask_decoder.transformer.layers.{}.mlp.layers.0.0.",
    "mask_decoder.transformer.layers.{}.mlp.lin2.": "mask_decoder.transformer.layers.{}.mlp.fc.",
}
_PROMPTS = {
    "learnable_prompts.classes.{}." + ours: "super_prompt.box_decoder.{}." + theirs
    for ours, theirs in (
        ("0.", "conv_1.conv_conv."),
        ("2.", "down_1.maxpool_conv.1.conv_conv."),
        ("3.", "conv_2.conv_conv."),
        ("5.", "down_2.maxpool_conv.1.conv_conv."),
        ("6.", "conv_3."),
        ("9.", "ffn.0."),
        ("12.", "ffn.3."),
    )
}
RULES: dict[str, str] = {**_UNET, **_VNET, **_HAM, **_ADAPTERS, **_DECODER_MLP, **_PROMPTS}


def _compile(rules: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """Prefixes with `{}` as patterns, and their replacements."""
    return [
        (re.compile(re.escape(old).replace(r"\{\}", r"(\d+)")), new.replace("{}", r"\g<1>"))
        for old, new in rules.items()
    ]


_TO = _compile(RULES)
_FROM = _compile({theirs: ours for ours, theirs in RULES.items()})


def _rename(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, new in rules:
        if match := pattern.match(name):
            return match.expand(new) + name[match.end() :]
    return name


def to_official(name: str) -> str:
    """The authors' name of a tensor of our students or of `OfficialTeacher`."""
    return _rename(name, _TO)


def from_official(name: str) -> str:
    """Our name of a tensor of the authors' students or SAM."""
    return _rename(name, _FROM)


def official_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of our students or of `OfficialTeacher` under the authors' names."""
    return {to_official(name): tensor for name, tensor in module.state_dict().items()}


def load_official(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str = "an official checkpoint"
) -> None:
    """Load a checkpoint with the authors' names, in place; `source` names it in errors.

    Raises UserError if a tensor is missing, unexpected or of another shape, and names them.
    """
    faults = misfits(tensors, official_state(module))
    if faults:
        raise UserError(
            f"found {source} that does not fit ({faults}), "
            "expected exactly the model's tensors: give its class count"
        )
    module.load_state_dict({from_official(name): tensor for name, tensor in tensors.items()})
