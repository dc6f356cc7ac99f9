"""The optimizer: its parameters, its learning rate, and the moving average of what it makes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from secateur.training.settings import TrainingSettings

_RISE = 0.3
_START = 1 / 25


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> SGD:
    """Return SGD that updates all parameters in one kernel."""
    return SGD(
        _groups(model, settings),
        settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def follow_parameters(optimizer: Optimizer, model: nn.Module, settings: TrainingSettings) -> None:
    """Let the optimizer see what a callback has made of the model; what is new or has another shape has no momentum."""
    for group, now in zip(optimizer.param_groups, _groups(model, settings), strict=True):
        group["params"] = now["params"]
    parameters = list(model.parameters())
    for gone in optimizer.state.keys() - set(parameters):
        del optimizer.state[gone]
    if settings.momentum == 0:
        return
    for parameter in parameters:  # zero is how momentum begins; the fused kernel wants all of it, or none
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is None or momentum.shape != parameter.shape:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _groups(model: nn.Module, settings: TrainingSettings) -> list[dict[str, Any]]:
    parameters = list(model.parameters())
    if settings.decay_vectors:
        return [{"params": parameters}]
    return [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1]},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]


def learning_rate(settings: TrainingSettings, epoch: float) -> float:
    """Return the learning rate of a curve.

    - cosine: half a cosine, from `lr` to 0 (Loshchilov and Hutter 2017, without restarts).
    - one_cycle: rises from `lr` / 25 for 0.3 of the time, and falls to 0, both as half a cosine (Smith and Topin 2019).
    - step: a tenth from half of the time on, a hundredth from three quarters on (He et al. 2016, sec. 4.2).

    Args:
        settings: With an `lr_curve` other than "schedule".
        epoch: Time since training began, minibatches being fractions.
    """
    done = epoch / settings.epochs
    match settings.lr_curve:
        case "cosine":
            share = _between(1.0, 0.0, done)
        case "one_cycle":
            share = (
                _between(_START, 1.0, done / _RISE)
                if done < _RISE
                else _between(1.0, 0.0, (done - _RISE) / (1 - _RISE))
            )
        case "step":
            share = 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
        case "schedule":
            raise AssertionError("a schedule sets learning rates itself")
    is_warm = epoch >= settings.warmup_epochs
    return settings.lr * share * (1.0 if is_warm else epoch / settings.warmup_epochs)


def _between(start: float, end: float, share: float) -> float:
    """Return what half a cosine from `start` to `end` is at a share of its way."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class WeightAverage:
    """An exponential moving average of a network's weights and statistics (Polyak and Juditsky 1992).

    While few steps are taken it forgets faster: at step t it keeps `min(decay, (1 + t) / (10 + t))` of itself. What
    has changed its shape begins anew, and what is zero in the network (a mask keeps it there) is zero in the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_steps = 0
        self._average = {name: tensor.clone() for name, tensor in _floats(model).items()}

    def update(self, model: nn.Module) -> None:
        """Take the network's present weights in."""
        now = _floats(model)
        self._average = {
            name: tensor.clone() if (old := self._average.get(name)) is None or old.shape != tensor.shape else old
            for name, tensor in now.items()
        }
        kept = min(self._decay, (1 + self._num_steps) / (10 + self._num_steps))
        torch._foreach_lerp_(self.tensors, list(now.values()), 1 - kept)
        self._num_steps += 1

    @property
    def tensors(self) -> list[Tensor]:
        """What is averaged, in the order of the network's state."""
        return list(self._average.values())

    def copy_to(self, model: nn.Module) -> None:
        """Give a network the average's weights."""
        for name, tensor in _floats(model).items():
            tensor.copy_(self._average[name].where(tensor != 0, 0.0))

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Give a network the average's weights while the context lasts."""
        own = {name: tensor.clone() for name, tensor in _floats(model).items()}
        self.copy_to(model)
        try:
            yield
        finally:
            for name, tensor in _floats(model).items():
                tensor.copy_(own[name])

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"num_steps": self._num_steps, "average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another average was."""
        self._num_steps = state["num_steps"]
        self._average = {name: tensor.to(self._average[name].device) for name, tensor in state["average"].items()}


def _floats(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
