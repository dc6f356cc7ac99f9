"""Small real studies whose candidates are all trained to the end: what `benchmarks/early_stopping.py` replays.

    python benchmarks/curve_studies.py IMAGES STORE [NAME...]

IMAGES is an image folder of 32 x 32 pixels (``train/<class>/*``, ``test/<class>/*``; its even test images validate). A
network of three convolutions is trained on it, pruned at random points, and retrained in the ways of `STUDIES`: minutes
on one core. The steps are those of a sweep, without Prefect; the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.candidate import Workshop
from secateur.config import DeviceProfile, Study
from secateur.results import OFF_THE_SHELF, UNPRUNED
from secateur.steps.compress import compress
from secateur.steps.measure import measure
from secateur.steps.open import open_study
from secateur.steps.propose import propose
from secateur.steps.record import proposed
from secateur.store import StudyFiles, open_store

NUM_TRIALS = 40
STUDIES: dict[str, dict[str, Any]] = {
    "cosine": {"epochs": 8, "lr": 0.05, "lr_curve": "cosine"},
    "one-cycle": {"epochs": 6, "lr": 0.1, "lr_curve": "one_cycle"},
    "constant": {"epochs": 8, "lr": 0.02},
    "taught": {"epochs": 6, "lr": 0.05, "lr_curve": "cosine", "distillation": True},
}
"""How candidates are retrained."""


class ThreeConvolutions(nn.Module):
    """32, 64 and 128 filters, each convolution halving the image."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        for index, (num_inputs, num_filters) in enumerate([(3, 32), (32, 64), (64, 128)]):
            convolution = nn.Conv2d(num_inputs, num_filters, 3, stride=2, padding=1, bias=False)
            setattr(self, f"conv{index}", convolution)
            setattr(self, f"bn{index}", nn.BatchNorm2d(num_filters))
        self.fc = nn.Linear(128, num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits_NK."""
        features_NCHW = torch.relu(self.bn0(self.conv0(images_NCHW)))
        features_NCHW = torch.relu(self.bn1(self.conv1(features_NCHW)))
        features_NCHW = torch.relu(self.bn2(self.conv2(features_NCHW)))
        logits_NK: Tensor = self.fc(features_NCHW.mean((2, 3)))
        return logits_NK


def network(num_classes: int) -> nn.Module:
    """Make the network, with fresh weights."""
    return ThreeConvolutions(num_classes)


def schedule() -> dict[str, Any]:
    """Return a schedule that prunes each convolution by a sparsity of its own."""
    pruners = {
        f"pruner_{index}": {
            "class": "L1RankedStructureParameterPruner",
            "group_type": "Filters",
            "desired_sparsity": 0.5,
            "weights": [f"module.conv{index}.weight"],
        }
        for index in range(3)
    }
    return {
        "version": 1,
        "pruners": pruners,
        "extensions": {"thinner": {"class": "FilterRemover", "thinning_func_str": "remove_filters"}},
        "policies": [
            *({"pruner": {"instance_name": name}, "epochs": [0]} for name in pruners),
            {"extension": {"instance_name": "thinner"}, "epochs": [0]},
        ],
    }


def study(name: str, images: Path) -> Study:
    """Return one of the studies."""
    batches = {"batch_size": 64, "augment": False}
    return Study.model_validate(
        {
            "name": name,
            "model": "python:benchmarks.curve_studies:network",
            "dataset": {
                "name": f"imagefolder:{images.absolute()}",
                "validation": {"from": "test", "files": "even"},
                "normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
                "num_classes": 10,
                "input_size": 32,
            },
            "schedule": schedule(),
            "device": DeviceProfile(name="brief", num_threads=1, precision="f32", num_processes=1, max_duration_s=0.5),
            "search": {
                "method": "random",
                "parameters": {f"pruner_{index}.desired_sparsity": {"min": 0.0, "max": 0.95} for index in range(3)},
                "objectives": {"latency_ratio": "minimize", "top1": "maximize"},
                "constraints": ["top1 >= baseline - 10"],
                "seed": list(STUDIES).index(name),
            },
            "baseline": {"epochs": 12, "lr": 0.1, **batches},
            "training": {**STUDIES[name], **batches},
            "budget": {"trials": NUM_TRIALS},
            "gate": False,
            "stop_early": False,
        }
    )


def run(wanted: Study, store: str) -> None:
    """Bring a study to its end."""
    files = StudyFiles(open_store(store), wanted.name)
    opened = open_study(files, wanted)
    workshop = Workshop(study=opened, store=files.store)
    known = files.baselines()
    for label in (UNPRUNED, OFF_THE_SHELF):
        if label not in known:
            files.write_record(proposed(opened.name, label, method="baseline", parameters={}, seed=opened.search.seed))
    results = files.results()
    propose(files, opened, results, NUM_TRIALS - len(results.trials))
    for label in (UNPRUNED, OFF_THE_SHELF, *map(str, range(NUM_TRIALS))):
        compress(workshop, files, label, 1)
        measure(files, opened.device, [label], seed=opened.search.seed)
        record = files.read_record(label)
        curve = [epoch.top1 for epoch in record.compressed.epochs] if record.compressed else []
        print(opened.name, label, record.state, record.metrics.get("latency_ratio"), curve, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("store")
    parser.add_argument("names", nargs="*", default=list(STUDIES), choices=[*STUDIES, []])
    arguments = parser.parse_args()
    for name in arguments.names:
        run(study(name, arguments.images), arguments.store)


if __name__ == "__main__":
    main()
