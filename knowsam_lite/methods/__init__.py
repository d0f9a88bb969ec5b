"""The methods by name. The registry is made from the classes."""

from knowsam_lite.methods.base import Method
from knowsam_lite.methods.knowsam import KnowSam
from knowsam_lite.methods.multi_view import MultiView
from knowsam_lite.methods.official import Official
from knowsam_lite.methods.supervised import Supervised, SupervisedPair

METHODS: dict[str, type[Method]] = {
    m.name: m for m in (Supervised, SupervisedPair, MultiView, KnowSam, Official)
}

__all__ = ["METHODS", "KnowSam", "Method", "MultiView", "Official", "Supervised", "SupervisedPair"]
