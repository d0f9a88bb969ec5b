"""Old module paths and names: each works for one more version and warns with its new location."""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pkgutil import iter_modules
from types import FunctionType, ModuleType
from typing import Any

PACKAGE = "knowsam_lite."

# Modules that moved, below `knowsam_lite`.
MODULES = {
    "checkpoints": "runs.checkpoints",
    "convolution": "fast.weight_gradient",
    "course.start": "course.setup",
    "data.prepare.sheet": "data.sheet",
    "data.tally": "data.statistics",
    "forwards": "fast.patching",
    "inference": "fast.folding",
    "log": "runs.log",
    "memory": "fast.allocator",
    "official.fill": "official.deterministic_weights",
    "overlay": "colors",
    "page": "report",
    "page.about": "report.about",
    "page.cases": "report.cases",
    "page.chart": "report.chart",
    "page.curves": "report.curves",
    "page.doubt": "report.uncertainty",
    "page.gather": "report.gather",
    "page.markup": "report.markup",
    "page.render": "report.render",
    "page.tiles": "report.tiles",
    "parity": "official.parity",
    "recompute": "fast.checkpointing",
    "sam.linear": "fast.frozen_linear",
}

# Classes of the methods; the old names still work in their modules and in `methods`.
METHODS = {
    "bcp.Bcp": "bcp.BCP",
    "caussl.CauSsl": "caussl.CauSSL",
    "cdma.Cdma": "cdma.CDMA",
    "cps.Cps": "cps.CPS",
    "dtc.Dtc": "dtc.DTC",
    "knowsam.KnowSam": "knowsam.KnowSAM",
    "knowsam_mutual.KnowSamMutual": "knowsam_mutual.KnowSAMMutual",
    "knowsam_mutual.KnowSamMutualAtOnce": "knowsam_mutual.KnowSAMMutualAtOnce",
    "mc_net_plus.McNetPlus": "mc_net_plus.MCNetPlus",
    "mcf.Mcf": "mcf.MCF",
    "ua_mt.UaMt": "ua_mt.UAMT",
    "urpc.Urpc": "urpc.URPC",
}

# Single names that moved or were renamed: where they were -> where they are.
NAMES = {
    "cli.program": "cli.main",
    "convolution.usual": "fast.weight_gradient.is_wide_3x3",
    "data.prepare.obtain.cache_folder": "downloads.cache_folder",
    "data.prepare.recipe.clean": "data.names.file_stem",
    "evaluation.PIXELS": "predict.predictor.PIXELS",
    "evaluation.batch_size": "predict.predictor.batch_size",
    "figures.look.INK": "colors.INK",
    "inference.biased_like": "fast.folding.same_geometry",
    "inference.merged": "fast.folding.merge_branches",
    "inference.plain": "fast.folding.is_plain_conv",
    "inference.twin": "fast.folding.clone_modules",
    "knowsam_lite.KnowSam": "methods.KnowSAM",
    "machine.has_avx512": "fast.patching.has_avx512",
    "methods.bcp.average_into": "deprecated.average_into",
    "methods.mean_teacher.follow": "course.chapters.ch04.e4_the_moving_average.follow",
    "page.Gatherer": "report.gather.Gatherer",
    "page.Scored": "report.render.Scored",
    "page.render": "report.render.render",
    "page.doubt.doubt": "report.uncertainty.uncertainty",
    "recompute.Inside": "fast.checkpointing.NormToConv",
    "recompute.Overwriting": "fast.checkpointing.InplaceLeakyReLU",
    "recompute.OverwritingLeakyReLU": "fast.checkpointing.InplaceLeakyReLUFunction",
    "recompute.SideBySide": "fast.checkpointing.Concatenated",
    "recompute.StatisticsKept": "fast.checkpointing.FrozenStatistics",
    "recompute.between": "fast.checkpointing.recomputed",
    "recompute.compute_twice": "fast.checkpointing.checkpoint_activations",
    "recompute.end": "fast.checkpointing.last_layers",
    "recompute.inside": "fast.checkpointing.through_second_conv",
    "recompute.kinds": "fast.checkpointing.layer_types",
    "recompute.usual": "fast.checkpointing.has_default_layers",
    "recompute.usual_unet": "fast.checkpointing.has_default_layers",
    "sam.linear.product": "fast.frozen_linear.onednn_linear",
    "sam.linear.product_backward": "fast.frozen_linear.onednn_linear_backward",
    "subnets.climb": "subnets.decode",
    "subnets.descend": "subnets.encode",
    "subnets.start_kaiming": "subnets.init_kaiming",
    "subnets.way_down": "subnets.make_encoder",
    "subnets.way_up": "subnets.make_decoder",
    "training.Interrupt": "interrupt.Interrupt",
    "training.LARGE": "fast.training.LARGE",
    "training.Window": "runs.log.Window",
    **{f"methods.{old}": f"methods.{new}" for old, new in METHODS.items()},
    **{f"methods.{old.split('.')[1]}": f"methods.{new}" for old, new in METHODS.items()},
}


class OldModules(MetaPathFinder, Loader):
    """Imports a module under its old path; its names are looked up at the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        old = fullname.removeprefix(PACKAGE)
        if not fullname.startswith(PACKAGE) or old not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=any(name.startswith(f"{old}.") for name in MODULES))

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__getattr__"] = old_names(module.__name__)


def install() -> None:
    """Make the old module paths importable."""
    sys.meta_path.insert(0, OldModules())  # first: a folder left over from an old version is not a package


def old_names(module: str, parts: bool = False) -> Callable[[str], Any]:
    """The `__getattr__` of a module from which names have moved; `parts`: also look in its own files.

    It issues a DeprecationWarning with the new location, and raises AttributeError for a name that never
    existed.
    """

    def look_up(name: str) -> Any:
        old = f"{module.removeprefix(PACKAGE)}.{name}"
        new = None if name.startswith("_") else NAMES.get(old) or _found(module, name, parts)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {PACKAGE}{new}", DeprecationWarning, stacklevel=2)
        home, _, leaf = new.rpartition(".")
        return getattr(import_module(PACKAGE + home), leaf)

    return look_up


def _found(module: str, name: str, parts: bool) -> str | None:
    """New location of a name that was not renamed: it moved with its whole module, or into a file of the
    package that the module has become.
    """
    moved = MODULES.get(module.removeprefix(PACKAGE))
    homes = [moved] if moved else []
    if parts:
        package = module.removeprefix(PACKAGE)
        homes += [f"{package}.{part.name}" for part in iter_modules(sys.modules[module].__path__)]
    return next((f"{home}.{name}" for home in homes if _defines(import_module(PACKAGE + home), name)), None)


def _defines(module: ModuleType, name: str) -> bool:
    """True if the module has the name, unless it is a class or function from elsewhere in this package."""
    thing = vars(module).get(name)
    home = thing.__module__ if isinstance(thing, type | FunctionType) else ""
    borrowed = home.startswith(PACKAGE) and home != module.__name__
    return not (thing is None or borrowed or isinstance(thing, ModuleType))


def average_into(teacher: Any, student: Any, decay: float) -> None:
    """`methods.ema.update_ema`, buffers included."""
    import_module("knowsam_lite.methods.ema").update_ema(teacher, student, decay, buffers=True)
