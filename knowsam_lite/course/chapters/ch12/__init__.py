"""Chapter 12, beyond: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch12.e1_a_method_of_one_s_own import MIRROR
from knowsam_lite.course.chapters.ch12.e2_skd_for_every_method import PLUG
from knowsam_lite.course.chapters.ch12.e3_bcp_s_copy_and_paste import PASTE
from knowsam_lite.course.chapters.ch12.e4_the_largest_component import KEEP
from knowsam_lite.course.chapters.ch12.e5_volumes import VOLUMES
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (MIRROR, PLUG, PASTE, KEEP, VOLUMES)
QUIZ = (
    Answer(
        "d",
        "the average that labels them moves in after_step alone, and Method's own does nothing, silently.",
        "step 2, the trap in the smallest example",
    ),
    Answer("b", "the distillation teaches what predicts, and nothing else.", "who learns from whom"),
    Answer("a", "two losses of different weight need two targets.", "step 3, a rival understood"),
    Answer(
        "c", "of many objects only one survives the filter; there is a switch for it.", "step 3, cleaning up"
    ),
    Answer(
        "d",
        "a patient is one case; slices without the organ would be all or nothing.",
        "step 5, the smallest example",
    ),
)
