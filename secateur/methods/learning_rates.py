"""Learning rates of a schedule, epoch by epoch (SPEC 10)."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler


class PolynomialLR(lr_scheduler.LambdaLR):
    """Distiller's: ``base * (1 - epoch / T_max) ** power``.

    torch's has other arguments, and stops at zero.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, power: float) -> None:
        super().__init__(optimizer, lambda epoch: (1 - epoch / T_max) ** power)


class MultiStepMultiGammaLR(lr_scheduler.LambdaLR):
    """Distiller's: from each milestone on, the learning rate is multiplied by the gamma that belongs to it."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gammas: Sequence[float]) -> None:
        if list(milestones) != sorted(milestones) or len(milestones) != len(gammas):
            raise ValueError(f"milestones must be sorted, and as many as gammas, got {milestones} and {gammas}")
        steps = list(zip(milestones, gammas, strict=True))
        super().__init__(optimizer, lambda epoch: math.prod(gamma for milestone, gamma in steps if milestone <= epoch))


PLATEAU = "ReduceLROnPlateau"
"""Whose learning rates depend on how training goes."""

_NOT_IN_YAML = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "LRScheduler"}
LR_SCHEDULERS: dict[str, type[lr_scheduler.LRScheduler]] = {
    name: cls
    for name, cls in vars(lr_scheduler).items()
    if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler) and name.strip("_") not in _NOT_IN_YAML
} | {cls.__name__: cls for cls in (PolynomialLR, MultiStepMultiGammaLR)}

_WRONG = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What torch's schedulers raise for arguments they cannot work with."""


def argument_problems(class_name: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments of an LR scheduler; empty if nothing is."""
    signature = inspect.signature(LR_SCHEDULERS[class_name])
    known = [name for name in signature.parameters if name not in {"self", "optimizer", "last_epoch", "verbose"}]
    unknown = [name for name in arguments if name not in known]
    missing = [n for n in known if signature.parameters[n].default is inspect.Parameter.empty and n not in arguments]
    problems = [f"does not accept {name!r}; it takes {', '.join(known)}" for name in unknown]
    problems += [f"needs {name!r}" for name in missing]
    return problems or sequence_problems(class_name, arguments, 2)


def sequence_problems(class_name: str, arguments: Mapping[str, Any], num_epochs: int) -> list[str]:
    """Return why a scheduler, whose arguments have the right names, gives no learning rates for so many epochs."""
    try:
        rates = lr_sequence(class_name, arguments, 0.1, num_epochs)
        wrong = (epoch for epoch, rate in enumerate(rates) if not 0 <= rate < math.inf)  # NaN is wrong, too
        return [f"gives the learning rate {rates[epoch]!r} for epoch {epoch}" for epoch in itertools.islice(wrong, 1)]
    except _WRONG as exc:
        return [f"gives no learning rates: {type(exc).__name__}: {exc}"]


def lr_sequence(class_name: str, arguments: Mapping[str, Any], base_lr: float, num_epochs: int) -> list[float]:
    """Return the learning rate that a scheduler, stepped every epoch from 0, gives for each epoch.

    Distiller steps a scheduler to the *absolute* epoch (SPEC 10), whenever its policy starts: so a sequence computed
    once is all there is to know. (Of `ReduceLROnPlateau` it is the sequence while nothing gets better.)
    """
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=base_lr, momentum=0.9)
    scheduler = LR_SCHEDULERS[class_name](optimizer, **arguments)
    rates = []
    for epoch in range(num_epochs):
        if epoch > 0:
            optimizer.step()
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(0.0)
            else:
                scheduler.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates
