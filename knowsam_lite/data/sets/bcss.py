"""BCSS: tissue in H&E-stained breast cancer, 151 regions at 0.25 microns a pixel, cut into tiles.

Codes: the publication's label list (github.com/PathologyDataScience/BCSS, meta/gtruth_codes.tsv). Grouping
and test institutes: the baseline of its challenge (bcsegmentation.grand-challenge.org/Baseline): tumor with
angioinvasion and DCIS; all inflammatory cells; necrosis; the rest is "other". Code 0 is outside the annotated
region and not tissue; here it is the background, which scores leave out.
"""

from functools import partial

from knowsam_lite.data.prepare.read import tiles
from knowsam_lite.data.prepare.recipe import Recipe, Rule, Source, pairs

GROUPS = {
    "outside": (0,),
    "tumor": (1, 19, 20),  # tumor, angioinvasion, dcis
    "stroma": (2,),
    "inflammatory": (3, 10, 11),  # lymphocytic infiltrate, plasma cells, other immune infiltrate
    "necrosis": (4,),
}
CLASSES = (*GROUPS, "other")
LEAST = 0.5  # least share of a tile inside the region
FOLDER = "https://drive.google.com/drive/folders/1zqbdkQF8i5cEmZOGmbdQm-EP8dRYtvss"
TEST_INSTITUTES = "OL|LL|E2|EW|GM|S3"
NAME = r"(?P<patient>TCGA-{institute}-[^-]+)-(?P<key>[^/]+)\.png"


def _rule(institute: str, split: str) -> Rule:
    name = NAME.format(institute=institute)
    return Rule(
        rf"(?:.*/)?rgbs_colorNormalized/{name}",
        rf"(?:.*/)?masks/{name}",
        id="{patient}-{key}",
        group="{patient}",
        split=split,
    )


def _recipe(side: int) -> Recipe:
    rules = (_rule(f"(?!(?:{TEST_INSTITUTES})-)[A-Z0-9]+", ""), _rule(f"(?:{TEST_INSTITUTES})", "test"))
    return Recipe(
        name=f"bcss/{side}",
        title=f"BCSS, tiles of {side} px",
        classes=CLASSES,
        find=partial(pairs, rules=rules),
        read=partial(tiles, side=side, groups=tuple(GROUPS.values()), least=LEAST),
        licence="See the publisher's page, github.com/PathologyDataScience/BCSS.",
        citation=(
            "Amgad et al., Structured crowdsourcing enables convolutional segmentation of histology images, "
            "Bioinformatics 2019, doi:10.1093/bioinformatics/btz083."
        ),
        sources=(
            Source(
                "BCSS.zip",
                by_hand=(
                    f"open {FOLDER} in a browser and download the folders rgbs_colorNormalized and masks "
                    "(it saves them as zip files)"
                ),
            ),
        ),
        val=0.1,
        expected={"all": 151},
        mask_values=tuple(range(len(CLASSES))),
        notes=(
            f"tiles with less than {LEAST:.0%} of their pixels inside the annotated region are left out",
            "class outside is not tissue; the publisher gives it no weight",
        ),
    )


VARIANTS = {"256": _recipe(256), "512": _recipe(512)}
