"""Chapter 02, the U-Net: two functions of the chapter, properties, catalogued mistakes, the quiz's key."""

from knowsam_lite.course.chapters.ch02.e1_receptive_field import FIELD
from knowsam_lite.course.chapters.ch02.e2_the_block import BLOCK
from knowsam_lite.course.chapters.ch02.e3_the_way_down import DESCEND
from knowsam_lite.course.chapters.ch02.e4_the_way_up import CLIMB
from knowsam_lite.course.chapters.ch02.e5_the_soft_dice_loss import LOSS
from knowsam_lite.course.chapters.ch02.e6_any_size import SIZE
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (FIELD, BLOCK, DESCEND, CLIMB, LOSS, SIZE)
QUIZ = (
    Answer("c", "both bring the surroundings; the skips bring back where exactly.", "why, and step 4"),
    Answer(
        "a", "it takes the batch's mean and variance, which every pixel has a part in.", "step 6, BatchNorm"
    ),
    Answer(
        "d",
        "twice the channels on both sides of each kernel, but a quarter of the pixels.",
        "step 3, the way down",
    ),
    Answer("b", "nearly all pixels are background, and cross-entropy is their mean.", "step 5, the loss"),
    Answer("a", "25 is odd, so 12 comes back as 24, and the skip of 25 has no partner.", "step 7, sizes"),
)
