"""Parameters and multiply-accumulates of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from secateur.thinning.spaces import Layer


def count_params(model: nn.Module) -> int:
    """Count all parameters, biases and normalisations included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, example_NCHW: Tensor) -> int:
    """Count multiply-accumulates for one image as Distiller does (SPEC 13).

    A convolution costs its output's volume * in_channels / groups * kernel height * width, a linear layer the
    size of its weight at each position it is applied to; normalisation, addition and bias are free.
    """
    _, positions = observe(model, example_NCHW[:1])
    return sum(count * _layer(model, name).weight.numel() for name, count in positions.items())


def observe(
    model: nn.Module, example_NCHW: Tensor, forward: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Mapping[str, int]]:
    """Run a network in eval mode; the mode of each of its modules is kept.

    Args:
        model: The network.
        example_NCHW: Its input.
        forward: What to call instead of the model.

    Returns:
        Its output, and to how many positions (pixels, of all calls) of an image each layer's weight was applied.
    """
    positions: dict[str, int] = {}
    handles = []

    def watch(name: str, layer: Layer) -> None:
        def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            positions[name] = positions.get(name, 0) + output[0].numel() // layer.weight.shape[0]

        handles.append(layer.register_forward_hook(count))

    for name, module in model.named_modules():
        if isinstance(module, Layer):
            watch(name, module)
    in_training = [module for module in model.modules() if module.training]
    try:
        for module in in_training:
            module.training = False
        with torch.no_grad():
            output = (forward or model)(example_NCHW)
    finally:
        for module in in_training:
            module.training = True
        for handle in handles:
            handle.remove()
    return output, positions


def random_like(model: nn.Module, example_NCHW: Tensor) -> Tensor:
    """Return normal noise of the example's shape, always the same, where and in the precision the model wants it."""
    noise_NCHW = torch.randn(example_NCHW.shape, generator=torch.Generator().manual_seed(0))
    return noise_NCHW.to(next(model.parameters()))


def _layer(model: nn.Module, name: str) -> Layer:
    layer = model.get_submodule(name)
    assert isinstance(layer, Layer)
    return layer
