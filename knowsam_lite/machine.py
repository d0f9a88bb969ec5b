"""Where a number was measured, and how to get it elsewhere: device, instructions, versions, peak memory."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__)

PACKAGES = ("knowsam-lite", "numpy", "segment-anything")


def peak_memory(device: torch.device) -> int | None:
    """Peak memory of this process in bytes, on the GPU or else in RAM; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # missing on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results: name -> version."""
    found = {"python": platform.python_version(), "torch": torch.__version__}  # with its CUDA version
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that was never installed
            found[name] = "not installed"
    return found


def describe(device: torch.device) -> dict[str, Any]:
    """The device and its model, threads and vector instructions, the system and the versions, for JSON."""
    model = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": str(device),
        "model": model,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "versions": versions(),
    }


def same_digits() -> dict[str, str]:
    """What the environment of a process needs for the digits of processors without AVX-512; {} on those.

    PyTorch and oneDNN read it when they are first used, so it has to be there when the process begins.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return {}
    return {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def _processor() -> str:
    """The processor's model; on Linux only /proc/cpuinfo has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
