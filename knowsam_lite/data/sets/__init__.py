"""The published data sets: for each name its variants, the first of which is the default."""

from knowsam_lite.data.prepare.recipe import Recipe
from knowsam_lite.data.sets import acdc, bcss, busi, isic2018, polyp, thyroid
from knowsam_lite.errors import UserError

SETS: dict[str, dict[str, Recipe]] = {
    "polyp": polyp.VARIANTS,
    "isic2018": isic2018.VARIANTS,
    "thyroid": thyroid.VARIANTS,
    "busi": busi.VARIANTS,
    "acdc": acdc.VARIANTS,
    "bcss": bcss.VARIANTS,
}


def find_recipe(name: str, variant: str = "") -> Recipe:
    """The recipe of a set and its variant (empty: the first); UserError lists the known ones."""
    if name not in SETS:
        raise UserError(
            f"found data set {name!r}, expected own or one of {', '.join(SETS)}: correct the name"
        )
    variants = SETS[name]
    if variant and variant not in variants:
        raise UserError(
            f"found variant {variant!r} of {name}, expected one of {', '.join(variants)}: correct --variant"
        )
    return variants[variant or next(iter(variants))]
