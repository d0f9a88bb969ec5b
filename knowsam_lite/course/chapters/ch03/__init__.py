"""Chapter 03, the V-Net: two functions of the chapter, properties, catalogued mistakes, the quiz's key."""

from knowsam_lite.course.chapters.ch03.e1_the_stage import STAGE
from knowsam_lite.course.chapters.ch03.e2_the_instrument import SIGNAL
from knowsam_lite.course.chapters.ch03.e3_the_start import START
from knowsam_lite.course.chapters.ch03.e4_the_v_net_s_forward_pass import FORWARD
from knowsam_lite.course.chapters.ch03.e5_shared_errors import SHARED
from knowsam_lite.course.quiz import Answer
from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)

EXERCISES = (STAGE, SIGNAL, START, FORWARD, SHARED)
QUIZ = (
    Answer("b", "BatchNorm would bring it back to size; the V-Net has none.", "step 2, the start"),
    Answer("d", "the map is kept between the strided convolution and the stage.", "step 3, the V-Net"),
    Answer("c", "convolution and ReLU keep a factor; BatchNorm divides it out.", "step 1, the stage"),
    Answer("a", "where both make the same mistake there is nothing to see.", "why, and step 4"),
    Answer(
        "d", "learning without labels has to beat the average of two on labels alone.", "step 4, the average"
    ),
)
