"""The course: checks that teach, the budget, quizzes, and the builder of the notebooks.

Importing this package needs nothing but Python, so that a notebook's first cell can call `setup()` in an
environment without PyTorch.
"""

from knowsam_lite.course.checks import check
from knowsam_lite.course.quiz import quiz
from knowsam_lite.course.setup import budget, setup
from knowsam_lite.course.show import show

__all__ = ["budget", "check", "quiz", "setup", "show"]
