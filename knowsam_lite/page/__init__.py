"""report.html: one page that holds all of a run, without network or script."""

from knowsam_lite.page.gather import Gatherer
from knowsam_lite.page.render import Scored, render

__all__ = ["Gatherer", "Scored", "render"]
