from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.errors import ThinningError
from secateur.models.resnet_cifar import BasicBlock
from secateur.thinning import all_filters, count_macs, count_params, thin, trace_channel_spaces
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


INDICES = {n: st.lists(st.integers(0, n - 1), min_size=1, max_size=n - 1, unique=True) for n in (6, 12, 16, 32)}


@settings(max_examples=25)
@given(INDICES[6], INDICES[12], st.integers(0, 9))
def test_silent_channels_go_without_a_trace(first: list[int], second: list[int], seed: int) -> None:
    model = make_network(is_flat=False, seed=seed)
    silence(model, "first.conv2", 1, first)
    silence(model, "second.conv2", 1, second)
    expected_NK = model(IMAGES_NCHW)
    kept = thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "channels")
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
    kept = thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters")
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
    thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters")
    assert (model(IMAGES_NCHW) - expected_NK).abs().max() <= 1e-5 * expected_NK.abs().max()
    assert model.get_submodule("head").in_features == 12 - len(indices)


def test_the_constant_that_a_normalisation_makes_goes_with_the_filter() -> None:
    model = make_network(is_flat=False)
    silence(model, "first.conv1", 0, [0])
    norm = model.get_submodule("first.bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.bias.data[0] = 9.0
    masked_NK = model(IMAGES_NCHW)
    thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters")
    assert not torch.allclose(model(IMAGES_NCHW), masked_NK, atol=1e-4)


def test_a_bias_goes_with_its_filter() -> None:
    model = make_network(is_flat=False)
    coupled = ("stem", "first.conv2")
    for layer in coupled:
        silence(model, layer, 0, [1, 4])
    kept = thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters")
    stem = model.get_submodule("stem")
    assert isinstance(stem, nn.Conv2d)
    assert stem.bias is not None
    assert (stem.out_channels, len(stem.bias)) == (4, 4)
    assert [kept[name].tolist() for name in coupled] == [[0, 2, 3, 5]] * 2
    assert model(IMAGES_NCHW).isfinite().all()


def test_without_anything_silent_nothing_changes() -> None:
    model = make_network(is_flat=False)
    before = copy.deepcopy(model.state_dict())
    assert thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters") == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_networks_input_keeps_its_channels() -> None:
    model = make_network(is_flat=False)
    silence(model, "stem", 1, [0])
    expected_NK = model(IMAGES_NCHW)
    assert thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "channels") == {}
    assert torch.equal(model(IMAGES_NCHW), expected_NK)


def test_parameters_stay_the_same_objects() -> None:
    model = make_network(is_flat=False)
    before = dict(model.named_parameters())
    silence(model, "first.conv1", 0, [0])
    thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters")
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
        thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters" if dim == 0 else "channels")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Branching(nn.Module):
    """Cannot be traced: what it does depends on values that no tensor carries."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        raise RuntimeError("no forward today")


class WithOwnParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        scaled: Tensor = self.conv(images_NCHW) * self.scale
        return scaled


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Branching(), "cannot be traced for thinning: RuntimeError: no forward today"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=2)),
            r"Layer '1' is a grouped convolution \(2 groups\), which is not thinned yet",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4)), r"Layer '1' \(PReLU\) is not thinned yet"),
        (WithOwnParameter(), "Layer 'conv': its filters reach a parameter that no layer owns"),
    ],
    ids=["untraceable", "groups", "prelu", "parameter"],
)
@pytest.mark.filterwarnings("ignore:Unwrapped parameters")
def test_what_is_not_thinned_is_named(model: nn.Module, problem: str) -> None:
    with pytest.raises(ThinningError, match=problem):
        trace_channel_spaces(model, IMAGES_NCHW[:1])


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
    assert thin(model, trace_channel_spaces(model, IMAGES_NCHW[:1]), "filters")["first.conv1"].tolist() == [
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
