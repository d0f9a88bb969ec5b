"""Pretrained students: encoders from timm under decoders from segmentation_models_pytorch."""

from knowsam_lite.encoders.nets import DECODERS, PretrainedNet
from knowsam_lite.encoders.weights import ENCODERS, Encoder

__all__ = ["DECODERS", "ENCODERS", "Encoder", "PretrainedNet"]
