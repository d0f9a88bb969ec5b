"""Chapter 08, SKD: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch08.e1_temperature import SOFTEN
from knowsam_lite.course.chapters.ch08.e2_kl_divergence import KL
from knowsam_lite.course.chapters.ch08.e3_the_distillation_loss import LOSS
from knowsam_lite.course.chapters.ch08.e4_what_sam_is_asked import TARGETS
from knowsam_lite.course.chapters.ch08.e5_the_two_terms import TERMS
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (SOFTEN, KL, LOSS, TARGETS, TERMS)
QUIZ = (
    Answer("c", "dividing by T keeps the order and brings the classes closer.", "step 1, temperature"),
    Answer("a", "the gradient shrinks with 1 / T^2, and the factor undoes that.", "step 3, the loss"),
    Answer(
        "b", "teacher and students would meet halfway, whatever the truth.", "step 4, who learns from whom"
    ),
    Answer("d", "an error that is always the same looks like a rule, and is learned.", "when SAM is wrong"),
    Answer(
        "b",
        "rows of two compare classes within pairs and never between pairs.",
        "where paper, authors' code and library differ",
    ),
)
