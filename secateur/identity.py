"""What makes a network the same as another: digests of its weights, its masks, and all else it is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from secateur.schedule import Policy, Schedule


def digest_of(parts: Mapping[str, Any]) -> str:
    """Return the digest of what JSON, or else `str`, makes of a mapping."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def digest_of_tensor(tensor: Tensor) -> str:
    """Return the digest of a tensor's bytes."""
    return hashlib.sha256(tensor.cpu().contiguous().numpy().tobytes()).hexdigest()


def digest_of_state(module: nn.Module) -> str:
    """Return the digest of all weights and buffers, names and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def acting_later(schedule: Schedule, num_epochs: int) -> Iterator[Policy]:
    """Yield the policies that do more, after the first minibatch, than set learning rates and keep masks."""
    for policy in schedule.policies:
        # A regularizer, and most options of a pruner, act in every minibatch.
        acts_always = policy.entry.kind == "regularizer" or policy.options.model_fields_set
        epochs = range(0 if acts_always else 1, num_epochs)
        if policy.entry.kind != "lr_scheduler" and policy.acts_within(epochs):
            yield policy


def reshaping_later(schedule: Schedule, num_epochs: int) -> list[Policy]:
    """Return the policies that may change a network's shape after the first minibatch."""
    return [policy for policy in acting_later(schedule, num_epochs) if policy.entry.kind != "regularizer"]


def what_acts_later(schedule: Schedule, num_epochs: int) -> Any:
    """Return what of a schedule can still matter after the first minibatch."""
    if any(acting_later(schedule, num_epochs)):
        return schedule.document
    rates = schedule.of_kind("lr_scheduler") if num_epochs > 1 else []
    return [(p.entry.class_name, p.entry.arguments, [e for e in p.epochs if e < num_epochs]) for p in rates]
