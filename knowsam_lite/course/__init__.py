"""The course: checks that teach, the budget, quizzes, and the builder of the notebooks.

Importing this package needs nothing but Python, so that a notebook's first cell can call `setup()` in an
environment where PyTorch is still to be installed.
"""

from knowsam_lite.course.checks import check
from knowsam_lite.course.quiz import quiz
from knowsam_lite.course.show import show
from knowsam_lite.course.start import budget, setup

__all__ = ["budget", "check", "quiz", "setup", "show"]
