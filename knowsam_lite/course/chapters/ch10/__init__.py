"""Chapter 10, the complete run: properties, catalogued mistakes, and the quiz's key."""

from knowsam_lite.course.chapters.ch10.e1_all_losses_together import JOINT
from knowsam_lite.course.chapters.ch10.e2_one_step import STEP
from knowsam_lite.course.chapters.ch10.e3_the_streams import STREAM
from knowsam_lite.course.chapters.ch10.e4_an_exact_save import SAVE
from knowsam_lite.course.chapters.ch10.e5_which_checkpoint import CHOICE
from knowsam_lite.course.chapters.ch10.e6_the_paired_bootstrap import INTERVAL
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (JOINT, STEP, STREAM, SAVE, CHOICE, INTERVAL)
QUIZ = (
    Answer(
        "c", "a gradient of zeros still lets momentum and weight decay move the weight.", "step 2, one step"
    ),
    Answer("a", "every ramp and start is a fraction t / t_max of the run.", "step 3, the schedule"),
    Answer("d", "the batch is made from seed and step alone.", "step 4, the batches"),
    Answer(
        "b", "choosing among checkpoints by a score makes that score too good.", "step 6, which checkpoint"
    ),
    Answer("c", "0 lies inside: these images and this seed do not decide.", "step 7, the verdict"),
)
