"""Chapter 05, uncertainty and HAM: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch05.e1_entropy import ENTROPY
from knowsam_lite.course.chapters.ch05.e2_disagreement import DISAGREEMENT
from knowsam_lite.course.chapters.ch05.e3_what_ham_looks_at import INPUTS
from knowsam_lite.course.chapters.ch05.e4_ham import HAM
from knowsam_lite.course.chapters.ch05.e5_an_ablation import ABLATION
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (ENTROPY, DISAGREEMENT, INPUTS, HAM, ABLATION)
QUIZ = (
    Answer("b", "two classes in doubt are log 2, and log 2 / log 8 is one third.", "step 1, entropy"),
    Answer("c", "both can be sure, each of its own answer.", "the four kinds of pixel"),
    Answer("a", "a threshold is flat almost everywhere, so no gradient comes back.", "step 2, disagreement"),
    Answer("d", "through certainty and logits, to both subnets.", "step 4, HAM"),
    Answer(
        "a",
        "only the V-Net gives a class more than one half, and that is the second.",
        "where paper, authors' code and library differ",
    ),
)
