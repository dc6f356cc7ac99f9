"""Filters ranked by activations, by gradients and at random, and in the scale of the normalisation that follows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import nn

from secateur.config.located import Located
from secateur.errors import ScheduleError
from secateur.methods import layer_of
from secateur.pruning import ScheduleEngine
from secateur.schedule import check_fit, parse_schedule
from tests.golden.networks import IMAGES_NCHW, assert_logits, network
from tests.golden.regenerate import load_golden
from tests.golden.test_vectors import rows_with_any

GOLDEN = load_golden("distiller_activation_gradient_random")
MODEL = "resnet20_cifar@pretrained"


def engine_of(document: dict[str, Any], seed: int = 0) -> tuple[nn.Module, ScheduleEngine]:
    module = network(MODEL)
    schedule = parse_schedule(Located(value=document, source="s"))
    return module, ScheduleEngine(module, schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=1, seed=seed)


def kept(engine: ScheduleEngine) -> dict[str, list[int]]:
    return {f"module.{name}": rows_with_any(mask) for name, mask in engine.masks.items()}


def pruner_of(class_name: str, **fields: Any) -> dict[str, Any]:
    pruner = {**GOLDEN["GradientRankedFilterPruner"]["schedule"]["pruners"]["p"], "class": class_name, **fields}
    return {"pruners": {"p": pruner}, "policies": [{"pruner": {"instance_name": "p"}, "epochs": [0]}]}


def test_filters_that_are_mostly_zero_go_as_distillers() -> None:
    case = GOLDEN["ActivationAPoZRankedFilterPruner"]
    module, engine = engine_of(case["schedule"])
    module(IMAGES_NCHW)
    assert engine._observer is not None
    for name, stats in case["stats"].items():
        found = engine._observer.activations[layer_of(name.removeprefix("module."))].zeros_percent
        assert found.tolist() == pytest.approx(stats["criterion"], abs=0.11)  # a position or so, near zero
    engine.on_epoch_begin(0)
    assert kept(engine) == {name: stats["kept"] for name, stats in case["stats"].items()}
    engine.on_minibatch_begin(0, 0, 1)
    assert_logits(module(IMAGES_NCHW), case["logits_masked"])


def test_filters_with_the_lowest_mean_activation_go() -> None:
    """Distiller removes those with the highest, against its documentation (docs/distiller.md)."""
    case = GOLDEN["ActivationMeanRankedFilterPruner"]
    module, engine = engine_of(case["schedule"])
    module(IMAGES_NCHW)
    assert engine._observer is not None
    for name, stats in case["stats"].items():
        found = engine._observer.activations[layer_of(name.removeprefix("module."))].mean
        assert found.tolist() == pytest.approx(stats["criterion"], rel=1e-4, abs=1e-6)
    engine.on_epoch_begin(0)
    for name, stats in case["stats"].items():
        strongest_first = sorted(range(len(stats["criterion"])), key=lambda i: -stats["criterion"][i])
        assert kept(engine)[name] == sorted(strongest_first[: len(stats["kept"])])
        assert kept(engine)[name] != stats["kept"]


def test_filters_with_the_lowest_gradients_go_as_distillers() -> None:
    case = GOLDEN["GradientRankedFilterPruner"]
    module, engine = engine_of(case["schedule"])
    F.cross_entropy(module(IMAGES_NCHW), torch.tensor([1, 2, 3, 4])).backward()
    engine.on_epoch_begin(0)
    assert kept(engine) == {name: stats["kept"] for name, stats in case["stats"].items()}
    engine.on_minibatch_begin(0, 0, 1)
    assert_logits(module(IMAGES_NCHW), case["logits_masked"])


def test_filters_drawn_at_random_are_distillers() -> None:
    _, engine = engine_of(pruner_of("RandomRankedFilterPruner"))
    engine.on_epoch_begin(0)
    assert kept(engine) == GOLDEN["RandomRankedFilterPruner"]["kept"]
    _, other = engine_of(pruner_of("RandomRankedFilterPruner"), seed=1)
    other.on_epoch_begin(0)
    assert kept(other) != kept(engine)


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.endswith("_Leader")])
def test_a_leader_is_for_rankings_by_weight(name: str) -> None:
    with pytest.raises(ScheduleError, match=r"s: pruner 'p': group_dependency input should be None, got 'Leader'."):
        engine_of(pruner_of(name.removesuffix("_Leader"), group_dependency="Leader"))


@pytest.mark.parametrize("name", ["GradientRankedFilterPruner", "ActivationAPoZRankedFilterPruner"])
def test_what_only_training_shows_is_not_there_in_epoch_0(name: str) -> None:
    shapes = {name: tuple(p.shape) for name, p in network(MODEL).named_parameters()}
    with pytest.raises(ScheduleError, match=r"s: pruner 'p' ranks by .*, which are not there in epoch 0"):
        check_fit(parse_schedule(Located(value=pruner_of(name), source="s")), shapes, MODEL, 2)


def test_batch_normalisation_counts_where_it_is_folded() -> None:
    """The golden ranking is of some layer of ResNet20 that has 32 filters; it is that of the folded weights."""
    expected = load_golden("distiller_more_behaviours")["fold_batchnorm_rank"]["ok"]["kept"]
    layers = [f"layer2.{i}.conv{j}" for i in range(3) for j in (1, 2)]
    document = pruner_of("L1RankedStructureParameterPruner", desired_sparsity=0.5)
    document["pruners"]["p"]["weights"] = [f"module.{layer}.weight" for layer in layers]
    document["policies"][0]["pruner"]["args"] = {"fold_batchnorm": True}
    _, engine = engine_of(document)
    engine.on_epoch_begin(0)
    assert expected in kept(engine).values()
