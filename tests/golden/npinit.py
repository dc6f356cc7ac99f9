"""The recipe by which the golden networks are initialised: numpy's frozen generator, one seed a tensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn


def initialise(module: nn.Module) -> None:
    """Fill weights and statistics, in place: the i-th parameter from seed 1000 + i, the j-th buffer from 6000 + j."""
    for index, (name, parameter) in enumerate(module.named_parameters()):
        parameter.data = torch.from_numpy(_parameter(name, tuple(parameter.shape), 1000 + index).astype(np.float32))
    for index, (name, buffer) in enumerate(module.named_buffers()):
        random = np.random.RandomState(6000 + index)
        if name.endswith("running_mean"):
            buffer.copy_(torch.from_numpy((0.1 * random.randn(*buffer.shape)).astype(np.float32)))
        elif name.endswith("running_var"):
            buffer.copy_(torch.from_numpy((0.5 + random.rand(*buffer.shape)).astype(np.float32)))


def _parameter(name: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64]:
    normal = np.random.RandomState(seed).randn(*shape)
    if len(shape) >= 2:
        return np.sqrt(2 / np.prod(shape[1:])) * normal
    return 0.1 * normal if name.endswith("bias") else 1 + 0.1 * normal
