"""What is used of `segment_anything`: the modules of its networks.

`import segment_anything` also loads, for resizing and for mask generation, torchvision, and that PyTorch's
compiler: a second, and 0.17 GB where nothing trains (PyTorch's optimizers load the compiler, too). Neither is
used here. So the package runs its own `__init__` only when something of it itself is asked for,
`sam_model_registry`, say; its modules do without.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any


def run_when_asked(name: str) -> None:
    """Let the package `name` be imported as far as its modules need it: its `__init__` runs on first use."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:  # it has run already, or `import` has to say what is wrong
        return
    loader, package = spec.loader, module_from_spec(spec)

    def load(attribute: str) -> Any:
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load
    sys.modules[name] = package


run_when_asked("segment_anything")

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer  # noqa: E402
from segment_anything.modeling.common import LayerNorm2d, MLPBlock  # noqa: E402
from segment_anything.modeling.image_encoder import (  # noqa: E402
    Attention,
    Block,
    ImageEncoderViT,
    window_partition,
    window_unpartition,
)
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom  # noqa: E402
from segment_anything.modeling.transformer import TwoWayAttentionBlock  # noqa: E402

__all__ = [
    "Attention",
    "Block",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MLPBlock",
    "MaskDecoder",
    "PositionEmbeddingRandom",
    "PromptEncoder",
    "TwoWayAttentionBlock",
    "TwoWayTransformer",
    "window_partition",
    "window_unpartition",
]
