"""A staircase: the device's tiles are found, kept, drawn, and given to a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur import benchmark
from secateur.admissibility import check_study
from secateur.analysis.staircase import (
    counts_to_measure,
    find_stairs,
    find_structure,
    measure_staircase,
    study_entry,
)
from secateur.analysis.units import schedule_document
from secateur.config import DeviceProfile, Study, load_device
from secateur.config.located import Located
from secateur.errors import InputError, MeasurementError
from secateur.findings import Staircase, StaircasePoint
from secateur.methods import count_removed, sparsity_leaving
from secateur.pruning import ScheduleEngine
from secateur.report.staircase import headline, render_html, render_png
from secateur.results import LatencyReport
from secateur.schedule import parse_schedule
from tests.factories import make_device, make_latency, make_study
from tests.fakes import MemoryStore
from tests.flows.tiny import NUM_CLASSES, SIZE, TinyNetwork

TINY = "python:tests.flows.tiny:network"
WIDE = "python:tests.analysis.test_staircase:wide"
CLIFF = 40


def wide(num_classes: int) -> nn.Module:
    """Make a chain whose first layer has 96 filters."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class TiledDevice:
    """Instead of the runner: latency is the number of tiles that the first convolution's filters fill."""

    def __init__(self, tile: int, monkeypatch: pytest.MonkeyPatch, *, largest: int = 0, is_noisy: bool = False) -> None:
        self.asked: list[int] = []
        self._is_noisy = is_noisy
        self._tile, self._largest = tile, largest
        monkeypatch.setattr(benchmark, "measure", self._measure)
        monkeypatch.setattr(benchmark, "describe", lambda _: make_device())

    def _measure(
        self, paths: Sequence[Path], reference: Path, profile: DeviceProfile
    ) -> list[LatencyReport | MeasurementError]:
        assert reference.is_file()
        assert profile.name == "cpu"
        counts = [_first_filters(path) for path in paths]
        self.asked += counts
        num_tiles = math.ceil(_first_filters(reference) / self._tile)
        return [
            MeasurementError("too large") if 0 < self._largest < count
            else make_latency(math.ceil(count / self._tile) / num_tiles, half_width=0.001, is_noisy=self._is_noisy)
            for count in counts
        ]  # fmt: skip


def _first_filters(path: Path) -> int:
    graph = onnx.load(path).graph
    weight = next(node.input[1] for node in graph.node if node.op_type == "Conv")
    return int(next(tensor.dims[0] for tensor in graph.initializer if tensor.name == weight))


def measure(model: str, layer: str, store: MemoryStore, step: int | None = None) -> Staircase:
    return measure_staircase(find_structure(model, layer, NUM_CLASSES, SIZE), load_device("cpu"), store, step=step)


@given(num_filters=st.integers(1, 4096), data=st.data())
def test_a_sparsity_leaves_exactly_so_many(num_filters: int, data: st.DataObject) -> None:
    num_kept = data.draw(st.integers(1, num_filters))
    sparsity = sparsity_leaving(num_kept, num_filters)
    assert 0 <= sparsity < 1
    assert num_filters - count_removed(num_filters, sparsity) == num_kept


@given(num_filters=st.integers(1, 4096))
def test_few_counts_are_all_measured_and_many_in_even_steps(num_filters: int) -> None:
    counts = counts_to_measure(num_filters)
    assert len(counts) <= 33
    assert counts[-1] == num_filters
    if num_filters <= 32:
        assert counts == tuple(range(1, num_filters + 1))


def test_a_step_of_ones_own() -> None:
    assert counts_to_measure(20, 8) == (8, 16, 20)


def test_tiles_are_found_between_the_counts_measured_first(monkeypatch: pytest.MonkeyPatch) -> None:
    device = TiledDevice(CLIFF, monkeypatch)
    found = measure(WIDE, "0", MemoryStore(), step=16)
    assert [(step.fewest, step.most) for step in found.steps] == [(16, 40), (41, 80), (81, 96)]
    assert [point.num_kept for point in found.allowed] == [40, 80, 96]
    assert [step.latency_ratio for step in found.steps] == pytest.approx([1 / 3, 2 / 3, 1])
    assert len(device.asked) == len(set(device.asked)) == len(found.points) < 20
    assert headline(found) == (
        "Worth having of 0's 96 filters: 40, 80, 96; beside any other number, there is a larger one that costs no more,"
        " within the error. With 40, the network takes 0.333 of its time."
    )


def test_what_was_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    broken = TiledDevice(CLIFF, monkeypatch, largest=95)
    with pytest.raises(MeasurementError, match="too large"):
        measure(WIDE, "0", store, step=8)
    device = TiledDevice(CLIFF, monkeypatch)
    found = measure(WIDE, "0", store, step=8)
    assert 0 < len(device.asked) < len(found.points)
    assert set(broken.asked) | set(device.asked) == {point.num_kept for point in found.points}
    again = TiledDevice(CLIFF, monkeypatch)
    assert measure(WIDE, "0", store, step=8) == found
    assert again.asked == []


def test_what_was_noisy_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    TiledDevice(4, monkeypatch, is_noisy=True)
    assert all(point.is_noisy for point in measure(TINY, "conv1", store).points)
    device = TiledDevice(4, monkeypatch)
    assert not any(point.is_noisy for point in measure(TINY, "conv1", store).points)
    assert sorted(device.asked) == list(range(1, 9))


def make_staircase(*layers: str, ratios: Mapping[int, float]) -> Staircase:
    """Return a staircase of eight filters, with one step for each number of filters."""
    points = [
        StaircasePoint(
            num_kept=count,
            desired_sparsity=sparsity_leaving(count, 8),
            latency_ratio=make_latency(ratio).latency_ratio,
            is_noisy=False,
        )
        for count, ratio in ratios.items()
    ]
    return Staircase(
        model=TINY,
        input_size=SIZE,
        layers=layers,
        num_filters=8,
        device=make_device(),
        points=tuple(points),
        steps=find_stairs(points),
    )


@pytest.mark.parametrize("layers", [("conv1", "blocks.0.conv2", "blocks.1.conv2"), ("blocks.1.conv1",)], ids=len)
def test_a_study_takes_the_steps(layers: tuple[str, ...]) -> None:
    found = make_staircase(*layers, ratios={3: 0.5, 6: 0.75, 8: 1.0})
    entry = yaml.safe_load(yaml.safe_dump(study_entry(found)))
    ((name, parameter),) = entry["search"]["parameters"].items()
    document = schedule_document(entry["pruners"])
    fields = make_study(model=TINY, parameters=entry["search"]["parameters"], schedule=document)
    check_study(Study.model_validate(fields))
    schedule = parse_schedule(Located(value=document, source="test"))
    left = []
    for value in parameter["values"]:
        chosen = schedule.with_parameters({name: value})
        example_NCHW = torch.zeros(1, 3, SIZE, SIZE)
        engine = ScheduleEngine(TinyNetwork(NUM_CLASSES), chosen, example_NCHW, base_lr=0.1, num_epochs=0)
        engine.prune_before_training()
        left.append({len(engine.kept[layer]) for layer in layers})
    assert left == [{8}, {6}, {3}]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("blocks.0.conv3", r"--layer blocks.0.conv3: .* is not in python:.*Did you mean 'blocks.0.conv2'\?"),
        ("bn1", "--layer bn1: 'bn1' is no convolution that loses filters of its own"),
        ("fc", "--layer fc: it cannot lose filters: they are the network's output"),
    ],
    ids=["unknown", "no convolution", "logits"],
)
def test_a_layer_that_cannot_be_asked_for(layer: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_structure(TINY, layer, NUM_CLASSES, SIZE)


def test_without_steps_nothing_is_worth_removing(monkeypatch: pytest.MonkeyPatch) -> None:
    TiledDevice(8, monkeypatch)
    found = measure(TINY, "conv1", MemoryStore())
    assert [point.num_kept for point in found.allowed] == [8]
    assert headline(found).startswith("No number of filters of conv1 (+2) is faster than all 8")
    noisy = [point.model_copy(update={"is_noisy": True}) for point in found.points[:3]]
    found = found.model_copy(update={"points": (*noisy, *found.points[3:])})
    assert headline(found).endswith("3 of 8 points are noisy: a quiet machine may tell more steps apart.")


def test_where_more_filters_are_faster_fewer_are_not_worth_having() -> None:
    found = make_staircase("conv1", ratios={2: 0.6, 4: 0.9, 5: 0.95, 6: 0.8, 8: 1.0})
    assert [step.is_worthwhile for step in found.steps] == [True, False, False, True, True]
    assert [point.num_kept for point in found.allowed] == [2, 6, 8]


def test_page_and_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    TiledDevice(3, monkeypatch)
    found = measure(TINY, "conv1", MemoryStore())
    assert render_png(found).startswith(b"\x89PNG")
    page = render_html(found)
    assert 'id="staircase"' in page
    assert headline(found).replace("'", "&#x27;") in page
