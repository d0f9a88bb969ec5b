"""Chapter 00, the tour: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch00.e1_dice import DICE
from knowsam_lite.course.chapters.ch00.e2_whom_to_label import CHOICE
from knowsam_lite.course.chapters.ch00.e3_a_box_from_a_mask import BOX
from knowsam_lite.course.chapters.ch00.e4_who_learns import LEARNERS
from knowsam_lite.course.chapters.ch00.e5_the_finished_method_in_use import SEGMENT
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (DICE, CHOICE, BOX, LEARNERS, SEGMENT)
QUIZ = (
    Answer("a", "slices of one patient are alike, so some would stand on both sides.", "whom to label"),
    Answer("d", "ring and filled ring have the same box, and SAM is told no name.", "what SAM does not know"),
    Answer("b", "z_f is detached on its way into SAM, so SAM's loss stops there.", "who learns from whom"),
    Answer("c", "the students and HAM; SAM has taught and stays behind.", "the finished method in use"),
    Answer(
        "a",
        "with labels alone and the same two networks, only the method itself differs.",
        "the result first",
    ),
)
