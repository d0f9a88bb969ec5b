"""The output of scoring a run: metrics.json, pictures and a self-contained report.html."""

from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)
