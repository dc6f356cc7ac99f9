"""Which residual blocks may go? Two orders of importance, by what is left after removal and after retraining.

ResNet56 loses the least important blocks of each stage, so many as `REMOVED` says: by the mean absolute weight of their
layers, or by how much the predictions change without each (`secateur.thinning.measure_change_without`). Each network is
recalibrated, then retrained with distillation, from the same seeds. The same command goes on where it was interrupted.

    python benchmarks/depth.py IMAGES WEIGHTS RESULTS.json [--seeds 0 1 2] [--epochs 2]
    python benchmarks/depth.py show RESULTS.json

IMAGES is an image folder; its even test images validate, the odd ones are left alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch
from recovery import Bench, Results, cpu_name, every
from scipy.stats import ttest_rel
from torch import nn

from secateur.thinning import choose_blocks, find_residual_blocks, measure_change_without, remove_blocks
from secateur.training.batches import normalized

REMOVED: Mapping[str, Mapping[str, int]] = {
    "9 of 25": {"layer1": 3, "layer2": 3, "layer3": 3},
    "18 of 25": {"layer1": 6, "layer2": 6, "layer3": 6},
}
"""Blocks of each stage that go."""
NUM_IMAGES = 512
"""That the predictions are of."""
BY_WEIGHTS, BY_PREDICTIONS = "size of weights", "change of predictions"
NUM_TRAIN, NUM_VALIDATION = 6000, 5000
BATCH_SIZE = 128


def importance(bench: Bench) -> dict[str, float]:
    """Return how much predictions change without each block."""
    images = every(bench.splits.train, NUM_IMAGES)
    batches = [normalized(batch, bench.splits.normalize) for batch in images.images_NHWC.split(BATCH_SIZE)]
    blocks = find_residual_blocks(bench.dense, bench.example_NCHW)
    return measure_change_without(bench.dense, blocks, batches)


def without(bench: Bench, removed: Mapping[str, int], important: Mapping[str, float] | None) -> nn.Module:
    """Return the unpruned network without the least important blocks, recalibrated."""
    module = copy.deepcopy(bench.dense)
    blocks = find_residual_blocks(module, bench.example_NCHW)
    keep = {stage: sum(name.startswith(f"{stage}.") for name in blocks) - num for stage, num in removed.items()}
    remove_blocks(module, choose_blocks(module, blocks, keep, important and important.__getitem__), bench.example_NCHW)
    return bench.recalibrate(module)


def run(bench: Bench, results: Results, seeds: list[int], epochs: int) -> None:
    """Do what is missing."""
    if not results.done("importance"):
        results.put(importance(bench), "importance")
    for number, removed in REMOVED.items():
        for seed in seeds:
            for order in (BY_WEIGHTS, BY_PREDICTIONS):
                if results.done(number, order, str(seed)):
                    continue
                module = without(bench, removed, results.get("importance") if order == BY_PREDICTIONS else None)
                before = bench.scores(module)["top1"]
                trained = bench.retrain(module, epochs, seed=seed, batch_size=BATCH_SIZE, distillation_weight=0.7)
                found = {"recalibrated": before, "retrained": trained.validation.top1}
                results.put(found, number, order, str(seed))
                print(number, order, seed, json.dumps(found), flush=True)


def show(results: Results) -> None:
    """Print the table of docs/training-experiments.md; seeds that both orders had."""
    print("| blocks gone | order | recalibrated | retrained | gained [95 %] |\n| --- | --- | --- | --- | --- |")
    for number in REMOVED:
        runs = {order: results.get(number, order) or {} for order in (BY_WEIGHTS, BY_PREDICTIONS)}
        seeds = sorted(runs[BY_WEIGHTS].keys() & runs[BY_PREDICTIONS].keys())
        if len(seeds) < 2:
            continue
        tops = {order: [of_order[seed]["retrained"] for seed in seeds] for order, of_order in runs.items()}
        gain = ttest_rel(tops[BY_PREDICTIONS], tops[BY_WEIGHTS]).confidence_interval()
        mean = statistics.mean(tops[BY_PREDICTIONS]) - statistics.mean(tops[BY_WEIGHTS])
        for order, top1 in tops.items():
            before = runs[order][seeds[0]]["recalibrated"]
            gained = f"{mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]" if order == BY_PREDICTIONS else ""
            spread = f"{statistics.mean(top1):.2f} ({statistics.stdev(top1):.2f})"
            print(f"| {number} | {order} | {before:.2f} | {spread} | {gained} |")


def main() -> None:
    """Run what is missing, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="IMAGES WEIGHTS RESULTS.json, or: show RESULTS.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    results = Results(Path(options.paths[-1]))
    if options.paths[0] != "show":
        torch.set_num_threads(1)
        torch.manual_seed(0)
        images, weights, _ = options.paths
        setting = {
            "images": Path(images).name,
            "weights": Path(weights).name,
            "epochs": options.epochs,
            "train_images": NUM_TRAIN,
            "cpu": cpu_name(),
            "torch": torch.__version__,
        }
        if results.get("setting") not in (None, setting):
            parser.error(f"{options.paths[-1]} was begun with {results.get('setting')}, not {setting}")
        results.put(setting, "setting")
        run(Bench(Path(images), Path(weights), NUM_TRAIN, NUM_VALIDATION), results, options.seeds, options.epochs)
    show(results)


if __name__ == "__main__":
    main()
