"""Chapter 13, a real start: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch13.e1_normalization import NORMALIZED
from knowsam_lite.course.chapters.ch13.e2_frozen_whole import FROZEN
from knowsam_lite.course.chapters.ch13.e3_two_rates import TWO_RATES
from knowsam_lite.course.chapters.ch13.e4_the_warm_up import WARM_UP
from knowsam_lite.course.chapters.ch13.e5_a_decoder import DECODER
from knowsam_lite.course.quiz import Answer

EXERCISES = (NORMALIZED, FROZEN, TWO_RATES, WARM_UP, DECODER)
QUIZ = (
    Answer(
        "b",
        "the encoder's first layer expects numbers around 0; which ones is a property of the weights.",
        "step 2, normalization",
    ),
    Answer(
        "c",
        "running mean and variance are buffers: train() moves them, gradient or not.",
        "step 3, the smallest example",
    ),
    Answer("a", "what is frozen needs neither gradient nor the two averages of Adam.", "step 3, the look"),
    Answer(
        "d",
        "Adam divides by the size of its first gradients: a first step is as large as any.",
        "step 4, warm-up",
    ),
    Answer(
        "b",
        "one seed, and a difference that two seeds of one setting show as well.",
        "recorded on real polyps, what they say",
    ),
)
