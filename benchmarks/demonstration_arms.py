"""The arms of the demonstration: what our searches found, and the rivals that it has to beat."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
import yaml
from dissertation import MODELS
from recovery import SPARSITIES
from torch import nn

from secateur.candidate import Workshop
from secateur.config import ParameterValue, Study
from secateur.leaderboard import leaderboard
from secateur.models import create_model, load_weights
from secateur.results import UNPRUNED, StudyResults, TrialRecord
from secateur.store import get_object
from secateur.thinning import rebuild
from secateur.training import recalibrate_bn

SHELF = "off the shelf"
SCRATCH = ("resnet20_cifar", "resnet32_cifar", "resnet44_cifar")
"""Smaller networks, trained from scratch."""
SETTINGS = ("182", "89", "333")
"""The dissertation's models that are pruned and trained again; 333 differs from 89 in its training alone, which is the
same for all here, so that the two are one network."""
PRUNED_LR, SCRATCH_LR = 0.02, 0.1
"""Peaks of the one-cycle: what each kind of start recovers, or learns, with."""
WIDTH, DEPTH, RANDOM = "width", "width and depth", "random"
"""What is searched, and how: the first two by Bayesian optimisation."""
RATIOS = tuple(round(0.05 * step, 2) for step in range(1, 19))
"""Of filters removed, among which the one is found that is as fast as off the shelf."""
FEWEST_BLOCKS = 1 / 3
"""Of a stage's residual blocks, that a search of depth may leave."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained with several seeds."""

    make: Callable[[int], nn.Module]
    """Seed -> the network as it is before."""
    lr: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one search for one device knows, and makes networks of."""

    results: StudyResults
    workshop: Workshop

    @cached_property
    def unpruned_key(self) -> str:
        """The artifact key of what all are pruned from."""
        compressed = self.results.baselines[UNPRUNED].compressed
        assert compressed is not None, "a finished study has its baselines"
        return compressed.checkpoint

    @property
    def input_size(self) -> int:
        """Height and width of the images."""
        return self.workshop.splits.input_size

    def unpruned(self) -> nn.Module:
        """Return the unpruned network."""
        return rebuild(get_object(self.workshop.store, self.unpruned_key)).module

    def pruned(self, parameters: Mapping[str, ParameterValue]) -> nn.Module:
        """Return a candidate, recalibrated, as it is before its retraining."""
        pruned = self.workshop.prune(self.unpruned_key, parameters)
        if self.workshop.is_recalibrated(pruned):
            self.workshop.recalibrate(pruned)
        return pruned.module

    def trial(self, label: str) -> TrialRecord:
        """Return a trial by its label."""
        return next(trial for trial in self.results.trials if trial.label == label)

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


def study_of(study: Study, kind: str) -> Study:
    """Return the study of one kind of search."""
    document: dict[str, Any] = study.model_dump(mode="json", by_alias=True)
    document["schedule"] = schedule = _schedule(study)
    if kind == RANDOM:
        document["search"]["method"] = "random"
    if kind == DEPTH:
        blocks = _removable_blocks(study.model)
        schedule["pruners"]["block_remover"] = {"class": "ResidualBlockRemover", **blocks}
        schedule["policies"].insert(0, {"pruner": {"instance_name": "block_remover"}, "epochs": [0]})
        # No less width than the expert leaves: what is to be faster than that loses blocks.
        for name, parameter in document["search"]["parameters"].items():
            pruner, _, field = name.rpartition(".")
            parameter["max"] = schedule["pruners"][pruner][field]
        document["search"]["parameters"] |= {
            f"block_remover.{stage}": {"min": math.ceil(FEWEST_BLOCKS * num), "max": num}
            for stage, num in blocks.items()
        }
    return Study.model_validate(document, context={"base": Path.cwd()})


def _schedule(study: Study) -> dict[str, Any]:
    """Return the study's schedule without learning rates: trials are retrained along one cycle, as champions are."""
    source = study.schedule
    document: dict[str, Any] = (
        copy.deepcopy(source) if isinstance(source, dict) else yaml.safe_load(source.read_text(encoding="utf-8"))
    )
    document.pop("lr_schedulers", None)
    document["policies"] = [policy for policy in document["policies"] if "lr_scheduler" not in policy]
    return document


def _removable_blocks(model: str) -> dict[str, int]:
    """Return how many residual blocks of each stage of a CIFAR ResNet have an identity as their shortcut."""
    module = create_model(model, 10)
    return {stage: len(module.get_submodule(stage)) - (stage != "layer1") for stage in ("layer1", "layer2", "layer3")}  # type: ignore[arg-type]


def trained(name: str) -> str:
    """Return the name of a smaller network as an arm that begins trained."""
    return f"{name}, trained"


def rivals(found: Found, weights: Mapping[str, Path]) -> dict[str, Network]:
    """Return the rivals that are the same whatever the device.

    Args:
        found: What any search found, on any device.
        weights: Smaller networks that also take part trained, by name, and with what; these are retrained like
            pruned ones.
    """
    settings = {MODELS[name].sparsities: name for name in reversed(SETTINGS)}
    return {
        SHELF: Network(make=lambda _: found.pruned({}), lr=PRUNED_LR),
        **{name: Network(make=lambda seed, name=name: smaller(found, name, seed), lr=SCRATCH_LR) for name in SCRATCH},
        **{
            trained(name): Network(
                make=lambda seed, name=name, path=path: smaller(found, name, seed, path), lr=PRUNED_LR
            )
            for name, path in weights.items()
        },
        UNPRUNED: Network(make=lambda _: found.unpruned(), lr=PRUNED_LR),
        **{
            f"setting {name}": Network(
                make=lambda _, s=sparsities: found.pruned(dict(zip(SPARSITIES, s, strict=True))), lr=PRUNED_LR
            )
            for sparsities, name in reversed(settings.items())
        },
    }


def smaller(found: Found, name: str, seed: int, weights: Path | None = None) -> nn.Module:
    """Return a network that was never pruned, with given weights, or with fresh ones."""
    torch.manual_seed(seed)
    module = create_model(name, found.workshop.splits.num_classes)
    if weights is not None:
        load_weights(module, weights)
    return module


def uniform(found: Found, ratio: float) -> nn.Module:
    """Return the unpruned network with the same share of the filters of every layer gone, those of least L1 norm."""
    importance = tp.importance.MagnitudeImportance(p=1)
    return _by_torch_pruning(found, ratio, tp.pruner.MagnitudePruner, importance, is_global=False)


def group_norm(found: Found, ratio: float) -> nn.Module:
    """Return what Torch-Pruning's group-norm pruner leaves (Fang et al. 2023, DepGraph, without sparse training)."""
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return _by_torch_pruning(found, ratio, tp.pruner.GroupNormPruner, importance, is_global=True)


PRUNERS: Mapping[str, Callable[[Found, float], nn.Module]] = {
    "uniform width": uniform,
    "group-norm pruner": group_norm,
}
"""Rivals that are made as fast as off the shelf, on each device."""


def _by_torch_pruning(found: Found, ratio: float, pruner: Any, importance: Any, *, is_global: bool) -> nn.Module:
    workshop, module = found.workshop, found.unpruned().eval()
    heads = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    pruner(
        module,
        workshop.example_NCHW,
        importance=importance,
        pruning_ratio=ratio,
        global_pruning=is_global,
        ignored_layers=heads,
    ).step()
    num_images = workshop.study.training.recalibration_images
    if num_images:
        recalibrate_bn(module, workshop.splits.train, workshop.splits.normalize, num_images=num_images)
    return module


def rival_of(claim: str) -> str:
    """Return whom a champion meets."""
    return claim.split(" as ", 1)[1]  # "as fast as X"


def champion(kind: str, device: str, label: str) -> str:
    """Return the name of a trial as an arm."""
    return f"trial {label} for {device}" if kind == WIDTH else f"trial {label} of {kind} for {device}"


def claims_in(chosen: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterable[tuple[str, str, str, str]]:
    """Yield device, kind of search, claim and the label of its champion."""
    for device, kinds in chosen.items():
        for kind, claims in kinds.items():
            for claim, label in claims.items():
                yield device, kind, claim, label
