"""The demonstration: is what we find better than what an expert, or a smaller network, gives at the same latency?

Its protocol is docs/demonstration.md. Every step is kept in FOLDER, so that the same command goes on where it was
interrupted.

    python benchmarks/demonstration.py [FOLDER] [--set key=value ...] [--epochs 30] [--seeds 5] [--devices ...]
    python benchmarks/demonstration.py [FOLDER] --smoke    the same steps, so small that their figures mean nothing
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from recovery import Results, cpu_name
from scipy.stats import t as student
from torch import nn

from flows import run_study
from secateur import resources
from secateur.benchmark import measure
from secateur.candidate import Workshop
from secateur.config import DeviceProfile, ParameterValue, Study, Training, load_device
from secateur.export import export_onnx
from secateur.leaderboard import leaderboard
from secateur.models import create_model
from secateur.results import OFF_THE_SHELF, UNPRUNED, LatencyReport, StudyResults, TrialRecord
from secateur.store import get_object, open_store
from secateur.thinning import rebuild
from secateur.training import NoCallbacks, evaluate, train

STUDY = "schedules/studies/dissertation-multi.yaml"
SEARCH = ("training.epochs=2", "training.lr=0.02", "training.distillation=true", "budget.trials=64")
"""Of the search, unless `--set` says otherwise: its candidates are retrained shortly, its champions anew and longer."""
SMOKE = (
    "model=resnet20_cifar",
    f"schedule={resources.find('schedules/compression/resnet20-filters.yaml')}",
    "baseline.epochs=1",
    "training.epochs=0",
    "budget.trials=4",
)
SMOKE_PROFILE = {"num_processes": 1, "min_rounds": 5, "max_duration_s": 0.2, "num_warmups": 1}
SCRATCH = "resnet20_cifar"
"""The smaller network, trained from scratch."""
PRUNED_LR, SCRATCH_LR = 0.02, 0.1
"""Peaks of the one-cycle: what each kind of start recovers, or learns, with."""
SHELF = "off the shelf"
ALPHA, POWER = 0.05, 0.8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large the demonstration is, and where it is kept."""

    folder: Path
    devices: Mapping[str, DeviceProfile]
    overrides: Sequence[str]
    """Of the search, as with --set."""
    epochs: int
    num_seeds: int

    @property
    def setting(self) -> dict[str, Any]:
        """What must not change while it runs."""
        devices = {name: profile.model_dump(exclude_defaults=True) for name, profile in self.devices.items()}
        size = {"epochs": self.epochs, "search": list(self.overrides)}
        return {**size, "devices": devices, "cpu": cpu_name(), "torch": torch.__version__}

    def onnx(self, name: str) -> Path:
        """Return where an exported network lies."""
        return self.folder / "onnx" / f"{name.replace(' ', '-')}.onnx"


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained with every seed."""

    make: Callable[[int], nn.Module]
    """Seed -> the network as it is before."""
    lr: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search for one device knows, and makes networks of."""

    results: StudyResults
    workshop: Workshop

    @cached_property
    def unpruned_key(self) -> str:
        """The artifact key of what all are pruned from."""
        compressed = self.results.baselines[UNPRUNED].compressed
        assert compressed is not None, "a finished study has its baselines"
        return compressed.checkpoint

    def unpruned(self) -> nn.Module:
        """Return the unpruned network."""
        return rebuild(get_object(self.workshop.store, self.unpruned_key)).module

    def pruned(self, parameters: Mapping[str, ParameterValue]) -> nn.Module:
        """Return a candidate, recalibrated, as it is before its retraining."""
        pruned = self.workshop.prune(self.unpruned_key, parameters)
        if self.workshop.is_recalibrated(pruned):
            self.workshop.recalibrate(pruned)
        return pruned.module

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The trials that no other beats, by validation images and after the search's short retraining."""
        return [row.record for row in leaderboard(self.results) if row.is_on_front]

    def best_within(self, latency_ratio: float) -> TrialRecord:
        """Return the most accurate trial that is no slower; the fastest if all are."""
        fast = [trial for trial in self.front if trial.metrics["latency_ratio"] <= latency_ratio]
        if not fast:
            return min(self.front, key=lambda trial: trial.metrics["latency_ratio"])
        return max(fast, key=lambda trial: trial.metrics["top1"])

    def fastest_above(self, top1: float) -> TrialRecord:
        """Return the fastest trial that is no less accurate; the most accurate if all are."""
        good = [trial for trial in self.front if trial.metrics["top1"] >= top1]
        if not good:
            return max(self.front, key=lambda trial: trial.metrics["top1"])
        return min(good, key=lambda trial: trial.metrics["latency_ratio"])


def search(plan: Plan, device: str) -> Found:
    """Run the search for a device to its end, or take what it found from the store."""
    profile = plan.devices[device].model_dump_json(exclude_defaults=True)
    own = [f"name=demonstration-{device}", f"device={profile}"]
    store = str(plan.folder / "store")
    results = run_study(STUDY, store=store, overrides=[*plan.overrides, *own])
    workshop = Workshop(study=Study.model_validate(results.study), store=open_store(store))
    return Found(results=results, workshop=workshop)


def smaller_network(found: Found, seed: int) -> nn.Module:
    """Return the rival that was never pruned, with fresh weights."""
    torch.manual_seed(seed)
    return create_model(SCRATCH, found.workshop.splits.num_classes)


def choose(plan: Plan, found: Mapping[str, Found], results: Results) -> None:
    """Write down which trial is the champion against which rival, before any of them is trained.

    Only what the search knew counts: validation images, short retraining. Each rival meets the champion that is to be
    as fast; off the shelf meets one that is to be as accurate, too.
    """
    for device, its in found.items():
        if not results.done("chosen", device):
            shelf = its.results.baselines[OFF_THE_SHELF].metrics
            start = export(plan, SCRATCH, smaller_network(its, 0), its.workshop.splits.input_size)
            scratch_ratio = time_networks(plan, its, device, {SCRATCH: start})[SCRATCH]["estimate"]
            champions = {
                f"as fast as {SHELF}": its.best_within(shelf["latency_ratio"]),
                f"as accurate as {SHELF}": its.fastest_above(shelf["top1"]),
                f"as fast as {SCRATCH}": its.best_within(scratch_ratio),
            }
            results.put({claim: trial.label for claim, trial in champions.items()}, "chosen", device)


def all_networks(found: Mapping[str, Found], chosen: Mapping[str, Mapping[str, str]]) -> dict[str, Network]:
    """Return rivals and champions by name; what two claims share is trained once."""
    some = next(iter(found.values()))
    networks = {
        SHELF: Network(make=lambda _: some.pruned({}), lr=PRUNED_LR),
        SCRATCH: Network(make=lambda seed: smaller_network(some, seed), lr=SCRATCH_LR),
    }
    for device, labels in chosen.items():
        parameters = {trial.label: trial.parameters for trial in found[device].results.trials}
        for label in labels.values():
            networks[champion(device, label)] = Network(
                make=lambda _, its=found[device], point=parameters[label]: its.pruned(point), lr=PRUNED_LR
            )
    return networks


def champion(device: str, label: str) -> str:
    return f"trial {label} for {device}"


def train_network(plan: Plan, some: Found, name: str, network: Network, seed: int) -> dict[str, float]:
    """Train with the recipe that all share, export, and look at the test images once."""
    workshop, splits = some.workshop, some.workshop.splits
    training = Training(epochs=plan.epochs, lr=network.lr, lr_curve="one_cycle", distillation=True)
    name, module = f"{name} seed {seed}", network.make(seed)
    checkpoint = plan.onnx(name).with_suffix(".safetensors")
    result = train(
        module,
        splits.train,
        splits.validation,
        replace(workshop.settings(training), seed=seed),
        NoCallbacks(),
        normalize=splits.normalize,
        teacher=some.unpruned(),
        checkpoint=checkpoint,
    )
    test = evaluate(module, splits.test, splits.normalize, device=workshop.device)
    export(plan, name, module, splits.input_size)
    checkpoint.unlink(missing_ok=True)
    return {
        "test_top1": test.top1,
        "validation_top1": result.validation.top1,
        "seconds": sum(epoch.duration_s for epoch in result.epochs),
    }


def export(plan: Plan, name: str, module: nn.Module, input_size: int) -> Path:
    """Write a network down for measuring."""
    path = plan.onnx(name)
    path.write_bytes(export_onnx(module.cpu().eval(), input_size))
    return path


def time_networks(plan: Plan, some: Found, device: str, paths: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Measure networks on a device together, each paired with the unpruned one; name -> interval of the ratio."""
    reference = export(plan, UNPRUNED, some.unpruned(), some.workshop.splits.input_size)
    intervals = {}
    for name, report in zip(paths, measure(list(paths.values()), reference, plan.devices[device]), strict=True):
        if not isinstance(report, LatencyReport):
            raise report
        intervals[name] = report.latency_ratio.model_dump(include={"estimate", "low", "high"})
    return intervals


def run(plan: Plan, results: Results) -> None:
    """Do what is missing: search, choose, train, measure."""
    found = {device: search(plan, device) for device in plan.devices}
    some = next(iter(found.values()))
    choose(plan, found, results)
    networks = all_networks(found, results.get("chosen"))
    for seed, (name, network) in itertools.product(range(plan.num_seeds), networks.items()):
        if not results.done("trained", name, str(seed)):
            results.put(train_network(plan, some, name, network, seed), "trained", name, str(seed))
            print(f"{name}, seed {seed}: trained", file=sys.stderr, flush=True)
    for device, seed in itertools.product(plan.devices, range(plan.num_seeds)):
        if not results.done("measured", device, str(seed)):
            paths = {name: plan.onnx(f"{name} seed {seed}") for name in networks}
            results.put(time_networks(plan, some, device, paths), "measured", device, str(seed))


def detectable(deviation: float, num_seeds: int) -> float:
    """Return the difference of two means that a two-sided t-test finds with the stated power.

    Args:
        deviation: Standard deviation from seed to seed, the same in both arms.
        num_seeds: In each arm, at least two.
    """
    degrees = 2 * num_seeds - 2
    quantiles = student.ppf(1 - ALPHA / 2, degrees) + student.ppf(POWER, degrees)
    return float(deviation * math.sqrt(2 / num_seeds) * quantiles)


def show(content: Mapping[str, Any]) -> None:
    """Print every network on every device, and every claim."""
    top1 = {name: [run["test_top1"] for run in runs.values()] for name, runs in content["trained"].items()}
    devices = content["measured"]
    ratios = {
        device: {name: [run[name]["estimate"] for run in runs.values()] for name in top1}
        for device, runs in devices.items()
    }
    print("| network | test top1 |" + "".join(f" latency ratio, {device} |" for device in devices))
    print("|" + " --- |" * (2 + len(devices)))
    for name, values in top1.items():
        cells = [f"{statistics.mean(ratios[device][name]):.3f} ({spread(ratios[device][name])})" for device in devices]
        print(f"| {name} | {statistics.mean(values):.2f} ({spread(values)}) | {' | '.join(cells)} |")
    print("\nMeans over the seeds (standard deviation).\n")
    print("| champion | its search's device | against | top1 gained [95 %] | detectable | times as fast |")
    print("|" + " --- |" * 6)
    for device, labels in content["chosen"].items():
        for claim, label in labels.items():
            ours, rival = champion(device, label), SCRATCH if claim.endswith(SCRATCH) else SHELF
            speed = statistics.mean(ratios[device][rival]) / statistics.mean(ratios[device][ours])
            gained, finds = difference(top1[ours], top1[rival])
            print(f"| {claim} (trial {label}) | {device} | {rival} | {gained} | {finds} | {speed:.2f} |")


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, str]:
    """Return the difference of two means with its interval (Welch 1947), and what could have been detected."""
    num_seeds, gained = len(ours), statistics.mean(ours) - statistics.mean(theirs)
    variances = [statistics.variance(values) if num_seeds > 1 else 0.0 for values in (ours, theirs)]
    if not any(variances):
        return f"{gained:+.2f}", "-"
    degrees = (num_seeds - 1) * sum(variances) ** 2 / sum(variance**2 for variance in variances)
    margin = student.ppf(1 - ALPHA / 2, degrees) * math.sqrt(sum(variances) / num_seeds)
    finds = detectable(math.sqrt(statistics.mean(variances)), num_seeds)
    return f"{gained:+.2f} [{gained - margin:+.2f}, {gained + margin:+.2f}]", f"{finds:.2f}"


def spread(values: Sequence[float]) -> str:
    return f"{statistics.stdev(values):.3f}" if len(values) > 1 else "-"


def main() -> None:
    """Run what is missing, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/demonstration"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--devices", nargs="+", default=["cpu-f32-1thread", "cpu"])
    parser.add_argument("--smoke", action="store_true", help="ResNet20 on the digits, one epoch, two seeds, one device")
    options = parser.parse_args()
    if options.smoke:
        options.epochs, options.seeds, options.devices = 1, 2, options.devices[:1]
    devices = {name: load_device(name) for name in options.devices}
    if options.smoke:
        devices = {name: profile.model_copy(update=SMOKE_PROFILE) for name, profile in devices.items()}
    overrides = [*SEARCH, *(SMOKE if options.smoke else ()), *options.overrides]
    plan = Plan(
        folder=options.folder, devices=devices, overrides=overrides, epochs=options.epochs, num_seeds=options.seeds
    )
    plan.onnx("").parent.mkdir(parents=True, exist_ok=True)
    results = Results(options.folder / "results.json")
    if results.get("setting") not in (None, plan.setting):
        parser.error(f"{options.folder} was begun with {results.get('setting')}, not {plan.setting}")
    results.put(plan.setting, "setting")
    run(plan, results)
    show(results.content)


if __name__ == "__main__":
    main()
