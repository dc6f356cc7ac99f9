"""What can be seen of a network only while images pass through it: what follows a convolution, and activations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

from secateur.methods import Activations


def following_norms(model: nn.Module, example_NCHW: Tensor) -> dict[str, str]:
    """Return which batch normalisation directly follows each convolution, by their names; see who is fed with what.

    Args:
        model: Left as it is.
        example_NCHW: An input it accepts.
    """
    producers: list[tuple[str, Tensor]] = []
    following: dict[str, str] = {}

    def note_output(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: producers.append((name, output))

    def note_input(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            following.update({convolution: name for convolution, output in producers if output is inputs[0]})

        return note

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(note_output(name)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(note_input(name)))
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(example_NCHW)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return following


def folded(model: nn.Module, norms: dict[str, str]) -> dict[str, Tensor]:
    """Return convolutions' weights in the scale of the normalisation that follows: `gamma / sqrt(var + eps)`."""
    weights = {}
    for convolution, name in norms.items():
        norm, weight_OIHW = model.get_submodule(name), model.get_parameter(f"{convolution}.weight").detach()
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.running_var is not None:
            scale_O = (norm.running_var + norm.eps).rsqrt()
            if norm.weight is not None:
                scale_O = scale_O * norm.weight.detach()
            weights[f"{convolution}.weight"] = weight_OIHW * scale_O.view(-1, 1, 1, 1)
    return weights


class ActivationObserver:
    """Sums up what leaves the ReLU behind convolutions.

    As in Distiller, the ReLU behind `block.conv1` is `block.relu1`. Where there is no such module, it is taken to
    follow the convolution's batch normalisation, or else the convolution itself.
    """

    def __init__(self, model: nn.Module, layers: Collection[str], norms: dict[str, str]) -> None:
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        self._num_images: dict[str, int] = {}
        self.is_paused = False
        modules = dict(model.named_modules())
        self._handles = []
        for layer in layers:
            relu = layer.replace(".conv", ".relu")
            source = relu if relu != layer and relu in modules else norms.get(layer, layer)
            self._handles.append(modules[source].register_forward_hook(self._observe(layer)))

    @property
    def activations(self) -> dict[str, Activations]:
        """What was seen since `forget`, by convolution."""
        return {
            layer: Activations(
                mean=total_C / self._num_images[layer], zeros_percent=100 * (1 - nonzero_C / self._num_images[layer])
            )
            for layer, (total_C, nonzero_C) in self._sums.items()
        }

    def forget(self) -> None:
        """Begin anew."""
        self._sums.clear()
        self._num_images.clear()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not look while something else than images passes through the network."""
        was_paused, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = was_paused

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen."""
        return {"sums": self._sums, "num_images": self._num_images}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on adding to what was seen before."""
        self._sums = {layer: (total_C, nonzero_C) for layer, (total_C, nonzero_C) in state["sums"].items()}
        self._num_images = dict(state["num_images"])

    def close(self) -> None:
        """Look no more."""
        for handle in self._handles:
            handle.remove()

    def _observe(self, layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def observe(_: nn.Module, __: Any, output_NCHW: Tensor) -> None:
            if self.is_paused:
                return
            positive_NCHW = F.relu(output_NCHW.detach()).double()
            seen = positive_NCHW.mean((2, 3)).sum(0), (positive_NCHW > 0).double().mean((2, 3)).sum(0)
            if (before := self._sums.get(layer)) is not None and len(before[0]) == len(seen[0]):
                seen = before[0].to(seen[0].device) + seen[0], before[1].to(seen[1].device) + seen[1]
                self._num_images[layer] += len(output_NCHW)
            else:
                self._num_images[layer] = len(output_NCHW)
            self._sums[layer] = seen

        return observe
