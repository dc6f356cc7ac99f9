"""Learning rates of a schedule, epoch by epoch."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch

from secateur.schedule.classes import LR_SCHEDULERS


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
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as exc:
        return [f"gives no learning rates: {type(exc).__name__}: {exc}"]
    wrong = (epoch for epoch, rate in enumerate(rates) if not 0 <= rate < math.inf)  # NaN is wrong, too
    return [f"gives the learning rate {rates[epoch]!r} for epoch {epoch}" for epoch in itertools.islice(wrong, 1)]


def lr_sequence(class_name: str, arguments: Mapping[str, Any], base_lr: float, num_epochs: int) -> list[float]:
    """Return the learning rate that a scheduler, stepped every epoch from 0, gives for each epoch.

    Distiller steps a scheduler to the *absolute* epoch (SPEC 10), whenever its policy starts: so a sequence computed
    once is all there is to know.
    """
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=base_lr, momentum=0.9)
    scheduler = LR_SCHEDULERS[class_name](optimizer, **arguments)
    rates = []
    for epoch in range(num_epochs):
        if epoch > 0:
            optimizer.step()
            scheduler.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates
