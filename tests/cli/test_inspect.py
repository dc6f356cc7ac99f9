"""`secateur inspect`: one table, whatever a network is stored as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.conftest import Secateur
from tests.flows.tiny import SCHEDULE, network

MODEL = "python:tests.flows.tiny:network"
SIZES = ("--num-classes", "3", "--input-size", "8")
CONVOLUTIONS = {"conv1", *(f"blocks.{block}.conv{number}" for block in range(2) for number in (1, 2))}


@pytest.fixture
def pruned(secateur: Secateur, tmp_path: Path) -> Path:
    (tmp_path / "schedule.yaml").write_text(yaml.safe_dump(SCHEDULE))
    typed = secateur("prune", "--model", MODEL, "--schedule", "schedule.yaml", "--out", "out", *SIZES)
    assert typed.code == 0, typed.err
    return tmp_path / "out"


def test_a_model(secateur: Secateur) -> None:
    document = json.loads(secateur("inspect", MODEL, *SIZES, "--json").out)
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert layers.keys() > CONVOLUTIONS
    assert layers["blocks.0.conv1"] == {
        "name": "blocks.0.conv1",
        "type": "Conv2d",
        "shape": [8, 8, 3, 3],
        "num_params": 576,
        "macs": 576 * 64,
        "sparsity": 0.0,
        "dense_bytes": 4 * 576,
        "csr_bytes": 8 * 576 + 4 * 9,
    }
    assert document["total"]["num_params"] == sum(p.numel() for p in network(3).parameters())
    assert document["reference"] is None


def test_a_checkpoint_names_its_dense_ancestor(secateur: Secateur, pruned: Path) -> None:
    typed = secateur("inspect", "out/model.safetensors", "--input-size", "8", "--json", "--png", "pictures/w.png")
    document = json.loads(typed.out)
    assert next(a["shape"] for a in document["layers"] if a["name"] == "blocks.1.conv2") == [8, 4, 3, 3]
    assert document["reference"]["num_params"] == sum(p.numel() for p in network(3).parameters())
    assert (pruned.parent / "pictures" / "w.png").read_bytes().startswith(b"\x89PNG")


def test_an_onnx_file_against_a_reference(secateur: Secateur, pruned: Path) -> None:
    typed = secateur("inspect", "out/model.onnx", "--reference", MODEL, *SIZES, "--json")
    document = json.loads(typed.out)
    assert {layer["name"] for layer in document["layers"]} == {*CONVOLUTIONS, "fc"}
    assert document["total"]["macs"] < document["reference"]["macs"]


def test_weights_alone_for_people(secateur: Secateur, tmp_path: Path) -> None:
    model = network(3)
    with torch.no_grad():
        model.get_parameter("conv1.weight")[:4] = 0
    torch.save(model.state_dict(), tmp_path / "w.pt")
    typed = secateur("inspect", "w.pt", "--png", "w.png")
    assert typed.code == 0, typed.err
    assert "50.0%" in typed.out
    assert "in CSR" in typed.out
    assert (tmp_path / "w.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet20_cifer",), "unknown model 'resnet20_cifer'. Did you mean 'resnet20_cifar'"),
        (("missing.onnx",), "missing.onnx: cannot be read: No such file"),
        (("missing.pt",), "missing.pt: there is no such file"),
        (("broken.onnx",), "broken.onnx: this is no ONNX file"),
        (("empty.safetensors",), "empty.safetensors: there are no layers with weights in it"),
        (("w.safetensors", "--reference", "nothing"), "unknown model 'nothing'"),
        (("w.safetensors", "--png", "w.safetensors/x.png"), "--png w.safetensors/x.png: cannot be written"),
        (("vector.safetensors", "--png", "x.png"), "none of its weights has two dimensions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_no_network(secateur: Secateur, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    from safetensors.torch import save_file

    (tmp_path / "broken.onnx").write_bytes(b"\xff\xff")
    save_file({"x": torch.zeros(1)}, tmp_path / "empty.safetensors")
    save_file({"bn.weight": torch.ones(3)}, tmp_path / "vector.safetensors")
    save_file({"a.weight": torch.ones(2, 3)}, tmp_path / "w.safetensors")
    typed = secateur("inspect", *arguments)
    assert typed.code == 2
    assert typed.err.startswith("secateur: ")
    assert message in typed.err
    assert "Traceback" not in typed.err + typed.out
