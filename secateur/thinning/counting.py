"""Parameters and multiply-accumulates of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def count_params(model: nn.Module) -> int:
    """Count all parameters, biases and normalisations included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, example_NCHW: Tensor) -> int:
    """Count multiply-accumulates for one image as Distiller does (SPEC 13).

    A convolution costs its output's volume * in_channels / groups * kernel height * width, a linear layer the
    size of its weight; normalisation, addition and bias are free.
    """
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            total += output[0].numel() * (module.in_channels // module.groups) * height * width
        else:
            assert isinstance(module, nn.Linear)
            total += module.weight.numel()

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(example_NCHW[:1])
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return total
