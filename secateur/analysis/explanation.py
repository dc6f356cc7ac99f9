"""Why does pruning not shorten inference? One network: unpruned, masked and thinned, on one device."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.analysis.onnx_layers import LayerWork, layers_of_onnx, work_of_onnx
from secateur.analysis.roofline import LayerRun, cost_of, layer_runs, operation_times, roof_networks, roof_of
from secateur.analysis.sparse import SPARSITIES, compare_storage
from secateur.analysis.timing import measure_together
from secateur.config import DeviceProfile
from secateur.export import export_onnx
from secateur.findings import Explanation, LayerComparison, NetworkCost
from secateur.pruning import ScheduleEngine
from secateur.results import LatencyReport, Layer
from secateur.schedule import Schedule


def explain(
    model: str,
    module: nn.Module,
    schedule: Schedule,
    input_size: int,
    profile: DeviceProfile,
    sparsities: Sequence[float] = SPARSITIES,
) -> Explanation:
    """Prune a network as a schedule does before training, and find out what that changes on a device.

    Args:
        model: The network's name.
        module: The network; not changed.
        schedule: Checked against the network.
        input_size: Height and width of its images, in pixels.
        profile: The device, and how it is timed.
        sparsities: At which dense and sparse storage are compared, besides the schedule's own.

    Raises:
        ThinningError: What the schedule prunes cannot be removed.
        MeasurementError: The runner failed, or a network could not be measured.
    """
    thinned, masked = pruned_and_masked(module, schedule, input_size)
    networks = {"unpruned": module.eval(), "masked": masked, "thinned": thinned}
    files = {
        name: export_onnx(network, input_size, opset=profile.onnx_opset, num_checks=0)
        for name, network in networks.items()
    }
    work = {name: work_of_onnx(content, name) for name, content in files.items()}
    reports = measure_together(files, files["unpruned"], profile)
    device = reports["unpruned"].device
    counted = files | roof_networks(profile.onnx_opset)
    operations = operation_times(counted, profile)
    runs = {name: layer_runs(counted[name], operations[name], device.precision) for name in (*files, "products")}
    has_counters = all(runs.values())
    all_runs = [run for of_network in runs.values() for run in of_network.values()]
    roof = roof_of(operations, all_runs, device.precision) if has_counters else None
    layers: tuple[LayerComparison, ...] = ()
    if roof is not None:
        left = {layer.name: layer.shape for layer in work["thinned"]}
        layers = tuple(
            LayerComparison(
                name=name,
                shape=run.work.shape,
                thinned_shape=left.get(name),
                unpruned=cost_of(run, roof),
                thinned=None if (other := runs["thinned"].get(name)) is None else cost_of(other, roof),
            )
            for name, run in runs["unpruned"].items()
        )
    weights, zeroed = _weights(files["unpruned"]), _weights(files["masked"])
    return Explanation(
        model=model,
        schedule=Path(schedule.source).name,
        input_size=input_size,
        device=device,
        **{name: _network_cost(reports[name], work[name], operations[name], runs[name]) for name in networks},
        layers=layers,
        roof=roof,
        storage=tuple(compare_storage(work["unpruned"], weights, zeroed, profile.num_threads, sparsities)),
        num_threads=profile.num_threads or torch.get_num_threads(),
        versions={name: version(name) for name in ("secateur", "torch", "openvino")},
    )


def pruned_and_masked(module: nn.Module, schedule: Schedule, input_size: int) -> tuple[nn.Module, nn.Module]:
    """Return the network without what a schedule prunes, and the network in which that is zero instead.

    Args:
        module: Not changed.
        schedule: Checked against it.
        input_size: Height and width of its images, in pixels.

    Returns:
        In the second, filters that were removed are zero (all of a layer that went with its residual block), and
        weights that are zero in the first.

    Raises:
        ThinningError: What the schedule prunes cannot be removed.
    """
    thinned, masked = copy.deepcopy(module), copy.deepcopy(module)
    example_NCHW = torch.zeros(1, 3, input_size, input_size)
    engine = ScheduleEngine(thinned, schedule, example_NCHW, base_lr=0.1, num_epochs=0)
    engine.prune_before_training()
    left = thinned.state_dict()
    state = masked.state_dict()
    state |= {name: left[name] for name, tensor in state.items() if name in left and left[name].shape == tensor.shape}
    masked.load_state_dict(state)
    for layer, kept in engine.kept.items():
        weight = masked.get_parameter(f"{layer}.weight")
        goes = torch.ones(len(weight), dtype=torch.bool)
        goes[list(kept)] = False
        weight.data[goes] = 0
    return thinned.eval(), masked.eval()


def _weights(content: bytes) -> dict[str, Tensor]:
    """Return the weights as the device gets them: with normalisations folded into them, which leaves zeros zero."""
    return {layer.name: torch.tensor(layer.weight) for layer in layers_of_onnx(content, "the network")}


def _network_cost(
    report: LatencyReport, work: Sequence[LayerWork], operations: Sequence[Layer], runs: Mapping[str, LayerRun]
) -> NetworkCost:
    device_ms = sum(operation.ms for operation in operations)
    return NetworkCost(
        latency_ratio=report.latency_ratio,
        is_noisy=report.is_noisy,
        macs=sum(layer.macs for layer in work),
        device_ms=device_ms if operations else None,
        other_ms=device_ms - sum(run.operation.ms for run in runs.values()),
    )
