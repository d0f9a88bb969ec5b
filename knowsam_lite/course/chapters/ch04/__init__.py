"""Chapter 04, learning without labels: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch04.e1_consistency import CONSISTENCY
from knowsam_lite.course.chapters.ch04.e2_both_directions import TERMS
from knowsam_lite.course.chapters.ch04.e3_the_ramp import RAMP
from knowsam_lite.course.chapters.ch04.e4_the_moving_average import FOLLOW
from knowsam_lite.course.chapters.ch04.e5_mean_teacher_s_terms import STEP
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (CONSISTENCY, TERMS, RAMP, FOLLOW, STEP)
QUIZ = (
    Answer(
        "c",
        "the pull is the other's probability minus its own, 0.70 - 0.95, and asks for no truth.",
        "step 1, consistency",
    ),
    Answer(
        "b",
        "without the stop both move, and agreement is cheapest where both are sure of something.",
        "step 1, consistency",
    ),
    Answer(
        "d", "the winner is the background, and low entropy makes the winner larger.", "step 2, low entropy"
    ),
    Answer(
        "a",
        "0.99 to the power of 30 is 0.74: so much of the random start is left.",
        "step 6, Mean Teacher",
    ),
    Answer(
        "c",
        "prediction and target are exchanged, and what is now the target carries no gradient.",
        "where paper, authors' code and library differ",
    ),
)
