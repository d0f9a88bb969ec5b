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


def weights(arguments: Sequence[str]) -> int:
    """download a teacher's pretrained weights"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite weights")
    from knowsam_lite.sam.backbones import backbone_named

    backbone = backbone_named(options.teacher)
    assert backbone.weights is not None  # every named backbone has published weights
    path = backbone.weights.get(options.teacher)
    print(f"{options.teacher}: {path}, {path.stat().st_size / 1e6:.1f} MB")
    if backbone.note:
        print(f"Note: {backbone.note}.")
    return 0
