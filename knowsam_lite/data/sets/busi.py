"""BUSI: breast ultrasound with benign and malignant lesions, and normal images."""

from functools import partial

from knowsam_lite.data.prepare.read import binary_pair
from knowsam_lite.data.prepare.recipe import Recipe, Rule, Source, pairs


def _recipe(name: str, title: str, kinds: str, count: int) -> Recipe:
    start = rf"(?:.*/)?(?P<kind>{kinds})/(?:{kinds}) \((?P<key>\d+)\)"
    # A second lesion of one image has a second mask, NAME_mask_1.png: all are merged.
    rule = Rule(rf"{start}\.png", rf"{start}_mask(?:_\d+)?\.png", id="{kind}_{key}")
    return Recipe(
        name=f"busi/{name}",
        title=title,
        classes=("background", "lesion"),
        find=partial(pairs, rules=(rule,)),
        read=binary_pair,
        licence=(
            "None stated with the data; mirrors list it as unclear. The article is open access. Treat as "
            "research use and cite the article."
        ),
        citation="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28:104863, 2020.",
        sources=(
            Source(
                "Dataset_BUSI.zip",
                url="https://scholar.cu.edu.eg/Dataset_BUSI.zip",
                sha256="b2ce09f6063a31a73f628b6a6ee1245187cbaec225e93e563735691d68654de7",
            ),
        ),
        val=0.1,
        test=0.2,
        expected={"all": count},
        labeled={"10%": "10%", "30%": "30%"},
        notes=(
            "no official split, no patient ids, many near-duplicate images: random splits are too optimistic",
        ),
    )


VARIANTS = {
    "lesions": _recipe("lesions", "BUSI, benign and malignant", "benign|malignant", 647),
    "all": _recipe("all", "BUSI with normal images", "benign|malignant|normal", 780),
}
