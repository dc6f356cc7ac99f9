"""How much of its accuracy, and of its latency, does a network lose when one of its layers alone is pruned?

Li et al. 2017 ("Pruning filters for efficient ConvNets"), sec. 3.2; Distiller's `perform_sensitivity_analysis`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from secateur import benchmark, progress
from secateur.analysis.units import Unit, find_units, schedule_of
from secateur.candidate import Workshop
from secateur.config import DeviceProfile
from secateur.datasets import data_identity
from secateur.errors import InputError, NotFoundError, ThinningError
from secateur.export import export_onnx
from secateur.methods import count_removed
from secateur.pruning import ScheduleEngine
from secateur.results import Compressed, DeviceFingerprint, LatencyReport
from secateur.sensitivity_results import LayerSensitivity, Sensitivity, SensitivityPoint
from secateur.store import get_json, get_object, put_json
from secateur.thinning import ChannelSpace, count_macs, count_params, rebuild, trace_channel_spaces, unprunable
from secateur.training import evaluate
from secateur.turns import working

_IDENTITY_VERSION = 1
"""Part of every cache key: raised when the same inputs come to give other figures."""


def check_sparsities(sparsities: Sequence[float]) -> tuple[float, ...]:
    """Return the grid, ascending and without repetitions.

    Raises:
        InputError: A sparsity does not lie between 0 and 1.
    """
    if wrong := [sparsity for sparsity in sparsities if not 0 < sparsity < 1]:
        raise InputError(f"--sparsity: expected fractions between 0 and 1, such as 0.5, got {wrong[0]}.")
    return tuple(sorted(set(sparsities)))


def analyse(workshop: Workshop, sparsities: Sequence[float], profile: DeviceProfile | None) -> Sensitivity:
    """Prune each unit of a network alone, to each sparsity, without retraining.

    Every figure is kept in the store as soon as it is known; what is there already is not computed again.

    Args:
        workshop: Of the study; its schedule does not matter. Without weights, the network is trained first.
        sparsities: Fractions of filters, ascending.
        profile: Where latency ratios are measured; None: nowhere.

    Raises:
        InputError: The dataset, the weights or the device are not there.
        ThinningError: The network cannot be traced, or nothing in it can be pruned.
        MeasurementError: The runner failed.
    """
    if workshop.study.weights is None:
        model, epochs = workshop.study.model, workshop.study.baseline.epochs
        progress.message(f"No weights were given: {model} is trained first, once (baseline.epochs: {epochs}).")
    with working():
        unpruned, _ = workshop.make_unpruned()
    module = rebuild(get_object(workshop.store, unpruned.checkpoint)).module
    probe = _Probe(
        workshop=workshop,
        unpruned=unpruned,
        spaces=trace_channel_spaces(module, workshop.example_NCHW),
        profile=profile,
        device=None if profile is None else benchmark.describe(profile),
    )
    units = find_units(module, probe.spaces)
    found: list[LayerSensitivity] = []
    left_out = {
        layer: reason
        for layer, reason in unprunable(probe.spaces, "filters").items()
        if isinstance(module.get_submodule(layer), nn.Conv2d)
    }
    with progress.track("sensitivity", total=len(units) * len(sparsities)) as bar:
        for unit in units:
            try:
                found.append(probe.sensitivity_of(unit, sparsities, bar))
            except ThinningError as exc:
                left_out |= dict.fromkeys(unit.layers, str(exc))
    if not found:
        reasons = "".join(f"\n{layer}: {reason}" for layer, reason in left_out.items())
        raise ThinningError(f"Nothing in {workshop.study.model} can be pruned.{reasons}")
    return Sensitivity(
        model=workshop.study.model,
        dataset=workshop.study.dataset.name,
        unpruned=unpruned.validation,
        num_params=unpruned.num_params,
        macs=unpruned.macs,
        device=probe.device,
        units=tuple(found),
        left_out=left_out,
    )


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """Finds the figures of one unit, or remembers them."""

    workshop: Workshop
    unpruned: Compressed
    spaces: tuple[ChannelSpace, ...]
    profile: DeviceProfile | None
    device: DeviceFingerprint | None

    def sensitivity_of(self, unit: Unit, sparsities: Sequence[float], bar: progress.Bar) -> LayerSensitivity:
        """Return the figures of a unit.

        Raises:
            ThinningError: Its filters cannot be removed.
        """
        points = []
        for sparsity in sparsities:
            points.append(self._quality(unit, sparsity))
            bar.advance(note=f"{unit.layers[0]} {sparsity:.0%}: top1 {points[-1].top1:.2f} %")
        if self.profile is not None:
            points = self._with_latencies(unit, points, self.profile)
        return LayerSensitivity(layers=unit.layers, num_filters=unit.num_filters, points=tuple(points))

    @working()
    def _quality(self, unit: Unit, sparsity: float) -> SensitivityPoint:
        """Return what a network computes that has lost a fraction of one unit's filters."""
        splits, device = self.workshop.splits, self.workshop.device
        wanted = count_removed(unit.num_filters, sparsity)
        key = self._key("quality", unit, wanted, data=data_identity(splits), torch_device=device)
        try:
            known = get_json(self.workshop.store, key)
        except NotFoundError:
            module, num_kept = self._pruned(unit, sparsity)
            scores = evaluate(module, splits.validation, splits.normalize, device=device)
            module.cpu()
            known = {
                "top1": scores.top1,
                "top5": scores.top5,
                "loss": scores.loss,
                "num_removed": unit.num_filters - num_kept,
                "num_params": count_params(module),
                "macs": count_macs(module, self.workshop.example_NCHW),
            }
            put_json(self.workshop.store, key, known)
        return SensitivityPoint(sparsity=sparsity, latency_ratio=None, **known)

    def _with_latencies(
        self, unit: Unit, points: Sequence[SensitivityPoint], profile: DeviceProfile
    ) -> list[SensitivityPoint]:
        """Measure what was never measured here, all points of a unit in turns; a noisy figure is one, too."""
        assert self.device is not None
        store, fingerprint = self.workshop.store, [profile.model_dump(), self.device.model_dump()]
        keys = {p.num_removed: self._key("latency", unit, p.num_removed, device=fingerprint) for p in points}
        reports: dict[int, LatencyReport] = {}
        for num_removed, key in keys.items():
            try:
                reports[num_removed] = LatencyReport.model_validate(get_json(store, key))
            except NotFoundError:
                continue
        new = {p.num_removed: p.sparsity for p in points if p.num_removed not in reports}
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"{unit.layers[0]}-{num_removed}.onnx") for num_removed in new]
            for path, sparsity in zip(paths, new.values(), strict=True):
                path.write_bytes(self._exported(unit, sparsity, profile.onnx_opset))
            with store.local_copy(self.unpruned.onnx, suffix=".onnx") as reference:
                measured = benchmark.measure(paths, reference, profile, seed=self.workshop.study.search.seed)
        for num_removed, report in zip(new, measured, strict=True):
            if not isinstance(report, LatencyReport):
                raise report
            put_json(store, keys[num_removed], report.model_dump(mode="json"))
            reports[num_removed] = report
        return [
            point.model_copy(
                update={
                    "latency_ratio": reports[point.num_removed].latency_ratio,
                    "is_noisy": reports[point.num_removed].is_noisy,
                }
            )
            for point in points
        ]

    @working()
    def _exported(self, unit: Unit, sparsity: float, opset: int) -> bytes:
        """Return the ONNX file of `_pruned`; what it computes is not looked at, so there is no check of it."""
        return export_onnx(self._pruned(unit, sparsity)[0], self.workshop.splits.input_size, opset=opset, num_checks=0)

    def _pruned(self, unit: Unit, sparsity: float) -> tuple[nn.Module, int]:
        """Return the unpruned network without a fraction of one unit's filters, thinned, and how many it has kept.

        Where a grouped convolution takes part, whole groups go, so these may be more than were asked for.
        """
        module = rebuild(get_object(self.workshop.store, self.unpruned.checkpoint)).module
        engine = ScheduleEngine(
            module,
            schedule_of(unit, sparsity),
            self.workshop.example_NCHW,
            base_lr=self.workshop.study.training.lr,
            num_epochs=0,
            spaces=self.spaces,
        )
        engine.prune_before_training()
        return module.eval(), len(engine.kept[unit.layers[0]])

    def _key(self, kind: str, unit: Unit, num_removed: int, **conditions: Any) -> str:
        parts = {
            "version": _IDENTITY_VERSION,
            "unpruned": self.unpruned.checkpoint,
            "layers": unit.layers,
            "num_removed": num_removed,
            **conditions,
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"cache/sensitivity/{kind}/{digest}.json"
