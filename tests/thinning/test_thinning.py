from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.errors import ThinningError
from secateur.models.resnet_cifar import BasicBlock
from secateur.thinning import all_filters, count_macs, count_params, thin, trace_channel_spaces, unprunable
from secateur.thinning.surgery import Side
from tests.training.networks import small_network

IMAGES_NCHW = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """A stem of 6 filters, a block that doubles them behind a 1x1 shortcut, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first = BasicBlock(6, 6, 1)
        self.second = BasicBlock(6, 12, 2)
        self.head = nn.Linear(12, 5)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.head(self.second(self.first(self.stem(images_NCHW))).mean(dim=(2, 3)))
        return logits_NK


def make_network(*, is_flat: bool, seed: int = 0) -> nn.Module:
    """Return a network with statistics that are not those of a fresh one."""
    torch.manual_seed(seed)
    model = small_network(5, seed) if is_flat else Residual()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean, module.running_var = (
                torch.randn(module.num_features),
                torch.rand(module.num_features) + 1,
            )
            nn.init.normal_(module.bias)
    return model.eval()


def silence(model: nn.Module, layer: str, dim: int, indices: Sequence[int]) -> None:
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    weight.data.index_fill_(dim, torch.tensor(indices), 0.0)


def silence_norm(model: nn.Module, layer: str, indices: Sequence[int]) -> None:
    """Let a normalisation make zeros of zeros, so that nothing is lost with the filter."""
    norm = model.get_submodule(layer)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean[list(indices)] = 0
    norm.bias.data[list(indices)] = 0


def thin_traced(model: nn.Module, side: Side) -> Mapping[str, Tensor]:
    return thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), side, IMAGES_NCHW[:1]).kept


INDICES = {n: st.lists(st.integers(0, n - 1), min_size=1, max_size=n - 1, unique=True) for n in (6, 12, 16, 32)}


@settings(max_examples=25)
@given(INDICES[6], INDICES[12], st.integers(0, 9))
def test_silent_channels_go_without_a_trace(first: list[int], second: list[int], seed: int) -> None:
    model = make_network(is_flat=False, seed=seed)
    silence(model, "first.conv2", 1, first)
    silence(model, "second.conv2", 1, second)
    expected_NK = model(IMAGES_NCHW)
    kept = thin_traced(model, "channels")
    assert (model(IMAGES_NCHW) - expected_NK).abs().max() <= 1e-5 * expected_NK.abs().max()
    assert kept["first.conv1"].tolist() == sorted(set(range(6)) - set(first))
    assert kept["second.conv1"].tolist() == sorted(set(range(12)) - set(second))
    assert model.get_submodule("second.bn1").num_features == 12 - len(second)


@settings(max_examples=25)
@given(INDICES[16], INDICES[32], st.integers(0, 9))
def test_silent_filters_go_without_a_trace_where_normalisations_keep_zeros(
    first: list[int], second: list[int], seed: int
) -> None:
    model = make_network(is_flat=True, seed=seed)
    for conv, norm, indices in (("0", "1", first), ("3", "4", second)):
        silence(model, conv, 0, indices)
        silence_norm(model, norm, indices)
    expected_NK = model(IMAGES_NCHW)
    kept = thin_traced(model, "filters")
    assert (model(IMAGES_NCHW) - expected_NK).abs().max() <= 1e-5 * expected_NK.abs().max()
    assert kept["3"].tolist() == sorted(set(range(32)) - set(second))
    linear = model.get_submodule("8")
    assert isinstance(linear, nn.Linear)
    assert linear.in_features == linear.weight.shape[1] == 16 * (32 - len(second))  # 4 x 4 pixels a channel


@settings(max_examples=15)
@given(INDICES[12], st.integers(0, 9))
def test_filters_behind_a_sum_go_together_with_their_shortcut(indices: list[int], seed: int) -> None:
    model = make_network(is_flat=False, seed=seed)
    for conv, norm in (("second.conv2", "second.bn2"), ("second.downsample.0", "second.downsample.1")):
        silence(model, conv, 0, indices)
        silence_norm(model, norm, indices)
    expected_NK = model(IMAGES_NCHW)
    thin_traced(model, "filters")
    assert (model(IMAGES_NCHW) - expected_NK).abs().max() <= 1e-5 * expected_NK.abs().max()
    assert model.get_submodule("head").in_features == 12 - len(indices)


def test_the_constant_that_a_normalisation_makes_goes_with_the_filter() -> None:
    model = make_network(is_flat=False)
    silence(model, "first.conv1", 0, [0])
    norm = model.get_submodule("first.bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.bias.data[0] = 9.0
    masked_NK = model(IMAGES_NCHW)
    thin_traced(model, "filters")
    assert not torch.allclose(model(IMAGES_NCHW), masked_NK, atol=1e-4)


def test_a_bias_goes_with_its_filter() -> None:
    model = make_network(is_flat=False)
    coupled = ("stem", "first.conv2")
    for layer in coupled:
        silence(model, layer, 0, [1, 4])
    kept = thin_traced(model, "filters")
    stem = model.get_submodule("stem")
    assert isinstance(stem, nn.Conv2d)
    assert stem.bias is not None
    assert (stem.out_channels, len(stem.bias)) == (4, 4)
    assert [kept[name].tolist() for name in coupled] == [[0, 2, 3, 5]] * 2
    assert model(IMAGES_NCHW).isfinite().all()


def test_without_anything_silent_nothing_changes() -> None:
    model = make_network(is_flat=False)
    before = copy.deepcopy(model.state_dict())
    assert thin_traced(model, "filters") == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_networks_input_keeps_its_channels() -> None:
    model = make_network(is_flat=False)
    silence(model, "stem", 1, [0])
    expected_NK = model(IMAGES_NCHW)
    assert thin_traced(model, "channels") == {}
    assert torch.equal(model(IMAGES_NCHW), expected_NK)


def test_parameters_stay_the_same_objects() -> None:
    model = make_network(is_flat=False)
    before = dict(model.named_parameters())
    silence(model, "first.conv1", 0, [0])
    thin_traced(model, "filters")
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    ("layer", "dim", "indices", "problem"),
    [
        (
            "second.conv2",
            0,
            [0],
            "Layers 'second.conv2' and 'second.downsample.0' share .* silent .1 and 0.*one pruner",
        ),
        ("first.conv1", 0, range(6), "All filters of layer 'first.conv1' are silent: nothing would be left of it"),
        ("first.conv2", 1, range(6), "All input channels of layer 'first.conv2' are silent: nothing would be left"),
        ("second.conv1", 1, [2], "different input channels of them are silent"),
    ],
)
def test_what_cannot_be_removed_is_named_and_left(layer: str, dim: int, indices: range, problem: str) -> None:
    model = make_network(is_flat=False)
    silence(model, layer, dim, indices)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ThinningError, match=problem):
        thin_traced(model, "filters" if dim == 0 else "channels")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Branching(nn.Module):
    """Cannot be traced: what it does depends on values that no tensor carries."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        raise RuntimeError("no forward today")


class WithOwnParameter(nn.Module):
    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_channels, 1, 1))

    def forward(self, features_NCHW: Tensor) -> Tensor:
        return features_NCHW * self.scale


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(ThinningError, match="cannot be traced for thinning: RuntimeError: no forward today"):
        trace_channel_spaces(Branching(), IMAGES_NCHW[:1])


class Normalised(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 1), norm, nn.Conv2d(4, 2, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.last(self.norm(self.conv(images_NCHW))).mean(dim=(2, 3))
        return logits_NK


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Normalised(nn.GroupNorm(2, 4)), "GroupNorm 'norm' normalises them together"),
        (Normalised(WithOwnParameter(4)), "they meet the parameter 'norm.scale', which no layer owns"),
        (Normalised(nn.InstanceNorm2d(4, affine=True)), "they meet layer 'norm', and InstanceNorm2d is not thinned"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()), "they are the network's output"),
        (
            nn.Sequential(nn.Conv2d(3, 6, 1, groups=3), nn.Conv2d(6, 2, 1)),
            "group by group, of an input that keeps its channels",
        ),
    ],
    ids=["group norm", "parameter", "instance norm", "output", "input"],
)
def test_what_cannot_lose_filters_is_named_with_its_reason(model: nn.Module, problem: str) -> None:
    spaces = trace_channel_spaces(model, IMAGES_NCHW[:1])
    layer = "conv" if isinstance(model, Normalised) else "0"
    assert problem in unprunable(spaces, "filters")[layer]
    silence(model, layer, 0, [0, 1])
    if "input" in problem:  # nothing but the convolution itself makes them
        return
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ThinningError, match=f"Layer '{layer}' cannot lose filters: .*{problem}"):
        thin(model, spaces, "filters", IMAGES_NCHW[:1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_prelu_is_thinned() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4), nn.Conv2d(4, 2, 1), nn.PReLU(), nn.Conv2d(2, 2, 1))
    silence(model, "0", 0, [1])
    silence(model, "2", 0, [0])
    assert {name: kept.tolist() for name, kept in thin_traced(model, "filters").items()} == {"0": [0, 2, 3], "2": [1]}
    assert (model[1].num_parameters, model[3].num_parameters) == (3, 1)


def test_a_constant_behind_a_silent_filter_is_noticed_and_the_network_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(256, 2))
    silence(model, "0", 0, [1])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ThinningError, match=r"without the filters that 0 should lose is not the one .* silent: max"):
        thin_traced(model, "filters")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert (model[0].out_channels, model[2].in_channels) == (4, 4)


class Grouped(nn.Module):
    """ResNeXt's and MobileNet's way: a grouped convolution between two others, with squeeze and excitation."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.project = nn.Conv2d(8, 2, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features_NCHW = self.grouped(torch.relu(self.norm(self.expand(images_NCHW))))
        scale_NC11 = torch.sigmoid(self.excite(torch.relu(self.squeeze(features_NCHW.mean((2, 3), keepdim=True)))))
        logits_NK: Tensor = self.project(features_NCHW * scale_NC11).mean(dim=(2, 3))
        return logits_NK


@pytest.mark.parametrize(
    ("groups", "layer", "silent", "kept"),
    [
        (8, "expand", [1, 2], [0, 3, 4, 5, 6, 7]),
        (8, "grouped", [1, 2], [0, 3, 4, 5, 6, 7]),
        (4, "expand", [2, 3, 4, 7], [0, 1, 4, 5, 6, 7]),
        (4, "grouped", [2, 3, 4, 7], [0, 1, 4, 5, 6, 7]),
        (2, "expand", [2, 3, 4, 7], None),
        (8, "excite", [1, 2], None),
    ],
)
def test_grouped_convolutions_lose_whole_groups(
    groups: int, layer: str, silent: list[int], kept: list[int] | None
) -> None:
    model = Grouped(groups).eval()
    silence(model, layer, 0, silent)
    found = thin_traced(model, "filters")
    if kept is None:
        assert found == {}
        return
    assert {name: indices.tolist() for name, indices in found.items()} == dict.fromkeys(
        ("expand", "grouped", "excite"), kept
    )
    assert (model.grouped.groups, model.grouped.in_channels) == (len(kept) * groups // 8, len(kept))
    assert (model.squeeze.in_channels, model.project.in_channels, model.norm.num_features) == (len(kept),) * 3


class Shared(nn.Module):
    """One convolution, applied to what two others make."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.shared = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        both_NCHW = torch.cat([self.shared(self.one(images_NCHW)), self.shared(self.other(images_NCHW))], dim=1)
        logits_NK: Tensor = self.last(both_NCHW).mean(dim=(2, 3))
        return logits_NK


def test_what_a_shared_layer_consumes_goes_together() -> None:
    model = Shared()
    silence(model, "one", 0, [1])
    with pytest.raises(ThinningError, match="Layers 'one' and 'other' share their channels"):
        thin_traced(model, "filters")
    silence(model, "other", 0, [1])
    assert sorted(thin_traced(model, "filters")) == ["one", "other"]
    assert model.shared.in_channels == 3


def test_a_shared_layers_filters_go_from_both_parts_of_a_concatenation() -> None:
    model = Shared()
    silence(model, "shared", 0, [0, 2])
    assert thin_traced(model, "filters")["shared"].tolist() == [1, 3]
    assert model.last.in_channels == 4


class PartlyShared(nn.Module):
    """A sum of what one convolution makes and of what two others make, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.upper, self.lower = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        parts_NCHW = torch.cat([self.upper(images_NCHW), self.lower(images_NCHW)], dim=1)
        logits_NK: Tensor = self.last(self.whole(images_NCHW) + parts_NCHW).mean(dim=(2, 3))
        return logits_NK


def test_layers_that_share_some_of_their_channels_need_agree_on_these_alone() -> None:
    model = PartlyShared()
    silence(model, "whole", 0, [1, 2])
    silence(model, "upper", 0, [1])
    with pytest.raises(ThinningError, match=r"different filters of them are silent .2 and 1"):
        thin_traced(model, "filters")
    silence(model, "lower", 0, [0])
    assert {name: kept.tolist() for name, kept in thin_traced(model, "filters").items()} == {
        "whole": [0, 3],
        "upper": [0],
        "lower": [1],
    }
    silence(model, "whole", 0, [0])
    silence(model, "upper", 0, [0])
    with pytest.raises(ThinningError, match="Nothing would be left of layer 'upper': prune less of it"):
        thin_traced(model, "filters")


def test_spaces_hold_for_the_thinned_network() -> None:
    model = make_network(is_flat=True)
    spaces = trace_channel_spaces(model, IMAGES_NCHW[:1])
    for left in (12, 8, 3):
        silence(model, "0", 0, range(model.get_submodule("0").weight.shape[0] - left))
        silence(model, "3", 0, [0, 1])
        thinned = thin(model, spaces, "filters", IMAGES_NCHW[:1])
        spaces = thinned.spaces
        assert model.get_submodule("0").out_channels == left
    again = trace_channel_spaces(model, IMAGES_NCHW[:1])
    assert [[(k, m.layer, m.units.tolist()) for k, m in s.members()] for s in spaces] == [
        [(k, m.layer, m.units.tolist()) for k, m in s.members()] for s in again
    ]


def test_tracing_leaves_the_model_alone() -> None:
    model = make_network(is_flat=False).train().requires_grad_(False)
    spaces = trace_channel_spaces(model, IMAGES_NCHW[:1])
    assert model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert sorted(layer for space in spaces for layer in (m.layer for m in space.producers)) == sorted(
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    )


def test_frozen_parameters_are_thinned_too() -> None:
    model = make_network(is_flat=False).requires_grad_(False)
    silence(model, "first.conv1", 0, [0])
    assert thin_traced(model, "filters")["first.conv1"].tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_counts() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))
    assert count_params(model) == (4 * 27 + 4) + 8 + (64 * 5 + 5)
    assert count_macs(model, IMAGES_NCHW) == 4 * 4 * 4 * 27 + 64 * 5  # for one image, biases and norms free
    assert model.training
    grouped = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    assert count_macs(nn.Sequential(grouped), torch.zeros(1, 4, 8, 8)) == 8 * 8 * 4 * 9
    assert all_filters(model) == {"0": (0, 1, 2, 3)}
