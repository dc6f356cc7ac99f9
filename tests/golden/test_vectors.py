"""Pruned and thinned as the real Distiller does it: kept filters, sizes, and what the networks compute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.config.located import Located
from secateur.methods import count_removed
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule, check_fit, parse_schedule
from secateur.thinning import Network, count_macs, count_params, rebuild, save_network
from tests.golden.networks import IMAGES_NCHW, assert_logits, dense_network, network
from tests.golden.regenerate import COPIED_VECTORS, ORIGINALS, compact, copies, load_golden, original_vectors

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

COPIES = [case for name in COPIED_VECTORS for case in load_golden(f"distiller_{name}")]


@pytest.mark.parametrize(("arch", "name", "first", "digest"), CHECK_VALUES, ids=lambda value: str(value))
def test_the_recipe_gives_the_golden_networks(arch: str, name: str, first: float, digest: str) -> None:
    tensor = dense_network(f"{arch}@npinit").state_dict()[name]
    assert tensor.flatten()[0].item() == pytest.approx(first, rel=1e-7)
    assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("case", COPIES, ids=lambda case: case["id"])
def test_pruned_as_distiller_does(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("path", original_vectors(), ids=lambda path: path.stem)
def test_pruned_as_distiller_does_in_every_visible_vector(path: Path) -> None:
    check(compact(json.loads(path.read_text())))


@pytest.mark.slow
@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the golden data (../shared/golden/distiller) are not here")
def test_the_copies_are_the_originals() -> None:
    for name, content in copies().items():
        assert load_golden(name) == content, f"{name}: see `pytest --regen-golden`"


@pytest.mark.slow
@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the golden data (../shared/golden/distiller) are not here")
def test_near_ties_are_ranked_as_distiller_does() -> None:
    """The smallest gaps at a threshold: wide enough for an order that does not depend on how sums are rounded."""
    gaps = [row["rel_gap"] for row in json.loads((ORIGINALS / "near_ties.json").read_text())]
    assert min(gap for gap in gaps if gap > 0) > 1e-6  # 0: followers of a leader; double precision resolves 1e-15


def check(case: Mapping[str, Any]) -> None:
    arch = case["model"].partition("@")[0]
    module = network(case["model"])
    schedule = parse_schedule(Located(value=case["schedule"], source=case["id"]))
    check_fit(schedule, {name: tuple(p.shape) for name, p in module.named_parameters()}, arch, 1)
    assert_figures(module, case["dense"])

    engine = ScheduleEngine(module, schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=1)
    engine.on_epoch_begin(0)
    assert kept(engine, schedule, case["kept"]) == case["kept"]
    masked = network(case["model"])
    for name, mask in engine.masks.items():
        masked.get_parameter(name).data.mul_(mask)
    assert_logits(masked(IMAGES_NCHW), case["masked"])

    engine.on_minibatch_begin(0, 0, 1)
    assert_figures(module, case["thinned"])
    if "shapes" in case:
        expected = {name.removeprefix("module."): tuple(shape) for name, shape in case["shapes"].items()}
        assert {name: tuple(t.shape) for name, t in module.state_dict().items() if name in expected} == expected
    if arch != "plain20_cifar":  # known to the tests alone
        again = rebuild(save_network(Network(module=module, arch=arch, num_classes=10, kept=engine.kept)))
        assert torch.equal(again.module(IMAGES_NCHW), module(IMAGES_NCHW))


def kept(engine: ScheduleEngine, schedule: Schedule, names: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the filters, or channels, that stay of each layer a schedule names."""
    pruners = {name: e for e in schedule.entries.values() for name in getattr(e.arguments, "weights", ())}
    found = {}
    for name in names:
        dim = 0 if getattr(pruners[name].arguments, "side", "filters") == "filters" else 1
        parameter = name.removeprefix("module.")
        mask = engine.masks.get(parameter, torch.ones_like(engine._model.get_parameter(parameter), dtype=torch.bool))
        found[name] = rows_with_any(mask, dim)
    return found


def rows_with_any(mask: Tensor, dim: int = 0) -> list[int]:
    indices: list[int] = mask.transpose(0, dim).flatten(1).any(1).nonzero().flatten().tolist()
    return indices


def assert_figures(module: nn.Module, expected: Mapping[str, Any]) -> None:
    assert count_params(module) == expected["num_params"]
    assert count_macs(module, IMAGES_NCHW) == expected["macs"]
    assert_logits(module(IMAGES_NCHW), expected["logits"])


def test_as_many_are_removed_as_distiller_removes() -> None:
    wrong = [(n, f, count) for n, f, count in load_golden("distiller_counts") if count_removed(n, f) != count]
    assert not wrong


@pytest.mark.parametrize("case", load_golden("distiller_prefix_equivalence"))
def test_the_prefix_makes_no_difference(case: str) -> None:
    """Nor does it where Distiller silently prunes nothing: on a network without the prefix."""
    group = {"r56": "resnet56_cifar@npinit", "r20": "resnet20_cifar@npinit"}[case[:3]]
    (vector, *_) = [vector for vector in COPIES if vector["model"] == group]
    plain = json.loads(json.dumps(vector["schedule"]).replace("module.", ""))
    masks = []
    for document in (vector["schedule"], plain):
        schedule = parse_schedule(Located(value=document, source=case))
        engine = ScheduleEngine(network(group), schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=1)
        engine.on_epoch_begin(0)
        masks.append(dict(engine.masks))
    assert masks[0].keys() == masks[1].keys() != set()
    assert all(torch.equal(mask, masks[1][name]) for name, mask in masks[0].items())
