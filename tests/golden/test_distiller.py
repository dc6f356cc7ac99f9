"""Pruned and thinned as the real Distiller does it: kept filters, sizes, and what the networks compute."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from secateur.config.located import Located
from secateur.errors import ScheduleError
from secateur.methods import count_removed
from secateur.models import create_model, load_weights
from secateur.pruning import ScheduleEngine
from secateur.results import Scores
from secateur.schedule import check_fit, parse_schedule
from secateur.thinning import Network, count_macs, count_params, rebuild, save_network
from tests.golden.npinit import initialise
from tests.golden.regenerate import NETWORKS, ORIGINALS, compact, load_golden, original_vectors

IMAGES_NCHW = torch.from_numpy(np.random.RandomState(0).randn(4, 3, 32, 32).astype(np.float32))
TOLERANCE = 1e-5
"""Of max |logit|."""

# fmt: off
CHECK_VALUES = [  # first element and sha256, as the golden README has them
    ("resnet20_cifar", "conv1.weight", -0.21894582, "f11bba73d261ce07"),
    ("resnet20_cifar", "layer2.0.downsample.0.weight", 0.08301448, "266f95427c56ba45"),
    ("resnet20_cifar", "layer3.0.downsample.1.running_var", 1.3022459, "d7c59e9e299611f4"),
    ("resnet20_cifar", "fc.bias", 0.063193552, "c1aada84ad7e35be"),
    ("resnet56_cifar", "conv1.weight", -0.21894582, "f11bba73d261ce07"),
    ("resnet56_cifar", "layer2.0.downsample.0.weight", -0.38570157, "1d975ba1f8caa982"),
    ("resnet56_cifar", "layer3.0.downsample.1.running_var", 1.1614685, "6c8d7c9c926a7a93"),
    ("resnet56_cifar", "fc.bias", 0.083190851, "f5c4c62410cc4592"),
]
# fmt: on

COPIES = [case for network in NETWORKS for case in load_golden(f"distiller_{network}")]


@lru_cache(maxsize=4)
def dense_network(model: str) -> nn.Module:
    arch, _, weights = model.partition("@")
    module = create_model(arch, 10).eval()
    if weights == "npinit":
        initialise(module)
    else:
        load_weights(module, ORIGINALS / "weights" / f"{arch}_{weights}.npz")
    return module


@pytest.mark.parametrize(("arch", "name", "first", "digest"), CHECK_VALUES, ids=lambda value: str(value))
def test_the_recipe_gives_the_golden_networks(arch: str, name: str, first: float, digest: str) -> None:
    tensor = dense_network(f"{arch}@npinit").state_dict()[name]
    assert tensor.flatten()[0].item() == pytest.approx(first, rel=1e-7)
    assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("case", COPIES, ids=lambda case: case["id"])
def test_pruned_as_distiller_does(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the golden vectors (../shared/golden/distiller) are not here")
@pytest.mark.parametrize("path", original_vectors(), ids=lambda path: path.stem)
def test_pruned_as_distiller_does_in_every_visible_vector(path: Path) -> None:
    check(compact(json.loads(path.read_text())))


def check(case: Mapping[str, Any]) -> None:
    arch = case["model"].partition("@")[0]
    module = copy.deepcopy(dense_network(case["model"]))
    schedule = parse_schedule(Located(value=case["schedule"], source=case["id"]))
    check_fit(schedule, {name: tuple(p.shape) for name, p in module.named_parameters()}, arch, 1)
    assert_figures(module, case["dense"])

    engine = ScheduleEngine(module, schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=1)
    engine.on_epoch_begin(0)
    masked = {name: set(indices) for name, (_, indices) in engine.masked.items()}
    pruned = {pruner for e in schedule.of_kind("pruner") for pruner in e.entry.arguments.weights}  # type: ignore[union-attr]
    assert pruned == set(case["kept"])
    for name, kept in case["kept"].items():
        gone = masked.pop(name.removeprefix("module."), set())
        assert gone.isdisjoint(kept), name
        assert len(gone) + len(kept) == len(gone | set(kept)), name
    assert not masked

    engine.on_minibatch_begin(0, 0, 1)
    assert_figures(module, case["thinned"])
    if "shapes" in case:
        expected = {name.removeprefix("module."): tuple(shape) for name, shape in case["shapes"].items()}
        assert {name: tuple(t.shape) for name, t in module.state_dict().items() if name in expected} == expected
    network = rebuild(save_network(Network(module=module, arch=arch, num_classes=10, kept=engine.kept)))
    assert torch.equal(network.module(IMAGES_NCHW), module(IMAGES_NCHW))


def assert_figures(module: nn.Module, expected: Mapping[str, Any]) -> None:
    assert count_params(module) == expected["num_params"]
    assert count_macs(module, IMAGES_NCHW) == expected["macs"]
    assert_logits(module(IMAGES_NCHW).detach(), expected["logits"])


def assert_logits(logits_NK: Tensor, expected: Sequence[Sequence[float]]) -> None:
    expected_NK = torch.tensor(expected)
    assert (logits_NK - expected_NK).abs().max() <= TOLERANCE * expected_NK.abs().max()


def test_as_many_are_removed_as_distiller_removes() -> None:
    wrong = [(n, f, count) for n, f, count in load_golden("distiller_counts") if count_removed(n, f) != count]
    assert not wrong


@pytest.mark.parametrize("case", load_golden("distiller_learning_rates"), ids=lambda case: case["id"])
def test_learning_rates_fall_as_distillers(case: dict[str, Any]) -> None:
    module, expected = nn.Linear(1, 1), case["lr_used_in_epoch"]
    schedule = parse_schedule(Located(value=case["schedule"], source=case["id"]))
    engine = ScheduleEngine(module, schedule, IMAGES_NCHW, base_lr=case["lr0"], num_epochs=len(expected))
    optimizer = SGD(module.parameters(), lr=case["lr0"])
    rates = []
    for epoch in range(len(expected)):
        engine.on_epoch_begin(epoch)
        engine.on_minibatch_begin(epoch, 0, 1)
        rates.append(optimizer.param_groups[0]["lr"])
        engine.on_epoch_end(epoch, optimizer, Scores(top1=0, top5=0, loss=0, num_images=1))
    assert rates == pytest.approx(expected, rel=1e-6)


def test_the_dissertations_learning_rate_jumps_in_epoch_11() -> None:
    thesis = next(case for case in load_golden("distiller_learning_rates") if case["id"] == "thesis_exp")
    rates = thesis["lr_used_in_epoch"]
    assert rates[:11] == [0.1] * 11
    assert rates[11:13] == pytest.approx([0.1 * 0.95**11, 0.1 * 0.95**12])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"class": "MultiStepMultiGammaLR", "milestones": [1], "gammas": [0.1]}, "there is no lr_scheduler class"),
        ({"class": "PolynomialLR", "T_max": 9, "power": 2}, "does not accept 'T_max'"),
        ({"class": "ReduceLROnPlateau", "mode": "min"}, "there is no lr_scheduler class"),
    ],
    ids=lambda value: value["class"] if isinstance(value, dict) else "",
)
def test_learning_rates_of_other_classes_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScheduleError, match=problem):
        parse_schedule(Located(value={"lr_schedulers": {"l": fields}, "policies": []}, source="s"))
