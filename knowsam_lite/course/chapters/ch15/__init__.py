"""Chapter 15, the loop: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch15.e1_how_far_apart import APART
from knowsam_lite.course.chapters.ch15.e2_k_center import CENTER
from knowsam_lite.course.chapters.ch15.e3_the_next_click import CLICK
from knowsam_lite.course.chapters.ch15.e4_a_resize_as_a_matrix import RESIZE
from knowsam_lite.course.chapters.ch15.e5_when_to_refuse import REFUSE
from knowsam_lite.course.quiz import Answer

EXERCISES = (APART, CENTER, CLICK, RESIZE, REFUSE)
QUIZ = (
    Answer(
        "c",
        "the most uncertain images are often alike, and of ten copies one teaches as much as ten.",
        "step 2, different ones",
    ),
    Answer("b", "random is the control; without it any second round looks like a success.", "does it help?"),
    Answer(
        "d",
        "it is the network's own opinion, and training on it confirms what is wrong with it.",
        "step 3, the way back",
    ),
    Answer(
        "a",
        "a resize that is written again is nearly the same, and nobody sees the rest.",
        "step 4, the idea",
    ),
    Answer(
        "c",
        "the limit was chosen where the errors are known; on other images doubt and risk may part.",
        "step 5, another scanner",
    ),
)
