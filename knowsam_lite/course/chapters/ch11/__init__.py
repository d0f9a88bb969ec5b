"""Chapter 11, reading results: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch11.e1_an_ablation_table import RUNGS
from knowsam_lite.course.chapters.ch11.e2_seeds_and_images_drawn import DRAWN
from knowsam_lite.course.chapters.ch11.e3_kinds_of_failure import KIND
from knowsam_lite.course.chapters.ch11.e4_reliability import RELIABLE
from knowsam_lite.course.chapters.ch11.e5_risk_and_coverage import CURVE
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (RUNGS, DRAWN, KIND, RELIABLE, CURVE)
QUIZ = (
    Answer(
        "d",
        "the interval shrinks around the luck of two trainings, which are as far apart as before.",
        "step 2, seeds and images",
    ),
    Answer(
        "c",
        "the largest of many noisy gains is too large; another training takes it back.",
        "step 3, many comparisons",
    ),
    Answer("b", "an interval that holds 0 leaves both signs open.", "step 2, seeds and images"),
    Answer(
        "a", "dividing all logits by one number changes confidence, but no winner.", "step 5, calibration"
    ),
    Answer("a", "0 for an empty mask rewards finding nothing.", "where code and library differ"),
)
