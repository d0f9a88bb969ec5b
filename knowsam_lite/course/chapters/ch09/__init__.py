"""Chapter 09, UGDA: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch09.e1_uncertainty_of_a_region import BOARD
from knowsam_lite.course.chapters.ch09.e2_which_regions import CHOOSE
from knowsam_lite.course.chapters.ch09.e3_pseudo_labels import PSEUDO
from knowsam_lite.course.chapters.ch09.e4_two_way_copy_and_paste import MIX
from knowsam_lite.course.chapters.ch09.e5_what_the_students_learn import TERMS
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (BOARD, CHOOSE, PSEUDO, MIX, TERMS)
QUIZ = (
    Answer(
        "b",
        "an image is filled where it is unsure itself, whatever its partner thinks there.",
        "step 4, copy and paste",
    ),
    Answer(
        "c", "a pixel of -1 has no gradient; class 0 would teach background.", "step 3, the target of a pixel"
    ),
    Answer("d", "true labels arrive where the pseudo-labels are worst.", "uncertain or certain"),
    Answer(
        "a",
        "the terms on SAM's labels have no ramp; only the late start protects the students.",
        "when to begin",
    ),
    Answer(
        "c",
        "the paper's figure says uncertain, the published code takes the certain ones.",
        "where paper, authors' code and library differ",
    ),
)
