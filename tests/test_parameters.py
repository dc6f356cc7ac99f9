"""What the parameters of a search stand for, and which points are one network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.admissibility import check_against_model, check_study, schedule_of
from secateur.config import Choice, Study, Training
from secateur.errors import ScheduleError, StudyError
from secateur.findings import Staircase, StaircasePoint, Step
from secateur.parameters import base_values, complete_point, footprints_of, most_epochs, training_with
from secateur.pruning import ScheduleEngine
from tests.factories import make_device, make_latency
from tests.flows.tiny import NUM_CLASSES, SCHEDULE, SIZE, STUDY, TinyNetwork

P0, P1 = "pruner_0.desired_sparsity", "pruner_1.desired_sparsity"
"""Each of eight filters."""


def make_study(parameters: dict[str, Any], schedule: dict[str, Any] | None = None, **changes: Any) -> Study:
    search = {**STUDY["search"], "parameters": parameters}
    document = copy.deepcopy(SCHEDULE if schedule is None else schedule)
    return Study.model_validate({**STUDY, "schedule": document, "device": "cpu", "search": search, **changes})


def make_schedule(**fields: Any) -> dict[str, Any]:
    """Return the tiny schedule; `fields` are of its first pruner."""
    schedule = copy.deepcopy(SCHEDULE)
    schedule["pruners"]["pruner_0"] |= fields
    return schedule


def footprint(study: Study, **parameters: Any) -> Any:
    return footprints_of(study, schedule_of(study))({name.replace("__", "."): v for name, v in parameters.items()})


RANGE = {"min": 0.0, "max": 0.9}
BOTH = {P0: RANGE, P1: RANGE}


# --- training


def test_settings_of_training_are_parameters() -> None:
    study = make_study({P0: RANGE, "training.epochs": {"min": 1, "max": 5}, "training.lr": {"value": 0.02}})
    assert base_values(study, schedule_of(study)) == {P0: 0.5, "training.epochs": 1, "training.lr": 0.05}
    training = training_with(study.training, {P0: 0.1, "training.epochs": 3, "training.lr": 0.02})
    assert (training.epochs, training.lr, training.batch_size) == (3, 0.02, 16)
    assert training_with(study.training, {P0: 0.1}) is study.training
    assert most_epochs(study) == 5
    assert most_epochs(make_study(BOTH, training={"epochs": 7})) == 7


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"training.epoch": {"min": 1, "max": 5}}, r"training.epoch: there is no setting .* Did you mean 'epochs'"),
        ({"training.lr": {"min": 0, "max": 1}}, r"search.parameters.training.lr: .* greater than 0, got 0\."),
        ({"training.lr_curve": {"values": ["cosine", "sine"]}}, r"training.lr_curve: Input should be .* got 'sine'"),
        ({"training.warmup_epochs": {"min": 0, "max": 2}}, r"training.warmup_epochs: belongs to an lr_curve"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_wrong_settings_are_named(parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(StudyError, match=problem):
        check_study(make_study(parameters))


def test_a_setting_without_a_value_of_its_own_may_be_searched() -> None:
    study = check_study(make_study({P0: RANGE, "training.precision": {"values": ["f32", "bf16"]}}))
    assert base_values(study, schedule_of(study))["training.precision"] is None


# --- fields of the schedule


def test_defaults_of_fields_are_parameters() -> None:
    study = check_study(make_study({P0: RANGE, "pruner_0.round_to": {"values": [1, 4]}}))
    assert base_values(study, schedule_of(study))["pruner_0.round_to"] == 1


@pytest.mark.parametrize("wanted", [{"values": [0.1, 1.0]}, {"value": 1.0}, {"min": 0.1, "max": 1.0}], ids=str)
def test_values_the_schedule_refuses_are_named(wanted: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"search.parameters: .*desired_sparsity must be in \[0, 1\), got 1.0"):
        check_study(make_study({P0: wanted, P1: RANGE}))


def test_what_is_pruned_must_be_removed() -> None:
    parameters = {P0: RANGE, "pruner_0.group_type": {"values": ["Filters", "Channels"]}}
    with pytest.raises(
        StudyError, match=r"pruner_0.group_type: 'Channels' prunes channels, and no extension .* contract"
    ):
        check_study(make_study(parameters))
    schedule = make_schedule()
    schedule["extensions"]["thinner"]["thinning_func_str"] = "contract_model"
    assert check_study(make_study(parameters, schedule)).search.parameters.keys() == parameters.keys()


def test_a_stage_cannot_keep_more_blocks_than_it_has() -> None:
    schedule = make_schedule()
    schedule["pruners"]["block_remover"] = {"class": "ResidualBlockRemover", "blocks": 1}
    schedule["policies"].insert(0, {"pruner": {"instance_name": "block_remover"}, "epochs": [0]})
    check_against_model(make_study({P0: RANGE, "block_remover.blocks": {"min": 0, "max": 2}}, schedule))
    with pytest.raises(StudyError, match=r"block_remover.blocks: 'blocks' cannot keep 3 residual blocks .*: it has 2"):
        check_against_model(make_study({P0: RANGE, "block_remover.blocks": {"min": 0, "max": 3}}, schedule))


# --- counts


def test_counts_become_the_sparsities_that_leave_them() -> None:
    study = check_study(make_study({P0: {"counts": [8, 2, 4]}, P1: RANGE}))
    assert study.search.parameters[P0] == Choice(values=(0.0, 0.5, 0.8))
    assert check_study(study) == study


@pytest.mark.parametrize(
    ("parameters", "fields", "problem"),
    [
        ({P0: {"counts": [4, 9]}}, {}, r"pruner_0.desired_sparsity: its layers have 8 filters, of which \[9\] cannot"),
        ({"pruner_0.round_to": {"counts": [4, 8]}}, {}, r"pruner_0.round_to: 'counts' are for the 'desired_sparsity'"),
        ({"training.lr": {"counts": [4, 8]}}, {}, r"training.lr: 'counts' are for the 'desired_sparsity'"),
        (
            {P0: {"counts": [4, 8]}, "pruner_0.group_type": {"values": ["Filters", "Channels"]}},
            {},
            r"'counts' are for .* but always the same",
        ),
        (
            {P0: {"counts": [3, 2]}},
            {"group_type": "Channels", "weights": ["conv1.weight", "blocks.0.conv1.weight"]},
            "its layers have 3 and 8 filters, so that counts mean different things",
        ),
    ],
    ids=["too many", "another field", "no field", "which side", "two sizes"],
)
def test_counts_of_nothing_are_refused(parameters: dict[str, Any], fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(StudyError, match=problem):
        check_study(make_study(parameters, make_schedule(**fields)))


def write_staircase(path: Path, *, counts: tuple[int, ...] = (2, 4, 8), model: str = STUDY["model"]) -> Path:
    """Write a staircase of which every second step is worth having."""
    ratio = make_latency().latency_ratio
    points = tuple(
        StaircasePoint(num_kept=count, desired_sparsity=1 - count / 8, latency_ratio=ratio, is_noisy=False)
        for count in counts
    )
    steps = tuple(
        Step(fewest=count, most=count, latency_ratio=0.9, standard_error=0.01, is_worthwhile=i % 2 == 0)
        for i, count in enumerate(counts)
    )
    staircase = Staircase(
        model=model,
        input_size=SIZE,
        layers=("blocks.0.conv1",),
        num_filters=8,
        device=make_device(),
        points=points,
        steps=steps,
    )
    path.write_text(staircase.model_dump_json())
    return path


def test_counts_of_a_measured_staircase(tmp_path: Path) -> None:
    path = write_staircase(tmp_path / "staircase.json")
    study = check_study(make_study({P0: {"counts": str(path)}}))
    assert study.search.parameters[P0] == Choice(values=(0.0, 0.8))


def test_a_staircase_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    def check(path: Path) -> None:
        check_study(make_study({P0: {"counts": str(path)}}))

    with pytest.raises(StudyError, match=r"other.json: was measured of 'other', not of 'python:tests"):
        check(write_staircase(tmp_path / "other.json", model="other"))
    with pytest.raises(StudyError, match=r"flat.json: finds 1 numbers of filters worth having"):
        check(write_staircase(tmp_path / "flat.json", counts=(8,)))
    with pytest.raises(StudyError, match=r"nowhere.json: cannot be read: No such file"):
        check(tmp_path / "nowhere.json")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(StudyError, match=r"no.json: is no staircase; 'secateur staircase' writes one"):
        check(tmp_path / "no.json")


# --- a person's own point


def test_points_are_completed() -> None:
    study = make_study({P0: RANGE, P1: {"value": 0.25}, "training.lr": {"min": 0.01, "max": 1.0}})
    point = complete_point(study, schedule_of(study), {P0: 0.95})
    assert point == {P0: 0.95, P1: 0.25, "training.lr": 0.05}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"pruner_0.sparsity": 0.5},
            r"'pruner_0.sparsity' is no parameter of 'tiny'. Did you mean 'pruner_0.desired_s",
        ),
        ({P0: 1.5}, r"desired_sparsity must be in \[0, 1\), got 1.5"),
        ({P0: "half"}, r"desired_sparsity .* got 'half'"),
    ],
)
def test_wrong_points_are_refused(values: dict[str, Any], problem: str) -> None:
    study = make_study(BOTH)
    with pytest.raises(StudyError, match=problem):
        complete_point(study, schedule_of(study), values)


def test_points_need_every_value() -> None:
    study = make_study({P0: RANGE, "training.precision": {"values": ["f32", "bf16"]}})
    with pytest.raises(StudyError, match=r"the study itself has no value of 'training.precision': give one"):
        complete_point(study, schedule_of(study), {P0: 0.5})


# --- one network


def test_sparsities_that_remove_equally_many_are_one_network() -> None:
    study = make_study(BOTH)
    assert footprint(study, **{P0: 0.5, P1: 0.0}) == footprint(study, **{P0: 0.6, P1: 0.12})
    assert footprint(study, **{P0: 0.5, P1: 0.0}) != footprint(study, **{P0: 0.63, P1: 0.0})
    assert footprint(study, **{P0: 0.5, P1: 0.0}) != footprint(study, **{P0: 0.0, P1: 0.5})


def test_rounded_counts_are_compared() -> None:
    study = make_study({P0: RANGE, "pruner_0.round_to": {"values": [1, 4]}})
    to_four = {P0: 0.7, "pruner_0.round_to": 4}
    assert footprint(study, **to_four) == footprint(study, **{P0: 0.5, "pruner_0.round_to": 1})
    assert footprint(study, **to_four) != footprint(study, **{P0: 0.7, "pruner_0.round_to": 1})


def test_what_removes_nothing_is_one_network_whatever_its_kind() -> None:
    study = make_study({P0: RANGE, "pruner_0.group_type": {"values": ["Filters", "Channels"]}})
    kinds = [{P0: s, "pruner_0.group_type": kind} for s in (0.1, 0.5) for kind in ("Filters", "Channels")]
    filters, channels, more_filters, more_channels = (footprint(study, **kind) for kind in kinds)
    assert filters == channels
    assert len({filters, more_filters, more_channels}) == 3


def test_training_makes_a_difference() -> None:
    study = make_study({P0: RANGE, "training.epochs": {"min": 1, "max": 3}})
    assert footprint(study, **{P0: 0.5, "training.epochs": 1}) != footprint(study, **{P0: 0.5, "training.epochs": 2})


def test_what_acts_more_than_once_goes_by_its_value() -> None:
    schedule = make_schedule()
    schedule["policies"][0]["epochs"] = [0, 1]
    study = make_study(BOTH, schedule, training={"epochs": 2})
    assert footprint(study, **{P0: 0.5, P1: 0.0}) != footprint(study, **{P0: 0.6, P1: 0.0})
    short = make_study(BOTH, schedule, training={"epochs": 1})
    assert footprint(short, **{P0: 0.5, P1: 0.0}) == footprint(short, **{P0: 0.6, P1: 0.0})


SPARSITIES = st.floats(0.0, 0.99)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(SPARSITIES, SPARSITIES), min_size=2, max_size=2), st.integers(0, 9))
def test_equal_footprints_are_equal_networks(pairs: list[tuple[float, float]], seed: int) -> None:
    study = make_study(BOTH, training={"epochs": 0})
    schedule = schedule_of(study)
    identify = footprints_of(study, schedule)
    points = [dict(zip((P0, P1), pair, strict=True)) for pair in pairs]
    kept = []
    for point in points:
        torch.manual_seed(seed)
        engine = ScheduleEngine(
            TinyNetwork(NUM_CLASSES),
            schedule.with_parameters(point),
            torch.zeros(1, 3, SIZE, SIZE),
            base_lr=0.1,
            num_epochs=0,
        )
        engine.prune_before_training()
        kept.append(engine.kept)
    assert (identify(points[0]) == identify(points[1])) == (kept[0] == kept[1])


def test_training_takes_every_default() -> None:
    assert training_with(Training(), {"training.distillation": 1}).distillation is True


def test_unknown_fields_are_named() -> None:
    study = make_study({"pruner_0.side": {"values": ["a", "b"]}})
    with pytest.raises(ScheduleError, match=r"no parameter 'pruner_0.side'"):
        base_values(study, schedule_of(study))
