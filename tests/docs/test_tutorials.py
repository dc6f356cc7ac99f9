"""Tutorials are right: what they tell a user to type is typed, with a small network's names in place of theirs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from secateur.models import create_model
from tests.flows.tiny import DEVICE, NUM_CLASSES, SIZE, network
from tests.runs import Runs

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "your-own-model.md"
NUM_IMAGES = {"train": 24, "test": 8}

NAMES = {
    "torchvision:mobilenet_v2": "python:tests.flows.tiny:network",
    "runs/mobilenet_v2": "runs/network",
    "cpu-f32-1thread": "quick.yaml",
    "input_size=224": f"input_size={SIZE}",
    "--input-size 224": f"--input-size {SIZE}",
    "training.epochs=3": "training.epochs=1",
    "budget.trials=24": "budget.trials=2",
}
"""What the tutorial says -> what the test types."""


def commands(tutorial: Path) -> list[str]:
    """Return what stands behind the prompts."""
    blocks = re.findall(r"^```console\n(.*?)^```", tutorial.read_text(), re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def write_photos(folder: Path) -> None:
    """Write handwritten digits as JPEG files, a folder for each class."""
    digits = load_digits(n_class=NUM_CLASSES)
    for label in range(NUM_CLASSES):
        images = iter(digits.images[digits.target == label])
        for part, count in NUM_IMAGES.items():
            here = folder / part / f"digit-{label}"
            here.mkdir(parents=True)
            for number in range(count):
                Image.fromarray((next(images) * 15.9).astype("uint8")).convert("RGB").save(here / f"{number}.jpg")


def test_the_tutorial_tells_every_step() -> None:
    steps = [shlex.split(command)[1] for command in commands(TUTORIAL)]
    wanted = ["inspect", "sensitivity", "groups", "check", "check", "sweep", "sweep", "prune", "inspect", "benchmark"]
    assert steps == wanted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a user's folder: photos, weights, a device profile that is content with any figure."""
    write_photos(tmp_path / "photos")
    torch.manual_seed(0)
    torch.save(network(NUM_CLASSES).state_dict(), tmp_path / "photos.pt")
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(DEVICE))
    return tmp_path


def type_tutorial(runs: Runs, folder: Path, names: Mapping[str, str]) -> None:
    for command in commands(TUTORIAL):
        for name, ours in names.items():
            command = command.replace(name, ours)
        program, *arguments = shlex.split(command)
        assert program == "secateur"
        ended = runs.run(folder, *arguments)
        assert ended.code == 0, f"{command}\n{ended.out}\n{ended.err}"


def check_results(folder: Path, name: str) -> set[str]:
    """Return the layers that were analysed."""
    results = folder / "runs" / name
    study = yaml.safe_load((results / "study.yaml").read_text())
    assert 3 <= len(study["search"]["parameters"]) <= 8
    assert (results / "report.html").exists()
    assert (folder / "pruned" / "weights.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((results / "sensitivity.json").read_text())
    return {layer for unit in found["units"] for layer in unit["layers"]}


@pytest.mark.slow
def test_the_tutorial_runs_on_a_small_network(runs: Runs, folder: Path) -> None:
    type_tutorial(runs, folder, NAMES)
    convolutions = {f"blocks.{block}.conv{number}" for block in range(2) for number in (1, 2)}
    assert check_results(folder, "network") == {"conv1", *convolutions}


@pytest.mark.slow
def test_the_tutorial_runs_on_mobilenet_v2(runs: Runs, folder: Path) -> None:
    torch.manual_seed(0)
    torch.save(create_model("torchvision:mobilenet_v2", NUM_CLASSES).state_dict(), folder / "photos.pt")
    kept = {"torchvision:mobilenet_v2", "runs/mobilenet_v2"}
    names = {name: ours for name, ours in NAMES.items() if name not in kept}
    smaller = {"input_size=224": "input_size=32", "--input-size 224": "--input-size 32"}
    coarser = {" --device quick.yaml --set": " --device quick.yaml --sparsity 0.3 --sparsity 0.6 --set"}
    type_tutorial(runs, folder, {**names, **smaller, **coarser})
    layers = check_results(folder, "mobilenet_v2")
    assert len(layers) == 35  # all convolutions but the 17 depthwise ones, which follow
