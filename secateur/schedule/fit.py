"""Does a schedule fit a model? Names and shapes, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from secateur.errors import ScheduleError
from secateur.methods import (
    ParameterMethod,
    Pruner,
    RankedStructurePruner,
    Regularizer,
    ResidualBlockRemover,
    Shapes,
    sequence_problems,
)
from secateur.methods.elementwise import LevelPruner
from secateur.methods.filters import FilterPruner
from secateur.schedule.options import PruningOptions
from secateur.schedule.schedule import Policy, Schedule


def check_fit(schedule: Schedule, shapes: Shapes, model_name: str, num_epochs: int | None) -> None:
    """Check that what is pruned exists and can be pruned that way, that it happens, and that there are learning rates.

    Args:
        schedule: A schedule that is right in itself.
        shapes: Every parameter's shape, by name.
        model_name: For messages.
        num_epochs: How long is trained; 0: only what fires in epoch 0 counts; None: as long as the schedule says.

    Raises:
        ScheduleError: With every problem.
    """
    problems: list[str] = []
    for entry in schedule.entries.values():
        if isinstance(entry.arguments, ParameterMethod | ResidualBlockRemover):
            found = entry.arguments.problems(shapes, model_name)
            problems += [f"{entry.place}: {entry.kind} {entry.name!r}: {problem}" for problem in found]
    for policy in schedule.policies:
        what = f"{policy.place}: {policy.entry.kind} {policy.entry.name!r}"
        problems += [f"{what} {problem}" for problem in _policy_problems(policy, shapes, model_name, num_epochs)]
    for policy in schedule.of_kind("lr_scheduler"):
        entry = policy.entry
        assert isinstance(entry.arguments, Mapping)
        found = sequence_problems(entry.class_name, entry.arguments, 2 if num_epochs is None else num_epochs)
        problems += [f"{entry.place}: lr_scheduler {entry.name!r}: {entry.class_name} {p}." for p in found]
    problems += _purpose_problems(schedule)
    if problems:
        raise ScheduleError(*problems)


def _policy_problems(policy: Policy, shapes: Shapes, model_name: str, num_epochs: int | None) -> Iterator[str]:
    if policy.entry.kind == "lr_scheduler":
        return  # a schedule may be longer than this training
    if num_epochs is not None and not policy.acts_within(range(max(num_epochs, 1))):
        first = policy.epochs.start if isinstance(policy.epochs, range) else min(policy.epochs)
        yield f"never acts: its epochs begin at {first}, and training.epochs is {num_epochs}."
    pruner = policy.entry.arguments
    if not isinstance(pruner, Pruner):
        return
    if pruner.needs and 0 in policy.epochs:
        yield f"ranks by {' and '.join(pruner.needs)}, which are not there in epoch 0: let it act from epoch 1 on."
    if isinstance(policy.options, PruningOptions) and policy.options.levels:
        yield from (f"(args): {p}" for p in LevelPruner(levels=policy.options.levels).problems(shapes, model_name))


def _purpose_problems(schedule: Schedule) -> Iterator[str]:
    """Refuse what costs time and saves none: no sparsity at all, or whole structures that nothing removes."""
    methods = [p.entry.arguments for p in schedule.of_kind("pruner") + schedule.of_kind("regularizer")]
    if not any(
        isinstance(m, Pruner | ResidualBlockRemover) or (isinstance(m, Regularizer) and m.has_threshold)
        for m in methods
    ):
        yield f"{schedule.source}: no policy prunes anything."
    elif not schedule.of_kind("extension") and any(
        isinstance(m, RankedStructurePruner | FilterPruner) for m in methods
    ):
        yield (
            f"{schedule.source}: nothing is thinned, and zeros alone make no network faster. Add an extension, such as "
            "net_thinner: {class: FilterRemover, thinning_func_str: remove_filters}, and its policy."
        )
