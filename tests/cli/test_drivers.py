"""`secateur staircase` and `secateur explain`, on a real device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from secateur.analysis import roofline
from secateur.findings import Explanation, Staircase
from tests.cli.conftest import Secateur
from tests.flows.tiny import NUM_CLASSES, SCHEDULE, SIZE, write_study

TINY = "python:tests.flows.tiny:network"
NETWORK = ("--device", "quick.yaml", "--num-classes", str(NUM_CLASSES), "--input-size", str(SIZE))
FOLDER = Path("runs", "network")


def test_staircase(secateur: Secateur, tmp_path: Path) -> None:
    write_study(tmp_path)
    command = ("staircase", TINY, "--layer", "blocks.0.conv1", "--step", "4", *NETWORK)
    typed = secateur(*command, "--json")
    assert typed.code == 0, typed.err
    document = json.loads(typed.out)
    assert document["out"] == str(FOLDER)
    assert {4, 8} <= {point["num_kept"] for point in document["points"]}
    assert document["allowed_counts"][-1] == 8
    stem = tmp_path / FOLDER / "staircase-blocks.0.conv1"
    found = Staircase.model_validate_json(Path(f"{stem}.json").read_text())
    assert found.layers == ("blocks.0.conv1",)
    assert Path(f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert "<!doctype html>" in Path(f"{stem}.html").read_text().lower()
    assert Path(f"{stem}.yaml").exists() == (len(found.allowed) > 1)
    again = secateur(*command)
    assert again.code == 0, again.err
    assert "standard error" in again.out
    assert Staircase.model_validate_json(Path(f"{stem}.json").read_text()) == found


@pytest.mark.slow
def test_explain(secateur: Secateur, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "NUM_RUNS", 1)
    write_study(tmp_path)
    # Large images: of small ones, a layer takes less than the counters tell.
    size = 160
    command = ("explain", TINY, "--schedule", "schedule.yaml", *NETWORK[:-1], str(size))
    typed = secateur(*command, "--json")
    assert typed.code == 0, typed.err
    document = json.loads(typed.out)
    found = Explanation.model_validate_json((tmp_path / FOLDER / "explanation.json").read_text())
    assert document.items() >= found.model_dump(mode="json").items()
    assert document["verdict"][0].startswith("Thinned, the network takes ")
    assert {"explanation.png", "explanation.html"} <= {path.name for path in (tmp_path / FOLDER).iterdir()}
    by_name = {layer.name: layer for layer in found.layers}
    assert by_name["blocks.0.conv1"].thinned_shape == (4, 8, 3, 3)
    assert by_name["blocks.0.conv2"].thinned_shape == (8, 4, 3, 3)
    assert not by_name["conv1"].is_smaller
    macs = size**2 * 9 * (3 * 8 + 4 * 8 * 8) + 8 * 3
    assert (found.unpruned.macs, found.masked.macs) == (macs, macs)
    assert found.thinned.macs == macs - size**2 * 9 * 4 * 8 * 4
    assert found.roof is not None
    assert all(found.roof.macs_per_s >= layer.unpruned.macs / layer.unpruned.ms * 1e3 for layer in found.layers)
    own = [comparison for comparison in found.storage if comparison.desired_sparsity is None]
    assert {layer for comparison in own for layer in comparison.layers} == {"blocks.0.conv1", "blocks.1.conv1"}
    assert {comparison.sparsity for comparison in own} == {0.5}


def test_explain_refuses_a_schedule_of_another_network(secateur: Secateur, tmp_path: Path) -> None:
    (tmp_path / "schedule.yaml").write_text(yaml.safe_dump(SCHEDULE))
    typed = secateur("explain", "resnet20_cifar", "--schedule", "schedule.yaml")
    assert typed.code == 2
    assert "is not in resnet20_cifar" in typed.err
    assert not (tmp_path / "runs").exists()


def test_staircase_refuses_a_layer_that_is_not_there(secateur: Secateur, tmp_path: Path) -> None:
    typed = secateur("staircase", TINY, "--layer", "conv2")
    assert typed.code == 2
    assert "Did you mean 'conv1'?" in typed.err
    assert not (tmp_path / "runs").exists()
