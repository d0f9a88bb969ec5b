"""All plots of the library, in one style."""

from knowsam_lite.figures.anatomy import adapted_block, sam_parts
from knowsam_lite.figures.exchange import exchange
from knowsam_lite.figures.forest import forest
from knowsam_lite.figures.ladder import ladder
from knowsam_lite.figures.look import COLORS, color, style
from knowsam_lite.figures.overlaps import overlaps
from knowsam_lite.figures.panels import lines, panels
from knowsam_lite.figures.pipeline import pipeline
from knowsam_lite.figures.questions import question, questions
from knowsam_lite.figures.sheet import prediction_sheet
from knowsam_lite.figures.training import curves
from knowsam_lite.figures.trends import trends

__all__ = [
    "COLORS",
    "adapted_block",
    "color",
    "curves",
    "exchange",
    "forest",
    "ladder",
    "lines",
    "overlaps",
    "panels",
    "pipeline",
    "prediction_sheet",
    "question",
    "questions",
    "sam_parts",
    "style",
    "trends",
]
