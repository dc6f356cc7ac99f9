"""Compact copies of what the real Distiller computed: `pytest --regen-golden` writes them, a person reads the diff.

The originals lie beside the repository, in ``../shared/golden/distiller``; its README says how they were made. What is
copied needs no weight file: its networks are initialised by a recipe (`tests.golden.npinit`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ORIGINALS = HERE.parents[2] / "shared" / "golden" / "distiller"
NETWORKS = ("resnet20_cifar", "resnet56_cifar")
LR_SCHEDULES = ("thesis_exp", "exp_from0", "exp_freq3", "step", "step_late", "multistep", "cosine", "exp_epochs_list")
"""Those of classes that torch has, and whose sequence is known in advance."""


def load_golden(name: str) -> Any:
    """Return the content of ``tests/golden/<name>.json``."""
    return json.loads((HERE / f"{name}.json").read_text())


def original_vectors() -> list[Path]:
    """Return the files of all visible vectors of the two networks; none, where the originals are not there."""
    paths = sorted((ORIGINALS / "vectors").glob("*.json"))
    return [path for path in paths if path.stem.split("__")[1].startswith(NETWORKS)]


def compact(vector: dict[str, Any]) -> dict[str, Any]:
    """Return what the tests compare of one vector."""
    return {
        "id": vector["id"],
        "model": vector["model"],
        "schedule": yaml.safe_load((ORIGINALS / vector["schedule"]).read_text()),
        "kept": {name: layer["kept"] for name, layer in vector["pruned_layers"].items()},
        "shapes": vector["thinned"]["state_shapes"],
        "dense": _figures(vector["baseline"]),
        "thinned": _figures(vector["thinned"]),
    }


def _figures(stage: dict[str, Any]) -> dict[str, Any]:
    return {"num_params": stage["total_params"], "macs": stage["total_macs"], "logits": stage["logits"]}


def regenerate() -> None:
    """Write every copy anew."""
    if not ORIGINALS.is_dir():
        raise pytest.UsageError(f"--regen-golden: the originals are not in {ORIGINALS}.")
    vectors = [json.loads(path.read_text()) for path in original_vectors()]
    for network in NETWORKS:
        cases = [compact(vector) for vector in vectors if vector["model"] == f"{network}@npinit"]
        for case in cases:
            del case["shapes"]  # parameters, MACs and logits tell as much
        _write(f"distiller_{network}", cases)
    table, triples = (json.loads((ORIGINALS / f"removed_counts{kind}.json").read_text()) for kind in ("", "_random"))
    rows = zip(table["f"], table["removed"], strict=True)
    triples += [[n, f, count] for f, row in rows for n, count in zip(table["n"], row, strict=True)]
    _write("distiller_counts", [triple for triple in triples if triple[1] < 1])  # 1.0 is refused here
    sequences = json.loads((ORIGINALS / "lr_sequences.json").read_text())
    _write("distiller_learning_rates", [{"id": name, **sequences[name]} for name in LR_SCHEDULES])


def _write(name: str, content: list[Any]) -> None:
    indented = json.dumps(content, indent=1)
    one_line_a_list = re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), indented)
    (HERE / f"{name}.json").write_text(one_line_a_list + "\n")
