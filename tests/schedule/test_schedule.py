from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secateur import resources
from secateur.config.located import Located
from secateur.errors import ScheduleError
from secateur.methods import RankedStructurePruner
from secateur.schedule import Schedule, load_schedule, parse_schedule
from tests.schedule.documents import TEXT, parse_text


def problems_of(text: str) -> list[str]:
    with pytest.raises(ScheduleError) as caught:
        parse_text(text)
    return list(caught.value.problems)


@pytest.mark.parametrize("path", sorted(resources.find("schedules/compression").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_schedules_are_right(path: Path) -> None:
    assert load_schedule(path).of_kind("pruner")


def test_learning_rates_come_last_and_the_rest_as_listed() -> None:
    schedule = parse_text(TEXT)
    assert [policy.entry.name for policy in schedule.policies] == ["one", "thinner", "falling"]
    assert list(schedule.policies[2].epochs) == list(range(9))
    assert schedule.policies[0].entry.place == "s.yaml:3"


def test_both_forms_of_epochs() -> None:
    schedule = parse_text(
        TEXT.replace("starting_epoch: 0", "starting_epoch: 2").replace("frequency: 1", "frequency: 3")
    )
    assert list(schedule.policies[2].epochs) == [2, 5, 8]
    both = TEXT.replace("starting_epoch: 0", "epochs: [7, 3, 3]")  # the list wins
    assert parse_text(both).policies[2].epochs == (7, 3, 3)


@pytest.mark.parametrize(
    ("group_type", "side"), [("Filters", "filters"), ("3D", "filters"), ("Channels", "channels"), ("Rows", "channels")]
)
def test_distiller_has_two_names_for_each_side(group_type: str, side: str) -> None:
    pruner = parse_text(TEXT.replace("group_type: Filters", f"group_type: {group_type}", 1)).entries["one"].arguments
    assert isinstance(pruner, RankedStructurePruner)
    assert pruner.side == side


def test_one_weight_needs_no_list() -> None:
    pruner = parse_text(TEXT.replace("[conv1.weight]", "conv1.weight")).entries["one"].arguments
    assert isinstance(pruner, RankedStructurePruner)
    assert pruner.weights == ("conv1.weight",)


@pytest.mark.parametrize("text", ["0.0", "0", "0.99", "'0.5'", "5e-1", "false"])
def test_sparsities_that_are_fractions(text: str) -> None:
    parse_text(TEXT.replace("desired_sparsity: 0.5", f"desired_sparsity: {text}", 1))


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("1.2", "must be in [0, 1), got 1.2."),
        ("1.0", "must be in [0, 1), got 1.0."),
        ("1", "must be in [0, 1), got 1."),
        ("-0.1", "must be in [0, 1), got -0.1."),
        (".nan", "must be in [0, 1), got nan."),
        (".inf", "must be in [0, 1), got inf."),
        ("true", "must be in [0, 1), got True."),
        ("'1.5'", "must be in [0, 1), got '1.5'."),
        ("12e-1", "must be in [0, 1), got '12e-1'."),
        ("half", "input should be a valid number, unable to parse string as a number, got 'half'."),
        ("[0.5]", "input should be a valid number, got [0.5]."),
        ("null", "input should be a valid number, got None."),
    ],
)
def test_sparsities_that_are_none(text: str, got: str) -> None:
    (problem,) = problems_of(TEXT.replace("desired_sparsity: 0.5", f"desired_sparsity: {text}", 1))
    assert problem == f"s.yaml:3: pruner 'one': desired_sparsity {got}"


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        (
            "weights: [conv1.weight]",
            "weigths: [conv1.weight]",
            "3: pruner 'one': unknown argument 'weigths'. Did you me",
        ),
        ("weights: [conv1.weight]", "weights: []", "3: pruner 'one': weights value should have at least 1 item"),
        ("weights: [conv1.weight]", "weights: [1]", "3: pruner 'one': weights input should be a valid string, got 1."),
        (", weights: [conv1.weight]", "", "s.yaml:3: pruner 'one': 'weights' is missing."),
        (
            "group_type: Filters",
            "group_type: Blocks",
            "3: pruner 'one': kwargs: {block_shape: [r, d, 1, 1]} belongs to 'group_type: Blocks', and only to it.",
        ),
        (
            "desired_sparsity: 0.5",
            "desired_sparsity: 0.5, group_dependency: leader",
            "group_dependency input should be 'L",
        ),
        (
            "class: L1Ranked",
            "class: L1Rnked",
            "there is no pruner class 'L1RnkedStructureParameterPruner'. Did you mean 'L",
        ),
        (
            "class: L1RankedStructureParameterPruner",
            "class: FilterRemover",
            "there is no pruner class 'FilterRemover'. It is a class of extensions.",
        ),
        (
            "class: L1RankedStructureParameterPruner",
            "class: 3",
            "3: pruner 'one': expected a mapping with a 'class', got",
        ),
        ("class: L1RankedStructureParameterPruner, ", "", "3: pruner 'one': expected a mapping with a 'class', got"),
        (
            "class: ExponentialLR",
            "class: ExponentalLR",
            "6: lr_scheduler 'falling': there is no lr_scheduler class 'Expon",
        ),
        (
            "class: L1RankedStructureParameterPruner",
            "class: BernoulliFilterPruner",
            "3: pruner 'one': BernoulliFilterPruner is not supported: it scales what it keeps, and",
        ),
        ("class: ExponentialLR", "class: _LRScheduler", "there is no lr_scheduler class '_LRScheduler'."),
        ("gamma: 0.9", "gama: 0.9", "6: lr_scheduler 'falling': ExponentialLR does not accept 'gama'; it takes gamma."),
        (", gamma: 0.9", "", "s.yaml:6: lr_scheduler 'falling': ExponentialLR needs 'gamma'."),
        ("gamma: 0.9", "gamma: fast", "6: lr_scheduler 'falling': ExponentialLR gives no learning rates: TypeError"),
        (
            "gamma: 0.9",
            "gamma: .nan",
            "6: lr_scheduler 'falling': ExponentialLR gives the learning rate nan for epoch 1.",
        ),
        ("gamma: 0.9", "gamma: -1", "ExponentialLR gives the learning rate -0.1 for epoch 1."),
        ("ExponentialLR, gamma: 0.9", "MultiStepLR, milestones: 5", "MultiStepLR gives no learning rates: TypeError"),
        (
            "remove_filters",
            "remove_filter",
            "8: extension 'thinner': thinning_func_str input should be 'remove_filters'",
        ),
        ("arch: any", "model: any", "s.yaml:8: extension 'thinner': unknown argument 'model'."),
        (
            "class: FilterRemover",
            "class: FilterRemove",
            "there is no extension class 'FilterRemove'. Did you mean 'Filter",
        ),
        ("version: 1", "pruner: {}", "s.yaml:1: unknown section 'pruner'. Did you mean 'pruners'?"),
        ("version: 1", "regularizers: {a: {}}", "1: regularizer 'a': expected a mapping with a 'class', got {}."),
        (
            "version: 1",
            "quantizers: {a: {class: WRPNQuantizer, bits_weights: 8}}",
            "1: quantizer 'a': WRPNQuantizer is not supported: secateur does not quantize: take",
        ),
        ("instance_name: one", "instance_name: onee", "14: policy: pruner 'onee' is not defined. Did you mean 'one'?"),
        (
            "instance_name: one",
            "instance_name: thinner",
            "14: policy: pruner 'thinner' is not defined. Known: one, two.",
        ),
        ("instance_name: one", "instance_name: [one]", "14: policy: pruner ['one'] is not defined."),
        (
            "{instance_name: one}",
            "{instance_name: one, args: {levels: 3}}",
            "14: policy of 'one': levels input should be a valid dictionary, got 3.",
        ),
        (
            "{instance_name: one}",
            "{instance_name: one, args: 5}",
            "14: policy of 'one': input should be a valid dictionary or instance of PruningOptions, got 5.",
        ),
        (
            "{instance_name: one}",
            "{instance_name: one, args: {mask_gradient: true}}",
            "14: policy of 'one': unknown argument 'mask_gradient'. Did you mean 'mask_gradients'?",
        ),
        (
            "{instance_name: one}",
            "{instance_name: one, args: {mask_gradients: true}}",
            "14: policy of 'one': mask_gradients needs 'mask_on_forward_only: true' beside it.",
        ),
        (
            "{instance_name: one}",
            "{instance_name: one, args: {levels: {'*': 0.5}}}",
            "14: policy of 'one': 'levels' are for SparsityLevelParameterPruner, not for L1Ranked",
        ),
        (
            "{instance_name: falling}",
            "{instance_name: falling, args: {a: 1}}",
            "10: policy of 'falling': unknown argument 'a'.",
        ),
        (
            "pruner: {instance_name: one}",
            "pruner: one",
            "14: policy: expected pruner: {instance_name: ...}, got 'one'.",
        ),
        ("pruner: {instance_name: one}", "pruner:", "14: policy: expected pruner: {instance_name: ...}, got None."),
        (
            "pruner: {instance_name: one}",
            "prunner: {}",
            "14: policy: expected one of pruner, regularizer, quantizer, lr_scheduler, extension, got",
        ),
        (
            "- pruner: {instance_name: one}\n  epochs: [0]",
            "- 3",
            "14: policy: expected one of pruner, regularizer, quantizer, lr_sch",
        ),
        ("epochs: [0]", "epochs: []", "15: 'epochs': expected a list of numbers, got []."),
        ("epochs: [0]", "epochs: 0", "15: 'epochs': expected a list of numbers, got 0."),
        ("epochs: [0]", "epochs: [a]", "15: 'epochs': expected a list of numbers, got ['a']."),
        (
            "epochs: [0]",
            "epoch: [0]",
            "14: policy: expected 'epochs', or integers for starting_epoch, ending_epoch, freq",
        ),
        (
            "frequency: 1",
            "",
            "10: policy: expected 'epochs', or integers for starting_epoch, ending_epoch, frequency; chec",
        ),
        (
            "ending_epoch: 9",
            "ending_epoch: 0",
            "expected 0 <= starting_epoch < ending_epoch and 0 < frequency <= their",
        ),
        (
            "frequency: 1",
            "frequency: 10",
            "10: policy: expected 0 <= starting_epoch < ending_epoch and 0 < frequency <=",
        ),
        ("frequency: 1", "frequency: 0", "their distance, got 0, 9, 0."),
        ("starting_epoch: 0", "starting_epoch: -1", "their distance, got -1, 9, 1."),
        ("thinner: {", "one: {", "8: extension 'one': pruner at s.yaml:3 has the same name; rename one."),
    ],
    ids=lambda value: value[:25],
)
def test_what_is_wrong_is_named_with_its_line(was: str, becomes: str, problem: str) -> None:
    assert was in TEXT
    found = problems_of(TEXT.replace(was, becomes, 1))
    assert any(problem in one for one in found), found
    assert all(one.startswith("s.yaml:") for one in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version: 1\n", "'policies': expected a list (it may be empty), got None."),
        ("policies: {}\n", "s.yaml:1: 'policies': expected a list (it may be empty), got {}."),
        ("policies: []\npruners: 5\n", "s.yaml:2: 'pruners': expected a mapping of names to entries, got 5."),
        ("policies: []\npruners: {a: 5}\n", "s.yaml:2: pruner 'a': expected a mapping with a 'class', got 5."),
        ("policies: [{pruner: {instance_name: a}, epochs: [0]}]\npruners: 5\n", "policy: pruner 'a' is not defined."),
    ],
)
def test_sections_of_the_wrong_kind_are_named(text: str, problem: str) -> None:
    assert any(problem in one for one in problems_of(text))


def test_all_problems_are_told_at_once() -> None:
    text = (
        TEXT.replace("0.5", "1.5").replace("gamma", "gama").replace("epochs: [0]", "epochs: 0", 1) + "quantizer: {}\n"
    )
    assert [problem.partition(": ")[0] for problem in problems_of(text)] == [
        "s.yaml:18",
        "s.yaml:3",
        "s.yaml:4",
        "s.yaml:6",
        "s.yaml:6",
        "s.yaml:15",
    ]


def test_empty_sections_and_no_policies_are_fine() -> None:
    assert parse_text("pruners:\nregularizers: {}\nquantizers:\npolicies: []\n").policies == ()


def test_names_that_yaml_takes_for_numbers() -> None:
    schedule = parse_text(TEXT.replace("one:", "1:").replace("name: one", "name: 1"))
    assert [policy.entry.name for policy in schedule.of_kind("pruner")] == ["1"]


# --- parameters


def test_base_values() -> None:
    schedule = parse_text(TEXT.replace("desired_sparsity: 0.5", "desired_sparsity: 5e-1", 1))
    assert schedule.base_value("one.desired_sparsity") == 0.5
    assert schedule.base_value("two.group_type") == "Filters"
    assert schedule.base_value("falling.gamma") == 0.9


@pytest.mark.parametrize(
    ("parameter", "hint"),
    [
        ("one.desired_sparsty", "Did you mean 'one.desired_sparsity'?"),
        ("three.desired_sparsity", "Did you mean 'two.desired_sparsity'?"),
        ("one.weights", "Known: falling.gamma, one.desired_sparsity"),
        ("one.class", ""),
        ("one", ""),
        ("", ""),
    ],
)
def test_a_parameter_that_is_not_there(parameter: str, hint: str) -> None:
    schedule = parse_text(TEXT)
    for call in (schedule.base_value, lambda name: schedule.with_parameters({name: 0.5})):
        with pytest.raises(ScheduleError, match=f"s.yaml: the schedule has no parameter '{parameter}'") as caught:
            call(parameter)
        assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("parameter", "value", "problem"),
    [
        ("one.desired_sparsity", 1.0, r"pruner 'one': desired_sparsity must be in \[0, 1\), got 1.0"),
        ("one.desired_sparsity", float("nan"), r"must be in \[0, 1\), got nan"),
        ("one.group_type", 0.5, "group_type input should be 'Filters'"),
        ("falling.gamma", "x", "ExponentialLR gives no learning rates"),
    ],
)
def test_a_parameter_out_of_range(parameter: str, value: float | str, problem: str) -> None:
    with pytest.raises(ScheduleError, match=problem):
        parse_text(TEXT).with_parameters({parameter: value})


@given(st.floats(0, 1, exclude_max=True), st.floats(0.01, 1))
def test_parameters_change_what_they_name_and_nothing_else(sparsity: float, gamma: float) -> None:
    schedule = parse_text(TEXT)
    before = copy.deepcopy(schedule.document)
    changed = schedule.with_parameters({"two.desired_sparsity": sparsity, "falling.gamma": gamma})
    assert schedule.document == before
    expected: Any = copy.deepcopy(before)
    expected["pruners"]["two"]["desired_sparsity"] = sparsity
    expected["lr_schedulers"]["falling"]["gamma"] = gamma
    assert changed.document == expected
    assert changed.base_value("two.desired_sparsity") == sparsity
    assert changed.entries["one"].arguments == schedule.entries["one"].arguments
    assert [(p.entry.name, list(p.epochs)) for p in changed.policies] == [
        (p.entry.name, list(p.epochs)) for p in schedule.policies
    ]


def test_an_entrys_name_may_have_dots() -> None:
    schedule = parse_text(TEXT.replace("one:", "layer1.0:").replace("name: one", "name: layer1.0"))
    assert schedule.with_parameters({"layer1.0.desired_sparsity": 0.25}).base_value("layer1.0.desired_sparsity") == 0.25


# --- round trip

NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,6}", fullmatch=True)
EPOCHS = st.one_of(
    st.fixed_dictionaries({"epochs": st.lists(st.integers(0, 99), min_size=1, max_size=3)}),
    st.tuples(st.integers(0, 20), st.integers(1, 20), st.integers(1, 20))
    .filter(lambda form: form[2] <= form[1])
    .map(lambda form: {"starting_epoch": form[0], "ending_epoch": form[0] + form[1], "frequency": form[2]}),
)
PRUNERS = st.fixed_dictionaries(
    {
        "class": st.sampled_from(["L1RankedStructureParameterPruner", "L2RankedStructureParameterPruner"]),
        "group_type": st.sampled_from(["Filters", "3D", "Channels", "Rows"]),
        "desired_sparsity": st.floats(0, 1, exclude_max=True),
        "weights": st.lists(NAMES.map("{}.weight".format), min_size=1, max_size=3),
    },
    optional={"group_dependency": st.just("Leader")},
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    pruners = draw(st.dictionaries(NAMES, PRUNERS, min_size=1, max_size=3))
    policies = [
        {"pruner": {"instance_name": name}, **draw(EPOCHS)}
        for name in draw(st.lists(st.sampled_from(sorted(pruners)), max_size=4))
    ]
    return {"version": 1, "pruners": pruners, "policies": policies}


@given(documents())
def test_a_schedule_survives_yaml(document: dict[str, Any]) -> None:
    def read(text: str) -> Schedule:
        return parse_schedule(Located(value=yaml.safe_load(text), source="s.yaml"))

    schedule = read(yaml.safe_dump(document, sort_keys=False))
    assert schedule.document == document
    assert read(yaml.safe_dump(dict(schedule.document), sort_keys=False)) == schedule
    assert len(schedule.policies) == len(document["policies"])
