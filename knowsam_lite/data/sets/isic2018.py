"""ISIC 2018, task 1: outlines of skin lesions in dermoscopy."""

from functools import partial

from knowsam_lite.data.prepare.read import binary_pair
from knowsam_lite.data.prepare.recipe import Recipe, Rule, Source, pairs

ADDRESS = "https://isic-challenge-data.s3.amazonaws.com/2018"
LICENCE = "CC BY-NC 4.0, as listed by datasetninja.com/isic-challenge-2018: no commercial use."
CITATION = """Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv:1902.03368.
Tschandl et al., The HAM10000 dataset, Scientific Data 2018."""
CHECKSUMS = {
    "Training_Input": "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
    "Training_GroundTruth": "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
    "Validation_Input": "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
    "Validation_GroundTruth": "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
    "Test_Input": "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
    "Test_GroundTruth": "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
}


def _sources(part: str) -> tuple[Source, Source]:
    files = {f"{part}_Input": "ISIC2018_Task1-2", f"{part}_GroundTruth": "ISIC2018_Task1"}
    images, masks = (
        Source(f"{start}_{name}.zip", url=f"{ADDRESS}/{start}_{name}.zip", sha256=CHECKSUMS[name])
        for name, start in files.items()
    )
    return images, masks


def _rule(part: str, split: str) -> Rule:
    return Rule(
        rf"(?:.*/)?ISIC2018_Task1-2_{part}_Input/(?P<key>ISIC_\d+)\.jpg",
        rf"(?:.*/)?ISIC2018_Task1_{part}_GroundTruth/(?P<key>ISIC_\d+)_segmentation\.png",
        split=split,
    )


VARIANTS = {
    "official": Recipe(
        name="isic2018/official",
        title="ISIC 2018 task 1",
        classes=("background", "lesion"),
        find=partial(
            pairs,
            rules=(_rule("Training", "train"), _rule("Validation", "val"), _rule("Test", "test")),
        ),
        read=binary_pair,
        licence=LICENCE,
        citation=CITATION,
        sources=(*_sources("Training"), *_sources("Validation"), *_sources("Test")),
        expected={"train": 2594},
        labeled={"10%": "10%", "30%": "30%"},
    ),
    "paper": Recipe(
        name="isic2018/paper",
        title="ISIC 2018 task 1, training archive only",
        classes=("background", "lesion"),
        find=partial(pairs, rules=(_rule("Training", ""),)),
        read=binary_pair,
        licence=LICENCE,
        citation=CITATION,
        sources=_sources("Training"),
        val=0.1,
        test=0.1,
        expected={"all": 2594},
        labeled={"10%": "207", "30%": "622"},
        notes=("the split of the 2594 training images is drawn by the seed, four fifths to train on",),
    ),
}
