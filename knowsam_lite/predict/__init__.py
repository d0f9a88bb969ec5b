"""Prediction with a trained method: masks for pictures and volumes, as arrays or as files."""

from knowsam_lite.predict.predictor import Predictor

__all__ = ["Predictor"]
