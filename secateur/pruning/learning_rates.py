"""The learning rates of a schedule, as training goes on (SPEC 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from secateur.methods import lr_sequence
from secateur.methods.learning_rates import PLATEAU
from secateur.schedule import Policy, Schedule
from secateur.training import Evaluation


class LearningRates:
    """What LR policies set: of most the whole sequence is known before training, `ReduceLROnPlateau` looks at it."""

    def __init__(self, schedule: Schedule, base_lr: float, num_epochs: int) -> None:
        self._policies = schedule.of_kind("lr_scheduler")
        self._base_lr = base_lr
        self._num_epochs = num_epochs
        self._rates = {
            policy.entry.name: lr_sequence(policy.entry.class_name, _arguments(policy), base_lr, num_epochs)
            for policy in self._policies
            if policy.entry.class_name != PLATEAU
        }
        self._plateaus: dict[str, lr_scheduler.ReduceLROnPlateau] = {}

    def planned(self) -> tuple[float, ...]:
        """Return the learning rate of each epoch, as far as it is known before training: plateaus are left out."""
        rates, rate = [], self._base_lr
        for policy in self._policies:
            rate = next(iter(self._rates.get(policy.entry.name, ())), rate)
        for epoch in range(self._num_epochs):
            rates.append(rate)
            for policy in self._policies:
                if epoch in policy.epochs:
                    rate = next(iter(self._rates.get(policy.entry.name, ())[epoch + 1 :]), rate)
        return tuple(rates)

    def begin(self, optimizer: Optimizer) -> None:
        """Set the learning rate of epoch 0, where an LR scheduler begins with another one (a warm-up)."""
        for policy in self._policies:
            if rates := self._rates.get(policy.entry.name):
                _set_rate(optimizer, rates[0])

    def step(self, policy: Policy, epoch: int, optimizer: Optimizer, validation: Evaluation) -> None:
        """Set the learning rate of the epoch after `epoch`, in which `policy` fires."""
        if policy.entry.class_name == PLATEAU:
            plateau = self._plateau(policy, optimizer)
            plateau.step(validation.loss if plateau.mode == "min" else validation.top1)
        elif rates := self._rates[policy.entry.name][epoch + 1 :]:
            _set_rate(optimizer, rates[0])

    def state_dict(self) -> dict[str, Any]:
        """Return what the plateaus have seen."""
        return {name: plateau.state_dict() for name, plateau in self._plateaus.items()}

    def load_state_dict(self, state: Mapping[str, Any], optimizer: Optimizer) -> None:
        """Go on with the plateaus of another training's middle."""
        for policy in self._policies:
            if policy.entry.name in state:
                self._plateau(policy, optimizer).load_state_dict(state[policy.entry.name])

    def _plateau(self, policy: Policy, optimizer: Optimizer) -> lr_scheduler.ReduceLROnPlateau:
        if (plateau := self._plateaus.get(policy.entry.name)) is None:
            plateau = lr_scheduler.ReduceLROnPlateau(optimizer, **_arguments(policy))
            self._plateaus[policy.entry.name] = plateau
        return plateau


def _arguments(policy: Policy) -> dict[str, Any]:
    assert isinstance(policy.entry.arguments, Mapping)
    return dict(policy.entry.arguments)


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
