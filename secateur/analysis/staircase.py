"""Latency as a function of the number of filters of one layer: devices work in tiles, so it is a staircase."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur import benchmark, progress
from secateur.analysis.steps import find_steps, weighted_mean
from secateur.analysis.timing import measure_together
from secateur.analysis.units import Unit, find_units, pruner_fields, schedule_of
from secateur.config import DeviceProfile
from secateur.errors import InputError, NotFoundError, did_you_mean
from secateur.export import architecture_signature, export_onnx
from secateur.findings import Staircase, StaircasePoint, Step
from secateur.methods import sparsity_leaving
from secateur.models import create_model
from secateur.pruning import ScheduleEngine
from secateur.results import DeviceFingerprint, LatencyReport
from secateur.store import Store, get_json, put_json
from secateur.thinning import ChannelSpace, trace_channel_spaces, unprunable

MAX_COUNTS = 32
"""Numbers of filters that are measured at first; where latency jumps between two of them, more are."""
_BATCH = 8
"""Networks measured together; what was measured is kept after each batch."""
_IDENTITY_VERSION = 1
"""Part of every cache key: raised when the same networks come to be measured otherwise."""


def counts_to_measure(num_filters: int, step: int | None = None) -> tuple[int, ...]:
    """Return multiples of `step`, and all filters.

    Args:
        num_filters: Of the layer.
        step: By default the smallest power of two that leaves at most `MAX_COUNTS`: tiles are powers of two wide.
    """
    step = step or 1 << max(math.ceil(math.log2(num_filters / MAX_COUNTS)), 0)
    return tuple(sorted({*range(step, num_filters + 1, step), num_filters}))


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Convolutions that lose filters together, in their network."""

    model: str
    module: nn.Module
    """With random weights: latency is a matter of shape."""
    example_NCHW: Tensor
    spaces: tuple[ChannelSpace, ...]
    unit: Unit


def find_structure(model: str, layer: str, num_classes: int, input_size: int) -> Structure:
    """Return the convolutions of a model that lose filters together with `layer`.

    Args:
        model: As in a study.
        layer: A convolution, by module name.
        num_classes: Of the model.
        input_size: Height and width of its images, in pixels.

    Raises:
        InputError: There is no such model or layer, or the layer can lose no filters of its own.
        ThinningError: The network cannot be traced.
    """
    torch.manual_seed(0)
    module = create_model(model, num_classes).eval()
    example_NCHW = torch.zeros(1, 3, input_size, input_size)
    spaces = trace_channel_spaces(module, example_NCHW)
    units = find_units(module, spaces)
    if (unit := next((unit for unit in units if layer in unit.layers), None)) is not None:
        return Structure(model=model, module=module, example_NCHW=example_NCHW, spaces=spaces, unit=unit)
    if (reason := unprunable(spaces, "filters").get(layer)) is not None:
        raise InputError(f"--layer {layer}: it cannot lose filters: {reason}.")
    known = [name for unit in units for name in unit.layers]
    is_there = layer in dict(module.named_modules())
    problem = "is no convolution that loses filters of its own" if is_there else f"is not in {model}"
    raise InputError(f"--layer {layer}: {layer!r} {problem}.{did_you_mean(layer, known)}")


def measure_staircase(
    structure: Structure, profile: DeviceProfile, store: Store, *, step: int | None = None
) -> Staircase:
    """Measure a network with ever fewer filters in one structure.

    Every figure that is not noisy is kept in the store as soon as it is known. Between two numbers of filters where
    latency jumps, those in the middle are measured until the jump is found.

    Args:
        structure: Which filters.
        profile: The device, and how it is timed.
        store: Of what was measured.
        step: See `counts_to_measure`.

    Raises:
        ThinningError: The filters cannot be removed.
        MeasurementError: The runner failed, or a network could not be measured.
    """
    unit, input_size = structure.unit, structure.example_NCHW.shape[-1]
    probe = _Probe(
        structure=structure,
        unpruned=export_onnx(structure.module, input_size, opset=profile.onnx_opset, num_checks=0),
        profile=profile,
        device=benchmark.describe(profile),
        store=store,
    )
    points: dict[int, StaircasePoint] = {}
    wanted: Sequence[int] = counts_to_measure(unit.num_filters, step)
    asked: set[int] = set()
    while wanted:
        points |= probe.points(wanted)
        asked.update(wanted)
        steps = find_stairs([points[count] for count in sorted(points)])
        wanted = [count for count in _between(steps) if count not in asked]
    return Staircase(
        model=structure.model,
        input_size=input_size,
        layers=unit.layers,
        num_filters=unit.num_filters,
        device=probe.device,
        points=tuple(points[count] for count in sorted(points)),
        steps=steps,
    )


def _between(steps: Sequence[Step]) -> list[int]:
    """Return the middles of the gaps in which latency jumps."""
    gaps = ((low.most, high.fewest) for low, high in pairwise(steps))
    return [(most + fewest) // 2 for most, fewest in gaps if fewest - most > 1]


def find_stairs(points: Sequence[StaircasePoint]) -> tuple[Step, ...]:
    """Return the steps of a staircase; see `find_steps`.

    Args:
        points: By number of filters, ascending; at least one.
    """
    ratios = np.array([point.latency_ratio.estimate for point in points])
    errors = np.array([point.latency_ratio.standard_error for point in points])
    bounds = list(pairwise(find_steps(ratios, errors)))
    means = [weighted_mean(ratios[start:end], errors[start:end]) for start, end in bounds]
    return tuple(
        Step(
            fewest=points[start].num_kept,
            most=points[end - 1].num_kept,
            latency_ratio=mean,
            standard_error=error,
            is_worthwhile=all(mean < larger for larger, _ in means[position + 1 :]),
        )
        for position, ((start, end), (mean, error)) in enumerate(zip(bounds, means, strict=True))
    )


def study_entry(staircase: Staircase) -> dict[str, Any]:
    """Return what gives the steps to a study: a pruner for its schedule, and the values of its parameter.

    Returns:
        `pruners`, for the compression schedule, and `search`, for the study; a search needs two values at least.
    """
    name = staircase.layers[0].replace(".", "_")
    sparsities = sorted(point.desired_sparsity for point in staircase.allowed)
    fields = pruner_fields(staircase.layers, sparsities[0], is_coupled=len(staircase.layers) > 1)
    return {
        "pruners": {name: fields},
        "search": {"parameters": {f"{name}.desired_sparsity": {"values": sparsities}}},
    }


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """Measures the network with some of a structure's filters, or remembers."""

    structure: Structure
    unpruned: bytes
    """ONNX."""
    profile: DeviceProfile
    device: DeviceFingerprint
    store: Store

    def points(self, counts: Sequence[int]) -> dict[int, StaircasePoint]:
        """Return the points of these numbers of filters, by the number that was left.

        Where a grouped convolution takes part, whole groups go, and fewer may be left than were asked for.
        """
        networks: dict[int, tuple[float, nn.Module]] = {}
        for count in counts:
            sparsity = sparsity_leaving(count, self.structure.unit.num_filters)
            thinned, num_kept = self._thinned(sparsity)
            networks.setdefault(num_kept, (sparsity, thinned))
        reports = {count: report for count in networks if (report := self._known(count)) is not None}
        new = {count: thinned for count, (_, thinned) in networks.items() if count not in reports}
        with progress.track(f"staircase of {self.structure.unit.layers[0]}", total=len(networks)) as bar:
            bar.advance(len(reports))
            for batch in _batches(list(new)):
                reports |= self._measured({count: new[count] for count in batch})
                bar.advance(len(batch), note=f"{batch[-1]} of {self.structure.unit.num_filters} filters")
        return {
            count: StaircasePoint(
                num_kept=count,
                desired_sparsity=sparsity,
                latency_ratio=reports[count].latency_ratio,
                is_noisy=reports[count].is_noisy,
            )
            for count, (sparsity, _) in networks.items()
        }

    def _thinned(self, sparsity: float) -> tuple[nn.Module, int]:
        module = copy.deepcopy(self.structure.module)
        schedule = schedule_of(self.structure.unit, sparsity)
        engine = ScheduleEngine(
            module, schedule, self.structure.example_NCHW, base_lr=0.1, num_epochs=0, spaces=self.structure.spaces
        )
        engine.prune_before_training()
        return module.eval(), len(engine.kept[self.structure.unit.layers[0]])

    def _measured(self, networks: Mapping[int, nn.Module]) -> dict[int, LatencyReport]:
        """Measure networks together, and keep what was found."""
        size, opset = self.structure.example_NCHW.shape[-1], self.profile.onnx_opset
        files = {count: export_onnx(module, size, opset=opset, num_checks=0) for count, module in networks.items()}
        reports = measure_together(files, self.unpruned, self.profile)
        for count, report in reports.items():
            if not report.is_noisy:  # what was noisy once deserves another chance
                put_json(self.store, self._key(count), report.model_dump(mode="json"))
        return reports

    def _known(self, count: int) -> LatencyReport | None:
        try:
            return LatencyReport.model_validate(get_json(self.store, self._key(count)))
        except NotFoundError:
            return None

    def _key(self, count: int) -> str:
        parts = {
            "version": _IDENTITY_VERSION,
            "unpruned": architecture_signature(self.unpruned),
            "layers": self.structure.unit.layers,
            "num_kept": count,
            "device": [self.profile.model_dump(), self.device.model_dump()],
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"cache/staircase/{digest}.json"


def _batches(counts: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield them a few at a time, few and many filters mixed, so that a batch's own error makes no step."""
    num_batches = -(-len(counts) // _BATCH)
    yield from (counts[start::num_batches] for start in range(num_batches))
