"""Converts published archives, or a user's own files, to the folder layout."""

from knowsam_lite.data.prepare.folder import Prepared, Request, prepare
from knowsam_lite.data.prepare.plan import plan
from knowsam_lite.data.prepare.recipe import Item, Piece, Recipe, Rule, Source, pairs
from knowsam_lite.data.prepare.size import Size

__all__ = [
    "Item",
    "Piece",
    "Prepared",
    "Recipe",
    "Request",
    "Rule",
    "Size",
    "Source",
    "pairs",
    "plan",
    "prepare",
]
