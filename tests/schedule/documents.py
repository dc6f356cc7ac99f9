"""Schedules as YAML holds them, to be changed by tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from secateur.config.located import Located, parse_yaml
from secateur.errors import ScheduleError
from secateur.schedule import Schedule, parse_schedule

TEXT = """\
version: 1
pruners:
  one: {class: L1RankedStructureParameterPruner, group_type: Filters, desired_sparsity: 0.5, weights: [conv1.weight]}
  two: {class: L2RankedStructureParameterPruner, group_type: Filters, desired_sparsity: 0.5, weights: [conv2.weight]}
lr_schedulers:
  falling: {class: ExponentialLR, gamma: 0.9}
extensions:
  thinner: {class: FilterRemover, thinning_func_str: remove_filters, arch: any, dataset: cifar10}
policies:
- lr_scheduler: {instance_name: falling}
  starting_epoch: 0
  ending_epoch: 9
  frequency: 1
- pruner: {instance_name: one}
  epochs: [0]
- extension: {instance_name: thinner}
  epochs: [0]
"""


def parse_text(text: str) -> Schedule:
    """Parse a schedule from YAML."""
    return parse_schedule(parse_yaml(text, "s.yaml", ScheduleError))


def pruner(weights: Iterable[str], sparsity: float = 0.5, **fields: Any) -> dict[str, Any]:
    """Return a pruner's entry: L1, filters, unless `fields` say otherwise."""
    return {
        "class": "L1RankedStructureParameterPruner",
        "group_type": "Filters",
        "desired_sparsity": sparsity,
        "weights": list(weights),
        **fields,
    }


def schedule_of(*steps: tuple[dict[str, Any], list[int]], thin: str = "remove_filters") -> Schedule:
    """Return a schedule of pruners, each followed by its epochs; an empty entry stands for the thinner."""
    pruners = {f"p{i}": entry for i, (entry, _) in enumerate(steps) if entry}
    thinner = {"class": "StructureRemover", "thinning_func_str": thin}
    policies = [
        {"pruner" if entry else "extension": {"instance_name": f"p{i}" if entry else "thinner"}, "epochs": epochs}
        for i, (entry, epochs) in enumerate(steps)
    ]
    document = {"version": 1, "pruners": pruners, "extensions": {"thinner": thinner}, "policies": policies}
    return parse_schedule(Located(value=yaml.safe_load(yaml.safe_dump(document)), source="s.yaml"))


THINNER: dict[str, Any] = {}
"""Where the thinner acts in `schedule_of`."""
