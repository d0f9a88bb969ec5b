"""knowsam_lite: semi-supervised segmentation of medical images with a promptable teacher (KnowSAM), to read
and to run.

Names are loaded when they are first used, so that importing the package costs nothing.
"""

import os
from importlib import import_module
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations would call home when it is imported

__version__ = "0.1.0"

_HOME = {
    "Config": "config",
    "HybridAggregation": "aggregation",
    "KnowSam": "methods",
    "METHODS": "methods",
    "Method": "methods",
    "Predictor": "predict",
    "Record": "data",
    "SamTeacher": "sam",
    "SegmentationFolder": "data",
    "Students": "students",
    "Synthetic": "data",
    "Trainer": "training",
    "UNet": "subnets",
    "UserError": "errors",
    "VNet": "subnets",
    "fit": "training",
    "open_dataset": "data",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'knowsam_lite' has no attribute {name!r}")
    return getattr(import_module(f"knowsam_lite.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
