"""Epochs of policies, quantizers and arguments that Distiller ignores: `more_behaviours.json`, by id."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.config.located import Located
from secateur.errors import ScheduleError
from secateur.schedule import Schedule, parse_schedule
from tests.golden.regenerate import load_golden
from tests.schedule.documents import pruner

GOLDEN = load_golden("distiller_more_behaviours")
ELSEWHERE = {
    "resume_epoch_9_without_initial_lr",
    "resume_epoch_9_with_initial_lr",
    "resume_epoch_-1",
    "reapplying_recipe_is_idempotent",
    "fold_batchnorm_rank",
}
"""Not applicable (docs/distiller.md), or in another test."""

EPOCHS: dict[str, dict[str, Any]] = {
    "range_0_5_2": {"starting_epoch": 0, "ending_epoch": 5, "frequency": 2},
    "range_2_10_3": {"starting_epoch": 2, "ending_epoch": 10, "frequency": 3},
    "epochs_3_1_7_unsorted": {"epochs": [3, 1, 7]},
    "epochs_dup": {"epochs": [1, 1]},
}
_QUANTIZER = {"class": "WRPNQuantizer", "bits_weights": 8}
_REGULARIZER = {"class": "L1Regularizer", "reg_regims": {"conv1.weight": 0.1}}
_THINNER = {"class": "FilterRemover", "thinning_func_str": "remove_filters"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two_quantizers": ({"quantizers": {"p": _QUANTIZER, "q": _QUANTIZER}}, "quantizer 'p': WRPNQuantizer is not supp"),
    "one_quantizer_param_names": ({"quantizers": {"p": _QUANTIZER}}, "secateur does not quantize: take the entry"),
    "regularizer_policy_unknown_arg": ({"regularizers": {"p": _REGULARIZER}}, "policy of 'p': unknown argument 'foo'"),
    "extension_policy_args": ({"extensions": {"p": _THINNER}}, "policy of 'p': unknown argument 'foo'"),
    "user_given_name_is_overwritten_by_key": (
        {"pruners": {"p": {**pruner(["conv1.weight"]), "name": "other"}}},
        "pruner 'p': unknown argument 'name'",
    ),
    "epochs_float": (
        {"pruners": {"p": pruner(["conv1.weight"])}},
        r"'epochs': expected a list of numbers, got \[1.5\]",
    ),
}


def test_every_behaviour_is_looked_at() -> None:
    assert {*ELSEWHERE, *EPOCHS, *REFUSED, "same_extension_two_policies_metadata"} == set(GOLDEN)


def parse(sections: dict[str, Any], *policies: dict[str, Any]) -> Schedule:
    return parse_schedule(Located(value={**sections, "policies": list(policies)}, source="s"))


@pytest.mark.parametrize("name", EPOCHS)
def test_policies_fire_in_distillers_epochs(name: str) -> None:
    sections = {"pruners": {"p": pruner(["conv1.weight"])}}
    (policy,) = parse(sections, {"pruner": {"instance_name": "p"}, **EPOCHS[name]}).policies
    assert sorted(set(policy.epochs)) == GOLDEN[name]["ok"]["epochs"]
    assert policy.last_epoch + 1 == GOLDEN[name]["ok"]["meta"][0]["ending_epoch"]


def test_an_extension_may_have_two_policies() -> None:
    policies = [{"extension": {"instance_name": "p"}, "epochs": [epoch]} for epoch in (0, 5)]
    schedule = parse({"extensions": {"p": _THINNER}}, *policies)
    fired = [epoch for policy in schedule.policies for epoch in policy.epochs]
    assert fired == GOLDEN["same_extension_two_policies_metadata"]["ok"]["epochs"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_distiller_ignores_or_quantizes_is_refused(name: str) -> None:
    sections, problem = REFUSED[name]
    kind = next(iter(sections)).removesuffix("s")
    epochs = [1.5] if name == "epochs_float" else [1]
    with pytest.raises(ScheduleError, match=problem):
        parse(sections, {kind: {"instance_name": "p", "args": {"foo": 1}}, "epochs": epochs})
