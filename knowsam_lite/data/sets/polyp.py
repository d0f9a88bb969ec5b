"""Colonoscopy polyps: Kvasir-SEG alone, and the training/test benchmark with its five test sets."""

from functools import partial

from knowsam_lite.data.prepare.read import binary_pair
from knowsam_lite.data.prepare.recipe import Recipe, Rule, Source, pairs

CLASSES = ("background", "polyp")
KVASIR_TERMS = (
    "Kvasir-SEG: its repository says that academic and research use needs no prior permission and that "
    "commercial use does."
)
KVASIR = "Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020, arXiv:1911.07069."
BENCHMARK_TERMS = (
    f"{KVASIR_TERMS}\nCVC-ClinicDB, CVC-300, CVC-ColonDB, ETIS-LaribPolypDB: no terms come with the "
    "archives; ask the publishers of each set before any use beyond research."
)
BENCHMARK = f"""{KVASIR}
Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy (CVC-ClinicDB), CMIG 2015.
Fan et al., PraNet: Parallel Reverse Attention Network for Polyp Segmentation (the benchmark), MICCAI 2020.
The other test sets (CVC-300, CVC-ColonDB, ETIS-LaribPolypDB) have papers of their own; cite those you use."""
TRAIN = Source("TrainDataset.zip", drive="1YiGHLw4iTvKdvbT6MgwO9zcCv8zJ_Bnb", size="399.5 MB")
TEST = Source("TestDataset.zip", drive="1Y2z7FD5p5y31vkZwQQomXFRB0HutHyao", size="327.2 MB")
FILE = r"(?P<key>[^/]+)\.(?:png|jpe?g|tiff?)"
TEST_SETS = {"CVC-300": 60, "CVC-ClinicDB": 62, "CVC-ColonDB": 380, "ETIS-LaribPolypDB": 196, "Kvasir": 100}


def _test_rule(name: str) -> Rule:
    folder = rf"(?:.*/)?{name}"
    return Rule(rf"{folder}/images?/{FILE}", rf"{folder}/masks?/{FILE}", id=f"{name}_{{key}}", split="test")


def _test_only(name: str, count: int) -> Recipe:
    return Recipe(
        name=f"polyp/{name.lower()}",
        title=f"{name} (test set of the polyp benchmark)",
        classes=CLASSES,
        find=partial(pairs, rules=(_test_rule(name),)),
        read=binary_pair,
        licence=BENCHMARK_TERMS,
        citation=BENCHMARK,
        sources=(TEST,),
        expected={"test": count},
        notes=("a test set only: score a run on it with knowsam-lite evaluate RUN --data OUT",),
    )


VARIANTS = {
    "kvasir": Recipe(
        name="polyp/kvasir",
        title="Kvasir-SEG",
        classes=CLASSES,
        find=partial(
            pairs, rules=(Rule(rf"(?:.*/)?Kvasir-SEG/images/{FILE}", rf"(?:.*/)?Kvasir-SEG/masks/{FILE}"),)
        ),
        read=binary_pair,
        licence=KVASIR_TERMS,
        citation=KVASIR,
        sources=(
            Source(
                "kvasir-seg.zip",
                url="https://datasets.simula.no/downloads/kvasir-seg.zip",
                sha256="03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7",
            ),
        ),
        val=0.1,
        test=0.1,
        expected={"all": 1000},
        labeled={"1%": "1%", "10%": "10%", "30%": "30%"},
        notes=("no official split and no patient ids: the split is drawn image by image",),
    ),
    "benchmark": Recipe(
        name="polyp/benchmark",
        title="Polyp benchmark (Kvasir-SEG and CVC-ClinicDB; five test sets)",
        classes=CLASSES,
        find=partial(
            pairs,
            rules=(
                Rule(
                    rf"(?:TrainDataset/)?images?/{FILE}",
                    rf"(?:TrainDataset/)?masks?/{FILE}",
                    id="train_{key}",
                ),
                *(_test_rule(name) for name in TEST_SETS),
            ),
        ),
        read=binary_pair,
        licence=BENCHMARK_TERMS,
        citation=BENCHMARK,
        sources=(TRAIN, TEST),
        val=0.0,  # the published runs train on all 1450
        expected={"train and val": 1450, "test": sum(TEST_SETS.values())},
        labeled={"1%": "15", "10%": "145", "30%": "435"},
        notes=(
            "the official split: frames of CVC-ClinicDB are in training and in test",
            "the five test sets together are the test split; the variants named after them hold one each",
        ),
    ),
    **{name.lower(): _test_only(name, count) for name, count in TEST_SETS.items() if name != "Kvasir"},
    "kvasir-test": _test_only("Kvasir", TEST_SETS["Kvasir"]),
}
