"""Which module made the first NaN or infinity: the step once more, with every output looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def first_bad_module(model: nn.Module, loss: Callable[[], Tensor]) -> str:
    """Where a step went wrong, in words.

    Args:
        model: the model.
        loss: computes the loss of that very step again (same data, same seed); or, where no
            gradient is recorded, the output.

    Returns:
        "module 'layers.3.cell' (output)", or "(gradient of the output)" where the values are
        sound and only the way back is not, or the parameter if no module can be blamed.
    """
    found: list[str] = []
    backward: list[str] = []
    handles = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output):
                if not found and not torch.isfinite(tensor).all():
                    found.append(f"module {name!r} ({type(module).__name__}, its output)")
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad: look_back(name, module, grad))

        return hook

    def look_back(name: str, module: nn.Module, grad: Tensor) -> None:
        if not backward and not torch.isfinite(grad).all():
            backward.append(
                f"module {name!r} ({type(module).__name__}, the gradient of its output)"
            )

    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"parameter {name!r}"
    # The root is left out: it holds every fault and names none.
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(watch(name)))
    try:
        # A compiled frame would run past the hooks.
        with torch.compiler.set_stance("force_eager"):
            value = loss()
        if not found and value.requires_grad:
            model.zero_grad(set_to_none=True)
            value.backward()
    finally:
        for handle in handles:
            handle.remove()
    if found or backward:
        return (found or backward)[0]
    if not torch.isfinite(value).all():
        return "the loss itself" if value.ndim == 0 else "the logits themselves"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"the gradient of parameter {name!r}"
    return "no single module (it did not happen again)"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
