"""The demonstration: is what we find better than what an expert, or a smaller network, gives at the same latency?

Its protocol is docs/demonstration.md. Every step is kept in FOLDER, so that the same command goes on where it was
interrupted.

    python benchmarks/demonstration.py [FOLDER] [--set key=value ...] [--epochs 30] [--seeds 5] [--devices ...]
    python benchmarks/demonstration.py [FOLDER] --smoke    the same steps, so small that their figures mean nothing
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from demonstration_arms import (
    DEPTH,
    PRUNED_LR,
    PRUNERS,
    RANDOM,
    RATIOS,
    SCRATCH,
    SHELF,
    WIDTH,
    Found,
    Network,
    champion,
    claims_in,
    rival_of,
    rivals,
    study_of,
    trained,
)
from demonstration_tables import show
from recovery import Results, cpu_name
from torch import nn

from flows import run_study
from secateur import resources
from secateur.benchmark import measure
from secateur.candidate import Workshop
from secateur.config import DeviceProfile, Study, Training, load_device
from secateur.export import export_onnx
from secateur.results import OFF_THE_SHELF, UNPRUNED, LatencyReport, TrialRecord
from secateur.steps.source import find_study
from secateur.store import open_store
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
FULLY_TESTED = (SHELF, SCRATCH[0], trained(SCRATCH[0]))
"""Rivals that are trained, as their champions are, with all seeds."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large the demonstration is, and where it is kept."""

    folder: Path
    devices: Mapping[str, DeviceProfile]
    overrides: Sequence[str]
    """Of the search, as with --set."""
    epochs: int
    num_seeds: int
    num_rival_seeds: int
    """Of rivals that are not `FULLY_TESTED`, and of the champions that meet them alone."""
    kinds: Sequence[str]
    """Of searches; rivals are made from the first."""
    ratios: Sequence[float]
    """Of filters removed, that `PRUNERS` are tried with."""
    weights: Mapping[str, Path]
    """Of smaller rivals that also begin trained."""

    @property
    def setting(self) -> dict[str, Any]:
        """What must not change while it runs."""
        devices = {name: profile.model_dump(exclude_defaults=True) for name, profile in self.devices.items()}
        size = {"epochs": self.epochs, "search": list(self.overrides), "kinds": list(self.kinds)}
        size["weights"] = {name: str(path) for name, path in self.weights.items()}
        return {**size, "devices": devices, "cpu": cpu_name(), "torch": torch.__version__}

    def onnx(self, name: str) -> Path:
        """Return where an exported network lies."""
        return self.folder / "onnx" / f"{name.replace(' ', '-')}.onnx"


def search(plan: Plan, kind: str, device: str) -> Found:
    """Run a search for a device to its end, or take what it found from the store."""
    profile = plan.devices[device].model_dump_json(exclude_defaults=True)
    name = "-".join(["demonstration", *([] if kind == WIDTH else kind.split()), device])
    store = str(plan.folder / "store")
    _, study = find_study(STUDY, store, [*plan.overrides, f"name={name}", f"device={profile}"])
    results = run_study(study_of(study, kind), store=store)
    workshop = Workshop(study=Study.model_validate(results.study), store=open_store(store))
    return Found(results=results, workshop=workshop)


Searches = Mapping[str, Mapping[str, Found]]
"""Device -> kind of search -> what it found."""


def any_of(searches: Mapping[str, Found]) -> Found:
    """Return one of the searches for a device: unpruned network, off the shelf and images are the same for all."""
    return next(iter(searches.values()))


def weigh_rivals(plan: Plan, found: Searches, results: Results) -> None:
    """Measure rivals before any is trained, and find those that are to be as fast as off the shelf."""
    for device, searches in found.items():
        its = any_of(searches)
        if not results.done("starts", device):
            paths = {
                name: export(plan, f"start of {name}", network.make(0), its.input_size)
                for name, network in rivals(its, plan.weights).items()
                if name != UNPRUNED
            }
            intervals = time_networks(plan, its, device, paths)
            ratios = {UNPRUNED: 1.0} | {name: interval["estimate"] for name, interval in intervals.items()}
            results.put(ratios, "starts", device)
        limit = results.get("starts", device, SHELF)
        for pruner, make in PRUNERS.items():
            if not results.done("pruned", device, pruner):
                paths = {
                    str(ratio): export(plan, f"{pruner} {ratio}", make(its, ratio), its.input_size)
                    for ratio in plan.ratios
                }
                intervals = time_networks(plan, its, device, paths)
                fast = [ratio for ratio in plan.ratios if intervals[str(ratio)]["estimate"] <= limit]
                ratio = min(fast, default=max(plan.ratios))
                chosen = {"ratio": ratio, "latency_ratio": intervals[str(ratio)]["estimate"]}
                results.put(chosen, "pruned", device, pruner)


def choose(found: Searches, results: Results) -> None:
    """Write down which trial is the champion against which rival, before any of them is trained.

    Only what the search knew counts: validation images, short retraining. Each rival meets the champion that is to be
    as fast; off the shelf meets one that is to be as accurate, too. The champion of the second kind of search meets
    the rivals that are fully tested.
    """
    for device, searches in found.items():
        if results.done("chosen", device):
            continue
        starts = results.get("starts", device)
        shelf = any_of(searches).results.baselines[OFF_THE_SHELF].metrics["top1"]
        pruned = {of(pruner, device): entry["latency_ratio"] for pruner, entry in results.get("pruned", device).items()}
        limits = starts | pruned
        if RANDOM in searches:
            lucky = luckiest(searches, results, device)
            limits[champion(RANDOM, device, lucky.label)] = lucky.metrics["latency_ratio"]
        chosen = {}
        for kind in (kind for kind in (WIDTH, DEPTH) if kind in searches):
            its = searches[kind]
            claims = {
                f"as fast as {name}": its.best_within(ratio).label
                for name, ratio in limits.items()
                if kind == next(iter(searches)) or name in FULLY_TESTED
            }
            chosen[kind] = {f"as accurate as {SHELF}": its.fastest_above(shelf).label, **claims}
        results.put(chosen, "chosen", device)


def luckiest(searches: Mapping[str, Found], results: Results, device: str) -> TrialRecord:
    """Return what a random search found that is as fast as off the shelf."""
    return searches[RANDOM].best_within(results.get("starts", device, SHELF))


def of(pruner: str, device: str) -> str:
    """Return the name of what a pruner made for a device."""
    return f"{pruner} for {device}"


def all_networks(plan: Plan, found: Searches, results: Results) -> dict[str, Network]:
    """Return rivals and champions by name; what two claims share is trained once."""
    networks = rivals(any_of(next(iter(found.values()))), plan.weights)
    for device, searches in found.items():
        for pruner, entry in results.get("pruned", device).items():
            its, make = any_of(searches), PRUNERS[pruner]
            networks[of(pruner, device)] = Network(
                make=lambda _, its=its, make=make, ratio=entry["ratio"]: make(its, ratio), lr=PRUNED_LR
            )
        labels = [(kind, label) for kind, claims in results.get("chosen", device).items() for label in claims.values()]
        if RANDOM in searches:
            labels.append((RANDOM, luckiest(searches, results, device).label))
        for kind, label in labels:
            point = searches[kind].trial(label).parameters
            networks[champion(kind, device, label)] = Network(
                make=lambda _, its=searches[kind], point=point: its.pruned(point), lr=PRUNED_LR
            )
    return networks


def fully_tested(chosen: Mapping[str, Mapping[str, Mapping[str, str]]]) -> set[str]:
    """Return the arms that are trained with all seeds."""
    champions = {
        champion(kind, device, label)
        for device, kind, claim, label in claims_in(chosen)
        if rival_of(claim) in FULLY_TESTED
    }
    return {*FULLY_TESTED, *champions}


def train_all(plan: Plan, some: Found, networks: Mapping[str, Network], seed: int, results: Results) -> None:
    """Train networks with one seed; on a CPU side by side, each with a thread, as a sweep does."""
    missing = {name: network for name, network in networks.items() if not results.done("trained", name, str(seed))}
    before = torch.get_num_threads()
    at_once, num_threads = (os.cpu_count() or 1, 1) if some.workshop.device == "cpu" else (1, before)
    # Made one after the other: new weights are drawn from the one random generator that all threads share.
    made = {name: network.make(seed) for name, network in missing.items()}
    with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(num_threads,)) as pool:
        running = {
            pool.submit(train_network, plan, some, name, made.pop(name), network.lr, seed): name
            for name, network in missing.items()
        }
        for future in as_completed(running):
            results.put(future.result(), "trained", running[future], str(seed))
            print(f"{running[future]}, seed {seed}: trained", file=sys.stderr, flush=True)
    torch.set_num_threads(before)


def train_network(plan: Plan, some: Found, name: str, module: nn.Module, lr: float, seed: int) -> dict[str, float]:
    """Train with the recipe that all share, export, and look at the test images once."""
    workshop, splits = some.workshop, some.workshop.splits
    training = Training(epochs=plan.epochs, lr=lr, lr_curve="one_cycle", distillation=True)
    name = f"{name} seed {seed}"
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
    found = {device: {kind: search(plan, kind, device) for kind in plan.kinds} for device in plan.devices}
    some = any_of(next(iter(found.values())))
    weigh_rivals(plan, found, results)
    choose(found, results)
    networks, full = all_networks(plan, found, results), fully_tested(results.get("chosen"))
    for seed in range(plan.num_seeds):
        seeded = {name: net for name, net in networks.items() if name in full or seed < plan.num_rival_seeds}
        train_all(plan, some, seeded, seed, results)
        for device in plan.devices:
            if not results.done("measured", device, str(seed)):
                paths = {name: plan.onnx(f"{name} seed {seed}") for name in seeded}
                results.put(time_networks(plan, some, device, paths), "measured", device, str(seed))


def main() -> None:
    """Run what is missing, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/demonstration"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rival-seeds", type=int, default=2, help="of the rivals that are not fully tested")
    parser.add_argument("--searches", nargs="+", default=[WIDTH, DEPTH, RANDOM], choices=[WIDTH, DEPTH, RANDOM])
    parser.add_argument("--devices", nargs="+", default=["cpu-f32-1thread", "cpu"])
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="of a smaller rival, that is to take part trained, too",
    )
    parser.add_argument("--smoke", action="store_true", help="ResNet20 on the digits, one epoch, two seeds, one device")
    options = parser.parse_args()
    if options.searches[0] == RANDOM:
        parser.error(f"--searches: expected {WIDTH!r} or {DEPTH!r} first; champions are theirs")
    if options.smoke:
        options.epochs, options.seeds, options.rival_seeds, options.devices = 1, 2, 1, options.devices[:1]
    weights = {name: Path(path) for name, _, path in (text.partition("=") for text in options.weights)}
    for name, path in weights.items():
        if name not in SCRATCH or not path.is_file():
            parser.error(f"--weights: expected NAME=FILE, NAME one of {', '.join(SCRATCH)}; got {name}={path}")
    devices = {name: load_device(name) for name in options.devices}
    if options.smoke:
        devices = {name: profile.model_copy(update=SMOKE_PROFILE) for name, profile in devices.items()}
    overrides = [*SEARCH, *(SMOKE if options.smoke else ()), *options.overrides]
    plan = Plan(
        folder=options.folder,
        devices=devices,
        overrides=overrides,
        epochs=options.epochs,
        num_seeds=options.seeds,
        num_rival_seeds=options.rival_seeds,
        kinds=options.searches,
        ratios=RATIOS[::8] if options.smoke else RATIOS,
        weights=weights,
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
