"""Compact copies of what the real Distiller computed: `pytest --regen-golden` writes them, a person reads the diff.

The originals lie beside the repository, in ``../shared/golden/distiller``; its README says how they were made. Most
networks are initialised by a recipe (`tests.golden.npinit`); the weights of ResNet20 are copied with the numbers.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ORIGINALS = HERE.parents[2] / "shared" / "golden" / "distiller"
COPIED_VECTORS = (
    "resnet20_cifar_npinit",
    "resnet20_cifar_pretrained",
    "resnet56_cifar_npinit",
    "plain20_cifar_npinit",
    "vgg11_cifar_npinit",
    "vgg11_bn_cifar_npinit",
)
COPIED_FILES = (
    "activation_gradient_random",
    "edge_cases",
    "fine_grained",
    "lr_sequences",
    "more_behaviours",
    "prefix_equivalence",
    "regularizers",
    "training_loop",
)
_LEFT_OUT = {"recipes", "stdout", "module_attrs"}


def load_golden(name: str) -> Any:
    """Return the content of ``tests/golden/<name>.json``."""
    return json.loads((HERE / f"{name}.json").read_text())


def original_vectors() -> list[Path]:
    """Return the files of all visible vectors; none, where the originals are not there."""
    return sorted((ORIGINALS / "vectors").glob("*.json"))


def compact(vector: dict[str, Any]) -> dict[str, Any]:
    """Return what the tests compare of one vector."""
    return {
        "id": vector["id"],
        "model": vector["model"],
        "schedule": yaml.safe_load((ORIGINALS / vector["schedule"]).read_text()),
        "kept": {name: layer["kept"] for name, layer in vector["pruned_layers"].items()},
        "shapes": vector["thinned"]["state_shapes"],
        "dense": _figures(vector["baseline"]),
        "masked": vector["masked"]["logits"],
        "thinned": _figures(vector["thinned"]),
    }


def _figures(stage: dict[str, Any]) -> dict[str, Any]:
    return {"num_params": stage["total_params"], "macs": stage["total_macs"], "logits": stage["logits"]}


def regenerate() -> None:
    """Write every copy anew."""
    if not ORIGINALS.is_dir():
        raise pytest.UsageError(f"--regen-golden: the originals are not in {ORIGINALS}.")
    for name, content in copies().items():
        _write(name, content)
    shutil.copy(ORIGINALS / "weights" / "resnet20_cifar_pretrained.npz", HERE)


def copies() -> dict[str, Any]:
    """Return what is copied from the originals: name of the copy -> its content."""
    found: dict[str, Any] = {}
    for network in COPIED_VECTORS:
        paths = sorted((ORIGINALS / "vectors").glob(f"*__{network}.json"))
        cases = [compact(json.loads(path.read_text())) for path in paths]
        for case in cases:
            del case["shapes"]  # parameters, MACs and logits tell as much
        found[f"distiller_{network}"] = cases
    table, triples = (json.loads((ORIGINALS / f"removed_counts{kind}.json").read_text()) for kind in ("", "_random"))
    rows = zip(table["f"], table["removed"], strict=True)
    triples += [[n, f, count] for f, row in rows for n, count in zip(table["n"], row, strict=True)]
    found["distiller_counts"] = [triple for triple in triples if triple[1] < 1]  # 1.0 is refused here
    for name in COPIED_FILES:
        found[f"distiller_{name}"] = _without(json.loads((ORIGINALS / f"{name}.json").read_text()))
    return found


def _without(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without(value) for key, value in content.items() if key not in _LEFT_OUT}
    return [_without(item) for item in content] if isinstance(content, list) else content


def _write(name: str, content: Any) -> None:
    indented = json.dumps(content, indent=1)
    one_line_a_list = re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), indented)
    (HERE / f"{name}.json").write_text(one_line_a_list + "\n")
