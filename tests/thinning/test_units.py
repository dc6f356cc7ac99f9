from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import ThinningError
from secateur.methods.ranking import rounded
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule
from secateur.thinning import trace_channel_spaces, unprunable, whole_units
from tests.schedule.documents import THINNER, pruner, schedule_of
from tests.thinning.test_thinning import Grouped

EXAMPLE_NCHW = torch.zeros(1, 3, 8, 8)


def mask_of(weight: Tensor, dim: int, gone: list[int]) -> Tensor:
    mask = torch.ones_like(weight, dtype=torch.bool)
    return mask.index_fill(dim, torch.tensor(gone, dtype=torch.int64), value=False)


@pytest.mark.parametrize(
    ("gone", "whole"),
    [
        ([0, 1], [0, 1]),
        ([0, 2, 3], [2, 3]),
        ([1, 2, 4, 6], [0, 1, 2, 3]),  # each group has lost one: the smallest by L1 norm go
        ([5], []),
    ],
)
def test_of_a_grouped_convolution_whole_groups_are_masked(gone: list[int], whole: list[int]) -> None:
    model = Grouped(4)
    model.expand.weight.data = torch.arange(1.0, 9.0)[:, None, None, None].expand(8, 3, 1, 1).clone()
    weights = dict(model.named_parameters())
    masks = {"expand.weight": mask_of(model.expand.weight, 0, gone)}
    spaces = trace_channel_spaces(model, EXAMPLE_NCHW)
    fitted = whole_units(masks, weights, spaces, "filters")["expand.weight"]
    assert torch.equal(fitted, mask_of(model.expand.weight, 0, whole))


def test_layers_that_share_a_mask_go_on_sharing_it() -> None:
    model = Grouped(2)
    spaces = trace_channel_spaces(model, EXAMPLE_NCHW)
    names = ("expand.weight", "grouped.weight")
    weights = dict(model.named_parameters())
    weights["expand.weight"].data[:4], weights["grouped.weight"].data[4:] = 0.1, 0.1
    fitted = whole_units({n: mask_of(weights[n], 0, [0, 1, 4, 5]) for n in names}, weights, spaces, "filters")
    kept = [fitted[name].flatten(1).any(1).tolist() for name in names]
    assert kept[0] == kept[1]
    assert sum(kept[0]) == 4


def test_behind_a_flatten_the_columns_of_whole_channels_are_masked() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    spaces = trace_channel_spaces(model, EXAMPLE_NCHW)
    weights = dict(model.named_parameters())
    masks = {"3.weight": mask_of(weights["3.weight"], 1, [0, 4, 5, 6, 9])}
    fitted = whole_units(masks, weights, spaces, "channels")["3.weight"]
    assert torch.equal(fitted, mask_of(weights["3.weight"], 1, [4, 5, 6, 7]))


def test_other_masks_stay_as_they_are() -> None:
    model = Grouped(8)
    masks = {f"{name}.weight": mask_of(model.get_submodule(name).weight, 0, [1]) for name in ("project", "expand")}
    fitted = whole_units(masks, dict(model.named_parameters()), trace_channel_spaces(model, EXAMPLE_NCHW), "filters")
    assert all(fitted[name] is mask for name, mask in masks.items())


# --- in a schedule


def engine_of(model: nn.Module, schedule: Schedule, *, skip_unprunable: bool = False) -> ScheduleEngine:
    return ScheduleEngine(model, schedule, EXAMPLE_NCHW, base_lr=0.1, num_epochs=0, skip_unprunable=skip_unprunable)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("excite", "they only scale what 'expand' makes, and go with its filters"),
        ("project", "they are the network's output"),
    ],
)
def test_a_layer_that_cannot_be_thinned_is_refused_or_left_alone(layer: str, reason: str) -> None:
    model = Grouped(4).eval()
    schedule = schedule_of((pruner(["expand.weight", f"{layer}.weight"], 0.5), [0]), (THINNER, [0]))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert unprunable(trace_channel_spaces(model, EXAMPLE_NCHW), "filters")[layer] == reason
    with pytest.raises(ThinningError, match=re.escape(f"Layer '{layer}' cannot lose filters: {reason}.")):
        engine_of(model, schedule).prune_before_training()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    engine = engine_of(model, schedule, skip_unprunable=True)
    engine.prune_before_training()
    assert engine.skipped == {f"{layer}.weight": reason}
    assert (len(engine.kept["expand"]), len(engine.kept["grouped"]), model.grouped.groups) == (4, 4, 2)


@pytest.mark.parametrize(
    ("count", "num_structures", "multiple", "expected"),
    [
        (0, 16, 8, 0),
        (7, 16, 8, 0),
        (8, 16, 8, 8),
        (15, 16, 8, 8),
        (15, 16, 1, 15),
        (9, 10, 4, 6),
        (1, 6, 8, 0),
    ],
)
def test_what_stays_is_a_multiple(count: int, num_structures: int, multiple: int, expected: int) -> None:
    assert rounded(count, num_structures, multiple) == expected


def test_a_schedule_rounds_what_stays() -> None:
    model = Grouped(8).eval()
    engine = engine_of(model, schedule_of((pruner(["expand.weight"], 0.6, round_to=4), [0]), (THINNER, [0])))
    engine.prune_before_training()
    assert len(engine.kept["expand"]) == 4
