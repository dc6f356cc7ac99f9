"""What of a network can be pruned on its own: single convolutions, and sets of them whose outputs are added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.config.located import Located
from secateur.schedule import Schedule, parse_schedule
from secateur.thinning import ChannelSpace

PRUNER = "L1RankedStructureParameterPruner"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Convolutions that can only lose the same filters."""

    layers: tuple[str, ...]
    """Module names; the first one's filters are ranked, the others follow."""
    num_filters: int


def find_units(module: nn.Module, spaces: Sequence[ChannelSpace]) -> tuple[Unit, ...]:
    """Return what can be pruned, in the network's order.

    A space with an obstacle (such as the network's logits) is no unit, and neither are hidden linear layers:
    Distiller's filter pruners know convolutions.

    Args:
        module: The network.
        spaces: Its channel spaces.
    """
    modules = dict(module.named_modules())
    order = {name: position for position, name in enumerate(modules)}
    units = []
    for space in spaces:
        layers = tuple(sorted((member.layer for member in space.producers), key=order.__getitem__))
        convolutions = [layer for name in layers if isinstance(layer := modules[name], nn.Conv2d)]
        if space.obstacle is None and len(convolutions) == len(layers):
            units.append(Unit(layers=layers, num_filters=convolutions[0].out_channels))
    return tuple(sorted(units, key=lambda unit: order[unit.layers[0]]))


def pruner_fields(layers: Sequence[str], sparsity: float, *, is_coupled: bool) -> dict[str, Any]:
    """Return a schedule's entry that removes the filters with the smallest L1 norms (Li et al. 2017, sec. 3.1).

    Args:
        layers: Convolutions, by module name.
        sparsity: Fraction of their filters.
        is_coupled: All lose those that the first one would lose.
    """
    leader = {"group_dependency": "Leader"} if is_coupled else {}
    weights = [f"module.{layer}.weight" for layer in layers]
    return {"class": PRUNER, "group_type": "Filters", "desired_sparsity": sparsity, **leader, "weights": weights}


def schedule_document(pruners: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a compression schedule that prunes and thins once; the learning rate then halves with every epoch."""
    once = [{"pruner": {"instance_name": name}, "epochs": [0]} for name in pruners]
    thin = {"extension": {"instance_name": "net_thinner"}, "epochs": [0]}
    halve = {"lr_scheduler": {"instance_name": "halving_lr"}, "starting_epoch": 0, "ending_epoch": 300, "frequency": 1}
    return {
        "version": 1,
        "pruners": dict(pruners),
        "extensions": {"net_thinner": {"class": "FilterRemover", "thinning_func_str": "remove_filters"}},
        "lr_schedulers": {"halving_lr": {"class": "ExponentialLR", "gamma": 0.5}},
        "policies": [*once, thin, halve],
    }


def schedule_of(unit: Unit, sparsity: float) -> Schedule:
    """Return a schedule that prunes one unit alone."""
    fields = pruner_fields(unit.layers, sparsity, is_coupled=len(unit.layers) > 1)
    source = f"{unit.layers[0]!r} pruned alone"
    return parse_schedule(Located(value=schedule_document({"alone": fields}), source=source))
