from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import ScheduleError, ThinningError
from secateur.models import create_model
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule, check_fit
from secateur.thinning import (
    Network,
    choose_blocks,
    count_macs,
    count_params,
    find_residual_blocks,
    measure_change_without,
    rebuild,
    remove_blocks,
    save_network,
    spaces_without,
    trace_channel_spaces,
)
from secateur.thinning.blocks import mean_abs_weight
from tests.schedule.documents import THINNER, pruner, schedule_of

IMAGES_NCHW = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
RESNET20_BLOCKS = ("layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2")


@pytest.fixture
def resnet20() -> nn.Module:
    torch.manual_seed(0)
    return create_model("resnet20_cifar", 10).eval()


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet20_cifar", RESNET20_BLOCKS),
        ("torchvision:resnet18", ("layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1")),
        (
            "torchvision:resnext50_32x4d",
            tuple(f"layer{s}.{b}" for s, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for b in range(1, n)),
        ),
        ("torchvision:mobilenet_v2", tuple(f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16))),
        (
            "torchvision:convnext_tiny",
            tuple(f"features.{s}.{b}" for s, n in ((1, 3), (3, 3), (5, 9), (7, 3)) for b in range(n)),
        ),
        ("torchvision:squeezenet1_1", ()),
        ("vgg11_bn_cifar", ()),
    ],
)
def test_blocks_with_an_identity_for_a_shortcut_are_found(name: str, blocks: tuple[str, ...]) -> None:
    model = create_model(name, 10).train()
    assert find_residual_blocks(model, torch.zeros(1, 3, 64, 64)) == blocks
    assert model.training


def test_the_weakest_blocks_of_a_stage_go(resnet20: nn.Module) -> None:
    for name, scale in (("layer1.0", 1.0), ("layer1.1", 0.1), ("layer1.2", 0.5), ("layer3.1", 2.0), ("layer3.2", 2.0)):
        for layer in ("conv1", "conv2"):
            nn.init.constant_(resnet20.get_submodule(f"{name}.{layer}").weight, -scale)
    assert mean_abs_weight(resnet20.get_submodule("layer1.2")) == pytest.approx(0.5)
    chosen = choose_blocks(resnet20, RESNET20_BLOCKS, {"layer1": 1, "layer3": 1, "layer2.2": 0, "layer2.1": 1})
    assert chosen == ("layer1.1", "layer1.2", "layer2.2", "layer3.1")


def test_how_much_predictions_change_without_a_block(resnet20: nn.Module) -> None:
    with torch.no_grad():
        for parameter in resnet20.get_submodule("layer2.1").parameters():
            nn.init.zeros_(parameter)
        resnet20.get_parameter("layer3.2.bn2.weight").mul_(30)  # the convolutions' weights stay as they are
    before = copy.deepcopy(resnet20.state_dict())
    resnet20.get_submodule("layer1").train()
    batches = IMAGES_NCHW.split(1)
    change = measure_change_without(resnet20, RESNET20_BLOCKS, batches)
    assert resnet20.get_submodule("layer1").training and not resnet20.training
    assert all(torch.equal(value, before[name]) for name, value in resnet20.state_dict().items())
    assert change["layer2.1"] == 0
    assert max(change, key=lambda name: change[name]) == "layer3.2"
    resnet20.requires_grad_(requires_grad=False)
    full = resnet20.eval()(IMAGES_NCHW).softmax(1)
    remove_blocks(resnet20, ["layer3.2"], IMAGES_NCHW)
    without = resnet20(IMAGES_NCHW).softmax(1)
    expected = (full * (full / without).log()).sum(1).mean()  # the definition of the divergence
    assert change["layer3.2"] == pytest.approx(float(expected), rel=1e-3)


def test_what_is_told_to_be_important_stays(resnet20: nn.Module) -> None:
    importance = {name: float(i) for i, name in enumerate(reversed(RESNET20_BLOCKS))}
    keep = {"layer1": 1, "layer2.1": 0, "layer3": 2}
    chosen = choose_blocks(resnet20, RESNET20_BLOCKS, keep, importance.__getitem__)
    assert chosen == ("layer1.1", "layer1.2", "layer2.1")
    importance |= {"layer1.2": math.nan}
    assert choose_blocks(resnet20, RESNET20_BLOCKS, {"layer1": 1}, importance.__getitem__) == ("layer1.0", "layer1.1")


def test_nobody_is_asked_where_nothing_is_chosen(resnet20: nn.Module) -> None:
    def fail(name: str) -> float:
        raise AssertionError(name)

    assert choose_blocks(resnet20, RESNET20_BLOCKS, {"layer1": 3, "layer2.1": 0}, fail) == ("layer2.1",)


@pytest.mark.parametrize(
    ("keep", "problem"),
    [
        ({"layer4": 1}, "'layer4' holds no residual block whose shortcut is the identity. Did you mean 'layer"),
        ({"layer2.0": 0}, "'layer2.0' holds no residual block"),
        ({"layer2": 3}, "'layer2' cannot keep 3 residual blocks whose shortcut is the identity: it has 2"),
    ],
)
def test_blocks_that_are_not_there_are_named(resnet20: nn.Module, keep: dict[str, int], problem: str) -> None:
    with pytest.raises(ThinningError, match=problem):
        choose_blocks(resnet20, RESNET20_BLOCKS, keep)


def test_without_a_block_the_network_computes_what_it_does_with_the_block_silent(resnet20: nn.Module) -> None:
    silent = copy.deepcopy(resnet20)
    for parameter in silent.get_submodule("layer2.1").parameters():
        nn.init.zeros_(parameter)
    remove_blocks(resnet20, ["layer2.1"], IMAGES_NCHW)
    assert torch.equal(resnet20(IMAGES_NCHW), silent(IMAGES_NCHW))
    assert isinstance(resnet20.get_submodule("layer2.1"), nn.Identity)


def test_a_block_whose_shortcut_is_no_identity_stays(resnet20: nn.Module) -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 1)

        def forward(self, features_NCHW: Tensor) -> Tensor:
            return 2 * features_NCHW + self.conv(features_NCHW)

    block = Doubling()
    assert isinstance(resnet20.layer1, nn.Sequential)
    resnet20.layer1[1] = block
    assert "layer1.1" not in find_residual_blocks(resnet20, IMAGES_NCHW)
    with pytest.raises(ThinningError, match=r"without layer1\.1 is not the one in which these blocks are silent"):
        remove_blocks(resnet20, ["layer1.1"], IMAGES_NCHW)
    assert resnet20.layer1[1] is block


def test_channel_spaces_follow(resnet20: nn.Module) -> None:
    before = trace_channel_spaces(resnet20, IMAGES_NCHW)
    remove_blocks(resnet20, ["layer1.0", "layer3.2"], IMAGES_NCHW)

    def described(spaces: Any) -> list[Any]:
        return sorted(sorted((kind, m.layer, m.units.tolist()) for kind, m in space.members()) for space in spaces)

    assert described(spaces_without(before, ["layer1.0", "layer3.2"])) == described(
        trace_channel_spaces(resnet20, IMAGES_NCHW)
    )


# --- in a schedule


def remover(**keep: Any) -> tuple[dict[str, Any], list[int]]:
    """Return a step of a schedule: entry and epochs."""
    return {"class": "ResidualBlockRemover", **keep}, [0]


def compressed(model: nn.Module, schedule: Schedule) -> Network:
    check_fit(schedule, {n: tuple(p.shape) for n, p in model.named_parameters()}, "resnet20_cifar", 0)
    engine = ScheduleEngine(model, schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=0)
    engine.prune_before_training()
    return Network(
        module=model.eval(),
        arch="resnet20_cifar",
        num_classes=10,
        kept=engine.kept,
        removed_blocks=engine.removed_blocks,
    )


def test_depth_and_width_in_one_schedule(resnet20: nn.Module) -> None:
    before = (count_params(resnet20), count_macs(resnet20, IMAGES_NCHW))
    weights = [f"module.layer{s}.{b}.conv1.weight" for s in (1, 2, 3) for b in (0, 1, 2)]
    leader = {**pruner(weights[:3], 0.5), "group_dependency": "Leader"}
    steps = ((leader, [0]), (pruner(weights[3:], 0.5), [0]), (THINNER, [0]))
    network = compressed(resnet20, schedule_of(remover(**{"layer1": 1, "module.layer3": 0}), *steps))
    assert set(network.removed_blocks) > {"layer3.1", "layer3.2"}
    assert len(network.removed_blocks) == 4
    assert len(network.kept["layer2.1.conv1"]) == 16
    assert network.kept["layer3.1.conv1"] == ()
    assert (count_params(resnet20), count_macs(resnet20, IMAGES_NCHW)) < before
    again = rebuild(save_network(network))
    assert torch.equal(again.module(IMAGES_NCHW), resnet20(IMAGES_NCHW))
    assert (again.removed_blocks, dict(again.kept)) == (network.removed_blocks, dict(network.kept))
    assert save_network(again) == save_network(network)
    resnet20.train()(IMAGES_NCHW).sum().backward()


def test_a_study_tunes_how_many_blocks_stay(resnet20: nn.Module) -> None:
    schedule = schedule_of(remover(layer1=3, **{"layer2.1": 1}))
    assert (schedule.base_value("p0.layer1"), schedule.base_value("p0.layer2.1")) == (3, 1)
    changed = schedule.with_parameters({"p0.layer1": 2, "p0.layer2.1": 0})
    assert len(compressed(resnet20, changed).removed_blocks) == 2


@pytest.mark.parametrize(
    ("keep", "problem"),
    [
        ({}, "needs stages .or blocks. and how many"),
        ({"layer1": -1}, "layer1 must be a number of blocks that stay"),
        ({"layer1": 1.5}, "layer1 must be a number of blocks that stay"),
        ({"layer1": "many"}, "layer1 must be a number of blocks that stay"),
        ({"layr1": 1}, "stage 'layr1' is not in resnet20_cifar. Did you mean 'layer1'"),
    ],
)
def test_what_a_schedule_says_wrongly_is_located(resnet20: nn.Module, keep: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScheduleError, match=f"s.yaml.*p0.*{problem}"):
        compressed(resnet20, schedule_of(remover(**keep)))
