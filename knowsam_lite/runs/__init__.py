"""A run folder: what a training writes into it, and how to open it again."""

from knowsam_lite.deprecated import old_names

__getattr__ = old_names(__name__, parts=True)
