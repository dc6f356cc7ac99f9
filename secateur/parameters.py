"""What the parameters of a search stand for: fields of the compression schedule, or settings of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from pydantic import ValidationError

from secateur.config import Choice, Counts, Fixed, Parameter, ParameterValue, Range, Study, Training
from secateur.datasets import known_input_size
from secateur.errors import ScheduleError, StudyError, did_you_mean
from secateur.findings import Staircase
from secateur.identity import Footprints
from secateur.methods import RankedStructurePruner, ResidualBlockRemover, Shapes, sparsity_leaving
from secateur.models import create_model, default_input_size
from secateur.schedule import Schedule
from secateur.thinning import find_residual_blocks

_TRAINING = "training."
_NUM_CLASSES = 10
"""The shapes of what is pruned do not depend on it."""


def base_values(study: Study, schedule: Schedule) -> dict[str, ParameterValue | None]:
    """Return what the study itself says for each of its parameters.

    Raises:
        ScheduleError: The schedule has no such field.
        StudyError: Training has no such setting.
    """
    return {
        name: _setting(study.training, name) if is_of_training(name) else schedule.base_value(name)
        for name in study.search.parameters
    }


def is_of_training(name: str) -> bool:
    """Tell whether a parameter is a setting of training, such as ``training.lr``."""
    return name.startswith(_TRAINING)


def of_schedule(parameters: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Return the parameters that are fields of the schedule."""
    return {name: value for name, value in parameters.items() if not is_of_training(name)}


def training_with(training: Training, parameters: Mapping[str, ParameterValue]) -> Training:
    """Return how a network is trained at a point of the search.

    Raises:
        StudyError: There is no such setting, or it cannot have that value.
    """
    changes = {name.removeprefix(_TRAINING): value for name, value in parameters.items() if is_of_training(name)}
    if not changes:
        return training
    for field in changes:
        _setting(training, _TRAINING + field)
    try:
        return Training.model_validate({**training.model_dump(), **changes})
    except ValidationError as exc:
        raise StudyError(*(_reason(dict(error)) for error in exc.errors(include_url=False))) from None


def values_of(parameter: Parameter) -> Sequence[ParameterValue]:
    """Return the values that a parameter may have, or the ends of its range."""
    match parameter:
        case Range():
            return parameter.min, parameter.max
        case Choice():
            return parameter.values
        case Fixed():
            return (parameter.value,)
        case Counts():
            return ()


def check_parameters(study: Study, schedule: Schedule) -> Study:
    """Check every value that a parameter may have; return the study with `counts` written as sparsities.

    Raises:
        StudyError: With every problem.
        ModelError: There is no such model, and what counts are of cannot be told.
    """
    study = _with_counts_as_values(study, schedule)
    if problems := dict.fromkeys(_problems(study, schedule)):
        raise StudyError(*problems)
    return study


def _problems(study: Study, schedule: Schedule) -> Iterator[str]:
    """Yield what is wrong with a study's parameters, each problem with the parameter's name and value."""
    removed = {side for p in schedule.of_kind("extension") for side in getattr(p.entry.arguments, "sides", ())}
    for name, parameter in study.search.parameters.items():
        for value in values_of(parameter):
            try:
                if is_of_training(name):
                    training_with(study.training, {name: value})
                    continue
                pruner = schedule.with_parameters({name: value}).entries[schedule.split(name)[0]].arguments
            except ScheduleError as exc:
                yield from (f"search.parameters: {problem}" for problem in exc.problems)
            except StudyError as exc:
                yield from (f"search.parameters.{name}: {problem}" for problem in exc.problems)
            else:
                is_kind = name.endswith(".group_type")
                if is_kind and isinstance(pruner, RankedStructurePruner) and pruner.side not in removed:
                    yield (
                        f"search.parameters.{name}: {value!r} prunes {pruner.side}, and no extension of the schedule "
                        f"removes {pruner.side}, so nothing gets faster: use 'thinning_func_str: contract_model'."
                    )


def check_blocks(study: Study, schedule: Schedule) -> None:
    """Check that no parameter asks a stage to keep more residual blocks than it has.

    Raises:
        StudyError: With every one that does.
        ModelError: There is no such model.
    """
    if problems := list(_block_problems(study, schedule)):
        raise StudyError(*problems)


def _block_problems(study: Study, schedule: Schedule) -> Iterator[str]:
    removers = {n for n, entry in schedule.entries.items() if isinstance(entry.arguments, ResidualBlockRemover)}
    fields = {name: schedule.split(name) for name in study.search.parameters}
    for name, (entry, stage) in fields.items():
        if entry in removers:
            most = max(values_of(study.search.parameters[name]))
            blocks = _residual_blocks(study.model, known_input_size(study.dataset) or default_input_size(study.model))
            num_blocks = sum(stage in (block, block.rpartition(".")[0]) for block in blocks)
            if isinstance(most, int) and most > num_blocks:
                yield (
                    f"search.parameters.{name}: {stage!r} cannot keep {most} residual blocks whose shortcut is the "
                    f"identity: it has {num_blocks}."
                )


@lru_cache(maxsize=8)
def _residual_blocks(model: str, input_size: int) -> tuple[str, ...]:
    with torch.random.fork_rng(devices=[]):
        return find_residual_blocks(create_model(model, _NUM_CLASSES), torch.zeros(1, 3, input_size, input_size))


def complete_point(study: Study, schedule: Schedule, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Complete some values to a point, with what is fixed and with what the study itself says.

    The values need not lie in the space that is searched; the schedule, or training, must take them.

    Raises:
        StudyError: The study does not search such a parameter, or it cannot have that value.
    """
    wanted = study.search.parameters
    if unknown := [name for name in values if name not in wanted]:
        raise StudyError(
            *(f"{name!r} is no parameter of {study.name!r}.{did_you_mean(name, wanted)}" for name in unknown)
        )
    as_fixed: dict[str, Parameter] = {name: Fixed(value=value) for name, value in values.items()}
    fixed = study.model_copy(update={"search": study.search.model_copy(update={"parameters": as_fixed})})
    check_parameters(fixed, schedule)
    always = {name: parameter.value for name, parameter in wanted.items() if isinstance(parameter, Fixed)}
    point = {**base_values(study, schedule), **always, **values}
    if unset := [name for name, value in point.items() if value is None]:
        raise StudyError(f"the study itself has no value of {' and '.join(map(repr, unset))}: give one.")
    return {name: value for name, value in point.items() if value is not None}


def _with_counts_as_values(study: Study, schedule: Schedule) -> Study:
    """Return the study with every parameter's `counts` replaced by the sparsities that leave so many filters.

    Raises:
        StudyError: What they are counts of is no pruner's sparsity, or its layers have not so many.
        ModelError: There is no such model.
    """
    counted = {name: p for name, p in study.search.parameters.items() if isinstance(p, Counts)}
    if not counted:
        return study
    footprints = footprints_of(study, schedule)
    choices = {name: _choice(study, name, parameter, footprints) for name, parameter in counted.items()}
    search = study.search.model_copy(update={"parameters": {**study.search.parameters, **choices}})
    return study.model_copy(update={"search": search})


def _choice(study: Study, name: str, wanted: Counts, footprints: Footprints) -> Choice:
    what = f"search.parameters.{name}"
    sizes = footprints.sizes_behind(name)
    entry = name.rpartition(".")[0]
    if sizes is None or f"{entry}.group_type" in study.search.parameters:
        raise StudyError(
            f"{what}: 'counts' are for the 'desired_sparsity' of a pruner that removes whole filters (or channels, but "
            "always the same) before training."
        )
    if len(sizes) > 1:
        raise StudyError(
            f"{what}: its layers have {' and '.join(map(str, sizes))} filters, so that counts mean different things: "
            "give each size a pruner of its own."
        )
    num_filters = sizes[0]
    counts = wanted.counts if isinstance(wanted.counts, tuple) else _read_counts(what, wanted.counts, study.model)
    if too_many := [count for count in counts if count > num_filters]:
        raise StudyError(f"{what}: its layers have {num_filters} filters, of which {too_many} cannot stay.")
    return Choice(values=tuple(sorted(sparsity_leaving(count, num_filters) for count in set(counts))))


def _read_counts(what: str, path: Path, model: str) -> tuple[int, ...]:
    """Return the numbers of filters that a measured staircase finds worth having."""
    try:
        staircase = Staircase.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise StudyError(f"{what}: {path}: cannot be read: {exc.strerror}.") from None
    except ValueError:
        raise StudyError(f"{what}: {path}: is no staircase; 'secateur staircase' writes one.") from None
    if staircase.model != model:
        raise StudyError(f"{what}: {path}: was measured of {staircase.model!r}, not of {model!r}.")
    counts = tuple(point.num_kept for point in staircase.allowed)
    if len(counts) < 2:
        raise StudyError(f"{what}: {path}: finds {len(counts)} numbers of filters worth having: nothing varies.")
    return counts


def footprints_of(study: Study, schedule: Schedule) -> Footprints:
    """Return what tells which points of a study leave the same network."""
    return Footprints(schedule, shapes_of(study.model), most_epochs(study))


def most_epochs(study: Study) -> int:
    """Return for how many epochs a candidate may be trained: the study's own number, or the most it may choose."""
    epochs = study.search.parameters.get(f"{_TRAINING}epochs")
    return max([study.training.epochs, *(int(value) for value in (values_of(epochs) if epochs is not None else ()))])


@lru_cache(maxsize=8)
def shapes_of(model: str) -> Shapes:
    """Return the shape of every parameter of a model.

    Raises:
        ModelError: There is no such model.
    """
    with torch.random.fork_rng(devices=[]):
        module = create_model(model, _NUM_CLASSES)
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _setting(training: Training, name: str) -> ParameterValue | None:
    field = name.removeprefix(_TRAINING)
    if field not in Training.model_fields:
        raise StudyError(f"there is no setting {name!r}.{did_you_mean(field, Training.model_fields)}")
    value: ParameterValue | None = getattr(training, field)
    return value


def _reason(error: Mapping[str, object]) -> str:
    reason = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{reason}, got {error['input']!r}." if error["loc"] else f"{reason}."
