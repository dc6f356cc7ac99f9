"""Does a schedule fit a model? Names and shapes, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from secateur.errors import ScheduleError, did_you_mean
from secateur.schedule.classes import RankedStructurePruner
from secateur.schedule.lr import sequence_problems
from secateur.schedule.schedule import Schedule

_PREFIX = "module."


def resolve_name(name: str, names: Iterable[str]) -> str | None:
    """Return the model's own name of a parameter; ``module.`` is optional on both sides (SPEC 3)."""
    by_short_name = {own.removeprefix(_PREFIX): own for own in names}
    return by_short_name.get(name.removeprefix(_PREFIX))


def check_fit(schedule: Schedule, shapes: Mapping[str, tuple[int, ...]], model_name: str, num_epochs: int) -> None:
    """Check that what is pruned exists and can be pruned that way, that it happens, and that there are learning rates.

    Args:
        schedule: A schedule that is right in itself.
        shapes: Every parameter's shape, by name.
        model_name: For messages.
        num_epochs: How long is trained; 0: only what fires in epoch 0 counts.

    Raises:
        ScheduleError: With every problem.
    """
    problems: list[str] = []
    for entry in schedule.entries.values():
        if isinstance(entry.arguments, RankedStructurePruner):
            what = f"{entry.place}: pruner {entry.name!r}"
            problems += [f"{what}: {p}" for p in _pruner_problems(entry.arguments, shapes, model_name)]
    for policy in schedule.of_kind("pruner") + schedule.of_kind("extension"):
        if not any(0 <= epoch < max(num_epochs, 1) for epoch in policy.epochs):
            problems.append(
                f"{policy.place}: {policy.entry.kind} {policy.entry.name!r} never acts: its epochs begin at "
                f"{min(policy.epochs)}, and training.epochs is {num_epochs}."
            )
    for policy in schedule.of_kind("lr_scheduler"):
        entry = policy.entry
        assert isinstance(entry.arguments, Mapping)
        found = sequence_problems(entry.class_name, entry.arguments, num_epochs)
        problems += [f"{entry.place}: lr_scheduler {entry.name!r}: {entry.class_name} {p}." for p in found]
    if not schedule.of_kind("pruner"):
        problems.append(f"{schedule.source}: no policy prunes anything.")
    elif not schedule.of_kind("extension"):
        problems.append(
            f"{schedule.source}: nothing is thinned, and zeros alone make no network faster. Add an extension, such as "
            "net_thinner: {class: FilterRemover, thinning_func_str: remove_filters}, and its policy."
        )
    if problems:
        raise ScheduleError(*problems)


def _pruner_problems(
    arguments: RankedStructurePruner, shapes: Mapping[str, tuple[int, ...]], model_name: str
) -> list[str]:
    problems = []
    sizes: dict[str, int] = {}
    dim = 0 if arguments.side == "filters" else 1
    weights_with_dims = [name for name, shape in shapes.items() if len(shape) == 4 or (dim == 1 and len(shape) == 2)]
    for name in arguments.weights:
        own = resolve_name(name, shapes)
        if own is None:
            near = did_you_mean(name.removeprefix(_PREFIX), weights_with_dims)
            problems.append(f"layer {name!r} is not in {model_name}.{near}")
        elif own not in weights_with_dims:
            kind = "a convolution's weight" if dim == 0 else "the weight of a convolution or a linear layer"
            problems.append(f"{name!r} has shape {shapes[own]}; {arguments.group_type} needs {kind}.")
        else:
            sizes[name] = shapes[own][dim]
    if arguments.group_dependency == "Leader" and len(set(sizes.values())) > 1:
        problems.append(
            f"'group_dependency: Leader' needs the same number of {arguments.side} in every layer, got {sizes}."
        )
    return problems
