"""What makes two candidates equal: the parts of the key that a result is kept under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from secateur.schedule import Policy, Schedule


def acting_later(schedule: Schedule, num_epochs: int) -> Iterator[Policy]:
    """Yield the policies that do more, after the first minibatch, than set learning rates and keep masks."""
    for policy in schedule.policies:
        # A regularizer, and most options of a pruner, act in every minibatch.
        acts_always = policy.entry.kind == "regularizer" or policy.options.model_fields_set
        epochs = range(0 if acts_always else 1, num_epochs)
        if policy.entry.kind != "lr_scheduler" and policy.acts_within(epochs):
            yield policy


def later(schedule: Schedule, num_epochs: int) -> Any:
    """Return what of a schedule can still matter after the first minibatch."""
    if any(acting_later(schedule, num_epochs)):
        return schedule.document
    rates = schedule.of_kind("lr_scheduler") if num_epochs > 1 else []
    return [(p.entry.class_name, p.entry.arguments, [e for e in p.epochs if e < num_epochs]) for p in rates]


def digest_of_mask(mask: Tensor) -> str:
    """Return a sha256 of its values."""
    return hashlib.sha256(mask.cpu().contiguous().numpy().tobytes()).hexdigest()


def digest_of_state(module: nn.Module) -> str:
    """Return a sha256 of the names, shapes and values of all parameters and buffers."""
    state = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        state.update(f"{name}{tuple(tensor.shape)}".encode())
        state.update(tensor.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def digest(parts: Mapping[str, Any]) -> str:
    """Return a sha256 of a JSON document."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
