"""Commands that run no sweep: what they print, for people and for machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import yaml

from secateur.export import export_onnx
from secateur.models import create_model
from secateur.thinning import rebuild
from tests.cli.conftest import Secateur
from tests.factories import make_results
from tests.flows.tiny import SCHEDULE, write_study


def _prune(secateur: Secateur, folder: Path, *options: str) -> tuple[str, ...]:
    (folder / "schedule.yaml").write_text(yaml.safe_dump(SCHEDULE))
    model = ("--model", "python:tests.flows.tiny:network", "--num-classes", "3", "--input-size", "8")
    return ("prune", *model, "--schedule", "schedule.yaml", "--out", "out", *options)


def test_prune_writes_a_network_and_says_what_is_left(secateur: Secateur, tmp_path: Path) -> None:
    typed = secateur(*_prune(secateur, tmp_path, "--json"))
    assert typed.code == 0, typed.err
    document = json.loads(typed.out)
    layers = document["layers"]
    assert set(layers) == {"conv1", *(f"blocks.{i}.conv{j}" for i in range(2) for j in (1, 2))}
    assert layers["conv1"] == {"num_filters": 8, "kept": list(range(8))}
    assert layers["blocks.0.conv1"]["num_filters"] == 8
    assert len(layers["blocks.0.conv1"]["kept"]) == 4
    onnx.checker.check_model(document["onnx"])
    network = rebuild(Path(document["checkpoint"]).read_bytes())
    assert sum(p.numel() for p in network.module.parameters()) == document["num_params"]
    # 8 x 8 pixels: the stem 3 -> 8, two blocks of 8 -> 4 -> 8, and the linear layer (SPEC section 13).
    assert document["macs"] == 64 * 9 * (3 * 8 + 4 * 4 * 8) + 8 * 3


def test_prune_for_a_device(secateur: Secateur, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("device: CPU\nonnx_opset: 13\n")
    assert secateur(*_prune(secateur, tmp_path, "--device", "old.yaml")).code == 0
    assert onnx.load(tmp_path / "out" / "model.onnx").opset_import[0].version == 13
    (tmp_path / "stick.yaml").write_text("device: MYRIAD\n")
    typed = secateur(*_prune(secateur, tmp_path, "--device", "stick.yaml"))
    assert typed.code == 0
    assert "Whether MYRIAD has all operations is found out when it measures: device profile 'stick': " in typed.err


def test_prune_for_people(secateur: Secateur, tmp_path: Path) -> None:
    typed = secateur(*_prune(secateur, tmp_path))
    assert typed.code == 0, typed.err
    assert "the weights are random" in typed.out
    assert "blocks.0.conv1" in typed.out


def test_benchmark(secateur: Secateur, tmp_path: Path) -> None:
    assert secateur(*_prune(secateur, tmp_path)).code == 0
    write_study(tmp_path)
    typed = secateur("benchmark", "out/model.onnx", "--device", "quick.yaml", "--json")
    assert typed.code == 0, typed.err
    document = json.loads(typed.out)
    assert set(document) == {"schema_version", "device", "reference", "models"}
    assert document["device"]["device"] == "CPU"
    (model,) = document["models"]
    assert model["path"] == "out/model.onnx"
    assert model["latency_ratio"]["low"] <= model["latency_ratio"]["estimate"] <= model["latency_ratio"]["high"]
    assert model["total_latency_ms"]["p50"] > 0


def test_benchmark_shows_the_others_when_one_model_fails(secateur: Secateur, tmp_path: Path) -> None:
    assert secateur(*_prune(secateur, tmp_path)).code == 0
    write_study(tmp_path)
    (tmp_path / "broken.onnx").write_text("no model")
    typed = secateur("benchmark", "out/model.onnx", "broken.onnx", "out/model.onnx", "--device", "quick.yaml")
    assert typed.code == 1
    assert "Latency against model.onnx" in typed.out
    assert "broken.onnx: OpenVINO cannot read this model" in typed.err
    typed = secateur("benchmark", "out/model.onnx", "broken.onnx", "--device", "quick.yaml", "--json")
    good, broken = json.loads(typed.out)["models"]
    assert good["verdict"].startswith("model.onnx ")
    assert set(broken) == {"path", "error"}


@pytest.mark.slow
def test_benchmark_evaluates_on_the_device(secateur: Secateur, tmp_path: Path) -> None:
    (tmp_path / "resnet20.onnx").write_bytes(export_onnx(create_model("resnet20_cifar", 10), 32))
    write_study(tmp_path)
    typed = secateur("benchmark", "resnet20.onnx", "--device", "quick.yaml", "--dataset", "digits", "--json")
    assert typed.code == 0, typed.err
    quality = json.loads(typed.out)["models"][0]["quality"]
    assert len(quality["sensitivity"]) == len(quality["specificity"]) == 10
    assert sum(map(sum, quality["confusion"])) == quality["num_images"]
    assert 0 <= quality["top1"] <= quality["top5"] <= 100


def test_devices(secateur: Secateur) -> None:
    document = json.loads(secateur("devices", "--json").out)
    assert "CPU" in {device["name"] for device in document["devices"]}
    assert {"cpu", "cpu-f32-1thread", "cpu-bf16-1thread"} <= {profile["name"] for profile in document["profiles"]}
    assert "Device profiles" in secateur("devices").out


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        "resnet56-latency-no-retraining",
        "dissertation-1",
        "dissertation-2",
        "dissertation-3",
        "dissertation-multi",
    ],
)
def test_shipped_studies_are_right_wherever_one_stands(secateur: Secateur, name: str) -> None:
    typed = secateur("check", Path(__file__).parents[2] / "schedules" / "studies" / f"{name}.yaml")
    assert typed.code == 0, typed.err
    assert "a study, and right" in typed.out


def test_check_of_a_schedule(secateur: Secateur, tmp_path: Path) -> None:
    write_study(tmp_path)
    assert "a schedule, and right" in secateur("check", "schedule.yaml").out
    typed = secateur("check", "schedule.yaml", "--model", "resnet20_cifar")
    assert typed.code == 2
    assert "is not in resnet20_cifar" in typed.err


@pytest.mark.parametrize("name", ["schedules/studies/quickstart.yaml", "schedules/compression/resnet56-filters.yaml"])
def test_what_is_shipped_needs_no_checkout(secateur: Secateur, name: str) -> None:
    assert "and right" in secateur("check", name).out


def test_dry_run_computes_an_estimate_and_keeps_nothing(secateur: Secateur, tmp_path: Path) -> None:
    typed = secateur("sweep", write_study(tmp_path), "--store", "store", "--dry-run", "--json")
    assert typed.code == 0, typed.err
    document = json.loads(typed.out)
    assert document["num_trials"] == 3
    assert document["total_s"] > document["trial_s"] > 0
    assert document["total_bytes"] == 5 * document["bytes_per_trial"]
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "store" / "studies").exists()


@pytest.fixture
def study_in_store(tmp_path: Path) -> str:
    from secateur.store import StudyFiles, open_store

    results = make_results()
    name = str(results.study["name"])
    files = StudyFiles(open_store(str(tmp_path / "store")), name)
    files.write_study_yaml(yaml.safe_dump(results.study))
    for record in (*results.baselines.values(), *results.trials):
        files.write_record(record.model_copy(update={"study": name}))
    return name


def test_status_and_orders(secateur: Secateur, study_in_store: str) -> None:
    store = ("--store", "store")
    (study,) = json.loads(secateur("status", "--json", *store).out)["studies"]
    assert study["study"] == study_in_store
    assert study["lease"] is None
    assert "not running" in secateur("status", *store).out
    assert secateur("pause", study_in_store, *store).code == 0
    assert json.loads(secateur("status", study_in_store, "--json", *store).out)["studies"][0]["order"] == "pause"
    assert "is free to run" in secateur("resume", study_in_store, *store).out
    assert json.loads(secateur("status", study_in_store, "--json", *store).out)["studies"][0]["order"] == "run"


def test_report(secateur: Secateur, study_in_store: str, tmp_path: Path) -> None:
    document = json.loads(secateur("report", study_in_store, "--store", "store", "--json").out)
    assert (tmp_path / document["html"]).read_text().lower().startswith("<!doctype html>")
    assert (tmp_path / document["markdown"]).read_text().startswith("#")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['secateur', '--help']\n"
        "from secateur.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'prefect', 'ax', 'openvino', 'numpy', 'minio', 'plotly', 'matplotlib', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "sweep" in done.stdout
