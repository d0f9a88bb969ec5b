"""`knowsam-lite ablate`: what each part of the method is worth, one added at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from knowsam_lite.commands.compare import GridOptions, run

NO_MIX: dict[str, Any] = {"method": "knowsam", "mix_start": 1.0}

# The paper adds SKD after LPS and adapter. Without SKD, SAM does not affect the students, so here SKD comes
# first, with an untrained SAM, followed by the trained parts of SAM.
LADDER: dict[str, dict[str, Any]] = {
    "MC": {"method": "mc_mean"},
    "+ HAM": {"method": "mc"},
    "+ SKD": {**NO_MIX, "teacher_learns": ()},
    "+ LPS": {**NO_MIX, "teacher_learns": ("prompts",)},
    "+ adapter": NO_MIX,
    "+ UGDA": {"method": "knowsam"},
}

# Defects of the authors' code that this library fixes, restored one at a time.
DEFECTS: dict[str, dict[str, Any]] = {
    "mended": {"method": "knowsam"},
    "consistency": {"method": "unmended_consistency"},
    "distillation": {"method": "unmended_distillation"},
    "certain regions": {"method": "knowsam", "mix_most": "certain"},
    "aggregation": {"method": "unmended_aggregation"},
    "SAM": {"method": "unmended_sam"},
}

# What `knowsam_plus` does otherwise than `knowsam`, one choice undone or exchanged at a time.
PLUS_ONLY: dict[str, Any] = {"method": "knowsam_plus"}
PLUS: dict[str, dict[str, Any]] = {
    "knowsam_plus": PLUS_ONLY,
    "from the start": {**PLUS_ONLY, "labels_first": 0.0},
    "at T = 10": {**PLUS_ONLY, "target_temperature": 10.0},
    "hard labels": {**PLUS_ONLY, "pseudo": "hard"},
    "SAM alone": {**PLUS_ONLY, "target": "sam"},
    "average alone": {**PLUS_ONLY, "target": "ema"},
    "by agreement": {**PLUS_ONLY, "trust": "agreement"},
    "no adapters": {**PLUS_ONLY, "teacher_learns": ("prompts",)},
    "sam_mini": {**PLUS_ONLY, "teacher": "sam_mini", "teacher_size": None, "checkpoint": None},
    "no CutMix": {**PLUS_ONLY, "cutmix": False},
    "UGDA, too": {**PLUS_ONLY, "mix_too": True},
    "knowsam": {"method": "knowsam"},
    "knowsam, SKD ramped": {"method": "knowsam", "distillation_ramp": True},
}


@dataclass(frozen=True)
class AblateOptions(GridOptions):
    """Add one part of KnowSAM at a time: MC, HAM, SKD, LPS, adapter, UGDA; differences against MC and all."""

    defects: bool = False  # instead restore defects of the authors' code in the whole method, one at a time
    plus: bool = False  # instead undo one choice of knowsam_plus at a time
    out: Path = Path("runs/ablation")


def ablate(arguments: Sequence[str]) -> int:
    """add one part of KnowSAM at a time and print one table"""
    options = tyro.cli(AblateOptions, args=arguments, prog="knowsam-lite ablate")
    if options.defects:
        return run(options, DEFECTS, ("mended",), options.out)
    if options.plus:
        return run(options, PLUS, ("knowsam_plus", "knowsam"), options.out)
    return run(options, LADDER, ("MC", "+ UGDA"), options.out)
