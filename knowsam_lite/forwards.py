"""Another way to compute what a module computes, for as long as it trains."""

from collections.abc import Callable
from functools import wraps
from types import MethodType

import torch
from torch import Tensor, nn

TRAINING = "only_in_training"  # the mark of a function that `replace_forward` has put somewhere


def hooked(module: nn.Module) -> bool:
    """Whether something watches or changes what goes in or comes out of the module, or the gradients."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks)


def in_float32_on_cpu(x: Tensor) -> bool:
    """Whether x is computed with there and so, not in bf16: where the kernels chosen here are at home."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def replace_forward(module: nn.Module, function: Callable[..., Tensor]) -> None:
    """Let `function(module, ...)` be its forward pass, unless it has another already.

    While there are hooks on modules inside, which `function` might pass by, it computes as its class says.
    """
    if "forward" in vars(module):
        return

    @wraps(function)
    def forward(self: nn.Module, *inputs: Tensor) -> Tensor:
        watched = any(hooked(part) for part in self.modules() if part is not self)
        return (type(self).forward if watched else function)(self, *inputs)

    setattr(forward, TRAINING, True)
    module.forward = MethodType(forward, module)


def replaced(module: nn.Module) -> bool:
    """Whether `replace_forward` is at work here."""
    return hasattr(vars(module).get("forward"), TRAINING)


def restore_forward(module: nn.Module) -> None:
    """Let every part compute as its class says again."""
    for part in module.modules():
        if replaced(part):
            del part.forward
