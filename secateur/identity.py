"""What makes a network the same as another: digests of its weights, its masks, and all else it is made of.

Before it is made, what its schedule asks for tells a lot: sparsities of 0.60 and 0.61 leave the same of 16 filters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol, Self, TypeGuard

from torch import Tensor, nn

from secateur.config import ParameterValue
from secateur.methods import RankedStructurePruner, Shapes
from secateur.methods.filters import FilterPruner
from secateur.methods.names import own_names
from secateur.methods.ranking import Side, count_removed, rounded
from secateur.methods.sparsity import OneShot
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


class Footprints:
    """Tells, in microseconds and without weights, which points of a search leave the same network.

    Equal footprints are equal networks, trained equally. Different footprints may be equal networks all the same (a
    pruner may name layers of a residual block that is removed): that shows when the networks are made.
    """

    def __init__(self, schedule: Schedule, shapes: Shapes, num_epochs: int) -> None:
        """Prepare.

        Args:
            schedule: The study's, as it stands.
            shapes: Every parameter of the unpruned network.
            num_epochs: Of training.
        """
        acts_once = not any(acting_later(schedule, max(num_epochs, 1)))
        entries = {policy.entry.name: policy.entry.arguments for policy in schedule.of_kind("pruner")}
        self._counting = {name: pruner for name, pruner in entries.items() if acts_once and _goes_by_number(pruner)}
        self._sizes = {name: _sizes(pruner, shapes) for name, pruner in self._counting.items()}
        self._split = lru_cache(maxsize=None)(schedule.split)

    def __call__(self, parameters: Mapping[str, ParameterValue]) -> Hashable:
        """Return the footprint of a point: parameter (or pruner) -> value (or the numbers that it removes)."""
        changes: dict[str, dict[str, ParameterValue]] = {}
        footprint: dict[str, Hashable] = {}
        for name, value in parameters.items():
            entry, field = self._split(name)
            if entry in self._counting:
                changes.setdefault(entry, {})[field] = value
            else:
                footprint[name] = value
        for entry, fields in changes.items():
            if any(removed := self._num_removed(entry, fields)):
                others = frozenset(item for item in fields.items() if item[0] not in {"desired_sparsity", "round_to"})
                footprint[entry] = removed, others
        return frozenset(footprint.items())

    def sizes_behind(self, parameter: str) -> tuple[int, ...] | None:
        """Return how many filters (or channels) the weights have of which a parameter is the sparsity; else None."""
        entry, field = self._split(parameter)
        if entry not in self._counting or field != "desired_sparsity":
            return None
        return self._sizes[entry][self._counting[entry].side]

    def _num_removed(self, entry: str, changes: Mapping[str, ParameterValue]) -> tuple[int, ...]:
        """Return how many structures of each weight go; weights of one size lose equally many, and count once."""
        pruner = self._counting[entry].model_copy(update=dict(changes))
        sizes, round_to = self._sizes[entry][pruner.side], getattr(pruner, "round_to", 1)
        return tuple(rounded(count_removed(n, pruner.desired_sparsity), n, round_to) for n in sizes)


class _CountingPruner(Protocol):
    """A pruner whose sparsity decides how many structures go, and nothing else."""

    side: Side
    desired_sparsity: float
    weights: tuple[str, ...]

    def model_copy(self, *, update: dict[str, Any]) -> Self: ...


def _sizes(pruner: _CountingPruner, shapes: Shapes) -> dict[Side, tuple[int, ...]]:
    """Return how many filters, and channels, the weights of a pruner have: each number once."""
    named = [shapes[name] for name in own_names(pruner.weights, shapes).values() if name is not None]
    return {
        "filters": tuple(dict.fromkeys(shape[0] for shape in named)),
        "channels": tuple(dict.fromkeys(shape[1] for shape in named)),
    }


def _goes_by_number(pruner: Any) -> TypeGuard[_CountingPruner]:
    if not isinstance(pruner, OneShot):
        return False
    if isinstance(pruner, RankedStructurePruner):
        return pruner.kwargs is None and getattr(pruner, "noise", 0.0) == 0.0
    return isinstance(pruner, FilterPruner)
