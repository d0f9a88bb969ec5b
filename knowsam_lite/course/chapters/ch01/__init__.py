"""Chapter 01, data and metrics: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch01.e1_a_split_by_groups import SPLIT
from knowsam_lite.course.chapters.ch01.e2_image_and_mask_move_alike import WARP
from knowsam_lite.course.chapters.ch01.e3_two_streams import STEPS
from knowsam_lite.course.chapters.ch01.e4_iou_in_two_ways import IOU
from knowsam_lite.course.chapters.ch01.e5_hd95 import HD95
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (SPLIT, WARP, STEPS, IOU, HD95)
QUIZ = (
    Answer("b", "frames of one video are neighbours; the video is the group.", "step 1, groups and leaks"),
    Answer("c", "class 2 is no mean of 1 and 3, and 1 is none of 0 and 2.", "step 2, augmentation"),
    Answer("a", "1 where nothing was there, 0 where an object was missed.", "step 4, empty masks"),
    Answer(
        "d",
        "the largest distance hangs on one pixel; the 95th percentile leaves out a twentieth.",
        "step 5, how far off, and the explorer",
    ),
    Answer("c", "the slices of one patient succeed or fail together.", "put together: how sure is the mean"),
)
