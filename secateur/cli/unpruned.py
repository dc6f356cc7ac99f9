"""The network and the schedule that `secateur prune` and `secateur explain` begin with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from secateur.models import create_model, default_num_classes, load_weights, num_classes_of
from secateur.resources import here_or_shipped
from secateur.schedule import Schedule, check_fit, load_schedule


def load_both(
    model: str, schedule_path: Path, weights: Path | None, num_classes: int | None
) -> tuple[nn.Module, int, Schedule]:
    """Make a network, and read a schedule that fits it.

    Args:
        model: As in a study.
        schedule_path: A Distiller compression schedule.
        weights: A file; None: random ones, always the same.
        num_classes: None: what the weights have, or else what is usual for the model.

    Returns:
        The network, how many classes it tells apart, and the schedule.

    Raises:
        InputError: One of them is wrong, or they do not fit together.
    """
    schedule = load_schedule(here_or_shipped(schedule_path))
    torch.manual_seed(0)
    if num_classes is None:
        num_classes = default_num_classes(model) if weights is None else num_classes_of(model, weights)
    module = create_model(model, num_classes)
    check_fit(schedule, {n: tuple(p.shape) for n, p in module.named_parameters()}, model, num_epochs=0)
    if weights is not None:
        load_weights(module, weights)
    return module, num_classes, schedule
