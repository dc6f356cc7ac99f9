"""How a pruned network recovers: right after pruning, with batch normalisation recalibrated, after retraining.

ResNet56 is pruned at many points of the search space of the off-the-shelf schedule. Every step is written down as soon
as it is done, so that the same command goes on where it was interrupted.

    python benchmarks/recovery.py networks IMAGES WEIGHTS RESULTS.json --suspects 20
    python benchmarks/recovery.py retraining IMAGES WEIGHTS RESULTS.json --epochs 1 2 5
    python benchmarks/recovery.py show RESULTS.json

IMAGES is an image folder (``train/<class>/*``, ``test/<class>/*``). Its even test images validate, the odd ones are
left alone. An epoch is ``--train-images`` images long, spread evenly over the training part: figures of short epochs
are no figures of whole ones.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import nn

from secateur import resources
from secateur.config import Dataset, FromTest, Range, Search
from secateur.datasets import ImageSet, Splits, load_splits
from secateur.models import create_model, load_weights
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule, load_schedule
from secateur.search.sampling import sobol_point
from secateur.search.space import Space
from secateur.thinning import ChannelSpace, count_params, trace_channel_spaces
from secateur.training import (
    NoCallbacks,
    TrainingResult,
    TrainingSettings,
    evaluate,
    fastest_precision,
    recalibrate_bn,
    train,
)

MODEL = "resnet56_cifar"
OFF_THE_SHELF = Path("schedules/compression/resnet56-filters.yaml")
SPARSITIES = [f"filter_pruner_{percent}.desired_sparsity" for percent in (70, 60, 40, 20)]
REGIONS = {"": (0.0, 0.99), "far corner ": (0.9, 0.99), "corner ": (0.88, 0.94)}
"""Of all four sparsities. Hardly any network outside the corners predicts one class."""
NUM_FAR = 20
MAX_TRIED = 100
RECALIBRATION_IMAGES = 2560
BATCH_SIZE = 64
PEAK_LR = 0.02
"""Of the one-cycle that retrains unless a variant says otherwise."""


class Results:
    """A JSON file that is written anew after every step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def done(self, *keys: str) -> bool:
        """Tell whether there is something under `keys`."""
        return self.get(*keys) is not None

    def get(self, *keys: str) -> Any:
        """Return what is under `keys`, or None."""
        value: Any = self.content
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def put(self, value: Any, *keys: str) -> None:
        """Write a step down."""
        place = self.content
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        beside = self._path.with_suffix(".tmp")
        beside.write_text(json.dumps(self.content, indent=1))
        beside.replace(self._path)


class Bench:
    """The unpruned network, the images, and what is done with them."""

    def __init__(self, images: Path, weights: Path, num_train: int, num_validation: int) -> None:
        splits = load_splits(Dataset(name=f"imagefolder:{images.absolute()}", validation=FromTest()))
        self.train_images, self.validation = every(splits.train, num_train), every(splits.validation, num_validation)
        self.recalibration = every(splits.train, RECALIBRATION_IMAGES)
        self.splits: Splits = splits
        self.dense = create_model(MODEL, splits.num_classes)
        load_weights(self.dense, weights)
        self.schedule = load_schedule(resources.find(str(OFF_THE_SHELF)))
        self.example_NCHW = torch.zeros(1, 3, splits.input_size, splits.input_size)
        self.spaces: Sequence[ChannelSpace] = trace_channel_spaces(self.dense, self.example_NCHW)

    def prune(self, schedule: Schedule) -> nn.Module:
        """Return a pruned copy of the unpruned network."""
        module = copy.deepcopy(self.dense)
        engine = ScheduleEngine(module, schedule, self.example_NCHW, base_lr=PEAK_LR, num_epochs=1, spaces=self.spaces)
        engine.prune_before_training()
        return module

    def scores(self, module: nn.Module) -> dict[str, Any]:
        """Evaluate on validation images."""
        found = evaluate(module, self.validation, self.splits.normalize, precision=fastest_precision("cpu"))
        return {"top1": found.top1, "loss": found.loss, "num_predicted_classes": found.num_predicted_classes}

    def recalibrate(self, module: nn.Module) -> nn.Module:
        """Return a copy whose batch normalisation has the statistics of what it is fed now."""
        module = copy.deepcopy(module)
        recalibrate_bn(module, self.recalibration, self.splits.normalize, num_images=RECALIBRATION_IMAGES)
        return module

    def retrain(self, module: nn.Module, epochs: int, **changes: Any) -> TrainingResult:
        """Train in place, by default with one cycle; with a `distillation_weight` the unpruned network teaches."""
        settings = TrainingSettings(
            **{
                "epochs": epochs,
                "lr": PEAK_LR,
                "lr_curve": "one_cycle",
                "batch_size": BATCH_SIZE,
                "precision": fastest_precision("cpu"),
                **changes,
            }
        )
        return train(
            module,
            self.train_images,
            self.validation,
            settings,
            NoCallbacks(),
            normalize=self.splits.normalize,
            teacher=copy.deepcopy(self.dense) if settings.distillation_weight else None,
        )


def every(images: ImageSet, count: int) -> ImageSet:
    """Return `count` images, evenly spread: an image folder is ordered by class."""
    rows = torch.linspace(0, len(images) - 1, count).long()
    return ImageSet(images_NHWC=images.images_NHWC[rows], labels_N=images.labels_N[rows])


def run_networks(bench: Bench, results: Results, num_usual: int, num_suspects: int) -> None:
    """Prune points of the search space, and of two corners of it until enough predict one class; retrain them."""
    if not results.done("unpruned"):
        results.put(bench.scores(bench.dense), "unpruned")
    for region in REGIONS:
        num_points = {"": num_usual, "far corner ": NUM_FAR}.get(region, MAX_TRIED)
        for index in range(num_points):
            key = f"{region}{index}"
            look_at(bench, results, key, point(bench, region, index))
            if is_suspect(results.get("networks", key)):
                retrain_network(bench, results, key)
            networks = results.get("networks").values()
            if region and sum("trained" in network for network in networks if is_suspect(network)) >= num_suspects:
                break
    for index in range(num_usual):
        retrain_network(bench, results, str(index))


def point(bench: Bench, region: str, index: int) -> dict[str, Any]:
    """Return point `index` of the off-the-shelf schedule's sparsities within a region."""
    lowest, highest = REGIONS[region]
    ranges = dict.fromkeys(SPARSITIES, Range(min=lowest, max=highest))
    search = Search(parameters=ranges, objectives={"top1": "maximize"})
    space = Space.from_search(search, {name: bench.schedule.base_value(name) for name in SPARSITIES})
    return sobol_point(space, 0, index)


def look_at(bench: Bench, results: Results, key: str, parameters: dict[str, Any]) -> None:
    """Evaluate a network right after pruning, and recalibrated; in a corner, only if it predicts one class."""
    if results.done("networks", key):
        return
    module = bench.prune(bench.schedule.with_parameters(parameters))
    found: dict[str, Any] = {
        "parameters": parameters,
        "num_params": count_params(module),
        "pruned": bench.scores(module),
    }
    if key.isdecimal() or is_suspect(found):
        found["recalibrated"] = bench.scores(bench.recalibrate(module))
    results.put(found, "networks", key)
    print(key, json.dumps(found), flush=True)


def retrain_network(bench: Bench, results: Results, key: str) -> None:
    """Retrain a network for one epoch, and evaluate it."""
    if results.done("networks", key, "trained"):
        return
    module = bench.prune(bench.schedule.with_parameters(results.get("networks", key, "parameters")))
    bench.retrain(module, 1)
    results.put(bench.scores(module), "networks", key, "trained")
    print(key, json.dumps(results.get("networks", key, "trained")), flush=True)


def is_suspect(network: Mapping[str, Any]) -> bool:
    return bool(network["pruned"]["num_predicted_classes"] == 1)


VARIANTS: dict[str, dict[str, Any]] = {
    "one cycle to 0.02": {},
    "recalibrated, one cycle to 0.02": {"is_recalibrated": True},
    "recalibrated, one cycle to 0.02, distillation": {"is_recalibrated": True, "distillation_weight": 0.7},
    "recalibrated, one cycle to 0.005, distillation": {
        "is_recalibrated": True,
        "distillation_weight": 0.7,
        "lr": 0.005,
    },
    "recalibrated, one cycle to 0.1": {"is_recalibrated": True, "lr": 0.1},
    "lr 0.1 held (the dissertation)": {"lr": 0.1, "lr_curve": "schedule"},
    "lr 0.01 held": {"lr": 0.01, "lr_curve": "schedule"},
}
"""Changes to how `Bench.retrain` trains, and whether batch normalisation is recalibrated first."""


def is_held(variant: str) -> bool:
    """Tell whether the learning rate is constant: then a long training passes through all shorter ones."""
    return VARIANTS[variant].get("lr_curve") == "schedule"


def run_retraining(
    bench: Bench, results: Results, lengths: Sequence[int], seeds: Sequence[int], variants: Sequence[str]
) -> None:
    """Retrain the off-the-shelf network in several ways, shorter trainings first."""
    if not results.done("off_the_shelf"):
        module = bench.prune(bench.schedule)
        found = {"pruned": bench.scores(module), "recalibrated": bench.scores(bench.recalibrate(module))}
        results.put(found, "off_the_shelf")
    for seed in seeds:
        for epochs in lengths:
            for variant in variants:
                key = f"{variant}, {epochs} epochs, seed {seed}"
                is_passed = is_held(variant) and epochs < max(lengths)
                if not is_passed and not results.done("retraining", key):
                    results.put(retrain_in_one_way(bench, variant, epochs, seed), "retraining", key)
                    print(key, json.dumps(results.get("retraining", key)), flush=True)


def retrain_in_one_way(bench: Bench, variant: str, epochs: int, seed: int) -> dict[str, Any]:
    """Return what became of the off-the-shelf network."""
    settings = {**VARIANTS[variant]}
    module = bench.prune(bench.schedule)
    if settings.pop("is_recalibrated", False):
        module = bench.recalibrate(module)
    trained = bench.retrain(module, epochs, seed=seed, **settings)
    return {
        "variant": variant,
        "epochs": epochs,
        "seed": seed,
        "curve": [epoch.top1 for epoch in trained.epochs],
        "trained": bench.scores(module),
        "trained_and_recalibrated": bench.scores(bench.recalibrate(module)),
        "seconds": sum(epoch.duration_s for epoch in trained.epochs),
    }


def show(results: Results) -> None:
    """Print the tables of docs/training-experiments.md."""
    content = results.content
    print(json.dumps(content.get("setting"), indent=1))
    if unpruned := content.get("unpruned"):
        print(f"\nunpruned: top1 {unpruned['top1']:.2f}")
    if networks := content.get("networks"):
        show_networks(networks)
    if off_the_shelf := content.get("off_the_shelf"):
        print("\noff the shelf: top1", ", ".join(f"{k} {v['top1']:.2f}" for k, v in off_the_shelf.items()))
    if retraining := content.get("retraining"):
        show_retraining(list(retraining.values()))


STEPS = ("pruned", "recalibrated", "trained")


def show_networks(networks: Mapping[str, Mapping[str, Any]]) -> None:
    usual = [network for key, network in networks.items() if key.isdecimal()]
    suspects = [network for network in networks.values() if is_suspect(network)]
    show_steps("networks of the whole search space", usual)
    show_steps(f"networks that predict one class right after pruning, of {len(networks)}", suspects)
    print("\nrecalibration, networks of the whole search space")
    print("| top1 pruned | n | better | mean change |\n| - | - | - | - |")
    for low, high in ((0, 20), (20, 60), (60, 75), (75, 85), (85, 100)):
        changes = [
            network["recalibrated"]["top1"] - network["pruned"]["top1"]
            for network in usual
            if low <= network["pruned"]["top1"] < high
        ]
        if changes:
            num_better = sum(change > 0 for change in changes)
            print(f"| {low} to {high} | {len(changes)} | {num_better} | {statistics.mean(changes):+.1f} |")
    for name, group in (("of the whole search space", usual), ("of one class", suspects)):
        if len(trained := [network for network in group if "trained" in network]) > 2:
            show_correlations(name, trained)


def show_steps(name: str, networks: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{len(networks)} {name}\n| step | n | one class | top1 min | median | max |\n|" + " --- |" * 6)
    for step in STEPS:
        of_step = [network[step] for network in networks if step in network]
        if of_step:
            top1 = [scores["top1"] for scores in of_step]
            num_single = sum(scores["num_predicted_classes"] == 1 for scores in of_step)
            figures = f"{min(top1):.1f} | {statistics.median(top1):.1f} | {max(top1):.1f}"
            print(f"| {step} | {len(top1)} | {num_single} | {figures} |")


def show_correlations(name: str, networks: Sequence[Mapping[str, Any]]) -> None:
    print(f"\nSpearman's correlation with top1 after one epoch, {len(networks)} networks {name}")
    print("| of | rho |\n| - | - |")
    final = [network["trained"]["top1"] for network in networks]
    for name, values in {
        "top1 right after pruning": [network["pruned"]["top1"] for network in networks],
        "top1 recalibrated": [network["recalibrated"]["top1"] for network in networks],
        "number of parameters": [network["num_params"] for network in networks],
    }.items():
        rho = f"{spearmanr(values, final).statistic:.2f}" if min(values) < max(values) else "all are equal"
        print(f"| {name} | {rho} |")


def show_retraining(runs: Sequence[Mapping[str, Any]]) -> None:
    """Print validation top1 after the last epoch; where the rate is held, after every epoch of the longest training."""
    lengths = sorted({run["epochs"] for run in runs})
    print("\n| variant |" + "".join(f" {n} epochs |" for n in lengths) + "\n|" + " --- |" * (len(lengths) + 1))
    for variant in dict.fromkeys(run["variant"] for run in runs):
        cells = []
        for length in lengths:
            of = [
                run["curve"][length - 1]
                for run in runs
                if run["variant"] == variant
                and (run["epochs"] == length or (is_held(variant) and run["epochs"] > length))
            ]
            spread = f" ± {statistics.stdev(of):.2f} (n={len(of)})" if len(of) > 1 else ""
            cells.append(f"{statistics.mean(of):.2f}{spread}" if of else "-")
        print(f"| {variant} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["networks", "retraining", "show"])
    parser.add_argument("paths", nargs="+", type=Path, help="IMAGES WEIGHTS RESULTS.json, or RESULTS.json to show")
    parser.add_argument("--networks", type=int, default=35, help="points of the whole search space")
    parser.add_argument("--suspects", type=int, default=20, help="networks that predict one class to find")
    parser.add_argument("--train-images", type=int, default=2560)
    parser.add_argument("--validation-images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.paths[-1])
    if arguments.action == "show":
        show(results)
        return
    images, weights, _ = arguments.paths
    setting = {
        "train_images": arguments.train_images,
        "validation_images": arguments.validation_images,
        "recalibration_images": RECALIBRATION_IMAGES,
        "peak_lr": PEAK_LR,
        "batch_size": BATCH_SIZE,
        "precision": fastest_precision("cpu"),
        "torch": torch.__version__,
        "cpu": cpu_name(),
    }
    if results.get("setting") not in (None, setting):
        parser.error(f"{arguments.paths[-1]} was begun with {results.get('setting')}, not {setting}")
    results.put(setting, "setting")
    bench = Bench(images, weights, arguments.train_images, arguments.validation_images)
    if arguments.action == "networks":
        run_networks(bench, results, arguments.networks, arguments.suspects)
    else:
        run_retraining(bench, results, arguments.epochs, arguments.seeds, arguments.variants)


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
