"""`knowsam-lite parity FOLDER`: the official variant against recorded cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Options:
    """Compare this library's `official` variant with the authors' behaviour, case by case."""

    cases: Annotated[Path, tyro.conf.Positional]  # folder of case files


def parity(arguments: Sequence[str]) -> int:
    """compare the official variant with recorded cases of the authors' code"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite parity")
    from knowsam_lite.official.parity import run_parity

    return run_parity(options.cases)
