"""Training methods, one per file, and their registry; NAME+skd is NAME with SAM distillation."""

import os
import sys
from importlib import import_module

from knowsam_lite.deprecated import old_names
from knowsam_lite.errors import UserError
from knowsam_lite.methods.base import Method
from knowsam_lite.methods.bcp import BCP
from knowsam_lite.methods.caussl import CauSSL
from knowsam_lite.methods.cdma import CDMA
from knowsam_lite.methods.cps import CPS
from knowsam_lite.methods.distillation import SamDistillation, with_distillation
from knowsam_lite.methods.dtc import DTC
from knowsam_lite.methods.fixmatch import FixMatch
from knowsam_lite.methods.knowsam import KnowSAM
from knowsam_lite.methods.knowsam_mutual import KnowSAMMutual, KnowSAMMutualAtOnce
from knowsam_lite.methods.knowsam_plus import KnowSAMPlus
from knowsam_lite.methods.mc_mean import MultiViewMean
from knowsam_lite.methods.mc_net_plus import MCNetPlus
from knowsam_lite.methods.mcf import MCF
from knowsam_lite.methods.mean_teacher import MeanTeacher
from knowsam_lite.methods.multi_view import MultiView
from knowsam_lite.methods.official import UNMENDED, Official
from knowsam_lite.methods.sam_only import SamOnly
from knowsam_lite.methods.supervised import Supervised, SupervisedPair
from knowsam_lite.methods.ua_mt import UAMT
from knowsam_lite.methods.unimatch import UniMatch
from knowsam_lite.methods.urpc import URPC

__getattr__ = old_names(__name__)

WITHOUT_SAM: tuple[type[Method], ...] = (
    Supervised,
    SupervisedPair,
    MeanTeacher,
    UAMT,
    DTC,
    MCNetPlus,
    MCF,
    CDMA,
    CauSSL,
    BCP,
    CPS,
    URPC,
    MultiViewMean,
    MultiView,
    FixMatch,
    UniMatch,
)
WITH_SAM: tuple[type[Method], ...] = (
    SamOnly,
    KnowSAM,
    KnowSAMMutual,
    KnowSAMMutualAtOnce,
    KnowSAMPlus,
    Official,
    *UNMENDED,
)
METHODS: dict[str, type[Method]] = {
    m.name: m for m in (*WITHOUT_SAM, *WITH_SAM, *map(with_distillation, WITHOUT_SAM))
}

SKD = "+skd"


def list_methods() -> list[str]:
    """The names that `Config.method` accepts, besides `package.module:Class` for your own method."""
    return list(METHODS)


def method_named(name: str) -> type[Method]:
    """The class of a method: one of `METHODS` or your own "package.module:Class"; "+skd" adds distillation.

    Modules are searched on Python's path and in the current folder. Raises UserError if there is none.
    """
    if name in METHODS:
        return METHODS[name]
    if name.endswith(SKD) and ":" in name:
        return with_distillation(method_named(name.removesuffix(SKD)))
    module, colon, attribute = name.partition(":")
    if not colon:
        expected = ", ".join(METHODS)
        raise UserError(
            f"found method {name!r}, expected one of {expected}, or your own package.module:Class"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"found no method {name!r} ({error}), expected package.module:Class on Python's path: "
            "correct the name, or run from the module's folder"
        ) from None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UserError(f"found {name!r}, which is not a Method, expected a subclass of knowsam_lite.Method")
    return found


__all__ = [
    "BCP",
    "CDMA",
    "CPS",
    "DTC",
    "MCF",
    "METHODS",
    "UAMT",
    "URPC",
    "CauSSL",
    "FixMatch",
    "KnowSAM",
    "KnowSAMMutual",
    "KnowSAMMutualAtOnce",
    "KnowSAMPlus",
    "MCNetPlus",
    "MeanTeacher",
    "Method",
    "MultiView",
    "MultiViewMean",
    "Official",
    "SamDistillation",
    "SamOnly",
    "Supervised",
    "SupervisedPair",
    "UniMatch",
    "list_methods",
    "method_named",
]
