"""The dissertation's models on this host: latency against unpruned ResNet56, top1 without retraining.

    python benchmarks/dissertation.py IMAGES WEIGHTS [--devices cpu-f32-1thread cpu]

IMAGES is an image folder, of whose even test images 1000 validate; top1 is that right after pruning, and with batch
normalisation recalibrated. The dissertation's ratios are those of its device latency (4.375 ms unpruned, on a Neural
Compute Stick 2), its top1 that after the retraining its model had.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from recovery import SPARSITIES, Bench

from secateur.benchmark import measure
from secateur.config import load_device
from secateur.export import export_onnx
from secateur.results import LatencyReport

UNPRUNED_MS = 4.375
VALIDATION_IMAGES = 1000


@dataclass(frozen=True)
class Model:
    """One of its networks."""

    sparsities: tuple[float, float, float, float]
    """Desired, in the order of `SPARSITIES`: groups 70, 60, 40, 20."""
    latency_ms: float
    top1: float
    epochs: int


MODELS: Mapping[str, Model] = {
    "off the shelf": Model((0.7, 0.6, 0.4, 0.2), 3.947, 11.19, 0),
    "off the shelf, retrained": Model((0.7, 0.6, 0.4, 0.2), 3.88, 87.72, 70),
    "523": Model((0.09955, 0.09001, 0.2536, 0.153), 4.397, 27.02, 0),
    "1007": Model((0.9707, 0.3814, 0.9687, 0.9403), 3.347, 39.32, 0),
    "182": Model((0.9519, 0.9352, 0.8789, 0.4657), 3.091, 85.48, 70),
    "89": Model((0.8031, 0.3058, 0.1964, 0.6756), 3.557, 88.08, 70),
    "333": Model((0.8031, 0.3058, 0.1964, 0.6756), 3.265, 88.04, 285),
}
"""Its baselines and its cherry-picked models."""


def main() -> None:
    """Prune, evaluate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--devices", nargs="+", default=["cpu-f32-1thread", "cpu"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options.images, options.weights, num_train=1, num_validation=VALIDATION_IMAGES)
    settings = list(dict.fromkeys(model.sparsities for model in MODELS.values()))
    top1, ratios = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "unpruned.onnx")
        reference.write_bytes(export_onnx(bench.dense.eval(), bench.splits.input_size))
        paths = []
        for number, setting in enumerate(settings):
            module = bench.prune(bench.schedule.with_parameters(dict(zip(SPARSITIES, setting, strict=True))))
            paths.append(Path(folder, f"{number}.onnx"))
            paths[-1].write_bytes(export_onnx(module.eval(), bench.splits.input_size))
            top1[setting] = [bench.scores(network)["top1"] for network in (module, bench.recalibrate(module))]
        for device in options.devices:
            for setting, report in zip(settings, measure(paths, reference, load_device(device)), strict=True):
                if not isinstance(report, LatencyReport):
                    raise report
                ratios[setting, device] = report.latency_ratio
    print(f"unpruned, top1 {bench.scores(bench.dense)['top1']:.1f}\n")
    names = [f"ratio, {device}" for device in options.devices]
    print(f"| model | its ratio | {' | '.join(names)} | its top1 (epochs) | pruned | recalibrated |")
    print("|" + " --- |" * (5 + len(names)))
    for name, model in MODELS.items():
        found = [ratios[model.sparsities, device] for device in options.devices]
        cells = [f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" for ratio in found]
        cells += [f"{model.top1:.2f} ({model.epochs})", *(f"{value:.1f}" for value in top1[model.sparsities])]
        print(f"| {name} | {model.latency_ms / UNPRUNED_MS:.3f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
