"""The methods by name. The registry is made from the classes; NAME+skd is NAME with SAM distillation."""

from knowsam_lite.methods.base import Method
from knowsam_lite.methods.bcp import Bcp
from knowsam_lite.methods.caussl import CauSsl
from knowsam_lite.methods.cdma import Cdma
from knowsam_lite.methods.cps import Cps
from knowsam_lite.methods.distillation import SamDistillation, with_distillation
from knowsam_lite.methods.dtc import Dtc
from knowsam_lite.methods.knowsam import KnowSam
from knowsam_lite.methods.knowsam_mutual import KnowSamMutual, KnowSamMutualAtOnce
from knowsam_lite.methods.mc_mean import MultiViewMean
from knowsam_lite.methods.mc_net_plus import McNetPlus
from knowsam_lite.methods.mcf import Mcf
from knowsam_lite.methods.mean_teacher import MeanTeacher
from knowsam_lite.methods.multi_view import MultiView
from knowsam_lite.methods.official import UNMENDED, Official
from knowsam_lite.methods.sam_only import SamOnly
from knowsam_lite.methods.supervised import Supervised, SupervisedPair
from knowsam_lite.methods.ua_mt import UaMt
from knowsam_lite.methods.urpc import Urpc

WITHOUT_SAM: tuple[type[Method], ...] = (
    Supervised,
    SupervisedPair,
    MeanTeacher,
    UaMt,
    Dtc,
    McNetPlus,
    Mcf,
    Cdma,
    CauSsl,
    Bcp,
    Cps,
    Urpc,
    MultiViewMean,
    MultiView,
)
WITH_SAM: tuple[type[Method], ...] = (
    SamOnly,
    KnowSam,
    KnowSamMutual,
    KnowSamMutualAtOnce,
    Official,
    *UNMENDED,
)
METHODS: dict[str, type[Method]] = {
    m.name: m for m in (*WITHOUT_SAM, *WITH_SAM, *map(with_distillation, WITHOUT_SAM))
}

__all__ = [
    "METHODS",
    "Bcp",
    "CauSsl",
    "Cdma",
    "Cps",
    "Dtc",
    "KnowSam",
    "KnowSamMutual",
    "KnowSamMutualAtOnce",
    "McNetPlus",
    "Mcf",
    "MeanTeacher",
    "Method",
    "MultiView",
    "MultiViewMean",
    "Official",
    "SamDistillation",
    "SamOnly",
    "Supervised",
    "SupervisedPair",
    "UaMt",
    "Urpc",
]
