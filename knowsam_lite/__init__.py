"""knowsam_lite: semi-supervised medical image segmentation with a promptable teacher (KnowSAM).

Names are imported on first use, so importing the package is cheap.
"""

import os
from importlib import import_module
from typing import Any

from knowsam_lite import deprecated

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations checks for updates on import

deprecated.install()

__version__ = "0.1.0"

_HOME = {
    "Config": "config",
    "HybridAggregation": "aggregation",
    "KnowSAM": "methods",
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
    "list_methods": "methods",
    "open_dataset": "data",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        return deprecated.old_names(__name__)(name)
    return getattr(import_module(f"knowsam_lite.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
