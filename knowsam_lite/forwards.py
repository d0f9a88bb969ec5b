"""Another way to compute what a module computes, for as long as it trains."""

from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn

TRAINING = "only_in_training"  # the mark of a function that `replace_forward` has put somewhere


def hooked(module: nn.Module) -> bool:
    """Whether something watches or changes what goes into the module or comes out of it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def in_float32_on_cpu(x: Tensor) -> bool:
    """Whether x is computed with there and so, not in bf16: where the kernels chosen here are at home."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def replace_forward(module: nn.Module, function: Callable[..., Tensor]) -> None:
    """Let `function(module, ...)` be its forward pass, unless it has another already, or hooks inside."""
    if "forward" in vars(module) or any(hooked(part) for part in module.modules()):
        return
    setattr(function, TRAINING, True)
    module.forward = MethodType(function, module)


def replaced(module: nn.Module) -> bool:
    """Whether `replace_forward` is at work here."""
    return hasattr(vars(module).get("forward"), TRAINING)


def restore_forward(module: nn.Module) -> None:
    """Let every part compute as its class says again."""
    for part in module.modules():
        if replaced(part):
            del part.forward
