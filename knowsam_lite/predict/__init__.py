"""A trained method leaves the notebook: masks for pictures and volumes, as arrays or as files."""

from knowsam_lite.predict.predictor import Predictor

__all__ = ["Predictor"]
