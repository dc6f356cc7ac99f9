"""Our kernels against torch's batch normalisation in f64, for every way a network may use it."""

from __future__ import annotations

import copy
import shutil
import warnings
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import densenet121, mobilenet_v3_small, resnet18

from secateur.training import (
    NoCallbacks,
    TrainingSettings,
    batch_norm,
    kernels,
    loop,
    recalibrate_bn,
    recalibration,
    train,
)
from secateur.training.batch_norm import fast_batch_norm, fast_batch_norm_on
from tests.training.networks import Unchanged, some_images

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler called cc")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_kernels_compile(dtype: torch.dtype) -> None:
    """Without them everything else here would be torch's, and pass."""
    assert kernels.kernels(dtype) is not None


def layer(num_channels: int, seed: int = 0) -> nn.BatchNorm2d:
    generator = torch.Generator().manual_seed(seed)
    module = nn.BatchNorm2d(num_channels, momentum=0.3)
    for vector in (module.weight, module.bias, module.running_mean):
        assert isinstance(vector, Tensor)
        vector.data = torch.randn(num_channels, generator=generator)
    return module


def features(*shape: int, seed: int = 0, offset: float = 0.0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + offset
    return values.contiguous(memory_format=torch.channels_last)


Forward = Callable[[nn.BatchNorm2d, Tensor, Tensor], Tensor]


def without_gradient(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    with torch.no_grad():
        return norm(x)  # type: ignore[no-any-return]


def added_without_gradient(x: Tensor, other: Tensor) -> Tensor:
    with torch.no_grad():
        x.add_(other)
    return x


def hooked(x: Tensor) -> Tensor:
    x.register_hook(lambda gradient: gradient * 3)
    return x


USES: dict[str, Forward] = {
    "alone": lambda norm, x, _: norm(x),
    "ReLU": lambda norm, x, _: F.relu(norm(x)),
    "ReLU in place": lambda norm, x, _: F.relu(norm(x), inplace=True),
    "sum, ReLU": lambda norm, x, other: torch.relu(norm(x) + other),
    "sum the other way round": lambda norm, x, other: (other + norm(x)).relu(),
    "sum in place, ReLU in place": lambda norm, x, other: F.relu(norm(x).add_(other), inplace=True),
    "sum of two normalised": lambda norm, x, other: F.relu(norm(x) + norm(other)),
    "sum twice": lambda norm, x, other: F.relu(norm(x) + other + other),
    "sum with itself": lambda norm, x, _: F.relu((y := norm(x)) + y),
    "sum with a number": lambda norm, x, _: F.relu(norm(x) + 1),
    "sum with a vector": lambda norm, x, other: F.relu(norm(x) + other[:1, :, :1, :1]),
    "doubled in place, ReLU": lambda norm, x, _: F.relu(norm(x).mul_(2)),
    "added to in place": lambda norm, x, other: F.relu((other * 1).add_(norm(x))),
    "ReLU, and read besides": lambda norm, x, other: F.relu(y := norm(x)) + y * other,
    "sum, ReLU, and both read besides": lambda norm, x, other: F.relu(s := (y := norm(x)) + other) + y * s,
    "read by a sum, then ReLU in place": lambda norm, x, other: (
        (s := norm(other) + (y := norm(x))) is s and F.relu(y, inplace=True) + s
    ),
    "sum in place, and an earlier sum": lambda norm, x, other: (
        (s := (y := norm(x)) + other) is s and F.relu(y.add_(x)) + s
    ),
    "a term changes before the ReLU": lambda norm, x, other: (
        ((o := other * 1) is o and (s := norm(x) + o) is s and o.mul_(3) is o) and F.relu(s) + o
    ),
    "a term's ReLU in place before the ReLU": lambda norm, x, other: (
        (s := norm(x) + (y := norm(other))) is s and (a := F.relu(y, inplace=True)) is a and F.relu(s) + a
    ),
    "no gradient wanted by the normalisation": lambda norm, x, other: F.relu(without_gradient(norm, x) + other),
    "cut off": lambda norm, x, other: F.relu(norm(x).detach_() + other),
    "cut off after the ReLU": lambda norm, x, other: F.relu(F.relu(norm(x)).detach_() + norm(other)),
    "a sum in place without gradient": lambda norm, x, other: added_without_gradient(norm(x), other) * 1,
    "doubled by a sum in place": lambda norm, x, _: F.relu((y := norm(x)).add_(y)),
    "a scaled sum": lambda norm, x, other: F.relu(torch.add(norm(x), other, alpha=2)),
    "checkpoint": lambda norm, x, other: checkpoint(lambda t: norm(t * 2), x, use_reentrant=False) + other,
    "checkpoint with the ReLU": lambda norm, x, _: checkpoint(lambda t: F.relu(norm(t)), x, use_reentrant=False),
    "checkpoint, then ReLU": lambda norm, x, _: F.relu(checkpoint(lambda t: norm(t * 2), x, use_reentrant=False)),
    "reentrant checkpoint": lambda norm, x, _: F.relu(checkpoint(lambda t: norm(t * 2), x, use_reentrant=True)),
    "a hook on the first term": lambda norm, x, other: F.relu(hooked(norm(x)) + other),
    "a hook on a shortcut": lambda norm, x, _: (a := hooked(F.relu(norm(x)))) is a and F.relu(norm(a * 2) + a),
    "in place on what a view was made of": lambda norm, x, _: (
        (y := norm(x)) is y and (z := norm(y[2:])) is z and F.relu(y * 1, inplace=True)[2:] + z
    ),
    "ReLU twice": lambda norm, x, _: F.relu(y := norm(x)) + 3 * F.relu(y),
    "another activation": lambda norm, x, _: F.silu(norm(x)),
}


def gradients(forward: Forward, norm: nn.BatchNorm2d, x: Tensor, other: Tensor, *, is_ours: bool) -> list[Tensor]:
    """Return output, gradients and running statistics."""
    norm, x, other = copy.deepcopy(norm), x.clone().requires_grad_(), other.clone().requires_grad_()
    with fast_batch_norm() if is_ours else nullcontext():
        output = forward(norm, x, other)
        of_output = torch.linspace(-1, 2, output.numel(), dtype=torch.float64).view(output.shape).to(output.dtype)
        output.backward(of_output)
    output = output.detach()
    statistics = [buffer for buffer in norm.buffers() if buffer.is_floating_point()]
    return [output, x.grad, other.grad, norm.weight.grad, norm.bias.grad, *statistics]  # type: ignore[list-item]


def distances(forward: Forward, norm: nn.BatchNorm2d, x: Tensor, other: Tensor, *, is_ours: bool) -> list[float]:
    """Return how far all that is computed is from what f64 gives, each in units of its own size."""
    exact = gradients(forward, copy.deepcopy(norm).double(), x.double(), other.double(), is_ours=False)
    found = gradients(forward, norm, x, other, is_ours=is_ours)
    assert [tensor is None for tensor in found] == [tensor is None for tensor in exact]
    pairs = [(tensor, true) for tensor, true in zip(found, exact, strict=True) if true is not None]
    return [float((tensor.double() - true).norm() / true.norm().clamp_min(1e-3)) for tensor, true in pairs]


@pytest.mark.parametrize("forward", USES.values(), ids=USES)
@pytest.mark.parametrize("num_channels", [1, 5, 16, 300])
def test_whatever_a_network_does_it_is_as_in_f64(forward: Forward, num_channels: int) -> None:
    x, other = features(6, num_channels, 9, 7), features(6, num_channels, 9, 7, seed=1)
    assert max(distances(forward, layer(num_channels), x, other, is_ours=True)) < 1e-5


@pytest.mark.parametrize("name", ["alone", "sum, ReLU", "ReLU in place"])
def test_bf16(name: str) -> None:
    x, other = features(8, 11, 8, 8).bfloat16(), features(8, 11, 8, 8, seed=1).bfloat16()
    ours, torchs = (distances(USES[name], layer(11), x, other, is_ours=is_ours) for is_ours in (True, False))
    # Rounding decides which of the sums next to zero a ReLU lets through.
    assert all(our <= 1.5 * torchs + 1e-6 for our, torchs in zip(ours, torchs, strict=True))
    exact = layer(11).double()(x.double())
    with fast_batch_norm():
        output = layer(11)(x)
    assert output.dtype == torch.bfloat16
    # Rounded once, to the nearest.
    assert (output.double() - exact).abs().max() <= exact.abs().max() * 2**-8


@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(1, 20), st.integers(1, 20)),
    offset=st.sampled_from([0.0, 3.0, -30.0]),
    num_threads=st.integers(1, 3),
)
def test_any_shape_threads_and_mean(sizes: tuple[int, ...], offset: float, num_threads: int) -> None:
    """With means far from zero, E[x²] - E[x]² would cancel."""
    assume(sizes[0] * sizes[2] * sizes[3] >= 8)
    x, other = features(*sizes, offset=offset), features(*sizes, seed=1)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        assert max(distances(USES["alone"], layer(sizes[1]), x, other, is_ours=True)) < 2e-3
    finally:
        torch.set_num_threads(before)


def test_what_is_not_a_number_stays_so() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for bad in (float("nan"), float("inf")):
            x = features(4, 3, 5, 5).to(dtype)
            x[1, 1, 2, 3] = bad
            with fast_batch_norm():
                output = F.relu(layer(3)(x))
            assert output[:, 1].isnan().all()
            assert output[:, [0, 2]].isfinite().all()


def others() -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    plain = features(4, 3, 5, 5)
    return {
        "evaluating": (layer(3).eval(), plain),
        "without weight": (nn.BatchNorm2d(3, affine=False), plain),
        "contiguous": (layer(3), plain.contiguous()),
        "f64": (layer(3).double(), plain.double()),
        "three dimensions": (nn.BatchNorm1d(3), plain[..., 0].contiguous()),
    }


@pytest.mark.parametrize("name", others())
def test_what_the_kernels_are_not_for_torch_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a kernel was called")

    module, x = others()[name]
    expected = copy.deepcopy(module)(x)
    monkeypatch.setattr(batch_norm, "call", fail)
    with fast_batch_norm():
        assert torch.equal(module(x), expected)


def test_statistics_of_the_batch_alone() -> None:
    module = nn.BatchNorm2d(3, track_running_stats=False)
    x = features(4, 3, 5, 5)
    with fast_batch_norm():
        assert torch.allclose(module(x), copy.deepcopy(module)(x), atol=1e-5)


@pytest.mark.parametrize("num_channels", [3, 40_000])
def test_another_number_of_channels_is_refused_as_torch_does(num_channels: int) -> None:
    with fast_batch_norm(), pytest.raises(RuntimeError, match="running_mean should contain"):
        layer(5)(features(2, num_channels, 3, 3))


def test_inference_mode() -> None:
    x = features(4, 3, 5, 5)
    with fast_batch_norm(), torch.inference_mode():
        output = F.relu(layer(3)(x))
    assert torch.allclose(output, F.relu(layer(3)(x)), atol=1e-5)


def test_one_number_far_from_all_others_spoils_nothing() -> None:
    x = torch.full((8, 3, 16, 16), 0.1).contiguous(memory_format=torch.channels_last)
    x[0, :, 0, 0] = 3.0
    module = layer(3)
    module.momentum = 1.0
    with fast_batch_norm():
        module(x)
    assert module.running_var is not None
    assert torch.allclose(module.running_var.double(), x.double().var(dim=(0, 2, 3)), rtol=1e-3)


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    kept: list[weakref.ref[Tensor]] = []
    with torch.no_grad(), fast_batch_norm():
        x = features(4, 3, 5, 5)
        for _ in range(4):
            x = x + layer(3)(y := x * 2)
            kept.append(weakref.ref(y))
            del y
            x.shape  # noqa: B018 (any function of torch)
        assert [reference() for reference in kept] == [None] * 4


def test_one_position_is_refused_as_torch_does() -> None:
    with fast_batch_norm(), pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(3)(features(1, 3, 1, 1))


def test_a_gradient_that_is_looked_at_is_there() -> None:
    seen: list[Tensor] = []
    with fast_batch_norm():
        output = layer(3)(features(4, 3, 5, 5))
        output.register_hook(seen.append)
        F.relu(output).sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("create", [resnet18, mobilenet_v3_small, densenet121], ids=lambda create: create.__name__)
def test_networks_of_others(create: Callable[..., nn.Module]) -> None:
    """They add and apply ReLUs in place, concatenate, and squeeze."""
    torch.manual_seed(0)
    model = create(num_classes=4).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x, labels_N = features(8, 3, 64, 64), torch.arange(8) % 4

    def of(network: nn.Module, inputs_NCHW: Tensor, *, is_ours: bool) -> list[Tensor]:
        network = copy.deepcopy(network)
        with fast_batch_norm() if is_ours else nullcontext():
            F.cross_entropy(network(inputs_NCHW), labels_N).backward()  # type: ignore[no-untyped-call]
        return [parameter.grad.double() for parameter in network.parameters() if parameter.grad is not None]

    exact, found = of(copy.deepcopy(model).double(), x.double(), is_ours=False), of(model, x, is_ours=True)
    # One number next to zero that a ReLU lets through, or not, makes a hundredth, with torch as with us.
    assert max(float((a - b).norm() / b.norm().clamp_min(1e-4)) for a, b in zip(found, exact, strict=True)) < 0.05


def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


class Activation(nn.Module):
    """In Python, or where Python cannot look."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Doubled(torch.autograd.Function):
    """A function of somebody's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


def scripted(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and in use
        compiled: Callable[[Tensor], Tensor] = torch.jit.script(function)
    return compiled


@pytest.mark.parametrize("function", [relu, Doubled.apply, scripted(relu)], ids=["torch", "a Function", "TorchScript"])
def test_what_cannot_be_seen_is_computed_without_us(function: Callable[[Tensor], Tensor]) -> None:
    def trained(*, is_ours: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Activation(function)),
            *(nn.Conv2d(4, 10, 3), nn.BatchNorm2d(10), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        settings = TrainingSettings(epochs=1, lr=0.1, batch_size=8, max_shift=0, flip=False)
        images = some_images(16)
        with pytest.MonkeyPatch.context() as patch:
            if not is_ours:
                patch.setattr(loop, "fast_batch_norm_on", lambda _: nullcontext)
                patch.setattr(recalibration, "fast_batch_norm_on", lambda _: nullcontext)
            recalibrate_bn(model, images, Unchanged())
            train(model, images, images, settings, NoCallbacks(), normalize=Unchanged())
        return [tensor.detach() for tensor in model.state_dict().values()]

    for ours, torchs in zip(trained(is_ours=True), trained(is_ours=False), strict=True):
        assert torch.allclose(ours, torchs, atol=1e-4)


def test_what_is_read_after_the_end_is_filled() -> None:
    with fast_batch_norm():
        normalized = layer(3)(x := features(4, 3, 5, 5))
        summed = normalized + x
        output = F.relu(summed)
    expected = layer(3)(x)
    assert torch.allclose(normalized, expected, atol=1e-5)
    assert torch.allclose(summed, expected + x, atol=1e-5)
    assert torch.allclose(output, F.relu(expected + x), atol=1e-5)


def test_what_a_sum_is_made_of_may_change_afterwards() -> None:
    x, other = features(4, 3, 5, 5), features(4, 3, 5, 5, seed=1)
    expected = layer(3)(x) + other
    with fast_batch_norm():
        summed = layer(3)(x) + other
        F.relu(summed)
        other.mul_(2)
        x.zero_()
        assert torch.allclose(summed * 1, expected, atol=1e-5)


def test_without_a_compiler_everything_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    kernels.kernels.cache_clear()
    try:
        assert fast_batch_norm_on("cpu") is nullcontext
    finally:
        kernels.kernels.cache_clear()
