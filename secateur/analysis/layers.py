"""What a network is made of, layer by layer, however it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from secateur.thinning.counting import observe

_INDEX_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer with parameters of its own."""

    name: str
    type: str
    """Of the module, or of the ONNX operation; empty where only tensors are known."""
    weight: npt.NDArray[np.generic]
    """`num_filters x in_channels / groups x kH x kW`, `out_features x in_features`, or `num_features`."""
    num_params: int
    """Bias included, running statistics not."""
    macs: int | None
    """Multiply-accumulates for one image; None where the size of the input is not known."""

    @property
    def sparsity(self) -> float:
        """Fraction of the weight that is exactly zero."""
        return 1 - np.count_nonzero(self.weight) / self.weight.size

    @property
    def dense_bytes(self) -> int:
        """Of the weight as it is."""
        return self.weight.nbytes

    @property
    def csr_bytes(self) -> int | None:
        """Of the weight as a compressed sparse row matrix, a row for each filter; None for a vector.

        A value and a column index for each weight that is not zero, and a pointer for each row and the end; indices
        take 4 bytes.
        """
        if self.weight.ndim < 2:
            return None
        num_nonzero = int(np.count_nonzero(self.weight))
        return num_nonzero * (self.weight.itemsize + _INDEX_BYTES) + (len(self.weight) + 1) * _INDEX_BYTES


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Of a whole network."""

    num_params: int
    macs: int | None
    sparsity: float
    """Of all weights together."""
    dense_bytes: int
    csr_bytes: int
    """Vectors count as they are."""


def total(layers: Iterable[LayerFacts]) -> Totals:
    """Sum up a network; at least one layer."""
    layers = list(layers)
    macs = [layer.macs for layer in layers if layer.macs is not None]
    num_weights = sum(layer.weight.size for layer in layers)
    return Totals(
        num_params=sum(layer.num_params for layer in layers),
        macs=sum(macs) if macs else None,
        sparsity=1 - sum(int(np.count_nonzero(layer.weight)) for layer in layers) / num_weights,
        dense_bytes=sum(layer.dense_bytes for layer in layers),
        csr_bytes=sum(layer.dense_bytes if layer.csr_bytes is None else layer.csr_bytes for layer in layers),
    )


def layers_of_module(module: nn.Module, example_NCHW: Tensor) -> tuple[LayerFacts, ...]:
    """Describe a module's layers, in its order; those without a parameter called `weight` are left out."""
    _, positions = observe(module, example_NCHW)
    return tuple(
        LayerFacts(
            name=name,
            type=type(layer).__name__,
            weight=weight.detach().cpu().numpy(),
            num_params=sum(parameter.numel() for parameter in layer.parameters(recurse=False)),
            macs=positions.get(name, 0) * weight.numel(),
        )
        for name, layer in module.named_modules()
        if isinstance(weight := layer._parameters.get("weight"), Tensor)
    )


def layers_of_state(state: Mapping[str, Tensor]) -> tuple[LayerFacts, ...]:
    """Describe a state_dict's layers: tensors called `weight`, each with the bias beside it."""
    layers = []
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            bias = state.get(f"{layer}.bias")
            num_params = tensor.numel() + (0 if bias is None else bias.numel())
            layers.append(LayerFacts(name=layer, type="", weight=_array(tensor), num_params=num_params, macs=None))
    return tuple(layers)


def _array(tensor: Tensor) -> npt.NDArray[np.generic]:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # numpy has no bf16
