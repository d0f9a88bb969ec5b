"""SAM as a teacher: encoder, prompts and decoder of the Segment Anything Model, with adapters."""

from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.backbones import BACKBONES, Backbone, TinyVitBackbone, VitBackbone, list_backbones
from knowsam_lite.sam.prompts import LearnablePrompts
from knowsam_lite.sam.teacher import PromptedSam, SamTeacher
from knowsam_lite.sam.weights import load_pretrained

__all__ = [
    "BACKBONES",
    "Adapter",
    "Backbone",
    "LearnablePrompts",
    "PromptedSam",
    "SamTeacher",
    "TinyVitBackbone",
    "VitBackbone",
    "list_backbones",
    "load_pretrained",
]
