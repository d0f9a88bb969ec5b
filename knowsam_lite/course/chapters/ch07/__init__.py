"""Chapter 07, learnable prompts: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch07.e1_mask_prompts import MASKS
from knowsam_lite.course.chapters.ch07.e2_learnable_prompts import PROMPTS
from knowsam_lite.course.chapters.ch07.e3_sam_s_answer import ANSWER
from knowsam_lite.course.chapters.ch07.e4_mended_and_broken import SCORES
from knowsam_lite.course.chapters.ch07.e5_noise import NOISE
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (MASKS, PROMPTS, ANSWER, SCORES, NOISE)
QUIZ = (
    Answer("d", "the log-odds are above 0 from one half on, and no class has that much.", "step 1"),
    Answer("b", "a zero last layer gives zero tokens, and gets a gradient itself.", "step 2"),
    Answer("a", "each image meets its own four prompts: 3 times 4 rows.", "step 3"),
    Answer("c", "the mask prompt is detached, so nothing flows back into the students.", "step 4"),
    Answer("d", "a prompt that is nearly the truth makes copying the best answer.", "step 5"),
)
