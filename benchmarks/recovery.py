"""How a pruned network recovers: right after pruning, with batch normalisation recalibrated, after retraining.

ResNet56 is pruned at many points of the search space of the off-the-shelf schedule. Every step is written down as soon
as it is done, so that the same command goes on where it was interrupted.

    python benchmarks/recovery.py networks IMAGES WEIGHTS RESULTS.json --suspects 20
    python benchmarks/recovery.py retraining IMAGES WEIGHTS RESULTS.json --epochs 1 2 5
    python benchmarks/recovery.py show RESULTS.json

IMAGES is an image folder (``train/<class>/*``, ``test/<class>/*``). Its even test images validate; the odd ones are left
alone. An epoch is ``--train-images`` images long, spread evenly over the training part: figures of short epochs are
no figures of whole ones.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from secateur import resources
from secateur.config import Dataset, FromTest, Range, Search
from secateur.datasets import ImageSet, Splits, load_splits
from secateur.models import create_model, load_weights
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule, load_schedule
from secateur.search.sampling import sobol_point
from secateur.search.space import Space
from secateur.thinning import ChannelSpace, count_params, trace_channel_spaces
from secateur.training import NoCallbacks, TrainingSettings, evaluate, fastest_precision, train
from secateur.training.batches import normalized
from secateur.training.settings import autocast

MODEL = "resnet56_cifar"
OFF_THE_SHELF = Path("schedules/compression/resnet56-filters.yaml")
SPARSITIES = [f"filter_pruner_{percent}.desired_sparsity" for percent in (70, 60, 40, 20)]
HIGHEST = 0.99
CORNER = 0.9
"""Lowest sparsity of networks that may predict one class; elsewhere hardly any does."""
MAX_TRIED = 100
RECALIBRATION_BATCHES = 20
BATCH_SIZE = 128
PEAK_LR = 0.02
"""Of the one-cycle that retrains unless a variant says otherwise."""


class Results:
    """A JSON file that is written anew after every step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def done(self, *keys: str) -> bool:
        return self.get(*keys) is not None

    def get(self, *keys: str) -> Any:
        value: Any = self.content
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def put(self, value: Any, *keys: str) -> None:
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
        self.recalibration = every(splits.train, RECALIBRATION_BATCHES * BATCH_SIZE)
        self.splits: Splits = splits
        self.dense = create_model(MODEL, splits.num_classes)
        load_weights(self.dense, weights)
        self.schedule = load_schedule(resources.find(str(OFF_THE_SHELF)))
        self.example_NCHW = torch.zeros(1, 3, splits.input_size, splits.input_size)
        self.spaces: Sequence[ChannelSpace] = trace_channel_spaces(self.dense, self.example_NCHW)

    def prune(self, schedule: Schedule) -> nn.Module:
        module = copy.deepcopy(self.dense)
        engine = ScheduleEngine(module, schedule, self.example_NCHW, base_lr=PEAK_LR, num_epochs=1, spaces=self.spaces)
        engine.prune_before_training()
        return module

    def scores(self, module: nn.Module) -> dict[str, Any]:
        found = evaluate(module, self.validation, self.splits.normalize, precision=fastest_precision("cpu"))
        return {"top1": found.top1, "loss": found.loss, "num_predicted_classes": found.num_predicted_classes}

    def recalibrate(self, module: nn.Module) -> nn.Module:
        """Return a copy whose batch normalisation has the statistics of what it is fed now."""
        module = copy.deepcopy(module)
        norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        module.train()
        with torch.no_grad(), autocast("cpu", fastest_precision("cpu")):
            for batch_NHWC in torch.split(self.recalibration.images_NHWC[shuffled(self.recalibration)], BATCH_SIZE):
                inputs_NCHW = normalized(batch_NHWC, self.splits.normalize)
                module(inputs_NCHW.contiguous(memory_format=torch.channels_last))
        for norm in norms:
            norm.momentum = 0.1
        return module.eval()

    def retrain(self, module: nn.Module, epochs: int, callbacks: NoCallbacks, lr: float, seed: int) -> Any:
        settings = TrainingSettings(
            epochs=epochs, lr=lr, batch_size=BATCH_SIZE, seed=seed, precision=fastest_precision("cpu")
        )
        return train(module, self.train_images, self.validation, settings, callbacks, normalize=self.splits.normalize)


class OneCycle(NoCallbacks):
    """The learning rate rises for three tenths of the training and falls to nothing (Smith and Topin 2018)."""

    def __init__(self, peak_lr: float, epochs: int, num_images: int) -> None:
        self._peak_lr = peak_lr
        self._total_steps = epochs * -(-num_images // BATCH_SIZE)
        self._cycle: OneCycleLR | None = None
        self._step = 0

    def on_training_begin(self, optimizer: Optimizer) -> None:
        self._cycle = OneCycleLR(optimizer, self._peak_lr, total_steps=self._total_steps, cycle_momentum=False)

    def on_minibatch_end(self, epoch: int, minibatch: int, num_minibatches: int) -> None:  # noqa: ARG002
        self._step += 1
        if self._cycle is not None and self._step < self._total_steps:
            self._cycle.step()


def every(images: ImageSet, count: int) -> ImageSet:
    """Return `count` images, evenly spread: an image folder is ordered by class."""
    rows = torch.linspace(0, len(images) - 1, count).long()
    return ImageSet(images_NHWC=images.images_NHWC[rows], labels_N=images.labels_N[rows])


def shuffled(images: ImageSet) -> Tensor:
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(0))


def run_networks(bench: Bench, results: Results, num_usual: int, num_suspects: int) -> None:
    """Prune points of the search space, and of its far corner until enough predict one class; retrain them."""
    if not results.done("unpruned"):
        results.put(bench.scores(bench.dense), "unpruned")
        results.put(bench.scores(bench.recalibrate(bench.dense)), "unpruned_recalibrated")
    for index in range(num_usual):
        look_at(bench, results, str(index), point(bench, 0.0, index))
    num_found = 0
    for index in range(MAX_TRIED):
        key = f"corner {index}"
        look_at(bench, results, key, point(bench, CORNER, index))
        num_found += is_suspect(results.get("networks", key))
        if num_found >= num_suspects:
            break
    networks = results.get("networks")
    for key in sorted(networks, key=lambda key: not is_suspect(networks[key])):
        if is_suspect(networks[key]) or key.isdecimal():
            retrain_network(bench, results, key)


def point(bench: Bench, lowest: float, index: int) -> dict[str, Any]:
    """Return point `index` of the off-the-shelf schedule's sparsities, each at least `lowest`."""
    ranges = dict.fromkeys(SPARSITIES, Range(min=lowest, max=HIGHEST))
    search = Search(parameters=ranges, objectives={"top1": "maximize"})
    return sobol_point(
        Space.from_search(search, {name: bench.schedule.base_value(name) for name in SPARSITIES}), 0, index
    )


def look_at(bench: Bench, results: Results, key: str, parameters: dict[str, Any]) -> None:
    """Evaluate a network right after pruning, and recalibrated."""
    if results.done("networks", key):
        return
    module = bench.prune(bench.schedule.with_parameters(parameters))
    found = {
        "parameters": parameters,
        "num_params": count_params(module),
        "pruned": bench.scores(module),
        "recalibrated": bench.scores(bench.recalibrate(module)),
    }
    results.put(found, "networks", key)
    print(key, json.dumps(found), flush=True)


def retrain_network(bench: Bench, results: Results, key: str) -> None:
    """Retrain a network for one epoch, and evaluate it."""
    if results.done("networks", key, "trained"):
        return
    module = bench.prune(bench.schedule.with_parameters(results.get("networks", key, "parameters")))
    bench.retrain(module, 1, OneCycle(PEAK_LR, 1, len(bench.train_images)), PEAK_LR, seed=0)
    results.put(bench.scores(module), "networks", key, "trained")
    print(key, json.dumps(results.get("networks", key, "trained")), flush=True)


def is_suspect(network: Mapping[str, Any]) -> bool:
    return bool(network["pruned"]["num_predicted_classes"] == 1)


VARIANTS = ("one-cycle", "one-cycle, recalibrated first", "lr 0.1 held", "lr 0.01 held")


def run_retraining(bench: Bench, results: Results, lengths: Sequence[int], seeds: Sequence[int]) -> None:
    """Retrain the off-the-shelf network in several ways."""
    if not results.done("off_the_shelf"):
        module = bench.prune(bench.schedule)
        recalibrated = bench.recalibrate(module)
        results.put(
            {"pruned": bench.scores(module), "recalibrated": bench.scores(recalibrated)},
            "off_the_shelf",
        )
    for seed in seeds:
        for epochs in lengths:
            for variant in VARIANTS:
                key = f"{variant}, {epochs} epochs, seed {seed}"
                if not results.done("retraining", key):
                    retrain_one(bench, results, variant, epochs, seed, key)


def retrain_one(bench: Bench, results: Results, variant: str, epochs: int, seed: int, key: str) -> None:
    module = bench.prune(bench.schedule)
    if "recalibrated" in variant:
        module = bench.recalibrate(module)
    if variant.startswith("lr"):
        lr, callbacks = float(variant.split()[1]), NoCallbacks()
    else:
        lr, callbacks = PEAK_LR, OneCycle(PEAK_LR, epochs, len(bench.train_images))
    started = time.perf_counter()
    trained = bench.retrain(module, epochs, callbacks, lr, seed)
    results.put(
        {
            "variant": variant,
            "epochs": epochs,
            "seed": seed,
            "curve": [epoch.top1 for epoch in trained.epochs],
            "trained": bench.scores(module),
            "trained_and_recalibrated": bench.scores(bench.recalibrate(module)),
            "seconds": time.perf_counter() - started,
        },
        *("retraining", key),
    )
    print(key, json.dumps(results.get("retraining", key)), flush=True)


def show(results: Results) -> None:
    """Print the tables of docs/training-experiments.md."""
    content = results.content
    print(json.dumps(content.get("setting"), indent=1))
    if unpruned := content.get("unpruned"):
        print(f"\nunpruned: top1 {unpruned['top1']:.2f}")
    if networks := content.get("networks"):
        show_networks(list(networks.values()))
    if off_the_shelf := content.get("off_the_shelf"):
        print("\noff the shelf: top1", ", ".join(f"{k} {v['top1']:.2f}" for k, v in off_the_shelf.items()))
    if retraining := content.get("retraining"):
        show_retraining(list(retraining.values()))


STEPS = ("pruned", "recalibrated", "trained", "trained_and_recalibrated")


def show_networks(networks: Sequence[Mapping[str, Any]]) -> None:
    done = [network for network in networks if "trained" in network]
    for name, group in {
        "predict one class right after pruning": [n for n in networks if is_suspect(n)],
        "the others": [n for n in networks if not is_suspect(n)],
    }.items():
        print(f"\n{len(group)} networks: {name}\n| step | n | one class | top1 min | median | max |\n|" + " --- |" * 6)
        for step in STEPS:
            of_step = [network[step] for network in group if step in network]
            if of_step:
                top1 = [scores["top1"] for scores in of_step]
                num_single = sum(scores["num_predicted_classes"] == 1 for scores in of_step)
                print(
                    f"| {step} | {len(top1)} | {num_single} | {min(top1):.1f} | {statistics.median(top1):.1f} |"
                    f" {max(top1):.1f} |"
                )
    print(f"\nSpearman's correlation with top1 of {STEPS[2]}, {len(done)} networks")
    if len(done) > 2:
        final = [network["trained"]["top1"] for network in done]
        for name, of in {
            "top1 pruned": [n["pruned"]["top1"] for n in done],
            "loss pruned": [-n["pruned"]["loss"] for n in done],
            "top1 recalibrated": [n["recalibrated"]["top1"] for n in done],
            "parameters": [n["num_params"] for n in done],
        }.items():
            print(f"| {name} | {spearmanr(of, final).statistic:.2f} |")


def show_retraining(runs: Sequence[Mapping[str, Any]]) -> None:
    lengths = sorted({run["epochs"] for run in runs})
    print("\n| variant |" + "".join(f" {n} epochs |" for n in lengths) + "\n|" + " --- |" * (len(lengths) + 1))
    for variant in dict.fromkeys(run["variant"] for run in runs):
        cells = []
        for length in lengths:
            of = [run["trained"]["top1"] for run in runs if (run["variant"], run["epochs"]) == (variant, length)]
            spread = f" ± {statistics.stdev(of):.2f} (n={len(of)})" if len(of) > 1 else ""
            cells.append(f"{statistics.mean(of):.2f}{spread}" if of else "-")
        print(f"| {variant} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["networks", "retraining", "show"])
    parser.add_argument("paths", nargs="+", type=Path, help="IMAGES WEIGHTS RESULTS.json, or RESULTS.json to show")
    parser.add_argument("--networks", type=int, default=32, help="points of the whole search space")
    parser.add_argument("--suspects", type=int, default=20, help="networks that predict one class to find")
    parser.add_argument("--train-images", type=int, default=5000)
    parser.add_argument("--validation-images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
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
        "recalibration_images": RECALIBRATION_BATCHES * BATCH_SIZE,
        "peak_lr": PEAK_LR,
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
        run_retraining(bench, results, arguments.epochs, arguments.seeds)


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
