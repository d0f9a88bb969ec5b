"""Replaces a module's forward pass by a faster one during training."""

from collections.abc import Callable
from functools import wraps
from types import MethodType

import torch
from torch import Tensor, nn

TRAINING = "only_in_training"  # marks a function installed by `replace_forward`


def hooked(module: nn.Module) -> bool:
    """Whether the module has hooks on its input, output or gradients."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks)


def has_avx512() -> bool:
    """Whether PyTorch uses AVX-512 here, which decides which of its kernels is fastest."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def in_float32_on_cpu(x: Tensor) -> bool:
    """True for float32 on a CPU outside autocast."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def replace_forward(module: nn.Module, function: Callable[..., Tensor]) -> None:
    """Make `function(module, ...)` the module's forward pass, unless that is replaced already.

    While modules inside have hooks, which `function` might bypass, the class's own forward pass is used.
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
    """Whether `replace_forward` has replaced its forward pass."""
    return hasattr(vars(module).get("forward"), TRAINING)


def restore_forward(module: nn.Module) -> None:
    """Undo `replace_forward` in every part."""
    for part in module.modules():
        if replaced(part):
            del part.forward
