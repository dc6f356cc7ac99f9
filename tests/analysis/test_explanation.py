"""What an explanation is made of: what layers move and compute, the roof, masks, sparse storage, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.analysis.explanation import pruned_and_masked
from secateur.analysis.onnx_layers import LayerWork, work_of_onnx
from secateur.analysis.roofline import LayerRun, bytes_of_a_number, copy_ms, layer_runs, roof_networks, roof_of
from secateur.analysis.sparse import compare_storage
from secateur.config.located import Located
from secateur.errors import InputError
from secateur.export import export_onnx
from secateur.findings import (
    Copy,
    Explanation,
    LayerComparison,
    LayerCost,
    NetworkCost,
    Roof,
    StorageComparison,
)
from secateur.report.explanation import render_html, render_png, rows
from secateur.report.verdict import csr_ratios, verdict
from secateur.results import Interval, Layer
from secateur.schedule import parse_schedule
from tests.factories import make_device
from tests.flows.tiny import NUM_CLASSES, SCHEDULE, SIZE, network


def tiny_work() -> dict[str, LayerWork]:
    return {work.name: work for work in work_of_onnx(export_onnx(network(NUM_CLASSES), SIZE), "tiny")}


def test_what_layers_move_and_compute() -> None:
    work = tiny_work()
    assert list(work) == ["conv1", *(f"blocks.{i}.conv{j}" for i in range(2) for j in (1, 2)), "fc"]
    positions = SIZE * SIZE
    conv1, first, second, fc = (work[name] for name in ("conv1", "blocks.0.conv1", "blocks.0.conv2", "fc"))
    assert (conv1.num_weights, conv1.num_inputs, conv1.num_outputs) == (8 * 27, 3 * positions, 8 * positions)
    assert conv1.product == (8, 27, positions)
    assert conv1.macs == 8 * 27 * positions
    assert first.num_inputs == 8 * positions
    assert second.num_inputs == 2 * 8 * positions  # the residual sum reads as many again
    assert (fc.product, fc.macs) == ((3, 8, 1), 24)


def test_depthwise_convolutions_compute_little() -> None:
    (work,) = work_of_onnx(export_onnx(nn.Conv2d(3, 6, 3, groups=3, padding=1), SIZE), "depthwise")
    assert (work.num_groups, work.macs) == (3, 6 * 9 * SIZE * SIZE)


def test_a_file_that_is_no_onnx() -> None:
    with pytest.raises(InputError, match=r"x\.onnx: this is no ONNX file"):
        work_of_onnx(b"no", "x.onnx")


@pytest.mark.parametrize(
    ("kernel", "precision", "width"),
    [
        ("brgconv_avx512_amx_bf16", "f32", 2),
        ("jit_avx512_FP32", "bf16", 4),
        ("brgconv_avx512_1x1_f32", "bf16", 4),
        ("gemm_i8", "f32", 1),
        ("undef", "f16", 2),
        ("undef", "unknown", 4),
    ],
)
def test_how_wide_a_kernels_numbers_are(kernel: str, precision: str, width: int) -> None:
    assert bytes_of_a_number(kernel, precision) == width


def test_operations_are_matched_by_name() -> None:
    content = export_onnx(network(NUM_CLASSES), SIZE)
    told = [
        Layer(name="/conv1/Conv/WithoutBiases", type="Convolution", kernel="brgconv_f32", ms=0.01),
        Layer(name="/blocks/blocks.0/conv1/Conv", type="Convolution", kernel="brgconv_bf16", ms=0.02),
        Layer(name="/blocks/blocks.0/conv2/Conv", type="Convolution", kernel="brgconv_f32", ms=0.0),
        Layer(name="logits", type="FullyConnected", kernel="gemm_f32", ms=0.03),
        Layer(name="relu", type="Relu", kernel="jit", ms=0.03),
    ]
    runs = layer_runs(content, told, "f32")
    assert list(runs) == ["conv1", "blocks.0.conv1", "fc"]
    assert runs["conv1"].num_bytes == 4 * (8 * 27 + 11 * SIZE * SIZE)
    assert runs["blocks.0.conv1"].num_bytes == 2 * (8 * 72 + 16 * SIZE * SIZE)


copies = st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-3, 1.0)), min_size=1, max_size=5).map(
    lambda growth: [
        Copy(num_bytes=sum(g[0] for g in growth[: i + 1]), ms=sum(g[1] for g in growth[: i + 1]))
        for i in range(len(growth))
    ]
)


@given(copies=copies, sizes=st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)))
def test_copying_more_takes_longer(copies: Sequence[Copy], sizes: tuple[int, int]) -> None:
    small, large = sorted(sizes)
    assert copy_ms(small, copies) <= copy_ms(large, copies) * (1 + 1e-9)
    for known in copies:
        assert copy_ms(known.num_bytes, copies) == pytest.approx(known.ms)


@pytest.mark.parametrize("smallest", [(), (Layer(name="copy", type="PRelu", kernel="jit_f32", ms=0.0),)], ids=repr)
def test_the_roof_does_without_copies_that_take_less_than_the_counters_tell(smallest: tuple[Layer, ...]) -> None:
    names = [name for name in roof_networks(17) if name != "products"]
    times = {name: (Layer(name="copy", type="PRelu", kernel="jit_f32", ms=1.0 + i),) for i, name in enumerate(names)}
    run = LayerRun(work=tiny_work()["conv1"], operation=times[names[0]][0], num_bytes=1)
    whole = roof_of(times, [run], "f32")
    assert len(whole.copies) == len(names)
    assert roof_of(times | {names[0]: smallest}, [run], "f32").copies == whole.copies[1:]


def test_masked_is_thinned_with_zeros() -> None:
    module = network(NUM_CLASSES).eval()
    schedule = parse_schedule(Located(value=SCHEDULE, source="test"))
    thinned, masked = pruned_and_masked(module, schedule, SIZE)
    weight = masked.get_parameter("blocks.0.conv1.weight")
    assert weight.shape == (8, 8, 3, 3)
    is_zero = weight.flatten(1).abs().sum(1) == 0
    assert int(is_zero.sum()) == 4
    assert torch.equal(weight[~is_zero], thinned.get_parameter("blocks.0.conv1.weight"))
    assert module.get_parameter("blocks.0.conv1.weight").count_nonzero() == 8 * 8 * 9
    left = masked.get_parameter("blocks.0.conv2.weight")[:, ~is_zero]
    assert torch.equal(left, thinned.get_parameter("blocks.0.conv2.weight"))


def test_single_weights_that_are_masked_are_zero_in_both() -> None:
    pruner = {"class": "MagnitudeParameterPruner", "thresholds": {"conv1.weight": 0.05, "*": 0.0}}
    document = {
        "version": 1,
        "pruners": {"fine": pruner},
        "policies": [{"pruner": {"instance_name": "fine"}, "epochs": [0]}],
    }
    module = network(NUM_CLASSES)
    thinned, masked = pruned_and_masked(module, parse_schedule(Located(value=document, source="test")), SIZE)
    weight = masked.get_parameter("conv1.weight")
    assert 0 < (weight == 0).sum() < weight.numel()
    assert torch.equal(weight, thinned.get_parameter("conv1.weight"))


def test_storage_is_compared_once_for_a_shape_and_with_each_layers_own_zeros() -> None:
    work = tiny_work()
    weights = {name: torch.rand(layer.shape) + 0.1 for name, layer in work.items()}
    masked = {name: weight.clone() for name, weight in weights.items()}
    masked["blocks.1.conv1"][:6] = 0
    threads = torch.get_num_threads()
    found = list(compare_storage(list(work.values()), weights, masked, 1, (0.5, 0.9)))
    assert torch.get_num_threads() == threads
    common = [c for c in found if c.desired_sparsity is not None]
    assert len(common) == 2 * len({layer.product for layer in work.values()})
    assert all(c.sparsity == pytest.approx(c.desired_sparsity, abs=0.03) for c in common)
    assert all(c.dense_ms > 0 and c.csr_ms > 0 for c in found)
    (own,) = (c for c in found if c.desired_sparsity is None)
    assert (own.layers, own.sparsity) == (("blocks.1.conv1",), 0.75)


def cost(ms: float, *, macs: int = 1_000_000, num_bytes: int = 10_000, roof_ms: float = 0.01) -> LayerCost:
    return LayerCost(
        ms=ms, kernel="jit_f32", num_bytes=num_bytes, macs=macs, arithmetic_ms=roof_ms, memory_ms=roof_ms / 2
    )


def ratio(estimate: float) -> Interval:
    return Interval(estimate=estimate, low=estimate - 0.01, high=estimate + 0.01, standard_error=0.005)


def make_explanation(**changes: object) -> Explanation:
    def of(estimate: float, macs: int) -> NetworkCost:
        return NetworkCost(latency_ratio=ratio(estimate), is_noisy=False, macs=macs, device_ms=1.0, other_ms=0.1)

    layers = (
        LayerComparison(
            name="a<b>", shape=(16, 3, 3, 3), thinned_shape=(5, 3, 3, 3),
            unpruned=cost(0.5), thinned=cost(0.49, macs=312_500, roof_ms=0.003),
        ),
        LayerComparison(name="c", shape=(8, 16), thinned_shape=(8, 5), unpruned=cost(0.3), thinned=cost(0.1)),
        LayerComparison(name="d", shape=(8, 8), thinned_shape=None, unpruned=cost(0.1), thinned=None),
    )  # fmt: skip
    storage = tuple(
        StorageComparison(
            layers=("a<b>", "c"),
            shape=(8, 9, 64),
            desired_sparsity=sparsity,
            sparsity=sparsity,
            dense_ms=1.0,
            csr_ms=ms,
        )
        for sparsity, ms in ((0.5, 2.0), (0.9, 0.6), (0.99, 0.2))
    )
    own = StorageComparison(
        layers=("c",), shape=(8, 9, 64), desired_sparsity=None, sparsity=0.7, dense_ms=1.0, csr_ms=1.5
    )
    fields = {
        "model": "tiny",
        "schedule": "s.yaml",
        "input_size": 8,
        "device": make_device(),
        "unpruned": of(1.0, 3_000_000),
        "masked": of(1.0, 3_000_000),
        "thinned": of(0.8, 1_500_000),
        "layers": layers,
        "roof": Roof(macs_per_s=1e11, copies=(Copy(num_bytes=1000, ms=0.01), Copy(num_bytes=10**6, ms=1.0))),
        "storage": (*storage, own),
        "num_threads": 1,
        "versions": {"torch": "2"},
    }
    return Explanation.model_validate(fields | changes)


EXPECTED = """
Thinned, the network takes 0.800 [0.790, 0.810] of the unpruned one's time, with 0.500 of its multiply-accumulates.
Masked only (zeros in place, shapes as before), it takes 1.000 [0.990, 1.010]: zeros alone gain nothing, since they are
computed like other numbers.
Of 1.000 ms inside the device, operations without weights take 10%; 1 of 3 layers hold half: a<b>.
3 layers became smaller: they do 0.438 of their multiply-accumulates in 0.656 of their time (0.900 to 0.590 ms).
1 of them did not get faster: a<b> (5 of 16 filters). `secateur staircase` finds the numbers worth having.
At the device's best (100 GMAC/s, and its own speed of copying), 3 layers (100% of the layers' time) are bound by
arithmetic. They are 3% as fast as that, thinned 2%: smaller layers use the device less well.
On this host's CPU (1 thread, f32), the layers' matrix products with weights stored as CSR take, of the time of dense
ones, 2.00 at 50%, 0.60 at 90%, 0.20 at 99%: sparse storage pays from 90% on.
Of the time that the device takes for the same layers, they take 5.00 at 50%, 1.50 at 90%, 0.50 at 99%: sparse storage
pays from 99% on.
With the zeros that this schedule makes (70% to 70% of a layer), they take 1.50 of the time of dense ones.
"""


def test_the_verdict_names_every_cause() -> None:
    assert " ".join(verdict(make_explanation())) == " ".join(EXPECTED.split())


def test_the_verdict_on_what_differs() -> None:
    found = make_explanation()
    faster = found.masked.model_copy(update={"latency_ratio": ratio(0.9), "is_noisy": True})
    said = " ".join(verdict(found.model_copy(update={"masked": faster, "layers": (), "roof": None})))
    assert "zeros alone make it faster here (noisy: the interval is wider than the profile asks)." in said
    assert "The device keeps no counters" in said
    assert "Of the time that the device takes" not in said
    unchanged = tuple(layer.model_copy(update={"thinned_shape": layer.shape}) for layer in found.layers)
    assert "No layer became smaller" in " ".join(verdict(found.model_copy(update={"layers": unchanged})))


def test_csr_is_compared_with_the_device_only_if_that_is_this_cpu() -> None:
    assert csr_ratios(make_explanation())[0.9] == (pytest.approx(0.6), pytest.approx(1.5))
    assert csr_ratios(make_explanation(device=make_device(device="GPU")))[0.9] == (pytest.approx(0.6), None)


@pytest.mark.parametrize("has_counters", [True, False], ids=["with counters", "without"])
def test_page_and_picture(has_counters: bool) -> None:
    found = make_explanation() if has_counters else make_explanation(layers=(), roof=None)
    assert render_png(found).startswith(b"\x89PNG")
    page = render_html(found)
    assert ('id="roofline"' in page) == has_counters
    assert "<b>" not in page.split("<main>")[1].split("<footer>")[0]
    assert "did not get faster" in page if has_counters else "keeps no counters" in page
    assert len(rows(found)) == len(found.layers)
