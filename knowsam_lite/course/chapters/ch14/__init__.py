"""Chapter 14, teachers that wait their turn: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch14.e1_confidence import CONFIDENT
from knowsam_lite.course.chapters.ch14.e2_average_with_buffers import AVERAGE
from knowsam_lite.course.chapters.ch14.e3_the_handover import HANDOVER
from knowsam_lite.course.chapters.ch14.e4_the_rise import FIRST
from knowsam_lite.course.chapters.ch14.e5_labels_into_the_unknown import PASTED
from knowsam_lite.course.quiz import Answer

EXERCISES = (CONFIDENT, AVERAGE, HANDOVER, FIRST, PASTED)
QUIZ = (
    Answer(
        "c",
        "the answer is about a place; if the strong view moved as well, it would be about another one.",
        "step 1, one geometry",
    ),
    Answer(
        "a",
        "sums over fewer pixels are divided by all: what is unsure makes the whole term quieter.",
        "step 2, what a threshold costs",
    ),
    Answer("b", "averaged weights need statistics of their own kind.", "step 3, the look"),
    Answer("d", "r = 0.9 x 0 = 0, and the target is SAM's alone.", "step 4, the handover"),
    Answer(
        "b",
        "one seed and one split: the images' scatter is known, the seeds' is not.",
        "what the recorded runs say",
    ),
)
