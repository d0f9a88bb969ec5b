"""The set-up of a notebook: missing packages, how much it may compute, and where the data is."""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypeVar

from packaging.requirements import Requirement  # wherever there is a kernel, ipykernel brought it

from knowsam_lite import __version__
from knowsam_lite.errors import UserError

Size = TypeVar("Size")
BUDGETS = ("smoke", "ci", "laptop", "gpu")


def sees_cuda() -> bool:
    """True if PyTorch is installed and finds a CUDA device."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()


class Budget:
    """How much a notebook may compute: the environment variable KNOWSAM_LITE_BUDGET, by default "gpu" where
    PyTorch sees a CUDA device, else "laptop".
    """

    @property
    def name(self) -> str:
        """One of "smoke" (no training), "ci", "laptop" and "gpu". Raises UserError for any other value."""
        name = os.environ.get("KNOWSAM_LITE_BUDGET") or ("gpu" if sees_cuda() else "laptop")
        if name not in BUDGETS:
            raise UserError(
                f"found KNOWSAM_LITE_BUDGET={name}, expected one of {', '.join(BUDGETS)}: correct it"
            )
        return name

    def __call__(self, smoke: Size, ci: Size, laptop: Size, gpu: Size) -> Size:
        """The one of four values that the budget chooses: `steps = budget(smoke=0, ci=40, ...)`."""
        return {"smoke": smoke, "ci": ci, "laptop": laptop, "gpu": gpu}[self.name]


budget = Budget()


def data_folder() -> Path:
    """Where chapters look for real images: KNOWSAM_LITE_DATA, by default `datasets` beside the notebook."""
    return Path(os.environ.get("KNOWSAM_LITE_DATA", "datasets"))


def missing_requirements() -> list[str]:
    """The requirements of the installed package, extras aside, that this environment lacks or has in another
    version.
    """
    try:
        declared = importlib.metadata.requires("knowsam-lite") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return []
    missing = []
    for requirement in map(Requirement, declared):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            here = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            here = ""
        if not here or not requirement.specifier.contains(here, prereleases=True):
            missing.append(f"{requirement.name}{requirement.specifier}")
    return missing


def install(requirements: list[str]) -> None:
    """pip install, keeping torch, torchvision and numpy at their installed versions, if any.

    Raises UserError if pip fails, or if one of the three is too old.
    """
    kept = []
    wanted = {Requirement(requirement).name: requirement for requirement in requirements}
    for name in ("torch", "torchvision", "numpy"):
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name in wanted:
            raise UserError(
                f"found {name} {here}, expected {wanted[name]}: choose a newer runtime, or pip install "
                f"'{wanted[name]}' and restart"
            )
        kept.append(f"{name}=={here}")
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(kept), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "-c", str(constraints), *requirements]
        outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode:
        says = (outcome.stderr.split("ERROR: ")[-1].strip() or "no message").splitlines()[0]
        raise UserError(
            f"found pip failing ({says}), expected it to install {', '.join(requirements)}: install them "
            "by hand, then run this cell again"
        )


def setup() -> None:
    """Install what is missing, set the style of all figures, and print versions, device, budget and data
    folder.
    """
    missing = missing_requirements()
    if missing:
        try:
            install(missing)
        except UserError as error:
            sys.exit(str(error))  # one line in a notebook, where another exception shows its calls
    import matplotlib
    import numpy
    import torch

    from knowsam_lite.figures import style

    style()
    cuda = torch.cuda.is_available()
    print(f"knowsam_lite {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}", end=", ")
    print(f"numpy {numpy.__version__}, matplotlib {matplotlib.__version__}")
    print(f"device  {torch.cuda.get_device_name() if cuda else 'CPU'}")
    print(f"budget  {budget.name} (set KNOWSAM_LITE_BUDGET to one of {', '.join(BUDGETS)} to change it)")
    print(f"data    {data_folder()}")
