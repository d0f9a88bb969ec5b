"""Chapter 06, SAM and its adapter: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch06.e1_where_a_point_is import POINT
from knowsam_lite.course.chapters.ch06.e2_freezing import FREEZE
from knowsam_lite.course.chapters.ch06.e3_the_adapter import ADAPTER
from knowsam_lite.course.chapters.ch06.e4_the_block import BLOCK
from knowsam_lite.course.chapters.ch06.e5_one_key_for_all_padding import MERGED
from knowsam_lite.course.chapters.ch06.e6_all_prompts_at_once import DECODER
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (POINT, FREEZE, ADAPTER, BLOCK, MERGED, DECODER)
QUIZ = (
    Answer("a", "the image is encoded once; only prompt encoder and decoder run again.", "step 1, prompts"),
    Answer("d", "no gradient passes through no_grad; the decoder lies behind it.", "step 2, freezing"),
    Answer("c", "the skip adds its input, the normed tokens, and the factor halves it.", "step 4, the block"),
    Answer("b", "the merged key counts 192 times among 196, the padding's share.", "step 5, windows"),
    Answer("d", "the stock one repeats 4 images for all 12 prompts; ours pairs.", "step 6, the decoder"),
)
