"""What a W&B sweep configuration says, as a study."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secateur.config.located import Located, parse_yaml
from secateur.config.study import complete_study
from secateur.errors import StudyError
from secateur.schedule import Schedule, parse_schedule
from secateur.wandb_sweep import Translation, translate
from tests.flows.tiny import SCHEDULE

TEXT = """\
program: pipeline.py
method: bayes
metric: {goal: minimize, name: Latency}
parameters:
  pruner_0: {min: 0.0, max: 0.99}
  pruner_1: {min: 0.0, max: 0.99}
  pruner_1_group_type: {values: [Channels, Filters]}
"""


def make_schedule() -> Schedule:
    document = copy.deepcopy(SCHEDULE)
    document["extensions"]["thinner"] |= {"arch": "resnet20_cifar", "dataset": "cifar10"}
    return parse_schedule(Located(value=document, source="base.yaml"))


def translated(text: str, **options: Any) -> Translation:
    sweep = parse_yaml(text, "sweep.yaml", StudyError)
    return translate(sweep, make_schedule(), "base.yaml", name="My sweep", **options)


def parameter(entry: dict[str, Any], **top: Any) -> tuple[Any, tuple[str, ...]]:
    """Return what becomes of one parameter, and the notes about it."""
    text = yaml.safe_dump({"metric": {"name": "top1", "goal": "maximize"}, "parameters": {"pruner_0": entry}, **top})
    translation = translated(text)
    (found,) = translation.study.value["search"]["parameters"].values()
    return found, tuple(note for note in translation.notes if "parameter" in note and "taken" not in note)


def test_the_dissertations_second_file() -> None:
    translation = translated(TEXT)
    assert translation.study.value == {
        "name": "my-sweep",
        "model": "resnet20_cifar",
        "dataset": "cifar10",
        "schedule": "base.yaml",
        "search": {
            "method": "bayes",
            "parameters": {
                "pruner_0.desired_sparsity": {"min": 0.0, "max": 0.99},
                "pruner_1.desired_sparsity": {"min": 0.0, "max": 0.99},
                "pruner_1.group_type": {"values": ["Channels", "Filters"]},
            },
            "objectives": {"latency_ms": "minimize"},
        },
    }
    assert translation.notes == (
        "Nothing is retrained yet (training.epochs is 0): 'training' in the study says how.",
        "sweep.yaml:1: 'program' has no counterpart in a study and was left out.",
        "sweep.yaml:3: metric 'Latency' was taken for latency_ms.",
        "sweep.yaml:5: parameter 'pruner_0' was taken for pruner_0.desired_sparsity.",
        "sweep.yaml:6: parameter 'pruner_1' was taken for pruner_1.desired_sparsity.",
        "sweep.yaml:7: parameter 'pruner_1_group_type' was taken for pruner_1.group_type.",
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"value": 0.5}, {"value": 0.5}),
        ({"value": "x", "distribution": "constant"}, {"value": "x"}),
        ({"values": [0.1, 0.2]}, {"values": [0.1, 0.2]}),
        ({"values": [0.1]}, {"value": 0.1}),
        ({"min": 1, "max": 9}, {"min": 1, "max": 9}),
        ({"min": 1, "max": 9, "distribution": "int_uniform"}, {"min": 1, "max": 9}),
        ({"min": 0.1, "max": 0.9, "distribution": "log_uniform_values"}, {"min": 0.1, "max": 0.9, "log": True}),
        (
            {"min": -2, "max": 0, "distribution": "log_uniform"},
            {"min": math.exp(-2), "max": 1.0, "log": True},
        ),
    ],
    ids=str,
)
def test_every_kind_of_parameter(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parameter(entry) == (expected, ())


@pytest.mark.parametrize(
    ("entry", "expected", "note"),
    [
        ({"min": 0.0, "max": 0.9, "q": 0.3}, {"values": [0.0, 0.3, 0.6, 0.9]}, "multiples of 0.3 became 'values'."),
        ({"min": 8, "max": 33, "q": 8, "distribution": "q_uniform"}, {"values": [8, 16, 24, 32]}, "multiples of 8"),
        (
            {"min": 1, "max": 3, "distribution": "q_log_uniform_values"},
            {"values": [1, 2, 3]},
            "multiples of 1 became 'values', all equally likely.",
        ),
        ({"values": [1, 2], "probabilities": [0.3, 0.7]}, {"values": [1, 2]}, "equally likely here; 'probabilities'"),
    ],
    ids=str,
)
def test_what_is_read_otherwise_is_noted(entry: dict[str, Any], expected: dict[str, Any], note: str) -> None:
    found, notes = parameter(entry)
    assert found == expected
    assert len(notes) == 1
    assert note in notes[0]


def test_a_grid_of_whole_numbers_has_steps_of_one() -> None:
    assert parameter({"min": 1, "max": 9}, method="grid")[0] == {"min": 1, "max": 9, "step": 1}


def test_settings_of_training_and_nested_parameters() -> None:
    text = TEXT + "  learning_rate: {min: 0.001, max: 0.1}\n  net: {parameters: {epochs: {value: 3}}}\n"
    translation = translated(text + "run_cap: 90\nname: Latency first\n")
    study = translation.study.value
    assert study["search"]["parameters"]["training.lr"] == {"min": 0.001, "max": 0.1}
    assert study["search"]["parameters"]["training.epochs"] == {"value": 3}
    assert (study["budget"], study["name"]) == ({"trials": 90}, "latency-first")
    assert not any("Nothing is retrained" in note for note in translation.notes)


def test_other_names_are_told() -> None:
    text = TEXT.replace("pruner_0:", "layer_1:")
    with pytest.raises(
        StudyError, match=r"sweep.yaml:5: parameter 'layer_1' is neither in base.yaml nor .* --rename la"
    ):
        translated(text)
    study = translated(text, renamed={"layer_1": "pruner_0"}).study.value
    assert "pruner_0.desired_sparsity" in study["search"]["parameters"]
    with pytest.raises(StudyError, match=r"--rename layer_2: .* no such parameter. Did you mean 'layer_1'"):
        translated(text, renamed={"layer_1": "pruner_0", "layer_2": "pruner_1"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace("Latency", "FPS"), r"sweep.yaml:3: metric 'FPS' is not measured here. There are latency_ratio,"),
        (TEXT.replace("Latency", "Top-2"), r"metric 'Top-2' is not measured here. Did you mean 'top"),
        (TEXT.replace("min: 0.0, ", "mu: 1, ", 1), r"sweep.yaml:5: parameter 'pruner_0': 'mu' is not understood"),
        (
            TEXT.replace("min: 0.0, max: 0.99", "distribution: normal, mu: 0.5", 1),
            r"'pruner_0': expected 'value', .* got \{'distribution': 'normal', 'mu': 0.5\}",
        ),
        (TEXT.replace("max: 0.99", "max: 0.99, distribution: cauchy", 1), r"distribution 'cauchy' is not known"),
        (TEXT.replace("max: 0.99", "max: 0.99, q: 0", 1), r"expected a 'q' above 0 that leaves 1000 values at most"),
        (TEXT.replace("{min: 0.0, max: 0.99}", "0.5", 1), r"parameter 'pruner_0': expected a mapping, got 0.5"),
        (TEXT + "  pruner_0.desired_sparsity: {value: 0.1}\n", "sweep.yaml:8: .* which another one is already"),
        ("method: grid\n", r"'parameters': expected a mapping of names"),
    ],
)
def test_what_has_no_counterpart_is_named(text: str, problem: str) -> None:
    with pytest.raises(StudyError, match=problem):
        translated(text)


def test_problems_are_told_at_once() -> None:
    with pytest.raises(StudyError) as caught:
        translated(TEXT.replace("Latency", "FPS").replace("pruner_0:", "x:").replace("pruner_1:", "y:"))
    assert len(caught.value.problems) == 3


def test_a_schedule_without_a_model_needs_one() -> None:
    sweep = parse_yaml(TEXT, "sweep.yaml", StudyError)
    schedule = parse_schedule(Located(value=copy.deepcopy(SCHEDULE), source="base.yaml"))
    with pytest.raises(StudyError, match=r"base.yaml: no extension says 'arch': give --model"):
        translate(sweep, schedule, "base.yaml", name="x", dataset="digits")
    study = translate(sweep, schedule, "base.yaml", name="x", model="m", dataset="digits").study.value
    assert (study["model"], study["dataset"]) == ("m", "digits")


def test_no_metric_means_latency() -> None:
    translation = translated(TEXT.replace("metric: {goal: minimize, name: Latency}\n", ""))
    assert translation.study.value["search"]["objectives"] == {"latency_ratio": "minimize"}
    assert "sweep.yaml:1: no metric is named, so latency_ratio is minimized." in translation.notes


def test_places_of_the_sweep_are_kept() -> None:
    text = TEXT.replace("[Channels, Filters]", "[Channels, Filters, true]").replace("bayes", "annealing")
    with pytest.raises(StudyError) as caught:
        complete_study(translated(text).study, (), None)  # type: ignore[arg-type]
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == ["sweep.yaml:2", "sweep.yaml:7"]


BOUNDS = st.tuples(st.floats(0.01, 0.4), st.floats(0.5, 0.95))


@given(BOUNDS, st.sampled_from(["uniform", "log_uniform_values", "q_uniform"]))
def test_every_translation_is_a_study(bounds: tuple[float, float], distribution: str) -> None:
    entry = {"min": bounds[0], "max": bounds[1], "distribution": distribution, "q": 0.01}
    text = yaml.safe_dump({"method": "random", "parameters": {"pruner_0": entry}})
    study = complete_study(translated(text).study, (), None)  # type: ignore[arg-type]
    assert list(study.search.parameters) == ["pruner_0.desired_sparsity"]
