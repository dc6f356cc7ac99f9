"""Will what is pruned be removable? Told before training starts, for what is thinned only later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secateur.methods import Method, RankedStructurePruner, Remover, Side, layer_of
from secateur.methods.filters import FilterPruner
from secateur.schedule import Policy, Schedule
from secateur.thinning import ChannelSpace


def coupling_problems(
    schedule: Schedule, methods: Mapping[str, Method], spaces: Sequence[ChannelSpace], num_epochs: int
) -> list[str]:
    """Return which pruners prune only some of the layers that share their channels, or each in its own way.

    Args:
        schedule: What is to run.
        methods: Its pruners by name, with the model's own names of parameters.
        spaces: Channels that exist, or go, together.
        num_epochs: Epochs of training; what acts later does not count.
    """
    problems: dict[str, None] = {}  # each once
    for extension in schedule.of_kind("extension"):
        remover = extension.entry.arguments
        assert isinstance(remover, Remover)
        if not extension.acts_within(range(num_epochs)):
            continue
        for side in remover.sides:
            deciders = _deciders(schedule, methods, side, range(num_epochs))
            for space in spaces:
                layers = [member.layer for member in (space.producers if side == "filters" else space.consumers)]
                if len({deciders[layer][0] if layer in deciders else None for layer in layers}) > 1:
                    policy = next(deciders[layer][1] for layer in layers if layer in deciders)
                    problems[
                        f"{policy.place}: pruner {policy.entry.name!r}: the {side} of {', '.join(layers)} can only go "
                        "together (a residual sum, or one input). Prune all of them in one pruner with "
                        "'group_dependency: Leader', or none."
                    ] = None
    return list(problems)


def _deciders(
    schedule: Schedule, methods: Mapping[str, Method], side: Side, epochs: range
) -> dict[str, tuple[str, Policy]]:
    """Return, for each layer of which a side is pruned, what decides on it (the leader or itself), and when."""
    deciders = {}
    for policy in schedule.of_kind("pruner"):
        pruner = methods.get(policy.entry.name)
        if not isinstance(pruner, RankedStructurePruner | FilterPruner) or not policy.acts_within(epochs):
            continue
        if pruner.side == side and pruner.removes_structures:
            for name in pruner.weights:
                decider = pruner.weights[0] if pruner.group_dependency == "Leader" else name
                deciders[layer_of(name)] = (decider, policy)
    return deciders
